//! Intervals of a ratio from a handful of measurements, and what a few replicates say about the noise of one.

use serde::{Deserialize, Serialize};

/// An estimate and the 95 % interval around it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The estimate.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Interval {
    /// Whether `value` cannot be excluded.
    #[must_use]
    pub fn contains(&self, value: f64) -> bool {
        self.low <= value && value <= self.high
    }

    /// This quantity over another that was measured independently. Both intervals are symmetric in the logarithm, and their
    /// halves add as independent errors do.
    #[must_use]
    pub fn over(&self, other: Self) -> Self {
        let half = |interval: &Self| (interval.high / interval.low).ln() / 2.0;
        let (value, half) = (self.value / other.value, half(self).hypot(half(&other)));
        Self { value, low: value * (-half).exp(), high: value * half.exp() }
    }

    /// Half the width, as a share of the estimate.
    #[must_use]
    pub fn half_width(&self) -> f64 {
        (self.high - self.low) / (2.0 * self.value)
    }
}

/// How much a quantity scatters: what was believed before (`sd` of its logarithm, worth `weight` degrees of freedom) until
/// measurements say more.
///
/// Two or three replicates alone would give intervals of ±30 %; the pooled variance is that of the moderated t statistic
/// (Smyth, Statistical Applications in Genetics and Molecular Biology 3, 2004).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    /// Standard deviation of the natural logarithm.
    pub sd: f64,
    /// Degrees of freedom behind it.
    pub weight: f64,
}

impl Spread {
    /// The spread after seeing groups of replicates, given as logarithms. Groups of one say nothing.
    #[must_use]
    pub fn updated<'a>(self, groups: impl IntoIterator<Item = &'a [f64]>) -> Self {
        let mut weight = self.weight;
        let mut squares = self.weight * self.sd.powi(2);
        for group in groups {
            let centre = super::mean(group).unwrap_or_default();
            squares += group.iter().map(|value| (value - centre).powi(2)).sum::<f64>();
            weight += group.len().saturating_sub(1) as f64;
        }
        Self { sd: (squares / weight).sqrt(), weight }
    }

    /// The spread after `times` more deviations from a mean, each of so many standard deviations.
    #[must_use]
    pub fn widened(self, deviations: f64, times: usize) -> Self {
        let weight = self.weight + times as f64;
        Self { sd: self.sd * ((self.weight + times as f64 * deviations.powi(2)) / weight).sqrt(), weight }
    }

    /// The interval of the geometric mean of quantities with these logarithms, whose scatter updates the belief; `None` of nothing.
    #[must_use]
    pub fn interval(self, logs: &[f64]) -> Option<Interval> {
        self.updated([logs]).around(logs)
    }

    /// The same, where their scatter is a part of the belief already.
    #[must_use]
    pub fn around(self, logs: &[f64]) -> Option<Interval> {
        let centre = super::mean(logs)?;
        let half = student(self.weight) * self.sd / (logs.len() as f64).sqrt();
        Some(Interval { value: centre.exp(), low: (centre - half).exp(), high: (centre + half).exp() })
    }
}

/// The 97.5 % quantile of Student's t with at least `freedom` degrees of freedom; between rows of the table the wider one.
fn student(freedom: f64) -> f64 {
    const TABLE: [(f64, f64); 15] = [
        (1.0, 12.706),
        (2.0, 4.303),
        (3.0, 3.182),
        (4.0, 2.776),
        (5.0, 2.571),
        (6.0, 2.447),
        (7.0, 2.365),
        (8.0, 2.306),
        (9.0, 2.262),
        (10.0, 2.228),
        (12.0, 2.179),
        (15.0, 2.131),
        (20.0, 2.086),
        (30.0, 2.042),
        (60.0, 2.000),
    ];
    TABLE.iter().rev().find(|(row, _)| *row <= freedom).map_or(TABLE[0].1, |(_, quantile)| *quantile)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BELIEF: Spread = Spread { sd: 0.05, weight: 4.0 };

    #[test]
    fn one_measurement_has_the_believed_width() {
        let interval = BELIEF.interval(&[0.0]).unwrap();
        assert!((interval.low - (-2.776_f64 * 0.05).exp()).abs() < 1e-9);
        assert!(interval.contains(1.0));
    }

    #[test]
    fn replicates_that_agree_narrow_it_and_those_that_do_not_widen_it() {
        let narrow = BELIEF.interval(&[0.1, 0.1, 0.1]).unwrap();
        let wide = BELIEF.interval(&[-0.2, 0.1, 0.4]).unwrap();
        assert!(narrow.half_width() < 0.06 && !narrow.contains(1.0));
        assert!(wide.half_width() > 0.15 && wide.contains(1.0));
        assert!((narrow.value - wide.value).abs() < 1e-12);
    }

    #[test]
    fn nothing_measured_has_no_interval() {
        assert_eq!(BELIEF.interval(&[]), None);
        assert_eq!(BELIEF.updated([[0.3].as_slice()]), BELIEF);
    }
}
