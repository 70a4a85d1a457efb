use super::*;
use crate::study::certificate::Certificate;
use crate::study::confirm::Outcome as DuelOutcome;
use crate::study::simulation::{APPS, App, Chance, FOLK_IS_RIGHT, blank, run};
use crate::study::{CoreShare, Flag, Measurement, Outcome, Pace, Report, Study, Task, Trial};

const SEEDS: u64 = 20;

fn simulate(app: &App, pace: Pace, seed: u64) -> (Study, Report) {
    let mut study = app.study(pace);
    let mut chance = Chance(seed);
    let stop = run(&GridThenNeighbours, &mut study, |suggestion| app.measure(pace, suggestion, &mut chance));
    let report = Report::new(&study, stop);
    (study, report)
}

fn every(mut found: impl FnMut(&Suggestion) -> Outcome, app: &App) -> (Study, Report) {
    let mut study = app.study(Pace::Normal);
    let stop = run(&GridThenNeighbours, &mut study, &mut found);
    let report = Report::new(&study, stop);
    (study, report)
}

fn measured(change: impl FnOnce(&mut Measurement)) -> Outcome {
    let mut found = blank();
    found.seconds = 10.0;
    change(&mut found);
    Outcome::Measured(Box::new(found))
}

#[test]
fn mean_regret_is_small_for_every_application() {
    for pace in [Pace::Quick, Pace::Normal] {
        for app in &APPS {
            let mut regrets: Vec<f64> = (0..SEEDS)
                .map(|seed| {
                    let (_, report) = simulate(app, pace, seed);
                    app.regret(report.recommended)
                })
                .collect();
            regrets.sort_by(f64::total_cmp);
            let mean = regrets.iter().sum::<f64>() / SEEDS as f64;
            let high = regrets[regrets.len() * 9 / 10];
            // The reserve kept below a memory limit costs a worker.
            let tail = if pace == Pace::Quick { 0.10 } else { 0.08 };
            let bound = if app.max_memory.is_some() { 0.05 } else { 0.025 };
            assert!(mean <= bound && high <= tail, "{pace:?} {}: regret {mean:.3}, p90 {high:.3}", app.name);
        }
    }
}

#[test]
fn says_no_difference_where_the_rule_of_thumb_is_right() {
    let app = &FOLK_IS_RIGHT;
    assert!(app.regret(Some(app.space().baseline())) < 0.01);
    let right = (0..SEEDS).filter(|seed| {
        let (_, report) = simulate(app, Pace::Normal, *seed);
        matches!(report.outcome, Some(DuelOutcome::NoDifference | DuelOutcome::BaselineIsBest))
            && app.regret(report.recommended) < 0.06
    });
    let right = right.count() as u64;
    assert!(right * 10 >= SEEDS * 9, "{right} of {SEEDS}");
}

#[test]
fn sees_the_gain_where_there_is_one() {
    for seed in 0..SEEDS {
        let (_, report) = simulate(&APPS[0], Pace::Quick, seed);
        let ratio = report.ratio.unwrap();
        assert_eq!(report.outcome, Some(DuelOutcome::Better));
        assert!(ratio.low > 1.4 && ratio.low < ratio.value && ratio.value < ratio.high, "{ratio:?}");
    }
}

#[test]
fn gives_no_certificate_where_something_outside_binds() {
    let locked = App { external: 100.0, ..APPS[3] };
    let (_, report) = simulate(&locked, Pace::Normal, 1);
    assert!(!report.certificate.given);
    insta::assert_snapshot!(report.certificate.reason.unwrap(), @"the cores were never busy; what binds: something outside");
}

#[test]
fn a_study_resumed_from_any_prefix_goes_on_the_same_way() {
    for app in &APPS {
        let (study, _) = simulate(app, Pace::Normal, 7);
        let mut resumed = app.study(Pace::Normal);
        for trial in study.trials() {
            assert_eq!(GridThenNeighbours.suggest(&resumed), Next::Try(trial.suggestion), "{}", app.name);
            let line = serde_json::to_string(trial).unwrap();
            resumed.record(serde_json::from_str(&line).unwrap());
        }
        assert!(matches!(GridThenNeighbours.suggest(&resumed), Next::Stop(_)));
    }
}

#[test]
fn candidates_that_fail_are_passed_over() {
    let mut chance = Chance(3);
    let app = &APPS[2];
    let (study, report) = every(
        |suggestion| match suggestion.candidate.workers.get() {
            4.. => Outcome::Failed { reason: "worker 2 exited with status 3".to_owned(), seconds: 2.0 },
            _ => app.measure(Pace::Normal, suggestion, &mut chance),
        },
        app,
    );
    assert!(study.trials().iter().any(|trial| trial.measurement().is_none()));
    assert!(report.recommended.unwrap().workers.get() < 4);
    assert_eq!((report.outcome, report.baseline.capacity, report.ratio), (Some(DuelOutcome::OnlyBest), None, None));
}

#[test]
fn a_candidate_whose_workers_crash_is_not_recommended() {
    let mut chance = Chance(4);
    let app = &APPS[2];
    let (_, report) = every(
        |suggestion| match app.measure(Pace::Normal, suggestion, &mut chance) {
            Outcome::Measured(mut found) if suggestion.candidate.workers.get() == 2 => {
                found.flags.push(Flag::WorkerCrashed);
                Outcome::Measured(found)
            }
            outcome @ (Outcome::Measured(_) | Outcome::Challenged(_) | Outcome::Failed { .. }) => outcome,
        },
        app,
    );
    assert_ne!(report.recommended.unwrap().workers.get(), 2);
}

#[test]
fn gives_up_on_an_application_that_answers_only_errors() {
    let (study, report) = every(|_| measured(|found| (found.ending, found.errors) = (Ending::OnlyErrors, Some(1.0))), &APPS[1]);
    assert_eq!((report.stop, report.recommended, study.trials().len()), (Stop::OnlyErrors, None, 2));
}

#[test]
fn shows_the_nearest_when_nothing_meets_the_objective() {
    let mut latency = 3.0;
    let slower = |_: &Suggestion| {
        latency -= 0.5;
        measured(|found| (found.ending, found.bounded) = (Ending::TooSlow, Some(latency)))
    };
    let (study, report) = every(slower, &APPS[1]);
    assert_eq!((report.stop, report.recommended, report.best), (Stop::NothingMeetsSlo, None, None));
    assert_eq!(report.nearest, Some(study.trials().len()));
}

#[test]
fn gives_up_when_nothing_starts() {
    let (study, report) = every(|_| Outcome::Failed { reason: "no module named shop".to_owned(), seconds: 0.2 }, &APPS[1]);
    assert_eq!((report.stop, report.recommended, study.trials().len()), (Stop::NothingStarts, None, 3));
}

#[test]
fn the_configured_candidate_is_tried_and_the_budget_kept() {
    let app = &APPS[0];
    let mut study = app.study(Pace::Normal);
    study.space.workers = Workers::new(40);
    study.budget.seconds = 300.0;
    let mut chance = Chance(5);
    let stop = run(&GridThenNeighbours, &mut study, |suggestion| app.measure(Pace::Normal, suggestion, &mut chance));
    assert_eq!(study.count(Purpose::Configured), 1);
    assert_eq!(stop, Stop::Budget);
    assert!(study.seconds() <= 330.0 && study.count(Purpose::Confirm) == 6, "{}", study.seconds());
}

#[test]
fn equals_are_settled_by_memory() {
    let mut study = APPS[1].study(Pace::Normal);
    for (workers, connections, capacity, memory) in
        [(5, 10, 100.0, 500), (3, 100, 101.0, 300), (2, 200, 99.0, 201), (2, 100, 98.5, 200), (1, 100, 70.0, 100)]
    {
        let candidate =
            Candidate { workers: Workers::new(workers).unwrap(), connections: Connections::new(connections).unwrap() };
        let suggestion = Suggestion { candidate, purpose: Purpose::Grid, task: Task::Measure, expected: None, rival: None };
        let outcome = measured(|found| (found.capacity, found.memory_bytes) = (capacity, Some(memory)));
        study.record(Trial { suggestion, outcome });
    }
    let standing = Standing::of(&study);
    assert_eq!(standing.leader().unwrap().candidate.workers.get(), 3);
    let finalist = standing.finalist().unwrap().candidate;
    assert_eq!((finalist.workers.get(), finalist.connections.get()), (2, 100));
}

#[test]
fn few_trials_are_enough() {
    for app in &APPS {
        let (study, _) = simulate(app, Pace::Quick, 11);
        assert!(
            study.trials().len() <= 12 && study.seconds() <= Pace::Quick.budget().seconds,
            "{}: {}",
            app.name,
            study.trials().len()
        );
    }
}

#[test]
fn certifies_what_uses_up_the_cores() {
    let mut study = APPS[1].study(Pace::Normal);
    let candidate = Candidate { workers: Workers::new(2).unwrap(), connections: Connections::new(100).unwrap() };
    let mut certificates = Vec::new();
    for capacity in [195.0, 197.0] {
        let suggestion = Suggestion { candidate, purpose: Purpose::Grid, task: Task::Measure, expected: None, rival: None };
        let outcome = measured(|found| {
            (found.capacity, found.throughput) = (capacity, capacity);
            found.utilisation = Some(capacity / 200.0);
            found.cores = (0..2).map(|cpu| CoreShare { cpu, user: capacity / 200.0, ..CoreShare::default() }).collect();
        });
        study.record(Trial { suggestion, outcome });
        certificates.push(Certificate::of(&study, Some(candidate)));
    }
    assert!(
        !certificates[0].given
            && certificates[0].reason.as_deref() == Some("the recommended configuration was measured only once")
    );
    assert!(certificates[1].given && (certificates[1].bound.unwrap() - 200.0).abs() < 1e-6);
    assert!((certificates[1].share.unwrap() - 0.98).abs() < 0.001);
}
