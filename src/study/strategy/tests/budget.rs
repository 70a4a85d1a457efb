//! What the time and the trials of a study are spent on.

use std::collections::BTreeMap;

use super::faults::spoilt;
use super::*;
use crate::study::Slo;
use crate::study::confirm::Duel;

#[test]
fn the_quick_budget_is_kept() {
    for app in &APPS {
        let (study, _) = simulate(app, Pace::Quick, 11);
        let seconds = study.seconds();
        // What the last pair costs is not known to the second.
        assert!(seconds <= 1.1 * study.budget.seconds, "{}: {seconds} s in {} trials", app.name, study.trials().len());
    }
}

#[test]
fn no_trial_but_the_first_begins_after_the_budget() {
    // Ten seconds each, and neither the baseline nor the rule of thumb beside it holds anything.
    for (budget, trials) in [(0.0, 1), (10.0, 1), (10.5, 2), (25.0, 3)] {
        let mut study = APPS[4].study(Pace::Normal);
        (study.space.workers, study.budget.seconds) = (Workers::new(3), budget);
        let stop = run(&mut study, |_| measured(|found| found.ending = Ending::TooSlow));
        assert_eq!((stop, study.trials().len()), (Stop::Budget, trials), "{budget} s");
        assert_eq!(Report::new(&study, stop).recommended, None);
    }
    for cost in [0.0, 10.0] {
        let mut study = APPS[4].study(Pace::Normal);
        (study.space.workers, study.budget.seconds) = (Workers::new(3), 0.0);
        let held = |found: &mut Measurement| *found = Measurement { seconds: cost, ..Measurement::of_capacity(50.0) };
        let stop = run(&mut study, |_| measured(held));
        assert_eq!((stop, study.trials().len()), (Stop::Budget, 1), "{cost} s");
        assert_eq!(Report::new(&study, stop).recommended, Some(study.space.baseline()));
    }
}

/// A run of `benches/regret.py` on the shop (gevent) ended after 101 of 180 seconds: what led by half a percent needed more memory than the
/// baseline, so that four trials were kept for a comparison that was none.
#[test]
fn nothing_is_kept_for_a_comparison_while_the_baseline_is_as_good_as_any() {
    let mut study = APPS[1].study(Pace::Quick);
    let baseline = study.space.baseline();
    study.budget.seconds = 180.0;
    let stop = run(&mut study, |suggestion| {
        let (candidate, seconds) = (suggestion.candidate, 18.0);
        let capacity = 413.0 + if candidate.workers > baseline.workers { 2.0 } else { -10.0 * f64::from(candidate != baseline) };
        let memory_bytes = Some(u64::from(candidate.workers.get()) << 24);
        match suggestion.task {
            Task::Challenge { .. } => Outcome::Challenged(Challenged::new(true, 5.0)),
            Task::Measure | Task::Serve { .. } => {
                measured(|found| *found = Measurement { memory_bytes, seconds, ..Measurement::of_capacity(capacity) })
            }
        }
    });
    let report = Report::new(&study, stop);
    assert_eq!(report.outcome, Some(DuelOutcome::BaselineIsBest));
    assert!(study.seconds() > 180.0 - 3.0 * 18.0, "{} s, {stop:?}", study.seconds());
}

#[test]
fn a_rare_latency_gets_the_time_that_its_probes_take() {
    let slo: Slo = "p99<700ms".parse().unwrap();
    for pace in [Pace::Quick, Pace::Normal] {
        // Of some forty requests a second, so that every probe takes as long as it may.
        let app = &APPS[2];
        let (mut compared, mut tried) = (0, 0);
        for seed in 0..SEEDS {
            let (mut study, mut host) =
                (app.study(pace), app.host(pace, seed).with_wanted(pace.timing().wanted(slo.late_share())));
            study.budget = pace.budget(&slo);
            run(&mut study, |suggestion| host.run(suggestion));
            compared += u64::from(Duel::of(&study).is_some_and(|duel| duel.missing_pairs(&study) == 0));
            tried += study.trials().len() - study.count(Purpose::Confirm);
        }
        assert!(compared * 10 >= SEEDS * 9, "{pace:?}: {compared} of {SEEDS} comparisons complete");
        assert!(tried as u64 >= 6 * SEEDS, "{pace:?}: {tried} trials of {SEEDS} searches");
    }
}

#[test]
fn no_comparison_begins_while_two_repetitions_of_the_best_disagree() {
    let mut torn = 0;
    for seed in 0..100 {
        let app = of_seed(seed);
        let (mut study, mut host) = (app.study(Pace::Normal), app.host(Pace::Normal, seed).with_boot_noise(0.06));
        run(&mut study, |suggestion| host.run(suggestion));
        let mut search = app.study(Pace::Normal);
        for trial in study.trials().iter().take_while(|trial| trial.suggestion.purpose != Purpose::Confirm) {
            torn += u32::from(Standing::of(&search).torn().is_some());
            search.record(trial.clone());
        }
        let had_its_trials = search.trials().len() >= study.pace.effort().most_trials();
        let is_over = had_its_trials || !can_afford(&search, 1 + reserve(&search)) || is_certified(&search);
        assert!(Standing::of(&search).torn().is_none() || is_over, "{seed}: {} trials", search.trials().len());
    }
    assert!(torn > 10, "{torn} disagreed");
}

/// Django's sync workers on two cores: 40 of them held 482 requests a second when challenged, and were then given up as their light load, with
/// cold caches, seemed to allow 438 only.
#[test]
fn what_held_a_challenge_is_measured_whatever_its_light_load_bounds() {
    let mut seen = 0;
    for seed in 0..SEEDS {
        let (study, _) = simulate(&of_seed(seed), Pace::Normal, seed);
        let neighbours = study.trials().iter().filter(|trial| trial.suggestion.purpose == Purpose::Neighbour);
        for trial in neighbours {
            seen += 1;
            assert_eq!(trial.suggestion.rival, None, "{seed}: {:?}", trial.suggestion.candidate);
        }
    }
    assert!(seen > 10, "{seen} were measured");
}

#[test]
fn a_repetition_that_is_always_disturbed_is_given_up() {
    let mut most = 0;
    for seed in 0..SEEDS {
        let app = of_seed(seed);
        let (study, _) = spoilt(&app, seed, |study, suggestion| {
            let found = app.host(Pace::Normal, seed + study.trials().len() as u64).run(suggestion);
            let Outcome::Measured(mut found) = found else { return None };
            found.flags.push(Flag::OtherPrograms);
            (suggestion.purpose == Purpose::Repeat).then_some(Outcome::Measured(found))
        });
        let repeated = study.trials().iter().filter(|trial| trial.suggestion.purpose == Purpose::Repeat);
        let mut times: BTreeMap<Candidate, usize> = BTreeMap::new();
        repeated.for_each(|trial| *times.entry(trial.suggestion.candidate).or_default() += 1);
        assert!(times.values().all(|times| *times <= ATTEMPTS), "{seed}: {times:?}");
        most = most.max(times.values().copied().max().unwrap_or(0));
    }
    assert_eq!(most, ATTEMPTS, "one is tried again");
}
