//! The page as Prometheus' own linter and a reader of this repository see it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use super::*;
use crate::supervisor::event::{Exit, Reason, Transition, WorkerState};
use crate::units::{Connections, Generation, Slot, WorkerId};
use crate::usage::{CoreTime, DroppedLines, ListenLosses, ListenQueue, OwnProcess, ProcessReading};

/// A source that always tells the same.
#[derive(Clone, Debug)]
pub(super) struct Fixed(pub(super) Observation, pub(super) Pulse);

impl Source for Fixed {
    fn observe(&mut self) -> Observation {
        self.0.clone()
    }

    fn pulse(&mut self) -> Pulse {
        self.1
    }
}

pub(super) const WELL: Pulse = Pulse { since_turn: Duration::from_millis(20), ready: 1, stopping: false };

pub(super) fn row(slot: u16, state: WorkerState, megabytes: u64) -> WorkerRow {
    let reading = ProcessReading { cpu: Duration::from_millis(1500), rss: megabytes << 20, pss: Some(megabytes << 19) };
    let process = WorkerProcess {
        worker: WorkerId(megabytes),
        pid: 4000 + u32::from(slot),
        generation: Generation::FIRST,
        reading: Some(reading),
    };
    WorkerRow { slot: Slot(slot), state, process: (state != WorkerState::Waiting).then_some(process) }
}

/// Two slots with a worker, of which one is being replaced, and one that waits.
pub(super) fn observation() -> Observation {
    let core =
        |cpu| CoreTime { cpu, user: Duration::from_millis(1_234_560), idle: Duration::from_hours(24), ..CoreTime::default() };
    let states = [WorkerState::Ready, WorkerState::Stopping, WorkerState::Starting, WorkerState::Waiting];
    let rows = states.into_iter().zip([(0, 64), (1, 65), (1, 8), (2, 0)]);
    let queue = ListenQueue { length: 3, limit: 128 };
    Observation {
        workers: rows.map(|(state, (slot, megabytes))| row(slot, state, megabytes)).collect(),
        target: 3,
        connections: Connections::new(10).unwrap(),
        listeners: [("127.0.0.1:8000", Some(queue)), ("unix:/run/a \"b\"\\\n", Some(queue)), ("fd:9", None)]
            .map(|(name, queue)| ListenerRow { name: name.to_owned(), queue })
            .into(),
        losses: Some(ListenLosses { overflows: 5, drops: 7 }),
        cores: vec![core(0), core(1), core(1)],
        dropped: DroppedLines::default(),
        own: Some(OwnProcess {
            cpu: Duration::from_millis(250),
            rss: 9 << 20,
            vsize: 90 << 20,
            open_fds: 12,
            max_fds: 1024,
            threads: 2,
            started: Duration::from_secs(1_700_000_000),
        }),
    }
}

pub(super) fn exposition(source: Fixed) -> Exposition<Fixed> {
    let counters = Counters::new(SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_001)).unwrap();
    let crash = Transition::WorkerExited {
        worker: WorkerId(1),
        slot: Slot(0),
        exit: Some(Exit::Signal(11)),
        reason: Reason::Crash,
        detail: None,
    };
    counters.record(&crash, SystemTime::UNIX_EPOCH);
    Exposition::new(Arc::new(counters), source)
}

/// `TUNINGFORK_PROMTOOL`, then what the suite installs for itself, then PATH.
fn promtool() -> PathBuf {
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parts/bin/promtool");
    let given = std::env::var_os("TUNINGFORK_PROMTOOL").map(PathBuf::from);
    given.or_else(|| installed.exists().then_some(installed)).unwrap_or_else(|| "promtool".into())
}

pub(super) fn assert_lint_clean(page: &str) {
    let mut child = Command::new(promtool())
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is missing: `apt-get install prometheus`, or set TUNINGFORK_PROMTOOL to its path");
    child.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success() && said.is_empty(), "{}\n{page}", String::from_utf8_lossy(&said));
}

#[test]
fn the_page_is_as_documented_and_passes_promtool() {
    let page = exposition(Fixed(observation(), WELL)).render().unwrap();
    assert_lint_clean(&page);
    let page = page.replace(concat!("version=\"", env!("CARGO_PKG_VERSION")), "version=\"VERSION");
    insta::assert_snapshot!(page);
}

#[test]
fn a_host_that_tells_nothing_still_has_a_page() {
    let silent =
        Observation { workers: Vec::new(), listeners: Vec::new(), losses: None, cores: Vec::new(), own: None, ..observation() };
    let page = exposition(Fixed(silent, WELL)).render().unwrap();
    assert_lint_clean(&page);
    for state in WorkerState::ALL {
        assert!(page.contains(&format!("tuningfork_workers{{state=\"{}\"}} 0\n", state.name())), "{page}");
    }
}

#[test]
fn a_worker_that_left_leaves_no_series() {
    let mut exposition = exposition(Fixed(observation(), WELL));
    assert!(exposition.render().unwrap().contains("pid=\"4001\""));
    exposition.source.0.workers.truncate(1);
    let page = exposition.render().unwrap();
    assert!(!page.contains("pid=\"4001\"") && !page.contains("worker=\"1\""), "{page}");
}
