//! The sample trial programs, each with the real load generator, on an application whose capacity is known: 10 requests a second.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::folder::Folder;
use crate::support::parts;
use crate::support::service::free_port;
use crate::support::turn::Turn;

const CONFIG: &str = r#"
workers = 9
[app]
kind = "command"
command = ["@PROGRAM@", "demo-worker", "--connections", "{connections}"]
[listen]
address = "127.0.0.1:1"
"#;

/// A challenge far below the capacity of one worker with one connection, and one far above it.
const CHALLENGES: &str = r#"{"protocol":1,"trial":1,"purpose":"challenge","workers":1,"connections":1,"cores":2,"rate":3,"seconds":3,"slo":"p90<300ms,errors<0.1%"}
{"protocol":1,"trial":2,"purpose":"challenge","workers":1,"connections":1,"cores":2,"rate":60,"seconds":3,"slo":"p90<300ms,errors<0.1%"}
"#;
/// The question what it is.
const MEASURE: &str = r#"{"protocol":1,"trial":3,"purpose":"measure","workers":1,"connections":1,"cores":2,"seconds":10,"slo":"p90<300ms,errors<0.1%"}"#;

/// What a sample answers to each line of `trials`.
fn answers(python: &Path, sample: &str, trials: &str, arguments: &[&str]) -> Vec<Value> {
    let recording = "{\"t\":1700000000.0,\"m\":\"GET\",\"u\":\"/work?wait_ms=100\",\"s\":200}\n";
    let folder = Folder::new().file("tuningfork.toml", CONFIG).file("trials", trials).file("traffic.jsonl", recording);
    let mut command = Command::new(python);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("samples").join(sample)).current_dir(folder.directory());
    command.args(["--config", "tuningfork.toml", "--tuningfork", env!("CARGO_BIN_EXE_tuningfork"), "--first", "4"]);
    command.args(["--url", &format!("http://127.0.0.1:{}", free_port())]).args(arguments);
    let trials = std::fs::File::open(folder.path("trials")).expect("open the trials");
    let _turn = Turn::alone();
    let ran = command.stdin(Stdio::from(trials)).output().expect("run the sample");
    let said = String::from_utf8_lossy(&ran.stderr);
    assert!(ran.status.success(), "{}\n{said}", ran.status);
    let lines = String::from_utf8_lossy(&ran.stdout);
    assert_eq!(std::fs::read_dir(folder.directory()).expect("list").count(), 3, "a copy of the configuration was left");
    lines.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}\n{said}"))).collect()
}

fn assert_challenges(answers: &[Value]) {
    assert_eq!((&answers[0]["holds"], &answers[1]["holds"]), (&true.into(), &false.into()), "{answers:?}");
}

fn assert_measured(told: &Value) {
    assert!(told["capacity"].as_f64().is_some_and(|rate| rate > 2.0 && rate < 40.0), "{told}");
    assert_eq!(told["capacity"], told["throughput"], "{told}");
    assert!(told["p90"].as_f64().is_some_and(|seconds| (0.1..0.3).contains(&seconds)), "{told}");
    assert!(told["seconds"].as_f64().is_some_and(|seconds| seconds > 3.0), "{told}");
}

/// The default time-out of a trial is 30 s and 4 times what it should take. Probing, by a clock that the test advances, must leave room for the boot.
#[test]
fn a_sample_fits_its_time_out_however_slow_its_load_generator_is() {
    let script = r#"
import argparse, sys
sys.path.insert(0, sys.argv[1])
import trial
clock = [0.0]
class At:
    def __init__(self, *_): pass
    def __enter__(self): clock[0] += trial.BOOT
    def __exit__(self, *_): pass
trial.Candidate, trial.time.monotonic = At, lambda: clock[0]
def play(options, rate):
    clock[0] += options.probe + 3
    return {"p90": 0.1 if rate < 700 else 9, "errors": 0, "throughput": 0.97 * rate, "doubtful": doubtful}
for doubtful in (False, True):
    for purpose, seconds in (("measure", 45), ("measure", 10), ("challenge", 8), ("challenge", 3)):
        clock[0] = 0.0
        question = {"purpose": purpose, "seconds": seconds, "workers": 1, "connections": 1, "rate": 900, "slo": "p90<700ms,errors<0.1%"}
        told = trial.answer(question, argparse.Namespace(first=20, probe=None), play)
        assert clock[0] < 30 + 4 * seconds, (question, clock, told)
        assert doubtful or told.get("capacity", 0) >= 0.97 * 320 or told["holds"] is False, told
        assert told.get("capacity") == told.get("throughput"), told
"#;
    run_beside_the_samples(script);
}

/// The pidfile, the sockets and the hooks are the running service's.
#[test]
fn a_candidate_of_a_sample_leaves_the_service_what_is_its() {
    let script = r#"
import sys
sys.path.insert(0, sys.argv[1])
import trial
own = 'pidfile = "own.pid"\nworkers = 3\n[metrics]\nlisten = "own"\n[hooks]\non-exit = [\n  "own",\n]\n[log]\nfile = "own"\n'
kept = '[app]\nkind = "python"\n[app.env]\nworkers = "3"\n[listen]\n'
copy = trial.of_a_candidate(own + kept + 'address = ["unix:own"]  # own\n', {"workers": 5, "connections": 2}, "127.0.0.1:8010")
assert copy == "workers = 5\nconnections = 2\n" + kept + 'address = "127.0.0.1:8010"\n', copy
for nowhere in ("", "[listen]\naddress = [\n]\n"):
    try:
        trial.of_a_candidate(nowhere, {}, "127.0.0.1:8010")
    except ValueError as error:
        assert "address" in str(error), error
    else:
        raise AssertionError(nowhere)
"#;
    run_beside_the_samples(script);
}

/// Its only argument is the samples' folder.
fn run_beside_the_samples(script: &str) {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples");
    let ran = Command::new(parts::system_python()).args(["-c", script]).arg(samples).output().expect("run Python");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
}

#[test]
fn locust_answers_trials() {
    let paths = ["--paths", "/work?wait_ms=100", "--probe", "3"];
    assert_challenges(&answers(parts::load_python(), "locust_trial.py", CHALLENGES, &paths));
}

#[test]
fn k6_answers_trials() {
    let paths = ["--paths", "/work?wait_ms=100", "--probe", "1"];
    let answers = answers(parts::load_python(), "k6_trial.py", &format!("{CHALLENGES}{MEASURE}"), &paths);
    assert_challenges(&answers);
    assert_measured(&answers[2]);
}

#[test]
fn replay_answers_trials() {
    // How long its probes are follows from the questions.
    let recording = ["--recording", "traffic.jsonl"];
    let answers = answers(parts::system_python(), "replay_trial.py", &format!("{CHALLENGES}{MEASURE}"), &recording);
    assert_challenges(&answers);
    assert_measured(&answers[2]);
}
