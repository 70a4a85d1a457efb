//! What all tasks have in common: the warm-up, one judged probe at a fixed rate, and the two tasks that need no more than that.

use super::capacity::mean_latency;
use super::company::{Company, REST};
use super::gates::{disturbance, excuse, is_generator_spent};
use super::trend::{Trend, is_falling};
use super::{Load, Probe, Stage, Terms};
use crate::stats::PackedLatencies;
use crate::study::{
    Batch, Candidate, Challenged, Decision, Ending, Flag, Judge, Measurement, ProbeNote, Timing, Verdict, Warmup, Window,
};
use crate::tune::{Step, TrialError};
use crate::units::Rate;

/// How often a trial plays a failed probe again that was disturbed.
const REPEATS: u32 = 2;
/// An application that has answered nothing in time is given up after this long, seconds, and this many times the latency bound,
/// but not before this share of the longest warm-up: the first requests may load half the application.
const HOPELESS_AFTER: f64 = 3.0;
const HOPELESS_LATENCIES: f64 = 3.0;
const HOPELESS_SHARE: f64 = 0.5;
/// How long requests of the warm-up are awaited, seconds, beside twice the latency bound.
const WARM_UP_DRAIN: f64 = 1.0;
/// An application did not empty itself if more of all requests are left than may be late when the load has stopped, or than this share where the
/// rate was not held: a few that take long by nature are under way at any time.
const STUCK: f64 = 0.1;
/// How many usual probes long one is that looks at latencies.
const SERVING: f64 = 3.0;

/// A trial under way.
pub(super) struct Script<'a> {
    pub(super) stage: &'a mut dyn Stage,
    pub(super) terms: &'a Terms,
    pub(super) candidate: Candidate,
    pub(super) watch: &'a mut (dyn FnMut(Step) + Send),
    pub(super) memory: Trend,
    company: Company,
    /// Mean share of the cores' time in which a disk was waited for before there was load.
    waited_at_rest: Option<f64>,
    /// CPU per request, probe by probe.
    costs: Vec<f64>,
    probes: Vec<ProbeNote>,
    flags: Vec<Flag>,
    repeats_left: u32,
}

/// What a warm-up leaves.
pub(super) struct Warm {
    pub(super) window: Window,
    /// Not one request was answered in time.
    pub(super) hopeless: bool,
}

/// A probe and its verdict.
pub(super) struct Judged {
    pub(super) window: Window,
    pub(super) verdict: Verdict,
    /// What may have made it fail.
    pub(super) disturbed: Option<Flag>,
    /// Too few answers to decide by.
    scant: bool,
    /// The application did not empty itself when the load stopped.
    stuck: bool,
}

impl Judged {
    pub(super) fn held(&self) -> bool {
        self.verdict == Verdict::Held
    }

    /// What makes its verdict doubtful, whatever it is.
    fn doubt(&self) -> Option<Flag> {
        self.scant.then_some(Flag::FewRequests)
    }

    /// What makes it doubtful, disturbances among it.
    pub(super) fn doubts(&self) -> impl Iterator<Item = Flag> + use<> {
        self.disturbed.into_iter().chain(self.doubt())
    }

    /// Nothing after it can be believed.
    pub(super) const fn ends_the_trial(&self) -> bool {
        self.stuck || self.window.crashes > 0
    }

    /// The generator could hardly offer more.
    pub(super) fn spent_the_generator(&self) -> bool {
        is_generator_spent(&self.window)
    }

    fn why(&self) -> Option<String> {
        match self.verdict {
            Verdict::Held => None,
            Verdict::Missed(miss) => {
                Some(self.disturbed.map_or(miss.words().to_owned(), |flag| format!("{}; {}", miss.words(), flag.words())))
            }
        }
    }
}

impl<'a> Script<'a> {
    pub(super) fn new(
        stage: &'a mut dyn Stage,
        terms: &'a Terms,
        candidate: Candidate,
        watch: &'a mut (dyn FnMut(Step) + Send),
    ) -> Self {
        let (memory, company) = (Trend::default(), Company::default());
        let (costs, probes, flags) = (Vec::new(), Vec::new(), Vec::new());
        let (waited_at_rest, repeats_left) = (None, REPEATS);
        Self { stage, terms, candidate, watch, memory, company, waited_at_rest, costs, probes, flags, repeats_left }
    }

    /// Whether the candidate holds `rate`.
    pub(super) fn challenge(mut self, rate: Rate) -> Result<Challenged, TrialError> {
        let warm = self.warm_up_alone()?;
        let (holds, why) = if warm.hopeless {
            (false, Some(hopeless_ending(&warm.window).words()))
        } else {
            let settle = self.settle(warm.window.latencies.quantile(self.terms.slo.quantile().share()));
            let judged = self.judged(rate, settle, self.terms.pace.timing())?;
            if !judged.held() {
                self.flag_all(judged.disturbed);
            }
            self.flag_all(judged.doubt());
            (judged.held(), judged.why())
        };
        let crashed = self.flags.contains(&Flag::WorkerCrashed);
        let (holds, why) = if crashed { (false, Some(Flag::WorkerCrashed.words().to_owned())) } else { (holds, why) };
        let (seconds, memory_bytes) = (self.stage.elapsed(), self.memory.largest());
        Ok(Challenged { holds, why, seconds, flags: self.flags, probes: self.probes, memory_bytes })
    }

    /// How the candidate does at `rate`, from one long probe.
    pub(super) fn serve(mut self, rate: Rate) -> Result<Measurement, TrialError> {
        let warm = self.warm_up_alone()?;
        if warm.hopeless {
            return self.hopeless(&warm.window);
        }
        let usual = self.terms.pace.timing();
        let long = SERVING * usual.probe;
        let timing = Timing { probe: long, pass_from: long, probe_cap: long.max(usual.probe_cap), ..usual };
        let settle = self.settle(warm.window.latencies.quantile(self.terms.slo.quantile().share()));
        let judged = self.judged(rate, settle, timing)?;
        self.flag_all(judged.doubts());
        let (capacity, ending) = if judged.held() { (rate.per_second(), Ending::Held) } else { (0.0, Ending::NothingHeld) };
        let found = self.describe(&judged.window);
        // Without it nothing can be predicted of other candidates.
        let time_in_worker = mean_latency(&warm.window);
        Ok(self.finish(Measurement { capacity, ending, time_in_worker, ..found }))
    }

    /// Plays a light load until CPU per request is steady, or it is plain that nothing is answered in time. Where that may be the
    /// doing of a disturbance, it is tried once more, and then flagged.
    pub(super) fn warm_up(&mut self) -> Result<Warm, TrialError> {
        (self.watch)(Step::WarmingUp);
        self.rest()?;
        let first = self.warm_up_once()?;
        if self.doubt(&first).is_none() || first.window.crashes > 0 {
            return Ok(first);
        }
        // What the disturbed one did not become, the next one may.
        self.take_back(Flag::NotSteady);
        let again = self.warm_up_once()?;
        self.flag_all(self.doubt(&again));
        Ok(again)
    }

    /// The warm-up of a trial that has no other light load. Where other programs did something under it, another one tells whether
    /// they did it for the requests.
    fn warm_up_alone(&mut self) -> Result<Warm, TrialError> {
        let warm = self.warm_up()?;
        if self.company.is_known() && !warm.hopeless {
            let probe = self.closed(self.few_clients(), self.terms.pace.timing().light);
            let window = self.lightly(&probe, &mut |_| Decision::GoOn)?;
            self.note(&window);
        }
        Ok(warm)
    }

    fn doubt(&self, warm: &Warm) -> Option<Flag> {
        let hopeless = warm.hopeless.then(|| hopeless_ending(&warm.window))?;
        excuse(&warm.window, &self.terms.slo, hopeless)
    }

    fn warm_up_once(&mut self) -> Result<Warm, TrialError> {
        let (timing, latency) = (self.terms.pace.timing(), self.terms.slo.latency().as_secs_f64());
        let patience = HOPELESS_AFTER.max(HOPELESS_LATENCIES * latency).max(HOPELESS_SHARE * timing.warmup_cap);
        let (mut warmup, mut hopeless, mut seen) = (Warmup::new(timing), false, Batch::default());
        let usual = self.closed(self.few_clients(), timing.warmup_cap.max(patience));
        let probe = Probe { drain: usual.drain.min(WARM_UP_DRAIN + 2.0 * latency), ..usual };
        let window = self.lightly(&probe, &mut |batch: &Batch| {
            seen.seconds += batch.seconds;
            seen.completed += batch.completed;
            seen.late += batch.late;
            seen.failed += batch.failed;
            let nothing_in_time = seen.completed == seen.late;
            let only_errors = seen.completed > 0 && seen.failed == seen.completed;
            let decision = warmup.observe(batch);
            let given_up = seen.seconds >= patience || (only_errors && decision == Decision::Stop);
            hopeless = nothing_in_time && given_up && seen.late + batch.overdue > 0;
            let awaited = nothing_in_time && !given_up;
            if hopeless || (decision == Decision::Stop && !awaited) { Decision::Stop } else { Decision::GoOn }
        })?;
        if !warmup.is_steady() {
            self.flag(Flag::NotSteady);
        }
        self.note(&window);
        Ok(Warm { window, hopeless })
    }

    /// Plays a load that leaves the host room, and learns from it what other programs do for each request.
    pub(super) fn lightly(&mut self, probe: &Probe, decide: &mut dyn FnMut(&Batch) -> Decision) -> Result<Window, TrialError> {
        let mut window = self.stage.probe(probe, decide)?;
        if self.company.matters(&window) {
            self.rest()?;
            self.company.learn(&window);
        } else {
            self.company.forget();
        }
        self.company.account(&mut window);
        Ok(window)
    }

    /// Looks at what other programs do without load.
    fn rest(&mut self) -> Result<(), TrialError> {
        let window = self.stage.rest(REST)?;
        self.company.rested(&window);
        self.waited_at_rest.get_or_insert(window.iowait());
        Ok(())
    }

    /// The measurement of an application whose warm-up settles the matter.
    pub(super) fn hopeless(mut self, window: &Window) -> Result<Measurement, TrialError> {
        let (ending, memory) = (hopeless_ending(window), self.stage.memory()?);
        self.take_back(Flag::NotSteady);
        let elapsed = self.stage.elapsed();
        self.memory.note(elapsed, memory);
        let found = self.describe(window);
        Ok(self.finish(Measurement { ending, ..found }))
    }

    /// Offers `rate` until it is decided; a failure that was disturbed is tried again while there are [`REPEATS`] left.
    pub(super) fn judged(&mut self, rate: Rate, settle: f64, timing: Timing) -> Result<Judged, TrialError> {
        loop {
            let judged = self.once(rate, settle, timing)?;
            let again = judged.disturbed.is_some() && !judged.held() && !judged.ends_the_trial() && self.repeats_left > 0;
            if !again {
                return Ok(judged);
            }
            self.repeats_left -= 1;
        }
    }

    fn once(&mut self, rate: Rate, settle: f64, timing: Timing) -> Result<Judged, TrialError> {
        let asked = rate.per_second();
        (self.watch)(Step::Probing(asked));
        let mut judge = Judge::new(&self.terms.slo, timing, self.candidate, asked);
        let probe = Probe { load: Load::Open { rate }, settle, ..self.closed(0, timing.probe_cap) };
        let mut window = self.stage.probe(&probe, &mut |batch| judge.observe(batch))?;
        self.company.account(&mut window);
        self.note(&window);
        self.read_memory()?;
        if window.completed > 0 && window.workers_cpu > 0.0 {
            self.costs.push(window.workers_cpu / window.completed as f64);
        }
        let disturbed = disturbance(&window, &self.terms.slo);
        let (verdict, scant) = (judge.verdict(), judge.is_scant());
        let late = self.terms.slo.late_share();
        let allowed = if verdict == Verdict::Held { late } else { late.min(STUCK) };
        let stuck = window.unanswered as f64 > allowed * asked * (settle + window.seconds);
        let judged = Judged { window, verdict, disturbed, scant, stuck };
        if judged.stuck {
            self.flag(Flag::DoesNotRecover);
        }
        let latencies = Some(PackedLatencies::of(&judged.window.latencies));
        self.probes.push(ProbeNote { rate: asked, held: judged.held(), why: judged.why(), latencies });
        Ok(judged)
    }

    pub(super) fn read_memory(&mut self) -> Result<(), TrialError> {
        let (memory, elapsed) = (self.stage.memory()?, self.stage.elapsed());
        self.memory.note(elapsed, memory);
        Ok(())
    }

    /// How long a new rate plays before it counts: until requests of the old one, which took up to `latency`, are gone.
    pub(super) fn settle(&self, latency: f64) -> f64 {
        let timing = self.terms.pace.timing();
        // Enough for two requests that take what they may.
        let longest = timing.probe_cap.max(2.0 * self.terms.slo.latency().as_secs_f64());
        timing.settle.max(2.0 * latency).min(longest)
    }

    /// Completes a measurement with what the whole trial knows.
    pub(super) fn finish(mut self, found: Measurement) -> Measurement {
        if self.memory.is_leak() {
            self.flag(Flag::Leaking);
        }
        if is_falling(&self.costs) {
            self.flag(Flag::NotSteady);
        }
        let seconds = self.stage.elapsed();
        Measurement {
            memory_bytes: self.memory.largest(),
            memory_growth: self.memory.growth(),
            rest_iowait: self.waited_at_rest,
            seconds,
            probes: self.probes,
            flags: self.flags,
            ..found
        }
    }

    pub(super) fn describe(&self, window: &Window) -> Measurement {
        Measurement::of_window(window, &self.terms.slo, self.candidate)
    }

    pub(super) fn closed(&self, clients: u32, seconds: f64) -> Probe {
        let (timing, late) = (self.terms.pace.timing(), self.terms.slo.latency());
        // What is still not answered then is late.
        let drain = timing.drain.max(late.as_secs_f64() + timing.batch);
        Probe { load: Load::Closed { clients }, settle: 0.0, seconds, drain, batch: timing.batch, late }
    }

    /// Enough clients to keep every core and a pair of workers awake, too few to queue for them: never more than there are slots.
    pub(super) fn few_clients(&self) -> u32 {
        let slots = u32::try_from(self.candidate.slots()).unwrap_or(u32::MAX);
        u32::from(self.terms.cores).max(2).min(slots)
    }

    pub(super) fn note(&mut self, window: &Window) {
        if window.crashes > 0 {
            self.flag(Flag::WorkerCrashed);
        }
    }

    pub(super) fn flag_all(&mut self, flags: impl IntoIterator<Item = Flag>) {
        flags.into_iter().for_each(|flag| self.flag(flag));
    }

    fn take_back(&mut self, flag: Flag) {
        self.flags.retain(|other| *other != flag);
    }

    pub(super) fn flag(&mut self, flag: Flag) {
        if !self.flags.contains(&flag) {
            self.flags.push(flag);
        }
    }
}

fn hopeless_ending(window: &Window) -> Ending {
    let failed: u64 = window.errors.values().sum();
    if window.completed == 0 && failed > 0 { Ending::OnlyErrors } else { Ending::TooSlow }
}
