//! The report as one HTML page: no script, nothing from elsewhere, light and dark, fit for print. Whatever comes from outside is
//! escaped.

mod charts;

use std::fmt::Write as _;

use jiff::Timestamp;

use super::terminal::{CLOSED, contents, cores, dropped, failures, left_out, objective, priority, validity};
use super::{Replayed, Verdict};
use crate::commands::figures::{count, latency, percent, rate};
use crate::commands::page::{Mood, Page, escape, note, tiles, words};
use crate::stats::Latencies;

/// The whole page.
#[must_use]
pub fn html(replayed: &Replayed) -> String {
    let setting = &replayed.setting;
    let heading = format!("{} to {}", setting.recording, setting.target);
    let body = format!(
        "{}{}<div class=charts>{}</div>\n<div class=tables>{}{}{}{}</div>",
        notes(replayed),
        tiles(&numbers(replayed)),
        charts::all(replayed),
        times(replayed),
        words("Generator and host", &machine(replayed)),
        outcomes(replayed),
        words("How it was run", &run(replayed)),
    );
    Page {
        title: &format!("Replay of {heading}"),
        kicker: &format!("Replay, {}", began(replayed)),
        heading: &heading,
        lead: &format!("{}.", setting.load),
        style: "",
        body: &body,
    }
    .to_string()
}

fn began(replayed: &Replayed) -> String {
    let started = Timestamp::try_from(replayed.setting.started);
    started.map_or_else(|_| "at an unknown time".to_owned(), |at| at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string())
}

/// What a reader must know before any number.
fn notes(replayed: &Replayed) -> String {
    let mut notes = Vec::new();
    notes.extend(replayed.partial().map(|partial| (Mood::Warn, partial.to_owned())));
    if let Some(verdict) = &replayed.verdict {
        notes.push((if verdict.met == Some(true) { Mood::Good } else { Mood::Bad }, objective(verdict)));
    }
    let trusted = replayed.is_valid() == Some(true);
    notes.push((if trusted { Mood::Good } else { Mood::Warn }, validity(replayed)));
    if let Some(comparison) = &replayed.comparison {
        notes.push((if comparison.different == 0 { Mood::Good } else { Mood::Bad }, contents(comparison)));
    }
    if replayed.is_closed() {
        notes.push((Mood::Warn, CLOSED.to_owned()));
    }
    notes.iter().map(|(mood, text)| note(*mood, text)).collect()
}

fn numbers(replayed: &Replayed) -> Vec<(String, String)> {
    let played = &replayed.played;
    let quantile = |share| latency(played.latency.quantile(share));
    let mut tiles = vec![
        (rate(played.achieved.per_second()), format!("req/s achieved, {} offered", rate(played.offered.per_second()))),
        (quantile(0.5), "latency, p50".to_owned()),
        (quantile(0.9), "latency, p90".to_owned()),
        (quantile(0.99), "latency, p99".to_owned()),
        (percent(replayed.error_share()), format!("errors, of {}", count(played.scheduled))),
    ];
    if !replayed.is_closed() {
        tiles.push((latency(played.lateness.scheduler.quantile(0.99)), "generator late, p99".to_owned()));
    }
    tiles
}

fn times(replayed: &Replayed) -> String {
    let (played, lateness) = (&replayed.played, &replayed.played.lateness);
    let due = if replayed.is_closed() { "from when its client was free" } else { "from when it was due" };
    let mut rows = vec![
        row("Latency", due, &played.latency),
        row("Service", "from when it was sent to the whole answer", &played.service),
        row("First byte", "from when it was sent to the first byte of its answer", &played.first_byte),
    ];
    if played.left_out.seconds > 0 {
        let meaning = format!("latency of {}, in none of the rows above", left_out(replayed));
        rows.push(row("Left out", &meaning, &played.left_out.latency));
    }
    if !replayed.is_closed() {
        let waited = |latencies: &Latencies, why: &str| format!("{} waited {why}", count(latencies.count()));
        rows.extend([
            row("Sent late", "from when it was due to when it was sent", &lateness.total),
            row("… by the generator", "this program's own fault", &lateness.scheduler),
            row("… by merging", &format!("{} moved, to be sent together", count(lateness.merged.count())), &lateness.merged),
            row("… by an answer", &waited(&lateness.dependency, "for the answer before it"), &lateness.dependency),
            row("… by connecting", &waited(&lateness.connect, "for a new connection"), &lateness.connect),
            row("… by a backlog", &waited(&lateness.backlog, "for a free connection"), &lateness.backlog),
        ]);
    }
    format!(
        "<section><h2>Times</h2><table><thead><tr><th></th><th>p50</th><th>p90</th><th>p99</th><th>max</th></tr></thead><tbody>{}</tbody></table></section>",
        rows.concat()
    )
}

fn row(name: &str, meaning: &str, latencies: &Latencies) -> String {
    let numbers = [latencies.quantile(0.5), latencies.quantile(0.9), latencies.quantile(0.99), latencies.max()];
    let cells = numbers.map(|seconds| format!("<td>{}</td>", latency(seconds))).concat();
    format!("<tr><th>{}<small>{}</small></th>{cells}</tr>", escape(name), escape(meaning))
}

fn outcomes(replayed: &Replayed) -> String {
    let played = &replayed.played;
    let mut rows = vec![("Due".to_owned(), played.scheduled), ("Answered as they should be".to_owned(), played.completed)];
    rows.extend(failures(replayed).into_iter().map(|(words, number)| (format!("Requests that {words}"), number)));
    rows.extend((2..=5).map(|class| (format!("Answers {class}xx"), played.statuses.class(class))));
    rows.extend([
        ("Sent again on a fresh connection".to_owned(), played.retried),
        ("Connections opened".to_owned(), played.connections),
        ("Bytes received".to_owned(), played.bytes),
    ]);
    let mut table = String::new();
    for (words, number) in &rows {
        write!(table, "<tr><th>{}</th><td>{}</td></tr>", escape(words), count(*number))
            .expect("invariant: writing to a string succeeds");
    }
    format!("<section><h2>Requests</h2><table><tbody>{table}</tbody></table></section>")
}

fn machine(replayed: &Replayed) -> Vec<(&'static str, String)> {
    let each = replayed.cpu_per_request().map_or_else(|| "–".to_owned(), |each| format!("{:.1} µs", each * 1e6));
    vec![
        ("CPU time", format!("{:.2} s", replayed.played.cpu.as_secs_f64())),
        ("A request", each),
        ("Busy", format!("{} of one core", percent(replayed.generator_busy()))),
        ("Priority", priority(replayed.setting.priority).to_owned()),
        ("Host", cores(replayed).trim_start_matches("Host: ").to_owned()),
    ]
}

fn run(replayed: &Replayed) -> Vec<(&'static str, String)> {
    let setting = &replayed.setting;
    let mut rows = vec![
        ("Recording", format!("{}, {} requests", setting.recording, count(setting.planned))),
        ("Target", setting.target.clone()),
        ("Load", setting.load.clone()),
        ("Counted", format!("{:.1} s, after {:.1} s of warm-up", replayed.sending_seconds(), setting.settled.as_secs_f64())),
    ];
    let dropped = dropped(replayed);
    if !dropped.is_empty() {
        rows.push(("Not replayed", dropped));
    }
    rows.extend(setting.choices.iter().map(|choice| ("", choice.clone())));
    if let Some(Verdict { objective, .. }) = replayed.verdict {
        rows.push(("Objective", objective.to_string()));
    }
    rows
}
