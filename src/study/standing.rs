//! Who leads: repeated measurements of a candidate taken together, and candidates that cannot be told apart.

use crate::stats::{self, Spread};
use crate::study::stability;
use crate::study::{Candidate, Measurement, Outcome, Study};

/// What is known about one candidate.
#[derive(Clone, Debug, PartialEq)]
pub struct Place {
    /// The configuration.
    pub candidate: Candidate,
    /// Logarithms of its merits (capacities, where that is what is looked for): of undisturbed trials, or of all if none was
    /// undisturbed; without that of an accident.
    pub logs: Vec<f64>,
    /// The trials (counted from 0) that these are of.
    trials: Vec<usize>,
    /// The trial (counted from 0) that lies so far below the others of its kind that it does not count.
    pub accident: Option<usize>,
    /// Where its boots differ more than those of other candidates: what it did in the worst and in the best.
    pub unstable: Option<[f64; 2]>,
    /// Whether every trial behind it was disturbed, so that it must not be compared with others.
    pub disturbed: bool,
    /// Its memory, bytes: the most that was measured, if any was.
    pub memory: Option<u64>,
}

impl Place {
    /// The geometric mean of its merits: its capacity, requests a second, where that is what is looked for.
    #[must_use]
    pub fn merit(&self) -> f64 {
        self.level().exp()
    }

    fn level(&self) -> f64 {
        stats::mean(&self.logs).unwrap_or(f64::NEG_INFINITY)
    }

    fn highest(&self) -> f64 {
        self.logs.iter().copied().fold(f64::NEG_INFINITY, f64::max)
    }

    fn lowest(&self) -> f64 {
        self.logs.iter().copied().fold(f64::INFINITY, f64::min)
    }

    /// Leaves out an accident, where other candidates scatter like `elsewhere`.
    fn leave_out_accident(&mut self, elsewhere: Spread) {
        if let Some(number) = stability::accident(&self.logs, elsewhere) {
            self.logs.remove(number);
            self.accident = Some(self.trials.remove(number));
        }
    }

    /// Looks whether its repetitions agree, where other candidates scatter like `elsewhere`.
    fn compare(&mut self, elsewhere: Spread) {
        if stability::is_unstable(&self.logs, elsewhere) {
            self.unstable = Some([self.lowest().exp(), self.highest().exp()]);
        }
    }
}

/// The candidates that may be recommended.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing {
    places: Vec<Place>,
    /// What was believed of the scatter before any repetition.
    usual: Spread,
    spread: Spread,
}

/// Candidates this close are equals, however quiet the host.
const EQUAL: f64 = 0.02;
/// Memory this close is equal.
const SAME_MEMORY: f64 = 1.03;

impl Standing {
    /// The standing after the trials of `study`. A candidate that failed at least as often as it was measured is not stable
    /// enough to have a place; but the baseline has one until it failed more often, as it is what the best is compared with. One
    /// that takes more memory than may be used has none.
    #[must_use]
    pub fn of(study: &Study) -> Self {
        Self::without(study, &[])
    }

    /// The same without trials `aside` (counted from 0), where others tell of their candidates.
    #[must_use]
    pub fn without(study: &Study, aside: &[usize]) -> Self {
        let mut candidates: Vec<Candidate> = Vec::new();
        for (candidate, _) in study.measured() {
            if !candidates.contains(&candidate) {
                candidates.push(candidate);
            }
        }
        let mut places: Vec<Place> = candidates.into_iter().filter_map(|candidate| place(study, candidate, aside)).collect();
        // One may hide another.
        let found = |places: &[Place]| places.iter().filter(|place| place.accident.is_some()).count();
        loop {
            let before = found(&places);
            for (place, elsewhere) in with_elsewhere(study, &mut places).filter(|(place, _)| place.accident.is_none()) {
                place.leave_out_accident(elsewhere);
            }
            if found(&places) == before {
                break;
            }
        }
        for (place, elsewhere) in with_elsewhere(study, &mut places) {
            place.compare(elsewhere);
        }
        let spread = spread(study, &places, None);
        Self { places, usual: study.scatter(), spread }
    }

    /// What is known about `candidate`, if it has a place.
    #[must_use]
    pub fn place(&self, candidate: Candidate) -> Option<&Place> {
        self.places.iter().find(|place| place.candidate == candidate)
    }

    /// The trials (counted from 0) that are accidents and do not count.
    pub fn accidents(&self) -> impl Iterator<Item = usize> {
        self.places.iter().filter_map(|place| place.accident)
    }

    /// The highest mean capacity.
    #[must_use]
    pub fn leader(&self) -> Option<&Place> {
        self.places.iter().max_by(|one, other| one.level().total_cmp(&other.level()))
    }

    /// The one that leads, or would if its lower repetition was an accident, but whose two repetitions lie too far apart to believe
    /// either.
    pub(super) fn torn(&self) -> Option<&Place> {
        let leader = self.leader()?.level();
        let torn =
            |place: &&Place| !place.disturbed && place.highest() >= leader && stability::wants_third(&place.logs, self.usual);
        self.places.iter().filter(torn).max_by(|one, other| one.highest().total_cmp(&other.highest()))
    }

    /// Among those that cannot be told from the leader: the stable ones, then the least memory, then the fewest slots. One of unknown
    /// memory is chosen only if that of none is known.
    #[must_use]
    pub fn finalist(&self) -> Option<&Place> {
        let leader = self.leader()?;
        let tolerance = EQUAL.max(self.spread.sd / (leader.logs.len() as f64).sqrt());
        let mut equals: Vec<&Place> = self.places.iter().filter(|place| place.level() >= leader.level() - tolerance).collect();
        if equals.iter().any(|place| place.unstable.is_none()) {
            equals.retain(|place| place.unstable.is_none());
        }
        let least = equals.iter().filter_map(|place| place.memory).min();
        let spares = |place: &&Place| {
            least.is_none_or(|least| place.memory.is_some_and(|memory| memory as f64 <= least as f64 * SAME_MEMORY))
        };
        equals.into_iter().filter(spares).min_by_key(|place| place.candidate.slots())
    }

    /// How much one trial scatters, as far as all repetitions of the study tell: a host whose boots differ shows it at every candidate,
    /// and two or three repetitions of one of them alone would say too little. An accident counts as the least one that is one.
    #[must_use]
    pub const fn spread(&self) -> Spread {
        self.spread
    }
}

/// Which of two equal places is the only stable one; or else known to need plainly less memory; or else the second.
#[must_use]
pub fn preferred<'a>(one: &'a Place, other: &'a Place) -> &'a Place {
    let plainly = one.memory.zip(other.memory).is_some_and(|(one, other)| one as f64 * SAME_MEMORY < other as f64);
    match (one.unstable, other.unstable) {
        (None, Some(_)) => one,
        (Some(_), None) => other,
        (None, None) | (Some(_), Some(_)) => {
            if plainly {
                one
            } else {
                other
            }
        }
    }
}

/// Each undisturbed place, and how much one trial scatters by the others.
fn with_elsewhere<'a>(study: &Study, places: &'a mut [Place]) -> impl Iterator<Item = (&'a mut Place, Spread)> {
    let elsewhere: Vec<Spread> = (0..places.len()).map(|this| spread(study, places, Some(this))).collect();
    places.iter_mut().zip(elsewhere).filter(|(place, _)| !place.disturbed)
}

/// How much one trial scatters by all undisturbed places, or by all but one.
fn spread(study: &Study, places: &[Place], but: Option<usize>) -> Spread {
    let counting = || places.iter().enumerate().filter(|(number, place)| !place.disturbed && Some(*number) != but);
    let spread = study.scatter().updated(counting().map(|(_, place)| place.logs.as_slice()));
    // On a host whose boots differ much, it is not the accident that it looks like.
    let accidents = counting().filter(|(_, place)| place.accident.is_some()).count();
    spread.widened(stability::ACCIDENT, accidents)
}

fn place(study: &Study, candidate: Candidate, aside: &[usize]) -> Option<Place> {
    let memory = usable(study, candidate).filter_map(|found| found.memory_bytes).max();
    let (mut numbered, disturbed) = numbered(study, candidate);
    let borne = if candidate == study.space.baseline() { numbered.len() } else { numbered.len().saturating_sub(1) };
    let holds = !numbered.is_empty() && failures(study, candidate) <= borne;
    if numbered.iter().any(|(trial, _)| !aside.contains(trial)) {
        numbered.retain(|(trial, _)| !aside.contains(trial));
    }
    let (trials, logs) = numbered.into_iter().unzip();
    let may_be_used = study.excess(candidate).is_none();
    (holds && may_be_used).then_some(Place { candidate, logs, trials, accident: None, unstable: None, disturbed, memory })
}

fn usable(study: &Study, candidate: Candidate) -> impl Iterator<Item = &Measurement> {
    study.measured().filter(move |(tried, found)| *tried == candidate && found.is_usable()).map(|(_, found)| found)
}

/// Logarithms of the merits of `candidate` whenever it held, however often it failed: of undisturbed trials, or of all if none
/// was undisturbed; and whether none was.
pub(super) fn held(study: &Study, candidate: Candidate) -> (Vec<f64>, bool) {
    let (logs, disturbed) = numbered(study, candidate);
    (logs.into_iter().map(|(_, log)| log).collect(), disturbed)
}

/// The same with the numbers of the trials, from 0.
fn numbered(study: &Study, candidate: Candidate) -> (Vec<(usize, f64)>, bool) {
    let of_it = study.trials().iter().enumerate().filter(|(_, trial)| trial.suggestion.candidate == candidate);
    let usable = of_it.filter_map(|(number, trial)| Some((number, trial.measurement().filter(|found| found.is_usable())?)));
    let all: Vec<(usize, f64, bool)> = usable
        .filter_map(|(number, found)| {
            let merit = study.objective.merit(found, candidate, study.space.cores)?;
            Some((number, merit.ln(), found.is_valid()))
        })
        .collect();
    let disturbed = !all.iter().any(|(_, _, valid)| *valid);
    (all.into_iter().filter(|(_, _, valid)| *valid || disturbed).map(|(number, log, _)| (number, log)).collect(), disturbed)
}

/// Trials that speak against a candidate. One that held nothing while something disturbed it does not, nor one that was given up because
/// another seemed better.
pub(super) fn failures(study: &Study, candidate: Candidate) -> usize {
    let of_candidate = study.trials().iter().filter(|trial| trial.suggestion.candidate == candidate);
    let failed = |outcome: &Outcome| match outcome {
        Outcome::Measured(found) => !found.is_usable() && !found.is_void() && found.ending.outclassed_by().is_none(),
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
        assert_eq!((preferred(places[1], places[0]), preferred(places[0], places[1])), (places[0], places[1]));
    }
}
