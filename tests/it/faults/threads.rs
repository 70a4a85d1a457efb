//! Threads of the supervisor that end, and threads that are not made.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use tuningfork::control::Client;

use super::live::Live;
use super::probe::{self, threads, verdict};
use super::subject::{Kind, Subject};
use crate::support::PATIENCE;
use crate::support::http;
use crate::support::parts;
use crate::support::process::{End, Watched, lives, send};
use crate::support::root;
use crate::support::service::Service;

/// What the tool ends with where it cannot do anything.
const LEFT_OUT: i32 = 77;
/// The threads that ask for the time; the one that writes the log does not.
const PANICKING: [&str; 4] = ["control", "log-read", "metrics", "tuningfork"];
/// The goal for the end of idle workers whose supervisor is dead.
const GONE: Duration = Duration::from_secs(1);
/// Debian's user who owns nothing.
const NOBODY: &str = "65534";
const WEB: &str =
    "def application(environ, start_response):\n    start_response('200 OK', [('Content-Length', '0')])\n    return []\n";

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

/// What became of a service whose threads ended.
#[derive(Default)]
struct Bereft {
    threads: usize,
    lost: usize,
    replaced: usize,
}

/// Every thread ends but the main one. Workers do not notice, and a worker that dies is replaced.
fn threads_end(kind: Kind) -> Bereft {
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
        return Bereft { replaced: 1, ..Bereft::default() };
    }
    let lost = workers.iter().filter(|pid| !lives(**pid)).count();
    assert_eq!(live.get("/ok").status, 200);
    // What it says may have died with the thread that said it.
    let known = live.children();
    send(workers[0], Signal::KILL);
    let is_new = |now: &[u32]| now.len() == known.len() && !now.contains(&workers[0]);
    let replaced = live.journal.wait(PATIENCE, |_| is_new(&live.children()).then_some(())).is_some();
    live.signal(Signal::TERM);
    live.ended();
    let left = live.left();
    live.clear();
    assert!(left.is_empty(), "{kind:?}: {left:?} are left");
    Bereft { threads: threads.len(), lost, replaced: usize::from(replaced) }
}

#[test]
fn f23_threads_end_and_no_worker_notices() {
    let [command, python] = [Kind::Command, Kind::Python].map(threads_end);
    let [threads, lost, replaced] =
        [command.threads + python.threads, command.lost + python.lost, command.replaced + python.replaced];
    let found = format!("{threads} threads beside the main ones ended: {lost} workers lost, {replaced} of 2 dead ones replaced");
    verdict("F23", lost == 0 && replaced == 2, &found);
}

/// One thread panics, as the standard library does when it asks for the time and is not told. How the process ended by that, if it did,
/// and how many it left behind.
fn panics(library: &Path, thread: &str) -> (Option<End>, usize) {
    let (subject, metrics) = Subject::of(Kind::Command).with_doors();
    let mut env = Command::new("env");
    env.arg(format!("LD_PRELOAD={}", library.display()));
    env.arg(format!("NO_TIME_FILE={}", subject.directory().join("clock").display()));
    let mut live = subject.ready_through(env);
    live.put("clock", &format!("{} {thread}", live.pid()));
    live.serving().into_iter().take(1).for_each(|pid| send(pid, Signal::KILL));
    // Each of them has something to do. Whether it still can is not what is asked.
    live.see_while(|live| {
        let _ = http::get(&metrics, "/metrics");
        let _ = Client::connect(&live.directory().join("control.sock")).and_then(|mut client| client.status());
        // More than a line may have: it is not waited for its end.
        let _ = http::get(live.address(), "/spew/20000");
    });
    let end = (!live.is_alive()).then(|| live.ended());
    live.journal.wait(probe::allowed(GONE), |_| live.left().is_empty().then_some(()));
    let left = live.left().len();
    live.clear();
    live.journal.wait_for_the_rest(PATIENCE);
    assert!(live.said().contains("panicked"), "{thread} did not panic\n{}", live.said());
    (end, left)
}

#[test]
fn f23_a_panic_in_any_thread_ends_the_whole_process() {
    let folder = tempfile::tempdir().expect("make a directory");
    let library = probe::library("threads/no_time.c", folder.path());
    let ends = PANICKING.map(|thread| (thread, panics(&library, thread)));
    let aborted = (Some(End::Signal(Signal::ABORT.as_raw())), 0);
    let good = ends.iter().filter(|(_, end)| *end == aborted).count();
    let found =
        format!("a panic in {} each: {good} of {} processes ended with all their workers", PANICKING.join(", "), ends.len());
    verdict(
        "F23",
        good == ends.len(),
        &format!("{found}{}", if good == ends.len() { String::new() } else { format!(": {ends:?}") }),
    );
}

/// No thread can be made from now on, as long as the result lives; forks go on.
fn without_threads(live: &Live) -> Watched {
    probe::failing(live.pid(), "clone3", "EAGAIN")
}

fn status(live: &Live) -> Option<u32> {
    Client::connect(&live.directory().join("control.sock")).and_then(|mut client| client.status()).ok().map(|status| status.pid)
}

#[test]
fn f30_threads_cannot_be_made() {
    let (subject, metrics) = Subject::of(Kind::Command).with_doors();
    let mut live = subject.ready();
    let before = threads(live.pid());
    let mut strace = without_threads(&live);
    let page = http::get(&metrics, "/metrics").is_ok_and(|reply| reply.status == 200);
    let told = status(&live) == Some(live.pid());
    let reload = live.reload(PATIENCE);
    let workers = live.await_ready_workers("two workers", |now| now.len() == 2);
    // Memory is read by a thread of its own.
    live.put("tuningfork.toml", &format!("max-memory = \"1 GiB\"\n{}", live.config()));
    let refused = live.reload(PATIENCE);
    let kept = live.serving() == workers && live.get("/ok").status == 200 && threads(live.pid()) == before;
    strace.signal(Signal::TERM);
    strace.ended();
    let later = live.reload(PATIENCE);
    let after = threads(live.pid());
    let good = page && told && reload == Ok(()) && kept && later == Ok(());
    let refusal = refused.as_ref().is_err_and(|reason| reason.contains("memory cannot be watched"));
    let found = format!(
        "with {}: page, status and a reload are {}, a reload that needs a thread is {}, the old workers are {}; later it is {} and there are {}",
        before.join(" "),
        if page && told && reload.is_ok() { "as ever" } else { "not had" },
        if refusal { "refused" } else { "not refused" },
        if kept { "kept" } else { "gone" },
        if later.is_ok() { "done" } else { "refused" },
        after.join(" ")
    );
    verdict("F30", good && refusal && after.len() == before.len() + 1, &found);
    live.audit();
}

/// Log files that workers may not make are made by a thread.
#[test]
fn f30z_threads_cannot_be_made() {
    if root::is_missing() {
        return;
    }
    // The parts' own interpreter may lie where other users cannot go.
    let arguments = ["--interpreter", "/usr/bin/python3", "-b", "@LISTEN@", "--user", NOBODY, "--group", NOBODY];
    let log = ["--access-logfile", "@DIR@/access.log", "web"];
    let packages = parts::packages().display().to_string();
    let service = Service::of_gunicorn(&[&arguments[..], &log].concat()).file("web.py", WEB).env("PYTHONPATH", &packages);
    fs::set_permissions(service.directory(), fs::Permissions::from_mode(0o755)).expect("open the directory");
    let mut running = service.ready();
    let (workers, file) = (running.workers(), running.directory().join("access.log"));
    fs::rename(&file, file.with_extension("1")).expect("move the log away");
    let mut strace = probe::failing(running.pid(), "clone3", "EAGAIN");
    running.signal(Signal::USR1);
    running.await_log("log files of the workers cannot be made");
    running.await_log("the old ones are kept");
    let kept = running.workers() == workers && running.get("/").status == 200 && !file.exists();
    strace.signal(Signal::TERM);
    strace.ended();
    running.signal(Signal::USR1);
    let address = running.address().clone();
    let written = running.journal.wait(PATIENCE, |_| {
        http::get(&address, "/visit").ok()?;
        fs::read_to_string(&file).is_ok_and(|text| text.contains("/visit")).then_some(())
    });
    let found = format!(
        "log files are not made, the old ones are kept, and the same workers {}; later they are {}made",
        if kept { "serve" } else { "do not serve" },
        if written.is_some() { "" } else { "not " }
    );
    verdict("F30z", kept && written.is_some(), &found);
    assert_eq!(running.stop(), End::Code(0));
}
