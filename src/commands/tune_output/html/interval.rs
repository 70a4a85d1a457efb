//! The ratio of best and baseline with its interval, and the line at which there is no difference.

use crate::commands::page::escape;
use crate::commands::tune_output::comparison;
use crate::study::Report;

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
    let says = if found.contains(1.0) {
        "The interval contains 1: no difference seen."
    } else if found.low > 1.0 {
        "The interval lies above 1: the difference is more than noise."
    } else {
        "The interval lies below 1: it is worse."
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
        escape(says),
        escape(&text),
        escape(&text),
        WIDTH - SIDE,
        label(found.low, 52.0, "middle"),
        label(found.value, 18.0, "middle"),
        label(found.high, 52.0, "middle"),
        trials(report),
    )
}

/// The capacities behind it, trial by trial.
fn trials(report: &Report) -> String {
    let Some(best) = &report.best else { return String::new() };
    let of = |candidate| {
        let held =
            report.trials.iter().filter(|trial| trial.suggestion.candidate == candidate).filter_map(|trial| trial.measurement());
        held.filter(|found| found.is_usable()).map(|found| format!("{:.0}", found.capacity)).collect::<Vec<_>>().join(", ")
    };
    let row =
        |name: &str, candidate| format!("<tr><th>{name}, req/s trial by trial</th><td>{}</td></tr>", escape(&of(candidate)));
    let rows = row("baseline", report.baseline.candidate) + &row(comparison::challenger(report), best.candidate);
    format!("<table><tbody>{rows}</tbody></table>")
}
