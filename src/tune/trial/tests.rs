//! Trials on a simulated server: a number of parallel, equally fast stations with one queue, then a wait that takes no station.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::*;
use crate::stats::Latencies;
use crate::study::simulation::Chance;
use crate::study::{Candidate, Challenged, CoreShare, Ending, Flag, Label, Measurement, Purpose};
use crate::units::{Connections, Workers};

const MICROS: f64 = 1e6;

struct Server {
    stations: u16,
    service: f64,
    /// CPU time of a request, seconds, where its service is more than that: of a pool of connections to something else.
    cpu: Option<f64>,
    wait: f64,
    /// A share of requests waits for so many seconds instead.
    slow: (f64, f64),
    /// Share of requests that fail.
    failing: f64,
    /// From this many outstanding requests on, service takes five times as long until the server is empty.
    collapses_at: u64,
    steal: f64,
    crashes: u32,
    /// Bytes of memory every request leaves behind.
    leaks: u64,
    accepted: u64,
    generator: f64,
    /// Mean share of the cores' time in which they wait for a disk once there is load.
    disk: f64,
    /// Cores of the host.
    cores: u16,
    /// CPU time that a request needs of another program, seconds.
    beside: f64,
    /// From when to when programs that have nothing to do with it use how many cores.
    strangers: Vec<(f64, f64, f64)>,
    chance: Chance,
    now: f64,
    collapsed: bool,
    free: BinaryHeap<Reverse<u64>>,
    /// (end, due, failed) of requests that are under way, in microseconds.
    under_way: BinaryHeap<Reverse<(u64, u64, bool)>>,
    rates: Vec<f64>,
}

impl Server {
    fn new(stations: u16, service: f64, wait: f64) -> Self {
        let free = (0..stations).map(|_| Reverse(0)).collect();
        let (failing, collapses_at, steal, crashes, leaks, accepted, generator) = (0.0, u64::MAX, 0.0, 0, 0, 0, 0.0);
        let (disk, cores, beside, strangers) = (0.0, stations, 0.0, Vec::new());
        let (chance, now, collapsed, under_way, rates) = (Chance(1), 0.0, false, BinaryHeap::new(), Vec::new());
        Self {
            stations,
            service,
            cpu: None,
            wait,
            slow: (0.0, 0.0),
            failing,
            collapses_at,
            steal,
            crashes,
            leaks,
            accepted,
            generator,
            disk,
            cores,
            beside,
            strangers,
            chance,
            now,
            collapsed,
            free,
            under_way,
            rates,
        }
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "seconds of a test in microseconds")]
    fn accept(&mut self, due: f64) {
        self.accepted += 1;
        self.collapsed |= self.under_way.len() as u64 > self.collapses_at;
        let slower = if self.collapsed { 5.0 } else { 1.0 };
        let Reverse(free) = self.free.pop().unwrap();
        let end = (due * MICROS).max(free as f64) + self.service * slower * MICROS * (0.5 + self.chance.even());
        self.free.push(Reverse(end as u64));
        let failed = self.chance.even() < self.failing;
        let is_slow = self.slow.0 > 0.0 && self.chance.even() < self.slow.0;
        let wait = if is_slow { self.slow.1 } else { self.wait };
        self.under_way.push(Reverse(((end + wait * MICROS) as u64, (due * MICROS) as u64, failed)));
    }

    /// How the cores were used since `from`, and for `used` seconds for the requests.
    fn shares(&self, from: f64, used: f64) -> Vec<CoreShare> {
        let overlap = |(since, until, cores): &(f64, f64, f64)| (until.min(self.now) - since.max(from)).max(0.0) * cores;
        let share =
            (used + self.strangers.iter().map(overlap).sum::<f64>()) / (self.now - from).max(1e-3) / f64::from(self.cores);
        let iowait = if self.accepted > 0 { self.disk } else { 0.0 };
        (0..self.cores).map(|cpu| CoreShare { cpu, user: share, iowait, steal: self.steal, ..CoreShare::default() }).collect()
    }

    /// The requests under way that came since `start`: nobody waits for those of an earlier load any more.
    fn own(&self, start: f64) -> impl Iterator<Item = (u64, u64, bool)> {
        self.under_way.iter().map(|request| request.0).filter(move |request| is_own(request, start))
    }

    /// The requests that end until `now`.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "seconds of a test in microseconds")]
    fn finish(&mut self) -> Vec<(u64, u64, bool)> {
        let now = (self.now * MICROS) as u64;
        let mut ended = Vec::new();
        while let Some(Reverse(request)) = self.under_way.peek().copied().filter(|request| request.0.0 <= now) {
            self.under_way.pop();
            ended.push(request);
        }
        if self.under_way.is_empty() {
            self.collapsed = false;
        }
        ended
    }
}

fn is_own((_, due, _): &(u64, u64, bool), start: f64) -> bool {
    *due as f64 + 1.0 >= start * MICROS
}

impl Stage for Server {
    fn probe(&mut self, probe: &Probe, decide: &mut dyn FnMut(&Batch) -> Decision) -> Result<Window, TrialError> {
        const TICK: f64 = 0.001;
        if let Load::Open { rate } = probe.load {
            self.rates.push(rate.per_second());
        }
        let (mut window, mut batch, start) = (Window::default(), Batch::default(), self.now);
        let mut next = self.now;
        while self.now - start < probe.settle + probe.seconds {
            let begin = self.now;
            self.now += TICK;
            let counts = self.now - start > probe.settle;
            let mut due = 0;
            match probe.load {
                Load::Open { rate } => {
                    while next < self.now {
                        self.accept(next.max(begin));
                        next -= self.chance.even().ln() / rate.per_second();
                        due += 1;
                    }
                }
                Load::Closed { clients } => {
                    while self.own(start).count() < clients as usize {
                        self.accept(begin);
                        due += 1;
                    }
                }
            }
            let ended = self.finish();
            if !counts {
                continue;
            }
            (batch.seconds, batch.due, window.seconds) = (batch.seconds + TICK, batch.due + due, window.seconds + TICK);
            for (end, started, failed) in ended.into_iter().filter(|request| is_own(request, start)) {
                let latency = Duration::from_micros(end - started);
                batch.completed += 1;
                batch.late += u64::from(failed || latency > probe.late);
                batch.failed += u64::from(failed);
                batch.cpu_seconds += self.cpu.unwrap_or(self.service);
                if failed {
                    *window.errors.entry("HTTP 500".to_owned()).or_default() += 1;
                } else {
                    window.completed += 1;
                    window.latencies.record(latency);
                }
            }
            if batch.seconds + TICK / 2.0 >= probe.batch {
                let overdue = |(_, due, _): &(u64, u64, bool)| self.now - *due as f64 / MICROS > probe.late.as_secs_f64();
                batch.outstanding = self.own(start).count() as u64;
                batch.overdue = self.own(start).filter(overdue).count() as u64;
                window.workers_cpu += batch.cpu_seconds;
                if decide(&std::mem::take(&mut batch)) == Decision::Stop {
                    break;
                }
            }
        }
        window.crashes = self.crashes;
        window.generator_cpu = self.generator * window.completed as f64;
        let used = window.workers_cpu + window.generator_cpu + self.beside * window.completed as f64;
        window.cores = self.shares(self.now - window.seconds, used);
        let last = self.under_way.iter().map(|request| request.0.0).max().unwrap_or(0) as f64 / MICROS + 0.001;
        self.now = last.clamp(self.now, self.now + probe.drain);
        for (end, started, _) in self.finish().into_iter().filter(|request| is_own(request, start) && !request.2) {
            window.latencies.record(Duration::from_micros(end - started));
        }
        window.unanswered = self.own(start).count() as u64;
        (0..window.unanswered).for_each(|_| window.latencies.record(Duration::from_secs_f64(probe.drain)));
        Ok(window)
    }

    fn rest(&mut self, seconds: f64) -> Result<Window, TrialError> {
        let from = self.now;
        self.now += seconds;
        Ok(Window { seconds, cores: self.shares(from, 0.0), ..Window::default() })
    }

    fn memory(&mut self) -> Result<u64, TrialError> {
        Ok((100 << 20) + self.accepted * self.leaks)
    }

    fn elapsed(&mut self) -> f64 {
        self.now
    }
}

fn suggestion(expected: Option<f64>, rival: Option<f64>) -> Suggestion {
    let candidate = Candidate::new(Workers::new(4).unwrap(), Connections::new(100).unwrap());
    Suggestion { candidate, purpose: Purpose::Baseline, task: Task::Measure, expected, rival }
}

fn trial(server: &mut Server, pace: Pace, suggestion: &Suggestion) -> Measurement {
    let terms = terms(server.cores, pace);
    match run(server, &terms, suggestion, &mut |_| ()).unwrap() {
        Outcome::Measured(found) => *found,
        other @ (Outcome::Challenged(_) | Outcome::Failed { .. }) => panic!("{other:?}"),
    }
}

fn terms(cores: u16, pace: Pace) -> Terms {
    Terms { slo: "p90<700ms,errors<0.1%".parse().unwrap(), pace, cores, cpu: f64::from(cores), cores_a_worker: 1.0 }
}

fn challenge(server: &mut Server, pace: Pace, rate: f64) -> Challenged {
    let suggestion = Suggestion { task: Task::Challenge { rate }, ..suggestion(None, None) };
    let terms = terms(server.stations, pace);
    match run(server, &terms, &suggestion, &mut |_| ()).unwrap() {
        Outcome::Challenged(found) => found,
        other @ (Outcome::Measured(_) | Outcome::Failed { .. }) => panic!("{other:?}"),
    }
}

#[test]
fn finds_the_capacity_of_a_busy_server() {
    for seed in 0..10 {
        for (pace, seconds) in [(Pace::Quick, 20.0), (Pace::Normal, 75.0)] {
            let mut server = Server { chance: Chance(seed), ..Server::new(2, 0.01, 0.05) };
            let found = trial(&mut server, pace, &suggestion(None, None));
            let (low, high) = if pace == Pace::Quick { (165.0, 220.0) } else { (175.0, 210.0) };
            assert!((low..=high).contains(&found.capacity), "{pace:?} {seed}: {} {:?}", found.capacity, found.probes);
            assert!(found.seconds < seconds, "{pace:?} {seed}: {} s", found.seconds);
            assert_eq!((found.ending, found.flags.as_slice()), (Ending::Held, [].as_slice()));
            assert!((found.cpu_seconds_per_request.unwrap() - 0.01).abs() < 1e-4);
        }
    }
}

/// 198.5 requests a second are held for long (half an hour of simulation). At lower rates there is a bias: see `capacity`.
#[test]
fn the_capacity_is_what_was_answered_at_the_highest_rate_held_and_at_this_rate_without_bias() {
    for expected in [None, Some(198.5), Some(210.0)] {
        let logs: Vec<f64> = (0..30)
            .map(|seed| {
                let mut server = Server { chance: Chance::new(seed), ..Server::new(2, 0.01, 0.05) };
                let found = trial(&mut server, Pace::Normal, &suggestion(expected, None));
                let held = found.probes.iter().filter(|probe| probe.held).map(|probe| probe.rate).max_by(f64::total_cmp);
                let described = found.capacity.to_bits() == found.throughput.to_bits();
                assert!(described && (found.capacity / held.unwrap() - 1.0).abs() < 0.15, "{} {:?}", found.capacity, held);
                (found.capacity / 198.5).ln()
            })
            .collect();
        let (bias, sd) = (crate::stats::mean(&logs).unwrap(), crate::stats::deviation(&logs).unwrap());
        assert!(bias.abs() < 0.012 && sd < 0.03, "{expected:?}: {bias} ± {sd}");
    }
}

#[test]
fn a_rare_latency_that_few_answers_decide_is_told() {
    let flags = |slo: &str| {
        let terms = Terms { slo: slo.parse().unwrap(), ..terms(2, Pace::Normal) };
        let found = run(&mut Server::new(2, 0.2, 0.0), &terms, &suggestion(None, None), &mut |_| ()).unwrap();
        let Outcome::Measured(found) = found else { panic!("{found:?}") };
        assert!(found.capacity > 4.0 && found.is_valid(), "{slo}: {:?}", found.probes);
        found.flags
    };
    assert_eq!((flags("p90<900ms"), flags("p99<900ms")), (vec![], vec![Flag::FewRequests]));
}

#[test]
fn requests_that_mostly_wait_are_measured_by_many() {
    let found = trial(&mut Server::new(2, 0.01, 0.4), Pace::Quick, &suggestion(None, None));
    assert!((160.0..=220.0).contains(&found.capacity), "{:?}", found.probes);
    assert!((found.time_in_worker.unwrap() - 0.41).abs() < 0.02, "{:?}", found.time_in_worker);
}

/// A program in Go, and one in Node: which of them a command is, is not known before.
#[test]
fn a_worker_of_a_command_may_keep_all_cores_busy_or_one() {
    let candidate = Candidate::new(Workers::new(1).unwrap(), Connections::new(100).unwrap());
    let terms = Terms { cores_a_worker: f64::INFINITY, ..terms(8, Pace::Quick) };
    for (threads, low, high) in [(8, 700.0, 850.0), (1, 75.0, 110.0)] {
        let mut server = Server { cores: 8, ..Server::new(threads, 0.01, 0.05) };
        let found = run(&mut server, &terms, &Suggestion { candidate, ..suggestion(None, None) }, &mut |_| ()).unwrap();
        let Outcome::Measured(found) = found else { panic!("{found:?}") };
        assert!((low..high).contains(&found.capacity), "{threads}: {:?}", found.probes);
        assert_eq!((found.label() == Label::Cpu, found.flags.as_slice()), (threads == 8, [].as_slice()), "{threads}");
    }
}

#[test]
fn a_good_expectation_saves_probes() {
    let blind = trial(&mut Server::new(2, 0.01, 0.05), Pace::Quick, &suggestion(None, None));
    let guided = trial(&mut Server::new(2, 0.01, 0.05), Pace::Quick, &suggestion(Some(195.0), None));
    assert!(guided.probes.len() < blind.probes.len() || guided.probes.len() <= 3, "{:?} {:?}", guided.probes, blind.probes);
    assert_eq!(guided.label(), Label::Cpu);
}

#[test]
fn a_plainly_weaker_candidate_ends_after_the_light_probe() {
    let found = trial(&mut Server::new(2, 0.01, 0.05), Pace::Normal, &suggestion(None, Some(400.0)));
    assert!(matches!(found.ending, Ending::Outclassed(bound) if (200.0..300.0).contains(&bound)));
    assert!(found.probes.is_empty() && found.capacity == 0.0 && found.seconds < 12.0);
}

#[test]
fn a_light_bound_just_below_the_rival_settles_nothing() {
    let found = trial(&mut Server::new(2, 0.01, 0.05), Pace::Normal, &suggestion(None, Some(225.0)));
    assert_eq!(found.ending, Ending::Held);
}

#[test]
fn an_application_that_is_slow_or_broken_ends_after_the_light_probe() {
    let slow = trial(&mut Server::new(2, 0.01, 1.0), Pace::Normal, &suggestion(None, None));
    assert_eq!(slow.ending, Ending::TooSlow);
    let broken = trial(&mut Server { failing: 1.0, ..Server::new(2, 0.01, 0.05) }, Pace::Normal, &suggestion(None, None));
    assert_eq!((broken.ending, broken.errors), (Ending::OnlyErrors, Some(1.0)));
    let flaky = trial(&mut Server { failing: 0.1, ..Server::new(2, 0.01, 0.05) }, Pace::Normal, &suggestion(None, None));
    assert_eq!(flaky.ending, Ending::Errors);
}

#[test]
fn a_server_that_collapses_is_emptied_before_the_next_rate() {
    let mut server = Server { collapses_at: 60, ..Server::new(2, 0.01, 0.05) };
    let found = trial(&mut server, Pace::Normal, &suggestion(Some(300.0), None));
    assert!((150.0..=215.0).contains(&found.capacity), "{:?}", found.probes);
}

#[test]
fn a_disturbed_failure_is_tried_again_and_then_flagged() {
    let mut server = Server { steal: 0.05, ..Server::new(2, 0.01, 0.05) };
    let found = trial(&mut server, Pace::Normal, &suggestion(None, None));
    assert!(found.flags.contains(&Flag::Steal) && !found.is_valid());
    let missed = found.probes.iter().find(|probe| !probe.held).unwrap().rate;
    assert_eq!(server.rates.iter().filter(|rate| rate.to_bits() == missed.to_bits()).count(), 3);
}

#[test]
fn a_trial_in_which_nothing_was_held_for_a_disturbance_is_void_and_no_failure() {
    // A fifth of the requests take longer than a tenth may.
    let mut server = Server { steal: 0.05, ..Server::new(2, 0.54, 0.0) };
    let found = trial(&mut server, Pace::Quick, &suggestion(None, None));
    assert_eq!((found.capacity, found.ending), (0.0, Ending::NothingHeld), "{:?}", found.probes);
    assert!(found.is_void() && found.flags.contains(&Flag::Steal), "{:?}", found.flags);
}

#[test]
fn a_crash_ends_the_trial() {
    let found = trial(&mut Server { crashes: 1, ..Server::new(2, 0.01, 0.05) }, Pace::Normal, &suggestion(None, None));
    assert_eq!(found.probes.len(), 1);
    assert!(found.flags.contains(&Flag::WorkerCrashed) && !found.is_usable() && found.is_valid());
    let challenged = challenge(&mut Server { crashes: 1, ..Server::new(2, 0.01, 0.05) }, Pace::Normal, 50.0);
    assert!(!challenged.holds && challenged.why.as_deref() == Some("worker crashed"), "{challenged:?}");
}

#[test]
fn an_interruption_ends_the_trial_at_once() {
    struct Cut(Server);
    impl Stage for Cut {
        fn probe(&mut self, probe: &Probe, decide: &mut dyn FnMut(&Batch) -> Decision) -> Result<Window, TrialError> {
            match probe.load {
                Load::Open { .. } => Err(TrialError::Interrupted),
                Load::Closed { .. } => self.0.probe(probe, decide),
            }
        }
        fn rest(&mut self, seconds: f64) -> Result<Window, TrialError> {
            self.0.rest(seconds)
        }
        fn memory(&mut self) -> Result<u64, TrialError> {
            self.0.memory()
        }
        fn elapsed(&mut self) -> f64 {
            self.0.elapsed()
        }
    }
    let terms = terms(2, Pace::Quick);
    let ended = run(&mut Cut(Server::new(2, 0.01, 0.05)), &terms, &suggestion(None, None), &mut |_| ());
    assert_eq!(ended, Err(TrialError::Interrupted));
}

#[test]
fn a_challenge_is_decided_by_one_probe() {
    for (pace, seconds) in [(Pace::Quick, 7.0), (Pace::Normal, 16.0)] {
        let held = challenge(&mut Server::new(2, 0.01, 0.05), pace, 150.0);
        assert!(held.holds && held.why.is_none() && held.seconds < seconds, "{held:?}");
        let mut server = Server::new(2, 0.01, 0.05);
        let missed = challenge(&mut server, pace, 260.0);
        assert!(!missed.holds && missed.why.is_some() && missed.flags.is_empty(), "{missed:?}");
        assert_eq!(server.rates, [260.0]);
    }
}

#[test]
fn a_disturbed_challenge_is_tried_again_and_then_flagged_only_if_it_failed() {
    let mut server = Server { steal: 0.05, ..Server::new(2, 0.01, 0.05) };
    assert_eq!(challenge(&mut server, Pace::Quick, 260.0).flags, [Flag::Steal]);
    assert_eq!(server.rates.len(), 3);
    let held = challenge(&mut Server { steal: 0.05, ..Server::new(2, 0.01, 0.05) }, Pace::Quick, 150.0);
    assert!(held.holds && held.flags.is_empty());
}

#[test]
fn a_fixed_rate_is_served_for_its_latencies() {
    for (rate, capacity, ending) in [(150.0, 150.0, Ending::Held), (260.0, 0.0, Ending::NothingHeld)] {
        let suggestion = Suggestion { task: Task::Serve { rate }, ..suggestion(None, None) };
        let found = trial(&mut Server::new(2, 0.01, 0.05), Pace::Quick, &suggestion);
        assert_eq!((found.capacity, found.ending, found.probes.len()), (capacity, ending, 1));
        assert!(found.p90.is_some_and(|latency| latency > 0.05));
        assert!(found.time_in_worker.is_some_and(|time| (0.05..0.07).contains(&time)), "{:?}", found.time_in_worker);
    }
}

#[test]
fn an_application_slower_than_any_bound_is_given_up_early() {
    for service in [20.0, 500.0] {
        let slow = trial(&mut Server::new(2, service, 0.05), Pace::Normal, &suggestion(None, None));
        assert_eq!((slow.ending, slow.capacity), (Ending::TooSlow, 0.0));
        assert!(slow.seconds < 20.0 && slow.probes.is_empty(), "{} s", slow.seconds);
    }
    let challenged = challenge(&mut Server::new(2, 500.0, 0.05), Pace::Quick, 10.0);
    assert!(!challenged.holds && challenged.why.is_some());
}

#[test]
fn memory_that_keeps_growing_is_flagged_with_its_pace() {
    let found = trial(&mut Server { leaks: 100 << 10, ..Server::new(2, 0.01, 0.05) }, Pace::Normal, &suggestion(None, None));
    assert!(found.flags.contains(&Flag::Leaking) && found.is_valid(), "{:?}", found.flags);
    // 100 KiB a request, at somewhat less than 190 requests a second.
    let growth = found.memory_growth.unwrap() / f64::from(100 << 10);
    assert!((60.0..=200.0).contains(&growth), "{growth}");
    let steady = trial(&mut Server::new(2, 0.01, 0.05), Pace::Normal, &suggestion(None, None));
    assert!(!steady.flags.contains(&Flag::Leaking) && steady.memory_growth == Some(0.0));
}

#[test]
fn what_the_generator_cannot_offer_is_said_and_not_guessed() {
    let found = trial(&mut Server { generator: 0.008, ..Server::new(2, 0.01, 0.05) }, Pace::Quick, &suggestion(None, None));
    assert!(found.flags.contains(&Flag::GeneratorShort) && found.flags.contains(&Flag::NotBracketed), "{:?}", found.flags);
    assert!(found.capacity > 80.0 && !found.is_valid() && found.probes.len() == 1, "{:?}", found.probes);
}

#[test]
fn histograms_of_windows_add_up() {
    let mut server = Server::new(2, 0.01, 0.05);
    let probe = Probe {
        load: Load::Closed { clients: 2 },
        settle: 0.0,
        seconds: 1.0,
        drain: 1.0,
        batch: 0.25,
        late: Duration::from_secs(1),
    };
    let mut sum = Latencies::new();
    for _ in 0..2 {
        sum.add(&server.probe(&probe, &mut |_| Decision::GoOn).unwrap().latencies);
    }
    assert!((50..80).contains(&sum.count()), "{}", sum.count());
}

#[cfg(test)]
mod company;
#[cfg(test)]
mod light;
#[cfg(test)]
mod passing;
