//! What every signal does to a service: the table in the README, tried out.

use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::kill;
use nix::unistd::Pid;
use rustix::process::Signal;

use crate::support::control::{ctl, done, status};
use crate::support::hammer::{Hammer, Outcome, Reuse};
use crate::support::parts::strace;
use crate::support::process::{End, lives};
use crate::support::service::{Running, Service};

/// Signals that end a service in order, then those that say that the program is broken, and systemd's watchdog (STKFLT).
const STOPS: [i32; 3] = [libc::SIGTERM, libc::SIGINT, libc::SIGQUIT];
const FAULTS: [i32; 8] =
    [libc::SIGABRT, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGSEGV, libc::SIGSYS, libc::SIGTRAP, libc::SIGSTKFLT];
/// How often each is sent.
const TIMES: usize = 20;

/// By number and as often: the libraries know no names for real-time signals, the shell needs none.
fn send(running: &Running, number: i32, times: usize) {
    let script = format!("i=0; while [ $i -lt {times} ] && kill -{number} {}; do i=$((i+1)); done", running.pid());
    Command::new("sh").args(["-c", &script]).stderr(Stdio::null()).status().expect("run sh");
}

/// The kernel's own action for TSTP does nothing to a process without a shell, as this one is and every service of systemd.
fn await_suspended(running: &Running) {
    let state = format!("/proc/{}/status", running.pid());
    let is_suspended = || std::fs::read_to_string(&state).is_ok_and(|status| status.contains("State:\tT"));
    assert!(running.journal.wait(running.patience, |_| is_suspended().then_some(())).is_some(), "TSTP suspends nothing");
}

#[test]
fn f26_ten_thousand_hups_are_a_few_reloads_and_lose_no_request() {
    let mut running = Service::of_demo_workers(3, 20).ready();
    let address = running.address().clone();
    let path = "/work?cpu_us=200&wait_ms=2".to_owned();
    let load = Hammer { address, path, clients: 8, requests: usize::MAX, reuse: Reuse::Never }.start();
    let pid = Pid::from_raw(i32::try_from(running.pid()).expect("a pid"));
    for _ in 0..10_000 {
        kill(pid, nix::sys::signal::Signal::SIGHUP).expect("send HUP");
    }
    // The one that waits behind the storm is over when this one is.
    done(&running, "reload --wait");
    let reloads = status(&running)["generation"].as_u64().expect("a generation") - 1;
    assert!((2..=5).contains(&reloads), "{reloads} reloads");
    let tally = load.finish();
    assert!(tally.keys().all(|outcome| *outcome == Outcome::Ok), "{tally:?}");
    assert_eq!(running.stop(), End::Code(0));
}

#[test]
fn f27_every_other_signal_leaves_the_service_serving() {
    let detached = Service::of_demo_workers(2, 10);
    // WINCH means something only without a terminal.
    let mut running = detached.ready_through(Path::new("setsid"), &[]);
    let others = (1..=64).filter(|number| {
        let ends = STOPS.contains(number) || FAULTS.contains(number);
        // USR2 makes another process the service: that has tests of its own.
        !ends && ![libc::SIGKILL, libc::SIGSTOP, libc::SIGUSR2].contains(number)
    });
    let others: Vec<i32> = others.collect();
    assert_eq!(others.len() + STOPS.len() + FAULTS.len(), 62 - 1);
    for number in others {
        running.signal(Signal::HUP);
        send(&running, number, TIMES);
        if number == libc::SIGTSTP {
            await_suspended(&running);
        }
        running.signal(Signal::CONT);
        done(&running, "scale 2 --wait");
        assert_eq!(running.get("/ok").status, 200, "after signal {number}");
    }
    assert_eq!(running.stop(), End::Code(0));
}

#[test]
fn f27_signals_that_end_a_service_end_it_as_they_should() {
    for number in STOPS.into_iter().chain(FAULTS) {
        let mut running = Service::of_demo_workers(1, 5).ready();
        let worker = running.children()[0];
        // One at a time: signals that wait become one, and Rust's own handler survives the first SEGV and BUS that nobody's fault is.
        (0..TIMES).for_each(|_| send(&running, number, 1));
        let end = running.await_end();
        assert_eq!(end, if STOPS.contains(&number) { End::Code(0) } else { End::Signal(number) }, "signal {number}");
        assert!(!lives(worker), "signal {number}");
    }
}

#[test]
fn winch_sends_the_workers_home_and_hup_brings_them_back() {
    let mut running = Service::of_demo_workers(3, 10).ready_through(Path::new("setsid"), &[]);
    running.signal(Signal::WINCH);
    running.await_children("nobody", <[u32]>::is_empty);
    let resting = status(&running);
    assert_eq!((&resting["phase"], &resting["target"]), (&"resting".into(), &0.into()));
    assert_eq!(ctl(&running, "status --ready").status.code(), Some(1));
    running.signal(Signal::HUP);
    running.await_log("reload finished");
    running.await_children("three", |now| now.len() == 3);
    assert_eq!(running.get("/ok").status, 200);
    assert_eq!(running.stop(), End::Code(0));
}

#[test]
fn f28_whatever_is_asked_for_in_whatever_order_the_service_stays_in_order() {
    let mut running = Service::of_demo_workers(3, 10).ready();
    let wishes = ["reload", "scale +1", "reopen-logs", "reload", "scale -1", "worker kill 1", "scale 2", "logs"];
    let mut seed = 20_261_127_u64;
    for _ in 0..60 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let wish = wishes[usize::try_from(seed >> 33).expect("31 bits") % wishes.len()];
        // Some are refused: that is an answer too.
        let code = ctl(&running, wish).status.code();
        assert!(matches!(code, Some(0 | 1)), "{wish}: {code:?}\n{}", running.said());
    }
    done(&running, "reload --wait");
    done(&running, "scale 3 --wait");
    assert_eq!(running.get("/ok").status, 200);
    assert_eq!(running.children().len(), 3);
    running.signal(Signal::HUP);
    running.signal(Signal::TERM);
    running.signal(Signal::TERM);
    assert_eq!(running.await_end(), End::Code(0));
}

/// The arguments of a strace that stays out of the way (-D) and writes down each handler; and `more`.
fn tracing<'a>(log: &'a str, more: &'a [String]) -> Vec<&'a str> {
    let more = more.iter().flat_map(|what| ["-e", what.as_str()]);
    ["-D", "-o", log, "-e", "trace=rt_sigaction"].into_iter().chain(more).collect()
}

/// Lets something happen when the handler of SIGTERM has just been set, as written down in `log` by an earlier run.
fn with_the_handler_of_term(log: &str, what: &str) -> String {
    let calls = std::fs::read_to_string(log).expect("what strace wrote");
    let before = calls.lines().take_while(|call| !call.contains("(SIGTERM, {")).count();
    assert!(before < calls.lines().count(), "no handler for SIGTERM: {calls}");
    format!("inject=rt_sigaction:{what}:when={}", before + 1)
}

/// Whether a process has a handler for SIGTERM.
fn handles_term(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigCgt:")?.trim(), 16).ok());
    caught.is_some_and(|caught| caught & 1 << (libc::SIGTERM - 1) != 0)
}

#[test]
fn a_stop_that_comes_with_its_handler_is_heard() {
    let folder = tempfile::tempdir().expect("make a directory");
    let log = folder.path().join("log").display().to_string();
    let mut running = Service::of_demo_workers(1, 10).ready_through(strace(), &tracing(&log, &[]));
    assert_eq!(running.stop(), End::Code(0));
    // The kernel gives it to whichever thread does not hold it back, as it does not where a tracer gives it to one.
    let held_up = [with_the_handler_of_term(&log, "delay_exit=1s")];
    let mut running = Service::of_demo_workers(1, 10).start_through(strace(), &tracing(&log, &held_up));
    let pid = running.pid();
    running.wait("a handler", |_| handles_term(pid).then_some(()));
    running.signal(Signal::TERM);
    assert_eq!(running.await_end(), End::Code(0));
}

/// So it is with the SIGTERM of the kernel when the supervisor dies: nobody would end a worker that missed it.
#[test]
fn a_worker_hears_a_stop_that_comes_with_its_handler() {
    let folder = tempfile::tempdir().expect("make a directory");
    let log = folder.path().join("log").display().to_string();
    let traced = |more: &[String]| {
        let words: Vec<String> = tracing(&log, more).iter().map(|word| format!("\"{word}\", ")).collect();
        let program = format!("\"{}\", {}\"@PROGRAM@\"", strace().display(), words.concat());
        Service::of_demo_workers(1, 10).replacing("\"@PROGRAM@\"", &program)
    };
    assert_eq!(traced(&[]).ready().stop(), End::Code(0));
    let mut running = traced(&[with_the_handler_of_term(&log, "signal=SIGTERM")]).start();
    assert_eq!(running.await_end(), End::Code(3));
    assert!(!running.said().contains("worker ready"), "{}", running.said());
}
