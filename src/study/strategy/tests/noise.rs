//! What the simulated host's measurements are worth.

use super::*;

/// Mean and standard deviation of the logarithm of measured by true capacity, where `expected` times that is expected.
fn errors(pace: Pace, expected: Option<f64>) -> (f64, f64) {
    let (app, candidate) = (&APPS[3], APPS[3].space().baseline());
    let (truth, mut logs) = (app.capacity(candidate), Vec::new());
    for seed in 0..1000 {
        let expected = expected.map(|share| share * truth);
        let suggestion = Suggestion { candidate, purpose: Purpose::Repeat, task: Task::Measure, expected, rival: None };
        let Outcome::Measured(found) = app.host(pace, seed).run(&suggestion) else { panic!("a number") };
        logs.extend(Some((found.capacity / truth).ln()).filter(|log| found.is_valid() && *log > -0.15));
    }
    stats::mean(&logs).zip(stats::deviation(&logs)).expect("invariant: hundreds were measured")
}

#[test]
fn a_measured_capacity_errs_as_in_the_design_study_and_as_the_intervals_believe() {
    for pace in [Pace::Normal, Pace::Quick] {
        for expected in [None, Some(1.0), Some(1.05), Some(0.95)] {
            let ((bias, sd), believed) = (errors(pace, expected), pace.scatter().sd);
            assert!(bias.abs() < 0.02, "{pace:?}, {expected:?}: {bias}");
            assert!((0.7..1.3).contains(&(sd / believed)), "{pace:?}, {expected:?}: {sd}, believed {believed}");
        }
    }
}
