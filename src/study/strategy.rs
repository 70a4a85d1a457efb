//! What to try next. A function of the trials so far, so that a study can be resumed from its journal at any point.

mod search;

use serde::{Deserialize, Serialize};

use crate::study::confirm::Duel;
use crate::study::standing::{Place, Standing};
use crate::study::strategy::search::Search;
use crate::study::{Candidate, Ending, Purpose, Study, Suggestion};
use crate::units::{Connections, Workers};

/// A way to search.
pub trait Strategy {
    /// What to do after the trials so far.
    fn suggest(&self, study: &Study) -> Next;

    /// About how many trials the study will have in all.
    fn about(&self, study: &Study) -> usize;
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Next {
    /// Run a trial.
    Try(Suggestion),
    /// The study is over.
    Stop(Stop),
}

/// Why a study is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stop {
    /// Nothing worth trying is left.
    Converged,
    /// The best is so near the limit of the cores that nothing can be much better.
    Certified,
    /// The search had to end before it ran out of ideas; best and baseline were still compared.
    Budget,
    /// The application answers only errors.
    OnlyErrors,
    /// No candidate holds any rate within the objective.
    NothingMeetsSlo,
    /// No candidate could be started.
    NothingStarts,
    /// Somebody stopped it.
    Interrupted,
}

impl Stop {
    /// In words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Converged => "nothing promising was left to try",
            Self::Certified => "nothing can be much better than the best found",
            Self::Budget => "the budget was used up",
            Self::OnlyErrors => "the application answers only errors",
            Self::NothingMeetsSlo => "no configuration meets the objective",
            Self::NothingStarts => "no configuration could be started",
            Self::Interrupted => "interrupted",
        }
    }
}

/// Baseline first; then where the operational laws predict the best; a few points of a coarse grid in case they are wrong; neighbours of
/// the best while they improve; the best once more; and best against baseline in turn.
#[derive(Clone, Copy, Debug, Default)]
pub struct GridThenNeighbours;

/// Trials without any number, or without any held rate, after which the study gives up.
const LOST_TRIALS: usize = 3;

impl Strategy for GridThenNeighbours {
    fn suggest(&self, study: &Study) -> Next {
        if let Some(stop) = lost(study) {
            return Next::Stop(stop);
        }
        if let Some(suggestion) = opening(study) {
            return Next::Try(suggestion);
        }
        let searching = study.count(Purpose::Confirm) == 0;
        let affordable = can_afford(study, 2 * study.pace.effort().least_pairs);
        if searching
            && affordable
            && let Some(suggestion) = Search::new(study).suggest()
        {
            return Next::Try(suggestion);
        }
        let Some(duel) = Duel::of(study) else {
            return Next::Stop(Stop::NothingMeetsSlo);
        };
        match duel.next(study, can_afford(study, 2)) {
            Some(candidate) => Next::Try(again(study, candidate, Purpose::Confirm)),
            None if Search::new(study).suggest().is_none() => Next::Stop(Stop::Converged),
            None => Next::Stop(Stop::Budget),
        }
    }

    fn about(&self, study: &Study) -> usize {
        let effort = study.pace.effort();
        let open = effort.jumps + effort.grid + effort.neighbours + effort.repeats;
        let done =
            [Purpose::Jump, Purpose::Grid, Purpose::Neighbour, Purpose::Repeat].map(|purpose| study.count(purpose)).iter().sum();
        let search = if study.count(Purpose::Confirm) == 0 { open.max(done) } else { done };
        let first = 1 + usize::from(study.space.configured().is_some());
        let confirm = study.count(Purpose::Confirm).max(2 * effort.least_pairs);
        (first + search + confirm).min(study.budget.trials).max(study.trials().len())
    }
}

/// What a trial that knows what to expect costs, as a share of the first, which does not.
const FOLLOWING: f64 = 0.6;

/// Whether the budget has room for `trials` trials after the next.
fn can_afford(study: &Study, trials: usize) -> bool {
    let done = study.trials().len();
    let each = match study.trials() {
        [] => 0.0,
        [first] => FOLLOWING * first.seconds(),
        [first, ..] => (study.seconds() - first.seconds()) / (done - 1) as f64,
    };
    done + trials < study.budget.trials && study.seconds() + each * (trials + 1) as f64 <= study.budget.seconds
}

/// Why going on is pointless, if it is.
fn lost(study: &Study) -> Option<Stop> {
    let trials = study.trials();
    let endings: Vec<Ending> = study.measured().map(|(_, measured)| measured.ending).collect();
    if endings.is_empty() {
        return (trials.len() >= LOST_TRIALS).then_some(Stop::NothingStarts);
    }
    if endings.len() >= 2 && endings.iter().all(|ending| *ending == Ending::OnlyErrors) {
        return Some(Stop::OnlyErrors);
    }
    let useless = trials.iter().all(|trial| trial.measurement().is_none_or(|measured| !measured.is_usable()));
    (useless && trials.len() >= LOST_TRIALS).then_some(Stop::NothingMeetsSlo)
}

/// The baseline and the configured candidate; then, if neither held anything, the gentlest: a worker a core, one connection each.
fn opening(study: &Study) -> Option<Suggestion> {
    let first = |candidate, purpose| Suggestion { candidate, purpose, task: study.objective.task(), expected: None, rival: None };
    if study.count(Purpose::Baseline) == 0 {
        return Some(first(study.space.baseline(), Purpose::Baseline));
    }
    if let Some(configured) = study.space.configured()
        && study.count(Purpose::Configured) == 0
    {
        return Some(Suggestion { expected: None, ..first(configured, Purpose::Configured) });
    }
    let gentle = [u32::from(study.space.cores.get()), 1].into_iter().filter_map(Workers::new);
    let mut gentle =
        gentle.map(|workers| Candidate { workers: workers.min(study.space.max_workers), connections: Connections::ONE });
    let held = study.measured().any(|(_, measured)| measured.is_usable());
    let next = if held { None } else { gentle.find(|candidate| !study.has_tried(*candidate)) };
    next.map(|candidate| first(candidate, Purpose::Grid))
}

/// A candidate that was measured before, in full.
fn again(study: &Study, candidate: Candidate, purpose: Purpose) -> Suggestion {
    let expected = Standing::of(study).place(candidate).map(Place::capacity);
    Suggestion { candidate, purpose, task: study.objective.task(), expected, rival: None }
}

#[cfg(test)]
mod tests;
