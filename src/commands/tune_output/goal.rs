//! What the objective compares, named and with its unit: requests a second, a latency at a rate, or cores at a rate.

use crate::commands::figures::{counted, latency, rate};
use crate::stats::Interval;
use crate::study::report::Side;
use crate::study::{Objective, Report, Slo};

/// What is compared, as the head of a row or of a column.
pub(in crate::commands) fn name(objective: Objective, slo: &Slo) -> String {
    match objective {
        Objective::Capacity => "req/s".to_owned(),
        Objective::Latency { at } => format!("{} at {} req/s", slo.quantile().name(), at.per_second()),
        Objective::Cost { at } => format!("cores at {} req/s", at.per_second()),
    }
}

/// An amount without its interval, with its unit.
pub(super) fn value(objective: Objective, amount: f64) -> String {
    match objective {
        Objective::Capacity => format!("{} req/s", rate(amount)),
        Objective::Latency { .. } => latency(amount),
        Objective::Cost { .. } => counted(whole(amount), "core"),
    }
}

/// An amount with its interval. Cores are counted, not measured, and have none.
pub(in crate::commands) fn interval(objective: Objective, amount: Interval) -> String {
    let around = |write: fn(f64) -> String| format!("{} ({} to {})", write(amount.value), write(amount.low), write(amount.high));
    match objective {
        Objective::Capacity => around(rate),
        Objective::Latency { .. } => around(latency),
        Objective::Cost { .. } => value(objective, amount.value),
    }
}

/// What the best gains, in the words of the headline.
pub(super) fn gain(report: &Report, best: &Side) -> String {
    let ratio = report.ratio.map(|ratio| (format!("{:.2}", ratio.value), format!("({:.2} to {:.2})", ratio.low, ratio.high)));
    let (times, around) = ratio.unwrap_or_default();
    let found = best.amount.map_or_else(|| "–".to_owned(), |amount| interval(report.objective, amount));
    match report.objective {
        Objective::Capacity => format!("{times} times the baseline {around}"),
        Objective::Latency { .. } => {
            format!("lowest {}: {found}, {times} times the baseline's {around}", name(report.objective, &report.slo))
        }
        Objective::Cost { .. } => {
            format!("fewest {}: {found}, {times} times the baseline's", name(report.objective, &report.slo))
        }
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of cores, at least 1")]
fn whole(cores: f64) -> u64 {
    cores.round() as u64
}
