//! Threads of the supervisor that end, and threads that are not made.

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use super::live::Live;
use super::probe::{self, threads, verdict};
use super::subject::{Kind, Subject};
use crate::support::PATIENCE;
use crate::support::http;
use crate::support::parts;
use crate::support::process::{lives, send};

/// What the tool ends with where it cannot do anything.
const LEFT_OUT: i32 = 77;

/// Ends a thread; whether that could be tried.
fn end_thread(pid: u32, thread: u32) -> bool {
    let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/apps/threads/end_thread.py");
    let ended = Command::new(parts::python()).arg(tool).arg(thread.to_string()).status().expect("run Python");
    if ended.code() == Some(LEFT_OUT) {
        let _ = writeln!(std::io::stderr(), "LEFT OUT: faults::threads::f23 needs ptrace(2) and an x86-64");
        return false;
    }
    assert!(ended.success(), "{ended}");
    let task = format!("/proc/{pid}/task/{thread}");
    for _ in 0..1_000 {
        if !Path::new(&task).exists() {
            return true;
        }
        probe::pause(Duration::from_millis(10));
    }
    panic!("the thread did not end");
}

/// All threads but the main one.
fn others(live: &Live) -> Vec<u32> {
    let tasks = fs::read_dir(format!("/proc/{}/task", live.pid())).expect("list threads").flatten();
    tasks.filter_map(|task| task.file_name().to_str()?.parse().ok()).filter(|thread| *thread != live.pid()).collect()
}

/// Every thread ends but the main one. Workers do not notice, and a worker that dies is replaced.
fn threads_end(kind: Kind) -> usize {
    let (subject, _) = Subject::of(kind).workers(4).with_doors();
    let mut live = subject.ready();
    assert_eq!(live.reload(PATIENCE), Ok(()));
    let workers = live.await_ready_workers("four workers", |now| now.len() == 4);
    let of_main = probe::children_of_main_thread(live.pid());
    let all_of_main = workers.iter().all(|pid| of_main.contains(pid));
    assert!(all_of_main, "{kind:?}: {workers:?} are not children of the main thread: {of_main:?}");
    let threads = others(&live);
    assert!(!threads.is_empty(), "the supervisor has one thread only");
    if !threads.iter().all(|thread| end_thread(live.pid(), *thread)) {
        live.audit();
        return 0;
    }
    assert!(workers.iter().all(|pid| lives(*pid)), "{kind:?}: a thread took its workers along");
    assert_eq!(live.get("/ok").status, 200);
    // What it says may have died with the thread that said it.
    let known = live.children();
    send(workers[0], Signal::KILL);
    live.await_children("a replacement", |now| now.len() == known.len() && !now.contains(&workers[0]));
    live.signal(Signal::TERM);
    live.ended();
    let left = live.left();
    live.clear();
    assert!(left.is_empty(), "{kind:?}: {left:?} are left");
    threads.len()
}

#[test]
fn f23_threads_end_and_no_worker_notices() {
    let ended = [Kind::Command, Kind::Python].map(threads_end);
    let manifest = include_str!("../../../Cargo.toml");
    let release = manifest.split("[profile.release]").nth(1).expect("a release profile");
    let aborts = release.split("\n[").next().is_some_and(|profile| profile.contains("panic = \"abort\""));
    let found = format!(
        "workers are children of the main thread; {} other threads ended: 0 workers lost, a dead one replaced; a panic ends the whole process",
        ended.iter().sum::<usize>()
    );
    verdict("F23", aborts, &found);
}

#[test]
fn f30_no_thread_is_made_after_the_start() {
    let (subject, metrics) = Subject::of(Kind::Command).with_doors();
    let mut live = subject.ready();
    let before = threads(live.pid());
    for _ in 0..20 {
        assert_eq!(http::get(&metrics, "/metrics").expect("a page").status, 200);
        drop(UnixStream::connect(live.directory().join("control.sock")).expect("connect to the control socket"));
    }
    assert_eq!(live.reload(PATIENCE), Ok(()));
    let after = threads(live.pid());
    verdict("F30", before == after, &format!("at the start {}, later {}", before.join(" "), after.join(" ")));
    live.audit();
}
