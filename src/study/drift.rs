//! Whether the host became slower or faster in the course of a study: then capacities that were measured at different times say little about each other.
//!
//! CPU time per request tells: a slower clock or a busy neighbour changes it, while nothing about the candidate has changed (a control variate, as in
//! Lavenberg and Welch, A Perspective on the Use of Control Variables, 1981). Compared within one candidate only: other numbers of workers or
//! connections need another CPU time per request by themselves.
//!
//! Ratios are not corrected by it. Best and baseline are measured in turn, so that what both share cancels, and what a candidate's CPU time per
//! request should be is known from the same trials: multiplied by it the ratio is the same. In simulation its error stayed what it was at a drift
//! of 0, 1.2, 3 and 6 % (2.8, 2.6, 2.8 and 3.2 %), while intervals by the corrected scatter missed the truth in 29 % of studies where boots
//! differ by 6 % and show it in CPU time.
//!
//! Nor are candidates ranked by it. Their CPU times, drawn to what the trials of all lead to expect (Efron and Morris, Stein's paradox in statistics,
//! 1977), say how lucky each was; on simulated hosts whose speed wanders by a tenth (`benches/search.rs`, 1500 seeds, `--quick`) that takes
//! the mean regret from 2.1 to 2.0 %, and nowhere else anything. The best are many and close together.

use serde::Serialize;

use crate::study::{Candidate, Ending, Measurement, Pace, Study};

/// Cores this busy need as much CPU a request as they do at their limit: lightly used ones need more.
const BUSY: f64 = 0.75;
/// And so do those of an application that waits, at this share of its own highest rate.
const AS_BUSY: f64 = 0.85;

/// A trial of one candidate is dearer than another of it by more than so many standard deviations (of the logarithm) only where the host
/// changed. On one that did not, two trials are that far apart in 1 of 700 cases, and six in 1 of 50 (studentized range).
const LIMIT: f64 = 4.5;

/// Whether two demands of one candidate differ by more than noise explains.
pub(super) fn is_another_host(one: f64, other: f64, pace: Pace) -> bool {
    (one / other).ln().abs() > LIMIT * pace.demand().sd
}

/// CPU time per request of one candidate that did not stay what it was, seconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Drift {
    /// Which.
    #[serde(flatten)]
    pub candidate: Candidate,
    /// In its cheapest trial.
    pub least: f64,
    /// In its dearest.
    pub most: f64,
}

impl Drift {
    /// That of the candidate whose demand moved most in `study`, trials `aside` (counted from 0) left out; `None` if all stayed what
    /// they were, or none was measured twice.
    #[must_use]
    pub fn of(study: &Study, aside: &[usize]) -> Option<Self> {
        let counts = |number: usize, found: &Measurement| !aside.contains(&number) && found.is_valid();
        let counting: Vec<(Candidate, &Measurement)> = study
            .trials()
            .iter()
            .enumerate()
            .filter_map(|(number, trial)| Some((number, trial.suggestion.candidate, trial.measurement()?)))
            .filter(|(number, _, found)| counts(*number, found))
            .map(|(_, candidate, found)| (candidate, found))
            .collect();
        let mut candidates: Vec<Candidate> = counting.iter().map(|(candidate, _)| *candidate).collect();
        candidates.sort_unstable();
        candidates.dedup();
        let moved = candidates.into_iter().filter_map(|candidate| Self::of_candidate(&counting, candidate));
        moved
            .filter(|drift| is_another_host(drift.least, drift.most, study.pace))
            .max_by(|one, other| one.spread().total_cmp(&other.spread()))
    }

    fn of_candidate(trials: &[(Candidate, &Measurement)], candidate: Candidate) -> Option<Self> {
        let of_it = || trials.iter().filter(|(tried, _)| *tried == candidate).map(|(_, found)| *found);
        let highest = of_it().map(|found| found.throughput).fold(0.0, f64::max);
        let demands: Vec<f64> = of_it().filter_map(|found| demand(found, highest)).collect();
        let least = demands.iter().copied().min_by(f64::total_cmp)?;
        let most = demands.iter().copied().max_by(f64::total_cmp)?;
        Some(Self { candidate, least, most })
    }

    /// By what share the dearest trial was dearer than the cheapest.
    #[must_use]
    pub fn spread(&self) -> f64 {
        self.most / self.least - 1.0
    }
}

/// CPU time per request at the rate that was held, if one was that kept the cores about as busy as `highest`, the candidate's highest
/// throughput, does.
pub(super) fn demand(found: &Measurement, highest: f64) -> Option<f64> {
    let loaded = found.utilisation.is_some_and(|busy| busy > BUSY) || found.throughput >= AS_BUSY * highest;
    found.cpu_seconds_per_request.filter(|demand| loaded && found.ending == Ending::Held && *demand > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::simulation::{APPS, studied};
    use crate::study::{Flag, Outcome, Pace, Purpose, Suggestion, Task, Trial};

    fn measured(demand: f64) -> Measurement {
        Measurement { utilisation: Some(0.95), cpu_seconds_per_request: Some(demand), ..Measurement::of_capacity(100.0) }
    }

    fn study(trials: &[Measurement]) -> Study {
        let mut study = APPS[1].study(Pace::Normal);
        let candidate = study.space.baseline();
        for found in trials {
            let suggestion = Suggestion { candidate, purpose: Purpose::Repeat, task: Task::Measure, expected: None, rival: None };
            study.record(Trial { suggestion, outcome: Outcome::Measured(Box::new(found.clone())) });
        }
        study
    }

    #[test]
    fn a_host_that_became_slower_is_seen_with_its_numbers() {
        let study = study(&[0.010, 0.0122, 0.011].map(measured));
        let drift = Drift::of(&study, &[]).unwrap();
        assert_eq!((drift.candidate, drift.least, drift.most), (study.space.baseline(), 0.010, 0.0122));
        assert!((drift.spread() - 0.22).abs() < 1e-9);
    }

    #[test]
    fn what_noise_explains_is_no_drift() {
        assert_eq!(Drift::of(&study(&[0.010, 0.0104].map(measured)), &[]), None);
        for pace in [Pace::Normal, Pace::Quick] {
            let seen = (0..100).filter(|seed| Drift::of(&studied(&APPS[2], pace, *seed), &[]).is_some()).count();
            // Six trials of the best and six of the baseline, and three standard errors.
            assert!(seen <= 4 + 6, "{seen} of 100 studies on a host that stays what it is, {pace:?}");
        }
    }

    #[test]
    fn idle_and_disturbed_trials_tell_nothing() {
        let idle = Measurement { utilisation: Some(0.4), throughput: 40.0, ..measured(0.02) };
        let disturbed = Measurement { flags: vec![Flag::Steal], ..measured(0.02) };
        assert_eq!(Drift::of(&study(&[measured(0.01), idle, disturbed]), &[]), None);
    }

    #[test]
    fn an_application_that_waits_shows_it_too() {
        let waits = |demand| Measurement { utilisation: Some(0.4), ..measured(demand) };
        assert!(Drift::of(&study(&[0.010, 0.012].map(waits)), &[]).is_some());
        assert_eq!(Drift::of(&study(&[0.010, 0.012].map(waits)), &[1]), None, "that one was repeated");
    }
}
