//! What fails, is disturbed, or has little time: what is said of it then.

use super::*;
use crate::study::simulation::BOOT_NOISE;

/// A study of `app` in which `spoil` may replace what the simulated host answered to a suggestion.
pub(super) fn spoilt(app: &App, seed: u64, mut spoil: impl FnMut(&Study, &Suggestion) -> Option<Outcome>) -> (Study, Report) {
    let (mut study, mut host) = (app.study(Pace::Normal), app.host(Pace::Normal, seed));
    let stop = loop {
        let suggestion = match suggest(&study) {
            Next::Try(suggestion) => suggestion,
            Next::Stop(stop) => break stop,
        };
        let answered = host.run(&suggestion);
        let outcome = spoil(&study, &suggestion).unwrap_or(answered);
        study.record(Trial { suggestion, outcome });
        assert!(study.trials().len() < 40, "a study must end");
    };
    let report = Report::new(&study, stop);
    (study, report)
}

fn failed() -> Outcome {
    Outcome::Failed { reason: "worker 3 was killed: out of memory".to_owned(), seconds: 2.0 }
}

/// Whether this is the confirmation of the best, or else of the baseline, number `number` (from 0).
pub(super) fn is_confirmation(study: &Study, suggestion: &Suggestion, of_best: bool, number: usize) -> bool {
    let baseline = study.space.baseline();
    let is_it = |suggestion: &Suggestion| suggestion.purpose == Purpose::Confirm && (suggestion.candidate != baseline) == of_best;
    is_it(suggestion) && study.trials().iter().filter(|trial| is_it(&trial.suggestion)).count() == number
}

#[test]
fn what_dies_twice_when_repeated_is_not_recommended() {
    for numbers in [[0, 1], [0, 2], [1, 3]] {
        let app = &APPS[0];
        let (study, report) = spoilt(app, 3, |study, suggestion| {
            numbers.iter().any(|number| is_confirmation(study, suggestion, true, *number)).then(failed)
        });
        assert_eq!((report.outcome, report.recommended), (Some(DuelOutcome::Worse), Some(study.space.baseline())), "{numbers:?}");
    }
}

#[test]
fn a_single_failure_is_repeated_and_told() {
    let mut apps = (0..40).map(|seed| (seed, of_seed(seed)));
    let (seed, app) = apps
        .find(|(seed, app)| {
            let report = simulate(app, Pace::Normal, *seed).1;
            report.certificate.given && report.ratio.is_some_and(|ratio| ratio.low > 1.2)
        })
        .expect("a study with a gain and a certificate");
    let (study, report) = spoilt(&app, seed, |study, suggestion| is_confirmation(study, suggestion, true, 0).then(failed));
    let duel: Vec<&Trial> = study.trials().iter().filter(|trial| trial.suggestion.purpose == Purpose::Confirm).collect();
    assert_eq!(duel[0].suggestion.candidate, duel[1].suggestion.candidate, "it is run once more");
    assert_eq!((report.outcome, report.failures, report.certificate.given), (Some(DuelOutcome::Better), 1, false));
    assert_eq!(report.certificate.reason.as_deref(), Some("a trial of the recommended configuration failed"));
    assert!(report.pairs.len() >= Pace::Normal.effort().least_pairs);
}

#[test]
fn one_failure_of_the_baseline_hides_nothing_of_it() {
    let app = &APPS[0];
    let truth = |report: &Report| {
        report.best.as_ref().map_or(0.0, |best| app.capacity(best.candidate)) / app.capacity(app.space().baseline())
    };
    for number in [0, 1] {
        let (_, report) = spoilt(app, 3, |study, suggestion| is_confirmation(study, suggestion, false, number).then(failed));
        assert_eq!((report.outcome, report.pairs.len()), (Some(DuelOutcome::Better), 3));
        assert!(
            report.baseline.capacity.is_some() && report.ratio.is_some_and(|ratio| ratio.contains(truth(&report))),
            "{:?}",
            report.ratio
        );
    }
    let (_, report) = spoilt(app, 3, |study, _| study.trials().is_empty().then(failed));
    assert_eq!((report.outcome, report.pairs.len()), (Some(DuelOutcome::Better), 3), "its first boot failed");
    let (_, report) =
        spoilt(app, 3, |study, suggestion| (0..2).any(|number| is_confirmation(study, suggestion, false, number)).then(failed));
    assert_eq!((report.outcome, report.ratio), (Some(DuelOutcome::OnlyBest), None));
    assert!(report.baseline.amount.is_some(), "it held a rate before it failed twice");
}

#[test]
fn what_takes_more_memory_than_may_be_used_is_neither_recommended_nor_repeated() {
    let app = &APPS[0];
    let taken = |study: &Study, of: Candidate| {
        study.measured().filter(|(tried, _)| *tried == of).filter_map(|(_, found)| found.memory_bytes).max()
    };
    // Of 33 workers that take 2 GiB: a worker a core is within it, or one worker only; with the rule of thumb beside what is configured.
    for (most, configured) in [(1800, None), (400, None), (1800, Workers::new(40))] {
        for seed in 0..SEEDS {
            let (mut study, mut host) = (app.study(Pace::Normal), app.host(Pace::Normal, seed));
            (study.space.max_memory, study.space.workers) = (Some(most << 20), configured);
            let baseline = study.space.baseline();
            let stop = run(&mut study, |suggestion| host.run(suggestion));
            let report = Report::new(&study, stop);
            let chosen = report.recommended.unwrap();
            assert!(taken(&study, chosen).is_some_and(|bytes| bytes <= most << 20), "{most} {seed}: {chosen:?}");
            assert!(report.is_too_large(baseline) && report.too_large.len() > usize::from(configured.is_some()));
            let again = study.trials().iter().filter(|trial| report.is_too_large(trial.suggestion.candidate)).count();
            assert_eq!(again, report.too_large.len(), "{most} {seed}");
            assert!(
                report.outcome == Some(DuelOutcome::OnlyBest) && report.ratio.is_none(),
                "{most} {seed}: {:?}",
                report.outcome
            );
        }
    }
}

#[test]
fn a_best_that_takes_too_much_when_it_is_repeated_is_lost_and_the_host_is_not_to_blame() {
    let (mut study, mut host) = (APPS[0].study(Pace::Normal), APPS[0].host(Pace::Normal, 3));
    study.space.max_memory = Some(64 << 30);
    let (baseline, mut repeated) = (study.space.baseline(), 0);
    let stop = run(&mut study, |suggestion| match host.run(suggestion) {
        Outcome::Measured(mut found) if suggestion.purpose == Purpose::Confirm && suggestion.candidate != baseline => {
            repeated += 1;
            found.memory_bytes = found.memory_bytes.map(|bytes| if repeated > 1 { 65 << 30 } else { bytes });
            Outcome::Measured(found)
        }
        other @ (Outcome::Measured(_) | Outcome::Challenged(_) | Outcome::Failed { .. }) => other,
    });
    let report = Report::new(&study, stop);
    assert_eq!((repeated, report.outcome, report.recommended), (2, Some(DuelOutcome::Worse), Some(baseline)));
    assert!(report.missing_pairs == 0 && matches!(stop, Stop::Converged | Stop::Trials), "{stop:?}");
}

#[test]
fn where_nothing_fits_in_the_memory_nothing_more_is_tried() {
    let (mut study, mut host) = (APPS[0].study(Pace::Normal), APPS[0].host(Pace::Normal, 1));
    study.space.max_memory = Some(30 << 20);
    let stop = run(&mut study, |suggestion| host.run(suggestion));
    assert_eq!((stop, study.trials().len()), (Stop::NothingMeetsSlo, 1));
    let report = Report::new(&study, stop);
    assert_eq!((report.recommended, report.nearest, report.too_large.len()), (None, None, 1));
}

/// As where the memory that is free suffices for one worker alone.
#[test]
fn the_gentlest_is_tried_though_nothing_larger_starts() {
    let (mut study, mut host) = (APPS[2].study(Pace::Quick), APPS[2].host(Pace::Quick, 1));
    let gentlest = Candidate::new(Workers::new(1).unwrap(), Connections::ONE);
    let stop = run(&mut study, |suggestion| if suggestion.candidate == gentlest { host.run(suggestion) } else { failed() });
    let report = Report::new(&study, stop);
    assert_eq!((report.recommended, report.outcome), (Some(gentlest), Some(DuelOutcome::OnlyBest)), "{stop:?}");
}

/// Memory suffices for less than a worker a core, so that the first that starts is one worker with one connection. That it and the next have
/// slots, workers and cores to spare says nothing of larger ones.
#[test]
fn from_the_gentlest_the_search_goes_up() {
    for seed in [784, 1074, 1504] {
        let app = of_seed(seed);
        let (study, report) = simulate(&app, Pace::Normal, seed);
        assert!(study.count(Purpose::Gentle) > 1 && app.regret(report.recommended) < 0.2, "{seed}: {:?}", report.recommended);
    }
}

#[test]
fn a_short_budget_is_spent_on_what_may_be_better() {
    // A minute a trial of a program that does not save time, and less.
    for (budget, each, pairs) in [(300.0, 60.0, 1), (240.0, 50.0, 1), (180.0, 45.0, 1), (100.0, 45.0, 0)] {
        let app = &APPS[0];
        let (mut study, mut host) = (app.study(Pace::Normal), app.host(Pace::Normal, 4));
        study.budget.seconds = budget;
        let stop = run(&mut study, |suggestion| match host.run(suggestion) {
            Outcome::Measured(found) => Outcome::Measured(Box::new(Measurement { seconds: each, ..*found })),
            other @ (Outcome::Challenged(_) | Outcome::Failed { .. }) => other,
        });
        let report = Report::new(&study, stop);
        assert!(matches!(stop, Stop::Budget | Stop::Certified), "{budget} s: {stop:?}");
        assert_eq!((study.count(Purpose::Jump), report.pairs.len()), (1, pairs), "{budget} s");
        assert!(app.regret(report.recommended) < 0.1, "{budget} s: {:?}", report.recommended);
        assert!(stop == Stop::Certified || report.missing_pairs + pairs == 3, "{budget} s: {}", report.missing_pairs);
        assert!(
            study.seconds() <= OVERRUN * budget && study.seconds() + 2.0 * each > budget,
            "{} of {budget} s",
            study.seconds()
        );
    }
}

/// A first jump that fell short left the reserve for a comparison of the baseline with itself: two trials, and most of the budget unspent.
#[test]
fn while_the_baseline_leads_the_budget_is_searched_with() {
    let mut study = APPS[1].study(Pace::Quick);
    let baseline = study.space.baseline();
    let stop = run(&mut study, |suggestion| {
        let capacity = if suggestion.candidate == baseline { 120.0 } else { 99.0 };
        match suggestion.task {
            Task::Challenge { .. } => Outcome::Challenged(Challenged {
                holds: false,
                seconds: 7.0,
                memory_bytes: None,
                probes: Vec::new(),
                flags: Vec::new(),
                why: None,
            }),
            Task::Measure | Task::Serve { .. } => measured(|found| {
                *found = Measurement { seconds: 17.0, utilisation: Some(0.92), ..Measurement::of_capacity(capacity) }
            }),
        }
    });
    assert!(study.seconds() > 75.0 || stop != Stop::Budget, "{stop:?} after {} s", study.seconds());
}

#[test]
fn a_disturbed_jump_is_measured_again() {
    for held in [0.0, 0.5] {
        let app = &APPS[0];
        let mut host = app.host(Pace::Normal, 3);
        let (study, report) = spoilt(app, 3, |study, suggestion| {
            let is_first = suggestion.purpose == Purpose::Jump && study.count(Purpose::Jump) == 0;
            let Outcome::Measured(mut found) = host.run(suggestion) else { return None };
            (found.capacity, found.flags) = (held * found.capacity, vec![Flag::OtherPrograms]);
            is_first.then_some(Outcome::Measured(found))
        });
        let jumps: Vec<&Trial> = study.trials().iter().filter(|trial| trial.suggestion.purpose == Purpose::Jump).collect();
        assert_eq!(jumps[0].suggestion.candidate, jumps[1].suggestion.candidate);
        assert!(app.regret(report.recommended) < 0.06, "{:?}", report.recommended);
    }
}

#[test]
fn the_gentlest_is_tried_before_the_objective_is_called_too_hard() {
    for configured in [None, Workers::new(3)] {
        let app = &APPS[4];
        let mut study = app.study(Pace::Normal);
        study.space.workers = configured;
        let gentle = |suggestion: &Suggestion| suggestion.candidate.slots() == 1;
        let stop = run(&mut study, |suggestion| {
            measured(|found| {
                if gentle(suggestion) {
                    (found.capacity, found.ending) = (2.0, Ending::Held);
                } else {
                    found.ending = Ending::TooSlow;
                }
            })
        });
        let report = Report::new(&study, stop);
        assert_eq!(report.recommended.map(Candidate::slots), Some(1), "{stop:?} after {}", study.trials().len());
    }
}

/// On the usual host the interval of the ratio contains the true one as often as it says, and no gain is seen where none is. On those whose
/// boots differ by four times as much and more, it misses in 8 of 100 studies (of 952 and 970): a few repetitions do not teach it all of that.
#[test]
fn intervals_cover_on_noisy_hosts() {
    for (boot_noise, share) in [(BOOT_NOISE, 0.05), (0.03, 0.05), (0.06, 0.08), (0.10, 0.08)] {
        let (mut told, mut missed, mut equal, mut wrong) = (0, 0, 0, 0);
        for seed in 0..400 {
            let app = if seed % 2 == 0 { of_seed(seed) } else { of_seed(19) };
            let (mut study, mut host) = (app.study(Pace::Normal), app.host(Pace::Normal, seed).with_boot_noise(boot_noise));
            let stop = run(&mut study, |suggestion| host.run(suggestion));
            let report = Report::new(&study, stop);
            let (Some(ratio), true) = (report.ratio, report.confirmed) else { continue };
            let truth =
                report.best.as_ref().map_or(0.0, |best| app.capacity(best.candidate)) / app.capacity(study.space.baseline());
            told += 1;
            missed += u32::from(!ratio.contains(truth));
            equal += u32::from(truth <= 1.0);
            wrong += u32::from(truth <= 1.0 && report.outcome == Some(DuelOutcome::Better));
        }
        assert!(is_explained(missed, told, share), "boot noise {boot_noise}: {missed} of {told} missed");
        // Of intervals that cover 95 %, a fortieth lies above what is true.
        assert!(is_explained(wrong, equal, 0.025), "boot noise {boot_noise}: {wrong} of {equal} gains that are none");
    }
}

/// Nobody has measured how much CPU a request scatters at the normal pace: twice what certificates believe must not make them wrong.
#[test]
fn certificates_hold_where_cpu_scatters_twice_as_much_as_they_believe() {
    for factor in [1.0, 2.0] {
        let (mut given, mut wrong) = (0, 0);
        for seed in 0..200 {
            let (app, noise) = (of_seed(seed), factor * Pace::Normal.demand().sd);
            let (mut study, mut host) = (app.study(Pace::Normal), app.host(Pace::Normal, seed).with_demand_noise(noise));
            let stop = run(&mut study, |suggestion| host.run(suggestion));
            let report = Report::new(&study, stop);
            let margin = report.certificate.margin.filter(|_| report.certificate.given);
            let (Some(margin), Some(chosen)) = (margin, report.recommended) else { continue };
            given += 1;
            wrong += u32::from(app.best() > (1.0 + margin) * app.capacity(chosen));
        }
        assert!(given >= 15 && 20 * wrong <= given, "{factor}: {wrong} of {given} certificates are wrong");
    }
}

/// Seen on rented cores: capacities of one configuration scatter by 12 %, and CPU time per request with them.
#[test]
fn a_host_whose_speed_wanders_costs_little_and_is_told() {
    let (mut regrets, mut told) = (Vec::new(), 0);
    for seed in 0..60 {
        let app = of_seed(seed);
        let (mut study, mut host) = (app.study(Pace::Quick), app.host(Pace::Quick, seed).with_speed_noise(0.1));
        let stop = run(&mut study, |suggestion| host.run(suggestion));
        let report = Report::new(&study, stop);
        told += u32::from(report.drift.is_some());
        regrets.push(app.regret(report.recommended));
    }
    let mean = crate::stats::mean(&regrets).unwrap();
    assert!(mean < 0.03 && told >= 15, "{mean}, {told} of {}", regrets.len());
}

/// Whether `misses` of so many are within three standard errors of this share.
fn is_explained(misses: u32, of: u32, share: f64) -> bool {
    let expected = share * f64::from(of);
    f64::from(misses) <= expected + 3.0 * expected.sqrt()
}
