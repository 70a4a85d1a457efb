//! Which rate to offer next: steps until one rate is held and one is not, then geometric bisection between them.

use crate::study::Timing;

/// Where the highest rate that is held may lie.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RateSearch {
    start: f64,
    /// How far the next step up or down would be, as a share of the rate.
    up: f64,
    down: f64,
    precision: f64,
    probes_left: usize,
    held: Option<f64>,
    missed: Option<f64>,
    /// What was answered while the last rate was offered.
    answered: f64,
}

/// Every further step in the same direction is this much longer, up to a half of the rate.
const STEP_GROWTH: f64 = 1.5;
const LONGEST_STEP: f64 = 0.5;
/// Without an expectation it starts a little below the bound: above it a collapsed server may not recover.
const BELOW_BOUND: f64 = 0.92;
const FIRST_STEP: f64 = 0.12;
const BELOW_EXPECTED: f64 = 0.97;
/// Expectations are trusted up to this much above the bound.
const TRUSTED: f64 = 1.1;
/// A server that was overloaded and answered less than this share of the rate that would be next is asked for what it answered.
const OVERLOADED: f64 = 0.6;

impl RateSearch {
    /// The search of a trial at this pace, from a little below what is expected of the candidate, or else of `bound`: what the demands
    /// that a light probe showed allow, requests a second.
    #[must_use]
    pub fn of_trial(timing: &Timing, bound: f64, expected: Option<f64>) -> Self {
        // A step just inside the precision: two probes are then enough where the expectation is right.
        let narrow = (timing.precision - 1.0) * 0.99;
        let (start, step) = expected
            .map_or((BELOW_BOUND * bound, FIRST_STEP), |expected| (BELOW_EXPECTED * expected.min(TRUSTED * bound), narrow));
        Self::new(start, step, timing.precision, timing.probes)
    }

    /// A search that starts at `start` (requests a second, above 0), with a first step of `step` (a share of it), and ends when the bracket
    /// is narrower than the ratio `precision` or after `probes`.
    #[must_use]
    pub const fn new(start: f64, step: f64, precision: f64, probes: usize) -> Self {
        Self { start, up: step, down: step, precision, probes_left: probes, held: None, missed: None, answered: f64::INFINITY }
    }

    /// The same search, from this rate on if it would begin higher: nobody knows then how much higher the highest is, and steps up are long.
    #[must_use]
    pub fn from_at_most(self, rate: f64) -> Self {
        if rate < self.start { Self { start: rate, up: LONGEST_STEP, ..self } } else { self }
    }

    /// The rate to offer next, or `None` when the search is over.
    #[must_use]
    pub fn offer(&self) -> Option<f64> {
        if self.probes_left == 0 {
            return None;
        }
        match (self.held, self.missed) {
            (None, None) => Some(self.start),
            (Some(held), None) => Some(held * (1.0 + self.up)),
            (None, Some(missed)) => {
                let next = missed * (1.0 - self.down);
                Some(if self.answered < OVERLOADED * next { BELOW_EXPECTED * self.answered } else { next })
            }
            (Some(held), Some(missed)) => (missed / held > self.precision).then(|| (held * missed).sqrt()),
        }
    }

    /// Takes the answer for the rate that [`Self::offer`] gave.
    pub fn record(&mut self, rate: f64, held: bool) {
        let first = self.held.is_none() && self.missed.is_none();
        if held {
            self.held = Some(self.held.map_or(rate, |best| best.max(rate)));
        } else {
            self.missed = Some(self.missed.map_or(rate, |best| best.min(rate)));
        }
        if !first {
            self.up = (self.up * STEP_GROWTH).min(LONGEST_STEP);
            self.down = (self.down * STEP_GROWTH).min(LONGEST_STEP);
        }
        self.probes_left = self.probes_left.saturating_sub(1);
    }

    /// Takes the requests a second that were answered while that rate was offered.
    pub fn answered(&mut self, rate: f64) {
        if rate > 0.0 {
            self.answered = rate;
        }
    }

    /// What was held says that more may be, up to `bound`: as long as the longest step stays below that, it is the next one, and there is
    /// another probe. So there are no more of these than such steps up to the bound.
    pub fn hurry(&mut self, bound: f64) {
        if self.missed.is_none() && self.held.is_some_and(|held| (1.0 + LONGEST_STEP) * held <= bound) {
            self.up = LONGEST_STEP;
            self.probes_left += 1;
        }
    }

    /// The highest rate that was held.
    #[must_use]
    pub const fn held(&self) -> Option<f64> {
        self.held
    }

    /// The lowest rate that was not.
    #[must_use]
    pub const fn missed(&self) -> Option<f64> {
        self.missed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Searches a server that holds up to `capacity`; what was found and with how many probes.
    fn search(start: f64, capacity: f64) -> (Option<f64>, usize) {
        let mut search = RateSearch::new(start, 0.12, 1.05, 9);
        let mut probes = 0;
        while let Some(rate) = search.offer() {
            search.record(rate, rate <= capacity);
            probes += 1;
        }
        (search.held(), probes)
    }

    #[test]
    fn finds_the_capacity_within_the_precision() {
        for percent in 50..=200_u32 {
            let capacity = f64::from(percent);
            let (held, probes) = search(100.0, capacity);
            let held = held.unwrap();
            assert!(held <= capacity && held * 1.05 > capacity, "{capacity}: {held}");
            assert!(probes <= 9);
        }
    }

    #[test]
    fn needs_few_probes_from_a_good_start() {
        assert_eq!(search(100.0, 103.0).1, 4);
        assert_eq!(search(100.0, 97.0).1, 4);
    }

    #[test]
    fn an_overloaded_server_is_asked_for_what_it_answered() {
        let timing = crate::study::Pace::Quick.timing();
        for (capacity, expected) in [(100.0, None), (100.0, Some(800.0)), (15.0, None)] {
            let mut search = RateSearch::of_trial(&timing, 1000.0, expected);
            while let Some(rate) = search.offer() {
                search.record(rate, rate <= capacity);
                search.answered(rate.min(capacity));
            }
            let held = search.held().unwrap();
            assert!(held <= capacity && held > 0.9 * capacity, "{capacity}: {held}");
        }
        let mut far = RateSearch::of_trial(&timing, 1000.0, None).from_at_most(100.0);
        while let Some(rate) = far.offer() {
            far.record(rate, rate <= 400.0);
        }
        assert!(far.held().is_some_and(|held| held > 330.0), "{far:?}");
    }

    #[test]
    fn hurries_up_to_the_bound_and_not_beyond() {
        let mut search = RateSearch::new(100.0, 0.12, 1.05, 5);
        let mut rates = Vec::new();
        while let Some(rate) = search.offer() {
            search.record(rate, rate <= 780.0);
            search.hurry(800.0);
            rates.push(rate);
        }
        assert!(search.held().is_some_and(|held| held > 700.0), "{rates:?}");
        assert!(rates.iter().all(|rate| *rate <= 800.0 * 1.5) && rates.len() <= 10, "{rates:?}");
    }

    #[test]
    fn gives_up_on_a_server_that_holds_nothing() {
        assert_eq!(search(100.0, 0.0), (None, 9));
    }

    #[test]
    fn keeps_what_was_held_when_probes_run_out() {
        let (held, probes) = search(1.0, 1e9);
        assert_eq!(probes, 9);
        assert!(held.unwrap() > 5.0);
    }
}
