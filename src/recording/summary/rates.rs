//! Requests over time in a bounded number of steps: when a recording outgrows them, each becomes twice as long.

use serde::Serialize;

use super::super::request::UnixNanos;

/// The most steps that are kept.
pub(super) const STEPS: usize = 1024;
/// The first length of a step, nanoseconds.
const FIRST_STEP: u64 = 10_000_000;

/// Requests in each step of time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rates {
    /// How long a step is, nanoseconds.
    pub step_ns: u64,
    /// Requests in each, from the first request to the last.
    pub counts: Vec<u64>,
    #[serde(skip)]
    first: UnixNanos,
    /// Nanoseconds from the first request to the last.
    #[serde(skip)]
    span: u64,
}

impl Default for Rates {
    fn default() -> Self {
        Self { step_ns: FIRST_STEP, counts: Vec::new(), first: UnixNanos(0), span: 0 }
    }
}

impl Rates {
    /// Counts a request; one before the first counts as the first.
    pub(super) fn add(&mut self, at: UnixNanos) {
        if self.counts.is_empty() {
            self.first = at;
        }
        let away = at.max(self.first).0.abs_diff(self.first.0);
        self.span = self.span.max(away);
        while away / self.step_ns >= STEPS as u64 {
            self.counts = self.counts.chunks(2).map(|pair| pair.iter().sum()).collect();
            self.step_ns *= 2;
        }
        let step = usize::try_from(away / self.step_ns).expect("invariant: below STEPS");
        if step >= self.counts.len() {
            self.counts.resize(step + 1, 0);
        }
        self.counts[step] += 1;
    }

    /// Requests a second in as many equal parts of the span. A step that two parts share is divided by time.
    #[must_use]
    pub fn parts(&self, parts: usize) -> Vec<f64> {
        let width = self.span as f64 / parts.max(1) as f64;
        let mut rates = vec![0.0; parts];
        if width <= 0.0 {
            return rates;
        }
        for (step, count) in self.counts.iter().enumerate() {
            let from = step as f64 * self.step_ns as f64;
            // The last step reaches beyond the last request.
            let to = (from + self.step_ns as f64).min(self.span as f64).max(from + 1.0);
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a position in the span, by its width")]
            let reached = ((from / width) as usize).min(parts - 1);
            for (part, rate) in rates.iter_mut().enumerate().skip(reached) {
                let (begin, end) = (part as f64 * width, (part + 1) as f64 * width);
                let end = if part + 1 == parts { f64::INFINITY } else { end };
                if begin >= to {
                    break;
                }
                let shared = to.min(end) - from.max(begin);
                *rate += *count as f64 * (shared / (to - from)) / (width / 1e9);
            }
        }
        rates
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_even_rate_is_even_in_any_number_of_parts() {
        let mut rates = Rates::default();
        for n in 0..100_000 {
            rates.add(UnixNanos(n * 1_000_000));
        }
        assert!(rates.counts.len() <= STEPS && rates.counts.len() > STEPS / 2, "{}", rates.counts.len());
        for parts in [1, 7, 60, 100] {
            assert!(rates.parts(parts).iter().all(|rate| (rate - 1000.0).abs() < 40.0), "{:?}", rates.parts(parts));
        }
    }

    #[test]
    fn one_moment_has_no_rate() {
        let mut rates = Rates::default();
        rates.add(UnixNanos(5));
        rates.add(UnixNanos(5));
        assert_eq!(rates.parts(3), [0.0; 3]);
    }

    proptest! {
        #[test]
        fn no_request_is_lost(times in prop::collection::vec(any::<i64>(), 1..50), parts in 1..90_usize) {
            let mut rates = Rates::default();
            for time in &times {
                rates.add(UnixNanos(*time));
            }
            prop_assert!(rates.counts.len() <= STEPS);
            prop_assert_eq!(rates.counts.iter().sum::<u64>(), times.len() as u64);
            let width = rates.span as f64 / parts as f64 / 1e9;
            let total: f64 = rates.parts(parts).iter().map(|rate| rate * width).sum();
            prop_assert!(rates.span == 0 || (total - times.len() as f64).abs() < 1e-3 * times.len() as f64, "{}", total);
        }
    }
}
