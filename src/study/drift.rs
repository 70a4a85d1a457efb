//! Whether the host became slower or faster in the course of a study: then capacities that were measured at different times say little about each other.
//!
//! CPU time per request tells: a slower clock or a busy neighbour changes it, while nothing about the candidate has changed (a control variate, as in
//! Lavenberg and Welch, A Perspective on the Use of Control Variables, 1981). Compared within one candidate only: other numbers of workers or
//! connections need another CPU time per request by themselves.

use crate::study::{Candidate, Ending, Measurement, Study};

/// CPU time per request counts from trials that kept what can be had this busy: lightly used cores need more.
const BUSY: f64 = 0.75;
/// A candidate's dearest trial is dearer than its cheapest by more than this share only where the host changed: between boots the demand scatters by
/// 1.5 % (standard deviation), so six trials of a host that does not change span 4 %, and hardly ever twice that.
const DRIFTS: f64 = 0.08;

/// CPU time per request of one candidate that did not stay what it was, seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Drift {
    /// Which.
    pub candidate: Candidate,
    /// In its cheapest trial.
    pub least: f64,
    /// In its dearest.
    pub most: f64,
}

impl Drift {
    /// That of the candidate whose demand moved most in `study`; `None` if all stayed what they were, or none was measured twice.
    #[must_use]
    pub fn of(study: &Study) -> Option<Self> {
        let mut candidates: Vec<Candidate> = study.measured().map(|(candidate, _)| candidate).collect();
        candidates.sort_unstable();
        candidates.dedup();
        let moved = candidates.into_iter().filter_map(|candidate| Self::of_candidate(study, candidate));
        moved.filter(|drift| drift.spread() > DRIFTS).max_by(|one, other| one.spread().total_cmp(&other.spread()))
    }

    fn of_candidate(study: &Study, candidate: Candidate) -> Option<Self> {
        let trials = study.measured().filter(|(tried, found)| *tried == candidate && found.is_valid());
        let demands: Vec<f64> = trials.filter_map(|(_, found)| demand(found)).collect();
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

fn demand(found: &Measurement) -> Option<f64> {
    let busy = found.ending == Ending::Held && found.utilisation.is_some_and(|busy| busy > BUSY);
    found.cpu_seconds_per_request.filter(|demand| busy && *demand > 0.0)
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
        let mut study = APPS[1].study(Pace::Quick);
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
        let drift = Drift::of(&study).unwrap();
        assert_eq!((drift.candidate, drift.least, drift.most), (study.space.baseline(), 0.010, 0.0122));
        assert!((drift.spread() - 0.22).abs() < 1e-9);
    }

    #[test]
    fn what_noise_explains_is_no_drift() {
        assert_eq!(Drift::of(&study(&[0.010, 0.0104].map(measured))), None);
        let seen = (0..20).filter(|seed| Drift::of(&studied(&APPS[2], Pace::Normal, *seed)).is_some()).count();
        assert_eq!(seen, 0, "of 20 studies on a host that stays what it is");
    }

    #[test]
    fn idle_and_disturbed_trials_tell_nothing() {
        let idle = Measurement { utilisation: Some(0.4), ..measured(0.02) };
        let disturbed = Measurement { flags: vec![Flag::Steal], ..measured(0.02) };
        assert_eq!(Drift::of(&study(&[measured(0.01), idle, disturbed])), None);
    }
}
