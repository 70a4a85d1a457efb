//! The ratio of best and baseline with its interval, and the line at which there is no difference.

use crate::commands::page::escape;
use crate::commands::tune_output::{comparison, goal};
use crate::study::{Objective, Report};

const WIDTH: f64 = 520.0;
const HEIGHT: f64 = 78.0;
const SIDE: f64 = 24.0;
const MIDDLE: f64 = 30.0;

/// A picture of the ratio; empty without one.
pub(super) fn ratio(report: &Report) -> String {
    let Some(found) = report.ratio.filter(|found| found.low > 0.0) else { return String::new() };
    // Equal factors are equally long, and 1 is always seen.
    let (low, high) = (found.low.min(1.0) / 1.08, found.high.max(1.0) * 1.08);
    let across = |value: f64| SIDE + (value / low).ln() / (high / low).ln() * (WIDTH - 2.0 * SIDE);
    let is_better = if report.objective.fixed_rate().is_some() { found.high < 1.0 } else { found.low > 1.0 };
    let where_it_lies = if found.low > 1.0 { "above" } else { "below" };
    let says = if found.contains(1.0) {
        "The interval contains 1: no difference seen.".to_owned()
    } else if is_better {
        format!("The interval lies {where_it_lies} 1: the difference is more than noise.")
    } else {
        format!("The interval lies {where_it_lies} 1: it is worse.")
    };
    let text = comparison::ratio(found);
    let (from, at, to, one) = (across(found.low), across(found.value), across(found.high), across(1.0));
    let label = |value: f64, down: f64, anchor: &str| {
        format!("<text x={:.1} y={down} text-anchor={anchor}>{value:.2}</text>", across(value))
    };
    let repeated =
        if report.confirmed { "best and baseline in turn, each trial on a fresh start" } else { "not repeated: a hint" };
    format!(
        "<h2>Ratio to the baseline</h2><p>{} 95 % interval; {repeated}.</p>\
         <svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=img aria-label=\"{}\"><title>{}</title>\
         <line class=base x1={SIDE} x2={} y1={MIDDLE} y2={MIDDLE} />\
         <line class=one x1={one:.1} x2={one:.1} y1=6 y2=54 /><text x={one:.1} y=70 text-anchor=middle>1: equal</text>\
         <line class=span x1={from:.1} x2={to:.1} y1={MIDDLE} y2={MIDDLE} /><circle class=point cx={at:.1} cy={MIDDLE} r=6 />\
         {}{}{}</svg>{}",
        escape(&says),
        escape(&text),
        escape(&text),
        WIDTH - SIDE,
        label(found.low, 52.0, "middle"),
        label(found.value, 18.0, "middle"),
        label(found.high, 52.0, "middle"),
        trials(report),
    )
}

/// What the ratio is of, pair by pair. The search's own trials are none of it: the luckiest of them won.
fn trials(report: &Report) -> String {
    if report.pairs.is_empty() {
        return String::new();
    }
    let what = goal::name(report.objective, &report.slo);
    let row = |name: &str, side: usize| {
        let amounts = report.pairs.iter().map(|pair| match report.objective {
            Objective::Capacity => format!("{:.0}", pair[side]),
            Objective::Latency { .. } | Objective::Cost { .. } => goal::value(report.objective, pair[side]),
        });
        let amounts = amounts.collect::<Vec<_>>().join(", ");
        format!("<tr><th>{}</th><td>{}</td></tr>", escape(&format!("{name}, {what} pair by pair")), escape(&amounts))
    };
    let rows = row("baseline", 0) + &row(comparison::challenger(report), 1);
    format!("<table><tbody>{rows}</tbody></table>")
}
