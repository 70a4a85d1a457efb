//! The log of a service: what workers write, in good days and when the log hangs, is full or gone.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::stat::Mode;
use rustix::process::Signal;
use serde_json::Value;

use crate::support::control::{command, ctl, done, said, status};
use crate::support::http::Client;
use crate::support::parts;
use crate::support::process::{End, send};
use crate::support::service::{Running, Service};
use crate::support::size;

/// Long enough for a busy machine, short enough to tell a worker that is blocked.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// Workers that are a shell's: `script` in single quotes of TOML, alive at once.
fn of_shells(workers: u16, script: &str) -> Service {
    Service::with_config(&format!(
        r#"
workers = {workers}
graceful-timeout = 2
settle = 0
[app]
kind = "command"
readiness = "100ms"
command = ["sh", "-c", '''{script}''']
[listen]
address = "@LISTEN@"
"#
    ))
}

fn await_file(running: &mut Running, path: &Path, what: &str, holds: impl Fn(&str) -> bool) -> String {
    running.wait(what, |_| fs::read_to_string(path).ok().filter(|text| holds(text)))
}

fn fifo(path: &Path) {
    nix::unistd::mkfifo(path, Mode::from_bits_truncate(0o600)).expect("make a FIFO");
}

/// The reading end; opening it waits for nobody.
fn reader(path: &Path) -> File {
    File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path).expect("open the FIFO")
}

#[test]
fn f39_nobody_waits_for_standard_error_that_nobody_reads() {
    let service = Service::of_demo_workers(2, 10);
    let path = service.directory().join("stalled");
    fifo(&path);
    let held = reader(&path);
    let redirect = format!("exec \"$@\" 2>{}", path.display());
    let mut running = service.start_through(Path::new("sh"), &["-c", &redirect, "sh"]);
    running.await_notice("READY=1");
    let mut client = Client::connect(running.address(), ANSWER_WITHIN).expect("connect");
    for _ in 0..100 {
        assert_eq!(client.get("/spew/300000").expect("an answer").status, 200);
    }
    for reload in 2..6 {
        let ended: Value = serde_json::from_str(&done(&running, "reload --wait --json")).expect("JSON");
        assert_eq!((&ended["generation"], &ended["failure"]), (&reload.into(), &Value::Null));
    }
    assert_eq!(running.get("/ok").status, 200);
    assert_eq!(running.stop(), End::Code(0));
    drop(held);
}

#[test]
fn f39_a_flood_is_drained_dropped_and_counted() {
    let script = "yes 'a line of no interest' | head -c 3000000 >&2; touch @DIR@/flooded; exec sleep 1000";
    let service =
        of_shells(1, script).extend("[log]\nfile = \"@DIR@/stalled\"\n[metrics]\nlisten = \"unix:@DIR@/metrics.sock\"\n");
    let path = service.directory().join("stalled");
    fifo(&path);
    let held = reader(&path);
    let mut running = service.start();
    running.await_notice("READY=1");
    let flooded = running.directory().join("flooded");
    await_file(&mut running, &flooded, "the end of the flood", |_| true);
    let dropped = || status(&running)["log"]["dropped_lines"].as_u64().expect("a number");
    // What is left in the pipe is drained in a moment.
    assert!((0..1_000).any(|_| dropped() > 100_000), "{}", dropped());
    let shown = done(&running, "status");
    assert!(shown.contains("lines dropped"), "{shown}");
    let metrics = crate::support::http::Address::Unix(running.directory().join("metrics.sock"));
    let page = crate::support::http::get(&metrics, "/metrics").expect("metrics").text();
    let counted = page.lines().find_map(|line| line.strip_prefix("tuningfork_log_dropped_lines_total{source=\"worker\"} "));
    assert!(counted.expect("the metric").parse::<f64>().expect("a number") > 100_000.0, "{page}");
    assert_eq!(running.stop(), End::Code(0));
    drop(held);
}

#[test]
fn f40_a_log_whose_reader_went_away_is_back_when_there_is_another() {
    let service = Service::of_demo_workers(2, 10);
    let path = service.directory().join("pipe");
    fifo(&path);
    let first = reader(&path);
    let redirect = format!("exec \"$@\" 2>{}", path.display());
    let mut running = service.start_through(Path::new("sh"), &["-c", &redirect, "sh"]);
    running.await_notice("READY=1");
    drop(first);
    let before = running.children();
    send(before[0], Signal::KILL);
    running.await_children("a replacement", |now| now.len() == 2 && *now != *before);
    done(&running, "scale 3 --wait");
    let mut second = reader(&path);
    done(&running, "scale 2 --wait");
    let mut text = String::new();
    running.wait("the log", |_| {
        // Nothing there yet is an error of a pipe that is not waited for.
        let _ = second.read_to_string(&mut text);
        text.contains("number of workers changed").then_some(())
    });
    assert!(status(&running)["log"]["dropped_lines"].as_u64().expect("a number") > 0);
    assert_eq!(running.stop(), End::Code(0));
}

#[test]
fn f37_a_full_disk_costs_lines_and_nothing_else() {
    let mut running = Service::of_demo_workers(2, 10).extend("[log]\nfile = \"/dev/full\"\n").start();
    running.await_notice("READY=1");
    send(running.children()[0], Signal::KILL);
    done(&running, "reload --wait");
    assert_eq!(running.get("/ok").status, 200);
    let log = status(&running)["log"].clone();
    assert!(log["dropped_lines"].as_u64().expect("a number") > 0, "{log}");
    assert!(log["write_failure"].as_str().expect("why").contains("No space left"), "{log}");
    assert_eq!(running.stop(), End::Code(0));
}

#[test]
fn f38_a_log_whose_folder_was_removed_is_healed_by_reopening() {
    let service = Service::of_demo_workers(2, 10).extend("[log]\nfile = \"@DIR@/logs/a.log\"\n");
    let folder = service.directory().join("logs");
    fs::create_dir(&folder).expect("make the folder");
    let file = folder.join("a.log");
    let mut running = service.start();
    running.await_notice("READY=1");
    await_file(&mut running, &file, "the start", |text| text.contains("service ready"));
    fs::remove_dir_all(&folder).expect("remove the folder");
    done(&running, "reload --wait");
    let refused = ctl(&running, "reopen-logs");
    assert_eq!(refused.status.code(), Some(1));
    assert!(said(&refused).contains("the old log file is kept"), "{}", said(&refused));
    assert!(status(&running)["log"]["dropped_lines"].as_u64().expect("a number") > 0);
    fs::create_dir(&folder).expect("make the folder");
    done(&running, "reopen-logs --wait");
    done(&running, "reload --wait");
    await_file(&mut running, &file, "the reload", |text| text.contains("reload finished"));

    // As logrotate does it.
    fs::rename(&file, folder.join("a.log.1")).expect("move the file");
    running.signal(Signal::USR1);
    await_file(&mut running, &file, "a new file", |text| text.contains("log files are opened anew") || text.is_empty());
    done(&running, "reload --wait");
    await_file(&mut running, &file, "the reload", |text| text.contains("reload finished"));
    assert_eq!(running.stop(), End::Code(0));
}

#[test]
fn a_log_file_that_cannot_be_made_ends_the_start() {
    let mut running = Service::of_demo_workers(1, 5).extend("[log]\nfile = \"@DIR@/nowhere/a.log\"\n").start();
    assert_eq!(running.await_end(), End::Code(73));
    assert!(running.said().contains("nowhere/a.log: No such file"), "{}", running.said());
}

/// What a worker writes that wants to pass for somebody else, 7 lines.
fn nasty() -> Vec<u8> {
    let mut nasty: Vec<u8> =
        b"2026-01-01T00:00:00.000000Z  INFO service ready\r\n\x1b[2J\x1b[1;1H worker=9 id=9 stdout: forged\n".to_vec();
    nasty.extend(
        b"nul \0 del \x7f csi \x9b31m \xc2\x9b31m bad \xff\xfe utf-8, half \xc3\nworker=8 id=8 stderr: forged\n<3>forged\n",
    );
    nasty.extend(vec![b'm'; 1 << 20]);
    nasty.extend(b"\nlast line");
    nasty
}

/// The log file of two workers that write it to both their outputs.
fn log_of_nasty_workers(settings: &str) -> String {
    let script = "cat @DIR@/nasty; cat @DIR@/nasty >&2; : >@DIR@/written.$$; exec sleep 1000";
    let service = of_shells(2, script).extend(&format!("[log]\nfile = \"@DIR@/a.log\"\n{settings}"));
    fs::write(service.directory().join("nasty"), nasty()).expect("write a file");
    let (directory, file) = (service.directory().to_owned(), service.directory().join("a.log"));
    let mut running = service.start();
    running.await_notice("READY=1");
    running.wait("both have written all", |_| {
        let written = fs::read_dir(&directory).expect("list the directory").flatten();
        let count = written.filter(|entry| entry.file_name().to_string_lossy().starts_with("written.")).count();
        (count == 2).then_some(())
    });
    assert_eq!(running.stop(), End::Code(0));
    let text = String::from_utf8(fs::read(&file).expect("read the log")).expect("only text");
    assert!(!text.chars().any(|letter| letter.is_control() && letter != '\n'), "{text}");
    text
}

#[test]
fn f41_no_worker_can_forge_a_record_in_json() {
    let text = log_of_nasty_workers("format = \"json\"\n");
    let mut lines = 0;
    for line in text.lines() {
        let object: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        if object["stream"].is_string() {
            assert!([(0, 1), (1, 2)].iter().any(|(slot, id)| object["worker"] == *slot && object["id"] == *id), "{line}");
            lines += 1;
        } else {
            assert!(!line.contains("forged"), "{line}");
        }
    }
    assert_eq!(lines, 4 * 7, "{text}");
}

#[test]
fn f41_no_worker_can_forge_a_record() {
    let text = log_of_nasty_workers("");
    let mut counts = BTreeMap::<(String, &str), usize>::new();
    for line in text.lines().filter(|line| line.contains(" stdout: ") || line.contains(" stderr: ")) {
        let (_time, rest) = line.split_once(' ').expect("a time");
        let (tag, said) = rest.split_once(": ").expect("a tag");
        let (name, stream) = tag.rsplit_once(' ').expect("a stream");
        assert!(["worker=0 id=1", "worker=1 id=2"].contains(&name), "{line}");
        *counts.entry((name.to_owned(), if stream == "stdout" { "out" } else { "err" })).or_default() += 1;
        assert!(said.len() <= (16 << 10) + 40, "{} bytes", said.len());
    }
    assert_eq!(counts.len(), 4, "{counts:?}");
    assert!(counts.values().all(|count| *count == 7), "{counts:?}");
    assert_eq!(text.matches("[cut: longer than 16 KiB]").count(), 4);
    assert_eq!(text.matches("service ready").count(), 4 + 1, "four quoted ones and ours");
}

#[expect(clippy::print_stdout, reason = "shown where tests are run with --nocapture")]
#[test]
fn f42_every_line_keeps_the_name_of_who_wrote_it() {
    let script = "while :; do i=0; while [ $i -lt 200 ]; do echo \"mine $$ $i\"; i=$((i+1)); done; sleep 0.02; done";
    let service = of_shells(3, script).extend("[log]\nfile = \"@DIR@/a.log\"\n");
    let file = service.directory().join("a.log");
    let mut running = service.start();
    running.await_notice("READY=1");
    for _ in 0..size(10, 170) {
        let before = running.children();
        for pid in &before {
            send(*pid, Signal::KILL);
        }
        running.await_children("replacements", |now| now.len() == 3 && now.iter().all(|pid| !before.contains(pid)));
        // Replaces them too, and forgets that they crashed.
        done(&running, "reload --wait");
    }
    assert_eq!(running.stop(), End::Code(0));
    let (mut writers, mut names) = (BTreeMap::<String, BTreeSet<String>>::new(), BTreeMap::<String, BTreeSet<String>>::new());
    let mut lines = 0;
    for line in BufReader::new(File::open(file).expect("open the log")).lines().map(|line| line.expect("text")) {
        let Some((tag, said)) = line.split_once(" stdout: mine ") else { continue };
        let name = tag.split_once(' ').expect("a time").1.to_owned();
        let pid = said.split(' ').next().expect("a pid").to_owned();
        writers.entry(name.clone()).or_default().insert(pid.clone());
        names.entry(pid).or_default().insert(name);
        lines += 1;
    }
    println!("F42: {lines} lines of {} workers", writers.len());
    assert!(lines > size(5_000, 1_000_000) && writers.len() >= size(60, 1_000), "{lines} lines of {} workers", writers.len());
    assert!(writers.values().chain(names.values()).all(|others| others.len() == 1), "{writers:?}");
}

#[test]
fn ctl_logs_follows_everybody_or_one_worker() {
    let script = "while [ ! -e @DIR@/speak ]; do sleep 0.01; done; echo now it speaks; exec sleep 1000";
    let mut running = of_shells(2, script).ready();
    let remembered = done(&running, "logs");
    assert!(remembered.lines().any(|line| line.ends_with("service ready")), "{remembered}");
    let follow = |arguments: &str| {
        let mut child = command(&running, arguments).stdout(Stdio::piped()).spawn().expect("run ctl");
        (BufReader::new(child.stdout.take().expect("a pipe")).lines(), child)
    };
    let (mut everybody, mut first) = follow("logs -f");
    let (mut one, mut second) = follow("logs --follow --worker 1 --json");
    fs::write(running.directory().join("speak"), "").expect("write a file");
    let mut found = BTreeSet::new();
    while found.len() < 2 {
        let line = everybody.next().expect("a line").expect("text");
        if let Some((tag, "now it speaks")) = line.split_once(" stdout: ") {
            found.insert(tag.split_once(' ').expect("a time").1.to_owned());
        }
    }
    assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), ["worker=0 id=1", "worker=1 id=2"]);
    let excerpt: Value = serde_json::from_str(&one.next().expect("a line").expect("text")).expect("JSON");
    let line = excerpt["lines"][0].as_str().expect("a line");
    assert!(line.ends_with("worker=1 id=2 stdout: now it speaks"), "{line}");
    running.signal(Signal::TERM);
    for child in [&mut first, &mut second] {
        assert_eq!(child.wait().expect("wait").code(), Some(0), "the end of the service ends it");
    }
    assert_eq!(running.await_end(), End::Code(0));
}

#[test]
fn json_is_an_object_a_line_whoever_speaks() {
    let script = "printf 'a \"quote\"\\033[1m\\n'; echo broken >&2; exec sleep 1000";
    let service = of_shells(1, script).extend("[log]\nformat = \"json\"\nfile = \"@DIR@/a.log\"\n");
    let file = service.directory().join("a.log");
    let mut running = service.start();
    running.await_notice("READY=1");
    assert_eq!(running.stop(), End::Code(0));
    let text = fs::read_to_string(file).expect("read the log");
    let objects: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let said = |message: &str| objects.iter().find(|object| object["message"] == message).unwrap_or_else(|| panic!("{text}"));
    assert_eq!((&said("service ready")["level"], &said("broken")["stream"]), (&"INFO".into(), &"stderr".into()));
    let quote = said("a \"quote\"\u{1b}[1m");
    assert_eq!((&quote["worker"], &quote["id"], &quote["stream"]), (&0.into(), &1.into(), &"stdout".into()));
}

#[test]
fn what_is_not_captured_is_inherited() {
    let mut running = of_shells(1, "echo as it is; exec sleep 1000 2>&1")
        .extend("[log]\ncapture = false\n")
        .ready_through(Path::new("sh"), &["-c", "exec \"$@\" 1>&2", "sh"]);
    running.wait("the line", |lines| lines.iter().any(|line| line == "as it is").then_some(()));
    assert_eq!(running.stop(), End::Code(0));
}

#[test]
fn f10_f11_the_last_words_of_a_worker_that_does_not_start_are_told() {
    let script = "if ! test -e @DIR@/fine; then echo 'cannot reach the database' >&2; exit 1; fi; exec sleep 1000";
    let mut failed = of_shells(2, script).start();
    assert_eq!(failed.await_end(), End::Code(3));
    let said_last = failed.said();
    let error = said_last.split_once("tuningfork: no worker became ready").expect("the error").1;
    assert!(error.contains("cannot reach the database"), "{said_last}");

    let service = of_shells(2, script).extend("[log]\nfile = \"@DIR@/a.log\"\n");
    let file = service.directory().join("a.log");
    let mut failed = service.start();
    assert_eq!(failed.await_end(), End::Code(3));
    let logged = fs::read_to_string(file).expect("read the log");
    let error = logged.split_once("no worker became ready").expect("the error in the log too").1;
    assert!(error.contains("cannot reach the database") && failed.said().contains("no worker became ready"), "{logged}");

    let mut running = of_shells(2, script).file("fine", "").ready();
    fs::remove_file(running.directory().join("fine")).expect("remove a file");
    let refused = ctl(&running, "reload --wait");
    assert_eq!(refused.status.code(), Some(1));
    assert!(said(&refused).contains("cannot reach the database"), "{}", said(&refused));
    assert_eq!(running.stop(), End::Code(0));
}

/// An application that logs to a file of its own, as Gunicorn's access log does.
const APP: &str = r#"
import logging, sys
log = logging.getLogger("visits")
log.setLevel(logging.INFO)
log.addHandler(logging.FileHandler("visits.log"))
print("imported")

def application(environ, start_response):
    log.info(environ["PATH_INFO"])
    print("served", environ["PATH_INFO"])
    print("and complained", file=sys.stderr, flush=True)
    start_response("200 OK", [("Content-Length", "2")])
    return [b"ok"]
"#;

#[test]
fn python_workers_are_captured_one_by_one_and_reopen_their_files() {
    let config = format!(
        r#"
workers = 2
[app]
kind = "python"
app = "visits:application"
interpreter = "{}"
directory = "@DIR@"
[listen]
address = "@LISTEN@"
"#,
        parts::python().display()
    );
    let mut running = Service::with_config(&config).file("visits.py", APP).ready();
    running.await_log("zygote generation=1 stdout: imported");
    assert_eq!(running.get("/one").status, 200);
    running.wait("both outputs", |lines| {
        let tagged = |line: &&String, what: &str| line.contains(" worker=") && line.ends_with(what);
        let out = lines.iter().any(|line| tagged(&line, " stdout: served /one"));
        (out && lines.iter().any(|line| tagged(&line, " stderr: and complained"))).then_some(())
    });
    let visits = running.directory().join("visits.log");
    await_file(&mut running, &visits, "the visit", |text| text.contains("/one"));
    fs::rename(&visits, running.directory().join("visits.log.1")).expect("move the file");
    done(&running, "reopen-logs --wait");
    // Each worker opens it when it gets round to it; one that is forked later writes there too.
    running.wait("a new file", |_| visits.exists().then_some(()));
    done(&running, "scale 3 --wait");
    for visit in 0.. {
        assert_eq!(running.get(&format!("/two/{visit}")).status, 200);
        if fs::read_to_string(&visits).is_ok_and(|text| text.contains("/two/")) {
            break;
        }
    }
    assert_eq!(running.stop(), End::Code(0));
}
