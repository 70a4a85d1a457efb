//! The script of a trial: warm up, a light probe for the demands, then a search for the highest rate held within the objective.
//! Decides everything about the load and nothing about how it is played: that is the [`Stage`].

use std::time::Duration;

use crate::stats::PackedLatencies;
use crate::study::queueing::{Bounds, Demand};
use crate::study::{
    Batch, Candidate, CoreShare, Decision, Ending, Flag, Judge, LightNote, Measurement, Pace, ProbeNote, RateSearch, Slo,
    Suggestion, Verdict, Warmup, Window,
};
use crate::tune::{Step, TrialError};
use crate::units::Rate;

/// A running candidate that load can be put on.
pub trait Stage {
    /// Plays `probe`, asking `decide` about every batch after settling, until it says stop or the time is up. The window covers what came
    /// after settling. Returns when nothing is outstanding any more, or after `probe.drain`.
    fn probe(&mut self, probe: &Probe, decide: &mut dyn FnMut(&Batch) -> Decision) -> Result<Window, TrialError>;

    /// Proportional set size of all workers now, bytes.
    fn memory(&mut self) -> Result<u64, TrialError>;

    /// Seconds since the candidate was ordered to start.
    fn elapsed(&mut self) -> f64;
}

/// A load to play. Spans are in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Probe {
    /// How requests arrive.
    pub load: Load,
    /// How long it plays before anything counts.
    pub settle: f64,
    /// The longest it plays after that.
    pub seconds: f64,
    /// How long outstanding requests are awaited, without load, after it.
    pub drain: f64,
    /// How long a batch is.
    pub batch: f64,
    /// A request that takes longer, from the moment it was due, is late.
    pub late: Duration,
}

/// How requests arrive.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Load {
    /// This many clients, each sending its next request when the last was answered.
    Closed {
        /// How many.
        clients: u32,
    },
    /// The recording's requests in their order at this mean rate, whatever the answers; how single arrivals lie around it is the stage's.
    Open {
        /// Requests a second.
        rate: Rate,
    },
}

/// What all trials of a study have in common.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Terms {
    /// What must hold.
    pub slo: Slo,
    /// How long things take.
    pub pace: Pace,
    /// Cores the application may use.
    pub cores: u16,
}

/// The search starts a little below the bound: above it a collapsed server may not recover.
const BELOW_BOUND: f64 = 0.92;
const BELOW_EXPECTED: f64 = 0.97;
const FIRST_STEP: f64 = 0.12;
/// A bound from the light probe counts with this margin: saturated cores need less CPU a request than lightly used ones (8 % less seen with
/// gevent), so what is measured lightly is no bound by itself.
const LIGHT_MARGIN: f64 = 1.25;
/// Predictions are trusted up to this much above the light probe's bound.
const TRUSTED: f64 = 1.1;
/// Share of the latency bound by which the generator may be late, and what it may always be (scheduling on a busy host), seconds.
const LATENESS: f64 = 0.05;
const LATENESS_ALWAYS: f64 = 0.005;
const STEAL: f64 = 0.02;
/// Share of all cores that programs beside the application and the generator may use.
const OTHERS: f64 = 0.1;
/// How busy the light probe keeps the cores the workers can use, and with how many clients at most.
const LIGHT: f64 = 0.4;
const MOST_CLIENTS: f64 = 256.0;

/// Measures the candidate on `stage`.
pub fn measure(
    stage: &mut dyn Stage,
    terms: &Terms,
    suggestion: &Suggestion,
    watch: &mut (dyn FnMut(Step) + Send),
) -> Result<Measurement, TrialError> {
    Script { stage, terms, suggestion, watch, probes: Vec::new(), flags: Vec::new(), memory: 0, only_disturbed: true }.run()
}

struct Script<'a> {
    stage: &'a mut dyn Stage,
    terms: &'a Terms,
    suggestion: &'a Suggestion,
    watch: &'a mut (dyn FnMut(Step) + Send),
    probes: Vec<ProbeNote>,
    flags: Vec<Flag>,
    memory: u64,
    /// No probe of the search ran in peace.
    only_disturbed: bool,
}

impl Script<'_> {
    fn run(mut self) -> Result<Measurement, TrialError> {
        let (clients, settle) = self.warm_up()?;
        (self.watch)(Step::Light);
        let timing = self.terms.pace.timing();
        let probe = Probe { settle, ..self.closed(clients, timing.light) };
        let window = self.stage.probe(&probe, &mut |_| Decision::GoOn)?;
        self.note(&window);
        self.memory = self.stage.memory()?;
        let light = self.describe(&window);
        let note = LightNote { throughput: light.throughput, latencies: PackedLatencies::of(&window.latencies) };
        let inside = f64::from(clients).min(self.candidate().slots() as f64);
        let time_in_worker = if light.throughput > 0.0 { inside / light.throughput } else { 0.0 };
        let (mut measured, capacity, ending) = match self.hopeless(&light, time_in_worker) {
            Some(ending) => (light, 0.0, ending),
            None => match self.search(&light, time_in_worker)? {
                Some((window, rate)) => (self.describe(&window), rate, Ending::Held),
                // Nobody knows what it would have held in peace.
                None if self.only_disturbed => {
                    let doubts: Vec<&str> = self.flags.iter().map(|flag| flag.words()).collect();
                    let reason = format!("could not be measured: {}", doubts.join(", "));
                    return Err(TrialError::Failed { reason, seconds: self.stage.elapsed() });
                }
                None => (light, 0.0, Ending::NothingHeld),
            },
        };
        measured.capacity = capacity;
        measured.ending = ending;
        measured.time_in_worker = time_in_worker;
        measured.memory_bytes = self.memory;
        measured.light = Some(note);
        measured.probes = self.probes;
        measured.flags = self.flags;
        measured.seconds = self.stage.elapsed();
        Ok(measured)
    }

    /// Returns how many clients make the light probe, and how long they take to fall out of step.
    fn warm_up(&mut self) -> Result<(u32, f64), TrialError> {
        (self.watch)(Step::WarmingUp);
        let timing = self.terms.pace.timing();
        let mut warmup = Warmup::new(timing);
        let window = self.stage.probe(&self.closed(self.few_clients(), timing.warmup_cap), &mut |batch| warmup.observe(batch))?;
        if !warmup.is_steady() {
            self.flags.push(Flag::NotSteady);
        }
        self.note(&window);
        let settle = (2.0 * window.latencies.quantile(0.9)).min(timing.light);
        Ok((self.light_clients(window.workers_cpu / window.seconds.max(1e-3)), settle))
    }

    /// Why the light probe already settles the matter, if it does.
    fn hopeless(&self, light: &Measurement, time_in_worker: f64) -> Option<Ending> {
        let answered = light.throughput > 0.0;
        if !answered && light.errors > 0.0 {
            Some(Ending::OnlyErrors)
        } else if light.errors > self.terms.slo.error_share() && light.errors_by_kind.values().sum::<u64>() > 1 {
            Some(Ending::Errors)
        } else if !answered || light.bounded > self.terms.slo.latency().as_secs_f64() {
            Some(Ending::TooSlow)
        } else {
            let bound = LIGHT_MARGIN * self.bound(light, time_in_worker);
            self.suggestion.rival.filter(|rival| bound < *rival).map(|_| Ending::Outclassed(bound))
        }
    }

    /// The highest rate held and its window.
    fn search(&mut self, light: &Measurement, time_in_worker: f64) -> Result<Option<(Window, f64)>, TrialError> {
        let timing = self.terms.pace.timing();
        let mut search = self.rates(light, self.bound(light, time_in_worker));
        let settle = timing.settle.max(2.0 * light.bounded).min(timing.probe_cap);
        let mut best = None;
        let mut may_repeat = true;
        while let Some((offered, rate)) = search.offer().and_then(|offered| Some((offered, Rate::new(offered)?))) {
            (self.watch)(Step::Probing(offered));
            let mut judge = Judge::new(&self.terms.slo, timing, self.candidate(), offered);
            let probe = Probe { load: Load::Open { rate }, settle, ..self.closed(0, timing.probe_cap) };
            let window = self.stage.probe(&probe, &mut |batch| judge.observe(batch))?;
            let verdict = judge.verdict();
            let crashed = self.note(&window);
            let stuck = window.unanswered > 0;
            let disturbed = self.disturbance(&window);
            let why = match verdict {
                Verdict::Held => None,
                Verdict::Missed(miss) => {
                    Some(disturbed.map_or(miss.words().to_owned(), |flag| format!("{}; {}", miss.words(), flag.words())))
                }
            };
            let held = verdict == Verdict::Held;
            let latencies = Some(PackedLatencies::of(&window.latencies));
            self.probes.push(ProbeNote { rate: offered, held, why, latencies });
            if held {
                self.memory = self.memory.max(self.stage.memory()?);
                // What was really offered, not what was asked for: in a short window they differ by several percent.
                let reached = judge.offered();
                if best.as_ref().is_none_or(|(_, rate)| *rate < reached) {
                    best = Some((window, reached));
                }
            }
            // A disturbance can only make a probe fail, so only failures are tried again, and only once.
            if may_repeat && disturbed.is_some() && !held && !stuck {
                may_repeat = false;
                continue;
            }
            if let Some(flag) = disturbed {
                self.flag(flag);
            }
            self.only_disturbed &= disturbed.is_some();
            search.record(offered, held);
            if stuck {
                self.flag(Flag::DoesNotRecover);
            }
            if crashed || stuck {
                break;
            }
        }
        if search.missed().is_none() {
            self.flag(Flag::NotBracketed);
        }
        Ok(best)
    }

    fn rates(&self, light: &Measurement, bound: f64) -> RateSearch {
        let timing = self.terms.pace.timing();
        let bound = if bound.is_finite() { bound } else { light.throughput };
        // A step just inside the precision: two probes are then enough where the expectation is right.
        let narrow = (timing.precision - 1.0) * 0.99;
        match self.suggestion.expected {
            Some(expected) => {
                RateSearch::new(BELOW_EXPECTED * expected.min(TRUSTED * bound), narrow, timing.precision, timing.probes)
            }
            None => RateSearch::new(BELOW_BOUND * bound, FIRST_STEP, timing.precision, timing.probes),
        }
    }

    fn bound(&self, light: &Measurement, time_in_worker: f64) -> f64 {
        let beside = light.generator_cpu / light.throughput.max(f64::MIN_POSITIVE);
        let demand = Demand { cpu: light.cpu_seconds_per_request, beside, time_in_worker };
        Bounds::new(self.candidate(), f64::from(self.terms.cores), demand).tightest()
    }

    /// Notes a crash, and says whether there was one.
    fn note(&mut self, window: &Window) -> bool {
        if window.crashes > 0 {
            self.flag(Flag::WorkerCrashed);
        }
        window.crashes > 0
    }

    fn flag(&mut self, flag: Flag) {
        if !self.flags.contains(&flag) {
            self.flags.push(flag);
        }
    }

    fn disturbance(&self, window: &Window) -> Option<Flag> {
        let allowed = (LATENESS * self.terms.slo.latency().as_secs_f64()).max(LATENESS_ALWAYS);
        if window.generator_short {
            Some(Flag::GeneratorShort)
        } else if window.lateness_p99 > allowed {
            Some(Flag::GeneratorLate)
        } else {
            let stolen = window.cores.iter().any(|core| core.steal > STEAL).then_some(Flag::Steal);
            stolen.or_else(|| (others(window) > OTHERS).then_some(Flag::OtherPrograms))
        }
    }

    fn describe(&self, window: &Window) -> Measurement {
        Measurement::of_window(window, &self.terms.slo, self.candidate())
    }

    fn closed(&self, clients: u32, seconds: f64) -> Probe {
        let timing = self.terms.pace.timing();
        let (drain, batch) = (timing.drain, timing.batch);
        Probe { load: Load::Closed { clients }, settle: 0.0, seconds, drain, batch, late: self.terms.slo.latency() }
    }

    /// Enough clients to keep every core and a pair of workers awake, too few to queue.
    fn few_clients(&self) -> u32 {
        u32::from(self.terms.cores).max(2)
    }

    /// As many clients as make the workers [`LIGHT`] busy, by what the few of the warm-up cost: where requests mostly wait, a few clients send too
    /// few requests to measure anything by.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most MOST_CLIENTS")]
    fn light_clients(&self, cpu: f64) -> u32 {
        let few = self.few_clients();
        if cpu <= 0.0 {
            return few;
        }
        let wanted = LIGHT * f64::from(self.terms.cores.min(self.candidate().workers.get()));
        let half = self.candidate().slots() as f64 / 2.0;
        ((f64::from(few) * wanted / cpu).min(half).min(MOST_CLIENTS) as u32).max(few)
    }

    fn candidate(&self) -> Candidate {
        self.suggestion.candidate
    }
}

/// The share of all cores that neither the workers nor the generator used.
fn others(window: &Window) -> f64 {
    let busy: f64 = window.cores.iter().map(CoreShare::busy).sum();
    let ours = (window.workers_cpu + window.generator_cpu) / window.seconds.max(1e-3);
    (busy - ours) / window.cores.len().max(1) as f64
}

#[cfg(test)]
mod tests;
