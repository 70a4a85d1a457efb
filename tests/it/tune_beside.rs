//! `tuningfork tune` of an application that needs something beside it: what a database on the same host uses is demand of the requests and no
//! disturbance; what an application waits for is not looked for by loading the cores; what a proxy sends, the requests can have too.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::process::Command;

use serde_json::Value;

use crate::support::folder::{Folder, Said};
use crate::support::journal::Journal;
use crate::support::parts;
use crate::support::process::Watched;
use crate::support::recording::recording;
use crate::support::turn::Turn;

/// Some milliseconds of CPU of its own, and as much of Redis.
const APPLICATION: &str = r#"
import os, socket, time

QUERY = b'EVAL "local sum = 0 for i = 1, 400000 do sum = sum + i end return sum" 0\r\n'

def application(environ, start_response):
    end = time.thread_time() + 0.004
    while time.thread_time() < end:
        pass
    with socket.socket(socket.AF_UNIX) as redis:
        redis.connect(os.environ["REDIS"])
        redis.sendall(QUERY)
        row = redis.recv(100)
    assert row.startswith(b":"), row
    start_response("200 OK", [("Content-Length", str(len(row)))])
    return [row]
"#;

/// Waits for one of the eight connections that its worker has to something slow; the cores hardly work.
const POOL: &str = r#"
import threading, time

CONNECTIONS = threading.BoundedSemaphore(8)

def application(environ, start_response):
    with CONNECTIONS:
        time.sleep(0.1)
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"#;

/// As Django with `SECURE_SSL_REDIRECT` and `SECURE_PROXY_SSL_HEADER`.
const BEHIND_A_PROXY: &str = r#"
def application(environ, start_response):
    if environ.get("HTTP_X_FORWARDED_PROTO") != "https":
        start_response("301 Moved Permanently", [("Location", "https://localhost/"), ("Content-Length", "0")])
        return []
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"#;

const CONFIG: &str = r#"
workers = 2
connections = 1
settle = 0
[app]
kind = "python"
app = "web:application"
interpreter = "@PYTHON@"
worker-class = "sync"
directory = "@DIR@"
env = { REDIS = "@DIR@/redis.sock" }
[listen]
address = "unix:@DIR@/web.sock"
"#;

fn folder(application: &str) -> Folder {
    let config = CONFIG.replace("@PYTHON@", &parts::python().display().to_string());
    let folder = Folder::new().file("tuningfork.toml", &config).file("traffic.jsonl", &recording(["/"; 200]));
    folder.file("web.py", application)
}

fn redis(folder: &Folder) -> Watched {
    let mut redis = Command::new(parts::redis());
    redis.args(["--port", "0", "--save", "", "--logfile", "/dev/stderr", "--unixsocket"]).arg(folder.path("redis.sock"));
    redis.arg("--dir").arg(folder.directory());
    let mut redis = Watched::start_in(Turn::Within, redis, Journal::default());
    redis.wait("a Redis that listens", |lines| lines.iter().any(|line| line.contains("eady to accept")).then_some(()));
    redis
}

/// CPU time that Redis used for each query, seconds, by its own account.
fn by_redis(folder: &Folder) -> f64 {
    let mut socket = UnixStream::connect(folder.path("redis.sock")).expect("Redis");
    socket.write_all(b"INFO everything\r\n").expect("a question");
    let mut answer = BufReader::new(socket);
    let mut head = String::new();
    answer.read_line(&mut head).expect("an answer");
    let length: usize = head.trim_start_matches('$').trim_end().parse().expect("its length");
    let mut text = vec![0; length];
    answer.read_exact(&mut text).expect("a whole answer");
    let text = String::from_utf8(text).expect("text");
    let told = |key: &str| {
        let (_, rest) = text.split_once(key).unwrap_or_else(|| panic!("no {key}: {text}"));
        rest.split(['\r', ',']).next().and_then(|number| number.parse::<f64>().ok()).expect("a number")
    };
    (told("used_cpu_user:") + told("used_cpu_sys:")) / told("cmdstat_eval:calls=")
}

/// What a study says that no other guest of the host took CPU from: nobody here can keep them away, and who was disturbed says so.
fn unrobbed(study: impl Fn() -> Said) -> Said {
    const TRIES: usize = 3;
    let is_robbed = |said: &Said| said.out.contains("CPU stolen by the hypervisor");
    std::iter::repeat_with(&study).take(TRIES).find(|said| !is_robbed(said)).unwrap_or_else(&study)
}

#[test]
fn a_database_on_the_same_host_is_demand() {
    let folder = folder(APPLICATION);
    let _alone = Turn::alone();
    let _redis = redis(&folder);
    let tune = "tune --traffic traffic.jsonl --quick --max-workers 4 --budget 60s --json result.json";
    let said = unrobbed(|| folder.start_in(Turn::Within, tune).finish());
    said.assert_code(0);
    said.assert_out(&["Other programs of this host needed ", " of CPU for each request (", "Counted as demand."]);
    assert!(!said.out.contains("never quiet"), "{said}");
    let report: Value = serde_json::from_str(&folder.text("result.json")).expect("the result");
    assert!(report["recommended"]["workers"].is_u64(), "{said}");
    let trials = report["trials"].as_array().expect("trials");
    let each = |trial: &Value| Some(trial["beside_cpu"].as_f64()? / trial["throughput"].as_f64()?);
    let held = |trial: &&Value| trial["valid"] == true && trial["capacity"].as_f64().is_some_and(|capacity| capacity > 0.0);
    let mut each: Vec<f64> = trials.iter().filter(held).filter_map(each).collect();
    assert!(!each.is_empty(), "{said}");
    each.sort_by(f64::total_cmp);
    let (median, redis) = (each[each.len() / 2], by_redis(&folder));
    // Where the machine's other programs got in between, less is counted; the kernel's part for its connections comes on top.
    assert!((0.6..1.5).contains(&(median / redis)), "{each:?}, by its own account {redis}\n{said}");
}

/// A worker with 8 connections holds 80 requests a second; of several each would have a pool, and the kernel does not share out evenly. A light load that is made for the cores queues for them.
#[test]
fn an_application_that_waits_for_a_pool_is_not_flooded() {
    let folder = folder(POOL);
    let config = folder
        .text("tuningfork.toml")
        .replace("workers = 2", "workers = 1")
        .replace("connections = 1", "connections = 200")
        .replace("sync", "gthread");
    let folder = folder.file("tuningfork.toml", &config);
    let _alone = Turn::alone();
    let tune = "tune --traffic traffic.jsonl --quick --budget 0 --json result.json";
    let said = unrobbed(|| folder.start_in(Turn::Within, tune).finish());
    said.assert_code(0);
    let report: Value = serde_json::from_str(&folder.text("result.json")).expect("the result");
    let capacity = report["trials"][0]["capacity"].as_f64().expect("a capacity");
    assert!((50.0..95.0).contains(&capacity), "{capacity}: {said}");
}

#[test]
fn an_application_that_redirects_to_https_is_measured_with_the_proxys_header_and_not_by_its_redirects() {
    let folder = folder(BEHIND_A_PROXY);
    let tune = "tune --traffic traffic.jsonl --quick --budget 0 --json result.json";
    // What another guest took makes a trial say nothing of the rate, and all the same of the answers.
    let trial = || serde_json::from_str::<Value>(&folder.text("result.json")).expect("the result")["trials"][0].clone();
    let said = folder.run_alone(tune);
    said.assert_out(&["baseline, only errors: redirected ", "redirects to https needs --host or --header"]);
    assert_eq!((&trial()["ending"], &trial()["errors"]), (&"only-errors".into(), &1.0.into()), "{said}");
    let said = folder.run_alone(&format!("{tune} --header X-Forwarded-Proto:https"));
    assert!(trial()["errors"] == 0.0 && trial()["throughput"].as_f64().is_some_and(|answered| answered > 100.0), "{said}");
}
