//! `tuningfork tune` of an application whose database runs on the same host: what that needs is demand of the requests, and no disturbance.

use std::process::Command;

use serde_json::Value;

use crate::support::folder::Folder;
use crate::support::journal::Journal;
use crate::support::parts;
use crate::support::process::Watched;
use crate::support::recording::recording;
use crate::support::turn::Turn;

/// Takes a line, needs 4 ms of CPU and answers.
const DATABASE: &str = r#"
import socketserver, sys, time

class Query(socketserver.StreamRequestHandler):
    def handle(self):
        if self.rfile.readline():
            end = time.thread_time() + 0.004
            while time.thread_time() < end:
                pass
            self.wfile.write(b"row\n")

class Server(socketserver.UnixStreamServer):
    request_queue_size = 64

server = Server(sys.argv[1], Query)
print("listening", file=sys.stderr, flush=True)
server.serve_forever()
"#;

/// As much CPU of its own, and a query.
const APPLICATION: &str = r#"
import os, socket, time

def application(environ, start_response):
    end = time.thread_time() + 0.004
    while time.thread_time() < end:
        pass
    with socket.socket(socket.AF_UNIX) as database:
        database.connect(os.environ["DATABASE"])
        database.sendall(b"query\n")
        row = database.recv(100)
    start_response("200 OK", [("Content-Length", str(len(row)))])
    return [row]
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
env = { DATABASE = "@DIR@/database.sock" }
[listen]
address = "unix:@DIR@/web.sock"
"#;

fn folder() -> Folder {
    let config = CONFIG.replace("@PYTHON@", &parts::python().display().to_string());
    let folder = Folder::new().file("tuningfork.toml", &config).file("traffic.jsonl", &recording(["/"; 200]));
    folder.file("web.py", APPLICATION).file("database.py", DATABASE)
}

fn database(folder: &Folder) -> Watched {
    let mut python = Command::new(parts::python());
    python.arg(folder.path("database.py")).arg(folder.path("database.sock"));
    let mut database = Watched::start_in(Turn::Within, python, Journal::default());
    database.wait("a database that listens", |lines| lines.iter().any(|line| line == "listening").then_some(()));
    database
}

#[test]
fn a_database_on_the_same_host_is_demand() {
    let folder = folder();
    let _alone = Turn::alone();
    let _database = database(&folder);
    let tune = "tune --traffic traffic.jsonl --quick --max-workers 4 --budget 60s --json result.json";
    let said = folder.start_in(Turn::Within, tune).finish();
    said.assert_code(0);
    said.assert_out(&["Other programs of this host needed ", " of CPU for each request (", "Counted as demand."]);
    assert!(!said.out.contains("never quiet"), "{said}");
    let report: Value = serde_json::from_str(&folder.text("result.json")).expect("the result");
    assert!(report["recommended"]["workers"].is_u64(), "{said}");
    let trials = report["trials"].as_array().expect("trials");
    let each = |trial: &Value| Some(trial["beside_cpu"].as_f64()? / trial["throughput"].as_f64()?);
    let held = |trial: &&Value| trial["valid"] == true && trial["capacity"].as_f64().is_some_and(|capacity| capacity > 0.0);
    let mut each: Vec<f64> = trials.iter().filter(held).filter_map(each).collect();
    each.sort_by(f64::total_cmp);
    let median = each.get(each.len() / 2);
    // With what Python and the kernel need for a connection. Where the machine's other programs got in between, less is counted.
    assert!(median.is_some_and(|seconds| (0.003..0.008).contains(seconds)), "{each:?}\n{said}");
}
