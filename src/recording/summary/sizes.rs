//! Quantiles of sizes and times in bounded memory, to three significant digits.

use hdrhistogram::Histogram;
use serde::Serialize;

/// Larger ones count as this: a tebibyte, or twelve days of microseconds.
const LARGEST: u64 = 1 << 40;
const DIGITS: u8 = 3;

/// Many whole numbers.
#[derive(Debug)]
pub(super) struct Sizes(Histogram<u64>);

/// What many numbers are like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Quantiles {
    /// How many there are.
    pub count: u64,
    /// Their mean.
    pub mean: f64,
    /// What half of them do not exceed.
    pub p50: f64,
    /// What 90 % do not exceed.
    pub p90: f64,
    /// What 99 % do not exceed.
    pub p99: f64,
    /// The largest.
    pub max: f64,
}

impl Default for Sizes {
    fn default() -> Self {
        Self(Histogram::new_with_bounds(1, LARGEST, DIGITS).expect("invariant: the bounds are in hdrhistogram's range"))
    }
}

impl Sizes {
    pub(super) fn add(&mut self, size: u64) {
        self.0.saturating_record(size.min(LARGEST));
    }

    pub(super) fn count(&self) -> u64 {
        self.0.len()
    }

    /// In another unit, of which one here is `unit`; `None` of nothing.
    pub(super) fn quantiles(&self, unit: f64) -> Option<Quantiles> {
        let at = |quantile| self.0.value_at_quantile(quantile) as f64 * unit;
        (self.count() > 0).then(|| Quantiles {
            count: self.count(),
            mean: self.0.mean() * unit,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            max: self.0.max() as f64 * unit,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_right_to_three_digits() {
        let mut sizes = Sizes::default();
        assert_eq!(sizes.quantiles(1.0), None);
        for size in 0..=1000 {
            sizes.add(size);
        }
        sizes.add(u64::MAX);
        let quantiles = sizes.quantiles(0.001).unwrap();
        assert_eq!(quantiles.count, 1002);
        assert!((quantiles.p90 - 0.9).abs() < 0.002, "{quantiles:?}");
    }
}
