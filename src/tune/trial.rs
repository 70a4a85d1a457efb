//! The script of a trial: warm up, then what the task asks for. Decides everything about the load and nothing about how it is played: that is the
//! [`Stage`].

mod capacity;
mod company;
mod gates;
mod script;
mod trend;

use std::time::Duration;

use crate::study::{Batch, Decision, Outcome, Pace, Slo, Suggestion, Task, Window};
use crate::tune::{Step, TrialError};
use crate::units::Rate;
use script::Script;

/// A running candidate that load can be put on.
pub trait Stage {
    /// Plays `probe`, asking `decide` about every batch after settling, until it says stop or the time is up. The window covers what came
    /// after settling. Returns when nothing is outstanding any more, or after `probe.drain`.
    fn probe(&mut self, probe: &Probe, decide: &mut dyn FnMut(&Batch) -> Decision) -> Result<Window, TrialError>;

    /// Waits so many seconds without load. The window tells who used the cores meanwhile.
    fn rest(&mut self, seconds: f64) -> Result<Window, TrialError>;

    /// Proportional set size of all workers now, bytes.
    fn memory(&mut self) -> Result<u64, TrialError>;

    /// Seconds since the candidate was ordered to start.
    fn elapsed(&mut self) -> f64;
}

/// A load to play. Spans are in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Probe {
    /// How requests arrive.
    pub load: Load,
    /// How long it plays before anything counts.
    pub settle: f64,
    /// The longest it plays after that.
    pub seconds: f64,
    /// How long outstanding requests are awaited, without load, after it.
    pub drain: f64,
    /// How long a batch is.
    pub batch: f64,
    /// A request that takes longer, from the moment it was due, is late.
    pub late: Duration,
}

/// How requests arrive.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Load {
    /// This many clients, each sending its next request when the last was answered.
    Closed {
        /// How many.
        clients: u32,
    },
    /// The recording's requests in their order at this mean rate, whatever the answers; how single arrivals lie around it is the stage's.
    Open {
        /// Requests a second.
        rate: Rate,
    },
}

/// What all trials of a study have in common.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Terms {
    /// What must hold.
    pub slo: Slo,
    /// How long things take.
    pub pace: Pace,
    /// Cores the application may use.
    pub cores: u16,
    /// Cores' worth of CPU time that it can have: less than `cores` under a quota.
    pub cpu: f64,
    /// The most cores that one worker can keep busy: 1, or infinite where that is not known.
    pub cores_a_worker: f64,
}

/// Does the suggestion's task with the candidate on `stage`.
pub fn run(
    stage: &mut dyn Stage,
    terms: &Terms,
    suggestion: &Suggestion,
    watch: &mut (dyn FnMut(Step) + Send),
) -> Result<Outcome, TrialError> {
    let script = Script::new(stage, terms, suggestion.candidate, watch);
    match suggestion.task {
        Task::Measure => capacity::measure(script, suggestion).map(|found| Outcome::Measured(Box::new(found))),
        Task::Challenge { rate } => script.challenge(positive(rate)?).map(Outcome::Challenged),
        Task::Serve { rate } => script.serve(positive(rate)?).map(|found| Outcome::Measured(Box::new(found))),
    }
}

fn positive(rate: f64) -> Result<Rate, TrialError> {
    Rate::new(rate).ok_or_else(|| TrialError::Failed { reason: format!("{rate} is no rate of requests"), seconds: 0.0 })
}

#[cfg(test)]
mod tests;
