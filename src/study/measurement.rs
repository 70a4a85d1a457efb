//! What one trial found out about one candidate, and what binds it. The journal keeps it whole.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::stats::PackedLatencies;
use crate::study::{Candidate, CoreShare, Slo, Window};

/// A kind of [`Measurement::errors_by_kind`]: 400 to 499 where less was recorded.
pub const UNEXPECTED_STATUS: &str = "unexpected status";
/// Another: a redirect where 200 to 299 was recorded.
pub const REDIRECTED: &str = "redirected";

/// The result of a trial. Times are seconds, shares are of 1, CPU is cores. What was not measured is absent: a trial that an
/// external program runs may know its capacity only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measurement {
    /// What was answered at the highest rate held within the objective, requests a second; 0 if none was. At a fixed rate that rate, and
    /// of a trial program what it told.
    pub capacity: f64,
    /// How the trial ended.
    pub ending: Ending,
    /// Answered requests a second in the window described: that of the highest held rate, or of the light probe.
    pub throughput: f64,
    /// Median latency.
    pub p50: Option<f64>,
    /// 90th percentile.
    pub p90: Option<f64>,
    /// 99th percentile.
    pub p99: Option<f64>,
    /// Longest latency.
    pub max: Option<f64>,
    /// The latency the objective bounds.
    pub bounded: Option<f64>,
    /// Share of requests that failed.
    pub errors: Option<f64>,
    /// Failed requests by kind.
    pub errors_by_kind: BTreeMap<String, u64>,
    /// Mean share in which the cores were busy.
    pub utilisation: Option<f64>,
    /// Utilisation by core; empty if they were not looked at.
    pub cores: Vec<CoreShare>,
    /// Cores' worth of CPU the workers used.
    pub workers_cpu: Option<f64>,
    /// CPU time of the workers for one request.
    pub cpu_seconds_per_request: Option<f64>,
    /// How long a request is inside a worker when nothing queues (light probe).
    pub time_in_worker: Option<f64>,
    /// Share of the workers' time on a core: 1 means that each keeps a core busy, as a GIL allows at most.
    pub worker_busy: Option<f64>,
    /// Share of the slots (workers × connections) in use.
    pub slots_busy: Option<f64>,
    /// Proportional set size of the workers, bytes.
    pub memory_bytes: Option<u64>,
    /// How fast that grew while the trial ran, bytes a second.
    #[serde(default)]
    pub memory_growth: Option<f64>,
    /// Cores' worth of CPU the load generator used.
    pub generator_cpu: Option<f64>,
    /// Cores' worth of CPU the supervisor used.
    #[serde(default)]
    pub supervisor_cpu: Option<f64>,
    /// Cores' worth of CPU other programs used that the requests needed: a database on the same host, for example.
    #[serde(default)]
    pub beside_cpu: Option<f64>,
    /// Cores' worth of CPU other programs used for themselves.
    #[serde(default)]
    pub other_cpu: Option<f64>,
    /// Cores' worth of CPU left for the requests: c_eff = c − U_generator − U_supervisor − U_other, with c the cores or, where it
    /// is less, the quota.
    #[serde(default)]
    pub effective_cores: Option<f64>,
    /// Mean share of the cores' time in which a disk had not answered somebody before there was load.
    #[serde(default)]
    pub rest_iowait: Option<f64>,
    /// Share of the time in which a CPU quota held the trial back.
    #[serde(default)]
    pub throttled: Option<f64>,
    /// Different requests of the recording that were sent.
    #[serde(default)]
    pub distinct_requests: Option<u64>,
    /// How late the load generator sent, 99th percentile.
    pub lateness_p99: Option<f64>,
    /// What the trial cost.
    pub seconds: f64,
    /// The light probe, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub light: Option<LightNote>,
    /// The rates tried.
    pub probes: Vec<ProbeNote>,
    /// What should make a reader doubt it.
    pub flags: Vec<Flag>,
}

/// One rate that was offered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProbeNote {
    /// Requests a second.
    pub rate: f64,
    /// Whether it was held.
    pub held: bool,
    /// Why not, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Latencies of its requests, where they are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latencies: Option<PackedLatencies>,
}

/// The light probe: a few clients, each of which sends its next request when the last was answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LightNote {
    /// Answered requests a second.
    pub throughput: f64,
    /// Latencies of its requests.
    pub latencies: PackedLatencies,
}

/// How a trial ended.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ending {
    /// Some rate was held.
    Held,
    /// No offered rate was.
    NothingHeld,
    /// The light probe was beyond the objective's latency already.
    TooSlow,
    /// The light probe had too many errors.
    Errors,
    /// Every request of the light probe failed.
    OnlyErrors,
    /// Not worth measuring: the light probe shows that it cannot reach the best so far, but at most this many requests a second.
    Outclassed(f64),
}

impl Ending {
    /// In words.
    #[must_use]
    pub fn words(self) -> String {
        match self {
            Self::Held => "held".to_owned(),
            Self::NothingHeld => "no rate held".to_owned(),
            Self::TooSlow => "too slow even under light load".to_owned(),
            Self::Errors => "too many errors even under light load".to_owned(),
            Self::OnlyErrors => "only errors".to_owned(),
            Self::Outclassed(bound) => format!("at most {bound:.0} req/s: not pursued"),
        }
    }

    /// What one that was not worth measuring can reach at most, requests a second.
    #[must_use]
    pub const fn outclassed_by(self) -> Option<f64> {
        match self {
            Self::Outclassed(bound) => Some(bound),
            Self::Held | Self::NothingHeld | Self::TooSlow | Self::Errors | Self::OnlyErrors => None,
        }
    }
}

/// A reason for doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Flag {
    /// The load generator sent late.
    GeneratorLate,
    /// The load generator was at its limit: its thread, descriptors or ports.
    GeneratorShort,
    /// Another guest took more than 2 % of a core's time.
    Steal,
    /// Other programs used more than a tenth of the cores, and not for the requests.
    OtherPrograms,
    /// A worker ended on its own.
    WorkerCrashed,
    /// CPU per request still changed when the warm-up had to end.
    NotSteady,
    /// Memory grew from probe to probe, and no slower at the end.
    Leaking,
    /// The application did not empty itself when the load stopped.
    DoesNotRecover,
    /// Every offered rate was held: the capacity may be higher.
    NotBracketed,
    /// A rate that decides the matter was decided by fewer answers than its quantile takes.
    FewRequests,
    /// Far below the other repetitions, so that it does not count. Found by the study, not by the trial: a journal has it nowhere.
    Accident,
    /// CPU per request was not what it was in the other pairs of best and baseline. Found by the study, not by the trial: a journal
    /// has it nowhere.
    HostChanged,
}

impl Flag {
    /// In words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::GeneratorLate => "load generator late",
            Self::GeneratorShort => "load generator at its limit",
            Self::Steal => "CPU stolen by the hypervisor",
            Self::OtherPrograms => "other programs used the cores",
            Self::WorkerCrashed => "worker crashed",
            Self::NotSteady => "not steady",
            Self::Leaking => "memory keeps growing",
            Self::DoesNotRecover => "does not recover",
            Self::NotBracketed => "could hold more",
            Self::FewRequests => "few answers to decide by",
            Self::Accident => "far below the others, not counted",
            Self::HostChanged => "the host changed",
        }
    }

    /// Whether something else than the candidate disturbed the measurement. A crash is the candidate's own doing and counts against it.
    #[must_use]
    pub const fn voids(self) -> bool {
        match self {
            Self::GeneratorLate | Self::GeneratorShort | Self::Steal | Self::OtherPrograms => true,
            Self::WorkerCrashed
            | Self::NotSteady
            | Self::Leaking
            | Self::DoesNotRecover
            | Self::NotBracketed
            | Self::FewRequests
            | Self::Accident
            | Self::HostChanged => false,
        }
    }
}

/// What binds a candidate at its capacity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Label {
    /// The host's cores.
    Cpu,
    /// Each worker keeps one core busy, and cores are left.
    Worker,
    /// Every slot is taken.
    Slots,
    /// Something else: a lock, a database, a service, the objective itself.
    Other,
    /// The trial did not say how busy cores and slots were.
    Unknown,
}

impl Label {
    /// What it is called.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cpu => "the cores",
            Self::Worker => "the workers",
            Self::Slots => "the connections",
            Self::Other => "something outside",
            Self::Unknown => "unknown, as the trials did not tell how busy cores and connections were",
        }
    }

    /// In words, as the answer to "what stops it from doing more?".
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Cpu => "all cores are busy",
            Self::Worker => {
                "each worker keeps one core busy, which may be the most that one process does (Python's GIL, an event loop), and cores are left for more workers"
            }
            Self::Slots => "all connections of all workers are taken, mostly waiting",
            Self::Other => {
                "neither cores, workers nor connections are used up, so something outside them binds (a database, a lock, a service, or the latency bound itself)"
            }
            Self::Unknown => "unknown: the trials did not tell how busy cores and connections were",
        }
    }
}

/// Utilisations from which a resource counts as used up.
const CPU_FULL: f64 = 0.93;
const WORKER_FULL: f64 = 0.9;
/// A worker that keeps more cores busy than this is not held by one, whatever is counted at other instants than it is used.
const MORE_THAN_ONE: f64 = 1.1;
const SLOTS_FULL: f64 = 0.9;

impl Measurement {
    /// A measurement described by `window`; the trial fills in what a window does not know (capacity, ending, memory, probes,
    /// seconds, flags).
    #[must_use]
    pub fn of_window(window: &Window, slo: &Slo, candidate: Candidate) -> Self {
        let answered = window.completed;
        let failed: u64 = window.errors.values().sum();
        let seconds = window.seconds.max(1e-3);
        let throughput = answered as f64 / seconds;
        let workers = f64::from(candidate.workers.get());
        Self {
            throughput,
            p50: Some(window.latencies.quantile(0.5)),
            p90: Some(window.latencies.quantile(0.9)),
            p99: Some(window.latencies.quantile(0.99)),
            max: Some(window.latencies.max()),
            bounded: Some(window.latencies.quantile(slo.quantile().share())),
            errors: Some(failed as f64 / (failed + answered).max(1) as f64),
            errors_by_kind: window.errors.clone(),
            utilisation: window.utilisation(),
            cores: window.cores.clone(),
            workers_cpu: Some(window.workers_cpu / seconds),
            cpu_seconds_per_request: Some(window.workers_cpu / answered.max(1) as f64),
            worker_busy: Some(window.workers_cpu / seconds / workers),
            // Little's law: requests inside = throughput × residence.
            slots_busy: Some((throughput * window.latencies.mean() / candidate.slots() as f64).min(1.0)),
            generator_cpu: Some(window.generator_cpu / seconds),
            supervisor_cpu: Some(window.supervisor_cpu / seconds),
            beside_cpu: (!window.cores.is_empty()).then(|| window.beside()),
            other_cpu: (!window.cores.is_empty()).then(|| window.others()),
            effective_cores: (!window.cores.is_empty()).then(|| window.effective_cores()),
            throttled: Some(window.throttled / seconds),
            distinct_requests: Some(window.distinct_requests),
            lateness_p99: Some(window.lateness_p99),
            ..Self::of_capacity(0.0)
        }
    }

    /// A measurement that knows its capacity only, requests a second: what an external program may answer.
    #[must_use]
    pub const fn of_capacity(capacity: f64) -> Self {
        Self {
            capacity,
            ending: if capacity > 0.0 { Ending::Held } else { Ending::NothingHeld },
            throughput: capacity,
            p50: None,
            p90: None,
            p99: None,
            max: None,
            bounded: None,
            errors: None,
            errors_by_kind: BTreeMap::new(),
            utilisation: None,
            cores: Vec::new(),
            workers_cpu: None,
            cpu_seconds_per_request: None,
            time_in_worker: None,
            worker_busy: None,
            slots_busy: None,
            memory_bytes: None,
            memory_growth: None,
            generator_cpu: None,
            supervisor_cpu: None,
            beside_cpu: None,
            other_cpu: None,
            effective_cores: None,
            rest_iowait: None,
            throttled: None,
            distinct_requests: None,
            lateness_p99: None,
            seconds: 0.0,
            light: None,
            probes: Vec::new(),
            flags: Vec::new(),
        }
    }

    /// CPU time that a request needs of programs beside the workers, seconds; `None` if that was not measured.
    #[must_use]
    pub fn beside_seconds_per_request(&self) -> Option<f64> {
        self.beside_cpu.filter(|_| self.throughput > 0.0).map(|cores| cores / self.throughput)
    }

    /// Mean share in which the cores were busy; `None` if they were not measured.
    #[must_use]
    pub const fn cpu_mean(&self) -> Option<f64> {
        self.utilisation
    }

    /// The share of the least busy core.
    #[must_use]
    pub fn cpu_lowest(&self) -> Option<f64> {
        self.cores.iter().map(CoreShare::busy).min_by(f64::total_cmp)
    }

    /// The highest share of any core that another guest took.
    #[must_use]
    pub fn steal(&self) -> f64 {
        self.cores.iter().map(|core| core.steal).fold(0.0, f64::max)
    }

    /// Whether its workers kept more than a core busy each, as a program with threads does.
    #[must_use]
    pub fn has_many_cores_a_worker(&self) -> bool {
        self.worker_busy.is_some_and(|busy| busy > MORE_THAN_ONE)
    }

    /// Whether workers had less than this share of a core each to do, or keep more than one busy, so that they are not what binds.
    #[must_use]
    pub fn has_spare_workers(&self, bound: f64) -> bool {
        self.worker_busy.is_some_and(|busy| busy < bound) || self.has_many_cores_a_worker()
    }

    /// What binds the candidate, by the utilisations at its capacity.
    #[must_use]
    pub fn label(&self) -> Label {
        let full = |share: Option<f64>, bound| share.is_some_and(|share| share >= bound);
        if full(self.utilisation, CPU_FULL) {
            Label::Cpu
        } else if full(self.worker_busy, WORKER_FULL) && !self.has_many_cores_a_worker() {
            Label::Worker
        } else if full(self.slots_busy, SLOTS_FULL) {
            Label::Slots
        } else if self.utilisation.is_none() || self.slots_busy.is_none() {
            Label::Unknown
        } else {
            Label::Other
        }
    }

    /// Whether nothing disturbed it.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        !self.flags.iter().any(|flag| flag.voids())
    }

    /// Whether it says nothing of its candidate: it held no rate and no worker crashed, but something disturbed it.
    #[must_use]
    pub fn is_void(&self) -> bool {
        self.capacity <= 0.0 && !self.has_crashed() && !self.is_valid()
    }

    /// Whether a worker ended on its own.
    #[must_use]
    pub fn has_crashed(&self) -> bool {
        self.flags.contains(&Flag::WorkerCrashed)
    }

    /// Whether it held a rate although more requests failed than `slo` allows: so few that they prove nothing ([`super::Judge`]).
    #[must_use]
    pub fn held_despite_errors(&self, slo: &Slo) -> bool {
        self.capacity > 0.0 && self.errors.is_some_and(|share| share > slo.error_share())
    }

    /// Whether a configuration that gave this may be recommended: it held a rate, and no worker crashed.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.capacity > 0.0 && !self.has_crashed()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::units::{Connections, Workers};

    fn window() -> Window {
        let mut window = Window { seconds: 10.0, completed: 990, workers_cpu: 15.0, generator_cpu: 1.0, ..Window::default() };
        for _ in 0..990 {
            window.latencies.record(Duration::from_millis(100));
        }
        window.errors.insert("HTTP 500".to_owned(), 10);
        window.cores = vec![
            CoreShare { cpu: 0, user: 0.7, system: 0.2, ..CoreShare::default() },
            CoreShare { cpu: 1, user: 0.5, ..CoreShare::default() },
        ];
        window
    }

    fn measured(workers: u32, connections: u32) -> Measurement {
        let candidate = Candidate::new(Workers::new(workers).unwrap(), Connections::new(connections).unwrap());
        Measurement::of_window(&window(), &"p90<700ms".parse().unwrap(), candidate)
    }

    #[test]
    fn describes_a_window() {
        let measured = measured(3, 10);
        assert!((measured.throughput - 99.0).abs() < 1e-9 && (measured.errors.unwrap() - 0.01).abs() < 1e-9);
        assert!((measured.cpu_mean().unwrap() - 0.7).abs() < 1e-9 && (measured.cpu_lowest().unwrap() - 0.5).abs() < 1e-9);
        assert!((measured.bounded.unwrap() - 0.1).abs() < 1e-3 && (measured.workers_cpu.unwrap() - 1.5).abs() < 1e-9);
        assert_eq!(measured.label(), Label::Other);
    }

    #[test]
    fn names_the_binding_resource() {
        assert_eq!(Measurement { worker_busy: Some(0.97), ..measured(1, 50) }.label(), Label::Worker);
        assert_eq!(measured(1, 50).label(), Label::Other, "its worker kept one and a half cores busy");
        assert_eq!(measured(5, 2).label(), Label::Slots);
        let mut busy = measured(5, 2);
        busy.utilisation = Some(0.95);
        assert_eq!(busy.label(), Label::Cpu);
        assert_eq!(Measurement::of_capacity(10.0).label(), Label::Unknown);
    }
}
