//! What the simulated host's measurements are worth.

use super::*;

/// Trials that something slows down for as long as they last, without a flag: how many, and the ends of by how much (logarithms), evenly.
const OUTLIERS: f64 = 0.02;
const SLOWER: [f64; 2] = [0.05, 0.30];
/// Logarithms below this are such ones, but for one ordinary trial in 2,000.
const FAR: f64 = -0.15;

/// Logarithms of measured by true capacity of all trials that nothing disturbed visibly, where `expected` times that is expected.
fn errors(pace: Pace, expected: Option<f64>) -> Vec<f64> {
    let truth = APPS[3].capacity(APPS[3].space().baseline());
    undisturbed(pace, expected).iter().map(|found| (found.capacity / truth).ln()).collect()
}

/// All trials of a baseline that nothing disturbed visibly, where `expected` times its true capacity is expected.
fn undisturbed(pace: Pace, expected: Option<f64>) -> Vec<Measurement> {
    let (app, candidate) = (&APPS[3], APPS[3].space().baseline());
    let truth = app.capacity(candidate);
    let measured = (0..1000).map(|seed| {
        let expected = expected.map(|share| share * truth);
        let suggestion = Suggestion { candidate, purpose: Purpose::Repeat, task: Task::Measure, expected, rival: None };
        let Outcome::Measured(found) = app.host(pace, seed).run(&suggestion) else { panic!("a number") };
        assert!(found.capacity > 0.0, "{seed}: {:?}", found.ending);
        *found
    });
    measured.filter(Measurement::is_valid).collect()
}

/// Intervals believe in the scatter of ordinary trials. Outliers come on top here, of which the search has to make the best.
#[test]
fn a_measured_capacity_errs_as_in_the_design_study_and_as_the_intervals_believe_but_for_outliers() {
    let [least, most] = SLOWER;
    // Of an even distribution, about zero.
    let outliers = OUTLIERS * (least * least + least * most + most * most) / 3.0;
    let expected_far = OUTLIERS * (most + FAR) / (most - least);
    for pace in [Pace::Normal, Pace::Quick] {
        for expected in [None, Some(1.0), Some(1.05), Some(0.95)] {
            let logs = errors(pace, expected);
            let (bias, sd) = stats::mean(&logs).zip(stats::deviation(&logs)).expect("invariant: hundreds were measured");
            let believed = pace.scatter().sd.hypot(outliers.sqrt());
            assert!((bias + OUTLIERS * (least + most) / 2.0).abs() < 0.02, "{pace:?}, {expected:?}: {bias}");
            assert!((0.7..1.3).contains(&(sd / believed)), "{pace:?}, {expected:?}: {sd}, believed {believed}");
            let far = logs.iter().filter(|log| **log < FAR).count() as f64 / logs.len() as f64;
            assert!((0.4..2.0).contains(&(far / expected_far)), "{pace:?}, {expected:?}: {far} of {expected_far}");
        }
    }
}
