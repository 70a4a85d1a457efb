//! Which ways of keeping workers to cores are tried beside the best so far, where that varies: each that makes a difference,
//! once, with as many workers on every core. What follows from one that wins is the race's.

use crate::config::Affinity;
use crate::study::{Candidate, Dimensions, Space, Study};
use crate::units::{Connections, Workers};

/// What `leader` would be with its workers on other cores: what was tried of each way, or what should be. Empty where that does not vary.
pub(super) fn arms(study: &Study, leader: Candidate) -> Vec<Candidate> {
    let Some(present) = leader.affinity else { return Vec::new() };
    let mut layouts = vec![layout(present, leader.workers, &study.space)];
    let mut arms = Vec::new();
    for affinity in Affinity::ALL.into_iter().filter(|affinity| *affinity != present) {
        let tried = study.trials().iter().map(|trial| trial.suggestion.candidate).find(|tried| tried.affinity == Some(affinity));
        let Some(arm) = tried.or_else(|| evenly(&study.space, leader, affinity)) else { continue };
        let layout = layout(affinity, arm.workers, &study.space);
        if tried.is_some() || !layouts.contains(&layout) {
            layouts.push(layout);
            arms.push(arm);
        }
    }
    arms
}

/// Which cores workers get: with a worker a core or more, an equal part of the cores is one core too.
fn layout(affinity: Affinity, workers: Workers, space: &Space) -> Affinity {
    let enough = workers.get() >= space.places();
    if affinity == Affinity::Spread && enough { Affinity::Pin } else { affinity }
}

/// Whether no core has a worker more than another, where workers keep to cores: that core would bind.
pub(super) fn is_even(space: &Space, candidate: Candidate) -> bool {
    let (workers, cores) = (candidate.workers.get(), space.places());
    matches!(candidate.affinity, None | Some(Affinity::None)) || workers <= cores || workers.is_multiple_of(cores)
}

/// `leader` with its workers on cores so, evenly. As many connections in all, or a little fewer.
fn evenly(space: &Space, leader: Candidate, affinity: Affinity) -> Option<Candidate> {
    let (workers, cores) = (leader.workers.get(), space.places());
    let even = |count: u16| count / cores * cores;
    let counts =
        if affinity == Affinity::None || workers <= cores { [workers; 2] } else { [even(workers + cores / 2), even(workers)] };
    let mut sized = counts.into_iter().filter_map(|count| {
        let each = match space.dimensions {
            Dimensions::WorkersOnly => Connections::ONE,
            Dimensions::WorkersAndConnections => {
                let room = u32::try_from(leader.slots() / u64::from(count)).unwrap_or(Connections::MAX);
                Connections::new(room.clamp(1, space.max_connections.get()))?
            }
        };
        Some(Candidate { workers: Workers::new(count.into())?, connections: each, affinity: Some(affinity) })
    });
    sized.find(|candidate| space.allows(*candidate))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::confirm::MOST_ASIDE;
    use crate::study::simulation::{APPS, App, run};
    use crate::study::{Challenged, Flag, Objective, Outcome, Pace, Purpose, Report, Stop};
    use crate::units::Rate;

    /// A study of `app` where workers on cores of their own do `gain` times as much.
    fn studied(app: &App, configured: Affinity, gain: f64, seed: u64) -> (Study, Report) {
        let (mut study, mut host) = (app.study(Pace::Normal), app.host(Pace::Normal, seed));
        study.space.affinity = Some(configured);
        let faster = app.faster(gain);
        let mut bound_host = faster.host(Pace::Normal, seed);
        let stop = run(&mut study, |suggestion| match suggestion.candidate.affinity {
            Some(Affinity::None) | None => host.run(suggestion),
            Some(Affinity::Spread | Affinity::Pin) => bound_host.run(suggestion),
        });
        let report = Report::new(&study, stop);
        (study, report)
    }

    fn tried(study: &Study, affinity: Affinity) -> usize {
        study.trials().iter().filter(|trial| trial.suggestion.candidate.affinity == Some(affinity)).count()
    }

    #[test]
    fn what_it_gains_is_found_from_either_side() {
        for (configured, gain) in [(Affinity::None, 1.3), (Affinity::Spread, 1.0 / 1.3), (Affinity::Pin, 1.0 / 1.3)] {
            for app in [&APPS[0], &APPS[2], &APPS[3], &APPS[7]] {
                let right = (0..10).filter(|seed| {
                    let (study, report) = studied(app, configured, gain, *seed);
                    let bound = report.recommended.and_then(|chosen| chosen.affinity) != Some(Affinity::None);
                    assert!(study.trials().iter().all(|trial| trial.suggestion.candidate.affinity.is_some()));
                    bound == (gain > 1.0)
                });
                let right = right.count();
                assert!(right >= 9, "{configured:?} {}: {right} of 10", app.name);
            }
        }
    }

    #[test]
    fn where_it_gains_nothing_it_costs_a_trial_or_two() {
        let mut cheap = 0;
        for app in &APPS {
            for seed in 0..10 {
                let (study, report) = studied(app, Affinity::None, 1.0, seed);
                cheap += usize::from(tried(&study, Affinity::Spread) + tried(&study, Affinity::Pin) <= 2);
                let undisturbed = study.trials().iter().filter(|trial| trial.is_valid()).count();
                let effort = study.pace.effort();
                assert!(undisturbed <= effort.trials + 2 * (effort.most_pairs + MOST_ASIDE), "{:?}", report.stop);
                assert!(tried(&study, Affinity::Spread) > 0 || report.stop == Stop::Budget, "{}: {:?}", app.name, report.stop);
                assert!(study.trials().iter().all(|trial| is_even(&study.space, trial.suggestion.candidate)));
                let short = app.regret(report.recommended.map(|chosen| Candidate { affinity: None, ..chosen }));
                assert!(short < 0.15, "{}: {short}", app.name);
            }
        }
        assert!(cheap > 50, "{cheap} of 80");
    }

    #[test]
    fn a_lower_latency_is_looked_for_on_other_cores_too() {
        let (app, faster) = (&APPS[4], APPS[4].faster(2.0));
        let (mut study, mut host, mut bound_host) =
            (app.study(Pace::Normal), app.host(Pace::Normal, 3), faster.host(Pace::Normal, 3));
        study.space.affinity = Some(Affinity::None);
        study.objective = Objective::Latency { at: Rate::new(0.5 * app.best()).unwrap() };
        let stop = run(&mut study, |suggestion| match suggestion.candidate.affinity {
            Some(Affinity::None) | None => host.run(suggestion),
            Some(Affinity::Spread | Affinity::Pin) => bound_host.run(suggestion),
        });
        let chosen = Report::new(&study, stop).recommended.unwrap();
        assert!(chosen.affinity != Some(Affinity::None), "{chosen:?}");
        assert_eq!(study.count(Purpose::Challenge), 0);
    }

    #[test]
    fn where_it_does_not_vary_nothing_of_it_is_tried() {
        let mut host = APPS[2].host(Pace::Normal, 1);
        let mut study = APPS[2].study(Pace::Normal);
        run(&mut study, |suggestion| host.run(suggestion));
        assert!(study.trials().iter().all(|trial| trial.suggestion.candidate.affinity.is_none()));
        assert!(arms(&study, study.space.baseline()).is_empty());
    }

    #[test]
    fn a_disturbed_challenge_is_repeated_and_a_lost_one_is_the_end_of_it() {
        for (flags, times) in [(vec![Flag::Steal], 2), (vec![], 1)] {
            let (mut host, mut study) = (APPS[2].host(Pace::Normal, 1), APPS[2].study(Pace::Normal));
            study.space.affinity = Some(Affinity::None);
            run(&mut study, |suggestion| match (suggestion.candidate.affinity, suggestion.purpose) {
                (Some(Affinity::Spread), Purpose::Challenge) => {
                    Outcome::Challenged(Challenged { flags: flags.clone(), ..Challenged::new(false, 17.0) })
                }
                _ => host.run(suggestion),
            });
            assert_eq!(tried(&study, Affinity::Spread), times, "{flags:?}");
        }
    }

    #[test]
    fn every_core_has_as_many_workers() {
        let mut space = APPS[4].space();
        space.affinity = Some(Affinity::None);
        let leader =
            |workers, connections| space.candidate(Workers::new(workers).unwrap(), Connections::new(connections).unwrap());
        let sizes = |workers| {
            let arm = evenly(&space, leader(workers, 60), Affinity::Spread).unwrap();
            (arm.workers.get(), arm.connections.get())
        };
        assert_eq!([2, 3, 4, 5, 6, 9, 17].map(sizes), [(2, 60), (3, 60), (4, 60), (4, 75), (8, 45), (8, 67), (16, 63)]);
        let ways = |workers, affinity| {
            let from = Candidate { affinity: Some(affinity), ..leader(workers, 60) };
            arms(&APPS[4].study(Pace::Normal), from).into_iter().filter_map(|arm| arm.affinity).collect::<Vec<_>>()
        };
        assert_eq!(ways(2, Affinity::None), [Affinity::Spread, Affinity::Pin]);
        assert_eq!(ways(5, Affinity::None), [Affinity::Spread]);
        assert_eq!(ways(8, Affinity::Pin), [Affinity::None]);
        assert_eq!(ways(3, Affinity::Pin), [Affinity::None, Affinity::Spread]);
    }

    #[test]
    fn a_quota_leaves_as_many_cores_to_keep_to() {
        let mut study = APPS[4].study(Pace::Normal);
        study.space.affinity = Some(Affinity::None);
        study.space.quota = Some(2.0);
        study.space.allowed = std::num::NonZeroU16::new(16);
        for workers in [3, 5, 9] {
            let leader = study.space.candidate(Workers::new(workers).unwrap(), Connections::new(60).unwrap());
            let arms = arms(&study, leader);
            assert_eq!(arms.iter().filter_map(|arm| arm.affinity).collect::<Vec<_>>(), [Affinity::Spread, Affinity::Pin]);
            assert!(arms.iter().all(|arm| arm.is_as_large_as(leader) && is_even(&study.space, *arm)), "{arms:?}");
        }
    }
}
