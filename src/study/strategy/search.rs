//! What to try after the opening: where the best is predicted, what the prediction may have missed, and what lies around the best so far.

use crate::study::model::Model;
use crate::study::standing::{Place, Standing};
use crate::study::strategy::again;
use crate::study::{Candidate, Purpose, Study, Suggestion, Trial};

/// Candidates predicted to reach less than this share of the best measured are not tried.
const HOPELESS: f64 = 0.85;
/// Candidates predicted to reach this share of the best prediction are as good as predicted best.
const AS_GOOD: f64 = 0.985;
/// A grid point this close to a tried one (ratios of workers and of connections) tells nothing new.
const NEAR: (f64, f64) = (1.35, 2.6);
/// Memory limits keep this reserve.
const MEMORY_RESERVE: f64 = 1.1;
/// What the search knows after the opening.
pub(super) struct Search<'a> {
    study: &'a Study,
    standing: Standing,
    model: Option<Model>,
    /// Candidates within the limits, with the capacity predicted.
    candidates: Vec<(Candidate, f64)>,
}

impl<'a> Search<'a> {
    pub(super) fn new(study: &'a Study) -> Self {
        let model = Model::fit(study);
        let fits = |candidate: &Candidate| match (study.space.max_memory, &model) {
            (Some(most), Some(model)) => model.memory(*candidate) * MEMORY_RESERVE <= most as f64,
            (None, _) | (_, None) => true,
        };
        let predicted = |candidate: Candidate| (candidate, model.as_ref().map_or(0.0, |model| model.capacity(candidate)));
        let candidates = study.space.candidates().into_iter().filter(fits).map(predicted).collect();
        Self { study, standing: Standing::of(study), model, candidates }
    }

    /// The next trial, or `None` when nothing promising is left.
    pub(super) fn suggest(&self) -> Option<Suggestion> {
        self.jump().or_else(|| self.grid()).or_else(|| self.neighbour()).or_else(|| self.repeat())
    }

    /// Among those predicted best, the one with the fewest slots and workers near cores + 1.
    fn jump(&self) -> Option<Suggestion> {
        if self.model.is_none() || self.study.count(Purpose::Jump) >= self.study.pace.effort().jumps {
            return None;
        }
        let best = self.candidates.iter().map(|(_, predicted)| *predicted).max_by(f64::total_cmp)?;
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
        let rungs = [cores, cores.saturating_add(1), cores.saturating_mul(2).saturating_add(1), cores.saturating_mul(4)];
        let on_grid = |candidate: &Candidate| {
            let connections = candidate.connections.get();
            rungs.contains(&candidate.workers.get()) && [1, 10, 100, 1000].contains(&connections)
        };
        let points = self.candidates.iter().filter(|(candidate, _)| on_grid(candidate) && !self.is_near_a_trial(*candidate));
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
            ((predicted.max(1e-9).ln() * 100.0).floor(), std::cmp::Reverse(candidate.slots()))
        };
        let promising = points.filter(|(_, predicted)| self.model.is_none() || *predicted >= bar);
        let best = promising.max_by(|one, other| {
            let (one, other) = (key(one), key(other));
            one.0.total_cmp(&other.0).then(one.1.cmp(&other.1))
        })?;
        Some(self.first_time(best, purpose))
    }

    fn first_time(&self, (candidate, predicted): (Candidate, f64), purpose: Purpose) -> Suggestion {
        let rival = self.standing.leader().map(Place::capacity);
        Suggestion {
            candidate,
            purpose,
            task: self.study.objective.task(),
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
