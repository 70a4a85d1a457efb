//! What is asked of a trial program, and what its answers mean: one JSON object each. Refuses answers that are none, and numbers that cannot be;
//! a rate whose own numbers are beyond the objective was not held, whatever the program calls it.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::printable::printable;
use crate::study::{Challenged, Ending, Measurement, Miss, Outcome, Pace, ProbeNote, Quantile, Slo, Suggestion, Task};

/// The version of the protocol.
const PROTOCOL: u32 = 1;
/// What counts as a number of requests a second, of seconds, of bytes at most: anything above is a mistake.
const MOST_RATE: f64 = 1e9;
const MOST_SECONDS: f64 = 1e9;
const MOST_BYTES: f64 = 1e15;
const MOST_CORES: f64 = 65_535.0;
/// Shares are counted by different clocks: so far above 1 they are taken for 1.
const SHARE_SLACK: f64 = 1.1;
/// From where on a number is shown with its exponent.
const LONG: f64 = 1e9;
/// How much of an answer that is none is shown.
const SHOWN: usize = 120;

/// One trial, as the program reads it.
#[derive(Debug, Serialize)]
pub(super) struct Request<'a> {
    protocol: u32,
    trial: usize,
    purpose: &'static str,
    workers: u16,
    connections: u32,
    cores: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate: Option<f64>,
    seconds: u32,
    slo: &'a Slo,
}

impl<'a> Request<'a> {
    /// The question that `suggestion` is; `None` for a task the protocol does not know.
    pub(super) fn new(trial: usize, suggestion: &Suggestion, cores: u16, pace: Pace, slo: &'a Slo) -> Option<Self> {
        let task = suggestion.task;
        if matches!(task, Task::Serve { .. }) {
            return None;
        }
        let (workers, connections) = (suggestion.candidate.workers.get(), suggestion.candidate.connections.get());
        Some(Self {
            protocol: PROTOCOL,
            trial,
            purpose: task.word(),
            workers,
            connections,
            cores,
            rate: task.rate(),
            seconds: seconds(pace, task, slo),
            slo,
        })
    }

    /// How long the trial should take, seconds.
    pub(super) const fn seconds(&self) -> u32 {
        self.seconds
    }
}

/// How long a trial of the program is meant to take: a challenge as long as our probe, a search about as long as all of ours.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "minutes at most")]
fn seconds(pace: Pace, task: Task, slo: &Slo) -> u32 {
    let usual = match (pace, task) {
        (Pace::Normal, Task::Measure | Task::Serve { .. }) => 45.0,
        (Pace::Normal, Task::Challenge { .. }) => 8.0,
        (Pace::Quick, Task::Measure | Task::Serve { .. }) => 10.0,
        (Pace::Quick, Task::Challenge { .. }) => 3.0,
    };
    (usual * pace.stretch(slo)).round() as u32
}

/// Why an answer gives no result.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub(super) enum Refusal {
    /// The program says that it could not do the trial, and perhaps what that cost.
    #[error("{reason}")]
    Told { reason: String, seconds: Option<f64> },
    /// It is not one JSON object, or a value has the wrong type.
    #[error("the answer `{shown}` cannot be read: {reason}")]
    Unreadable { shown: String, reason: String },
    /// What was asked for is not there.
    #[error("the answer `{0}` has no \"capacity\"")]
    NoCapacity(String),
    /// Neither is there.
    #[error("the answer `{0}` has neither \"holds\" nor \"capacity\"")]
    NeitherHoldsNorCapacity(String),
    /// A number that cannot be.
    #[error("{value} is no value of \"{key}\": {wanted}")]
    Impossible { key: &'static str, value: String, wanted: &'static str },
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Reply {
    error: Option<Value>,
    holds: Option<bool>,
    capacity: Option<f64>,
    throughput: Option<f64>,
    p50: Option<f64>,
    p90: Option<f64>,
    p95: Option<f64>,
    p99: Option<f64>,
    max: Option<f64>,
    errors: Option<f64>,
    cpu_seconds_per_request: Option<f64>,
    utilisation: Option<f64>,
    worker_busy: Option<f64>,
    slots_busy: Option<f64>,
    time_in_worker: Option<f64>,
    memory_bytes: Option<f64>,
    seconds: Option<f64>,
}

/// The outcome that the answer `line` to `task` tells. A trial that does not say what it cost took `elapsed` seconds.
pub(super) fn outcome(line: &[u8], task: Task, slo: &Slo, elapsed: f64) -> Result<Outcome, Refusal> {
    let unreadable = |reason: String| Refusal::Unreadable { shown: shown(line), reason };
    if line.trim_ascii_start().first() != Some(&b'{') {
        return Err(unreadable("it must be one JSON object; what else there is to say belongs on standard error".to_owned()));
    }
    let reply: Reply = serde_json::from_slice(line).map_err(|error| unreadable(error.to_string()))?;
    let seconds = within("seconds", reply.seconds, MOST_SECONDS, "seconds from 0 to 1e9")?;
    if let Some(reason) = reply.told() {
        return Err(Refusal::Told { reason, seconds });
    }
    let seconds = seconds.unwrap_or(elapsed);
    match (task, reply.holds, reply.capacity) {
        (Task::Challenge { .. }, Some(holds), _) => {
            // Numbers that cannot be are refused here too.
            reply.measurement(0.0, slo, seconds)?;
            let miss = reply.miss(slo);
            let why = miss.map(|miss| miss.words().to_owned());
            Ok(Outcome::Challenged(Challenged { why, ..Challenged::new(holds && miss.is_none(), seconds) }))
        }
        (Task::Challenge { .. }, None, None) => Err(Refusal::NeitherHoldsNorCapacity(shown(line))),
        (Task::Measure | Task::Serve { .. }, _, None) => Err(Refusal::NoCapacity(shown(line))),
        (_, _, Some(capacity)) => reply.measurement(capacity, slo, seconds).map(|found| Outcome::Measured(Box::new(found))),
    }
}

/// What a program that failed says about it in its last line, if that is an answer.
pub(super) fn told(line: &[u8]) -> Option<String> {
    serde_json::from_slice::<Reply>(line).ok()?.told()
}

impl Reply {
    fn told(&self) -> Option<String> {
        match self.error.as_ref()? {
            Value::Null => None,
            Value::String(text) => Some(cut(text)),
            other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => Some(cut(&other.to_string())),
        }
    }

    fn measurement(&self, capacity: f64, slo: &Slo, seconds: f64) -> Result<Measurement, Refusal> {
        let rate = |key, value| within(key, value, MOST_RATE, "requests a second from 0 to 1e9");
        let time = |key, value| within(key, value, MOST_SECONDS, "seconds from 0 to 1e9");
        let share = |key, value| {
            within(key, value, SHARE_SLACK, "a share of 1, so 0.94 for 94 %").map(|share| share.map(|share| share.min(1.0)))
        };
        let told = rate("capacity", Some(capacity))?.unwrap_or(0.0);
        let miss = self.miss(slo).filter(|_| told > 0.0);
        let missed = miss.map(|miss| ProbeNote { rate: told, held: false, why: Some(miss.words().to_owned()), latencies: None });
        let throughput = rate("throughput", self.throughput)?.unwrap_or(told);
        if told > 0.0 && miss.is_none() && throughput <= 0.0 {
            let wanted = "above 0 where \"capacity\" is, or left out";
            return Err(Refusal::Impossible { key: "throughput", value: throughput.to_string(), wanted });
        }
        let cpu_seconds_per_request = time("cpu_seconds_per_request", self.cpu_seconds_per_request)?;
        let errors = share("errors", self.errors)?;
        let found = Measurement::of_capacity(if miss.is_some() { 0.0 } else { told });
        Ok(Measurement {
            ending: if errors == Some(1.0) { Ending::OnlyErrors } else { found.ending },
            throughput,
            p50: time("p50", self.p50)?,
            p90: time("p90", self.p90)?,
            p99: time("p99", self.p99)?,
            max: time("max", self.max)?,
            bounded: time(slo.quantile().name(), self.bounded(slo))?,
            errors,
            utilisation: share("utilisation", self.utilisation)?,
            workers_cpu: cpu_seconds_per_request.map(|each| each * throughput),
            cpu_seconds_per_request,
            time_in_worker: time("time_in_worker", self.time_in_worker)?,
            worker_busy: within(
                "worker_busy",
                self.worker_busy,
                MOST_CORES,
                "cores that a worker keeps busy, so 0.94 for 94 % of one",
            )?,
            slots_busy: share("slots_busy", self.slots_busy)?,
            memory_bytes: within("memory_bytes", self.memory_bytes, MOST_BYTES, "bytes from 0 to 1e15")?.map(whole),
            seconds,
            probes: missed.into_iter().collect(),
            ..found
        })
    }

    /// The latency that `slo` bounds.
    const fn bounded(&self, slo: &Slo) -> Option<f64> {
        match slo.quantile() {
            Quantile::P50 => self.p50,
            Quantile::P90 => self.p90,
            Quantile::P95 => self.p95,
            Quantile::P99 => self.p99,
            Quantile::Max => self.max,
        }
    }

    /// Which bound its own numbers are beyond.
    fn miss(&self, slo: &Slo) -> Option<Miss> {
        if self.errors.is_some_and(|share| share > slo.error_share()) {
            Some(Miss::Errors)
        } else if self.bounded(slo).is_some_and(|seconds| seconds > slo.latency().as_secs_f64()) {
            Some(Miss::Late)
        } else {
            None
        }
    }
}

fn within(key: &'static str, value: Option<f64>, most: f64, wanted: &'static str) -> Result<Option<f64>, Refusal> {
    match value {
        Some(value) if !(0.0..=most).contains(&value) => {
            let value = if value.abs() < LONG { value.to_string() } else { format!("{value:e}") };
            Err(Refusal::Impossible { key, value, wanted })
        }
        possible => Ok(possible),
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "from 0 to MOST_BYTES")]
fn whole(bytes: f64) -> u64 {
    bytes as u64
}

fn shown(line: &[u8]) -> String {
    cut(String::from_utf8_lossy(line).trim())
}

/// The beginning of a text in a line that a terminal can show.
fn cut(text: &str) -> String {
    let mut beginning = printable(&text.chars().take(SHOWN).collect::<String>());
    if text.chars().nth(SHOWN).is_some() {
        beginning.push('…');
    }
    beginning
}

#[cfg(test)]
mod tests;
