//! The four pictures of a replay: rates, the latency of every share of requests, latency over time, and what the generator itself did.

use std::ops::Range;

use crate::commands::figures::latency;
use crate::commands::page::{Axis, Chart, Line};
use crate::commands::replay_output::Replayed;
use crate::load::Second;
use crate::stats::Latencies;

/// Points a line has at most; longer runs join seconds.
const MOST_POINTS: usize = 400;
/// Points of a percentile curve for each factor of ten.
const POINTS_A_NINE: u32 = 12;
/// The shortest part of a second that has a rate.
const SHORTEST: f64 = 0.25;

/// Seconds drawn as one point.
struct Joined<'a> {
    from: usize,
    seconds: &'a [Second],
}

impl Joined<'_> {
    fn middle(&self) -> f64 {
        self.from as f64 + self.seconds.len() as f64 / 2.0
    }

    /// Events a second, or `None` if too little of the time was part of the run's `sending` seconds to tell.
    fn rate(&self, sending: f64, of: impl Fn(&Second) -> u64) -> Option<f64> {
        let (from, length) = (self.from as f64, self.seconds.len() as f64);
        let length = (sending - from).min(length);
        (length >= SHORTEST).then(|| self.seconds.iter().map(of).sum::<u64>() as f64 / length)
    }

    /// The highest, or `None` if nothing was measured.
    fn worst(&self, of: impl Fn(&Second) -> f64) -> Option<f64> {
        self.seconds.iter().map(of).reduce(f64::max).filter(|value| *value > 0.0)
    }

    fn name(&self) -> String {
        match self.seconds.len() {
            1 => format!("second {}", self.from + 1),
            several => format!("seconds {} to {}", self.from + 1, self.from + several),
        }
    }
}

/// All pictures of `replayed`.
pub(super) fn all(replayed: &Replayed) -> String {
    let seconds = &replayed.played.seconds;
    let each = seconds.len().div_ceil(MOST_POINTS).max(1);
    let joined: Vec<Joined<'_>> =
        seconds.chunks(each).enumerate().map(|(index, seconds)| Joined { from: index * each, seconds }).collect();
    let time = Axis::time(u32::try_from(seconds.len()).unwrap_or(u32::MAX));
    let shaded = spans(replayed);
    let mut charts = vec![curve(replayed)];
    if !seconds.is_empty() {
        charts.insert(0, rates(replayed, &joined, &time, &shaded));
        charts.push(latencies(&joined, &time, &shaded, each));
        charts.push(if replayed.is_closed() { busy(&joined, &time, &shaded) } else { lateness(&joined, &time, &shaded, each) });
    }
    charts.iter().map(Chart::to_string).collect()
}

/// Invalid seconds, neighbours joined.
fn spans(replayed: &Replayed) -> Vec<Range<f64>> {
    let mut spans: Vec<Range<f64>> = Vec::new();
    for second in replayed.invalid().iter().map(|invalid| invalid.second as f64) {
        match spans.last_mut() {
            Some(last) if (last.end - second).abs() < 0.5 => last.end = second + 1.0,
            Some(_) | None => spans.push(second..second + 1.0),
        }
    }
    spans
}

fn rates<'a>(replayed: &Replayed, joined: &[Joined<'_>], time: &Axis, shaded: &[Range<f64>]) -> Chart<'a> {
    let sending = replayed.sending_seconds();
    let line = |name, class, of: &dyn Fn(&Second) -> u64| {
        let point = |joined: &Joined<'_>| {
            let rate = joined.rate(sending, of);
            (joined.middle(), rate, format!("{}, {name}: {:.0} req/s", joined.name(), rate.unwrap_or(0.0)))
        };
        Line { name, class, points: joined.iter().map(point).collect() }
    };
    let mut lines = vec![line("completed", "first", &|second| second.completed)];
    if !replayed.is_closed() {
        lines.insert(0, line("due", "quiet", &|second| second.offered));
    }
    if replayed.played.seconds.iter().any(|second| second.failed > 0) {
        lines.push(line("failed", "third", &|second| second.failed));
    }
    let highest = highest(&lines);
    Chart {
        title: "Rate",
        caption: "Requests a second.",
        x: time.clone(),
        y: Axis::amount(highest),
        lines,
        shaded: shaded.to_vec(),
    }
}

fn curve<'a>(replayed: &Replayed) -> Chart<'a> {
    let played = &replayed.played;
    let x = Axis::nines(played.latency.count());
    let line = |name, class, latencies: &Latencies| {
        let last = x.high();
        let steps = (0..).map(|step| f64::from(step) / f64::from(POINTS_A_NINE)).take_while(|at| *at < last);
        let point = |at: f64| {
            let share = 1.0 - 10_f64.powf(-at);
            let value = latencies.quantile(share);
            (at, (value > 0.0).then_some(value), format!("{:.4}% within {}", share * 100.0, latency(value)))
        };
        let worst = (last, Some(latencies.max()), format!("the longest: {}", latency(latencies.max())));
        Line { name, class, points: steps.map(point).chain([worst]).collect() }
    };
    let mut lines = vec![line("latency", "first", &played.latency)];
    lines.push(line("service", "second", &played.service));
    lines.retain(|line| line.points.iter().any(|(_, value, _)| value.is_some_and(|value| value > 0.0)));
    let (low, high) = extent(&lines);
    let caption = if replayed.is_closed() {
        "How many were answered within which time, from when a client was free (latency) or sent (service)."
    } else {
        "How many were answered within which time, from when they were due (latency) or sent (service)."
    };
    Chart { title: "Latency by share of requests", caption, x, y: Axis::latency(low, high), lines, shaded: Vec::new() }
}

fn latencies<'a>(joined: &[Joined<'_>], time: &Axis, shaded: &[Range<f64>], each: usize) -> Chart<'a> {
    let line = |name: &'a str, class, index: usize| {
        let point = |joined: &Joined<'_>| {
            let value = joined.worst(|second| second.latency.get(index).copied().unwrap_or(0.0));
            (joined.middle(), value, format!("{}: {name} {}", joined.name(), latency(value.unwrap_or(0.0))))
        };
        Line { name, class, points: joined.iter().map(point).collect() }
    };
    let lines = vec![line("p99", "third", 2), line("p90", "second", 1), line("p50", "first", 0)];
    let (low, high) = extent(&lines);
    let caption =
        caption(each, "Of requests that ended in a second.", "The worst second of each group, of requests that ended in it.");
    Chart { title: "Latency over time", caption, x: time.clone(), y: Axis::latency(low, high), lines, shaded: shaded.to_vec() }
}

fn lateness<'a>(joined: &[Joined<'_>], time: &Axis, shaded: &[Range<f64>], each: usize) -> Chart<'a> {
    let point = |joined: &Joined<'_>| {
        let value = joined.worst(|second| second.lateness_p99);
        (joined.middle(), value, format!("{}: {}", joined.name(), latency(value.unwrap_or(0.0))))
    };
    let lines = vec![Line { name: "p99", class: "second", points: joined.iter().map(point).collect() }];
    let (low, high) = extent(&lines);
    let caption = caption(
        each,
        "How late this program itself took requests up.",
        "How late this program itself took requests up, in the worst second of each group.",
    );
    Chart {
        title: "Lateness of the generator",
        caption,
        x: time.clone(),
        y: Axis::latency(low, high),
        lines,
        shaded: shaded.to_vec(),
    }
}

fn busy<'a>(joined: &[Joined<'_>], time: &Axis, shaded: &[Range<f64>]) -> Chart<'a> {
    let point = |joined: &Joined<'_>| {
        let percent = joined.worst(|second| second.busy).unwrap_or(0.0) * 100.0;
        (joined.middle(), Some(percent), format!("{}: {percent:.0} % of a core", joined.name()))
    };
    let lines = vec![Line { name: "% of a core", class: "second", points: joined.iter().map(point).collect() }];
    Chart {
        title: "Processor use of the generator",
        caption: "Above 70 % it may not send as fast as its clients could.",
        x: time.clone(),
        y: Axis::amount(highest(&lines)),
        lines,
        shaded: shaded.to_vec(),
    }
}

const fn caption(each: usize, single: &'static str, grouped: &'static str) -> &'static str {
    if each > 1 { grouped } else { single }
}

fn values<'a>(lines: &'a [Line<'_>]) -> impl Iterator<Item = f64> + 'a {
    lines.iter().flat_map(|line| line.points.iter().filter_map(|(_, value, _)| *value))
}

fn highest(lines: &[Line<'_>]) -> f64 {
    values(lines).fold(0.0, f64::max)
}

fn extent(lines: &[Line<'_>]) -> (f64, f64) {
    let lowest = values(lines).filter(|value| *value > 0.0).fold(f64::INFINITY, f64::min);
    (if lowest.is_finite() { lowest } else { 0.0 }, highest(lines))
}
