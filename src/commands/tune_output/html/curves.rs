//! Latency against the offered rate, a picture a side over the same axes: flat, and steep beyond the knee.

use crate::commands::figures::{latency, rate};
use crate::commands::page::{Axis, Chart, Line, Mark};
use crate::commands::tune_output::sentences::short;
use crate::study::report::{Point, Side};
use crate::study::{Quantile, Report};

/// A quantile of a point.
type Of = fn(&Point) -> f64;

/// A chart a side whose latencies were kept.
pub(super) fn curves(report: &Report, sides: &[(&str, &Side)]) -> String {
    let points = || sides.iter().flat_map(|(_, side)| side.curve.points.iter());
    let bound = report.slo.latency().as_secs_f64();
    let fastest = points().map(|point| point.p50).filter(|value| *value > 0.0).fold(bound, f64::min);
    let slowest = points().map(|point| point.p99).fold(bound, f64::max);
    let most = points().map(|point| point.rate).fold(0.0, f64::max);
    let axes = (Axis::amount(most), Axis::latency(fastest, slowest));
    sides.iter().filter(|(_, side)| !side.curve.points.is_empty()).map(|(name, side)| chart(report, name, side, &axes)).collect()
}

fn chart(report: &Report, name: &str, side: &Side, axes: &(Axis, Axis)) -> String {
    let quantile = report.slo.quantile();
    let mut lines = vec![line(side, "p99", "quiet", |point| point.p99)];
    if quantile != Quantile::P50 && quantile != Quantile::P99 {
        lines.push(line(side, quantile.name(), "second", |point| point.bounded));
    }
    lines.push(line(side, "p50", "first", |point| point.p50));
    lines.push(missed(side));
    lines.retain(|line| !line.points.is_empty());
    let bound = report.slo.latency().as_secs_f64();
    let mut marks = vec![Mark::Level(bound, format!("{} < {}", quantile.name(), latency(bound)))];
    marks.extend(side.capacity.map(|held| Mark::At(held.value, format!("knee: {} req/s", rate(held.value)))));
    Chart {
        title: &format!("Latency by rate, {name}"),
        caption: &format!(
            "{}: every probe of its trials; the knee is the capacity, the highest rate held. The leftmost points are the light probes.",
            short(side.candidate)
        ),
        x: axes.0.clone(),
        y: axes.1.clone(),
        lines,
        shaded: Vec::new(),
        marks,
    }
    .to_string()
}

fn line<'a>(side: &Side, name: &'a str, class: &'static str, of: Of) -> Line<'a> {
    let points = side.curve.points.iter().map(|point| (point.rate, Some(of(point)), about(point, name, of))).collect();
    Line { name, class, points }
}

/// Rates that were not held, as dots.
fn missed(side: &Side) -> Line<'static> {
    let points = side.curve.points.iter().filter(|point| !point.held).flat_map(|point| {
        let dot = (point.rate, Some(point.bounded), about(point, "bounded", |point| point.bounded));
        [dot, (point.rate, None, String::new())]
    });
    Line { name: "not held", class: "third", points: points.collect() }
}

fn about(point: &Point, name: &str, of: Of) -> String {
    let held = match (point.light, point.held) {
        (true, _) => "light probe",
        (false, true) => "held",
        (false, false) => "not held",
    };
    format!("{} req/s: {name} {} ({held}, {} requests)", rate(point.rate), latency(of(point)), point.requests)
}
