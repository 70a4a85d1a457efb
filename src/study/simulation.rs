//! Applications whose capacity is known, for the tests of the search: the operational laws with penalties that the search's own model does not know.

use std::num::NonZeroU16;

use crate::study::queueing::soft_minimum;
use crate::study::{
    Candidate, CoreShare, Dimensions, Ending, Flag, Measurement, Next, Outcome, Pace, ProbeNote, Space, Stop, Strategy, Study,
    Suggestion, Trial,
};
use crate::units::{Connections, Workers};

/// A seeded source of chance (splitmix64: Steele, Lea, Flood, OOPSLA 2014).
#[derive(Clone, Debug)]
pub(crate) struct Chance(pub(crate) u64);

impl Chance {
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
    /// CPU seconds and waiting seconds of a request.
    pub(crate) cpu: f64,
    pub(crate) wait: f64,
    /// Growth of CPU per request for every further worker a core, and for every tenfold of connections.
    pub(crate) crowding: f64,
    pub(crate) juggling: f64,
    /// Requests a second that something outside allows, less this share for every slot in use beyond 50.
    pub(crate) external: f64,
    /// Bytes of a worker.
    pub(crate) memory: u64,
    pub(crate) dimensions: Dimensions,
    pub(crate) max_memory: Option<u64>,
}

const PLAIN: App = App {
    name: "",
    cores: 2,
    cpu: 0.010,
    wait: 0.0,
    crowding: 0.03,
    juggling: 0.01,
    external: f64::INFINITY,
    memory: 60 << 20,
    dimensions: Dimensions::WorkersAndConnections,
    max_memory: None,
};

/// The applications the search is judged on.
pub(crate) const APPS: [App; 8] = [
    App { name: "I/O-bound gevent, 16 cores", cores: 16, wait: 0.4, ..PLAIN },
    App { name: "I/O-bound gevent, 2 cores", wait: 0.4, ..PLAIN },
    App { name: "CPU-bound, 2 cores", cpu: 0.050, wait: 0.005, crowding: 0.08, ..PLAIN },
    App { name: "CPU-bound, 8 cores", cores: 8, cpu: 0.030, wait: 0.010, crowding: 0.05, ..PLAIN },
    App { name: "mixed, 4 cores", cores: 4, wait: 0.05, ..PLAIN },
    App { name: "long waits, 4 cores", cores: 4, cpu: 0.004, wait: 1.5, ..PLAIN },
    App { name: "memory-limited, 8 cores", cores: 8, wait: 0.1, memory: 400 << 20, max_memory: Some(4 << 30), ..PLAIN },
    App { name: "one request at a time, 2 cores", wait: 0.060, dimensions: Dimensions::WorkersOnly, ..PLAIN },
];

/// An application where the rule of thumb is right: other numbers of workers waste CPU or leave waits uncovered.
pub(crate) const FOLK_IS_RIGHT: App =
    App { name: "folk rule, 2 cores", cpu: 0.010, wait: 0.005, crowding: 0.02, dimensions: Dimensions::WorkersOnly, ..PLAIN };

impl App {
    pub(crate) fn space(&self) -> Space {
        let cores = NonZeroU16::new(self.cores).unwrap();
        let mut space = Space::ordinary(cores, self.dimensions, Connections::new(10).unwrap());
        space.max_memory = self.max_memory;
        space
    }

    pub(crate) fn study(&self, pace: Pace) -> Study {
        Study::new("p90<700ms".parse().unwrap(), self.space(), pace, pace.budget())
    }

    fn demand(&self, candidate: Candidate) -> f64 {
        let crowd = (f64::from(candidate.workers.get()) / f64::from(self.cores) - 1.0).max(0.0);
        let juggled = f64::from(candidate.connections.get()).log10();
        self.cpu * (1.0 + self.crowding * crowd / (1.0 + 0.1 * crowd)) * (1.0 + self.juggling * juggled)
    }

    /// The capacity, noise apart.
    pub(crate) fn capacity(&self, candidate: Candidate) -> f64 {
        let demand = self.demand(candidate);
        let slots = candidate.slots() as f64;
        let external = self.external * (1.0 - 0.0005 * (slots - 50.0).max(0.0)).max(0.1);
        soft_minimum(&[
            0.95 * f64::from(self.cores) / demand,
            0.93 * f64::from(candidate.workers.get()) / demand,
            0.96 * slots / (demand + self.wait),
            external,
        ])
    }

    fn memory(&self, candidate: Candidate) -> u64 {
        u64::from(candidate.workers.get()) * self.memory + candidate.slots() * 20_000
    }

    fn allows(&self, candidate: Candidate) -> bool {
        self.max_memory.is_none_or(|most| self.memory(candidate) <= most)
    }

    /// The best candidate of its space.
    pub(crate) fn best(&self) -> f64 {
        let allowed = self.space().candidates().into_iter().filter(|candidate| self.allows(*candidate));
        allowed.map(|candidate| self.capacity(candidate)).max_by(f64::total_cmp).unwrap()
    }

    /// By what share `candidate` falls short of the best.
    pub(crate) fn regret(&self, candidate: Option<Candidate>) -> f64 {
        candidate
            .filter(|candidate| self.allows(*candidate))
            .map_or(1.0, |candidate| 1.0 - self.capacity(candidate) / self.best())
    }

    /// A trial: noise of 3 %, 2 % outliers downwards.
    pub(crate) fn measure(&self, pace: Pace, suggestion: &Suggestion, chance: &mut Chance) -> Outcome {
        let candidate = suggestion.candidate;
        if !self.allows(candidate) {
            return Outcome::Failed { reason: "killed: out of memory".to_owned(), seconds: 5.0 };
        }
        let outlier = if chance.even() < 0.02 { -0.05 - 0.25 * chance.even() } else { 0.0 };
        let capacity = self.capacity(candidate) * (0.03 * chance.normal() + outlier).exp();
        let (demand, cores) = (self.demand(candidate) * (0.01 * chance.normal()).exp(), f64::from(self.cores));
        let busy = (capacity * demand / cores).min(1.0);
        let core = |cpu| CoreShare { cpu, user: busy, ..CoreShare::default() };
        Outcome::Measured(Box::new(Measurement {
            capacity,
            ending: Ending::Held,
            throughput: capacity,
            cores: (0..self.cores).map(core).collect(),
            workers_cpu: capacity * demand,
            cpu_seconds_per_request: demand,
            time_in_worker: demand + self.wait,
            worker_busy: (capacity * demand / f64::from(candidate.workers.get())).min(1.0),
            slots_busy: (capacity * (demand + self.wait) / candidate.slots() as f64).min(1.0),
            memory_bytes: self.memory(candidate),
            seconds: if pace == Pace::Quick { 9.0 } else { 30.0 },
            probes: vec![ProbeNote { rate: capacity, held: true, why: None, latencies: None }],
            ..blank()
        }))
    }
}

/// A measurement without numbers.
pub(crate) fn blank() -> Measurement {
    let candidate = Candidate { workers: Workers::new(1).unwrap(), connections: Connections::ONE };
    let window = crate::study::Window::default();
    Measurement { flags: Vec::<Flag>::new(), ..Measurement::of_window(&window, &"p90<700ms".parse().unwrap(), candidate) }
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
