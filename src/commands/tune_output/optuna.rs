//! The trials as a file that Optuna opens by itself: `JournalStorage(JournalFileBackend(FILE))`, a JSON operation a line. Its samplers and
//! its dashboard then know what was measured here.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value, json};

use super::csv::flags;
use crate::config::Affinity;
use crate::study::{Candidate, Ending, Objective, Outcome, Report, Trial};
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
/// A dimension of some studies.
const AFFINITY: &str = "cpu_affinity";
/// Who is said to have run the trials.
const WORKER: &str = "tuningfork";

/// The study and its trials, each on a line.
#[must_use]
pub fn optuna(report: &Report, about: &About) -> String {
    let directions: &[u8] = match report.objective {
        Objective::Capacity => &[MAXIMIZE],
        Objective::Latency { .. } => &[MINIMIZE],
        Objective::Cost { .. } => &[MINIMIZE, MINIMIZE],
    };
    let name = format!("tuningfork {}", about.started).trim_end().to_owned();
    let mut lines =
        vec![json!({"op_code": CREATE_STUDY, "worker_id": WORKER, "study_name": name, "directions": directions}).to_string()];
    let distributions = distributions(report);
    // A journal tells how long trials took, and when the first began.
    let mut clock: Timestamp = about.started.parse().unwrap_or(Timestamp::UNIX_EPOCH);
    let attributes = serde_json::to_value(report.summary()).map(|mut summary| summary["trials"].take()).unwrap_or_default();
    for (index, trial) in report.trials.iter().enumerate() {
        let started = clock;
        let length = SignedDuration::try_from_secs_f64(trial.seconds()).unwrap_or(SignedDuration::ZERO);
        clock = clock.checked_add(length).unwrap_or(clock);
        let candidate = trial.suggestion.candidate;
        let values = values(report, trial);
        // One is a number, several are a list.
        let (value, values) = match values.as_deref() {
            Some([value]) => (Some(*value), None),
            several => (None, several),
        };
        let line = json!({
            "op_code": CREATE_TRIAL,
            "worker_id": WORKER,
            "study_id": 0,
            "datetime_start": naive(started),
            "datetime_complete": naive(clock),
            "state": state(trial, value.is_some() || values.is_some()),
            "value": value,
            "values": values,
            "distributions": distributions,
            "params": params(candidate),
            "user_attrs": plain(trial, &attributes[index]),
            "system_attrs": {},
            "intermediate_values": {},
        });
        lines.push(line.to_string());
    }
    lines.join("\n") + "\n"
}

/// As Optuna's own are: without a zone, which `fromisoformat` of Python 3.9 and 3.10 does not read either.
fn naive(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S%.6f").to_string()
}

/// How Optuna would call what came of a trial. It has no word for a challenge: what did not give a value was pruned, which its samplers
/// take for bad. What says nothing of its configuration failed, which they pass over.
fn state(trial: &Trial, has_value: bool) -> u8 {
    match (&trial.outcome, has_value) {
        (Outcome::Failed { .. }, _) => FAIL,
        (Outcome::Measured(found), _) if found.is_void() => FAIL,
        (Outcome::Measured(_) | Outcome::Challenged(_), true) => COMPLETE,
        (Outcome::Measured(_) | Outcome::Challenged(_), false) => PRUNED,
    }
}

/// What the objective compares: requests a second; seconds; or cores and bytes, of which Optuna cannot be told that cores come first. What
/// crashed has none, however much it held: Optuna would call it the best.
fn values(report: &Report, trial: &Trial) -> Option<Vec<f64>> {
    let found = trial.measurement().filter(|found| !matches!(found.ending, Ending::Outclassed(_)) && !found.is_void())?;
    let usable = found.is_usable();
    match report.objective {
        Objective::Capacity => (usable || found.capacity <= 0.0).then(|| vec![found.capacity]),
        Objective::Latency { .. } => Some(vec![found.bounded.filter(|_| usable)?]),
        Objective::Cost { .. } => {
            let merit = report.objective.merit(found, trial.suggestion.candidate, report.space.cores).filter(|_| usable)?;
            Some(vec![merit.recip(), found.memory_bytes? as f64])
        }
    }
}

/// The configuration, a categorical number as its place among the choices.
fn params(candidate: Candidate) -> Value {
    let mut params = json!({"workers": candidate.workers.get(), "connections": candidate.connections.get()});
    if let Some(affinity) = candidate.affinity {
        params[AFFINITY] = Affinity::ALL.iter().position(|one| *one == affinity).into();
    }
    params
}

/// Whole numbers on a logarithmic axis and names, each as JSON in a string.
fn distributions(report: &Report) -> Value {
    let tried = || report.trials.iter().map(|trial| trial.suggestion.candidate);
    let workers = tried().map(|candidate| candidate.workers).chain([report.space.max_workers]).max().map(Workers::get);
    let connections = tried().map(|candidate| candidate.connections).chain([report.space.max_connections]).max();
    let axis = |high: u32| {
        json!({"name": "IntDistribution", "attributes": {"log": true, "step": 1, "low": 1, "high": high}}).to_string()
    };
    let mut distributions = json!({
        "workers": axis(workers.unwrap_or(1).into()),
        "connections": axis(connections.map_or(1, Connections::get)),
    });
    if report.space.affinity.is_some() {
        let choices = Affinity::ALL.map(Affinity::name);
        distributions[AFFINITY] =
            json!({"name": "CategoricalDistribution", "attributes": {"choices": choices}}).to_string().into();
    }
    distributions
}

/// What a table can show of a trial: numbers and words; its flags as one text, as in the CSV file.
fn plain(trial: &Trial, attributes: &Value) -> Map<String, Value> {
    let all = attributes.as_object().into_iter().flatten();
    let short = all.filter(|(_, value)| !value.is_array() && !value.is_object() && !value.is_null());
    let mut plain: Map<String, Value> = short.map(|(name, value)| (name.clone(), value.clone())).collect();
    if !trial.flags().is_empty() {
        plain.insert("flags".to_owned(), flags(trial).into());
    }
    plain
}
