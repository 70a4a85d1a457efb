//! The text of `record info`: a title, then a block a subject, its name in the margin.

use std::time::Duration;

use jiff::Timestamp;

use super::super::super::tune_output::Paper;
use super::super::input::{lost, out_of_order};
use super::Known;
use super::plot::plot;
use crate::recording::{Burstiness, Connections, Counts, Fidelity, Meta, Quantiles, Report};

/// Columns of the margin.
const MARGIN: usize = 12;
/// How many routes are shown.
const ROUTES: usize = 12;
/// How many methods and statuses are shown.
const KINDS: usize = 8;
/// Steps from which a clock's times within a second are made up.
const SECOND_NS: u64 = 1_000_000_000;

/// All that is known, ending in a newline.
pub(super) fn page(known: &Known, paper: Paper) -> String {
    let Known { name, meta, report, broken, disorder } = known;
    let mut page = Page { text: title(name, report, paper), paper };
    page.blank();
    page.block("rate", &rates(report.mean_rate, report.peak_rate));
    for line in graph(report, paper) {
        page.line(&line);
    }
    page.block("burstiness", &burstiness(report.burstiness, meta));
    if let Some(connections) = &report.connections {
        page.block(connections_name(connections, meta), &connections_text(connections));
    }
    page.blank();
    page.block("methods", &kinds(report.methods.counts.iter().map(|(name, count)| (&**name, *count)), report.requests));
    let statuses: Vec<_> = by_count(report).into_iter().map(|(status, count)| (status.to_string(), count)).collect();
    if !statuses.is_empty() {
        page.block("statuses", &kinds(statuses.iter().map(|(name, count)| (name.as_str(), *count)), report.requests));
    }
    page.block("request", &quantiles(&report.request_bytes, bytes));
    if let Some(sizes) = &report.response_bytes {
        page.block("response", &quantiles(sizes, bytes));
    }
    if let Some(seconds) = &report.seconds {
        let flying = report.in_flight.map_or_else(String::new, |count| format!("; {} in flight on average", rate(count)));
        page.block("duration", &(quantiles(seconds, span) + &flying));
    }
    page.blank();
    for (number, line) in routes(&report.routes, report.requests, paper).iter().enumerate() {
        page.row(if number == 0 { "routes" } else { "" }, line);
    }
    page.blank();
    page.block("source", &source(meta));
    page.block("times", &times(meta));
    if let Some(fidelity) = &meta.fidelity {
        page.block("real", &real(fidelity));
    }
    page.block("order", &out_of_order(*disorder).unwrap_or_else(|| "sorted by time".to_owned()));
    page.block("lines", &lost(broken).unwrap_or_else(|| "all usable".to_owned()));
    page.text
}

struct Page {
    text: String,
    paper: Paper,
}

impl Page {
    fn line(&mut self, line: &str) {
        self.text.push_str(line.trim_end());
        self.text.push('\n');
    }

    fn blank(&mut self) {
        self.line("");
    }

    fn row(&mut self, name: &str, text: &str) {
        self.line(&format!("{name:<MARGIN$}{text}"));
    }

    /// A text beside its name, wrapped.
    fn block(&mut self, name: &str, text: &str) {
        let margin = u16::try_from(MARGIN).unwrap_or(u16::MAX);
        let beside = Paper { width: self.paper.width.saturating_sub(margin), ..self.paper };
        for (number, line) in beside.wrap(text).lines().enumerate() {
            self.row(if number == 0 { name } else { "" }, line);
        }
    }
}

fn title(name: &str, report: &Report, paper: Paper) -> String {
    let many = if report.requests == 1 { "request" } else { "requests" };
    let first = stamp(report.first_ns, "%Y-%m-%d %H:%M:%S");
    let last = last_ns(report);
    let same_day = stamp(last, "%F") == stamp(report.first_ns, "%F");
    let last = stamp(last, if same_day { "%H:%M:%S" } else { "%Y-%m-%d %H:%M:%S" });
    let text = format!("{name}: {} {many} in {}, {first} to {last} UTC", report.requests, span(report.span));
    paper.strong(&text) + "\n"
}

fn last_ns(report: &Report) -> i64 {
    let span = Duration::try_from_secs_f64(report.span).map_or(0, |span| span.as_nanos());
    report.first_ns.saturating_add(i64::try_from(span).unwrap_or(i64::MAX))
}

fn stamp(nanos: i64, format: &str) -> String {
    Timestamp::from_nanosecond(i128::from(nanos)).map_or_else(|_| nanos.to_string(), |at| at.strftime(format).to_string())
}

/// Seconds count from the first request, so that the last is seldom whole: of a short recording the busiest may have less than the
/// average, and tells nothing.
fn rates(mean: Option<f64>, peak: u64) -> String {
    match mean {
        None => format!("all {peak} at one moment"),
        Some(mean) if mean > peak as f64 => format!("{}/s on average", rate(mean)),
        Some(mean) => format!("{}/s on average, {peak} in the busiest second", rate(mean)),
    }
}

/// The plot, and below it what a column is.
fn graph(report: &Report, paper: Paper) -> Vec<String> {
    let columns = usize::from(paper.width).saturating_sub(MARGIN + 1);
    // More columns than steps or requests would only show gaps between them.
    let requests = usize::try_from(report.requests).unwrap_or(usize::MAX);
    let columns = columns.min(report.rates.counts.len()).min(requests);
    let mut lines = plot(&report.rates.parts(columns), MARGIN - 2);
    if !lines.is_empty() {
        let each = span(report.span / columns as f64);
        lines.push(format!("{:MARGIN$}requests/s; a column is {each}", ""));
    }
    lines
}

fn burstiness(burstiness: Burstiness, meta: &Meta) -> String {
    let unknown = || "not known".to_owned();
    let dispersion = burstiness.dispersion.map_or_else(unknown, |dispersion| format!("{dispersion:.2}"));
    let is_coarse = meta.ts_resolution_ns.is_some_and(|step| step >= SECOND_NS);
    let gaps = match burstiness.gap_variation {
        Some(_) if is_coarse => "not known, since the clock told whole seconds".to_owned(),
        Some(variation) => format!("{variation:.2}"),
        None => unknown(),
    };
    format!("dispersion of counts a second {dispersion}, variation of gaps {gaps} (0: even, 1: random, above: bursts)")
}

fn connections_name(connections: &Connections, meta: &Meta) -> &'static str {
    let said = meta.fidelity.as_ref().and_then(|fidelity| fidelity.connections.as_deref());
    let are_clients = said == Some("client") || (said.is_none() && !connections.are_numbered);
    if are_clients { "clients" } else { "connections" }
}

fn connections_text(connections: &Connections) -> String {
    let more = if connections.is_bounded { "more than " } else { "" };
    let each = &connections.requests;
    let unknown = match connections.unknown {
        0 => String::new(),
        unknown => format!("; {unknown} requests tell none"),
    };
    format!(
        "{more}{}; requests on each: p50 {:.0}, p90 {:.0}, p99 {:.0}, max {:.0}, mean {:.1}{unknown}",
        connections.count, each.p50, each.p90, each.p99, each.max, each.mean
    )
}

fn by_count(report: &Report) -> Vec<(u16, u64)> {
    let mut statuses: Vec<_> = report.statuses.iter().map(|(status, count)| (*status, *count)).collect();
    statuses.sort_by_key(|(status, count)| (std::cmp::Reverse(*count), *status));
    statuses
}

fn kinds<'a>(kinds: impl Iterator<Item = (&'a str, u64)>, all: u64) -> String {
    let kinds: Vec<_> = kinds.collect();
    let shown = kinds.iter().take(KINDS).map(|(name, count)| format!("{name}\u{a0}{}", percent(*count, all)));
    let mut texts: Vec<_> = shown.collect();
    if kinds.len() > KINDS {
        texts.push(format!("{} more", kinds.len() - KINDS));
    }
    // A name and its share stay on one line.
    texts.join(", ")
}

fn routes(routes: &Counts, all: u64, paper: Paper) -> Vec<String> {
    let digits = routes.counts.first().map_or(1, |(_, count)| count.max(&routes.other).to_string().len());
    let room = usize::from(paper.width).saturating_sub(MARGIN + digits + 10);
    let mut lines: Vec<String> = routes
        .counts
        .iter()
        .take(ROUTES)
        .map(|(route, count)| format!("{:>6}  {count:>digits$}  {}", percent(*count, all), shortened(route, room)))
        .collect();
    let rest = routes.counts.iter().skip(ROUTES);
    let others: u64 = rest.clone().map(|(_, count)| count).sum::<u64>() + routes.other;
    if others > 0 {
        let many = if routes.other > 0 { "others".to_owned() } else { format!("{} others", rest.count()) };
        lines.push(format!("{:>6}  {others:>digits$}  {many}", percent(others, all)));
    }
    lines
}

fn shortened(text: &str, room: usize) -> String {
    if text.chars().count() <= room {
        return text.to_owned();
    }
    text.chars().take(room.saturating_sub(1)).chain(['…']).collect()
}

fn source(meta: &Meta) -> String {
    let source = meta.source.as_deref().unwrap_or("not told");
    let scrub = meta.scrub.as_deref().map_or_else(
        || "not scrubbed, as far as is known: it may hold personal data".to_owned(),
        |policy| format!("scrubbed ({policy})"),
    );
    format!("{source}; {scrub}")
}

fn times(meta: &Meta) -> String {
    let meaning = match meta.ts_meaning.as_deref() {
        Some("arrival") => "when requests arrived",
        Some("end") => "when responses ended",
        Some("logged") => "when requests were logged, between arrival and end",
        Some("first_byte") => "when the first byte arrived",
        Some(other) => other,
        None => "not told what they mean",
    };
    let step = meta.ts_resolution_ns.map_or_else(String::new, |step| format!(", in steps of {}", span(step as f64 / 1e9)));
    format!("{meaning}{step}")
}

fn real(fidelity: &Fidelity) -> String {
    let parts = [
        ("headers", &fidelity.headers),
        ("bodies", &fidelity.bodies),
        ("connections", &fidelity.connections),
        ("responses", &fidelity.responses),
    ];
    let told = parts.iter().filter_map(|(name, what)| what.as_ref().map(|what| format!("{name}: {what}")));
    told.collect::<Vec<_>>().join("; ")
}

fn quantiles(quantiles: &Quantiles, unit: fn(f64) -> String) -> String {
    let Quantiles { p50, p90, p99, max, .. } = *quantiles;
    format!("p50 {}, p90 {}, p99 {}, max {}", unit(p50), unit(p90), unit(p99), unit(max))
}

fn percent(part: u64, all: u64) -> String {
    format!("{:.1}%", part as f64 / all as f64 * 100.0)
}

/// A number of about three digits.
pub(super) fn rate(rate: f64) -> String {
    let decimals = match rate {
        rate if rate >= 100.0 => 0,
        rate if rate >= 10.0 => 1,
        _ => 2,
    };
    let text = format!("{rate:.decimals$}");
    if decimals == 0 { text } else { text.trim_end_matches('0').trim_end_matches('.').to_owned() }
}

fn bytes(bytes: f64) -> String {
    match bytes {
        bytes if bytes < 1024.0 => format!("{bytes:.0} B"),
        bytes if bytes < 1024.0 * 1024.0 => format!("{} KiB", rate(bytes / 1024.0)),
        bytes => format!("{} MiB", rate(bytes / 1024.0 / 1024.0)),
    }
}

/// A time in the unit that suits it.
fn span(seconds: f64) -> String {
    match seconds {
        0.0 => "0 s".to_owned(),
        seconds if seconds < 1e-6 => format!("{} ns", rate(seconds * 1e9)),
        seconds if seconds < 1e-3 => format!("{} µs", rate(seconds * 1e6)),
        seconds if seconds < 1.0 => format!("{} ms", rate(seconds * 1e3)),
        seconds if seconds < 60.0 => format!("{} s", rate(seconds)),
        seconds => {
            let whole = Duration::try_from_secs_f64(seconds.round()).unwrap_or(Duration::MAX);
            humantime::format_duration(whole).to_string()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_busiest_second_is_not_below_the_average() {
        assert_eq!(rates(Some(223.0), 170), "223/s on average");
        assert_eq!(rates(Some(9.5), 17), "9.5/s on average, 17 in the busiest second");
        assert_eq!(rates(None, 3), "all 3 at one moment");
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!([0.0, 0.125, 1.0, 18.54, 20.0, 100.0, 12345.6].map(rate), ["0", "0.12", "1", "18.5", "20", "100", "12346"]);
        assert_eq!([0.0, 1023.0, 1536.0, 5e6].map(bytes), ["0 B", "1023 B", "1.5 KiB", "4.77 MiB"]);
        assert_eq!(
            [0.0, 1e-9, 2.5e-5, 0.25, 1.0, 59.9, 61.4, 90061.0].map(span),
            ["0 s", "1 ns", "25 µs", "250 ms", "1 s", "59.9 s", "1m 1s", "1day 1h 1m 1s"]
        );
    }
}
