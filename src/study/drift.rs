//! Whether the host became slower or faster in the course of a study, and what of a capacity that explains.
//!
//! CPU time per request is a control variate of capacity: a slower clock or a busy neighbour changes both by the same factor, while nothing about the
//! candidate has changed (Lavenberg and Welch, A Perspective on the Use of Control Variables, 1981). Compared within one candidate only: other
//! numbers of workers or connections need another CPU time per request by themselves.

use crate::stats;
use crate::study::{Candidate, Ending, Measurement, Study};

/// CPU time per request counts from trials that kept what can be had this busy: lightly used cores need more.
const BUSY: f64 = 0.75;
/// From this spread on a host drifts.
const DRIFTS: f64 = 0.02;

/// CPU time per request of one candidate, trial by trial.
#[derive(Clone, Debug, PartialEq)]
pub struct Drift {
    demands: Vec<f64>,
}

impl Drift {
    /// That of `candidate` in `study`.
    #[must_use]
    pub fn of(study: &Study, candidate: Candidate) -> Self {
        let trials = study.measured().filter(|(tried, found)| *tried == candidate && found.is_valid());
        Self { demands: trials.filter_map(|(_, found)| demand(found)).collect() }
    }

    /// By what share the dearest trial was dearer than the cheapest; `None` of fewer than two trials.
    #[must_use]
    pub fn spread(&self) -> Option<f64> {
        let least = self.demands.iter().copied().min_by(f64::total_cmp)?;
        let most = self.demands.iter().copied().max_by(f64::total_cmp)?;
        (self.demands.len() > 1 && least > 0.0).then(|| most / least - 1.0)
    }

    /// What the trial would have held at the candidate's mean CPU time per request: y · D / mean D where the spread is above 2 %, else y.
    #[must_use]
    pub fn corrected(&self, found: &Measurement) -> f64 {
        let mean = stats::geometric_mean(&self.demands).filter(|_| self.spread().is_some_and(|spread| spread > DRIFTS));
        demand(found).zip(mean).map_or(found.capacity, |(demand, mean)| found.capacity * demand / mean)
    }
}

fn demand(found: &Measurement) -> Option<f64> {
    let busy = found.ending == Ending::Held && found.utilisation.is_some_and(|busy| busy > BUSY);
    found.cpu_seconds_per_request.filter(|demand| busy && *demand > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::simulation::APPS;
    use crate::study::{Flag, Outcome, Pace, Purpose, Suggestion, Task, Trial};

    fn study(trials: &[(f64, f64)]) -> (Study, Candidate) {
        let mut study = APPS[1].study(Pace::Quick);
        let candidate = study.space.baseline();
        for (capacity, demand) in trials {
            let found = Measurement {
                utilisation: Some(0.95),
                cpu_seconds_per_request: Some(*demand),
                ..Measurement::of_capacity(*capacity)
            };
            let suggestion = Suggestion { candidate, purpose: Purpose::Repeat, task: Task::Measure, expected: None, rival: None };
            study.record(Trial { suggestion, outcome: Outcome::Measured(Box::new(found)) });
        }
        (study, candidate)
    }

    fn measured(study: &Study) -> Vec<&Measurement> {
        study.measured().map(|(_, found)| found).collect()
    }

    #[test]
    fn a_slower_host_explains_a_lower_capacity() {
        let (study, candidate) = study(&[(100.0, 0.010), (90.0, 0.010 / 0.9), (110.0, 0.010 / 1.1)]);
        let drift = Drift::of(&study, candidate);
        assert!((drift.spread().unwrap() - 0.2222).abs() < 1e-3);
        let corrected: Vec<f64> = measured(&study).into_iter().map(|found| drift.corrected(found)).collect();
        assert!(corrected.iter().all(|rate| (rate / corrected[0] - 1.0).abs() < 1e-9), "{corrected:?}");
    }

    #[test]
    fn a_spread_within_two_percent_corrects_nothing() {
        let (study, candidate) = study(&[(100.0, 0.010), (97.0, 0.01015)]);
        let drift = Drift::of(&study, candidate);
        assert!(measured(&study).into_iter().all(|found| drift.corrected(found).to_bits() == found.capacity.to_bits()));
    }

    #[test]
    fn idle_and_disturbed_trials_tell_nothing() {
        let (study, candidate) = study(&[(100.0, 0.010)]);
        let found = measured(&study)[0].clone();
        let mut more = APPS[1].study(Pace::Quick);
        let suggestion = study.trials()[0].suggestion;
        for doubtful in
            [Measurement { utilisation: Some(0.4), ..found.clone() }, Measurement { flags: vec![Flag::Steal], ..found }]
        {
            more.record(Trial { suggestion, outcome: Outcome::Measured(Box::new(doubtful)) });
        }
        assert_eq!(Drift::of(&more, candidate).spread(), None);
    }
}
