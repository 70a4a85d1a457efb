//! The supervisor itself is killed, stopped, or refused what it asks of the kernel.

use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, prlimit};

use super::load::{Load, Mode};
use super::probe::{self, allowed, cpu, descriptors, now, pause, since, state, verdict};
use super::subject::{Kind, Subject};
use crate::support::PATIENCE;
use crate::support::http::{self, Address, Client};
use crate::support::process::{End, lives, send};

/// How long a request takes that is in flight, and the goal for the end of idle workers whose supervisor is dead.
const IN_FLIGHT: Duration = Duration::from_millis(1_500);
const GONE: Duration = Duration::from_secs(1);
/// The goal for another process where no descriptor is left.
const NEXT_PROCESS: Duration = Duration::from_millis(100);

/// With a slow request in flight. Who drains leaves after it.
fn killed(fault: &str, kind: Kind) {
    let mut live = Subject::of(kind).on_tcp().file("ledger", "").ready();
    let (address, ledger) = (live.address().clone(), live.directory().join("ledger"));
    let slow = std::thread::spawn(move || http::get(&address, "/sleep/1500?id=1").map(|reply| reply.status));
    live.wait("a request in flight", |_| std::fs::read_to_string(&ledger).is_ok_and(|text| !text.is_empty()).then_some(()));
    let begun = now();
    live.signal(Signal::KILL);
    live.ended();
    let in_time = IN_FLIGHT + allowed(GONE);
    let gone = live.journal.wait(in_time, |_| live.left().is_empty().then(|| since(begun)));
    let (left, refused) = (live.left().len(), Client::connect(live.address(), PATIENCE).is_err());
    live.clear();
    let answered = slow.join().expect("the client").is_ok_and(|status| status == 200);
    let when = format!("{:.2} s", gone.unwrap_or(in_time).as_secs_f64());
    let found = format!(
        "{left} processes left after {when}, the port is {}, a request of 1.5 s was {}",
        if refused { "free" } else { "held" },
        if answered { "answered" } else { "lost" }
    );
    verdict(fault, gone.is_some() && refused && answered, &found);
}

#[test]
fn f21_killed() {
    killed("F21", Kind::under_test());
}

#[test]
fn f21z_killed() {
    killed("F21z", Kind::Python);
}

/// The supervisor dies at any moment of its start, also between fork and prctl.
fn dies_while_it_starts(fault: &str, kind: Kind, rounds: u64, longest: u64) {
    let mut most = Duration::ZERO;
    for round in 0..rounds {
        let mut live = Subject::of(kind).workers(8).start();
        pause(Duration::from_micros(longest * 1000 * round / rounds));
        let begun = now();
        live.signal(Signal::KILL);
        live.ended();
        let gone = live.journal.wait(PATIENCE, |_| live.left().is_empty().then_some(()));
        if gone.is_none() {
            let left = live.left().len();
            live.clear();
            verdict(fault, false, &format!("round {round}: {left} processes survived"));
        }
        most = most.max(since(begun));
    }
    let found = format!("{rounds} kills: nobody survived for longer than {} ms", most.as_millis());
    verdict(fault, most <= allowed(GONE), &found);
}

#[test]
fn f24_dies_while_it_starts() {
    dies_while_it_starts("F24", Kind::under_test(), 60, 60);
}

#[test]
fn f24z_dies_while_it_starts() {
    dies_while_it_starts("F24z", Kind::Python, 15, 600);
}

/// A client of the control socket, if there is still room where they wait.
fn queue(control: &Path) -> Option<OwnedFd> {
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC, None);
    let socket = socket.expect("make a socket");
    connect(&socket, &SocketAddrUnix::new(control).expect("a path")).ok().map(|()| socket)
}

#[test]
fn f31_descriptors_exhausted() {
    const CLIENTS: usize = 100;
    let (subject, metrics) = Subject::of(Kind::Command).with_doors();
    let mut live = subject.ready();
    let pid = Pid::from_raw(i32::try_from(live.pid()).expect("a pid")).expect("a pid");
    let Rlimit { current: usual, maximum } = getrlimit(Resource::Nofile);
    let limit = |current| Rlimit { current, maximum };
    let known = descriptors(live.pid()) as u64;
    prlimit(Some(pid), Resource::Nofile, limit(Some(known + 4))).expect("prlimit");
    let Address::Tcp(metrics_address) = &metrics else { panic!("invariant: on TCP") };
    let scrapes: Vec<_> = (0..CLIENTS).map(|_| TcpStream::connect(metrics_address).expect("connect")).collect();
    let control = live.directory().join("control.sock");
    let orders: Vec<_> = (0..CLIENTS).filter_map(|_| queue(&control)).collect();
    let used = cpu(live.pid());
    pause(Duration::from_secs(2));
    let share = cpu(live.pid()).saturating_sub(used).as_secs_f64() / 2.0;
    let victim = live.serving()[0];
    let begun = now();
    send(victim, Signal::KILL);
    let replaced = live.see_ready_workers(allowed(NEXT_PROCESS), |now| now.len() == 2 && !now.contains(&victim));
    let took = since(begun);
    let found = format!(
        "{CLIENTS} scrapers and {} clients of the control socket: {:.1} % of a core at the limit; a killed worker was {} after {} ms",
        orders.len(),
        share * 100.0,
        if replaced.is_some() { "replaced" } else { "not replaced" },
        took.as_millis()
    );
    drop((scrapes, orders));
    verdict("F31", replaced.is_some() && share <= 0.05, &found);
    prlimit(Some(pid), Resource::Nofile, limit(usual)).expect("prlimit");
    live.wait("a page", |_| http::get(&metrics, "/metrics").is_ok_and(|reply| reply.status == 200).then_some(()));
    live.audit();
}

/// fork(2) fails for a while.
fn fork_fails(fault: &str, kind: Kind, error: &str) {
    let mut live = Subject::of(kind).workers(4).file("ledger", "").ready();
    let workers = live.serving();
    let zygote = live.children().into_iter().find(|pid| !workers.contains(pid)).filter(|_| kind == Kind::Python);
    let forker = zygote.unwrap_or(live.pid());
    let load = Load::new(live.address(), Mode::New, 50.0).start();
    let mut strace = probe::failing(forker, "clone,clone3,fork,vfork", error);
    send(workers[0], Signal::KILL);
    let told = if kind == Kind::Gunicorn { "" } else { "waiting before the next attempt" };
    let noticed = live.journal.wait(PATIENCE, |lines| lines.iter().any(|line| line.contains(told)).then_some(()));
    pause(Duration::from_secs(3));
    let alive = live.is_alive();
    let served = live.serving().len();
    strace.signal(Signal::TERM);
    strace.ended();
    let healed = live.see_ready_workers(PATIENCE, |now| now.len() == 4 && !now.contains(&workers[0])).is_some();
    let report = load.finish();
    let places = report.places(&live.text("ledger"), &[workers[0]]);
    let good = alive && noticed.is_some() && served == 3 && healed && places.with_the_living.is_empty();
    let found = format!(
        "supervisor {}, {served} of 3 survivors serve, {}; {} of {} requests lost by survivors",
        if alive { "alive" } else { "dead" },
        if healed { "healed by itself" } else { "not healed" },
        places.with_the_living.len(),
        report.sent
    );
    if !good {
        live.clear();
    }
    verdict(fault, good, &found);
    live.audit();
}

#[test]
fn f34_fork_lacks_memory() {
    fork_fails("F34", Kind::under_test(), "ENOMEM");
}

#[test]
fn f34z_fork_lacks_memory() {
    fork_fails("F34z", Kind::Python, "ENOMEM");
}

fn loop_does_not_run(fault: &str, kind: Kind) {
    let live = Subject::of(kind).timeout(2).ready();
    let workers = live.serving();
    live.signal(Signal::STOP);
    pause(Duration::from_secs(6));
    live.signal(Signal::CONT);
    // Longer than `timeout`: a wrong judgement would have been made by then.
    pause(Duration::from_secs(4));
    let same = live.serving() == workers;
    verdict(
        fault,
        same,
        &format!("stopped for three timeouts, then healthy workers were {}", if same { "kept" } else { "killed" }),
    );
    live.audit();
}

#[test]
fn f36_loop_does_not_run_for_a_while() {
    loop_does_not_run("F36", Kind::under_test());
}

#[test]
fn f36z_loop_does_not_run_for_a_while() {
    loop_does_not_run("F36z", Kind::Python);
}

/// Makes the next process of this namespace get a number.
fn next_pid(pid: u32) {
    std::fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).expect("write ns_last_pid");
}

/// Starts a process that wants this number; `None` if it got another one.
fn innocent(pid: u32) -> Option<std::process::Child> {
    next_pid(pid);
    let mut child = Command::new("sleep").arg("60").spawn().expect("start sleep");
    if child.id() == pid {
        return Some(child);
    }
    child.kill().and_then(|()| child.wait()).expect("end sleep");
    None
}

/// In a process namespace of its own, whose next number can be chosen.
fn pid_reused(fault: &str, kind: Kind, test: &str) {
    if !probe::is_inside(test) {
        return;
    }
    let mut live = Subject::of(kind).ready();
    let victim = live.serving()[0];
    live.signal(Signal::STOP);
    send(victim, Signal::KILL);
    live.wait("a zombie", |_| (state(victim) == Some('Z')).then_some(()));
    assert!((0..20).all(|_| innocent(victim).is_none()), "the number was free while nobody had reaped the worker");
    live.signal(Signal::CONT);
    live.wait("the worker is reaped", |_| state(victim).is_none().then_some(()));
    let mut bystander = live.wait("an innocent with its number", |_| innocent(victim));
    live.await_ready_workers("two workers", |now| now.iter().filter(|pid| **pid != victim).count() == 2);
    assert_eq!(live.reload(PATIENCE), Ok(()));
    live.signal(Signal::TERM);
    let end = live.ended();
    let unharmed = lives(victim) && bystander.try_wait().expect("ask for it").is_none();
    bystander.kill().and_then(|()| bystander.wait()).expect("end sleep");
    verdict(fault, unharmed && end == End::Code(0), "the innocent process with a dead worker's number lives on");
}

#[test]
fn f18_pid_reused() {
    pid_reused("F18", Kind::under_test(), "faults::supervisor::f18_pid_reused");
}

#[test]
fn f18z_pid_reused() {
    pid_reused("F18z", Kind::Python, "faults::supervisor::f18z_pid_reused");
}
