//! Reloads and stops while requests come.

use std::time::Duration;

use rustix::process::Signal;

use super::load::{Load, Mode};
use super::probe::{pause, verdict};
use super::subject::{Kind, Subject};
use crate::support::PATIENCE;
use crate::support::http::{self, Client};
use crate::support::process::{End, send};

/// Reloads in each mode on each kind of socket, the time between them, and requests a second; `FAULT_REQUESTS` asks for so many requests over 50 reloads instead.
const RELOADS: usize = 5;
const EVERY: Duration = Duration::from_millis(200);
const RATE: f64 = 300.0;
const MANY_RELOADS: usize = 50;
const MANY_RATE: f64 = 2_000.0;

fn reloads_under_load(fault: &str, kind: Kind, class: &'static str, modes: &[Mode]) {
    let long: Option<u64> =
        std::env::var("FAULT_REQUESTS").ok().map(|number| number.parse().expect("FAULT_REQUESTS is a number"));
    let (mut sent, mut lost, mut reloads, mut slowest, mut classes) = (0, 0, 0, Duration::ZERO, Vec::new());
    for (mode, on_tcp) in modes.iter().flat_map(|mode| [(*mode, true), (*mode, false)]) {
        let subject = Subject::of(kind).class(class).workers(3).file("ledger", "");
        let mut live = if on_tcp { subject.on_tcp() } else { subject }.ready();
        let report = match long {
            None => {
                let load = Load::new(live.address(), mode, RATE).start();
                for _ in 0..RELOADS {
                    pause(EVERY);
                    assert_eq!(live.reload(PATIENCE), Ok(()));
                    reloads += 1;
                }
                load.finish()
            }
            Some(requests) => {
                let load = Load { clients: 64, ..Load::new(live.address(), mode, MANY_RATE) }.start_up_to(requests);
                let every = Duration::from_secs_f64(requests as f64 / MANY_RATE / (MANY_RELOADS + 1) as f64);
                for _ in 0..MANY_RELOADS {
                    pause(every);
                    assert_eq!(live.reload(PATIENCE), Ok(()));
                    reloads += 1;
                }
                load.join()
            }
        };
        let twice = report.places(&live.text("ledger"), &[]).twice;
        assert!(twice.is_empty(), "{mode:?}: read twice: {twice:?}");
        sent += report.sent;
        lost += report.lost.len();
        slowest = slowest.max(report.slowest);
        if !report.lost.is_empty() {
            classes.push(format!("{mode:?} {}: {}", if on_tcp { "TCP" } else { "unix" }, report.classes()));
        }
        live.audit();
    }
    let slowest = slowest.as_millis();
    let found =
        format!("{lost} of {sent} requests lost over {reloads} reloads, the slowest took {slowest} ms {}", classes.join("; "));
    verdict(fault, lost == 0, found.trim_end());
}

#[test]
fn f43_reload_under_load() {
    reloads_under_load("F43", Kind::under_test(), "sync", &[Mode::New, Mode::KeepAlive, Mode::Post16k]);
}

#[test]
fn f43z_reload_under_load_sync() {
    reloads_under_load("F43z", Kind::Python, "sync", &[Mode::New, Mode::Post16k]);
}

#[test]
fn f43z_reload_under_load_gthread() {
    reloads_under_load("F43z", Kind::Python, "gthread", &[Mode::New, Mode::KeepAlive, Mode::Post16k]);
}

/// 32 requests are being answered and 100 wait in the queue when TERM comes.
fn graceful_stop(fault: &str, kind: Kind) {
    let subject = Subject::of(kind).class("gthread").connections(16).workers(2).file("ledger", "").file("boots", "");
    let mut live = subject.ready();
    let ask = |number: usize| {
        let address = live.address().clone();
        std::thread::spawn(move || http::get(&address, &format!("/sleep/2000?id={number}")).map(|reply| reply.status))
    };
    let in_flight: Vec<_> = (0..32).map(ask).collect();
    let ledger = live.directory().join("ledger");
    let read =
        move || std::fs::read_to_string(&ledger).unwrap_or_default().lines().filter(|line| line.starts_with("read")).count();
    live.wait("32 requests in flight", |_| (read() == 32).then_some(()));
    let boots = live.boots();
    let connect = |_| {
        let mut client = Client::connect(live.address(), PATIENCE).expect("queue");
        client.send(b"GET /ok?id=1000 HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").expect("send");
        // Closes when it has its answer, as clients do.
        std::thread::spawn(move || client.receive().is_ok())
    };
    let queued: Vec<_> = (0..100).map(connect).collect();
    live.signal(Signal::TERM);
    let end = live.ended();
    let answered = in_flight.into_iter().map(|client| client.join().expect("a client"));
    let answered = answered.filter(|status| status.as_ref().is_ok_and(|status| *status == 200)).count();
    let answers = queued.into_iter().filter_map(|client| client.join().ok().filter(|answered| *answered)).count();
    let read_of_queue = live.text("ledger").lines().filter(|line| line.starts_with("read 1000 ")).count();
    let left = live.left().len();
    live.clear();
    let good = answered == 32 && answers == read_of_queue && live.boots() == boots && end == End::Code(0) && left == 0;
    let found = format!(
        "{answered} of 32 in flight answered; of 100 queued {read_of_queue} were read and {answers} of these answered; {left} left"
    );
    verdict(fault, good, &found);
}

#[test]
fn f45_graceful_stop() {
    graceful_stop("F45", Kind::under_test());
}

#[test]
fn f45z_graceful_stop() {
    graceful_stop("F45z", Kind::Python);
}

/// Numbers that look random and are the same in each run (Knuth's MMIX generator).
pub(super) struct Dice(u64);

impl Dice {
    /// As this seed has them.
    pub(super) const fn of(seed: u64) -> Self {
        Self(seed)
    }

    /// One of 0..`sides`.
    pub(super) fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }
}

fn interleaved(fault: &str, kind: Kind, rounds: u64) {
    for round in 0..rounds {
        let mut live = Subject::of(kind).graceful_timeout(3).ready();
        let mut dice = Dice::of(round);
        for _ in 0..6 {
            match dice.roll(5) {
                0 => live.signal(Signal::HUP),
                1 => live.signal(Signal::TTIN),
                2 => live.signal(Signal::TTOU),
                3 => live.serving().into_iter().take(1).for_each(|pid| send(pid, Signal::KILL)),
                _ => pause(Duration::from_millis(dice.roll(40))),
            }
        }
        let again = dice.roll(2) == 0;
        live.signal(Signal::TERM);
        if again {
            live.signal(Signal::TERM);
            live.signal(Signal::HUP);
        }
        let end = live.ended();
        let left = live.left().len();
        live.clear();
        if end != End::Code(0) || left > 0 {
            verdict(fault, false, &format!("round {round}: {end:?}, {left} processes left\n{}", live.said()));
        }
    }
    verdict(fault, true, &format!("{rounds} of {rounds} rounds of random signals and kills ended with 0 and left nothing"));
}

#[test]
fn f28_interleaved_reload_scale_kill_stop() {
    interleaved("F28", Kind::under_test(), 20);
}

#[test]
fn f28z_interleaved_reload_scale_kill_stop() {
    interleaved("F28z", Kind::Python, 6);
}
