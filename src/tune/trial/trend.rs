//! Whether memory keeps growing and CPU per request keeps falling under load: readings in the course of one trial. Refuses to judge two readings, and
//! growth that slows down.

/// Readings that a judgement needs.
const LEAST: usize = 3;
/// Growth over a trial from which it is more than caches that fill: a share of the first reading, and bytes. Workers that do not leak grew by up to
/// a tenth while their first requests came (the shop, sync and gevent).
const SHARE: f64 = 0.25;
const BYTES: f64 = (4 << 20) as f64;
/// The last step must be at least this share of the mean pace: what slows down settles.
const UNABATED: f64 = 0.5;

/// CPU per request that fell from probe to probe by this share in all was not steady: a cache fills that the warm-up was too short to see. Saturated
/// cores need up to 8 % less than lightly used ones, without anything filling.
const FALLS: f64 = 0.12;

/// Whether costs, in the order of their probes, still fall.
pub(super) fn is_falling(costs: &[f64]) -> bool {
    let [first, .., last] = costs else { return false };
    costs.len() >= LEAST && costs.windows(2).all(|pair| pair[1] < pair[0]) && *last < (1.0 - FALLS) * first
}

/// Memory over time: seconds and bytes.
#[derive(Clone, Debug, Default)]
pub(super) struct Trend(Vec<(f64, u64)>);

impl Trend {
    pub(super) fn note(&mut self, seconds: f64, bytes: u64) {
        self.0.push((seconds, bytes));
    }

    /// The largest reading, bytes.
    pub(super) fn largest(&self) -> Option<u64> {
        self.0.iter().map(|(_, bytes)| *bytes).max()
    }

    /// Bytes a second from the first to the last reading.
    pub(super) fn growth(&self) -> Option<f64> {
        pace(self.0.first()?, self.0.last()?)
    }

    /// Whether every reading was above the one before, by much in all, and no slower at the end.
    pub(super) fn is_leak(&self) -> bool {
        let [(_, first), .., before, last] = self.0.as_slice() else { return false };
        let grown = last.1.saturating_sub(*first) as f64;
        let steady = self.0.windows(2).all(|pair| pair[0].1 < pair[1].1);
        let unabated = pace(before, last).zip(self.growth()).is_some_and(|(latest, mean)| latest >= UNABATED * mean);
        self.0.len() >= LEAST && steady && unabated && grown > (SHARE * *first as f64).max(BYTES)
    }
}

fn pace(before: &(f64, u64), after: &(f64, u64)) -> Option<f64> {
    let seconds = after.0 - before.0;
    (seconds > 0.0).then(|| (after.1 as f64 - before.1 as f64) / seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trend(mebibytes: &[u64]) -> Trend {
        Trend((0..).zip(mebibytes).map(|(second, size)| (f64::from(second), size << 20)).collect())
    }

    #[test]
    fn what_grows_without_end_leaks() {
        let leaking = trend(&[100, 110, 121, 130]);
        assert!(leaking.is_leak());
        assert!((leaking.growth().unwrap() - 10.0 * f64::from(1 << 20)).abs() < 1.0);
        assert_eq!(leaking.largest(), Some(130 << 20));
    }

    #[test]
    fn a_cache_that_fills_for_minutes_shows_in_the_cost() {
        assert!(is_falling(&[1.4, 1.3, 1.22, 1.2]));
        for steady in [&[1.0, 0.99, 0.98, 0.97][..], &[1.4, 1.0, 1.1], &[1.4, 1.0], &[1.0], &[]] {
            assert!(!is_falling(steady), "{steady:?}");
        }
    }

    #[test]
    fn caches_that_fill_and_small_changes_do_not() {
        for quiet in [&[100, 120, 130, 133][..], &[100, 110, 109, 130], &[100, 103, 107, 110], &[100, 150], &[100], &[]] {
            assert!(!trend(quiet).is_leak(), "{quiet:?}");
        }
        assert_eq!((trend(&[]).growth(), trend(&[1]).growth()), (None, None));
    }
}
