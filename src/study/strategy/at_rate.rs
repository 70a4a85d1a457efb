//! What to try when the rate is fixed: for the lowest latency from where the most capacity is predicted, for the lowest cost from the cheapest that is
//! predicted to suffice. Every trial serves that rate, so none is a challenge.

use crate::study::model::Model;
use crate::study::standing::{Place, Standing};
use crate::study::strategy::search::neighbours;
use crate::study::{Candidate, Objective, Purpose, Study, Suggestion};

/// Candidates predicted to have less than this share of the rate as capacity are not tried; those with this many times the rate are plainly enough.
const HOPELESS: f64 = 0.9;
const ENOUGH: f64 = 1.1;
/// How far the neighbours of the lowest latency are, as ratios.
const FACTORS: [f64; 2] = [1.8, 1.35];

/// The next trial, or `None` when nothing promising is left.
pub(super) fn suggest(study: &Study) -> Option<Suggestion> {
    let model = Model::fit(study)?;
    let standing = Standing::of(study);
    let chosen = match study.objective {
        Objective::Capacity => None,
        Objective::Latency { .. } => quicker(study, &model, &standing),
        Objective::Cost { at } => cheaper(study, &model, &standing, at.per_second()),
    };
    let purpose = if study.count(Purpose::Jump) == 0 { Purpose::Jump } else { Purpose::Neighbour };
    let rival = standing.leader().map(Place::capacity);
    chosen.map(|candidate| Suggestion { candidate, purpose, task: study.objective.task(), expected: None, rival })
}

/// Where the most capacity is predicted, as the least loaded has the shortest queues; then around the best so far.
fn quicker(study: &Study, model: &Model, standing: &Standing) -> Option<Candidate> {
    let predicted = |candidate: &Candidate| model.capacity(*candidate);
    let open = |candidate: &Candidate| model.fits(&study.space, *candidate) && !study.has_tried(*candidate);
    if study.count(Purpose::Jump) == 0 {
        let all = study.space.candidates().into_iter().filter(open);
        return all.max_by(|one, other| predicted(one).total_cmp(&predicted(other)).then(other.slots().cmp(&one.slots())));
    }
    let leader = standing.leader()?.candidate;
    let most = predicted(&leader);
    FACTORS.into_iter().find_map(|factor| {
        let near = neighbours(leader, factor).into_iter().filter(|candidate| study.space.allows(*candidate) && open(candidate));
        let near = near.filter(|candidate| predicted(candidate) >= HOPELESS * most);
        near.max_by(|one, other| predicted(one).total_cmp(&predicted(other)))
    })
}

/// The cheapest that is plainly enough, if nothing held yet; otherwise the cheapest that may be enough and costs less than what held.
fn cheaper(study: &Study, model: &Model, standing: &Standing, rate: f64) -> Option<Candidate> {
    let cores = study.space.cores.get();
    let cost = |candidate: &Candidate| {
        let memory = model.memory(*candidate);
        (candidate.workers.get().min(cores), memory, candidate.slots())
    };
    let compare = |one: &Candidate, other: &Candidate| {
        let (one, other) = (cost(one), cost(other));
        one.0.cmp(&other.0).then(one.1.total_cmp(&other.1)).then(one.2.cmp(&other.2))
    };
    let share = if study.count(Purpose::Jump) == 0 { ENOUGH } else { HOPELESS };
    let open = study.space.candidates().into_iter().filter(|candidate| {
        model.fits(&study.space, *candidate) && !study.has_tried(*candidate) && model.capacity(*candidate) >= share * rate
    });
    let Some(leader) = standing.finalist() else {
        return open.min_by(|one, other| compare(one, other));
    };
    let plainly = |candidate: &Candidate| {
        let (new, old) = (cost(candidate), cost(&leader.candidate));
        new.0 < old.0 || (new.0 == old.0 && new.1 < PLAINLY * old.1)
    };
    // Fewer cores are found by halves: the middle of what is cheaper, so that a few trials suffice.
    let mut below: Vec<Candidate> = open.filter(plainly).collect();
    below.sort_by(compare);
    let fewest = below.first().map(|candidate| cost(candidate).0)?;
    let wanted = fewest + (cost(&leader.candidate).0 - fewest) / 2;
    below.into_iter().find(|candidate| cost(candidate).0 >= wanted)
}

/// A saving of memory below this is none.
const PLAINLY: f64 = 0.95;
