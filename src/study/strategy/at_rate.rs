//! What to try when the rate is fixed: for the lowest latency from where the most capacity is predicted, for the lowest cost from
//! the cheapest that is predicted to suffice. Every trial serves that rate, so none is a challenge.

use crate::study::memory::Memory;
use crate::study::model::Model;
use crate::study::standing::{Place, Standing};
use crate::study::strategy::arms::{arms, is_even};
use crate::study::strategy::search::{FACTORS, HOPELESS, neighbours};
use crate::study::{Candidate, Objective, Purpose, Study, Suggestion};

/// Candidates predicted to have this many times the rate as capacity are plainly enough for it.
const ENOUGH: f64 = 1.1;

/// The next trial, or `None` when nothing promising is left.
pub(super) fn suggest(study: &Study) -> Option<Suggestion> {
    let model = Model::fit(study)?;
    let standing = Standing::of(study);
    let chosen = match study.objective {
        Objective::Capacity => None,
        Objective::Latency { at } => quicker(study, &model, &standing, at.per_second()),
        Objective::Cost { at } => cheaper(study, &model, &standing, at.per_second()),
    };
    let purpose = if study.count(Purpose::Jump) == 0 { Purpose::Jump } else { Purpose::Neighbour };
    let rival = standing.leader().map(Place::merit);
    chosen.map(|candidate| Suggestion { candidate, purpose, task: study.objective.task(), expected: None, rival })
}

/// Where the most capacity is predicted, as the least loaded has the shortest queues, until something holds the rate; then around
/// the best so far.
fn quicker(study: &Study, model: &Model, standing: &Standing, rate: f64) -> Option<Candidate> {
    let predicted = |candidate: &Candidate| model.capacity(*candidate);
    let memory = Memory::fit(study);
    let open = |candidate: &Candidate| memory.fits(&study.space, *candidate) && !study.has_tried(*candidate);
    let leader = standing.leader().map(|place| place.candidate).filter(|_| study.count(Purpose::Jump) > 0);
    let Some(leader) = leader else {
        let enough = |candidate: &Candidate| study.count(Purpose::Jump) == 0 || predicted(candidate) >= HOPELESS * rate;
        let all = study.space.candidates().into_iter().filter(|candidate| open(candidate) && enough(candidate));
        return all.max_by(|one, other| predicted(one).total_cmp(&predicted(other)).then(other.slots().cmp(&one.slots())));
    };
    if let Some(arm) = arms(study, leader).into_iter().find(open) {
        return Some(arm);
    }
    let most = predicted(&leader);
    FACTORS.into_iter().find_map(|factor| {
        let near = neighbours(leader, factor).into_iter().filter(|candidate| study.space.allows(*candidate) && open(candidate));
        let near = near.filter(|candidate| is_even(&study.space, *candidate));
        let near = near.filter(|candidate| predicted(candidate) >= HOPELESS * most);
        near.max_by(|one, other| predicted(one).total_cmp(&predicted(other)))
    })
}

/// The cheapest that is plainly enough, if nothing held yet; otherwise the cheapest that may be enough and costs less than what held.
fn cheaper(study: &Study, model: &Model, standing: &Standing, rate: f64) -> Option<Candidate> {
    let cores = study.space.cores.get();
    let memory = Memory::fit(study);
    let cost = |candidate: &Candidate| (candidate.workers.get().min(cores), memory.of(*candidate), candidate.slots());
    let compare = |one: &Candidate, other: &Candidate| {
        let (one, other) = (cost(one), cost(other));
        one.0.cmp(&other.0).then(one.1.total_cmp(&other.1)).then(one.2.cmp(&other.2))
    };
    let share = if study.count(Purpose::Jump) == 0 { ENOUGH } else { HOPELESS };
    let open = study.space.candidates().into_iter().filter(|candidate| {
        memory.fits(&study.space, *candidate) && !study.has_tried(*candidate) && model.capacity(*candidate) >= share * rate
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::simulation::{APPS, run};
    use crate::study::{Pace, Report, Stop};
    use crate::units::Rate;

    fn study_at(share: f64, objective: impl Fn(Rate) -> Objective) -> (Study, Report, f64) {
        // Requests that mostly wait: the baseline does half of what the host can.
        let app = &APPS[0];
        let at = app.best() * share;
        assert!(at > 1.2 * app.capacity(app.space().baseline()));
        let (mut study, mut host) = (app.study(Pace::Normal), app.host(Pace::Normal, 5));
        study.objective = objective(Rate::new(at).unwrap());
        let stop = run(&mut study, |suggestion| host.run(suggestion));
        let report = Report::new(&study, stop);
        let capacity = report.recommended.map_or(0.0, |chosen| app.capacity(chosen));
        (study, report, capacity / at)
    }

    #[test]
    fn a_baseline_that_is_too_small_for_the_rate_is_not_the_end() {
        for objective in [(|at| Objective::Latency { at }) as fn(Rate) -> Objective, |at| Objective::Cost { at }] {
            let (study, report, share) = study_at(0.85, objective);
            assert!(share >= 1.0, "{:?}: {share} by {:?}", report.stop, report.recommended);
            assert_eq!(study.count(Purpose::Gentle), 0);
        }
    }

    #[test]
    fn a_rate_that_nothing_holds_ends_it() {
        let (study, report, _) = study_at(3.0, |at| Objective::Latency { at });
        assert_eq!((report.stop, report.recommended), (Stop::NothingMeetsSlo, None));
        assert!(study.trials().len() <= Pace::Normal.effort().trials, "{}", study.trials().len());
    }
}
