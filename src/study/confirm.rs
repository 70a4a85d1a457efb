//! The last phase: best and baseline again, in turn, on fresh boots; and what their ratio is.
//!
//! Only measurements of this phase count for the ratio where there are any: the search's own are biased, because the luckiest won.

use crate::stats::{Interval, Spread};
use crate::study::standing::{Standing, failures};
use crate::study::{Candidate, Purpose, Study, Trial};

/// The two that are compared, and their measurements in turn.
#[derive(Clone, Debug, PartialEq)]
pub struct Duel {
    /// What is configured, or else Gunicorn's rule of thumb.
    pub baseline: Candidate,
    /// The best found. May be the baseline.
    pub best: Candidate,
    /// Trials that count, in pairs.
    attempts: usize,
    /// Trials that something disturbed, which do not.
    disturbed: usize,
    /// Logarithms of merits, of baseline and best, of the pairs in which both held.
    pairs: Vec<[f64; 2]>,
    baseline_logs: Vec<f64>,
    best_logs: Vec<f64>,
}

/// The most disturbed trials that are repeated: a host that is never quiet must not keep a study for ever.
const MOST_DISTURBED: usize = 4;

/// How best and baseline compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The best is better.
    Better,
    /// The interval of the ratio contains 1.
    NoDifference,
    /// The best did not stand up to repetition.
    Worse,
    /// The baseline holds no rate within the objective, so there is no ratio.
    OnlyBest,
    /// Nothing better than the baseline was found.
    BaselineIsBest,
    /// One of them was never measured undisturbed, so they cannot be compared.
    Disturbed,
}

/// An interval narrower than this (half, as a share) needs no more pairs.
const NARROW: f64 = 0.05;
/// Nor one that lies above this ratio as a whole.
const PLAIN_GAIN: f64 = 1.1;

impl Duel {
    /// The duel of `study`: the one under way, or the one its standing calls for; `None` if nothing holds any rate.
    #[must_use]
    pub fn of(study: &Study) -> Option<Self> {
        let baseline = study.space.baseline();
        let standing = Standing::of(study);
        let confirming: Vec<_> = study.trials().iter().filter(|trial| trial.suggestion.purpose == Purpose::Confirm).collect();
        let fixed = confirming.iter().map(|trial| trial.suggestion.candidate).find(|candidate| *candidate != baseline);
        let best = fixed.or_else(|| standing.finalist().map(|place| place.candidate))?;
        // A failure or a crash counts, because it says something of the candidate. A disturbed trial does not, so the next one takes its place in
        // the order.
        let counts = |trial: &&Trial| trial.measurement().is_none_or(|found| found.is_valid() || found.has_crashed());
        let (counting, disturbed): (Vec<&Trial>, Vec<&Trial>) = confirming.into_iter().partition(counts);
        let log = |trial: &Trial, of: Candidate| {
            let found = trial.measurement().filter(|found| found.is_usable() && trial.suggestion.candidate == of)?;
            study.objective.merit(found, of, study.space.cores).map(f64::ln)
        };
        let logs = |of: Candidate| counting.iter().filter_map(|trial| log(trial, of)).collect::<Vec<f64>>();
        let pairs = counting.chunks_exact(2).filter_map(|pair| {
            let of = |candidate| pair.iter().find_map(|trial| log(trial, candidate));
            Some([of(baseline)?, of(best)?])
        });
        let (pairs, baseline_logs, best_logs) = (pairs.collect(), logs(baseline), logs(best));
        Some(Self { baseline, best, attempts: counting.len(), disturbed: disturbed.len(), pairs, baseline_logs, best_logs })
    }

    /// Who is measured next, or `None` if enough is known. `more` says whether the budget allows more than the least.
    #[must_use]
    pub fn next(&self, study: &Study, more: bool) -> Option<Candidate> {
        let effort = study.pace.effort();
        if self.best == self.baseline || self.disturbed > MOST_DISTURBED {
            return None;
        }
        if Standing::of(study).place(self.baseline).is_none() && failures(study, self.baseline) > 0 {
            return (self.attempts < effort.least_pairs).then_some(self.best);
        }
        let pairs = self.attempts / 2;
        let within_pair = !self.attempts.is_multiple_of(2);
        let wanted = pairs < effort.least_pairs || (more && pairs < effort.most_pairs && !self.is_settled(study));
        // Best first, then mirrored pair by pair: a slow drift of the host cancels.
        let best_first = matches!(self.attempts % 4, 0 | 3);
        (wanted || within_pair).then_some(if best_first { self.best } else { self.baseline })
    }

    fn is_settled(&self, study: &Study) -> bool {
        self.ratio(study).is_some_and(|ratio| ratio.half_width() < NARROW || ratio.low > PLAIN_GAIN)
    }

    /// Merit of the best over that of the baseline (their capacities, where those are looked for), with its interval by Student's t over the pairs, or
    /// before there are any by the search's trials; `None` if either was never measured undisturbed.
    #[must_use]
    pub fn ratio(&self, study: &Study) -> Option<Interval> {
        let Spread { sd, weight } = study.scatter();
        let of_pair = Spread { sd: sd * std::f64::consts::SQRT_2, weight };
        if !self.pairs.is_empty() {
            let ratios: Vec<f64> = self.pairs.iter().map(|[baseline, best]| best - baseline).collect();
            return of_pair.interval(&ratios);
        }
        let standing = Standing::of(study);
        let level = |candidate| Some(standing.place(candidate).filter(|place| !place.disturbed)?.capacity().ln());
        of_pair.interval(&[level(self.best)? - level(self.baseline)?])
    }

    /// The merits of baseline and best in each pair of repetitions that the ratio is of.
    pub fn pairs(&self) -> impl Iterator<Item = [f64; 2]> {
        self.pairs.iter().map(|pair| pair.map(f64::exp))
    }

    /// The capacity of the best with its interval, by its measurements in this phase, or before there are any by those of the search.
    #[must_use]
    pub fn best_capacity(&self, study: &Study) -> Option<Interval> {
        capacity(study, self.best, &self.best_logs)
    }

    /// The same of the baseline.
    #[must_use]
    pub fn baseline_capacity(&self, study: &Study) -> Option<Interval> {
        capacity(study, self.baseline, &self.baseline_logs)
    }

    /// Whether what is said of them was repeated undisturbed after the search, so that it is not that of the luckiest trials.
    #[must_use]
    pub fn is_confirmed(&self, study: &Study) -> bool {
        let only_best = self.outcome(study) == Outcome::OnlyBest;
        !self.pairs.is_empty() || (only_best && !self.best_logs.is_empty())
    }

    /// Whether it was to be repeated, but disturbances left nothing of that.
    #[must_use]
    pub fn is_spoilt(&self, study: &Study) -> bool {
        self.disturbed > 0 && !self.is_confirmed(study)
    }

    /// How they compare.
    #[must_use]
    pub fn outcome(&self, study: &Study) -> Outcome {
        let standing = Standing::of(study);
        let (best, baseline) = (standing.place(self.best), standing.place(self.baseline));
        match (best, baseline) {
            (Some(place), _) if self.best == self.baseline => {
                if place.disturbed {
                    Outcome::Disturbed
                } else {
                    Outcome::BaselineIsBest
                }
            }
            (None, _) => Outcome::Worse,
            (Some(_), None) if failures(study, self.baseline) > 0 => Outcome::OnlyBest,
            (Some(_), None) => Outcome::Disturbed,
            (Some(_), Some(_)) => self.ratio(study).map_or(Outcome::Disturbed, verdict),
        }
    }

    /// What to recommend: where no difference is seen the one that needs plainly less memory, or else the baseline; the baseline too where they cannot
    /// be compared. `None` if what would be recommended failed too often when repeated.
    #[must_use]
    pub fn recommended(&self, study: &Study) -> Option<Candidate> {
        let standing = Standing::of(study);
        let (best, baseline) = (standing.place(self.best), standing.place(self.baseline));
        let chosen = match (self.outcome(study), best, baseline) {
            (Outcome::NoDifference, Some(best), Some(baseline)) => Some(crate::study::standing::smaller(best, baseline)),
            (Outcome::Better | Outcome::OnlyBest | Outcome::NoDifference, Some(best), _) => Some(best),
            (Outcome::Better | Outcome::OnlyBest | Outcome::NoDifference, None, baseline)
            | (Outcome::Worse | Outcome::BaselineIsBest, _, baseline) => baseline,
            (Outcome::Disturbed, best, baseline) => baseline.or(best),
        };
        chosen.map(|place| place.candidate)
    }
}

fn verdict(ratio: Interval) -> Outcome {
    if ratio.low > 1.0 {
        Outcome::Better
    } else if ratio.high < 1.0 {
        Outcome::Worse
    } else {
        Outcome::NoDifference
    }
}

fn capacity(study: &Study, candidate: Candidate, logs: &[f64]) -> Option<Interval> {
    if !logs.is_empty() {
        return study.scatter().interval(logs);
    }
    study.scatter().interval(&Standing::of(study).place(candidate)?.logs)
}
