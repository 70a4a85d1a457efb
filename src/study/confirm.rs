//! The last phase: best and baseline again, in turn, on fresh boots; and what their ratio is.
//!
//! Only measurements of this phase count for the ratio where there are any: the search's own are biased, because the luckiest won.

use serde::{Deserialize, Serialize};

use crate::stats::{Interval, Spread};
use crate::study::drift::{demand, is_another_host};
use crate::study::standing::{Standing, failures, held, preferred};
use crate::study::{Candidate, Measurement, Purpose, Study, Trial};

/// The two that are compared, and their measurements in turn.
#[derive(Clone, Debug, PartialEq)]
pub struct Duel {
    /// What is configured, or else Gunicorn's rule of thumb.
    pub baseline: Candidate,
    /// The best found. May be the baseline.
    pub best: Candidate,
    /// Pairs that count.
    done: usize,
    /// Who completes the pair under way.
    awaited: Option<Candidate>,
    /// Trials that something disturbed, which do not.
    disturbed: usize,
    /// Trials (counted from 0) of pairs that were run again and do not count.
    aside: Vec<usize>,
    /// Trials of pairs during which the host was not what it was in the others, whether they were run again or not.
    moved: Vec<usize>,
    /// Logarithms of merits, of baseline and best, of the pairs in which both held.
    pairs: Vec<[f64; 2]>,
    baseline_logs: Vec<f64>,
    best_logs: Vec<f64>,
    /// How often each failed in this phase.
    baseline_failures: usize,
    best_failures: usize,
}

/// The most disturbed trials that are repeated: a host that is never quiet must not keep a study for ever.
const MOST_DISTURBED: usize = 4;
/// Failures of either side that are repeated: one may be an accident of the host or of a trial program, and a second one is no accident.
const FORGIVEN: usize = 1;

/// The most pairs that are run again because the host changed or one side had an accident.
pub(super) const MOST_ASIDE: usize = 2;

/// A trial of the duel, and its number from 0.
type Numbered<'a> = (usize, &'a Trial);

/// How best and baseline compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// The best is better.
    Better,
    /// The interval of the ratio contains 1.
    NoDifference,
    /// The best did not stand up to repetition.
    Worse,
    /// The baseline holds no rate within the objective, or did once and failed when it was repeated, or takes more memory than may be
    /// used, so there is no ratio.
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
        let confirming: Vec<Numbered<'_>> =
            study.trials().iter().enumerate().filter(|(_, trial)| trial.suggestion.purpose == Purpose::Confirm).collect();
        let fixed = confirming.iter().map(|(_, trial)| trial.suggestion.candidate).find(|candidate| *candidate != baseline);
        let best = fixed.or_else(|| standing.finalist().map(|place| place.candidate))?;
        // A failure or a crash says something of the candidate. A disturbed trial does not, so the next one takes its place in the order.
        let counts = |(_, trial): &Numbered<'_>| trial.measurement().is_none_or(|found| found.is_valid() || found.has_crashed());
        let (mut counting, disturbed): (Vec<Numbered<'_>>, Vec<Numbered<'_>>) = confirming.into_iter().partition(counts);
        let [mut baseline_failures, mut best_failures] = [0; 2];
        counting.retain(|(_, trial)| {
            let of = trial.suggestion.candidate;
            let failures = if of == baseline { &mut baseline_failures } else { &mut best_failures };
            *failures += usize::from(log(study, trial, of).is_none());
            log(study, trial, of).is_some() || *failures > FORGIVEN
        });
        let (aside, moved) = doubtful(study, [baseline, best], &counting);
        counting.retain(|(number, _)| !aside.contains(number));
        let logs = |of: Candidate| counting.iter().filter_map(|(_, trial)| log(study, trial, of)).collect::<Vec<f64>>();
        let pairs = counting.chunks_exact(2).filter_map(|pair| {
            let of = |candidate| pair.iter().find_map(|(_, trial)| log(study, trial, candidate));
            Some([of(baseline)?, of(best)?])
        });
        let (pairs, baseline_logs, best_logs) = (pairs.collect(), logs(baseline), logs(best));
        let half = counting.chunks_exact(2).remainder().first();
        let awaited = half.map(|(_, trial)| if trial.suggestion.candidate == baseline { best } else { baseline });
        let (done, disturbed) = (counting.len() / 2, disturbed.len());
        Some(Self {
            baseline,
            best,
            done,
            awaited,
            disturbed,
            aside,
            moved,
            pairs,
            baseline_logs,
            best_logs,
            baseline_failures,
            best_failures,
        })
    }

    /// Who is measured next, or `None` if enough is known. `most` is how many pairs there may be.
    #[must_use]
    pub fn next(&self, study: &Study, most: usize) -> Option<Candidate> {
        let effort = study.pace.effort();
        if self.best == self.baseline || self.disturbed > MOST_DISTURBED || self.is_lost(study) {
            return None;
        }
        if self.baseline_failures > FORGIVEN || is_hopeless(study, self.baseline) {
            return (self.best_logs.len() < effort.least_pairs.min(most)).then_some(self.best);
        }
        let wanted = || self.done < most && (self.done < effort.least_pairs || !self.is_settled(study));
        // Best first, then mirrored pair by pair: a slow drift of the host cancels.
        let first = || if self.done.is_multiple_of(2) { self.best } else { self.baseline };
        self.awaited.or_else(|| wanted().then(first))
    }

    /// Pairs that there should be at least and are not.
    #[must_use]
    pub fn missing_pairs(&self, study: &Study) -> usize {
        let is_over = self.best == self.baseline || self.is_lost(study) || self.baseline_failures > FORGIVEN;
        let done = if self.outcome(study) == Outcome::OnlyBest { self.best_logs.len() } else { self.done };
        if is_over { 0 } else { study.pace.effort().least_pairs.saturating_sub(done) }
    }

    /// Whether the best failed too often, or took more memory than may be used, when it was repeated.
    fn is_lost(&self, study: &Study) -> bool {
        self.best_failures > FORGIVEN || study.excess(self.best).is_some()
    }

    fn is_settled(&self, study: &Study) -> bool {
        self.ratio(study).is_some_and(|ratio| ratio.half_width() < NARROW || ratio.low > PLAIN_GAIN)
    }

    /// Merit of the best over that of the baseline (their capacities, where those are looked for), with its interval by Student's
    /// t: the mean is that of the pairs, or before there are any that of the search's trials, and the scatter that of all
    /// repetitions of the study. `None` if either was never measured undisturbed.
    #[must_use]
    pub fn ratio(&self, study: &Study) -> Option<Interval> {
        let standing = self.standing(study);
        let Spread { sd, weight } = standing.spread();
        let of_pair = Spread { sd: sd * std::f64::consts::SQRT_2, weight };
        if !self.pairs.is_empty() {
            let ratios: Vec<f64> = self.pairs.iter().map(|[baseline, best]| best - baseline).collect();
            return of_pair.around(&ratios);
        }
        let level = |candidate| Some(standing.place(candidate).filter(|place| !place.disturbed)?.merit().ln());
        of_pair.around(&[level(self.best)? - level(self.baseline)?])
    }

    /// The standing without the pairs that were run again because the host was another.
    #[must_use]
    pub fn standing(&self, study: &Study) -> Standing {
        let gone: Vec<usize> = self.moved.iter().filter(|number| self.aside.contains(number)).copied().collect();
        Standing::without(study, &gone)
    }

    /// Trials (counted from 0) that were run again because the host changed, or because one of the pair was an accident.
    #[must_use]
    pub fn aside(&self) -> &[usize] {
        &self.aside
    }

    /// Trials (counted from 0) of pairs during which the host was not what it was in the others, whether they were run again or not.
    #[must_use]
    pub fn moved(&self) -> &[usize] {
        &self.moved
    }

    /// The merits of baseline and best in each pair of repetitions that the ratio is of.
    pub fn pairs(&self) -> impl Iterator<Item = [f64; 2]> {
        self.pairs.iter().map(|pair| pair.map(f64::exp))
    }

    /// The capacity of the best with its interval, by its measurements in this phase, or before there are any by those of the search.
    #[must_use]
    pub fn best_capacity(&self, study: &Study) -> Option<Interval> {
        capacity(study, &self.standing(study), self.best, &self.best_logs)
    }

    /// The same of the baseline.
    #[must_use]
    pub fn baseline_capacity(&self, study: &Study) -> Option<Interval> {
        capacity(study, &self.standing(study), self.baseline, &self.baseline_logs)
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
        let standing = self.standing(study);
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
            (Some(_), None) if failures(study, self.baseline) > 0 || study.excess(self.baseline).is_some() => Outcome::OnlyBest,
            (Some(_), None) => Outcome::Disturbed,
            (Some(_), Some(_)) if self.best_failures > FORGIVEN => Outcome::Worse,
            (Some(_), Some(_)) => self.ratio(study).map_or(Outcome::Disturbed, verdict),
        }
    }

    /// What to recommend: where no difference is seen the one that is stable, then the one that needs plainly less memory, or else the
    /// baseline; the baseline too where they cannot be compared. `None` if what would be recommended failed too often when repeated.
    #[must_use]
    pub fn recommended(&self, study: &Study) -> Option<Candidate> {
        let standing = self.standing(study);
        let (best, baseline) = (standing.place(self.best), standing.place(self.baseline));
        let chosen = match (self.outcome(study), best, baseline) {
            (Outcome::NoDifference, Some(best), Some(baseline)) => Some(preferred(best, baseline)),
            (Outcome::Better | Outcome::OnlyBest | Outcome::NoDifference, Some(best), _) => Some(best),
            (Outcome::Better | Outcome::OnlyBest | Outcome::NoDifference, None, baseline)
            | (Outcome::Worse | Outcome::BaselineIsBest, _, baseline) => baseline,
            (Outcome::Disturbed, best, baseline) => baseline.or(best),
        };
        chosen.map(|place| place.candidate)
    }
}

/// The logarithm of the merit in a trial of candidate `of`, if it held.
fn log(study: &Study, trial: &Trial, of: Candidate) -> Option<f64> {
    let found = trial.measurement().filter(|found| found.is_usable() && trial.suggestion.candidate == of)?;
    study.objective.merit(found, of, study.space.cores).map(f64::ln)
}

/// The trials of pairs that are to be run again, and of those among all pairs during which the host was another: the CPU time per
/// request of either side tells, compared with that side's middle one.
fn doubtful(study: &Study, sides: [Candidate; 2], counting: &[Numbered<'_>]) -> (Vec<usize>, Vec<usize>) {
    let highest =
        |side| counting.chunks_exact(2).filter_map(|pair| Some(measured_in(pair, side)?.throughput)).fold(0.0, f64::max);
    let of = |pair: &[Numbered<'_>], side: Candidate| demand(measured_in(pair, side)?, highest(side));
    let usual = sides.map(|side| {
        let mut demands: Vec<f64> = counting.chunks_exact(2).filter_map(|pair| of(pair, side)).collect();
        demands.sort_unstable_by(f64::total_cmp);
        // Of two the cheaper: it is disturbances that make requests dear.
        demands.get(demands.len().saturating_sub(1) / 2).copied()
    });
    let numbers = |pair: &[Numbered<'_>]| pair.iter().map(|(number, _)| *number).collect::<Vec<usize>>();
    let has_moved = |pair: &[Numbered<'_>]| {
        sides.into_iter().zip(usual).any(|(side, usual)| {
            of(pair, side).zip(usual).is_some_and(|(demand, usual)| is_another_host(demand, usual, study.pace))
        })
    };
    let pairs = || counting.chunks_exact(2);
    let moved: Vec<usize> = pairs().filter(|pair| has_moved(pair)).flat_map(numbers).collect();
    // What a slower host did is no accident.
    let standing = Standing::without(study, &moved);
    let accidents = sides.map(|side| standing.place(side).and_then(|place| place.accident));
    let had_accident = |pair: &&[Numbered<'_>]| pair.iter().any(|(number, _)| accidents.contains(&Some(*number)));
    // An accident that is left in is not counted elsewhere: it goes first.
    let moved_alone = pairs().filter(|pair| has_moved(pair) && !had_accident(pair));
    let again = pairs().filter(had_accident).chain(moved_alone).take(MOST_ASIDE);
    (again.flat_map(numbers).collect(), moved)
}

fn measured_in<'a>(pair: &[Numbered<'a>], side: Candidate) -> Option<&'a Measurement> {
    pair.iter().find(|(_, trial)| trial.suggestion.candidate == side)?.1.measurement()
}

/// Whether `candidate` never held any rate, and not because of a single accident; or takes more memory than may be used.
fn is_hopeless(study: &Study, candidate: Candidate) -> bool {
    if study.excess(candidate).is_some() {
        return true;
    }
    let has_numbers = study.measured().any(|(tried, found)| tried == candidate && !found.is_void());
    let failures = failures(study, candidate);
    held(study, candidate).0.is_empty() && failures > if has_numbers { 0 } else { FORGIVEN }
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

fn capacity(study: &Study, standing: &Standing, candidate: Candidate, logs: &[f64]) -> Option<Interval> {
    let (spread, place) = (standing.spread(), standing.place(candidate));
    if !logs.is_empty() {
        return spread.around(logs);
    }
    let (logs, disturbed) = place.map_or_else(|| held(study, candidate), |place| (place.logs.clone(), place.disturbed));
    // The scatter of disturbed trials is no part of the study's.
    if disturbed { spread.interval(&logs) } else { spread.around(&logs) }
}
