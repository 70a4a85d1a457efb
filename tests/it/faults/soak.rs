//! Everything at once, for a minute: `FAULT_SOAK_SECONDS=720` in the release build is the soak that precedes a release. Same seed, same faults.
//!
//! A quiet phase, reloads (some of them broken), chaos, a quiet phase again. Nothing may be lost but what killed workers held, and the
//! supervisor ends with the descriptors and the memory it had.

use std::time::Duration;

use rustix::process::Signal;

use super::load::{Load, Mode, Report};
use super::probe::{descriptors, now, pause, since, status, verdict};
use super::reloads::Dice;
use super::subject::{Kind, Live, Subject};
use crate::support::PATIENCE;
use crate::support::http::{self, Address, Client};
use crate::support::process::send;
use crate::support::service::free_port;

/// Parts of the whole time: quiet, reloads, chaos, quiet.
const PARTS: [f64; 4] = [0.1, 0.4, 0.35, 0.15];
/// Most that the supervisor's memory may grow between the quiet phases, KiB.
const GROWTH: u64 = 1024;

/// What is under way.
struct Soak {
    live: Live,
    metrics: Address,
    dice: Dice,
    dead: Vec<u32>,
    reloads: [usize; 2],
    faults: usize,
    /// What there is to tell at the end.
    sent: usize,
    lost: usize,
}

impl Soak {
    fn start(rounds: u64) -> Self {
        let metrics = format!("127.0.0.1:{}", free_port());
        let sections = format!("[metrics]\nlisten = \"{metrics}\"\n[control]\nsocket = \"@DIR@/control.sock\"\n");
        let subject = Subject::of(Kind::Command).workers(4).timeout(2).graceful_timeout(5).on_tcp().file("ledger", "");
        let live = subject.sections(&sections).ready();
        let dice = Dice::of(rounds);
        Self { live, metrics: Address::Tcp(metrics), dice, dead: Vec::new(), reloads: [0, 0], faults: 0, sent: 0, lost: 0 }
    }

    /// Load in one mode while something is done again and again.
    fn phase(&mut self, span: Duration, rate: f64, mode: Mode, every: Duration, mut act: impl FnMut(&mut Self)) -> Report {
        let load = Load { clients: 32, ..Load::new(self.live.address(), mode, rate) }.start();
        let begun = now();
        while since(begun) < span {
            act(self);
            pause(every.min(span.saturating_sub(since(begun))));
        }
        let report = load.finish();
        self.sent += report.sent;
        self.lost += report.lost.len();
        let places = report.places(&self.live.text("ledger"), &self.dead);
        assert!(places.twice.is_empty(), "read twice: {:?}", places.twice);
        assert!(places.with_the_living.is_empty(), "lost by workers that lived on: {:?}", places.with_the_living);
        // Numbers begin again in the next phase.
        self.live.put("ledger", "");
        report
    }

    fn reload(&mut self) {
        let broken = self.dice.roll(10) == 0;
        if broken {
            self.live.put("boot_fail", "");
        }
        let ended = self.live.reload(PATIENCE);
        if broken {
            self.live.take("boot_fail");
        }
        assert_eq!(ended.is_err(), broken, "{ended:?}");
        self.reloads[usize::from(broken)] += 1;
    }

    /// One of the faults of workers, of the supervisor's surroundings, or of its clients.
    fn chaos(&mut self) {
        self.faults += 1;
        let serving = self.live.serving();
        let Some(victim) = serving.get(usize::try_from(self.dice.roll(4)).expect("small")).copied() else { return };
        match self.dice.roll(7) {
            0 => self.kill(victim, Signal::SEGV),
            1 => self.kill(victim, Signal::KILL),
            2 => self.kill(victim, Signal::STOP),
            3 => (0..1_000).for_each(|_| self.live.signal(Signal::HUP)),
            4 => (0..100).for_each(|_| drop(http::get(&self.metrics, "/metrics"))),
            5 => self.crowd(),
            _ => {
                self.live.signal(Signal::TTIN);
                self.live.signal(Signal::TTOU);
            }
        }
    }

    /// Many at the metrics endpoint at once.
    fn crowd(&self) {
        let mut clients: Vec<_> = (0..100).filter_map(|_| Client::connect(&self.metrics, PATIENCE).ok()).collect();
        for client in &mut clients {
            let _ = client.get("/metrics");
        }
    }

    fn kill(&mut self, victim: u32, signal: Signal) {
        self.dead.push(victim);
        send(victim, signal);
    }

    fn measure(&mut self) -> (usize, u64) {
        self.live.await_ready_workers("four workers", |now| now.len() == 4);
        (descriptors(self.live.pid()), status(self.live.pid(), "VmRSS").expect("its memory"))
    }
}

#[test]
fn soak() {
    let seconds =
        std::env::var("FAULT_SOAK_SECONDS").map_or(40.0, |seconds| seconds.parse().expect("FAULT_SOAK_SECONDS is a number"));
    let rate = if cfg!(debug_assertions) { 200.0 } else { 2_000.0 };
    let [quiet, reloading, chaos, after] = PARTS.map(|part| Duration::from_secs_f64(part * seconds));
    let pace = Duration::from_secs_f64((seconds / 240.0).clamp(0.3, 3.0));
    let mut soak = Soak::start(1);
    // What memory the endpoints need they take when they are first used.
    soak.crowd();
    let first = soak.phase(quiet, rate, Mode::New, Duration::from_millis(100), |_| ());
    for mode in [Mode::New, Mode::KeepAlive, Mode::Post16k] {
        let report = soak.phase(reloading / 3, rate, mode, pace, Soak::reload);
        assert!(report.lost.is_empty(), "{mode:?}: lost over reloads: {}", report.classes());
    }
    let (open, memory) = soak.measure();
    let chaotic = soak.phase(chaos, rate, Mode::New, Duration::from_millis(500), Soak::chaos);
    // What is under way ends, and slots that wait for their next attempt get it.
    soak.live.wait("the end of all reloads", |lines| {
        let count = |part: &str| lines.iter().filter(|line| line.contains(part)).count();
        (count("reload begins") == count("reload finished") + count("reload failed")).then_some(())
    });
    // The repair of what kept failing does not wait for the old failures.
    assert_eq!(soak.live.reload(PATIENCE), Ok(()));
    soak.measure();
    let last = soak.phase(after, rate, Mode::New, Duration::from_millis(100), |_| ());
    assert!(
        first.lost.is_empty() && last.lost.is_empty(),
        "lost while nothing happened: {}, {}",
        first.classes(),
        last.classes()
    );
    let pid = soak.live.pid();
    soak.live.wait("no more descriptors than before", |_| (descriptors(pid) <= open).then_some(()));
    let (_, later) = soak.measure();
    let grown = later.saturating_sub(memory);
    let found = format!(
        "{seconds} s: {} requests, {} lost with killed workers ({}), {} reloads and {} broken ones, {} faults, {grown} KiB more memory, slowest \
         {} ms at first and {} ms at last",
        soak.sent,
        soak.lost,
        chaotic.classes(),
        soak.reloads[0],
        soak.reloads[1],
        soak.faults,
        first.slowest.as_millis(),
        last.slowest.as_millis()
    );
    verdict("soak", grown < GROWTH, &found);
    soak.live.audit();
}
