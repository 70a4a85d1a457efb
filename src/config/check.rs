//! From what was written to what is true: numbers in their ranges, spans of time, defaults, and keys that must agree.

use std::ops::RangeInclusive;
use std::time::Duration;

use toml::Spanned;

use super::keys::{self, Key};
use super::problem::{Problems, quote};
use super::raw::RawConfig;
use super::reader::NumberOrText;
use super::{
    App, CommandApp, Config, Origin, Readiness, Surroundings, Timing, app, care, confinement, control, hooks, listen, log,
};
use crate::units::{Connections, Workers};

const DEFAULT_CONNECTIONS: u32 = 100;
const DEFAULT_GRACEFUL_TIMEOUT: Duration = Duration::from_secs(30);
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
const DEFAULT_BOOT_TIMEOUT: Duration = Duration::from_mins(1);
/// Longer waits are mistakes of unit.
pub(super) const LONGEST: Duration = Duration::from_hours(24);
/// The environment variable that hosting platforms set (Gunicorn, settings, `workers`).
const WEB_CONCURRENCY: &str = "WEB_CONCURRENCY";
/// How often Gunicorn's worker classes show that they live.
const PYTHON_HEARTBEAT: Duration = Duration::from_secs(1);
const OUT_OF_RANGE: &str = "is out of range";

/// The configuration, or `None` if anything in it is wrong. Every mistake is added to `problems`.
pub(super) fn config(raw: &RawConfig, surroundings: &Surroundings, problems: &mut Problems<'_>) -> Option<Config> {
    let timing = timing(raw, problems);
    let app = app::check(raw.app.as_ref(), surroundings, problems);
    let care = care::check(&raw.care, app.as_ref(), problems);
    let confinement = confinement::check(raw.app.as_ref(), &raw.limits, problems);
    let hooks = hooks::check(&raw.hooks, problems);
    let counted = workers(raw.workers.as_ref(), surroundings, problems);
    let connections = connections(raw.connections.as_ref(), app.as_ref(), problems);
    let listen = listen::check(&raw.listen, surroundings, problems);
    let metrics = match &raw.metrics {
        Some(raw) => listen::check_metrics(raw, listen.as_ref(), surroundings, problems).map(Some),
        None => Some(None),
    };
    let pidfile = match &raw.pidfile {
        Some(written) => app::path(written, &keys::PIDFILE, &surroundings.directory, problems).map(Some),
        None => Some(None),
    };
    let metrics_address = metrics.iter().flatten().map(|metrics| &metrics.listen).next();
    let log = log::check(&raw.log, surroundings, problems);
    let control = match &raw.control {
        Some(raw) => control::check(raw, listen.as_ref(), metrics_address, surroundings, problems).map(Some),
        None => Some(None),
    };
    match (&app, &timing) {
        (Some(App::Command(app)), Some(timing)) => check_agreement(raw, app, timing, problems),
        (Some(App::Python(_)), Some(timing)) => check_heartbeat(raw, timing, problems),
        (_, None) | (None, _) => {}
    }
    Some(Config {
        app: app?,
        listen: listen?,
        workers: counted?.0,
        workers_from: counted?.1,
        connections: connections?,
        timing: timing?,
        care,
        confinement,
        hooks,
        pidfile: pidfile?,
        metrics: metrics?,
        control: control?,
        log: log?,
    })
}

/// Gunicorn's workers turn their loops once a second; a shorter patience would end healthy ones.
fn check_heartbeat(raw: &RawConfig, timing: &Timing, problems: &mut Problems<'_>) {
    let written = raw.timeout.as_ref().filter(|_| !timing.timeout.is_zero() && timing.timeout < PYTHON_HEARTBEAT * 2);
    if let Some(written) = written {
        let message = "is shorter than two heartbeats of a Python worker, which come about every second".to_owned();
        problems.at(written.span(), &keys::TIMEOUT, message, "write 2 or more, or 0 for no limit");
    }
}

/// The readiness must come before the patience ends.
fn check_agreement(raw: &RawConfig, app: &CommandApp, timing: &Timing, problems: &mut Problems<'_>) {
    let Readiness::Alive(wait) = app.readiness else { return };
    let readiness = raw.app.as_ref().and_then(|app| app.readiness.as_ref());
    if let Some(written) = readiness.filter(|_| wait >= timing.boot_timeout) {
        let boot_timeout = humantime::format_duration(timing.boot_timeout);
        let message = format!("no worker would become ready: boot-timeout ends it after {boot_timeout}");
        problems.at(written.span(), &keys::READINESS, message, "write a shorter span, or a longer boot-timeout");
    }
}

fn workers(
    raw: Option<&Spanned<NumberOrText>>,
    surroundings: &Surroundings,
    problems: &mut Problems<'_>,
) -> Option<(Workers, Origin)> {
    if let Some(written) = raw {
        let refusal = match written.get_ref() {
            NumberOrText::Number(number) => match u32::try_from(*number).ok().and_then(Workers::new) {
                Some(workers) => return Some((workers, Origin::File)),
                None => format!("{number} {OUT_OF_RANGE}"),
            },
            NumberOrText::Text(word) if word == "auto" => return automatic_workers(surroundings, problems),
            NumberOrText::Text(word) => format!("{} is not a number of workers", quote(word)),
        };
        problems.at(written.span(), &keys::WORKERS, refusal, keys::WORKERS.hint());
        return None;
    }
    automatic_workers(surroundings, problems)
}

/// What holds where the file leaves the number open. An empty variable counts as unset.
fn automatic_workers(surroundings: &Surroundings, problems: &mut Problems<'_>) -> Option<(Workers, Origin)> {
    let Some(value) = surroundings.web_concurrency.as_deref().map(str::trim).filter(|value| !value.is_empty()) else {
        return Some((surroundings.machine.workers(), Origin::Auto(surroundings.machine)));
    };
    let workers = value.parse().ok().and_then(Workers::new);
    if workers.is_none() {
        let message = format!("{} is not a number of workers", quote(value));
        let hint = format!("set it to a whole number from 1 to {}, unset it, or write workers in the file", Workers::MAX);
        problems.in_environment(WEB_CONCURRENCY, message, hint);
    }
    workers.map(|workers| (workers, Origin::WebConcurrency))
}

fn connections(raw: Option<&Spanned<i64>>, app: Option<&App>, problems: &mut Problems<'_>) -> Option<Connections> {
    let collapses = app.is_some_and(App::collapses_connections);
    let Some(written) = raw else {
        return if collapses { Some(Connections::ONE) } else { Connections::new(DEFAULT_CONNECTIONS) };
    };
    let number = *written.get_ref();
    if collapses && number != 1 {
        let message = format!("is {number}, but a sync worker serves one request at a time");
        let hint = r#"remove it, or write worker-class = "gthread", "gevent" or "asgi" under [app]"#;
        problems.at(written.span(), &keys::CONNECTIONS, message, hint);
        return None;
    }
    let connections = u32::try_from(number).ok().and_then(Connections::new);
    if connections.is_none() {
        problems.at(written.span(), &keys::CONNECTIONS, format!("{number} {OUT_OF_RANGE}"), keys::CONNECTIONS.hint());
    }
    connections
}

fn timing(raw: &RawConfig, problems: &mut Problems<'_>) -> Option<Timing> {
    let positive = positive_spans();
    let any = Duration::ZERO..=LONGEST;
    let mut or = |raw: &Option<Spanned<NumberOrText>>, key, range, default| match raw {
        Some(written) => span(written, key, range, problems),
        None => Some(default),
    };
    let graceful_timeout = or(&raw.graceful_timeout, &keys::GRACEFUL_TIMEOUT, &positive, DEFAULT_GRACEFUL_TIMEOUT);
    let timeout = or(&raw.timeout, &keys::TIMEOUT, &any, DEFAULT_TIMEOUT);
    let boot_timeout = or(&raw.boot_timeout, &keys::BOOT_TIMEOUT, &positive, DEFAULT_BOOT_TIMEOUT);
    Some(Timing { graceful_timeout: graceful_timeout?, timeout: timeout?, boot_timeout: boot_timeout? })
}

/// A span of time: whole seconds, as Gunicorn has it, or a text such as "1m 30s".
pub(super) fn span(
    written: &Spanned<NumberOrText>,
    key: &'static Key,
    range: &RangeInclusive<Duration>,
    problems: &mut Problems<'_>,
) -> Option<Duration> {
    let (shown, span) = match written.get_ref() {
        NumberOrText::Number(seconds) => {
            (seconds.to_string(), u64::try_from(*seconds).map_err(|_| OUT_OF_RANGE).map(Duration::from_secs))
        }
        NumberOrText::Text(text) => (quote(text), humantime::parse_duration(text).map_err(|_| "is not a span of time")),
    };
    match span.and_then(|span| if range.contains(&span) { Ok(span) } else { Err(OUT_OF_RANGE) }) {
        Ok(span) => Some(span),
        Err(wrong) => {
            problems.at(written.span(), key, format!("{shown} {wrong}"), key.hint());
            None
        }
    }
}

/// The spans that most keys accept.
pub(super) const fn positive_spans() -> RangeInclusive<Duration> {
    Duration::from_nanos(1)..=LONGEST
}
