//! The searched space as a grid: what was measured at each candidate, what is predicted where nothing was, and what may not be tried.

use std::collections::BTreeMap;

use crate::study::model::Model;
use crate::study::{Candidate, Ending, Outcome, Space, Study, Task, Trial};
use crate::units::{Connections, Workers};

/// Rungs shown along one axis, unless more were tried.
const MOST_RUNGS: usize = 24;

/// The space, a cell a candidate.
#[derive(Clone, Debug, PartialEq)]
pub struct Map {
    /// Columns, ascending.
    pub workers: Vec<Workers>,
    /// Rows, ascending.
    pub connections: Vec<Connections>,
    /// Row by row, as [`Self::cell`] finds them.
    cells: Vec<Cell>,
}

/// One candidate.
#[derive(Clone, Debug, PartialEq)]
pub struct Cell {
    /// Which.
    pub candidate: Candidate,
    /// What is known about it.
    pub known: Known,
    /// Requests a second it is expected to hold, measured or predicted, within what challenges and limits tell; `None` if nothing
    /// is known.
    pub level: Option<f64>,
    /// Numbers of its trials, from 1.
    pub trials: Vec<usize>,
}

/// What is known about a candidate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Known {
    /// It held this rate, requests a second: the geometric mean of its trials.
    Held(f64),
    /// It was measured and held nothing.
    NothingHeld,
    /// It was not pursued: at most this much.
    AtMost(f64),
    /// It was challenged.
    Challenged {
        /// Requests a second.
        rate: f64,
        /// Whether they were held.
        holds: bool,
    },
    /// It could not be measured.
    Failed,
    /// It was not tried, and the operational laws predict this much.
    Predicted(f64),
    /// It may not be tried.
    Excluded(Limit),
    /// Nothing.
    Unknown,
}

/// A limit of the space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Memory, by what the measured candidates took.
    Memory,
    /// Workers × connections.
    Slots,
}

impl Map {
    /// The map of `study`. Empty if a single candidate may be tried.
    #[must_use]
    pub fn of(study: &Study) -> Self {
        let space = &study.space;
        let tried = || study.trials().iter().map(|trial| trial.suggestion.candidate).chain([space.baseline()]);
        let workers = rungs(space.worker_ladder(), tried().map(|candidate| candidate.workers).collect());
        let connections = rungs(space.connection_ladder(), tried().map(|candidate| candidate.connections).collect());
        let model = Model::fit(study);
        let cells = connections
            .iter()
            .flat_map(|connections| workers.iter().map(|workers| space.candidate(*workers, *connections)))
            .map(|candidate| cell(study, model.as_ref(), candidate))
            .collect();
        Self { workers, connections, cells }
    }

    /// The cell in a column and a row, each counted from 0.
    #[must_use]
    pub fn cell(&self, column: usize, row: usize) -> Option<&Cell> {
        if column < self.workers.len() { self.cells.get(row * self.workers.len() + column) } else { None }
    }

    /// Every cell.
    pub fn cells(&self) -> impl Iterator<Item = &Cell> {
        self.cells.iter()
    }

    /// The highest level.
    #[must_use]
    pub fn highest(&self) -> Option<f64> {
        self.cells.iter().filter_map(|cell| cell.level).max_by(f64::total_cmp)
    }
}

/// The ladder with all that was tried on it; of a long one, not all rungs that were not.
fn rungs<T: Copy + Ord>(ladder: Vec<T>, mut tried: Vec<T>) -> Vec<T> {
    tried.sort_unstable();
    tried.dedup();
    let others: Vec<T> = ladder.into_iter().filter(|rung| tried.binary_search(rung).is_err()).collect();
    let room = MOST_RUNGS.saturating_sub(tried.len()).max(1);
    let each = others.len().div_ceil(room).max(1);
    // The last rungs of a ladder are its widest, and its end is a limit that should be seen.
    let kept = others.iter().rev().step_by(each).copied();
    let mut rungs: Vec<T> = kept.chain(tried).collect();
    rungs.sort_unstable();
    rungs
}

fn cell(study: &Study, model: Option<&Model>, candidate: Candidate) -> Cell {
    let numbered = study.trials().iter().zip(1..).filter(|(trial, _)| trial.suggestion.candidate.is_as_large_as(candidate));
    let (tried, trials): (Vec<&Trial>, Vec<usize>) = numbered.unzip();
    let predicted = model.map(|model| model.capacity(candidate)).filter(|level| level.is_finite());
    let known = if tried.is_empty() { untried(&study.space, model, candidate, predicted) } else { known(&tried) };
    let level = match known {
        Known::Held(capacity) | Known::Predicted(capacity) => Some(capacity),
        Known::NothingHeld => Some(0.0),
        Known::AtMost(bound) | Known::Challenged { rate: bound, holds: false } => {
            Some(predicted.map_or(bound, |level| level.min(bound)))
        }
        Known::Challenged { rate, holds: true } => Some(predicted.map_or(rate, |level| level.max(rate))),
        Known::Failed | Known::Excluded(_) | Known::Unknown => None,
    };
    Cell { candidate, known, level, trials }
}

/// What the trials of one candidate say together: the more a trial tells, the more it counts. Of several ways to keep its workers
/// to cores the best counts.
fn known(tried: &[&Trial]) -> Known {
    let measured = || tried.iter().filter_map(|trial| trial.measurement());
    let mut held: BTreeMap<_, Vec<f64>> = BTreeMap::new();
    for trial in tried {
        if let Some(found) = trial.measurement().filter(|found| found.is_usable()) {
            held.entry(trial.suggestion.candidate.affinity).or_default().push(found.capacity);
        }
    }
    let means = held.values().filter_map(|capacities| crate::stats::geometric_mean(capacities));
    if let Some(capacity) = means.max_by(f64::total_cmp) {
        return Known::Held(capacity);
    }
    if let Some(bound) = measured().find_map(|found| match found.ending {
        Ending::Outclassed(bound) => Some(bound),
        Ending::Held | Ending::NothingHeld | Ending::TooSlow | Ending::Errors | Ending::OnlyErrors => None,
    }) {
        return Known::AtMost(bound);
    }
    if measured().next().is_some() {
        return Known::NothingHeld;
    }
    let challenge = tried.iter().rev().find_map(|trial| match (&trial.outcome, trial.suggestion.task) {
        (Outcome::Challenged(found), Task::Challenge { rate } | Task::Serve { rate }) => {
            Some(Known::Challenged { rate, holds: found.holds })
        }
        (Outcome::Challenged(_), Task::Measure) | (Outcome::Measured(_) | Outcome::Failed { .. }, _) => None,
    });
    challenge.unwrap_or(Known::Failed)
}

fn untried(space: &Space, model: Option<&Model>, candidate: Candidate, predicted: Option<f64>) -> Known {
    if space.max_slots.is_some_and(|most| candidate.slots() > most) {
        return Known::Excluded(Limit::Slots);
    }
    if model.is_some_and(|model| !model.fits(space, candidate)) {
        return Known::Excluded(Limit::Memory);
    }
    predicted.map_or(Known::Unknown, Known::Predicted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::simulation::{APPS, run};
    use crate::study::{ChallengeRace, Pace};

    fn study(app: usize, limit: impl Fn(&mut Space)) -> Study {
        let mut study = APPS[app].study(Pace::Quick);
        limit(&mut study.space);
        let mut host = APPS[app].host(Pace::Quick, 3);
        run(&ChallengeRace, &mut study, |suggestion| host.run(suggestion));
        study
    }

    #[test]
    fn every_trial_is_on_the_map_and_the_rest_is_predicted() {
        for app in 0..APPS.len() {
            let study = study(app, |_| ());
            let map = Map::of(&study);
            let mut seen: Vec<usize> = map.cells().flat_map(|cell| cell.trials.iter().copied()).collect();
            seen.sort_unstable();
            assert_eq!(seen, (1..=study.trials().len()).collect::<Vec<_>>());
            assert!(map.cells().any(|cell| matches!(cell.known, Known::Predicted(_))));
            for (row, connections) in map.connections.iter().enumerate() {
                for (column, workers) in map.workers.iter().enumerate() {
                    let candidate = Candidate::new(*workers, *connections);
                    assert_eq!(map.cell(column, row).unwrap().candidate, candidate);
                }
            }
            assert_eq!(map.cell(map.workers.len(), 0), None);
        }
    }

    #[test]
    fn limits_are_told_apart() {
        let limits = |study: &Study| {
            let map = Map::of(study);
            let count = |limit| map.cells().filter(|cell| cell.known == Known::Excluded(limit)).count();
            (count(Limit::Memory) > 0, count(Limit::Slots) > 0)
        };
        assert_eq!(limits(&study(0, |_| ())), (false, false));
        assert_eq!(limits(&study(0, |space| space.max_slots = Some(500))), (false, true));
        assert_eq!(limits(&study(6, |_| ())), (true, false));
    }

    #[test]
    fn the_map_excludes_what_the_search_would_not_try() {
        let study = study(6, |_| ());
        let (map, model) = (Map::of(&study), Model::fit(&study).unwrap());
        let untried: Vec<&Cell> = map.cells().filter(|cell| cell.trials.is_empty()).collect();
        assert!(
            untried.iter().any(|cell| model.memory(cell.candidate) <= study.space.max_memory.unwrap() as f64
                && !model.fits(&study.space, cell.candidate)),
            "a cell within the reserve"
        );
        for cell in untried {
            let excluded = cell.known == Known::Excluded(Limit::Memory);
            assert_eq!(excluded, !model.fits(&study.space, cell.candidate), "{:?}", cell.candidate);
        }
    }

    #[test]
    fn long_ladders_are_thinned_but_for_what_was_tried() {
        let ladder: Vec<u32> = (1..=400).collect();
        let tried = vec![7, 3, 7, 33];
        let shown = rungs(ladder, tried.clone());
        assert!(shown.len() <= MOST_RUNGS + 1 && shown.is_sorted() && shown.last() == Some(&400));
        assert!(tried.iter().all(|rung| shown.contains(rung)));
    }
}
