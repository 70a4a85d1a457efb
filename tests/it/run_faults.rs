//! Faults that the kernel has to play along with: no more processes, descriptors or memory, processes that do not die, and orphans.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, prlimit};

use crate::support::cgroup::Cgroup;
use crate::support::hammer::{Hammer, Outcome, Reuse};
use crate::support::http::Client;
use crate::support::process::{End, send};
use crate::support::service::{Running, Service};

fn demo(workers: u16, top: &str) -> Service {
    Service::with_config(&format!(
        r#"
workers = {workers}
connections = 20
{top}
[app]
kind = "command"
command = ["@PROGRAM@", "demo-worker", "--connections", "{{connections}}", "--faults", "--steer", "@DIR@"]
[listen]
address = "@LISTEN@"
"#
    ))
}

fn take_all(group: &Cgroup, running: &Running) {
    group.take(running.pid());
    for worker in running.children() {
        group.take(worker);
    }
}

#[test]
fn f29_a_fork_that_fails_is_survived_and_made_good_when_it_can_be() {
    let Some(group) = Cgroup::of("pids") else { return };
    let mut running = demo(4, "").ready();
    take_all(&group, &running);
    let address = running.address().clone();
    let load = Hammer { address, path: "/ok".to_owned(), clients: 4, requests: usize::MAX, reuse: Reuse::Never }.start();
    group.set("pids.max", "pids.max", "1");
    let killed = running.workers()[0];
    send(killed, Signal::KILL);
    running.await_log("fork: Resource temporarily unavailable");
    running.await_log_times("worker keeps failing", 2);
    assert_eq!(running.get("/ok").status, 200, "the others serve");
    group.set("pids.max", "pids.max", "max");
    running.await_children("four again", |now| now.len() == 4 && !now.contains(&killed));
    running.await_log_times("worker ready", 5);
    let tally = load.finish();
    // The worker that was killed may have had a request of each client.
    assert!(tally.iter().all(|(outcome, count)| *outcome == Outcome::Ok || *count <= 4), "{tally:?}");
    assert_eq!(running.stop(), End::Code(0));
}

#[test]
fn f20_a_worker_that_the_kernel_kills_for_memory_is_replaced_and_the_reason_told() {
    let Some(group) = Cgroup::of("memory") else { return };
    let mut running = demo(2, "").ready();
    group.set("memory.limit_in_bytes", "memory.max", "67108864");
    take_all(&group, &running);
    for times in 1..=3 {
        let mut client = Client::connect(running.address(), Duration::from_secs(20)).expect("connect");
        assert!(client.get("/alloc/100").is_err(), "100 MB fit into 64");
        running.await_log_times("reason=\"oom\"", times);
        running.await_log_times("worker ready", 2 + times);
    }
    let survivor = running.workers()[0];
    send(survivor, Signal::KILL);
    running.await_log("reason=\"crash\"");
    assert_eq!(running.get("/ok").status, 200);
    assert_eq!(running.stop(), End::Code(0));
}

#[test]
fn f17_a_worker_that_does_not_die_is_stuck_and_another_takes_its_place() {
    let Some(group) = Cgroup::of("freezer") else { return };
    let mut running = demo(2, "timeout = 1").ready();
    let frozen = running.workers()[0];
    group.take(frozen);
    // In version 1 a frozen process does not even take SIGKILL.
    group.set("freezer.state", "cgroup.freeze", "FROZEN");
    running.await_log("worker timeout");
    running.await_log_times("worker ready", 3);
    assert_eq!(running.get("/ok").status, 200);
    running.await_log("does not end by SIGKILL");
    group.set("freezer.state", "cgroup.freeze", "THAWED");
    running.await_children("the frozen one is gone", |now| now.len() == 2 && !now.contains(&frozen));
    assert_eq!(running.stop(), End::Code(0));
}

#[test]
fn f17_a_stop_does_not_wait_for_ever_for_what_does_not_die() {
    let Some(group) = Cgroup::of("freezer") else { return };
    let mut running = demo(2, "graceful-timeout = 1").ready();
    let frozen = running.workers()[0];
    group.take(frozen);
    group.set("freezer.state", "cgroup.freeze", "FROZEN");
    running.signal(Signal::TERM);
    running.await_log("does not end by SIGKILL");
    running.await_log("left behind");
    group.set("freezer.state", "cgroup.freeze", "THAWED");
    running.await_end();
}

#[test]
fn f17_a_stop_does_not_wait_for_ever_for_a_hook_that_does_not_die() {
    let Some(group) = Cgroup::of("freezer") else { return };
    let mut running = demo(1, "").extend("[hooks]\non-exit = [\"sleep\", \"1000\"]\n").ready();
    let worker = running.workers()[0];
    running.signal(Signal::TERM);
    running.await_children("the hook alone", |now| now.len() == 1 && !now.contains(&worker));
    let hook = running.children()[0];
    group.take(hook);
    group.set("freezer.state", "cgroup.freeze", "FROZEN");
    running.await_log("left behind");
    group.set("freezer.state", "cgroup.freeze", "THAWED");
    running.await_end();
}

#[test]
fn f19_orphans_are_adopted_and_ended_at_the_stop() {
    let mut running = demo(1, "").ready();
    for _ in 0..50 {
        assert_eq!(running.get("/orphan").status, 200);
    }
    running.await_children("all are adopted", |now| now.len() >= 51);
    assert_eq!(running.workers().len(), 1, "none is reported as a worker");
    let ready = running.said().matches("worker ready").count();
    assert_eq!((ready, running.stop()), (1, End::Code(0)));
    let said = running.said();
    let named = said.lines().filter(|line| line.contains("left behind is ended")).collect::<Vec<_>>();
    assert_eq!(named.len(), 24, "{said}");
    assert!(named.iter().all(|line| line.contains("name=\"sleep\" worker=0")), "{said}");
    assert!(said.contains("so many more processes that were left behind are ended more=26"), "{said}");
}

#[test]
fn f19_what_ends_at_the_stop_is_named_without_its_control_bytes() {
    let config = format!(
        "workers = 1\n[app]\nkind = \"command\"\ncommand = [\"sh\", \"-c\", \"'@DIR@/x'* 600 & exec {} demo-worker --connections 5\"]\n[listen]\naddress = \"@LISTEN@\"\n",
        env!("CARGO_BIN_EXE_tuningfork")
    );
    let service = Service::with_config(&config);
    std::os::unix::fs::symlink("/bin/sleep", service.directory().join("x\u{1b}[31m\ny")).expect("make a link");
    let mut running = service.ready();
    assert_eq!(running.stop(), End::Code(0));
    let said = running.said();
    assert!(said.contains("a process that was left behind is ended pid="), "{said}");
    assert!(said.contains(r#"name="x\u{1b}[31m\ny" worker=0"#), "{said}");
}

#[test]
fn f31_without_a_free_descriptor_a_worker_can_still_be_made() {
    let mut running = demo(2, "").ready();
    let pid = Pid::from_raw(i32::try_from(running.pid()).expect("a pid")).expect("a pid");
    let open = std::fs::read_dir(format!("/proc/{}/fd", running.pid())).expect("list descriptors").count() as u64;
    // Not one more than it has now.
    prlimit(Some(pid), Resource::Nofile, Rlimit { current: Some(open), maximum: Some(open) }).expect("prlimit");
    let killed = running.workers()[0];
    send(killed, Signal::KILL);
    running.await_log_times("worker ready", 3);
    assert!(!running.said().contains("Too many open files"), "{}", running.said());
    assert_eq!(running.stop(), End::Code(0));
}

#[test]
fn f34_a_fork_without_memory_is_survived() {
    let strace = Path::new("/usr/bin/strace");
    if !strace.exists() {
        let _ = writeln!(std::io::stderr(), "LEFT OUT: run_faults::f34 needs strace");
        return;
    }
    // The third to the sixth fork fail; the tracer is no child of the service and does not bear its mark.
    let inject = r#"mark=$TUNINGFORK_TEST_MARK; unset TUNINGFORK_TEST_MARK; exec /usr/bin/strace -D -o /dev/null -E TUNINGFORK_TEST_MARK=$mark -e trace=clone -e inject=clone:error=ENOMEM:when=3..6 "$@""#;
    let mut running = demo(2, "").ready_through(Path::new("/bin/sh"), &["-c", inject, "sh"]);
    send(running.workers()[0], Signal::KILL);
    running.await_log("fork: Cannot allocate memory");
    running.await_log_times("worker ready", 3);
    assert_eq!(running.get("/ok").status, 200);
    assert_eq!(running.stop(), End::Code(0));
}
