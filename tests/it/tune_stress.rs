//! `tuningfork tune` while stress-ng keeps every core busy: what it disturbs is flagged, and what is said stands when it is gone, or nothing is said.

use std::process::Command;

use serde_json::Value;

use crate::support::folder::{Folder, Said};
use crate::support::journal::Journal;
use crate::support::parts;
use crate::support::process::{End, Watched};

/// A single connection is the baseline, and eight are the most that may be.
const CONFIG: &str = r#"
workers = 1
connections = 1
[app]
kind = "command"
command = ["@PROGRAM@", "demo-worker", "--connections", "{connections}"]
[listen]
address = "unix:@DIR@/web.sock"
"#;

/// Waits are what binds, so that the truth is known: so many connections wait for so many at a time. They queue a little better too: by M/D/c, a latency
/// of 35 waits is met by 9 of 10 requests at 0.97 of what one can do, and at 0.996 of what eight can.
const TARGET: &str = "/work?wait_ms=20";
const TRUTH: (f64, f64) = (0.95, 1.12);

fn folder(target: &str) -> Folder {
    let line = |number: u32| {
        let seconds = 1_700_000_000.0 + f64::from(number) / 100.0;
        format!("{{\"t\":{seconds:.2},\"m\":\"GET\",\"u\":\"{target}\",\"s\":200}}\n")
    };
    let recording: String = (0..200).map(line).collect();
    Folder::new().file("tuningfork.toml", CONFIG).file("traffic.jsonl", &recording)
}

/// Every core busy for so many seconds.
fn stress(seconds: u32) -> Watched {
    let mut stress = Command::new(parts::stress_ng());
    // 0 stands for as many as there are cores.
    stress.args(["--quiet", "--cpu", "0", "--timeout", &format!("{seconds}s")]);
    Watched::start(stress, Journal::default())
}

fn result(folder: &Folder) -> Value {
    serde_json::from_str(&folder.text("result.json")).expect("the result")
}

fn assert_flagged(report: &Value, said: &Said) {
    let disturbed = |trial: &&Value| {
        trial["valid"] == false && trial["flags"].as_array().is_some_and(|flags| flags.contains(&"other-programs".into()))
    };
    assert!(report["trials"].as_array().expect("trials").iter().any(|trial| disturbed(&trial)), "{said}");
    said.assert_out(&["other programs used the cores"]);
}

#[test]
fn a_job_that_ends_spoils_trials_and_not_the_answer() {
    let folder = folder(TARGET);
    let mut job = stress(25);
    let arguments = "--quick --max-workers 1 --max-connections 8 --budget 240s --json result.json";
    let said = folder.run(&format!("tune --traffic traffic.jsonl {arguments}"));
    assert_eq!(job.await_end(), End::Code(0));
    let report = result(&folder);
    assert_flagged(&report, &said);
    let ratio = |end: &str| report["ratio"][end].as_f64();
    match ratio("low").zip(ratio("high")) {
        Some((low, high)) => {
            let connections = report["best"]["connections"].as_f64().expect("a number");
            assert!(low <= TRUTH.1 * connections && high >= TRUTH.0 * connections, "{low} to {high} by {connections}\n{said}");
            assert_eq!(report["recommended"]["connections"], report["best"]["connections"], "{said}");
        }
        // Other tests may keep the cores busy after it.
        None => said.assert_out(&["The host was never quiet"]),
    }
}

#[test]
fn a_job_that_stays_leaves_nothing_to_compare() {
    let folder = folder("/work?cpu_us=2000");
    let _job = stress(300);
    let said = folder.run("tune --traffic traffic.jsonl --quick --max-connections 10 --budget 15s --json result.json");
    let report = result(&folder);
    assert_flagged(&report, &said);
    assert_eq!(report["ratio"], Value::Null, "{said}");
    assert_eq!(report["certificate"]["given"], false, "{said}");
    said.assert_out(&["The host was never quiet"]);
    // Without advice there is no success.
    assert_eq!(report["recommended"] == Value::Null, said.end != End::Code(0), "{said}");
}
