//! What to try next. A function of the trials so far, so that a study can be resumed from its journal at any point.

use serde::{Deserialize, Serialize};

use crate::study::confirm::Duel;
use crate::study::model::Model;
use crate::study::standing::Standing;
use crate::study::{Candidate, Ending, Purpose, Study, Suggestion, Trial};
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

/// Candidates predicted to reach less than this share of the best measured are not tried.
const HOPELESS: f64 = 0.85;
/// Candidates predicted to reach this share of the best prediction are as good as predicted best.
const AS_GOOD: f64 = 0.985;
/// A grid point this close to a tried one (ratios of workers and of connections) tells nothing new.
const NEAR: (f64, f64) = (1.35, 2.6);
/// Memory limits keep this reserve.
const MEMORY_RESERVE: f64 = 1.1;
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
            None if can_afford(study, 0) => Next::Stop(Stop::Converged),
            None => Next::Stop(Stop::Budget),
        }
    }

    fn about(&self, study: &Study) -> usize {
        let effort = study.pace.effort();
        let open = effort.jumps + effort.grid + effort.neighbours + effort.repeats;
        let done = [Purpose::Jump, Purpose::Grid, Purpose::Neighbour, Purpose::Repeat]
            .map(|purpose| study.count(purpose))
            .iter()
            .sum();
        let search = if study.count(Purpose::Confirm) == 0 {
            open.max(done)
        } else {
            done
        };
        let first = 1 + usize::from(study.space.configured().is_some());
        let confirm = study.count(Purpose::Confirm).max(2 * effort.least_pairs);
        (first + search + confirm).min(study.budget.trials).max(study.trials().len())
    }
}

/// Whether the budget has room for `trials` trials after the next.
fn can_afford(study: &Study, trials: usize) -> bool {
    let done = study.trials().len();
    let each = study.seconds() / done.max(1) as f64;
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
    let useless = trials
        .iter()
        .all(|trial| trial.measurement().is_none_or(|measured| !measured.is_usable()));
    (useless && trials.len() >= LOST_TRIALS).then_some(Stop::NothingMeetsSlo)
}

/// The baseline and the configured candidate; then, if neither held anything, the gentlest: a worker a core, one connection each.
fn opening(study: &Study) -> Option<Suggestion> {
    let first = |candidate, purpose| Suggestion {
        candidate,
        purpose,
        expected: None,
        rival: None,
    };
    if study.count(Purpose::Baseline) == 0 {
        return Some(first(study.space.baseline(), Purpose::Baseline));
    }
    if let Some(configured) = study.space.configured()
        && study.count(Purpose::Configured) == 0
    {
        return Some(Suggestion {
            expected: None,
            ..first(configured, Purpose::Configured)
        });
    }
    let gentle = [u32::from(study.space.cores.get()), 1].into_iter().filter_map(Workers::new);
    let mut gentle = gentle.map(|workers| Candidate {
        workers: workers.min(study.space.max_workers),
        connections: Connections::ONE,
    });
    let held = study.measured().any(|(_, measured)| measured.is_usable());
    let next = if held {
        None
    } else {
        gentle.find(|candidate| !study.has_tried(*candidate))
    };
    next.map(|candidate| first(candidate, Purpose::Grid))
}

/// A candidate that was measured before, in full.
fn again(study: &Study, candidate: Candidate, purpose: Purpose) -> Suggestion {
    let expected = Standing::of(study)
        .place(candidate)
        .map(crate::study::standing::Place::capacity);
    Suggestion {
        candidate,
        purpose,
        expected,
        rival: None,
    }
}

/// What the search knows after the opening.
struct Search<'a> {
    study: &'a Study,
    standing: Standing,
    model: Option<Model>,
    /// Candidates within the limits, with the capacity predicted.
    candidates: Vec<(Candidate, f64)>,
}

impl<'a> Search<'a> {
    fn new(study: &'a Study) -> Self {
        let model = Model::fit(study);
        let fits = |candidate: &Candidate| match (study.space.max_memory, &model) {
            (Some(most), Some(model)) => model.memory(*candidate) * MEMORY_RESERVE <= most as f64,
            (None, _) | (_, None) => true,
        };
        let predicted = |candidate: Candidate| (candidate, model.as_ref().map_or(0.0, |model| model.capacity(candidate)));
        let candidates = study.space.candidates().into_iter().filter(fits).map(predicted).collect();
        Self {
            study,
            standing: Standing::of(study),
            model,
            candidates,
        }
    }

    fn suggest(&self) -> Option<Suggestion> {
        self.jump()
            .or_else(|| self.grid())
            .or_else(|| self.neighbour())
            .or_else(|| self.repeat())
    }

    /// Among those predicted best, the one with the fewest slots and workers near cores + 1.
    fn jump(&self) -> Option<Suggestion> {
        if self.model.is_none() || self.study.count(Purpose::Jump) >= self.study.pace.effort().jumps {
            return None;
        }
        let best = self
            .candidates
            .iter()
            .map(|(_, predicted)| *predicted)
            .max_by(f64::total_cmp)?;
        let near = f64::from(self.study.space.cores.get()) + 1.0;
        let size =
            |candidate: Candidate| (candidate.slots() as f64).ln() + 0.7 * (f64::from(candidate.workers.get()) / near).ln().abs();
        let good = self.candidates.iter().filter(|(_, predicted)| *predicted >= AS_GOOD * best);
        let chosen = good.min_by(|one, other| size(one.0).total_cmp(&size(other.0)))?;
        (!self.study.has_tried(chosen.0)).then(|| self.first_time(*chosen, Purpose::Jump))
    }

    /// The most promising point of a coarse grid that is not near anything tried.
    fn grid(&self) -> Option<Suggestion> {
        if self.study.count(Purpose::Grid) >= self.study.pace.effort().grid {
            return None;
        }
        let cores = self.study.space.cores.get();
        let rungs = [
            cores,
            cores.saturating_add(1),
            cores.saturating_mul(2).saturating_add(1),
            cores.saturating_mul(4),
        ];
        let on_grid = |candidate: &Candidate| {
            let connections = candidate.connections.get();
            rungs.contains(&candidate.workers.get()) && [1, 10, 100, 1000].contains(&connections)
        };
        let points = self
            .candidates
            .iter()
            .filter(|(candidate, _)| on_grid(candidate) && !self.is_near_a_trial(*candidate));
        self.most_promising(points.copied(), Purpose::Grid)
    }

    /// The most promising untried neighbour of the leader: one rung up or down in workers, in connections, or in opposite ways in both.
    fn neighbour(&self) -> Option<Suggestion> {
        if self.study.count(Purpose::Neighbour) >= self.study.pace.effort().neighbours {
            return None;
        }
        let leader = self.standing.leader()?.candidate;
        let workers = self.study.space.worker_ladder();
        let connections = self.study.space.connection_ladder();
        let moves = [(0, 1), (0, -1), (1, 0), (-1, 0), (1, -1), (-1, 1)];
        let near: Vec<Candidate> = moves
            .iter()
            .filter_map(|(up, along)| {
                Some(Candidate {
                    workers: rung(&workers, leader.workers, *up)?,
                    connections: rung(&connections, leader.connections, *along)?,
                })
            })
            .collect();
        let untried = |candidate: Candidate| near.contains(&candidate) && !self.study.has_tried(candidate);
        let points = self.candidates.iter().filter(|(candidate, _)| untried(*candidate));
        self.most_promising(points.copied(), Purpose::Neighbour)
    }

    /// The leader once more, if it leads by a single measurement.
    fn repeat(&self) -> Option<Suggestion> {
        let leader = self.standing.leader()?;
        let due = leader.logs.len() < 2 && self.study.count(Purpose::Repeat) < self.study.pace.effort().repeats;
        due.then(|| again(self.study, leader.candidate, Purpose::Repeat))
    }

    fn most_promising(&self, points: impl Iterator<Item = (Candidate, f64)>, purpose: Purpose) -> Option<Suggestion> {
        let bar = self.standing.leader().map_or(0.0, |leader| HOPELESS * leader.capacity());
        // Predictions within a percent are equal; then the fewer slots, the better.
        let key = |(candidate, predicted): &(Candidate, f64)| {
            (
                (predicted.max(1e-9).ln() * 100.0).floor(),
                std::cmp::Reverse(candidate.slots()),
            )
        };
        let promising = points.filter(|(_, predicted)| self.model.is_none() || *predicted >= bar);
        let best = promising.max_by(|one, other| {
            let (one, other) = (key(one), key(other));
            one.0.total_cmp(&other.0).then(one.1.cmp(&other.1))
        })?;
        Some(self.first_time(best, purpose))
    }

    fn first_time(&self, (candidate, predicted): (Candidate, f64), purpose: Purpose) -> Suggestion {
        let rival = self.standing.leader().map(crate::study::standing::Place::capacity);
        Suggestion {
            candidate,
            purpose,
            expected: Some(predicted).filter(|rate| *rate > 0.0),
            rival,
        }
    }

    fn is_near_a_trial(&self, candidate: Candidate) -> bool {
        let near = |trial: &Trial| {
            let tried = trial.suggestion.candidate;
            let apart = |one: f64, other: f64| (one / other).max(other / one);
            apart(f64::from(tried.workers.get()), f64::from(candidate.workers.get())) < NEAR.0
                && apart(f64::from(tried.connections.get()), f64::from(candidate.connections.get())) < NEAR.1
        };
        self.study.trials().iter().any(near)
    }
}

/// The rung `by` steps above or below `from` on a ladder.
fn rung<T: Copy + Ord>(ladder: &[T], from: T, by: isize) -> Option<T> {
    let here = ladder.binary_search(&from).unwrap_or_else(|next| next);
    ladder.get(here.checked_add_signed(by)?).copied()
}

#[cfg(test)]
mod tests;
