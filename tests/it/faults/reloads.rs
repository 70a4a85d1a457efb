//! Reloads, upgrades and stops while requests come.

use std::time::Duration;

use rustix::process::Signal;

use super::live::successor;
use super::load::{Load, Mode, Report};
use super::probe::{now, pause, since, verdict};
use super::subject::{Kind, Subject};
use crate::support::PATIENCE;
use crate::support::http::{self, Client};
use crate::support::process::{End, lives, send};
use crate::support::size;

/// What is done to a service in one mode on one kind of socket while requests come.
#[derive(Clone, Copy)]
struct Campaign {
    reloads: usize,
    upgrades: usize,
    /// From one of them to the next, at least.
    every: Duration,
    /// Requests a second, and how many there have to be.
    rate: f64,
    requests: u64,
    clients: usize,
}

impl Campaign {
    /// A few of both.
    const SHORT: Self =
        Self { reloads: 3, upgrades: 1, every: Duration::from_millis(200), rate: 300.0, requests: 0, clients: 16 };
    /// From one reload, and from one upgrade, to the next where there are many requests.
    const RELOADS_EVERY: f64 = 2.8;
    const UPGRADES_EVERY: f64 = 7.0;

    /// `FAULT_REQUESTS` is how many requests there are in all; each of the campaigns has its share of them.
    fn of(kind: Kind, campaigns: usize) -> Self {
        let Ok(requests) = std::env::var("FAULT_REQUESTS") else { return Self { upgrades: kind.upgrades(1), ..Self::SHORT } };
        let requests: u64 = requests.parse().expect("FAULT_REQUESTS is a number");
        // Python's sync workers need the machine for themselves at some hundred.
        let rate = if kind == Kind::Command { 2_000.0 } else { 300.0 };
        let requests = requests.div_ceil(campaigns as u64);
        let span = requests as f64 / rate;
        let times = |every: f64| (1..=u32::MAX).take_while(|time| f64::from(*time) * every < span + every).count();
        let (reloads, upgrades) = (times(Self::RELOADS_EVERY), kind.upgrades(times(Self::UPGRADES_EVERY)));
        Self {
            reloads,
            upgrades,
            every: Duration::from_secs_f64(span / (reloads + upgrades + 1) as f64),
            rate,
            requests,
            clients: 64,
        }
    }

    /// Whether the change of this number is an upgrade: they are spread evenly.
    fn is_upgrade(&self, number: usize) -> bool {
        let all = self.reloads + self.upgrades;
        (number + 1) * self.upgrades / all > number * self.upgrades / all
    }

    /// Requests come from before the first change until after the last.
    fn wage(&self, subject: Subject, mode: Mode) -> Report {
        let mut live = subject.file("ledger", "").ready();
        let load = Load { clients: self.clients, ..Load::new(live.address(), mode, self.rate) }.start();
        let begun = now();
        for number in 0..self.reloads + self.upgrades {
            pause((self.every * u32::try_from(number + 1).expect("few")).saturating_sub(since(begun)));
            let changed = if self.is_upgrade(number) { live.upgrade(PATIENCE) } else { live.reload(PATIENCE) };
            assert_eq!(changed, Ok(()), "change {number}\n{}", live.said());
        }
        pause(self.every);
        live.wait("all requests", |_| (load.sent() >= self.requests).then_some(()));
        let report = load.finish();
        let twice = report.places(&live.text("ledger"), &[]).twice;
        assert!(twice.is_empty(), "{mode:?}: read twice: {twice:?}");
        live.audit();
        report
    }
}

fn changes_under_load(fault: &str, kind: Kind, class: &'static str, modes: &[Mode]) {
    let campaign = Campaign::of(kind, modes.len() * 2);
    let (mut all, mut lost, mut classes, mut campaigns) = (Report::default(), 0, Vec::new(), 0);
    for (mode, on_tcp) in modes.iter().flat_map(|mode| [(*mode, true), (*mode, false)]) {
        let subject = Subject::of(kind).class(class).workers(3);
        let report = campaign.wage(if on_tcp { subject.on_tcp() } else { subject }, mode);
        if !report.lost.is_empty() {
            classes.push(format!("; {mode:?} {}: {}", if on_tcp { "TCP" } else { "unix" }, report.classes()));
        }
        lost += report.lost.len();
        campaigns += 1;
        all = all.and(report);
    }
    let found = format!(
        "{lost} of {} requests lost over {} reloads and {} upgrades, {}{}",
        all.sent,
        campaign.reloads * campaigns,
        campaign.upgrades * campaigns,
        all.spans(),
        classes.concat()
    );
    verdict(fault, lost == 0, &found);
}

#[test]
fn f43_reload_under_load() {
    changes_under_load("F43", Kind::under_test(), "sync", &[Mode::New, Mode::KeepAlive, Mode::Post16k]);
}

#[test]
fn f43z_reload_under_load_sync() {
    changes_under_load("F43z", Kind::Python, "sync", &[Mode::New, Mode::Post16k]);
}

#[test]
fn f43z_reload_under_load_gthread() {
    changes_under_load("F43z", Kind::Python, "gthread", &[Mode::New, Mode::KeepAlive, Mode::Post16k]);
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

/// HUP, TTIN, TTOU, USR2 and kills in any order, then TERM, at any time.
fn interleaved(fault: &str, kind: Kind, rounds: u64) {
    for round in 0..rounds {
        let mut live = Subject::of(kind).graceful_timeout(3).ready();
        let mut dice = Dice::of(round);
        for _ in 0..6 {
            match dice.roll(6) {
                0 => live.signal(Signal::HUP),
                1 => live.signal(Signal::TTIN),
                2 => live.signal(Signal::TTOU),
                3 => live.serving().into_iter().take(1).for_each(|pid| send(pid, Signal::KILL)),
                4 if kind != Kind::Gunicorn => {
                    live.follow_upgrades();
                    live.signal(Signal::USR2);
                }
                _ => pause(Duration::from_millis(dice.roll(40))),
            }
        }
        let again = dice.roll(2) == 0;
        live.signal(Signal::TERM);
        if again {
            live.signal(Signal::TERM);
            live.signal(Signal::HUP);
        }
        // Who is about to hand over does so: then it is the successor that has to be told.
        let mut told = live.pid();
        let ended = live.journal.wait(PATIENCE, |lines| {
            if let Some(other) = successor(lines).filter(|pid| *pid != told && lives(*pid)) {
                send(other, Signal::TERM);
                told = other;
            }
            live.left().is_empty().then_some(())
        });
        let left = live.left().len();
        live.clear();
        let end = live.ended();
        if end != End::Code(0) || left > 0 || ended.is_none() {
            verdict(fault, false, &format!("round {round}: {end:?}, {left} processes left\n{}", live.said()));
        }
    }
    verdict(fault, true, &format!("{rounds} of {rounds} rounds of random signals and kills ended with 0 and left nothing"));
}

#[test]
fn f28_interleaved_reload_scale_kill_stop() {
    interleaved("F28", Kind::under_test(), size(20, 200));
}

#[test]
fn f28z_interleaved_reload_scale_kill_stop() {
    interleaved("F28z", Kind::Python, size(6, 60));
}
