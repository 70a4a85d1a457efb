//! The searched space as a grid: what was measured at each candidate, what is predicted where nothing was, and what may not be tried.

use std::collections::{BTreeMap, BTreeSet};

use crate::study::counting::counting;
use crate::study::memory::Memory;
use crate::study::model::Model;
use crate::study::{Candidate, Measurement, Objective, Purpose, Space, Study, Trial};
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
    /// It held this rate, requests a second: the geometric mean of its trials that count, or of all where none does; of best and baseline
    /// that of their repetitions.
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
    /// It could not be measured, or held nothing because something disturbed it.
    Failed,
    /// It was not tried, and the operational laws predict this much, at the level of what was measured.
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
        let counting: Vec<usize> = counting(study).into_iter().map(|(number, ..)| number).collect();
        let memory = Memory::fit(study);
        let scale = model.as_ref().and_then(|model| scale(study, &counting, model)).unwrap_or(1.0);
        let cells = connections
            .iter()
            .flat_map(|connections| workers.iter().map(|workers| space.candidate(*workers, *connections)))
            .map(|candidate| {
                let predicted = model.as_ref().map(|model| scale * model.capacity(candidate)).filter(|level| level.is_finite());
                cell(study, &counting, candidate, predicted, memory.fits(space, candidate))
            })
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

/// A trial and its number from 0.
type Numbered<'a> = (usize, &'a Trial);

/// The trials of candidates with as many workers and connections.
fn tried(study: &Study, candidate: Candidate) -> Vec<Numbered<'_>> {
    let numbered = study.trials().iter().enumerate();
    numbered.filter(|(_, trial)| trial.suggestion.candidate.is_as_large_as(candidate)).collect()
}

/// How many times what is predicted of them the measured candidates held, on average. The laws leave out what is much the same for
/// their neighbours: how unevenly requests come, and how fast the host was in the trials that count.
fn scale(study: &Study, counting: &[usize], model: &Model) -> Option<f64> {
    let candidates: BTreeSet<Candidate> = study.measured().map(|(candidate, _)| candidate).collect();
    let ratio = |candidate| Some(held(&tried(study, candidate), counting)? / model.capacity(candidate));
    let ratios: Vec<f64> = candidates.into_iter().filter_map(ratio).collect();
    // What was served at a fixed rate is not all that they could hold.
    crate::stats::geometric_mean(&ratios).filter(|scale| scale.is_finite() && study.objective == Objective::Capacity)
}

/// `counting` are the numbers of the trials that count, `predicted` is what the candidate is expected to hold, and `fits` whether in memory.
fn cell(study: &Study, counting: &[usize], candidate: Candidate, predicted: Option<f64>, fits: bool) -> Cell {
    let tried = tried(study, candidate);
    let trials = tried.iter().map(|(number, _)| number + 1).collect();
    let known = if tried.is_empty() { untried(&study.space, fits, candidate, predicted) } else { known(&tried, counting) };
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

/// What the trials of one candidate say together: the more a trial tells, the more it counts.
fn known(tried: &[Numbered<'_>], counting: &[usize]) -> Known {
    if let Some(capacity) = held(tried, counting) {
        return Known::Held(capacity);
    }
    let measured = || tried.iter().filter_map(|(_, trial)| trial.measurement()).filter(|found| !found.is_void());
    if let Some(bound) = measured().find_map(|found| found.ending.outclassed_by()) {
        return Known::AtMost(bound);
    }
    if measured().next().is_some() {
        return Known::NothingHeld;
    }
    let challenge = tried.iter().rev().find_map(|(_, trial)| {
        let found = trial.challenged().filter(|found| found.holds || trial.is_valid())?;
        Some(Known::Challenged { rate: trial.suggestion.task.rate()?, holds: found.holds })
    });
    challenge.unwrap_or(Known::Failed)
}

/// What they held, as the rest of the report has it. Of several ways to keep the workers to cores the best counts.
fn held(tried: &[Numbered<'_>], counting: &[usize]) -> Option<f64> {
    let usable: Vec<Numbered<'_>> =
        tried.iter().filter(|(_, trial)| trial.measurement().is_some_and(Measurement::is_usable)).copied().collect();
    let counted: Vec<Numbered<'_>> = usable.iter().filter(|(number, _)| counting.contains(number)).copied().collect();
    let is_repetition = |(_, trial): &&Numbered<'_>| trial.suggestion.purpose == Purpose::Confirm;
    let repeated: Vec<Numbered<'_>> = counted.iter().filter(is_repetition).copied().collect();
    let telling = [repeated, counted, usable].into_iter().find(|trials| !trials.is_empty())?;
    let mut by_cores: BTreeMap<_, Vec<f64>> = BTreeMap::new();
    for (_, trial) in telling {
        by_cores.entry(trial.suggestion.candidate.affinity).or_default().extend(trial.measurement().map(|found| found.capacity));
    }
    by_cores.values().filter_map(|capacities| crate::stats::geometric_mean(capacities)).max_by(f64::total_cmp)
}

fn untried(space: &Space, fits: bool, candidate: Candidate, predicted: Option<f64>) -> Known {
    if space.max_slots.is_some_and(|most| candidate.slots() > most) {
        return Known::Excluded(Limit::Slots);
    }
    if !fits {
        return Known::Excluded(Limit::Memory);
    }
    predicted.map_or(Known::Unknown, Known::Predicted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::simulation::{APPS, run, studied};
    use crate::study::{Challenged, Flag, Outcome, Pace, Report, Stop, Suggestion, Task};

    fn study(app: usize, limit: impl Fn(&mut Space)) -> Study {
        let mut study = APPS[app].study(Pace::Quick);
        limit(&mut study.space);
        let mut host = APPS[app].host(Pace::Quick, 3);
        run(&mut study, |suggestion| host.run(suggestion));
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

    /// As if every trial had held more for the same CPU time: requests that come more evenly.
    #[test]
    fn predictions_stand_at_the_level_of_what_was_measured() {
        let usual = studied(&APPS[2], Pace::Normal, 1);
        let mut better = Study::new(usual.slo, usual.space.clone(), usual.pace, usual.budget);
        for trial in usual.trials() {
            let mut trial = trial.clone();
            if let Outcome::Measured(found) = &mut trial.outcome {
                found.capacity *= 1.5;
            }
            better.record(trial);
        }
        let predicted = |study: &Study| {
            let map = Map::of(study);
            let levels = map.cells().filter(|cell| matches!(cell.known, Known::Predicted(_))).filter_map(|cell| cell.level);
            levels.sum::<f64>() / map.cells().count() as f64
        };
        let ratio = predicted(&better) / predicted(&usual);
        assert!((1.4..1.6).contains(&ratio), "{ratio}");
    }

    fn known_of(study: &Study, of: Candidate) -> Known {
        Map::of(study).cells().find(|cell| cell.candidate.is_as_large_as(of)).unwrap().known
    }

    #[test]
    fn best_and_baseline_hold_on_the_map_what_they_hold_in_the_table() {
        for seed in 0..8 {
            let study = studied(&APPS[2], Pace::Normal, seed);
            let report = Report::new(&study, Stop::Converged);
            for side in [Some(&report.baseline), report.best.as_ref()].into_iter().flatten() {
                let Known::Held(level) = known_of(&study, side.candidate) else { panic!("{side:?}") };
                let told = side.capacity.unwrap().value;
                assert!((level / told - 1.0).abs() < 1e-9, "seed {seed}: {level} on the map, {told} in the table");
            }
        }
    }

    #[test]
    fn disturbed_trials_say_nothing_on_the_map_where_others_do_or_where_nothing_was_held() {
        let candidate = Candidate::new(Workers::new(2).unwrap(), Connections::new(20).unwrap());
        let measured = |capacity, flags| Outcome::Measured(Box::new(Measurement { flags, ..Measurement::of_capacity(capacity) }));
        let (calm, disturbed) = (measured(100.0, vec![]), measured(50.0, vec![Flag::Steal]));
        let (nothing, void) = (measured(0.0, vec![]), measured(0.0, vec![Flag::Steal]));
        let challenge = |holds, flags| Outcome::Challenged(Challenged { flags, ..Challenged::new(holds, 8.0) });
        let missed = |rate, holds| Known::Challenged { rate, holds };
        for (outcomes, expected) in [
            (vec![calm, disturbed.clone()], Known::Held(100.0)),
            (vec![disturbed], Known::Held(50.0)),
            (vec![void.clone()], Known::Failed),
            (vec![nothing, void.clone()], Known::NothingHeld),
            (vec![challenge(false, vec![Flag::Steal])], Known::Failed),
            (vec![challenge(false, vec![]), void], missed(130.0, false)),
            (vec![challenge(true, vec![Flag::Steal])], missed(130.0, true)),
        ] {
            let mut study = APPS[1].study(Pace::Quick);
            for outcome in outcomes.clone() {
                let (purpose, task) = (Purpose::Challenge, Task::Challenge { rate: 130.0 });
                let suggestion = Suggestion { candidate, purpose, task, expected: None, rival: None };
                study.record(Trial { suggestion, outcome });
            }
            match (known_of(&study, candidate), expected) {
                (Known::Held(found), Known::Held(level)) => assert!((found / level - 1.0).abs() < 1e-9, "{found} {outcomes:?}"),
                (found, expected) => assert_eq!(found, expected, "{outcomes:?}"),
            }
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
        let (map, memory) = (Map::of(&study), Memory::fit(&study));
        let untried: Vec<&Cell> = map.cells().filter(|cell| cell.trials.is_empty()).collect();
        assert!(
            untried.iter().any(|cell| memory.of(cell.candidate) <= study.space.max_memory.unwrap() as f64
                && !memory.fits(&study.space, cell.candidate)),
            "a cell within the reserve"
        );
        for cell in untried {
            let excluded = cell.known == Known::Excluded(Limit::Memory);
            assert_eq!(excluded, !memory.fits(&study.space, cell.candidate), "{:?}", cell.candidate);
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
