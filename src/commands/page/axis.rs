//! Where a value lies on an axis, and which values are written beside it.

use crate::commands::figures::latency;

/// The finest step that seconds are labelled at, and those above it, seconds.
const SECOND_STEPS: [u32; 14] = [1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1_800, 3_600, 7_200, 14_400];
/// Labels on an axis of time.
const LABELS: u32 = 8;
/// Steps of a linear axis that starts at zero.
const STEPS: f64 = 4.0;
/// The shortest time a logarithmic axis shows, seconds: what the clock of histograms can tell.
const SHORTEST: f64 = 1e-6;

/// One axis: a scale from 0 to 1, and its labels.
#[derive(Clone, Debug)]
pub(in crate::commands) struct Axis {
    low: f64,
    high: f64,
    scale: Scale,
    /// Labelled values.
    pub(in crate::commands) ticks: Vec<(f64, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scale {
    Linear,
    Logarithmic,
}

impl Axis {
    /// Time since the start, up to `seconds`.
    pub(in crate::commands) fn time(seconds: u32) -> Self {
        let step = SECOND_STEPS.into_iter().find(|step| seconds / step <= LABELS).unwrap_or(43_200);
        let ticks = (0..=seconds / step).map(|number| (f64::from(number * step), clock(number * step))).collect();
        Self { low: 0.0, high: f64::from(seconds.max(1)), scale: Scale::Linear, ticks }
    }

    /// Amounts from zero up to `highest`.
    pub(in crate::commands) fn amount(highest: f64) -> Self {
        let rough = (highest / STEPS).max(f64::MIN_POSITIVE);
        let decade = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().map(|nice| nice * decade).find(|step| *step >= rough).unwrap_or(rough);
        let step = if highest > 0.0 { step } else { 1.0 };
        let values = [0.0, 1.0, 2.0, 3.0, 4.0].map(|number| number * step);
        let fraction = usize::from(step < 10.0 && step.fract() > 0.0);
        let ticks = values.map(|value| (value, format!("{value:.fraction$}"))).to_vec();
        Self { low: 0.0, high: STEPS * step, scale: Scale::Linear, ticks }
    }

    /// Latencies from `lowest` to `highest`, logarithmic.
    pub(in crate::commands) fn latency(lowest: f64, highest: f64) -> Self {
        let (lowest, highest) = (lowest.max(SHORTEST), highest.max(lowest).max(2.0 * SHORTEST));
        // Each decade has these labels; where there are many decades, fewer of them.
        let few = (highest / lowest).log10() > 2.5;
        let nice: Vec<f64> = (-6..=4)
            .flat_map(|decade| [1.0, 2.0, 5.0].map(|digit| (digit, digit * 10_f64.powi(decade))))
            .filter(|(digit, _)| !few || *digit < 2.0)
            .map(|(_, value)| value)
            .collect();
        let low = nice.iter().copied().rev().find(|value| *value <= lowest * 1.001).unwrap_or(SHORTEST);
        let high = nice.iter().copied().find(|value| *value >= highest * 0.999 && *value > low).unwrap_or(highest);
        let inside = nice.into_iter().filter(|value| (low * 0.999..=high * 1.001).contains(value));
        Self { low, high, scale: Scale::Logarithmic, ticks: inside.map(|value| (value, latency(value))).collect() }
    }

    /// Shares of requests, each nine as wide as the one before; `count` requests tell no more than so many of them.
    pub(in crate::commands) fn nines(count: u64) -> Self {
        let high = (count.max(10) as f64).log10().clamp(1.0, 6.0);
        let all =
            [(0.0, "0%"), (0.5, "50%"), (0.9, "90%"), (0.99, "99%"), (0.999, "99.9%"), (0.9999, "99.99%"), (0.99999, "99.999%")];
        let ticks = all.iter().map(|(share, label)| (nines(*share), (*label).to_owned())).filter(|(at, _)| *at <= high);
        // Where there are many nines, 0 % and 50 % lie too close.
        let ticks = ticks.filter(|(at, _)| *at > 0.0 || high <= 4.0);
        Self { low: 0.0, high, scale: Scale::Linear, ticks: ticks.collect() }
    }

    /// The largest value shown.
    pub(in crate::commands) const fn high(&self) -> f64 {
        self.high
    }

    /// Where `value` lies, from 0 to 1.
    pub(in crate::commands) fn place(&self, value: f64) -> f64 {
        let share = match self.scale {
            Scale::Linear => (value - self.low) / (self.high - self.low),
            Scale::Logarithmic => (value.max(self.low) / self.low).ln() / (self.high / self.low).ln(),
        };
        share.clamp(0.0, 1.0)
    }
}

/// How many nines a share has: 0.99 has two.
fn nines(share: f64) -> f64 {
    -(1.0 - share).log10()
}

fn clock(seconds: u32) -> String {
    match seconds {
        0..=120 => format!("{seconds}s"),
        121..=7_200 => format!("{}:{:02}", seconds / 60, seconds % 60),
        _ => format!("{}h{:02}", seconds / 3_600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> String {
        axis.ticks.iter().map(|(_, label)| label.as_str()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn axes_are_labelled_with_round_numbers() {
        assert_eq!(labels(&Axis::time(10)), "0s 2s 4s 6s 8s 10s");
        assert_eq!(labels(&Axis::time(600)), "0s 120s 4:00 6:00 8:00 10:00");
        assert_eq!(labels(&Axis::amount(1_230.0)), "0 500 1000 1500 2000");
        assert_eq!(labels(&Axis::amount(3.3)), "0 1 2 3 4");
        assert_eq!(labels(&Axis::amount(0.0)), "0 1 2 3 4");
        assert_eq!(labels(&Axis::latency(0.0012, 0.011)), "1.0ms 2.0ms 5.0ms 10ms 20ms");
        assert_eq!(labels(&Axis::latency(0.000_04, 1.2)), "10µs 100µs 1.0ms 10ms 100ms 1000ms 10.0s");
        assert_eq!(labels(&Axis::nines(1_500)), "0% 50% 90% 99% 99.9%");
    }

    #[test]
    fn every_value_has_a_place() {
        for axis in [Axis::time(0), Axis::amount(0.0), Axis::latency(0.0, 0.0), Axis::nines(0)] {
            for value in [0.0, 1e-9, 1.0, 1e9] {
                assert!((0.0..=1.0).contains(&axis.place(value)), "{axis:?} {value}");
            }
        }
    }
}
