//! How unevenly requests arrive. Two measures (Gusella, IEEE Journal on Selected Areas in Communications 9(2), 1991), both 1 for a
//! Poisson process and 0 for a perfectly even one:
//! the index of dispersion of counts, variance / mean of the number of requests in a second, and
//! the coefficient of variation of gaps, standard deviation / mean of the time between requests.

use std::time::Duration;

use serde::Serialize;

use super::super::request::UnixNanos;

const SECOND: u64 = 1_000_000_000;

/// Arrivals seen so far.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    ends: Option<(UnixNanos, UnixNanos)>,
    count: u64,
    gaps: Moments,
    /// Counts of whole seconds after the first request.
    seconds: Moments,
    peak: u64,
    /// The second that goes on, and its requests.
    current: u64,
    in_current: u64,
}

/// How unevenly requests came.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Burstiness {
    /// Index of dispersion of counts in seconds; none below two whole seconds.
    pub dispersion: Option<f64>,
    /// Coefficient of variation of the gaps between requests; none below two gaps or if all came at once.
    pub gap_variation: Option<f64>,
}

impl Arrivals {
    pub(super) fn add(&mut self, at: UnixNanos) {
        self.count += 1;
        let (first, last) = self.ends.unwrap_or((at, at));
        let at = at.max(last);
        if self.ends.is_some() {
            self.gaps.add(at.0.abs_diff(last.0) as f64);
        }
        self.ends = Some((first, at));
        let second = at.0.abs_diff(first.0) / SECOND;
        if second > self.current {
            self.seconds.add(self.in_current as f64);
            self.seconds.add_zeros(second - self.current - 1);
            self.current = second;
            self.in_current = 0;
        }
        self.in_current += 1;
        self.peak = self.peak.max(self.in_current);
    }

    pub(super) const fn count(&self) -> u64 {
        self.count
    }

    /// The first arrival, and the time from it to the last.
    pub(super) fn span(&self) -> Option<(UnixNanos, Duration)> {
        self.ends.map(|(first, last)| (first, Duration::from_nanos(last.0.abs_diff(first.0))))
    }

    /// The most in one second.
    pub(super) const fn peak(&self) -> u64 {
        self.peak
    }

    pub(super) fn burstiness(&self) -> Burstiness {
        Burstiness {
            dispersion: self.seconds.variance().map(|variance| variance / self.seconds.mean),
            gap_variation: self.gaps.variance().filter(|_| self.gaps.mean > 0.0).map(|variance| variance.sqrt() / self.gaps.mean),
        }
    }
}

/// Mean and variance in one pass (Welford, Technometrics 4, 1962).
#[derive(Debug, Default)]
struct Moments {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Moments {
    fn add(&mut self, value: f64) {
        self.count += 1.0;
        let away = value - self.mean;
        self.mean += away / self.count;
        self.squares += away * (value - self.mean);
    }

    /// As many zeros at once (Chan, Golub, LeVeque, COMPSTAT 1982).
    fn add_zeros(&mut self, zeros: u64) {
        let zeros = zeros as f64;
        let all = self.count + zeros;
        if zeros > 0.0 {
            self.squares += self.mean * self.mean * self.count * zeros / all;
            self.mean *= self.count / all;
            self.count = all;
        }
    }

    /// Of a sample.
    fn variance(&self) -> Option<f64> {
        (self.count > 1.0).then(|| self.squares / (self.count - 1.0))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::recording::uniform;

    fn arrivals(times: impl IntoIterator<Item = f64>) -> Arrivals {
        let mut arrivals = Arrivals::default();
        for time in times {
            #[expect(clippy::cast_possible_truncation, reason = "small numbers of seconds")]
            arrivals.add(UnixNanos((time * 1e9) as i64));
        }
        arrivals
    }

    #[test]
    fn even_arrivals_are_0_and_random_ones_1() {
        let even = arrivals((0..1000).map(|n| f64::from(n) * 0.1)).burstiness();
        assert!(even.dispersion.unwrap() < 0.05 && even.gap_variation.unwrap() < 0.01, "{even:?}");

        let mut at = 0.0;
        let poisson = arrivals((0..20_000).map(|n| {
            at -= (1.0 - uniform(1, n)).ln() / 10.0;
            at
        }));
        let poisson = poisson.burstiness();
        assert!((poisson.dispersion.unwrap() - 1.0).abs() < 0.1, "{poisson:?}");
        assert!((poisson.gap_variation.unwrap() - 1.0).abs() < 0.05, "{poisson:?}");
    }

    #[test]
    fn bursts_and_silence_show() {
        // Ten at once, every ten seconds.
        let bursts = arrivals((0..1000).map(|n| f64::from(n / 10 * 10)));
        assert_eq!(bursts.peak(), 10);
        let burstiness = bursts.burstiness();
        assert!((burstiness.dispersion.unwrap() - 9.0).abs() < 0.2, "{burstiness:?}");
        assert!(burstiness.gap_variation.unwrap() > 2.0, "{burstiness:?}");
    }

    #[test]
    fn a_step_back_in_time_is_no_step() {
        let arrivals = arrivals([5.0, 7.0, 6.0, 8.0]);
        assert_eq!(arrivals.span(), Some((UnixNanos(5_000_000_000), Duration::from_secs(3))));
        assert_eq!(arrivals.peak(), 2);
    }

    proptest! {
        #[test]
        fn zeros_at_once_are_zeros_one_by_one(values in prop::collection::vec(0.0..9.0, 0..5), zeros in 0..20_u64) {
            let (mut once, mut each) = (Moments::default(), Moments::default());
            for value in values {
                once.add(value);
                each.add(value);
            }
            once.add_zeros(zeros);
            (0..zeros).for_each(|_| each.add(0.0));
            prop_assert!((once.mean - each.mean).abs() < 1e-9 && (once.squares - each.squares).abs() < 1e-6);
        }
    }
}
