//! The report of a study as one HTML page: the verdict, the map of what was searched, each core before and after, latency by rate, what is
//! certified, what was left out, every trial, and what to paste.

mod cores;
mod curves;
mod interval;
mod map;

use super::comparison::{challenger, ratio, rows};
use super::sentences::{CARE, after_the_verdict, certificate, headline, recommended_side, short};
use super::table::{HEADERS, legend, note as trial_note, numbers};
use super::{PARTIAL, fragment, gap, goal, hosts, working};
use crate::commands::figures::{memory, share};
use crate::commands::page::{Mood, Page, escape, note, tiles, words};
use crate::stats::Interval;
use crate::study::report::Side;
use crate::study::{Candidate, Objective, Report, Trial, plan};
use crate::tune::About;
use crate::units::Rate;

const STYLE: &str = include_str!("html/style.css");
/// Peaks in the table of hosts.
const PEAKS: usize = 6;

/// The whole page. `peak` is what many hosts should serve together, keeping a share `headroom` of each free.
#[must_use]
pub fn html(report: &Report, about: &About, peak: Option<Rate>, headroom: f64) -> String {
    let body = format!(
        "{}{}<div class=charts>{}{}</div>\n{}<div class=charts>{}</div>\n<div class=charts>{}</div>\n<div class=tables>{}{}</div>\n{}{}",
        notes(report, about),
        tiles(&tiles_of(report)),
        first(report),
        hosts_for(report, peak, headroom),
        map::map(report),
        cores::strips(&sides(report)),
        curves::curves(report, &sides(report)),
        certified(report),
        left_out(report),
        trials(report),
        side_by_side(report, about),
    );
    let app = if about.app.is_empty() { "an application" } else { &about.app };
    Page {
        title: &format!("Tuning of {app}"),
        kicker: &format!("Tune, {}", about.started),
        heading: &headline(report),
        lead: &format!("{app} on {}; {}; must hold: {}.", about.host, about.traffic, report.slo),
        style: STYLE,
        body: &body,
    }
    .to_string()
}

/// Baseline and recommended, or the baseline and what lost against it, or the baseline alone.
fn sides(report: &Report) -> Vec<(&'static str, &Side)> {
    let best = report.best.as_ref().filter(|best| best.candidate != report.baseline.candidate);
    let name = if recommended_side(report).is_some_and(|side| side.candidate != report.baseline.candidate) {
        "recommended"
    } else {
        challenger(report)
    };
    [("baseline", &report.baseline)].into_iter().chain(best.map(|best| (name, best))).collect()
}

fn notes(report: &Report, about: &About) -> String {
    let mut notes = Vec::new();
    if report.is_partial() {
        notes.push((Mood::Warn, PARTIAL.to_owned()));
    }
    for sentence in after_the_verdict(report).into_iter().chain(gap(report, about)) {
        let mood = if sentence.starts_with(CARE) {
            Mood::Warn
        } else if report.certificate.given && sentence == certificate(report) {
            Mood::Good
        } else {
            Mood::Plain
        };
        notes.push((mood, sentence));
    }
    notes.iter().map(|(mood, text)| note(*mood, text)).collect()
}

fn tiles_of(report: &Report) -> Vec<(String, String)> {
    let sides = sides(report);
    let mut tiles: Vec<(String, String)> =
        sides.iter().filter_map(|(name, side)| Some(tile_of(report, name, side.candidate, side.amount?))).collect();
    if let Some(found) = report.ratio {
        tiles.push((format!("{:.2}×", found.value), format!("{:.2} to {:.2}: ratio, 95 % interval", found.low, found.high)));
    }
    let arrow = |of: &dyn Fn(&Side) -> String| sides.iter().map(|(_, side)| of(side)).collect::<Vec<_>>().join(" → ");
    let found = |side: &Side| side.measurement.clone();
    tiles.push((arrow(&|side| share(found(side).and_then(|found| found.cpu_mean()))), "of the cores busy".to_owned()));
    let bytes = |side: &Side| found(side).and_then(|found| found.memory_bytes).map_or_else(|| "–".to_owned(), memory);
    tiles.push((arrow(&bytes), "memory of the workers".to_owned()));
    tiles
}

fn tile_of(report: &Report, name: &str, candidate: Candidate, amount: Interval) -> (String, String) {
    let (what, whose) = (goal::name(report.objective, &report.slo), format!("{name}, {}", short(candidate)));
    match report.objective {
        Objective::Capacity => {
            (format!("{:.0}", amount.value), format!("{what}, {:.0} to {:.0}: {whose}", amount.low, amount.high))
        }
        Objective::Latency { .. } | Objective::Cost { .. } => (
            goal::value(report.objective, amount.value),
            format!("{what}, {}: {whose}", goal::interval(report.objective, amount)),
        ),
    }
}

/// The ratio, and what to paste.
fn first(report: &Report) -> String {
    let fragment = fragment(report);
    let paste =
        if fragment.is_empty() { String::new() } else { format!("<h2>To paste</h2><pre tabindex=0>{}</pre>", escape(&fragment)) };
    let parts = interval::ratio(report) + &paste;
    if parts.is_empty() { parts } else { format!("<section>{parts}</section>") }
}

fn hosts_for(report: &Report, peak: Option<Rate>, headroom: f64) -> String {
    let is_unknown = report.objective.fixed_rate().is_some();
    if report.recommended.is_none() || (is_unknown && peak.is_none()) {
        return String::new();
    }
    let kept = || format!("{:.0} % of each host kept free.", headroom * 100.0);
    let sentence = peak.map_or_else(kept, |peak| hosts(report, peak, headroom));
    format!("<section><h2>Hosts for a peak</h2><p>{}</p>{}</section>", escape(&sentence), plan_table(report, headroom))
}

fn plan_table(report: &Report, headroom: f64) -> String {
    let sides: Vec<(&str, Rate)> =
        sides(report).iter().filter_map(|(name, side)| Some((*name, Rate::new(side.capacity?.value)?))).collect();
    let Some(most) = sides.iter().map(|(_, rate)| rate.per_second()).reduce(f64::max) else { return String::new() };
    let decade = 10_f64.powf(most.log10().floor());
    let round = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0].map(|digit| digit * decade);
    let peaks = round.into_iter().filter(|peak| *peak > most * 0.5).take(PEAKS);
    let heads = sides.iter().map(|(name, _)| format!("<th>{}</th>", escape(name))).collect::<Vec<_>>().concat();
    let row = |peak: f64| {
        let needed = |rate: Rate| Rate::new(peak).and_then(|peak| plan::hosts(peak, rate, headroom));
        let cells = sides
            .iter()
            .map(|(_, rate)| format!("<td>{}</td>", needed(*rate).map_or_else(|| "–".to_owned(), |hosts| hosts.to_string())))
            .collect::<Vec<_>>()
            .concat();
        format!("<tr><th>{peak:.0} req/s</th>{cells}</tr>")
    };
    format!("<table><thead><tr><th>peak</th>{heads}</tr></thead><tbody>{}</tbody></table>", peaks.map(row).collect::<String>())
}

fn certified(report: &Report) -> String {
    let rows: Vec<_> = working::certificate(report).into_iter().chain(working::generator(report)).collect();
    words("How close to the host's limit", &rows)
}

fn left_out(report: &Report) -> String {
    let mut excluded = working::excluded(report);
    if excluded.is_empty() {
        excluded.push(("Nothing".to_owned(), "no limit bound the search, and every trial counts".to_owned()));
    }
    let row = |(what, why): &(String, String)| format!("<tr><th>{}</th><td>{}</td></tr>", escape(what), escape(why));
    let rows = excluded.iter().map(row).collect::<String>();
    format!("<section><h2>Left out or doubtful, and why</h2><table class=told><tbody>{rows}</tbody></table></section>")
}

fn trials(report: &Report) -> String {
    if report.trials.is_empty() {
        return String::new();
    }
    let heads = HEADERS.iter().map(|name| format!("<th scope=col>{}</th>", escape(name))).collect::<Vec<_>>().concat();
    let rows: String = report.trials.iter().zip(1..).map(|(trial, number)| trial_row(report, trial, number)).collect();
    format!(
        "<section class=wide><h2>Every trial</h2><p>{}</p><div class=scroll><table class=trials><thead><tr>{heads}</tr></thead>\
         <tbody>{rows}</tbody></table></div></section>",
        escape(&legend(report))
    )
}

fn trial_row(report: &Report, trial: &Trial, number: usize) -> String {
    let class = if Some(trial.suggestion.candidate) == report.recommended { " class=chosen" } else { "" };
    let cells = numbers(number, trial).iter().map(|cell| format!("<td>{}</td>", escape(cell))).collect::<Vec<_>>().concat();
    format!("<tr{class}>{cells}<td class=words>{}</td></tr>", escape(&trial_note(trial)))
}

/// The numbers of both sides, and what the study was about.
fn side_by_side(report: &Report, about: &About) -> String {
    let mut rows = rows(report).into_iter();
    let cells =
        |row: &[String], tag| row.iter().map(|cell| format!("<{tag}>{}</{tag}>", escape(cell))).collect::<Vec<_>>().concat();
    let head = rows.next().map(|row| cells(&row, "th")).unwrap_or_default();
    let body =
        rows.map(|row| format!("<tr><th>{}</th>{}</tr>", escape(&row[0]), cells(&row[1..], "td"))).collect::<Vec<_>>().concat();
    let sides =
        format!("<section><h2>Side by side</h2><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></section>");
    let mut facts = vec![
        ("Application", about.app.clone()),
        ("Host", about.host.clone()),
        ("Traffic", about.traffic.clone()),
        ("Must hold", report.slo.to_string()),
        ("Compared", goal::name(report.objective, &report.slo)),
        (
            "Trials",
            format!(
                "{} in {:.0} s; {}",
                report.trials.len(),
                report.trials.iter().map(Trial::seconds).sum::<f64>(),
                report.stopped_because()
            ),
        ),
    ];
    facts.extend(report.ratio.map(|found| ("Ratio", ratio(found))));
    facts.extend(report.baseline.amount.map(|amount| ("Baseline", goal::interval(report.objective, amount))));
    facts.retain(|(_, text)| !text.is_empty());
    format!("<div class=\"tables last\">{sides}{}</div>\n", words("What was asked", &facts))
}
