//! Clocks that jump. Nobody is killed for it, and nothing is loaded anew.
//!
//! No namespace has a real-time clock of its own, and the machine's is everybody's. So a library is preloaded that shows a
//! program another time; the kernel's timers stay what they are, so what is not shown is a timer that was set for a moment of the
//! real-time clock.

use std::process::Command;
use std::time::Duration;

use super::probe::{library, pause, verdict};
use super::subject::{Kind, Subject};
use crate::support::PATIENCE;

/// Seconds: a day ahead, a day back, and as it was.
const JUMPS: [&str; 3] = ["86400", "-86400", "0"];

fn real_time_jumps(fault: &str, kind: Kind) {
    let folder = tempfile::tempdir().expect("make a directory");
    let subject = Subject::of(kind).timeout(2).file("clock", "0");
    let mut env = Command::new("env");
    env.arg(format!("LD_PRELOAD={}", library("clock/jump.c", folder.path()).display()));
    env.arg(format!("CLOCK_FILE={}", subject.directory().join("clock").display()));
    let mut live = subject.ready_through(env);
    let workers = live.serving();
    for jump in JUMPS {
        live.put("clock", jump);
        // Longer than `timeout`: a wrong judgement would have been made by then.
        pause(Duration::from_secs(3));
        assert_eq!(live.get("/ok").status, 200);
    }
    let same = live.serving() == workers;
    let loaded_anew = live.said().contains("reload");
    live.put("clock", JUMPS[0]);
    assert_eq!(live.reload(PATIENCE), Ok(()));
    // Gunicorn's own time is not asked for: it writes none into the lines we read.
    if kind != Kind::Gunicorn {
        let lines = live.journal.lines();
        let day =
            |part: &str| lines.iter().find(|line| line.contains(part)).map(|line| line.split('T').next().map(str::to_owned));
        assert_ne!(day("service ready"), day("reload finished"), "the clock did not jump\n{}", live.said());
    }
    let found = format!(
        "a day ahead, two days back, a day ahead: workers {}, {}",
        if same { "the same" } else { "killed" },
        if loaded_anew { "a reload" } else { "no reload" }
    );
    verdict(fault, same && !loaded_anew, &found);
    live.audit();
}

#[test]
fn f35_real_time_jumps() {
    real_time_jumps("F35", Kind::under_test());
}

#[test]
fn f35z_real_time_jumps() {
    real_time_jumps("F35z", Kind::Python);
}

#[test]
fn f35_clock_of_its_own() {
    // Monotonic time begins elsewhere, as after another boot.
    let mut unshare = Command::new("unshare");
    if !rustix::process::getuid().is_root() {
        unshare.args(["--user", "--map-root-user"]);
    }
    unshare.args(["--time", "--monotonic", "100000", "--boottime", "100000"]);
    let mut live = Subject::of(Kind::Command).timeout(2).ready_through(unshare);
    let workers = live.serving();
    pause(Duration::from_secs(3));
    let same = live.serving() == workers;
    assert_eq!(live.reload(PATIENCE), Ok(()));
    verdict("F35", same, "with a monotonic clock 100,000 s ahead nobody was killed within a timeout and a half");
    live.audit();
}
