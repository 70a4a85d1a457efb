//! Whether the repetitions of one configuration agree, and which of them is an accident that does not count.
//!
//! A configuration whose boots differ may be the fastest of the search by luck and disappoint in service (TUNA, EuroSys 2025): it is
//! measured a third time, and what cannot be explained by the scatter of the others is said.

use crate::stats::{self, Spread};

/// Two repetitions that differ by more than so many standard deviations are no basis for a choice: a third is run. Of capacities these are
/// 6 %, and 8 % at the quick pace.
const APART: f64 = 1.7;
/// What differs by less than this share is the same to anybody.
const SAME: f64 = 0.06;
/// Standard deviations beyond which a repetition that lies below the others does not count.
pub(super) const ACCIDENT: f64 = 3.0;
/// How many times as much as those of others the repetitions of a configuration that is not the same from boot to boot scatter. Two
/// repetitions do so by chance in 6 of 100 looks where nothing else was repeated, and in 1 where twelve degrees of freedom are known of
/// others; three in 5, and in 0.4 (F test).
const UNSTABLE: f64 = 3.0;

/// Whether two repetitions, given as logarithms, are too far apart to be believed without a third. `usual` is the scatter that is expected.
pub(super) fn wants_third(logs: &[f64], usual: Spread) -> bool {
    matches!(logs, [one, other] if (one - other).abs() > APART * usual.sd)
}

/// Which repetition is an accident, if one is: the lowest, where the others agree so well that it is improbable among them.
/// `elsewhere` is how other configurations scatter.
pub(super) fn accident(logs: &[f64], elsewhere: Spread) -> Option<usize> {
    let (lowest, _) = logs.iter().enumerate().min_by(|(_, one), (_, other)| one.total_cmp(other))?;
    (logs.len() > 2 && deviation(logs, lowest, elsewhere)? < -ACCIDENT).then_some(lowest)
}

/// Whether the repetitions, accidents left out, lie further apart than the scatter of other configurations explains.
pub(super) fn is_unstable(logs: &[f64], elsewhere: Spread) -> bool {
    let bounds = |pick: fn(f64, f64) -> f64, from| logs.iter().copied().fold(from, pick);
    let apart = bounds(f64::max, f64::NEG_INFINITY) - bounds(f64::min, f64::INFINITY);
    apart > SAME && stats::deviation(logs).is_some_and(|sd| sd > UNSTABLE * elsewhere.sd)
}

/// How far repetition `number` lies above the mean of the others, in standard deviations of that difference; `None` without others.
fn deviation(logs: &[f64], number: usize, elsewhere: Spread) -> Option<f64> {
    let mut others = logs.to_vec();
    let log = others.remove(number);
    let sd = elsewhere.updated([others.as_slice()]).sd;
    Some((log - stats::mean(&others)?) / (sd * (1.0 + 1.0 / others.len() as f64).sqrt()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: Spread = Spread { sd: 0.035, weight: 6.0 };
    const NOISY: Spread = Spread { sd: 0.10, weight: 6.0 };

    #[test]
    fn two_that_differ_ask_for_a_third() {
        let wants_third = |logs: &[f64]| wants_third(logs, QUIET);
        assert!(wants_third(&[0.0, 0.07]) && wants_third(&[0.07, 0.0]));
        assert!(!wants_third(&[0.0, 0.05]) && !wants_third(&[0.0]) && !wants_third(&[0.0, 0.2, 0.1]));
    }

    #[test]
    fn one_far_below_those_that_agree_is_an_accident() {
        assert_eq!(accident(&[0.0, -0.2, 0.01], QUIET), Some(1));
        assert_eq!(accident(&[0.0, -0.2], QUIET), None, "nobody knows which of two it is");
        assert_eq!(accident(&[0.0, -0.2, -0.19], QUIET), None, "the higher one is");
        assert_eq!(accident(&[0.0, 0.2, 0.01], QUIET), None, "no disturbance makes a server faster");
        assert_eq!(accident(&[0.0, -0.2, 0.01], NOISY), None, "as usual on this host");
        assert_eq!(accident(&[], QUIET), None);
    }

    #[test]
    fn boots_that_differ_more_than_those_of_others_are_unstable() {
        assert!(is_unstable(&[0.0, -0.2], QUIET) && is_unstable(&[0.0, 0.01, -0.22, -0.2], QUIET), "two of four");
        assert!(!is_unstable(&[0.0, -0.2], NOISY) && !is_unstable(&[0.0, -0.08], QUIET) && !is_unstable(&[0.0], QUIET));
        let exact = Spread { sd: 1e-6, weight: 3.0 };
        assert!(!is_unstable(&[0.0, 0.01], exact), "less than anybody asks a third for");
    }
}
