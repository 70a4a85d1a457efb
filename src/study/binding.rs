//! What keeps a configuration from doing more, and what shows it. Names what the counters tell; where they tell nothing it says that something
//! outside binds, and no more.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::stats::{self, Interval, Spread};
use crate::study::confirm::Duel;
use crate::study::counting::{counting, described, settled};
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
    /// Configurations in which more connections gave no more that could be seen.
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

/// Two configurations of as many workers, the second with at least twice the connections in all and no gain that could be seen, while cores
/// were left.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Evidence {
    /// The one with fewer connections.
    pub fewer: Shown,
    /// The one with more.
    pub more: Shown,
    /// The second's capacity over the first's.
    pub ratio: Interval,
}

/// What is seen of a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Shown {
    /// Which.
    #[serde(flatten)]
    pub candidate: Candidate,
    /// How many trials of it count.
    pub trials: usize,
    /// Geometric mean of the highest rates they held, requests a second.
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
/// What is less busy than this does not bind.
const SPARE: f64 = 0.85;
/// How many times the connections it takes to show that these do not bind either.
const DOUBLED: f64 = 2.0;
/// A gain that is lower than this for certain (97.5 %) is none.
const NO_GAIN: f64 = 1.05;

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
        let spare = [found.utilisation, found.slots_busy].into_iter().all(is_spare) && found.has_spare_workers(SPARE);
        // What is busy makes requests wait as well: 1/(1 - U) times as long in a queue for one server (M/M/1: Kleinrock, Queueing
        // Systems 1, 1975), less in one for several.
        let of_worker = found.worker_busy.filter(|_| !found.has_many_cores_a_worker());
        let busiest = found.utilisation?.max(of_worker.unwrap_or(0.0)).min(SPARE);
        let explained = median / (1.0 - busiest);
        let loaded = found.p50.filter(|loaded| spare && median > 0.0 && *loaded >= QUEUES * explained)?;
        Some(Self::Queue { light: median, loaded })
    }
}

impl Evidence {
    /// The best known pair with `candidate` in it in which no gain is seen, both with as many workers on the same cores. Of several the
    /// one of most trials, and not the closest: of many pairs two agree by luck. `None` too where connections beyond the candidate's gain.
    fn of(study: &Study, candidate: Candidate) -> Option<Self> {
        let mut trials: BTreeMap<Candidate, Vec<&Measurement>> = BTreeMap::new();
        for (_, tried, found) in counting(study) {
            trials.entry(tried).or_default().push(found);
        }
        let seen: Vec<Shown> = trials.iter().filter_map(|(of, found)| Shown::of(*of, found)).collect();
        let spread = settled(study, Duel::of(study).as_ref()).spread();
        let pairs = seen.iter().flat_map(|fewer| seen.iter().filter_map(move |more| Self::pair(*fewer, *more, spread)));
        let pairs: Vec<Self> = pairs.filter(|pair| [pair.fewer.candidate, pair.more.candidate].contains(&candidate)).collect();
        if pairs.iter().any(|pair| pair.fewer.candidate == candidate && pair.ratio.low > 1.0) {
            return None;
        }
        let shows = |pair: &Self| pair.ratio.low <= 1.0 && [pair.fewer, pair.more].iter().all(|one| one.utilisation < SPARE);
        let order =
            |one: &Self, other: &Self| one.variance().total_cmp(&other.variance()).then(other.times().total_cmp(&one.times()));
        pairs.into_iter().filter(shows).min_by(order)
    }

    /// The two, if they differ in connections alone, and by enough.
    fn pair(fewer: Shown, more: Shown, spread: Spread) -> Option<Self> {
        let cores = |shown: &Shown| (shown.candidate.workers, shown.candidate.affinity);
        let pair = Self { fewer, more, ratio: more.interval(spread)?.over(fewer.interval(spread)?) };
        (cores(&fewer) == cores(&more) && pair.times() >= DOUBLED).then_some(pair)
    }

    /// How many times the connections.
    #[must_use]
    pub fn times(&self) -> f64 {
        self.more.candidate.slots() as f64 / self.fewer.candidate.slots() as f64
    }

    /// Whether it is certain that they gain next to nothing, and not only that no gain is seen.
    #[must_use]
    pub fn is_certain(&self) -> bool {
        self.ratio.high <= NO_GAIN
    }

    /// That of the logarithm of the ratio, in those of one trial.
    fn variance(&self) -> f64 {
        [self.fewer, self.more].iter().map(|shown| 1.0 / shown.trials as f64).sum()
    }
}

impl Shown {
    /// `None` if some trial did not look at the cores.
    fn of(candidate: Candidate, found: &[&Measurement]) -> Option<Self> {
        let busy: Vec<f64> = found.iter().map(|found| found.cpu_mean()).collect::<Option<_>>()?;
        let capacities: Vec<f64> = found.iter().map(|found| found.capacity).collect();
        let (capacity, utilisation) = (stats::geometric_mean(&capacities)?, stats::mean(&busy)?);
        Some(Self { candidate, trials: found.len(), capacity, utilisation })
    }

    /// Its capacity, where one trial scatters so much.
    fn interval(self, spread: Spread) -> Option<Interval> {
        spread.around(&vec![self.capacity.ln(); self.trials])
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

    /// So many trials with this capacity and these connections, a percent apart.
    fn trials(count: u8, connections: u32, capacity: f64) -> Vec<(u32, Measurement)> {
        (0..count).map(|number| (connections, spare(capacity * (1.0 + f64::from(number % 2) / 100.0)))).collect()
    }

    fn evidence(groups: &[Vec<(u32, Measurement)>]) -> Option<Evidence> {
        binding(groups.concat()).evidence
    }

    #[test]
    fn that_more_connections_are_no_help_takes_more_than_a_trial_of_each() {
        let once = evidence(&[trials(1, 10, 100.0), trials(1, 20, 100.0)]).unwrap();
        assert!(once.ratio.contains(1.0) && once.ratio.high > 1.08 && !once.is_certain(), "{once:?}");
        let often = evidence(&[trials(8, 10, 100.0), trials(8, 20, 100.0)]).unwrap();
        assert!(often.is_certain() && often.ratio.low > 0.95 && (often.times() - 2.0).abs() < 1e-9, "{often:?}");
        assert_eq!((often.fewer.candidate, often.more.candidate), (candidate(10), candidate(20)));
        assert_eq!((often.fewer.trials, often.more.trials), (8, 8));
    }

    #[test]
    fn of_several_pairs_the_one_of_most_trials_counts_and_a_gain_refutes_them_all() {
        // Closest are those of 40 connections, by luck.
        let groups = [trials(4, 10, 100.0), trials(4, 20, 97.0), trials(1, 40, 100.5)];
        assert_eq!(evidence(&groups).unwrap().more.candidate, candidate(20));
        let [few, twice, _] = groups;
        assert_eq!(evidence(&[few.clone(), twice, trials(4, 40, 130.0)]), None);
        let below = evidence(&[trials(4, 5, 60.0), few, trials(1, 20, 100.0)]).unwrap();
        assert_eq!(below.more.candidate, candidate(20), "that fewer hold less says nothing of more");
    }

    #[test]
    fn gains_busy_cores_and_disturbances_show_nothing() {
        let busy = Measurement { utilisation: Some(0.9), ..spare(100.0) };
        let disturbed = Measurement { flags: vec![Flag::Steal], ..spare(100.0) };
        for more in [(20, spare(130.0)), (20, busy), (20, disturbed), (15, spare(100.0))] {
            assert_eq!(binding([(10, spare(100.0)), more.clone()]).evidence, None, "{more:?}");
        }
    }
}
