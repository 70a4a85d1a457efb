//! `tuningfork tune` while stress-ng keeps every core busy: what it disturbs is flagged, and what is said stands when it is gone,
//! or nothing is said. (That a host which is never quiet gets no advice is shown by simulation.)

use std::process::Command;

use serde_json::Value;

use crate::support::folder::{Folder, Said};
use crate::support::journal::Journal;
use crate::support::parts;
use crate::support::process::Watched;
use crate::support::recording::recording;
use crate::support::turn::Turn;

/// A single connection is the baseline, and two are the most that may be.
const CONFIG: &str = r#"
workers = 1
connections = 1
[app]
kind = "command"
command = ["@PROGRAM@", "demo-worker", "--connections", "{connections}"]
[listen]
address = "unix:@DIR@/web.sock"
"#;

/// Waits are what binds, so that the truth is known: so many connections wait for so many at a time. They queue a little better
/// too: by M/D/c, a latency of 35 waits is met by 9 of 10 requests at 0.97 of what one can do, and a little closer to what two
/// can.
const TARGET: &str = "/work?wait_ms=20";
const TRUTH: (f64, f64) = (0.95, 1.12);

const TUNE: &str = "tune --traffic traffic.jsonl --quick --json result.json --journal journal.jsonl";

fn folder(target: &str) -> Folder {
    Folder::new().file("tuningfork.toml", CONFIG).file("traffic.jsonl", &recording([target; 200]))
}

/// Every core busy as long as this lives. It would spoil what other tests wait for, so it is for who is alone.
fn stress() -> Watched {
    let mut stress = Command::new(parts::stress_ng());
    // 0 stands for as many as there are cores.
    stress.args(["--quiet", "--cpu", "0", "--timeout", "300s"]);
    Watched::start_in(Turn::Within, stress, Journal::default())
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
    let _alone = Turn::alone();
    let job = stress();
    let mut study = folder.start_in(Turn::Within, &format!("{TUNE} --max-workers 1 --max-connections 2 --budget 240s"));
    study.wait("a spoilt trial", |_| folder.text("journal.jsonl").contains("\"other-programs\"").then_some(()));
    drop(job);
    let said = study.finish();
    let report = result(&folder);
    assert_flagged(&report, &said);
    let ratio = |end: &str| report["ratio"][end].as_f64();
    match ratio("low").zip(ratio("high")) {
        Some((low, high)) => {
            let connections = report["best"]["connections"].as_f64().expect("a number");
            assert!(low <= TRUTH.1 * connections && high >= TRUTH.0 * connections, "{low} to {high} by {connections}\n{said}");
            assert_eq!(report["recommended"]["connections"], report["best"]["connections"], "{said}");
        }
        // The machine's other programs may keep the cores busy after it.
        None => said.assert_out(&["The host was never quiet"]),
    }
}
