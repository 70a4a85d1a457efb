//! Everything about a search for the best configuration that can be decided without running anything: what may be tried, what to try next, what
//! a trial's numbers mean, when to stop, and what to recommend. Pure.

mod binding;
pub mod certificate;
pub mod confirm;
mod counting;
pub mod drift;
mod measurement;
pub mod memory;
pub mod model;
mod objective;
mod pace;
pub mod plan;
mod possible;
mod probe;
pub mod queueing;
mod rate_search;
pub mod report;
#[cfg(test)]
pub(crate) mod simulation;
mod slo;
mod space;
mod stability;
pub mod standing;
pub mod strategy;
mod warmup;
mod window;

pub use binding::{Binding, Cause, Evidence, Shown};
pub use measurement::{Ending, Flag, Label, LightNote, Measurement, ProbeNote, REDIRECTED, UNEXPECTED_STATUS};
pub use objective::Objective;
pub use pace::{Budget, Effort, Pace, Timing};
pub use probe::{Batch, Decision, Judge, Miss, Verdict};
pub use rate_search::RateSearch;
pub use report::Report;
pub use slo::{ErrorBound, Quantile, Slo, SloError};
pub use space::{Candidate, Dimensions, Space};
pub use strategy::{Next, Stop, expected_trials, suggest};
pub use warmup::Warmup;
pub use window::{CoreShare, Window};

use serde::{Deserialize, Serialize};

use crate::stats::Spread;

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
    /// What is best.
    pub objective: Objective,
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
    /// What to find out.
    #[serde(default)]
    pub task: Task,
    /// The merit that was measured or predicted: where capacity is looked for, the requests a second to start from.
    pub expected: Option<f64>,
    /// The best merit so far, as above: a trial that plainly stays below it may end early. Absent where the number itself matters.
    pub rival: Option<f64>,
}

/// What a trial finds out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Task {
    /// The highest rate held within the objective: gives [`Outcome::Measured`].
    #[default]
    Measure,
    /// Only whether it holds this rate: boot, warm-up, one probe. Gives [`Outcome::Challenged`], or [`Outcome::Measured`] from a testbed that
    /// can only measure.
    Challenge {
        /// Requests a second.
        rate: f64,
    },
    /// How it does at this rate: boot, warm-up, one long probe. Gives [`Outcome::Measured`] with this rate as capacity if it was held, 0 if not.
    Serve {
        /// Requests a second.
        rate: f64,
    },
}

impl Task {
    /// In a word, as files and trial programs have it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Measure => "measure",
            Self::Challenge { .. } => "challenge",
            Self::Serve { .. } => "serve",
        }
    }

    /// The rate it is about, requests a second.
    #[must_use]
    pub const fn rate(self) -> Option<f64> {
        match self {
            Self::Measure => None,
            Self::Challenge { rate } | Self::Serve { rate } => Some(rate),
        }
    }
}

/// Why a candidate is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Purpose {
    /// What the configuration file says, or else Gunicorn's rule of thumb.
    Baseline,
    /// That rule, where the file says something else.
    Folk,
    /// The model predicts the best here.
    Jump,
    /// A worker a core, a connection each: when nothing else holds any rate, or not with the memory that may be used.
    Gentle,
    /// Next to the best so far: does it hold a little more?
    Challenge,
    /// Next to the best so far, and it held a little more.
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
            Self::Folk => "2c+1",
            Self::Jump => "predicted best",
            Self::Gentle => "gentlest",
            Self::Challenge => "challenge",
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
    /// Whether the rate of a challenge was held.
    Challenged(Challenged),
    /// The candidate could not be started, or did not survive.
    Failed {
        /// Why, in words.
        reason: String,
        /// What the attempt cost.
        seconds: f64,
    },
}

/// What came of a challenge.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Challenged {
    /// Whether the rate was held within the objective.
    pub holds: bool,
    /// Why not, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What it cost.
    pub seconds: f64,
    /// What should make a reader doubt it.
    #[serde(default)]
    pub flags: Vec<Flag>,
    /// The rate that was offered, once or, where something disturbed it, several times.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub probes: Vec<ProbeNote>,
    /// Proportional set size of the workers, bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
}

impl Challenged {
    /// The answer of one probe.
    #[must_use]
    pub const fn new(holds: bool, seconds: f64) -> Self {
        Self { holds, why: None, seconds, flags: Vec::new(), probes: Vec::new(), memory_bytes: None }
    }
}

impl Study {
    /// A study of capacity without trials.
    #[must_use]
    pub const fn new(slo: Slo, space: Space, pace: Pace, budget: Budget) -> Self {
        Self { slo, space, pace, budget, objective: Objective::Capacity, trials: Vec::new() }
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

    /// The most memory that a trial of `candidate` took, bytes, where that is more than may be used. What is configured has to be
    /// started to know.
    #[must_use]
    pub fn excess(&self, candidate: Candidate) -> Option<u64> {
        let most = self.space.max_memory?;
        self.memories().filter(|(tried, _)| *tried == candidate).map(|(_, taken)| taken).max().filter(|taken| *taken > most)
    }

    /// What candidates took of memory, bytes, in trials that tell it.
    pub fn memories(&self) -> impl Iterator<Item = (Candidate, u64)> {
        let told = |outcome: &Outcome| match outcome {
            Outcome::Measured(found) => found.memory_bytes,
            Outcome::Challenged(found) => found.memory_bytes,
            Outcome::Failed { .. } => None,
        };
        self.trials.iter().filter_map(move |trial| Some((trial.suggestion.candidate, told(&trial.outcome)?)))
    }

    /// The study as it was before its first trial of this purpose.
    #[must_use]
    pub fn before(&self, purpose: Purpose) -> Self {
        let trials = self.trials.iter().take_while(|trial| trial.suggestion.purpose != purpose).cloned().collect();
        Self { trials, space: self.space.clone(), ..*self }
    }

    /// How much what is looked for scatters between trials of one candidate, before any repetition was seen.
    #[must_use]
    pub const fn scatter(&self) -> Spread {
        self.objective.scatter(self.pace)
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
            Outcome::Challenged(_) | Outcome::Failed { .. } => None,
        }
    }

    /// What came of the challenge, if it was one and was answered as one.
    #[must_use]
    pub const fn challenged(&self) -> Option<&Challenged> {
        match &self.outcome {
            Outcome::Challenged(challenged) => Some(challenged),
            Outcome::Measured(_) | Outcome::Failed { .. } => None,
        }
    }

    /// Why it failed, in a line: the last of a traceback is the one that says what happened.
    #[must_use]
    pub fn failure(&self) -> Option<&str> {
        match &self.outcome {
            Outcome::Measured(_) | Outcome::Challenged(_) => None,
            Outcome::Failed { reason, .. } => Some(reason.lines().last().unwrap_or_default()),
        }
    }

    /// Whether it has a result that nothing disturbed.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        match &self.outcome {
            Outcome::Measured(measurement) => measurement.is_valid(),
            Outcome::Challenged(challenged) => !challenged.flags.iter().any(|flag| flag.voids()),
            Outcome::Failed { .. } => false,
        }
    }

    /// What should make a reader doubt its result.
    #[must_use]
    pub fn flags(&self) -> &[Flag] {
        match &self.outcome {
            Outcome::Measured(measurement) => &measurement.flags,
            Outcome::Challenged(challenged) => &challenged.flags,
            Outcome::Failed { .. } => &[],
        }
    }

    /// What it cost.
    #[must_use]
    pub fn seconds(&self) -> f64 {
        match &self.outcome {
            Outcome::Measured(measurement) => measurement.seconds,
            Outcome::Challenged(challenged) => challenged.seconds,
            Outcome::Failed { seconds, .. } => *seconds,
        }
    }
}
