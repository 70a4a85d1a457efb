//! Everything about a search for the best configuration that can be decided without running anything: what may be tried, what to try next, what
//! a trial's numbers mean, when to stop, and what to recommend. Pure.

pub mod certificate;
pub mod confirm;
mod measurement;
pub mod model;
mod pace;
pub mod plan;
mod probe;
pub mod queueing;
mod rate_search;
pub mod report;
#[cfg(test)]
pub(crate) mod simulation;
mod slo;
mod space;
pub mod standing;
pub mod strategy;
mod warmup;

pub use measurement::{CoreShare, Ending, Flag, Label, LightNote, Measurement, ProbeNote, Window};
pub use pace::{Budget, Effort, Pace, Timing};
pub use probe::{Batch, Decision, Judge, Miss, Verdict};
pub use rate_search::RateSearch;
pub use report::Report;
pub use slo::{Quantile, Slo, SloError};
pub use space::{Candidate, Dimensions, Space};
pub use strategy::{GridThenNeighbours, Next, Stop, Strategy};
pub use warmup::Warmup;

use serde::{Deserialize, Serialize};

/// A search: its question, and the trials so far in the order they were run.
#[derive(Clone, Debug, PartialEq)]
pub struct Study {
    /// What must hold.
    pub slo: Slo,
    /// What may be tried.
    pub space: Space,
    /// How long a trial takes.
    pub pace: Pace,
    /// When the search must conclude.
    pub budget: Budget,
    trials: Vec<Trial>,
}

/// One candidate, tried.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// What was asked for.
    pub suggestion: Suggestion,
    /// What came of it.
    pub outcome: Outcome,
}

/// What to try, and why.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Suggestion {
    /// The configuration.
    pub candidate: Candidate,
    /// The reason.
    pub purpose: Purpose,
    /// The capacity to start from, requests a second, where one was measured or predicted.
    pub expected: Option<f64>,
    /// The best capacity so far: a trial that plainly stays below it may end early. Absent where the number itself matters.
    pub rival: Option<f64>,
}

/// Why a candidate is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// Gunicorn's rule of thumb.
    Baseline,
    /// What the configuration file says.
    Configured,
    /// The model predicts the best here.
    Jump,
    /// A point of the coarse grid.
    Grid,
    /// Next to the best so far.
    Neighbour,
    /// The best so far, once more.
    Repeat,
    /// Best and baseline in turn.
    Confirm,
}

impl Purpose {
    /// In a word.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Baseline => "baseline",
            Self::Configured => "configured",
            Self::Jump => "predicted best",
            Self::Grid => "grid",
            Self::Neighbour => "neighbour",
            Self::Repeat => "repeat",
            Self::Confirm => "confirm",
        }
    }
}

/// What came of a trial.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Numbers.
    Measured(Box<Measurement>),
    /// The candidate could not be started, or did not survive.
    Failed {
        /// Why, in words.
        reason: String,
        /// What the attempt cost.
        seconds: f64,
    },
}

impl Study {
    /// A study without trials.
    #[must_use]
    pub const fn new(slo: Slo, space: Space, pace: Pace, budget: Budget) -> Self {
        Self { slo, space, pace, budget, trials: Vec::new() }
    }

    /// Adds the next trial.
    pub fn record(&mut self, trial: Trial) {
        self.trials.push(trial);
    }

    /// The trials in order.
    #[must_use]
    pub fn trials(&self) -> &[Trial] {
        &self.trials
    }

    /// The trials that gave numbers.
    pub fn measured(&self) -> impl Iterator<Item = (Candidate, &Measurement)> {
        self.trials.iter().filter_map(|trial| Some((trial.suggestion.candidate, trial.measurement()?)))
    }

    /// How many trials had this purpose.
    #[must_use]
    pub fn count(&self, purpose: Purpose) -> usize {
        self.trials.iter().filter(|trial| trial.suggestion.purpose == purpose).count()
    }

    /// Whether a candidate was tried, with whatever outcome.
    #[must_use]
    pub fn has_tried(&self, candidate: Candidate) -> bool {
        self.trials.iter().any(|trial| trial.suggestion.candidate == candidate)
    }

    /// What all trials cost, seconds.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        self.trials.iter().map(Trial::seconds).sum()
    }
}

impl Trial {
    /// Its numbers, if it has any.
    #[must_use]
    pub fn measurement(&self) -> Option<&Measurement> {
        match &self.outcome {
            Outcome::Measured(measurement) => Some(measurement),
            Outcome::Failed { .. } => None,
        }
    }

    /// Why it failed, in a line: the last of a traceback is the one that says what happened.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        match &self.outcome {
            Outcome::Measured(_) => None,
            Outcome::Failed { reason, .. } => Some(reason.lines().last().unwrap_or_default()),
        }
    }

    /// What it cost.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        match &self.outcome {
            Outcome::Measured(measurement) => measurement.seconds,
            Outcome::Failed { seconds, .. } => *seconds,
        }
    }
}
