//! Simulated applications whose capacity is known, for the tests and the bench of the search (`benches/search.rs` includes this file).
//!
//! A trial is played as the real one (`tune::trial::capacity`), but that no server is too slow for the objective, or remains full after too
//! much load: a light probe that may settle it, then the same search for the highest rate held, each of whose probes has a threshold of its
//! own. That one scatters by 3.3 % (4.5 % at the quick pace) and lies 2.5 % above the capacity, as the real trial's do on simulated servers;
//! what is then measured has no bias and scatters by the 3.1 % of the design study (real trials on those servers: +0.1 ± 2.0 % at 200
//! requests a second, but +2.3 ± 4.4 % at 40). On top come that study's boots (1.5 %), slow drift of the host (AR(1), 1 %, 15 minutes) and
//! outliers (2 %, downwards), and one trial in a hundred is disturbed and says so, as the gates see it.
//!
//! CPU a request scatters by [`Pace::demand`], whatever the capacity does. On real hosts a dear request lowers the capacity (of real
//! studies the two have a correlation of −0.7 to −0.9), so that their product, which a certificate is about, scatters less than here.

// By path, so that the bench can include this file too.
#[path = "simulation/archetypes.rs"]
pub(crate) mod archetypes;
#[path = "simulation/surface.rs"]
pub(crate) mod surface;

use std::num::NonZeroU16;

use crate::study::queueing::{Bounds, Demand, LIGHT_MARGIN};
use crate::study::{
    Candidate, Challenged, CoreShare, Dimensions, Ending, Flag, Measurement, Next, Outcome, Pace, ProbeNote, RateSearch, Space,
    Stop, Study, Suggestion, Task, Trial, suggest,
};
use crate::tune::{Step, Testbed, TrialError};
use crate::units::{Connections, Workers};
use archetypes::{PLAIN, named, one_at_a_time};
pub(crate) use surface::{Point, Surface};

/// A seeded source of chance (splitmix64: Steele, Lea, Flood, OOPSLA 2014).
#[derive(Clone, Debug)]
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
    /// Seeds that follow each other give unlike sequences.
    pub(crate) fn new(seed: u64) -> Self {
        let mut chance = Self(seed);
        chance.even();
        chance
    }

    /// Evenly from 0 (exclusive) to 1.
    pub(crate) fn even(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (((bits ^ (bits >> 31)) >> 11) as f64 + 1.0) / (1u64 << 53) as f64
    }

    /// Standard normal (Box and Muller).
    pub(crate) fn normal(&mut self) -> f64 {
        (-2.0 * self.even().ln()).sqrt() * (std::f64::consts::TAU * self.even()).cos()
    }
}

/// An application on a host.
#[derive(Clone, Copy, Debug)]
pub(crate) struct App {
    pub(crate) name: &'static str,
    pub(crate) cores: u16,
    pub(crate) surface: Surface,
    /// Bytes: without workers, of each, of each slot.
    pub(crate) memory_base: f64,
    pub(crate) memory_a_worker: f64,
    pub(crate) memory_a_slot: f64,
    pub(crate) dimensions: Dimensions,
    pub(crate) max_memory: Option<u64>,
    pub(crate) max_slots: Option<u64>,
    pub(crate) max_connections: Option<u32>,
}

/// The applications that single tests look at.
pub(crate) const APPS: [App; 8] = [
    named("I/O-bound gevent, 16 cores", 16, Surface { cores: 16.0, wait: 0.4, wait_cv2: 0.05, ..PLAIN }),
    named("I/O-bound gevent, 2 cores", 2, Surface { wait: 0.4, wait_cv2: 0.05, ..PLAIN }),
    named("CPU-bound, 2 cores", 2, Surface { cpu: 0.050, wait: 0.005, crowding: 0.08, ..PLAIN }),
    named("CPU-bound, 8 cores", 8, Surface { cores: 8.0, cpu: 0.030, wait: 0.010, crowding: 0.05, ..PLAIN }),
    named("mixed, 4 cores", 4, Surface { cores: 4.0, wait: 0.05, ..PLAIN }),
    named("long waits, 4 cores", 4, Surface { cores: 4.0, cpu: 0.004, wait: 1.5, wait_cv2: 0.05, bound: 3.0, ..PLAIN }),
    App {
        memory_a_worker: 400.0 * 1_048_576.0,
        max_memory: Some(4 << 30),
        ..named("memory-limited, 8 cores", 8, Surface { cores: 8.0, wait: 0.1, ..PLAIN })
    },
    one_at_a_time(named("one request at a time, 2 cores", 2, Surface { wait: 0.060, ..PLAIN })),
];

/// What a trial costs beside its probes, seconds, and how each of these scatters: standard deviation of the logarithm of the highest
/// rate that it finds held.
struct Costs {
    /// To boot and warm up; each worker adds [`BOOT_A_WORKER`].
    start: f64,
    probe_noise: f64,
}

const BOOT_A_WORKER: f64 = 0.05;
/// Further from the threshold than this share, a probe is decided as early as it can be.
const FAR: f64 = 0.04;

impl Costs {
    /// At the normal pace 4 s to boot and 5 s to look around and warm up, at the quick one 3 s for all.
    const fn of(pace: Pace) -> Self {
        match pace {
            Pace::Normal => Self { start: 9.0, probe_noise: 0.033 },
            Pace::Quick => Self { start: 3.0, probe_noise: 0.045 },
        }
    }
}

/// Standard deviations of logarithms.
pub(crate) const BOOT_NOISE: f64 = 0.015;
/// A fixed rate is looked at for as many usual probes.
const SERVING: f64 = 3.0;
const DRIFT: f64 = 0.01;
const DRIFT_SECONDS: f64 = 900.0;
const OUTLIERS: f64 = 0.02;
/// For seconds a server holds more than for long: a queue needs time to grow (measured with the real trial's probes: see
/// `tune::trial::capacity`).
const OPTIMISM: f64 = 0.025;
/// Trials that something disturbs visibly.
const DISTURBED: f64 = 0.01;
/// How busy the light probe keeps a candidate, as a share of its capacity.
const LIGHT: f64 = 0.4;
/// Of the time in a worker, of latencies, of memory.
const SIDE_NOISE: f64 = 0.01;

impl App {
    pub(crate) const PLAIN: Self = Self {
        name: "",
        cores: 2,
        surface: PLAIN,
        memory_base: 40.0 * 1_048_576.0,
        memory_a_worker: 60.0 * 1_048_576.0,
        memory_a_slot: 20_000.0,
        dimensions: Dimensions::WorkersAndConnections,
        max_memory: None,
        max_slots: None,
        max_connections: None,
    };

    pub(crate) fn space(&self) -> Space {
        let cores = NonZeroU16::new(self.cores).expect("invariant: a host has cores");
        let mut space =
            Space::ordinary(cores, self.dimensions, Connections::new(10).expect("invariant: ten is a number of connections"));
        (space.max_memory, space.max_slots) = (self.max_memory, self.max_slots);
        space.max_connections = self.max_connections.and_then(Connections::new).unwrap_or(space.max_connections);
        space
    }

    pub(crate) fn study(&self, pace: Pace) -> Study {
        let slo = "p90<700ms".parse().expect("invariant: a bound");
        Study::new(slo, self.space(), pace, pace.budget(&slo))
    }

    /// The capacity, noise apart; 0 where memory does not suffice.
    pub(crate) fn capacity(&self, candidate: Candidate) -> f64 {
        if self.allows(candidate) { self.surface.capacity(workers(candidate), connections(candidate)) } else { 0.0 }
    }

    /// The share of the cores that are busy at its capacity.
    fn busy(&self, candidate: Candidate) -> f64 {
        let point = self.surface.under(workers(candidate), connections(candidate), 0.995 * self.capacity(candidate));
        point.map_or(0.0, |point| (point.busy / f64::from(self.cores)).min(1.0))
    }

    fn memory(&self, candidate: Candidate) -> f64 {
        self.memory_base + workers(candidate) * self.memory_a_worker + candidate.slots() as f64 * self.memory_a_slot
    }

    pub(crate) fn allows(&self, candidate: Candidate) -> bool {
        self.max_memory.is_none_or(|most| self.memory(candidate) <= most as f64)
            && self.max_slots.is_none_or(|most| candidate.slots() <= most)
    }

    /// The best capacity of its space: over a grid finer than any search's steps.
    pub(crate) fn best(&self) -> f64 {
        let space = self.space();
        let rungs = |most: u32, step: f64| {
            let mut rungs: Vec<u32> = Vec::new();
            let mut rung = 1.0_f64;
            while rung <= f64::from(most) {
                rungs.push(whole(rung));
                rung = (rung * step).max(rung + 1.0);
            }
            rungs
        };
        let mut all = space.candidates();
        let most = (u32::from(space.max_workers.get()), space.max_connections.get());
        for count in rungs(most.0, 1.07) {
            let each = if self.dimensions == Dimensions::WorkersOnly { vec![1] } else { rungs(most.1, 1.2) };
            let of = |each: u32| Some(Candidate::new(Workers::new(count)?, Connections::new(each)?));
            all.extend(each.into_iter().filter_map(of));
        }
        all.into_iter()
            .map(|candidate| self.capacity(candidate))
            .max_by(f64::total_cmp)
            .expect("invariant: a space has candidates")
    }

    /// The same application, in need of less CPU and less waiting by this factor.
    #[cfg(test)]
    pub(crate) fn faster(&self, factor: f64) -> Self {
        let surface = Surface { cpu: self.surface.cpu / factor, wait: self.surface.wait / factor, ..self.surface };
        Self { name: "the same, faster", surface, ..*self }
    }

    /// By what share `candidate` falls short of the best.
    pub(crate) fn regret(&self, candidate: Option<Candidate>) -> f64 {
        candidate.map_or(1.0, |candidate| 1.0 - self.capacity(candidate) / self.best())
    }

    /// The host it runs on, with a drift and a clock of its own.
    pub(crate) fn host(&self, pace: Pace, seed: u64) -> Host<'_> {
        let mut chance = Chance::new(seed ^ 0xB007);
        let drift = DRIFT * chance.normal();
        Host {
            app: self,
            pace,
            wanted: pace.timing().completions,
            boot_noise: BOOT_NOISE,
            demand_noise: pace.demand().sd,
            speed_noise: 0.0,
            chance,
            drift,
            dearer: 0.0,
        }
    }
}

/// A host that runs trials of one application.
#[derive(Clone, Debug)]
pub(crate) struct Host<'a> {
    app: &'a App,
    pace: Pace,
    /// Completions that decide a probe ([`crate::study::Timing::wanted`]).
    wanted: u64,
    boot_noise: f64,
    demand_noise: f64,
    speed_noise: f64,
    chance: Chance,
    drift: f64,
    /// By how much dearer requests are at present than otherwise, a logarithm.
    dearer: f64,
}

impl Host<'_> {
    /// The same, but every boot differs by this standard deviation of the logarithm.
    pub(crate) fn with_boot_noise(self, boot_noise: f64) -> Self {
        Self { boot_noise, ..self }
    }

    /// The same, but CPU a request scatters by this standard deviation of the logarithm between trials, whatever is believed.
    pub(crate) fn with_demand_noise(self, demand_noise: f64) -> Self {
        Self { demand_noise, ..self }
    }

    /// The same, but its speed differs from trial to trial by this standard deviation of the logarithm: CPU a request and capacity alike.
    pub(crate) fn with_speed_noise(self, speed_noise: f64) -> Self {
        Self { speed_noise, ..self }
    }

    /// The same, but so many completions decide a probe.
    #[cfg(test)]
    pub(crate) fn with_wanted(self, wanted: u64) -> Self {
        Self { wanted, ..self }
    }

    pub(crate) fn run(&mut self, suggestion: &Suggestion) -> Outcome {
        let candidate = suggestion.candidate;
        let start = Costs::of(self.pace).start + BOOT_A_WORKER * workers(candidate);
        if !self.app.allows(candidate) {
            self.pass(start);
            return Outcome::Failed { reason: "killed: out of memory".to_owned(), seconds: start };
        }
        let truth = self.app.capacity(candidate);
        let flags = if self.chance.even() < DISTURBED { vec![Flag::OtherPrograms] } else { Vec::new() };
        let slower = if flags.is_empty() { self.outlier() } else { downwards(&mut self.chance) };
        self.dearer = if self.speed_noise > 0.0 { self.speed_noise * self.chance.normal() } else { 0.0 };
        let boot = self.boot_noise * self.chance.normal() - self.app.busy(candidate) * self.dearer;
        let present = truth * (self.drift + boot + slower).exp();
        match suggestion.task {
            Task::Challenge { rate } => {
                let (holds, probe) = self.probe(rate, present);
                self.pass(start + probe);
                let flags = if holds { Vec::new() } else { flags };
                Outcome::Challenged(Challenged { flags, ..Challenged::new(holds, start + probe) })
            }
            Task::Measure => {
                let mut found = self.measure(suggestion, truth, present);
                found.seconds += start;
                found.flags.extend(flags);
                self.pass(found.seconds);
                Outcome::Measured(Box::new(found))
            }
            Task::Serve { rate } => {
                let seconds = start + SERVING * self.pace.timing().probe;
                self.pass(seconds);
                let bearable = rate <= present;
                // A server that is asked for too much does what it can.
                let (answered, under) = if bearable { (rate, rate * truth / present) } else { (truth, truth) };
                let mut found = self.describe(candidate, answered, under);
                let held = found.bounded.is_some_and(|p90| p90 <= self.app.surface.bound) && bearable;
                (found.capacity, found.ending) = if held { (rate, Ending::Held) } else { (0.0, Ending::NothingHeld) };
                (found.seconds, found.flags) = (seconds, flags);
                found.time_in_worker = self.describe(candidate, LIGHT * present, LIGHT * truth).time_in_worker;
                Outcome::Measured(Box::new(found))
            }
        }
    }

    /// The light probe of a candidate that at present holds `present` instead of `truth`, then the search that it and the suggestion's
    /// expectation begin.
    fn measure(&mut self, suggestion: &Suggestion, truth: f64, present: f64) -> Measurement {
        let (candidate, timing) = (suggestion.candidate, self.pace.timing());
        let light = self.describe(candidate, LIGHT * present, LIGHT * truth);
        let (cpu, inside) = (light.cpu_seconds_per_request, light.time_in_worker);
        let demand = Demand { cpu: cpu.unwrap_or(0.0), beside: 0.0, time_in_worker: inside.unwrap_or(0.0), cores_a_worker: 1.0 };
        let bound = Bounds::new(candidate, f64::from(self.app.cores), demand).tightest();
        if suggestion.rival.is_some_and(|rival| LIGHT_MARGIN * bound < rival) {
            let ending = Ending::Outclassed(LIGHT_MARGIN * bound);
            return Measurement { capacity: 0.0, ending, seconds: timing.light, ..light };
        }
        let (mut search, mut seconds, mut probes) =
            (RateSearch::of_trial(&timing, bound, suggestion.expected), timing.light, Vec::new());
        while let Some(rate) = search.offer() {
            let (held, took) = self.probe(rate, present);
            search.record(rate, held);
            seconds += took;
            probes.push(ProbeNote { rate, held, why: None, latencies: None });
        }
        let Some(held) = search.held() else {
            return Measurement { capacity: 0.0, ending: Ending::NothingHeld, seconds, probes, ..light };
        };
        let described = self.describe(candidate, held, truth * (held / present).min(1.0));
        Measurement { capacity: held, seconds, probes, time_in_worker: light.time_in_worker, ..described }
    }

    /// Whether `rate` is found held by a server that holds `present`, and the seconds it takes to find out.
    fn probe(&mut self, rate: f64, present: f64) -> (bool, f64) {
        let timing = self.pace.timing();
        let threshold = present * (OPTIMISM + Costs::of(self.pace).probe_noise * self.chance.normal()).exp();
        let enough = (self.wanted as f64 / rate).min(timing.probe_cap);
        let decided = if rate < (1.0 - FAR) * present {
            timing.pass_from.max(enough)
        } else if rate > (1.0 + FAR) * present {
            timing.fail_from
        } else {
            timing.probe.max(enough)
        };
        let held = rate <= threshold;
        let drain = if held { 0.0 } else { (2.0 * self.app.surface.bound).min(timing.drain) };
        (held, timing.settle + decided + drain)
    }

    fn outlier(&mut self) -> f64 {
        if self.chance.even() < OUTLIERS { downwards(&mut self.chance) } else { 0.0 }
    }

    /// Lets the host drift for `seconds`.
    fn pass(&mut self, seconds: f64) {
        let kept = (-seconds / DRIFT_SECONDS).exp();
        self.drift = kept * self.drift + DRIFT * (1.0 - kept * kept).sqrt() * self.chance.normal();
    }

    /// What is seen of a server that answers `rate`, which is to it as `under` to one on a host without noise.
    fn describe(&mut self, candidate: Candidate, rate: f64, under: f64) -> Measurement {
        let surface = &self.app.surface;
        let (w, n) = (workers(candidate), connections(candidate));
        let point = surface.under(w, n, under).or_else(|| surface.under(w, n, under * 0.995));
        let mut scattered = |value: f64, sd: f64| value * (sd * self.chance.normal()).exp();
        let (mut found, cores) = (Measurement::of_capacity(rate), f64::from(self.app.cores));
        found.memory_bytes = Some(u64::from(whole(scattered(self.app.memory(candidate), SIDE_NOISE) / 1024.0)) * 1024);
        let Some(Point { p50, p90, p99, busy, inside }) = point else {
            return found;
        };
        // Counted by the kernel: it does not depend on how well the capacity was found.
        let demand = scattered(busy / under, self.demand_noise) * self.dearer.exp();
        let mut blurred = |value: f64| scattered(value, SIDE_NOISE);
        let busy = (rate * demand / cores).min(1.0);
        found.time_in_worker = Some(blurred(inside / under));
        found.cpu_seconds_per_request = Some(demand);
        found.workers_cpu = Some(busy * cores);
        found.utilisation = Some(busy);
        found.cores = (0..self.app.cores).map(|cpu| CoreShare { cpu, user: busy, ..CoreShare::default() }).collect();
        found.worker_busy = Some((busy * cores / w).min(1.0));
        found.slots_busy = Some((inside / candidate.slots() as f64).min(1.0));
        (found.p50, found.p90, found.p99) = (Some(blurred(p50)), Some(blurred(p90)), Some(blurred(p99)));
        (found.bounded, found.errors, found.generator_cpu) = (found.p90, Some(0.0), Some(0.0));
        found
    }
}

/// How much slower something that lasts for a trial makes it.
fn downwards(chance: &mut Chance) -> f64 {
    -0.05 - 0.25 * chance.even()
}

impl Testbed for Host<'_> {
    fn run(&mut self, suggestion: &Suggestion, watch: &mut (dyn FnMut(Step) + Send)) -> Result<Outcome, TrialError> {
        watch(Step::Starting);
        Ok(Self::run(self, suggestion))
    }
}

fn workers(candidate: Candidate) -> f64 {
    f64::from(candidate.workers.get())
}

fn connections(candidate: Candidate) -> f64 {
    f64::from(candidate.connections.get())
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive and small")]
const fn whole(value: f64) -> u32 {
    value as u32
}

/// A study of `app` that was run to its end.
#[cfg(test)]
pub(crate) fn studied(app: &App, pace: Pace, seed: u64) -> Study {
    let (mut study, mut host) = (app.study(pace), app.host(pace, seed));
    run(&mut study, |suggestion| host.run(suggestion));
    study
}

/// Runs `study` to its end with outcomes from `measure`.
pub(crate) fn run(study: &mut Study, mut measure: impl FnMut(&Suggestion) -> Outcome) -> Stop {
    loop {
        match suggest(study) {
            Next::Try(suggestion) => study.record(Trial { outcome: measure(&suggestion), suggestion }),
            Next::Stop(stop) => return stop,
        }
        assert!(study.trials().len() <= study.budget.trials + 12, "a study must end");
    }
}
