//! What `--json` writes of a report. Its keys are stable: other programs read them.

use serde::Serialize;

use super::{Accident, Report, Rule, Side, TooLarge, Unstable};
use crate::stats::Interval;
use crate::study::certificate::Certificate;
use crate::study::confirm::Outcome as DuelOutcome;
use crate::study::drift::Drift;
use crate::study::{Binding, Candidate, Challenged, Flag, Label, Measurement, Objective, Outcome, ProbeNote, Slo, Trial};

impl Report {
    /// What `--json` writes.
    #[must_use]
    pub fn summary(&self) -> Summary<'_> {
        Summary {
            recommended: self.recommended,
            objective: self.objective,
            baseline: SideSummary::of(self.objective, &self.baseline),
            best: self.best.as_ref().map(|side| SideSummary::of(self.objective, side)),
            ratio: self.ratio,
            verdict: Verdict {
                outcome: self.outcome,
                confirmed: self.confirmed,
                spoilt: self.spoilt,
                doubts: &self.doubts,
                failures: self.failures,
                pairs: &self.pairs,
                missing_pairs: self.missing_pairs,
                untried: self.untried,
                nearest: self.nearest,
            },
            rule: self.rule.as_ref(),
            unstable: &self.unstable,
            accidents: &self.accidents,
            too_large: &self.too_large,
            drift: self.drift.as_ref(),
            binding: self.binding.as_ref(),
            certificate: &self.certificate,
            trials: self.trials.iter().zip(1..).map(|(trial, number)| TrialSummary::new(number, trial)).collect(),
            slo: self.slo,
            cores: self.cores,
            stopped_because: self.stopped_because(),
            partial: self.is_partial(),
        }
    }
}

/// What `--json` writes.
#[derive(Debug, Serialize)]
pub struct Summary<'a> {
    recommended: Option<Candidate>,
    objective: Objective,
    baseline: SideSummary,
    best: Option<SideSummary>,
    ratio: Option<Interval>,
    verdict: Verdict<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'a Rule>,
    #[serde(skip_serializing_if = "<[Unstable]>::is_empty")]
    unstable: &'a [Unstable],
    #[serde(skip_serializing_if = "<[Accident]>::is_empty")]
    accidents: &'a [Accident],
    #[serde(skip_serializing_if = "<[TooLarge]>::is_empty")]
    too_large: &'a [TooLarge],
    #[serde(skip_serializing_if = "Option::is_none")]
    drift: Option<&'a Drift>,
    #[serde(skip_serializing_if = "Option::is_none")]
    binding: Option<&'a Binding>,
    certificate: &'a Certificate,
    trials: Vec<TrialSummary<'a>>,
    slo: Slo,
    cores: u16,
    stopped_because: String,
    partial: bool,
}

/// What the headline is made of, and what should make a reader doubt it.
#[derive(Debug, Serialize)]
struct Verdict<'a> {
    outcome: Option<DuelOutcome>,
    confirmed: bool,
    spoilt: bool,
    doubts: &'a [Flag],
    failures: usize,
    pairs: &'a [[f64; 2]],
    missing_pairs: usize,
    untried: bool,
    nearest: Option<usize>,
}

#[derive(Debug, Serialize)]
struct SideSummary {
    #[serde(flatten)]
    candidate: Candidate,
    capacity: Option<f64>,
    low: Option<f64>,
    high: Option<f64>,
    #[serde(flatten)]
    found: Found,
}

impl SideSummary {
    fn of(objective: Objective, side: &Side) -> Self {
        Self {
            candidate: side.candidate,
            capacity: side.capacity.map(|capacity| capacity.value),
            low: side.capacity.map(|capacity| capacity.low),
            high: side.capacity.map(|capacity| capacity.high),
            found: Found::of(objective, side),
        }
    }
}

/// What another objective than capacity compares.
#[derive(Debug, Default, Serialize)]
struct Found {
    /// Seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    latency: Option<Interval>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cores: Option<f64>,
}

impl Found {
    fn of(objective: Objective, side: &Side) -> Self {
        match objective {
            Objective::Capacity => Self::default(),
            Objective::Latency { .. } => Self { latency: side.amount, cores: None },
            Objective::Cost { .. } => Self { latency: None, cores: side.amount.map(|cores| cores.value.round()) },
        }
    }
}

#[derive(Debug, Serialize)]
struct TrialSummary<'a> {
    trial: usize,
    purpose: &'static str,
    why: &'static str,
    #[serde(flatten)]
    candidate: Candidate,
    valid: bool,
    label: Option<Label>,
    #[serde(flatten)]
    result: ResultSummary<'a>,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum ResultSummary<'a> {
    Measured(&'a Measurement),
    Challenged {
        holds: bool,
        /// [`Challenged::why`], under a name that the trial has not.
        #[serde(skip_serializing_if = "Option::is_none")]
        missed: Option<&'a str>,
        seconds: f64,
        flags: &'a [Flag],
        #[serde(skip_serializing_if = "<[ProbeNote]>::is_empty")]
        probes: &'a [ProbeNote],
        #[serde(skip_serializing_if = "Option::is_none")]
        memory_bytes: Option<u64>,
    },
    Failed {
        capacity: Option<f64>,
        seconds: f64,
        error: &'a str,
    },
}

impl<'a> TrialSummary<'a> {
    fn new(trial: usize, tried: &'a Trial) -> Self {
        let result = match &tried.outcome {
            Outcome::Measured(measurement) => ResultSummary::Measured(measurement),
            Outcome::Challenged(Challenged { holds, why, seconds, flags, probes, memory_bytes }) => ResultSummary::Challenged {
                holds: *holds,
                missed: why.as_deref(),
                seconds: *seconds,
                flags,
                probes,
                memory_bytes: *memory_bytes,
            },
            Outcome::Failed { reason, seconds } => ResultSummary::Failed { capacity: None, seconds: *seconds, error: reason },
        };
        Self {
            trial,
            purpose: tried.suggestion.task.word(),
            why: tried.suggestion.purpose.word(),
            candidate: tried.suggestion.candidate,
            valid: tried.is_valid(),
            label: tried.measurement().filter(|found| found.capacity > 0.0).map(Measurement::label),
            result,
        }
    }
}
