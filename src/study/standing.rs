//! Who leads: repeated measurements of a candidate taken together, and candidates that cannot be told apart.

use crate::stats::{self, Spread};
use crate::study::{Candidate, Measurement, Outcome, Study};

/// What is known about one candidate.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    /// The configuration.
    pub candidate: Candidate,
    /// Logarithms of its merits (capacities, where that is what is looked for): of undisturbed trials, or of all if none was undisturbed.
    pub logs: Vec<f64>,
    /// Whether every trial behind it was disturbed, so that it must not be compared with others.
    pub disturbed: bool,
    /// Its memory, bytes: the most that was measured, if any was.
    pub memory: Option<u64>,
}

impl Place {
    /// The geometric mean of its merits: its capacity, requests a second, where that is what is looked for.
    #[must_use]
    pub fn capacity(&self) -> f64 {
        self.level().exp()
    }

    fn level(&self) -> f64 {
        stats::mean(&self.logs).unwrap_or(f64::NEG_INFINITY)
    }
}

/// The candidates that may be recommended.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    places: Vec<Place>,
    spread: Spread,
}

/// Candidates this close are equals, however quiet the host.
const EQUAL: f64 = 0.02;
/// Memory this close is equal.
const SAME_MEMORY: f64 = 1.03;

impl Standing {
    /// The standing after the trials of `study`. A candidate that failed at least as often as it was measured is not stable
    /// enough to have a place; but the baseline has one until it failed more often, as it is what the best is compared with.
    #[must_use]
    pub fn of(study: &Study) -> Self {
        let mut candidates: Vec<Candidate> = Vec::new();
        for (candidate, _) in study.measured() {
            if !candidates.contains(&candidate) {
                candidates.push(candidate);
            }
        }
        let places: Vec<Place> = candidates.into_iter().filter_map(|candidate| place(study, candidate)).collect();
        let peaceful = places.iter().filter(|place| !place.disturbed);
        let spread = study.scatter().updated(peaceful.map(|place| place.logs.as_slice()));
        Self { places, spread }
    }

    /// What is known about `candidate`, if it has a place.
    #[must_use]
    pub fn place(&self, candidate: Candidate) -> Option<&Place> {
        self.places.iter().find(|place| place.candidate == candidate)
    }

    /// The highest mean capacity.
    #[must_use]
    pub fn leader(&self) -> Option<&Place> {
        self.places.iter().max_by(|one, other| one.level().total_cmp(&other.level()))
    }

    /// Among those that cannot be told from the leader: the least memory, then the fewest slots. One of unknown memory is chosen
    /// only if that of none is known.
    #[must_use]
    pub fn finalist(&self) -> Option<&Place> {
        let leader = self.leader()?;
        let tolerance = EQUAL.max(self.spread.sd / (leader.logs.len() as f64).sqrt());
        let equals: Vec<&Place> = self.places.iter().filter(|place| place.level() >= leader.level() - tolerance).collect();
        let least = equals.iter().filter_map(|place| place.memory).min();
        let spares = |place: &&Place| {
            least.is_none_or(|least| place.memory.is_some_and(|memory| memory as f64 <= least as f64 * SAME_MEMORY))
        };
        equals.into_iter().filter(spares).min_by_key(|place| place.candidate.slots())
    }

    /// How much one trial scatters, as far as all repetitions of the study tell: a host whose boots differ shows it at every
    /// candidate, and two or three repetitions of one of them alone would say too little.
    #[must_use]
    pub const fn spread(&self) -> Spread {
        self.spread
    }
}

/// Which of two places is known to need plainly less memory, or the second.
#[must_use]
pub fn smaller<'a>(one: &'a Place, other: &'a Place) -> &'a Place {
    let plainly = one.memory.zip(other.memory).is_some_and(|(one, other)| one as f64 * SAME_MEMORY < other as f64);
    if plainly { one } else { other }
}

fn place(study: &Study, candidate: Candidate) -> Option<Place> {
    let memory = usable(study, candidate).filter_map(|found| found.memory_bytes).max();
    let (logs, disturbed) = held(study, candidate);
    let borne = if candidate == study.space.baseline() { logs.len() } else { logs.len().saturating_sub(1) };
    (!logs.is_empty() && failures(study, candidate) <= borne).then_some(Place { candidate, logs, disturbed, memory })
}

fn usable(study: &Study, candidate: Candidate) -> impl Iterator<Item = &Measurement> {
    study.measured().filter(move |(tried, found)| *tried == candidate && found.is_usable()).map(|(_, found)| found)
}

/// Logarithms of the merits of `candidate` whenever it held, however often it failed: of undisturbed trials, or of all if none
/// was undisturbed; and whether none was.
pub(super) fn held(study: &Study, candidate: Candidate) -> (Vec<f64>, bool) {
    let of = |found: &Measurement| study.objective.merit(found, candidate, study.space.cores).map(f64::ln);
    let peaceful: Vec<f64> = usable(study, candidate).filter(|found| found.is_valid()).filter_map(of).collect();
    if peaceful.is_empty() { (usable(study, candidate).filter_map(of).collect(), true) } else { (peaceful, false) }
}

/// Trials that speak against a candidate. One that held nothing while something disturbed it does not.
pub(super) fn failures(study: &Study, candidate: Candidate) -> usize {
    let of_candidate = study.trials().iter().filter(|trial| trial.suggestion.candidate == candidate);
    let failed = |outcome: &Outcome| match outcome {
        Outcome::Measured(measured) => !measured.is_usable() && !measured.is_void(),
        Outcome::Challenged(_) => false,
        Outcome::Failed { .. } => true,
    };
    of_candidate.filter(|trial| failed(&trial.outcome)).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::simulation::APPS;
    use crate::study::{Pace, Purpose, Suggestion, Task, Trial};
    use crate::units::{Connections, Workers};

    #[test]
    fn unknown_memory_is_never_less() {
        let mut study = APPS[1].study(Pace::Normal);
        for (workers, memory_bytes) in [(5, Some(500)), (1, None)] {
            let connections = Connections::new(10).unwrap();
            let candidate = Candidate::new(Workers::new(workers).unwrap(), connections);
            let suggestion = Suggestion { candidate, purpose: Purpose::Gentle, task: Task::Measure, expected: None, rival: None };
            let found = Measurement { memory_bytes, ..Measurement::of_capacity(100.0) };
            study.record(Trial { suggestion, outcome: Outcome::Measured(Box::new(found)) });
        }
        let standing = Standing::of(&study);
        let places: Vec<&Place> = study.measured().filter_map(|(candidate, _)| standing.place(candidate)).collect();
        assert_eq!(standing.finalist(), Some(places[0]));
        assert_eq!((smaller(places[1], places[0]), smaller(places[0], places[1])), (places[0], places[1]));
    }
}
