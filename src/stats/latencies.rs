//! A histogram of latencies in bounded memory: a microsecond to an hour at three significant digits. Longer ones count as an hour.

use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;

const LONGEST_MICROS: u64 = 3_600_000_000;
const DIGITS: u8 = 3;

/// Latencies of many requests.
#[derive(Clone, PartialEq)]
pub struct Latencies(Histogram<u64>);

/// Without the thousands of its buckets.
impl fmt::Debug for Latencies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} latencies, p50 {} s, max {} s", self.count(), self.quantile(0.5), self.max())
    }
}

impl Default for Latencies {
    fn default() -> Self {
        Self::new()
    }
}

#[expect(clippy::missing_panics_doc, reason = "the bounds are constants that hdrhistogram accepts")]
impl Latencies {
    /// No latency yet.
    #[must_use]
    pub fn new() -> Self {
        Self(Histogram::new_with_bounds(1, LONGEST_MICROS, DIGITS).expect("invariant: the bounds are in hdrhistogram's range"))
    }

    /// Those of another histogram, in microseconds; `None` if it holds longer ones than this can.
    pub(super) fn of_histogram(histogram: &Histogram<u64>) -> Option<Self> {
        let mut latencies = Self::new();
        latencies.0.add(histogram).ok().map(|()| latencies)
    }

    /// Counts one request.
    pub fn record(&mut self, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(LONGEST_MICROS);
        self.0.saturating_record(micros.clamp(1, LONGEST_MICROS));
    }

    /// Adds another window's requests.
    pub fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("invariant: all histograms have the same bounds");
    }

    /// Takes another's requests out, all of which are counted here.
    pub fn subtract(&mut self, part: &Self) {
        self.0.subtract(&part.0).expect("invariant: what is taken out was counted before");
    }

    /// Forgets every request, and keeps the memory.
    pub fn clear(&mut self) {
        self.0.reset();
    }

    /// How many requests.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The latency that a share `quantile` of the requests did not exceed, in seconds; 0 of nothing.
    #[must_use]
    pub fn quantile(&self, quantile: f64) -> f64 {
        seconds(self.0.value_at_quantile(quantile) as f64)
    }

    /// The share of the requests that took longer than `latency`; 0 of nothing.
    #[must_use]
    pub fn share_above(&self, latency: Duration) -> f64 {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(LONGEST_MICROS);
        if self.count() == 0 { 0.0 } else { 1.0 - self.0.percentile_below(micros) / 100.0 }
    }

    /// The histogram itself, in microseconds.
    #[must_use]
    pub const fn histogram(&self) -> &Histogram<u64> {
        &self.0
    }

    /// The longest latency, in seconds; 0 of nothing.
    #[must_use]
    pub fn max(&self) -> f64 {
        seconds(self.0.max() as f64)
    }

    /// The mean latency, in seconds; 0 of nothing.
    #[must_use]
    pub fn mean(&self) -> f64 {
        seconds(self.0.mean())
    }
}

fn seconds(micros: f64) -> f64 {
    micros / 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_right_to_three_digits() {
        let mut latencies = Latencies::new();
        for millis in 1..=1000 {
            latencies.record(Duration::from_millis(millis));
        }
        assert_eq!(latencies.count(), 1000);
        assert!((latencies.quantile(0.9) - 0.9).abs() < 0.001);
        assert!((latencies.mean() - 0.5005).abs() < 0.001);
        assert!((latencies.max() - 1.0).abs() < 0.001);
    }

    #[test]
    fn extremes_are_kept_within_the_bounds() {
        let mut latencies = Latencies::new();
        latencies.record(Duration::ZERO);
        latencies.record(Duration::from_secs(1_000_000));
        assert_eq!(latencies.count(), 2);
        assert!(latencies.max() < 3_700.0);
        let mut sum = Latencies::new();
        sum.add(&latencies);
        assert_eq!(sum.count(), 2);
        sum.record(Duration::from_millis(7));
        sum.subtract(&latencies);
        assert_eq!(sum.count(), 1);
        assert!((sum.max() - 0.007).abs() < 1e-4);
        sum.clear();
        assert_eq!(sum, Latencies::new());
    }
}
