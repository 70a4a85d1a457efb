//! What keeps a configuration from doing more, and which trials show it. Names what the counters tell; where they tell nothing it says that something
//! outside binds, and no more.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::study::counting::{counting, described};
use crate::study::window::iowait;
use crate::study::{Candidate, Label, Measurement, Slo, Study};

/// What binds one candidate.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Binding {
    /// The resource that its trial found used up.
    pub label: Label,
    /// What the counters tell where that is none of this host's cores, workers and connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// Trials that show that more connections give no more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Evidence>,
}

/// What binds outside of cores, workers and connections, by what the trial's counters tell. Shares are of 1, times are seconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// The cores were idle for this share of their time because a disk had not answered, beyond what they were so without load.
    Disk(f64),
    /// The latency that is bounded was this long under light load already: there is hardly room for a queue.
    Bound(f64),
    /// Half of the requests took longer than under light load, though nothing of this host was used up: they queue for a lock, a database or a service.
    Queue {
        /// The median under light load.
        light: f64,
        /// At capacity.
        loaded: f64,
    },
}

/// Two trials of as many workers, the second with at least twice the connections in all and no more requests a second, while cores were left.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Evidence {
    /// The one with fewer connections.
    pub fewer: Shown,
    /// The one with more.
    pub more: Shown,
}

/// A trial as evidence.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Shown {
    /// Its number, from 1.
    pub trial: usize,
    /// What was tried.
    #[serde(flatten)]
    pub candidate: Candidate,
    /// The highest rate it held, requests a second.
    pub capacity: f64,
    /// Mean share in which the cores were busy.
    pub utilisation: f64,
}

/// Share of the cores' time from which waiting for disks binds.
const IOWAIT: f64 = 0.15;
/// Share of the latency bound from which light load leaves no room for a queue.
const TIGHT: f64 = 0.7;
/// How many times as long as queues for cores and workers explain a request takes where it queues for something else.
const QUEUES: f64 = 2.0;
/// What is less busy than this does not bind; how many times the connections show that these do not either; and how much more capacity is none.
const SPARE: f64 = 0.85;
const DOUBLED: f64 = 2.0;
const SAME: f64 = 1.02;

impl Binding {
    /// What binds `candidate`, by its last trial that counts, or else its last usable one; `None` if none is usable.
    #[must_use]
    pub fn of(study: &Study, candidate: Candidate) -> Option<Self> {
        let found = described(study, candidate).filter(|found| found.is_usable())?;
        let label = found.label();
        let outside = label == Label::Other;
        Some(Self {
            label,
            cause: Cause::of(found, &study.slo).filter(|_| outside),
            evidence: Evidence::of(study, candidate).filter(|_| outside),
        })
    }

    /// What it is called.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self.cause {
            Some(Cause::Disk(_)) => "the disk",
            Some(Cause::Bound(_)) => "the latency bound itself",
            Some(Cause::Queue { .. }) => "something that requests queue for (a lock, a database, a service)",
            None => self.label.name(),
        }
    }
}

impl Cause {
    fn of(found: &Measurement, slo: &Slo) -> Option<Self> {
        let waiting = iowait(&found.cores) - found.rest_iowait.unwrap_or_default();
        if waiting >= IOWAIT {
            return Some(Self::Disk(waiting));
        }
        let light = found.light.as_ref().map(|light| light.latencies.unpack()).filter(|light| light.count() > 0)?;
        let (bounded, median) = (light.quantile(slo.quantile().share()), light.quantile(0.5));
        if bounded >= TIGHT * slo.latency().as_secs_f64() {
            return Some(Self::Bound(bounded));
        }
        let is_spare = |share: Option<f64>| share.is_some_and(|share| share < SPARE);
        let spare = [found.utilisation, found.worker_busy, found.slots_busy].into_iter().all(is_spare);
        // What is busy makes requests wait as well: 1/(1 - U) times as long in a queue for one server (M/M/1: Kleinrock, Queueing
        // Systems 1, 1975), less in one for several.
        let busiest = found.utilisation?.max(found.worker_busy?).min(SPARE);
        let explained = median / (1.0 - busiest);
        let loaded = found.p50.filter(|loaded| spare && median > 0.0 && *loaded >= QUEUES * explained)?;
        Some(Self::Queue { light: median, loaded })
    }
}

impl Evidence {
    /// The pair with `candidate` in it whose capacities are closest, both with as many workers on the same cores; each candidate by
    /// its middle trial, as of many trials two agree by luck.
    fn of(study: &Study, candidate: Candidate) -> Option<Self> {
        let mut trials: BTreeMap<Candidate, Vec<Shown>> = BTreeMap::new();
        for (number, candidate, found) in counting(study) {
            let Some(utilisation) = found.cpu_mean() else { continue };
            let shown = Shown { trial: number + 1, candidate, capacity: found.capacity, utilisation };
            trials.entry(candidate).or_default().push(shown);
        }
        let middle = trials.into_values().map(|mut trials| {
            trials.sort_by(|one, other| one.capacity.total_cmp(&other.capacity));
            trials[trials.len() / 2]
        });
        let shown: Vec<Shown> = middle.filter(|shown| shown.utilisation < SPARE).collect();
        let pairs = shown.iter().flat_map(|fewer| shown.iter().map(move |more| Self { fewer: *fewer, more: *more }));
        let about = |pair: &Self| pair.fewer.candidate == candidate || pair.more.candidate == candidate;
        pairs.filter(|pair| about(pair) && pair.shows_it()).min_by(|one, other| one.difference().total_cmp(&other.difference()))
    }

    /// How many times the connections.
    #[must_use]
    pub fn times(&self) -> f64 {
        self.more.candidate.slots() as f64 / self.fewer.candidate.slots() as f64
    }

    fn shows_it(&self) -> bool {
        let [fewer, more] = [self.fewer.candidate, self.more.candidate];
        let alike = (fewer.workers, fewer.affinity) == (more.workers, more.affinity);
        alike && self.times() >= DOUBLED && self.more.capacity <= SAME * self.fewer.capacity
    }

    fn difference(&self) -> f64 {
        (self.more.capacity / self.fewer.capacity).ln().abs()
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU16;
    use std::time::Duration;

    use super::*;
    use crate::stats::{Latencies, PackedLatencies};
    use crate::study::{CoreShare, Dimensions, Flag, LightNote, Outcome, Pace, Purpose, Space, Suggestion, Task, Trial};
    use crate::units::{Connections, Workers};

    fn candidate(connections: u32) -> Candidate {
        Candidate::new(Workers::new(4).unwrap(), Connections::new(connections).unwrap())
    }

    /// Half of the cores are busy, and neither workers nor connections are used up.
    fn spare(capacity: f64) -> Measurement {
        let (utilisation, worker_busy, slots_busy) = (Some(0.5), Some(0.5), Some(0.5));
        Measurement { utilisation, worker_busy, slots_busy, ..Measurement::of_capacity(capacity) }
    }

    fn study(trials: impl IntoIterator<Item = (u32, Measurement)>) -> Study {
        let space = Space::ordinary(NonZeroU16::new(4).unwrap(), Dimensions::WorkersAndConnections, Connections::ONE);
        let slo = "p90<700ms".parse().unwrap();
        let mut study = Study::new(slo, space, Pace::Normal, Pace::Normal.budget(&slo));
        for (connections, found) in trials {
            let (purpose, task) = (Purpose::Jump, Task::Measure);
            let suggestion = Suggestion { candidate: candidate(connections), purpose, task, expected: None, rival: None };
            study.record(Trial { suggestion, outcome: Outcome::Measured(Box::new(found)) });
        }
        study
    }

    fn binding(trials: impl IntoIterator<Item = (u32, Measurement)>) -> Binding {
        Binding::of(&study(trials), candidate(10)).unwrap()
    }

    fn light(millis: u64) -> LightNote {
        let mut latencies = Latencies::new();
        (0..100).for_each(|_| latencies.record(Duration::from_millis(millis)));
        LightNote { throughput: 10.0, latencies: PackedLatencies::of(&latencies) }
    }

    #[test]
    fn counters_name_what_binds_outside() {
        let core = |cpu| CoreShare { cpu, iowait: 0.3, ..CoreShare::default() };
        let disk = binding([(10, Measurement { cores: vec![core(0), core(1)], ..spare(100.0) })]);
        assert_eq!((disk.name(), disk.cause), ("the disk", Some(Cause::Disk(0.3))));
        let backup = binding([(10, Measurement { cores: vec![core(0), core(1)], rest_iowait: Some(0.25), ..spare(100.0) })]);
        assert_eq!(backup.cause, None, "somebody else waits for it");
        let tight = binding([(10, Measurement { light: Some(light(600)), p50: Some(0.65), ..spare(100.0) })]);
        assert_eq!(tight.name(), "the latency bound itself");
        let queue = binding([(10, Measurement { light: Some(light(40)), p50: Some(0.4), ..spare(100.0) })]);
        assert!(matches!(queue.cause, Some(Cause::Queue { light, .. }) if (light - 0.04).abs() < 0.001), "{queue:?}");
        let near =
            binding([(10, Measurement { light: Some(light(40)), p50: Some(0.4), utilisation: Some(0.9), ..spare(100.0) })]);
        assert_eq!((near.label, near.cause), (Label::Other, None), "cores that are nearly busy make requests wait too");
        let dark = binding([(10, Measurement { light: Some(light(40)), p50: Some(0.05), ..spare(100.0) })]);
        assert_eq!((dark.name(), dark.cause), (Label::Other.name(), None));
    }

    #[test]
    fn what_this_host_used_up_needs_no_other_cause() {
        let full = Measurement { utilisation: Some(0.97), light: Some(light(600)), ..spare(100.0) };
        assert_eq!(binding([(10, full)]), Binding { label: Label::Cpu, cause: None, evidence: None });
        assert_eq!(Binding::of(&study([]), candidate(10)), None);
    }

    #[test]
    fn two_trials_show_that_more_connections_give_no_more() {
        let trials = [(5, spare(99.0)), (10, spare(100.0)), (20, spare(101.0)), (40, spare(100.2)), (80, spare(130.0))];
        let found = binding(trials).evidence.unwrap();
        assert_eq!((found.fewer.trial, found.more.trial), (2, 4));
        assert!((found.times() - 4.0).abs() < 1e-9);
    }

    #[test]
    fn gains_busy_cores_and_disturbances_show_nothing() {
        let busy = Measurement { utilisation: Some(0.9), ..spare(100.0) };
        let disturbed = Measurement { flags: vec![Flag::Steal], ..spare(100.0) };
        for more in [(20, spare(110.0)), (20, busy), (20, disturbed), (15, spare(100.0))] {
            assert_eq!(binding([(10, spare(100.0)), more.clone()]).evidence, None, "{more:?}");
        }
    }
}
