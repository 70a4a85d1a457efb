//! Latency histograms and intervals of small samples. Knows no domain: the callers say what the numbers mean.

mod interval;
mod latencies;
mod packed;

pub use interval::{Interval, Spread};
pub use latencies::Latencies;
pub use packed::{NotLatencies, PackedLatencies};

/// The arithmetic mean, or `None` of nothing.
#[must_use]
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// The standard deviation of a sample (n − 1), or `None` below two values.
#[must_use]
pub fn deviation(values: &[f64]) -> Option<f64> {
    let centre = mean(values)?;
    let squares: f64 = values.iter().map(|value| (value - centre).powi(2)).sum();
    (values.len() > 1).then(|| (squares / (values.len() - 1) as f64).sqrt())
}

/// The geometric mean of positive values, or `None` if there are none or one is not positive.
#[must_use]
pub fn geometric_mean(values: &[f64]) -> Option<f64> {
    let logs: Vec<f64> = values.iter().filter(|value| **value > 0.0).map(|value| value.ln()).collect();
    if logs.len() < values.len() { None } else { mean(&logs).map(f64::exp) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn describes_a_sample() {
        assert_eq!(mean(&[]), None);
        assert_eq!(mean(&[1.0, 2.0, 6.0]), Some(3.0));
        assert_eq!(deviation(&[4.0]), None);
        assert_eq!(deviation(&[2.0, 4.0, 6.0]), Some(2.0));
        assert_eq!(geometric_mean(&[1.0, 0.0]), None);
        assert!((geometric_mean(&[2.0, 8.0]).unwrap() - 4.0).abs() < 1e-12);
    }
}
