//! The study loop: ask the strategy, run the trial, write it down, ask again. Knows nothing of processes or sockets: a [`Testbed`] does.

pub mod coverage;
pub mod external;
pub mod journal;
pub mod live;
pub mod progress;
pub mod trial;

pub use coverage::Coverage;
pub use journal::{About, Gap, Header, Journal, JournalError, Recorded};
pub use progress::Progress;

use crate::printable::printable_lines;
use crate::study::{Next, Outcome, Stop, Study, Suggestion, Trial, expected_trials, suggest};

/// Runs one candidate and measures it.
pub trait Testbed {
    /// Starts the candidate afresh, does the suggestion's task and stops it, telling `watch` what it is doing.
    fn run(&mut self, suggestion: &Suggestion, watch: &mut (dyn FnMut(Step) + Send)) -> Result<Outcome, TrialError>;
}

/// What a trial is doing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Step {
    /// Workers are starting.
    Starting,
    /// A light load runs until CPU per request is steady.
    WarmingUp,
    /// A light load is measured.
    Light,
    /// This many requests a second are offered.
    Probing(f64),
    /// A program of the user's measures.
    Outside,
}

/// Why a trial has no result.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum TrialError {
    /// Somebody stopped the study.
    #[error("interrupted")]
    Interrupted,
    /// The candidate could not be started or did not survive; the search goes on without it.
    #[error("{reason}")]
    Failed {
        /// Why, in words.
        reason: String,
        /// What the attempt cost.
        seconds: f64,
    },
}

/// What the journal would not read again becomes a failure: a trial program may answer anything.
fn readable(trial: Trial) -> Trial {
    if trial.is_possible() {
        return trial;
    }
    let reason = "its numbers cannot be: together, or with what was expected".to_owned();
    let suggestion = Suggestion { expected: None, rival: None, ..trial.suggestion };
    let seconds = Some(trial.seconds()).filter(|seconds| (0.0..1e9).contains(seconds)).unwrap_or_default();
    Trial { suggestion, outcome: Outcome::Failed { reason, seconds } }
}

/// Runs `study` to its end, writing every trial to `journal` before the next one starts, and why it ended, which is the result. The
/// trials are in `study`.
pub fn run_study(
    study: &mut Study,
    testbed: &mut dyn Testbed,
    journal: &mut Journal,
    progress: &mut dyn Progress,
) -> Result<Stop, JournalError> {
    loop {
        let suggestion = match suggest(study) {
            Next::Try(suggestion) => suggestion,
            Next::Stop(stop) => return journal.end(stop).map(|()| stop),
        };
        let number = study.trials().len() + 1;
        progress.started(number, expected_trials(study).max(number), &suggestion);
        let outcome = match testbed.run(&suggestion, &mut |step| progress.step(step)) {
            Ok(outcome) => outcome,
            // An application's own words may be in it.
            Err(TrialError::Failed { reason, seconds }) => Outcome::Failed { reason: printable_lines(&reason), seconds },
            Err(TrialError::Interrupted) => return Ok(Stop::Interrupted),
        };
        let trial = readable(Trial { suggestion, outcome });
        let written = journal.append(&trial);
        progress.finished(number, &trial);
        // Its number was seen, and the report can still show it.
        study.record(trial);
        written?;
    }
}
