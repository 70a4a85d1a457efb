//! What to try after the opening: where the best is predicted, other ways to keep workers to cores, then a race of the best so
//! far against its neighbours, then the best once more.

use std::collections::BTreeSet;

use crate::study::memory::Memory;
use crate::study::model::Model;
use crate::study::standing::{Place, Standing};
use crate::study::strategy::arms::{arms, is_even};
use crate::study::strategy::{again, at_rate, has_room};
use crate::study::{Candidate, Objective, Outcome, Purpose, Study, Suggestion, Task, Trial};
use crate::units::{Connections, Workers};

/// Candidates predicted to reach this share of the best prediction are as good as predicted best.
const AS_GOOD: f64 = 0.985;
/// Candidates predicted to reach less than this share of what they must are not tried. Neighbours must reach the best predicted of them,
/// and the best measured.
pub(super) const HOPELESS: f64 = 0.9;
/// A challenger must hold this many times what the best so far holds.
const RAISE: f64 = 1.012;
/// How far the neighbours are, as ratios: far first.
pub(super) const FACTORS: [f64; 2] = [1.8, 1.35];
/// Times a trial is run that disturbances spoil.
pub(super) const ATTEMPTS: usize = 2;
/// The inverse of how close equal predictions are.
const PREDICTED_EQUAL: f64 = 100.0;

/// What the search knows after the opening.
pub(super) struct Search<'a> {
    study: &'a Study,
    standing: Standing,
    model: Option<Model>,
    memory: Memory,
}

impl<'a> Search<'a> {
    pub(super) fn new(study: &'a Study) -> Self {
        Self { study, standing: Standing::of(study), model: Model::fit(study), memory: Memory::fit(study) }
    }

    /// The next trial, or `None` when nothing promising is left.
    pub(super) fn suggest(&self) -> Option<Suggestion> {
        let promising = if has_room(self.study, self.study.trials().len()) { self.promising() } else { None };
        promising.or_else(|| self.repeat())
    }

    /// A candidate that may be better than the best so far.
    pub(super) fn promising(&self) -> Option<Suggestion> {
        match self.study.objective {
            Objective::Capacity => self.jump().or_else(|| self.arm()).or_else(|| self.reopened()).or_else(|| self.race()),
            Objective::Latency { .. } | Objective::Cost { .. } => at_rate::suggest(self.study),
        }
    }

    /// Among those predicted best, the one with the fewest slots and about a worker a core.
    fn jump(&self) -> Option<Suggestion> {
        let model = self.model.as_ref().filter(|_| self.study.count(Purpose::Jump) < self.study.pace.effort().jumps)?;
        let space = &self.study.space;
        // Which cores workers keep to is not predicted.
        let affinity = self.standing.leader().map_or(space.affinity, |leader| leader.candidate.affinity);
        let candidates = space.candidates().into_iter().map(|candidate| Candidate { affinity, ..candidate });
        let fitting = candidates.filter(|candidate| self.fits(*candidate) && is_even(space, *candidate));
        let predicted: Vec<(Candidate, f64)> = fitting.map(|candidate| (candidate, model.capacity(candidate))).collect();
        let best = predicted.iter().map(|(_, capacity)| *capacity).max_by(f64::total_cmp)?;
        let crowd = |candidate: Candidate| (f64::from(candidate.workers.get()) / space.cpu()).ln().abs();
        let size = |candidate: Candidate| (candidate.slots() as f64).ln() + 0.7 * crowd(candidate);
        let good = predicted.iter().filter(|(_, capacity)| *capacity >= AS_GOOD * best);
        let chosen = good.min_by(|one, other| size(one.0).total_cmp(&size(other.0)))?;
        (!self.is_near_a_trial(chosen.0)).then(|| self.measure(*chosen, Purpose::Jump))
    }

    /// A step that is not more than this many times away is no jump: the race sees to it.
    fn is_near_a_trial(&self, candidate: Candidate) -> bool {
        const NEAR: f64 = 1.15;
        let apart = |one: f64, other: f64| (one / other).max(other / one);
        let near = |trial: &Trial| {
            let tried = trial.suggestion.candidate;
            apart(f64::from(tried.workers.get()), f64::from(candidate.workers.get())) < NEAR
                && apart(f64::from(tried.connections.get()), f64::from(candidate.connections.get())) < NEAR
        };
        self.study.trials().iter().any(near)
    }

    /// The neighbours of the best so far are challenged to hold a little more than it does, the most promising first and far ones
    /// before near ones. One that does is measured; if it is better, its own neighbours are next.
    fn race(&self) -> Option<Suggestion> {
        let leader = self.standing.leader()?;
        let capacity = leader.merit();
        FACTORS.into_iter().find_map(|factor| {
            let near = neighbours(leader.candidate, factor);
            let open = near
                .into_iter()
                .filter(|candidate| self.study.space.allows(*candidate) && is_even(&self.study.space, *candidate))
                .filter(|candidate| self.fits(*candidate) && !self.is_done(*candidate));
            // A testbed that tells nothing but capacities allows no prediction: then all are as promising. Predictions are not scaled to
            // what the leader did: in simulation that costs a quarter more trials and spares no regret.
            let predict = |candidate| self.model.as_ref().map_or(capacity, |model| model.capacity(candidate));
            let predicted: Vec<(Candidate, f64)> = open.map(|candidate| (candidate, predict(candidate))).collect();
            let best = predicted.iter().map(|(_, predicted)| *predicted).max_by(f64::total_cmp)?;
            let promising = predicted.into_iter().filter(|(_, predicted)| *predicted >= HOPELESS * best.max(capacity));
            let chosen = promising.rev().max_by(|one, other| promise(one).total_cmp(&promise(other)))?;
            Some(self.pursue(chosen, capacity))
        })
    }

    /// What is not settled when the search has had its trials: two repetitions that disagree, what held a challenge and was not measured, and
    /// what is reopened.
    pub(super) fn doubt(&self) -> Option<Suggestion> {
        self.third().or_else(|| self.promised()).or_else(|| self.reopened())
    }

    /// What held a challenge and was not measured.
    fn promised(&self) -> Option<Suggestion> {
        let capacity = self.standing.leader()?.merit();
        let held = self.study.trials().iter().filter(|trial| trial.challenged().is_some_and(|challenged| challenged.holds));
        let mut open = held.map(|trial| trial.suggestion.candidate).filter(|chosen| self.fits(*chosen) && !self.is_done(*chosen));
        open.next().map(|chosen| self.pursue((chosen, capacity), capacity))
    }

    /// What was given up as it could not reach the best of then, and may reach that of now: a repetition can show that the best held so
    /// much only while the host was faster.
    fn reopened(&self) -> Option<Suggestion> {
        let capacity = self.standing.leader()?.merit();
        let bounds = self.study.measured().filter_map(|(candidate, found)| Some((candidate, found.ending.outclassed_by()?)));
        let open =
            bounds.filter(|(candidate, bound)| may_beat(*bound, capacity) && self.fits(*candidate) && !self.is_done(*candidate));
        let (chosen, _) = open.max_by(|one, other| one.1.total_cmp(&other.1))?;
        Some(self.pursue((chosen, capacity), capacity))
    }

    /// Another way to keep workers to cores that was not settled yet. Nothing predicts what it does.
    pub(super) fn arm(&self) -> Option<Suggestion> {
        let leader = self.standing.leader()?;
        let mut open = arms(self.study, leader.candidate).into_iter().filter(|arm| self.fits(*arm) && !self.is_done(*arm));
        open.next().map(|arm| self.pursue((arm, leader.merit()), leader.merit()))
    }

    /// A challenge to hold a little more than `capacity`, or the measurement of what held one.
    fn pursue(&self, chosen: (Candidate, f64), capacity: f64) -> Suggestion {
        if self.challenges(chosen.0).any(|trial| trial.challenged().is_some_and(|challenged| challenged.holds)) {
            // It held more than the rival does: what its light load bounds cannot settle it any more.
            return Suggestion { rival: None, ..self.measure(chosen, Purpose::Neighbour) };
        }
        let task = Task::Challenge { rate: RAISE * capacity };
        Suggestion { task, ..self.measure(chosen, Purpose::Challenge) }
    }

    fn fits(&self, candidate: Candidate) -> bool {
        self.memory.fits(&self.study.space, candidate)
    }

    /// Whether all is known about a candidate that the race wants to know: it was measured, it cannot reach the best, it failed, or it
    /// did not hold what it was challenged to.
    fn is_done(&self, candidate: Candidate) -> bool {
        let leader = self.standing.leader().map_or(0.0, Place::merit);
        let settled =
            self.study.trials().iter().filter(|trial| trial.suggestion.candidate == candidate).any(|trial| {
                match &trial.outcome {
                    Outcome::Measured(found) => {
                        !found.is_void() && found.ending.outclassed_by().is_none_or(|bound| !may_beat(bound, leader))
                    }
                    Outcome::Failed { .. } => true,
                    Outcome::Challenged(challenged) => !challenged.holds && trial.is_valid(),
                }
            });
        let held = self.challenges(candidate).any(|trial| trial.challenged().is_some_and(|challenged| challenged.holds));
        let void = self.study.measured().filter(|(tried, found)| *tried == candidate && found.is_void()).count();
        settled || void >= ATTEMPTS || (!held && self.challenges(candidate).count() >= ATTEMPTS)
    }

    fn challenges(&self, candidate: Candidate) -> impl Iterator<Item = &Trial> {
        let trials = self.study.trials().iter();
        trials.filter(move |trial| trial.suggestion.candidate == candidate && trial.challenged().is_some())
    }

    /// The leader once more, if it leads by a single measurement, or if two disagree about it.
    fn repeat(&self) -> Option<Suggestion> {
        let leader = self.standing.leader()?;
        let repeated = self.study.trials().iter().filter(|trial| trial.suggestion.purpose == Purpose::Repeat);
        let leaders: BTreeSet<Candidate> = repeated.map(|trial| trial.suggestion.candidate).collect();
        let is_next = leaders.contains(&leader.candidate) || leaders.len() < self.study.pace.effort().repeats;
        let due = leader.logs.len() < 2 && is_next && self.is_repeatable(leader);
        if due { Some(again(self.study, leader.candidate, Purpose::Repeat)) } else { self.third() }
    }

    /// One whose two repetitions lie too far apart to choose by.
    fn third(&self) -> Option<Suggestion> {
        let torn = self.standing.torn().filter(|place| self.is_repeatable(place));
        torn.map(|place| again(self.study, place.candidate, Purpose::Repeat))
    }

    /// Whether its repetitions were not spoilt as often as any trial is tried.
    fn is_repeatable(&self, place: &Place) -> bool {
        let of_it = |trial: &&Trial| {
            trial.suggestion.candidate == place.candidate && trial.suggestion.purpose == Purpose::Repeat && !trial.is_valid()
        };
        self.study.trials().iter().filter(of_it).count() < ATTEMPTS
    }

    fn measure(&self, (candidate, predicted): (Candidate, f64), purpose: Purpose) -> Suggestion {
        let rival = self.standing.leader().map(Place::merit);
        let task = self.study.objective.task();
        Suggestion { candidate, purpose, task, expected: Some(predicted).filter(|rate| *rate > 0.0), rival }
    }
}

/// Whether what can reach `bound` at most may hold what it would be challenged to where the best holds `capacity`.
fn may_beat(bound: f64, capacity: f64) -> bool {
    bound > RAISE * capacity
}

/// Predictions within a percent are equal: then the first of the neighbours.
fn promise((_, predicted): &(Candidate, f64)) -> f64 {
    (predicted.max(1e-9).ln() * PREDICTED_EQUAL).floor()
}

/// The six candidates around `centre` at a distance of `factor`: more or fewer slots by connections, the same slots in more or
/// fewer workers, and more or fewer workers.
pub(super) fn neighbours(centre: Candidate, factor: f64) -> Vec<Candidate> {
    let moves =
        [(1.0, factor), (factor, 1.0 / factor), (1.0, 1.0 / factor), (1.0 / factor, factor), (factor, 1.0), (1.0 / factor, 1.0)];
    let around = moves.into_iter().filter_map(|(up, along)| {
        let workers = Workers::new(scaled(u32::from(centre.workers.get()), up))?;
        Some(Candidate { workers, connections: Connections::new(scaled(centre.connections.get(), along))?, ..centre })
    });
    around.filter(|candidate| *candidate != centre).collect()
}

/// A whole number times a factor, at least one further where the factor is not 1; 0 if there is none.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most 65,535 × 1.8")]
fn scaled(count: u32, factor: f64) -> u32 {
    let rounded = (f64::from(count) * factor).round() as u32;
    if factor > 1.0 {
        rounded.max(count + 1)
    } else if factor < 1.0 {
        rounded.min(count - 1)
    } else {
        count
    }
}
