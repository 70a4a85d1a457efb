//! The report as data.

use std::collections::BTreeMap;
use std::time::UNIX_EPOCH;

use serde::Serialize;

use super::{Priority, Replayed, kinds};
use crate::load::{Doubt, Second, doubts};
use crate::stats::Latencies;

/// What `--json` writes. Keys are stable: other programs read them, and new ones may be added. Times are seconds, shares go from 0 to
/// 1, rates are requests a second.
///
/// - `tuningfork_replay`: the version of this format, 1.
/// - `recording`, `target`, `load` (in words), `closed` (sent when a client was free, not at fixed moments), `choices` (in words),
///   `started` (Unix time), `settled` (time before anything counted), `planned` (requests of the plan), `dropped` (recorded requests
///   left out: `method`, `upgrade`, `filtered`).
/// - `interrupted`: whether this is a partial report.
/// - `seconds` (time of sending), `elapsed` (with draining), `requests` (those due), `completed`, `unfinished` (`outstanding`,
///   `unsent`), `offered` (rate due), `throughput` (rate completed).
/// - `errors`: share of requests that failed or were not answered; `errors_by_kind`: counts; `first_connect_failure`: why the
///   first of `connect` failed, in words, or `null`; `statuses`: counts by class.
/// - `latency` (from when a request was due to its whole answer), `service` (from when it was sent to its whole answer),
///   `first_byte` (from when it was sent to the first byte of its answer): `count`, `mean`, `p50`, `p90`, `p95`, `p99`, `p999`, `max`.
/// - `lateness`: the same from when a request was due to when it was sent, and by cause `scheduler` (this program), `merged` (moved on purpose, to be sent
///   together with others), `dependency`, `connect` and `backlog`; `null` for a closed load.
/// - `retried`, `connections`, `bytes` (received).
/// - `cpu_seconds` (of the generator's thread), `cpu_per_request`, `generator_busy` (share of a core), `real_time`.
/// - `steal` (share of all cores; `null` if unknown) and `cores` (shares of each).
/// - `valid`: whether every second can be trusted (`null` if none was measured, or steal is unknown in one); `invalid_seconds`: `second` (from 0) and `reasons` (`behind`, `late`, `busy`,
///   `steal`, `connect_errors`).
/// - `left_out`: what `latency`, `service`, `first_byte`, `offered` and `throughput` do not contain, because of `late`, `busy` or `steal`:
///   `seconds` and the `latency` of their requests. Every other number contains every second. None are left out of a closed load, nor
///   where less than a second would be left.
/// - `slo`: `objective`, `measured` (`null` if no latency is bounded), `errors`, `met` (`null` if too little of the time can be trusted); `null` without `--slo`.
/// - `content`: `baselines`, `same`, `different`, `noise`, `unanswered`; `null` without `--baseline`.
/// - `series`: every second with `offered`, `sent`, `completed`, `failed`, `p50`, `p90`, `p99`, `max`, `lateness_p99`, `busy`, `steal` and
///   `valid` (both `null` if unknown), and `left_out`.
#[derive(Debug, Serialize)]
pub struct Summary<'a> {
    tuningfork_replay: u32,
    recording: &'a str,
    target: &'a str,
    load: &'a str,
    closed: bool,
    choices: &'a [String],
    started: f64,
    settled: f64,
    planned: u64,
    dropped: BTreeMap<&'static str, u64>,
    interrupted: bool,
    seconds: f64,
    elapsed: f64,
    requests: u64,
    completed: u64,
    unfinished: Unfinished,
    offered: f64,
    throughput: f64,
    errors: f64,
    errors_by_kind: BTreeMap<&'static str, u64>,
    first_connect_failure: Option<&'a str>,
    statuses: BTreeMap<String, u64>,
    latency: Quantiles,
    service: Quantiles,
    first_byte: Quantiles,
    lateness: Option<Lateness>,
    retried: u64,
    connections: u64,
    bytes: u64,
    cpu_seconds: f64,
    cpu_per_request: Option<f64>,
    generator_busy: f64,
    real_time: bool,
    steal: Option<f64>,
    cores: Vec<Core>,
    valid: Option<bool>,
    invalid_seconds: Vec<InvalidSecond>,
    left_out: LeftOut,
    slo: Option<Judged>,
    content: Option<Content>,
    series: Vec<Point>,
}

#[derive(Debug, Serialize)]
struct Unfinished {
    outstanding: u64,
    unsent: u64,
}

#[derive(Debug, Serialize)]
struct Quantiles {
    count: u64,
    mean: f64,
    p50: f64,
    p90: f64,
    p95: f64,
    p99: f64,
    p999: f64,
    max: f64,
}

#[derive(Debug, Serialize)]
struct Lateness {
    #[serde(flatten)]
    total: Quantiles,
    scheduler: Quantiles,
    merged: Quantiles,
    dependency: Quantiles,
    connect: Quantiles,
    backlog: Quantiles,
}

#[derive(Debug, Serialize)]
struct Core {
    cpu: u16,
    user: f64,
    system: f64,
    idle: f64,
    iowait: f64,
    irq: f64,
    steal: f64,
}

#[derive(Debug, Serialize)]
struct InvalidSecond {
    second: usize,
    reasons: Vec<&'static str>,
}

#[derive(Debug, Serialize)]
struct LeftOut {
    seconds: usize,
    latency: Quantiles,
}

#[derive(Debug, Serialize)]
struct Judged {
    #[serde(rename = "objective")]
    slo: String,
    measured: Option<f64>,
    errors: f64,
    met: Option<bool>,
}

#[derive(Debug, Serialize)]
struct Content {
    baselines: usize,
    same: u64,
    different: u64,
    noise: u64,
    unanswered: u64,
}

#[derive(Debug, Serialize)]
struct Point {
    offered: u64,
    sent: u64,
    completed: u64,
    failed: u64,
    p50: f64,
    p90: f64,
    p99: f64,
    max: f64,
    lateness_p99: f64,
    busy: f64,
    steal: Option<f64>,
    valid: Option<bool>,
    left_out: bool,
}

/// What `--json` writes of a replay.
#[must_use]
pub fn summary(replayed: &Replayed) -> Summary<'_> {
    let (setting, played) = (&replayed.setting, &replayed.played);
    let invalid_seconds: Vec<InvalidSecond> = replayed
        .invalid()
        .iter()
        .map(|invalid| InvalidSecond { second: invalid.second, reasons: invalid.doubts.iter().copied().map(reason).collect() })
        .collect();
    Summary {
        tuningfork_replay: 1,
        recording: &setting.recording,
        target: &setting.target,
        load: &setting.load,
        closed: replayed.is_closed(),
        choices: &setting.choices,
        started: setting.started.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64()),
        settled: setting.settled.as_secs_f64(),
        planned: setting.planned,
        dropped: setting.dropped.iter().map(|dropped| (dropped.key, dropped.count)).collect(),
        interrupted: replayed.interrupted,
        seconds: replayed.sending_seconds(),
        elapsed: played.elapsed.as_secs_f64(),
        requests: played.scheduled,
        completed: played.completed,
        unfinished: Unfinished { outstanding: played.unfinished.outstanding, unsent: played.unfinished.unsent },
        offered: played.offered.per_second(),
        throughput: played.achieved.per_second(),
        errors: replayed.error_share(),
        errors_by_kind: kinds(&played.errors).iter().map(|kind| (kind.key, kind.count)).collect(),
        first_connect_failure: played.first_connect_failure.as_deref(),
        statuses: (2..=5).map(|class| (format!("{class}xx"), played.statuses.class(class))).collect(),
        latency: quantiles(&played.latency),
        service: quantiles(&played.service),
        first_byte: quantiles(&played.first_byte),
        lateness: (!replayed.is_closed()).then(|| lateness(replayed)),
        retried: played.retried,
        connections: played.connections,
        bytes: played.bytes,
        cpu_seconds: played.cpu.as_secs_f64(),
        cpu_per_request: replayed.cpu_per_request(),
        generator_busy: replayed.generator_busy(),
        real_time: setting.priority == Priority::RealTime,
        steal: replayed.steal(),
        cores: cores(replayed),
        valid: replayed.is_valid(),
        invalid_seconds,
        left_out: LeftOut { seconds: played.left_out.seconds, latency: quantiles(&played.left_out.latency) },
        slo: objective(replayed),
        content: content(replayed),
        series: played.seconds.iter().map(point).collect(),
    }
}

const fn reason(doubt: Doubt) -> &'static str {
    match doubt {
        Doubt::Behind => "behind",
        Doubt::Late => "late",
        Doubt::Busy => "busy",
        Doubt::Steal => "steal",
        Doubt::ConnectErrors => "connect_errors",
    }
}

fn quantiles(latencies: &Latencies) -> Quantiles {
    let at = |quantile| latencies.quantile(quantile);
    Quantiles {
        count: latencies.count(),
        mean: latencies.mean(),
        p50: at(0.5),
        p90: at(0.9),
        p95: at(0.95),
        p99: at(0.99),
        p999: at(0.999),
        max: latencies.max(),
    }
}

fn lateness(replayed: &Replayed) -> Lateness {
    let lateness = &replayed.played.lateness;
    Lateness {
        total: quantiles(&lateness.total),
        scheduler: quantiles(&lateness.scheduler),
        merged: quantiles(&lateness.merged),
        dependency: quantiles(&lateness.dependency),
        connect: quantiles(&lateness.connect),
        backlog: quantiles(&lateness.backlog),
    }
}

fn cores(replayed: &Replayed) -> Vec<Core> {
    let core = |core: &crate::usage::CoreUse| Core {
        cpu: core.cpu,
        user: core.user,
        system: core.system,
        idle: core.idle,
        iowait: core.iowait,
        irq: core.irq,
        steal: core.steal,
    };
    replayed.host.cores.iter().map(core).collect()
}

fn objective(replayed: &Replayed) -> Option<Judged> {
    let verdict = replayed.verdict?;
    let (measured, errors, met) = (verdict.measured, verdict.errors, verdict.met);
    Some(Judged { slo: verdict.objective.to_string(), measured, errors, met })
}

fn content(replayed: &Replayed) -> Option<Content> {
    let found = replayed.comparison.as_ref()?;
    let (baselines, same, different) = (found.baselines, found.same, found.different);
    Some(Content { baselines, same, different, noise: found.noise, unanswered: found.unanswered })
}

fn point(second: &Second) -> Point {
    let [p50, p90, p99, max] = second.latency;
    Point {
        offered: second.offered,
        sent: second.sent,
        completed: second.completed,
        failed: second.failed,
        p50,
        p90,
        p99,
        max,
        lateness_p99: second.lateness_p99,
        busy: second.busy,
        steal: second.steal,
        valid: if doubts(second).next().is_none() { second.steal.map(|_| true) } else { Some(false) },
        left_out: second.left_out,
    }
}
