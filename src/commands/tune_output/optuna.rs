//! The trials as a file that Optuna opens by itself: `JournalStorage(JournalFileBackend(FILE))`, a JSON operation a line. Its samplers and
//! its dashboard then know what was measured here.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use crate::study::{Objective, Outcome, Report, Trial};
use crate::tune::About;
use crate::units::{Connections, Workers};

/// Optuna's `JournalOperation`.
const CREATE_STUDY: u8 = 0;
const CREATE_TRIAL: u8 = 4;
/// Its `StudyDirection`.
const MINIMIZE: u8 = 1;
const MAXIMIZE: u8 = 2;
/// Its `TrialState`.
const COMPLETE: u8 = 1;
const PRUNED: u8 = 2;
const FAIL: u8 = 3;
/// Who is said to have run the trials.
const WORKER: &str = "tuningfork";

/// The study and its trials, each on a line.
#[must_use]
pub fn optuna(report: &Report, about: &About) -> String {
    let direction = match report.objective {
        Objective::Capacity => MAXIMIZE,
        Objective::Latency { .. } | Objective::Cost { .. } => MINIMIZE,
    };
    let name = format!("tuningfork {}", about.started).trim_end().to_owned();
    let mut lines =
        vec![json!({"op_code": CREATE_STUDY, "worker_id": WORKER, "study_name": name, "directions": [direction]}).to_string()];
    let distributions = distributions(report);
    // A journal tells how long trials took, and when the first began.
    let mut clock: Timestamp = about.started.parse().unwrap_or(Timestamp::UNIX_EPOCH);
    let attributes = serde_json::to_value(report.summary()).map(|mut summary| summary["trials"].take()).unwrap_or_default();
    for (index, trial) in report.trials.iter().enumerate() {
        let started = clock;
        let length = SignedDuration::try_from_secs_f64(trial.seconds()).unwrap_or(SignedDuration::ZERO);
        clock = clock.checked_add(length).unwrap_or(clock);
        let candidate = trial.suggestion.candidate;
        let (state, value) = outcome(report.objective, trial);
        let line = json!({
            "op_code": CREATE_TRIAL,
            "worker_id": WORKER,
            "study_id": 0,
            "datetime_start": started.to_string(),
            "datetime_complete": clock.to_string(),
            "state": state,
            "value": value,
            "values": null,
            "distributions": distributions,
            "params": {"workers": candidate.workers.get(), "connections": candidate.connections.get()},
            "user_attrs": plain(&attributes[index]),
            "system_attrs": {},
            "intermediate_values": {},
        });
        lines.push(line.to_string());
    }
    lines.join("\n") + "\n"
}

/// How Optuna would call what came of a trial. It has no word for a challenge: what did not give a value was pruned.
fn outcome(objective: Objective, trial: &Trial) -> (u8, Option<f64>) {
    let found = match &trial.outcome {
        Outcome::Measured(found) => found,
        Outcome::Challenged(_) => return (PRUNED, None),
        Outcome::Failed { .. } => return (FAIL, None),
    };
    let value = match objective {
        Objective::Capacity => Some(found.capacity),
        Objective::Latency { .. } => found.bounded.filter(|_| found.is_usable()),
        Objective::Cost { .. } => found.memory_bytes.map(|bytes| bytes as f64).filter(|_| found.is_usable()),
    };
    let pursued = !matches!(found.ending, crate::study::Ending::Outclassed(_));
    if pursued && value.is_some() { (COMPLETE, value) } else { (PRUNED, None) }
}

/// Whole numbers on a logarithmic axis, each as JSON in a string.
fn distributions(report: &Report) -> Value {
    let tried = || report.trials.iter().map(|trial| trial.suggestion.candidate);
    let workers = tried().map(|candidate| candidate.workers).chain([report.space.max_workers]).max().map(Workers::get);
    let connections = tried().map(|candidate| candidate.connections).chain([report.space.max_connections]).max();
    let axis = |high: u32| {
        json!({"name": "IntDistribution", "attributes": {"log": true, "step": 1, "low": 1, "high": high}}).to_string()
    };
    json!({
        "workers": axis(workers.unwrap_or(1).into()),
        "connections": axis(connections.map_or(1, Connections::get)),
    })
}

/// What a table can show of a trial.
fn plain(attributes: &Value) -> Map<String, Value> {
    let all = attributes.as_object().into_iter().flatten();
    let short = all.filter(|(_, value)| !value.is_array() && !value.is_object() && !value.is_null());
    short.map(|(name, value)| (name.clone(), value.clone())).collect()
}
