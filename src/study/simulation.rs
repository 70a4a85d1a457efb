//! Simulated applications whose capacity is known, for the tests and the bench of the search (`benches/search.rs` includes this file).
//!
//! The noise is that of the design study: a boot 1.5 %, measuring 2.7 % at 60 s growing with the inverse root of the time, a slow
//! drift of the host (AR(1), 1 %, 15 minutes), 2 % outliers downwards. A single probe of 8 s decides with 4 %: bisection by 10 s
//! probes scatters by 2.8 to 3.3 % in that study, so one of its probes cannot scatter much more.

// By path, so that the bench can include this file too.
#[path = "simulation/archetypes.rs"]
pub(crate) mod archetypes;
#[path = "simulation/surface.rs"]
pub(crate) mod surface;

use std::num::NonZeroU16;

use crate::study::{
    Candidate, Challenged, CoreShare, Dimensions, Ending, Measurement, Next, Outcome, Pace, ProbeNote, Space, Stop, Strategy,
    Study, Suggestion, Task, Trial,
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

/// What a trial costs, seconds, and how it scatters, standard deviations of logarithms.
struct Costs {
    /// To boot and warm up; each worker adds [`BOOT_A_WORKER`].
    start: f64,
    measuring: f64,
    /// The one probe of a challenge.
    probe: f64,
    noise: f64,
    probe_noise: f64,
}

const BOOT_A_WORKER: f64 = 0.05;

impl Costs {
    /// At the normal pace 4 s to boot, 5 s to warm up, then 45 s, or 8 s for a challenge.
    const fn of(pace: Pace) -> Self {
        match pace {
            // 2.7 % times the root of 60/45.
            Pace::Normal => Self { start: 9.0, measuring: 45.0, probe: 8.0, noise: 0.0312, probe_noise: 0.04 },
            Pace::Quick => Self { start: 3.0, measuring: 6.0, probe: 2.5, noise: 0.042, probe_noise: 0.06 },
        }
    }
}

/// Standard deviations of logarithms.
pub(crate) const BOOT_NOISE: f64 = 0.015;
const DRIFT: f64 = 0.01;
const DRIFT_SECONDS: f64 = 900.0;
const OUTLIERS: f64 = 0.02;
/// Of CPU per request, of the time in a worker, of memory.
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
        Study::new("p90<700ms".parse().expect("invariant: a bound"), self.space(), pace, pace.budget())
    }

    /// The capacity, noise apart; 0 where memory does not suffice.
    pub(crate) fn capacity(&self, candidate: Candidate) -> f64 {
        if self.allows(candidate) { self.surface.capacity(workers(candidate), connections(candidate)) } else { 0.0 }
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
        Host { app: self, pace, boot_noise: BOOT_NOISE, chance, drift }
    }
}

/// A host that runs trials of one application.
#[derive(Clone, Debug)]
pub(crate) struct Host<'a> {
    app: &'a App,
    pace: Pace,
    boot_noise: f64,
    chance: Chance,
    drift: f64,
}

impl Host<'_> {
    /// The same, but every boot differs by this standard deviation of the logarithm.
    pub(crate) fn with_boot_noise(self, boot_noise: f64) -> Self {
        Self { boot_noise, ..self }
    }

    pub(crate) fn run(&mut self, suggestion: &Suggestion) -> Outcome {
        let candidate = suggestion.candidate;
        let costs = Costs::of(self.pace);
        let start = costs.start + BOOT_A_WORKER * workers(candidate);
        if !self.app.allows(candidate) {
            self.pass(start);
            return Outcome::Failed { reason: "killed: out of memory".to_owned(), seconds: start };
        }
        let measuring = costs.measuring;
        let truth = self.app.capacity(candidate);
        let around = self.drift + self.boot_noise * self.chance.normal();
        match suggestion.task {
            Task::Challenge { rate } => {
                let noise = around + costs.probe_noise * self.chance.normal() + self.outlier();
                self.pass(start + costs.probe);
                Outcome::Challenged(Challenged::new(rate <= truth * noise.exp(), start + costs.probe))
            }
            Task::Measure => {
                let noise = around + costs.noise * self.chance.normal() + self.outlier();
                self.pass(start + measuring);
                let capacity = truth * noise.exp();
                Outcome::Measured(Box::new(self.describe(candidate, capacity, truth, start + measuring)))
            }
            Task::Serve { rate } => {
                self.pass(start + measuring);
                let faster = (around + self.outlier()).exp();
                let bearable = rate <= truth * faster;
                // A server that is asked for too much does what it can.
                let (answered, under) = if bearable { (rate, rate / faster) } else { (truth, truth) };
                let mut found = self.describe(candidate, answered, under, start + measuring);
                let held = found.bounded.is_some_and(|p90| p90 <= self.app.surface.bound) && bearable;
                (found.capacity, found.ending) = if held { (rate, Ending::Held) } else { (0.0, Ending::NothingHeld) };
                Outcome::Measured(Box::new(found))
            }
        }
    }

    fn outlier(&mut self) -> f64 {
        if self.chance.even() < OUTLIERS { -0.05 - 0.25 * self.chance.even() } else { 0.0 }
    }

    /// Lets the host drift for `seconds`.
    fn pass(&mut self, seconds: f64) {
        let kept = (-seconds / DRIFT_SECONDS).exp();
        self.drift = kept * self.drift + DRIFT * (1.0 - kept * kept).sqrt() * self.chance.normal();
    }

    /// What is seen of a server that was said to hold `capacity` and really holds `truth`.
    fn describe(&mut self, candidate: Candidate, capacity: f64, truth: f64, seconds: f64) -> Measurement {
        let surface = &self.app.surface;
        let (w, n) = (workers(candidate), connections(candidate));
        let point = surface.under(w, n, truth).or_else(|| surface.under(w, n, truth * 0.995));
        let mut blurred = |value: f64| value * (SIDE_NOISE * self.chance.normal()).exp();
        let (mut found, cores) = (Measurement::of_capacity(capacity), f64::from(self.app.cores));
        // A light probe: a client a core, as few in a worker as there can be.
        let light = surface.under(w, n, 0.1 * truth);
        found.time_in_worker = light.map(|light| blurred(light.inside / (0.1 * truth)));
        found.memory_bytes = Some(u64::from(whole(blurred(self.app.memory(candidate)) / 1024.0)) * 1024);
        found.seconds = seconds;
        found.probes = vec![ProbeNote { rate: capacity, held: true, why: None, latencies: None }];
        let Some(Point { p50, p90, p99, busy, inside }) = point else {
            return found;
        };
        // The kernel's counters are exact: what is used for a request does not depend on how well the capacity was found.
        let demand = blurred(busy / truth);
        let busy = (capacity * demand / cores).min(1.0);
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
    run(&crate::study::ChallengeRace, &mut study, |suggestion| host.run(suggestion));
    study
}

/// Runs `study` to its end with outcomes from `measure`.
pub(crate) fn run(strategy: &dyn Strategy, study: &mut Study, mut measure: impl FnMut(&Suggestion) -> Outcome) -> Stop {
    loop {
        match strategy.suggest(study) {
            Next::Try(suggestion) => study.record(Trial { outcome: measure(&suggestion), suggestion }),
            Next::Stop(stop) => return stop,
        }
        assert!(study.trials().len() <= study.budget.trials + 12, "a study must end");
    }
}
