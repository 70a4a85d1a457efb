//! The page about `tune --json` tells every key and every word that there can be, and none that there is not.

// By path, as tests/it reads the page in the same way.
#[path = "../../../../tests/it/support/keys.rs"]
mod keys;

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::iter::successors;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::*;
use crate::config::Affinity;
use crate::stats::{Interval, Latencies, PackedLatencies};
use crate::study::certificate::Certificate;
use crate::study::drift::Drift;
use crate::study::report::{Accident, Rule, Side, TooLarge, Unstable};
use crate::study::simulation::{APPS, studied};
use crate::study::{
    Binding, Candidate, Cause, Challenged, CoreShare, Ending, Evidence, Flag, Label, LightNote, Measurement, Objective, Outcome,
    Pace, ProbeNote, Purpose, Shown, Stop, Suggestion, Task, Trial,
};
use crate::units::{Connections, Workers};

const PAGE: &str = include_str!("../../../../docs/tune-json.md");
const INTERVAL: Interval = Interval { value: 2.0, low: 1.0, high: 3.0 };

fn candidate() -> Candidate {
    let numbers = Candidate::new(Workers::new(2).unwrap(), Connections::new(10).unwrap());
    Candidate { affinity: Some(Affinity::Pin), ..numbers }
}

fn probe(held: bool) -> ProbeNote {
    let latencies = Some(PackedLatencies::of(&Latencies::new()));
    ProbeNote { rate: 100.0, held, why: (!held).then(|| "too slow".to_owned()), latencies }
}

/// One that has everything a trial can find, a challenge, and a failure.
fn trials() -> Vec<Trial> {
    let light = LightNote { throughput: 10.0, latencies: PackedLatencies::of(&Latencies::new()) };
    let measured = Measurement {
        ending: Ending::Outclassed(9.0),
        errors_by_kind: [("timeout".to_owned(), 3)].into(),
        cores: vec![CoreShare::default()],
        light: Some(light),
        probes: vec![probe(true), probe(false)],
        flags: vec![Flag::FewRequests],
        ..Measurement::of_capacity(100.0)
    };
    let challenged = Challenged {
        holds: false,
        why: Some("too slow".to_owned()),
        seconds: 8.0,
        flags: vec![Flag::Steal],
        probes: vec![probe(false)],
        memory_bytes: Some(1),
    };
    let failed = Outcome::Failed { reason: "no module named shop".to_owned(), seconds: 1.0 };
    let suggestion =
        Suggestion { candidate: candidate(), purpose: Purpose::Jump, task: Task::Measure, expected: None, rival: None };
    let outcomes = [Outcome::Measured(Box::new(measured)), Outcome::Challenged(challenged), failed];
    outcomes.map(|outcome| Trial { suggestion, outcome }).into()
}

/// A report in which nothing is absent.
fn report(objective: Objective, cause: Cause) -> Report {
    let base = Report::new(&studied(&APPS[1], Pace::Quick, 2), Stop::Converged);
    let candidate = candidate();
    let side = || Side {
        candidate,
        capacity: Some(INTERVAL),
        amount: Some(INTERVAL),
        measurement: None,
        curve: base.baseline.curve.clone(),
    };
    let shown = Shown { trial: 1, candidate, capacity: 100.0, utilisation: 0.5 };
    // Every field by name: one that is new has to be thought of here.
    Report {
        recommended: Some(candidate),
        baseline: side(),
        best: Some(side()),
        outcome: base.outcome,
        ratio: Some(INTERVAL),
        rule: Some(Rule { candidate, amount: Some(INTERVAL), is_unmet: false, ratio: Some(INTERVAL) }),
        confirmed: base.confirmed,
        spoilt: base.spoilt,
        doubts: base.doubts,
        unstable: vec![Unstable { candidate, least: 1.0, most: 2.0 }],
        accidents: vec![Accident { candidate, trial: 3, boots: 4, amount: 1.0 }],
        too_large: vec![TooLarge { candidate, memory_bytes: 1 }],
        failures: base.failures,
        missing_pairs: base.missing_pairs,
        pairs: base.pairs,
        candidates: base.candidates,
        binding: Some(Binding {
            label: Label::Other,
            cause: Some(cause),
            evidence: Some(Evidence { fewer: shown, more: shown }),
        }),
        certificate: Certificate {
            given: false,
            share: Some(0.9),
            least: Some(0.8),
            margin: Some(0.25),
            bound: Some(100.0),
            interval: Some(INTERVAL),
            crowded: Some(1.1),
            reason: Some("not measured".to_owned()),
        },
        nearest: base.nearest,
        trials: trials(),
        slo: base.slo,
        cores: base.cores,
        space: base.space,
        objective,
        map: base.map,
        drift: Some(Drift { candidate, least: 0.01, most: 0.02 }),
        stop: base.stop,
    }
}

/// Every cause that a study can name.
fn causes() -> impl Iterator<Item = Cause> {
    let after = |cause: &Cause| match cause {
        Cause::Disk(_) => Some(Cause::Bound(0.6)),
        Cause::Bound(_) => Some(Cause::Queue { light: 0.04, loaded: 0.4 }),
        Cause::Queue { .. } => None,
    };
    successors(Some(Cause::Disk(0.3)), after)
}

fn objectives() -> [Objective; 3] {
    let at = Rate::new(100.0).unwrap();
    [Objective::Capacity, Objective::Latency { at }, Objective::Cost { at }]
}

/// What is written for a report of each objective and each cause.
fn results() -> Vec<String> {
    let about = About {
        coverage: Some(Coverage { requests: 9, different: 2, routes: 1, commonest: "GET /".to_owned(), of_commonest: 9 }),
        ..About::default()
    };
    let reports = objectives().into_iter().flat_map(|objective| causes().map(move |cause| report(objective, cause)));
    reports.map(|report| serde_json::to_string(&Json::of(&report, &about)).unwrap()).collect()
}

#[test]
fn every_key_of_a_result_is_told_and_every_key_that_is_told_exists() {
    let told = keys::documented(PAGE);
    let found: BTreeSet<String> =
        results().iter().flat_map(|result| keys::paths(&serde_json::from_str(result).unwrap())).collect();
    let untold: Vec<&String> = found.iter().filter(|path| !told.iter().any(|key| keys::is(path, key))).collect();
    let invented: Vec<&String> = told.iter().filter(|key| !found.iter().any(|path| keys::is(path, key))).collect();
    assert!(untold.is_empty() && invented.is_empty(), "untold: {untold:?}, invented: {invented:?}");
}

#[test]
fn no_object_has_a_key_twice() {
    for result in results() {
        // Of two equal keys one is lost when it is read.
        let read: Value = serde_json::from_str(&result).unwrap();
        assert_eq!(read.to_string().len(), result.len(), "{result}");
    }
}

/// The words that a type is written with. What refuses a word that is none of them lists them all.
fn words<T: DeserializeOwned + Debug>() -> BTreeSet<String> {
    let refusal = serde_json::from_str::<T>("\"?\"").unwrap_err().to_string();
    let quoted: BTreeSet<String> = refusal.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    assert!(quoted.len() > 2 && quoted.contains("?"), "{refusal}");
    quoted.into_iter().filter(|word| word != "?").collect()
}

/// The rows of the table of words that are about `key`: word and meaning.
fn told(key: &str) -> Vec<(String, &'static str)> {
    let opening = format!("| `{key}` | `");
    let rows = PAGE.lines().filter_map(|row| row.strip_prefix(&opening));
    rows.filter_map(|row| row.split_once("` | ")).map(|(word, meaning)| (word.to_owned(), meaning)).collect()
}

#[test]
fn every_word_of_a_result_is_told_and_every_word_that_is_told_exists() {
    let read = |word: &str| serde_json::from_value::<Purpose>(word.into()).unwrap();
    let reasons = words::<Purpose>().iter().map(|word| read(word).word().to_owned()).collect();
    let all = [
        ("objective", words::<Objective>()),
        ("trials[].purpose", words::<Task>()),
        ("trials[].why", reasons),
        ("trials[].label", words::<Label>()),
        ("trials[].ending", words::<Ending>()),
        ("trials[].flags", words::<Flag>()),
    ];
    for (key, words) in all {
        let told: BTreeSet<String> = told(key).into_iter().map(|(word, _)| word).collect();
        assert_eq!(told, words, "{key}");
    }
}

#[test]
fn what_makes_a_trial_invalid_is_told() {
    let flags = told("trials[].flags");
    assert!(!flags.is_empty());
    for (word, meaning) in flags {
        let flag: Flag = serde_json::from_value(word.as_str().into()).unwrap();
        assert_eq!(meaning.contains("not `valid`"), flag.voids(), "{word}");
    }
}
