use super::*;
use crate::study::simulation::{APPS, App, Chance, blank, run};
use crate::study::{Ending, GridThenNeighbours, Measurement, Outcome, Pace, Suggestion};

const WIDE: Paper = Paper { width: 100, colour: false };
const NARROW: Paper = Paper { width: 80, colour: false };

fn study_of(app: &App, mut outcome: impl FnMut(&Suggestion) -> Outcome) -> Report {
    let mut study = app.study(Pace::Quick);
    let stop = run(&GridThenNeighbours, &mut study, &mut outcome);
    Report::new(&study, stop)
}

/// A simulated study with the numbers a simulation of capacities lacks.
fn example(app: &App) -> Report {
    let mut chance = Chance(2);
    study_of(app, |suggestion| match app.measure(Pace::Quick, suggestion, &mut chance) {
        Outcome::Measured(mut found) => {
            (found.p50, found.p90, found.p99, found.max) = (Some(0.043), Some(0.412), Some(0.688), Some(0.9));
            (found.bounded, found.errors, found.generator_cpu) = (Some(0.412), Some(0.0004), Some(0.05));
            for core in &mut found.cores {
                (core.user, core.system) = (core.user * 0.8, core.user * 0.2);
            }
            Outcome::Measured(found)
        }
        other @ (Outcome::Challenged(_) | Outcome::Failed { .. }) => other,
    })
}

fn every(change: impl Fn(&mut Measurement)) -> Report {
    study_of(&APPS[1], |_| {
        let mut found = blank();
        change(&mut found);
        Outcome::Measured(Box::new(found))
    })
}

#[test]
fn the_report_of_a_gain() {
    insta::assert_snapshot!(report(&example(&APPS[1]), WIDE));
}

#[test]
fn the_report_fits_its_paper() {
    for app in &APPS {
        for paper in [WIDE, NARROW] {
            let text = report(&example(app), paper);
            let widest = text.lines().map(|line| line.chars().count()).max().unwrap();
            assert!(widest <= usize::from(paper.width), "{widest} > {}:\n{text}", paper.width);
        }
    }
    insta::assert_snapshot!("narrow", report(&example(&APPS[6]), NARROW));
}

#[test]
fn colours_only_where_they_are_understood() {
    assert!(!report(&example(&APPS[0]), WIDE).contains('\u{1b}'));
    assert!(report(&example(&APPS[0]), Paper { colour: true, ..WIDE }).contains('\u{1b}'));
}

#[test]
fn refusals_are_plain() {
    let errors = every(|found| (found.ending, found.errors) = (Ending::OnlyErrors, Some(1.0)));
    let slow = every(|found| (found.ending, found.bounded) = (Ending::TooSlow, Some(1.3)));
    let dead = study_of(&APPS[1], |_| Outcome::Failed { reason: "no module named shop".to_owned(), seconds: 0.1 });
    let texts = [&errors, &slow, &dead].map(|found| report(found, WIDE));
    assert!(texts.iter().all(|text| !text.contains("workers =")));
    insta::assert_snapshot!(texts.join("=====\n"));
}

#[test]
fn an_interrupted_study_is_marked() {
    let app = &APPS[1];
    let mut study = app.study(Pace::Quick);
    assert!(report(&Report::new(&study, Stop::Interrupted), WIDE).contains("Interrupted before anything was measured."));
    let mut chance = Chance(1);
    run(&GridThenNeighbours, &mut study, |suggestion| app.measure(Pace::Quick, suggestion, &mut chance));
    assert!(report(&Report::new(&study, Stop::Interrupted), WIDE).starts_with("PARTIAL"));
}

#[test]
fn the_keys_of_json_are_stable() {
    let found = example(&APPS[1]);
    let json = serde_json::to_value(found.summary()).unwrap();
    let keys = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
    let parts = ["recommended", "baseline", "best", "ratio", "certificate"].map(|part| format!("{part}: {}", keys(&json[part])));
    insta::assert_snapshot!(format!("{}\n{}\ntrial: {}", keys(&json), parts.join("\n"), keys(&json["trials"][0])));
    let dead = study_of(&APPS[1], |_| Outcome::Failed { reason: "no module named shop".to_owned(), seconds: 0.1 });
    insta::assert_snapshot!("failed", serde_json::to_string(&dead.summary()).unwrap());
}

#[test]
fn hosts_for_a_peak() {
    let peak = Rate::new(1000.0).unwrap();
    insta::assert_snapshot!(hosts(&example(&APPS[1]), peak, 0.3), @"A peak of 1000 req/s needs 8 hosts like this one, 30 % of each kept free.");
    assert_eq!(hosts(&every(|found| found.ending = Ending::TooSlow), peak, 0.3), "");
}
