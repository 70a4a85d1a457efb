//! What `replay` tells when it is over: on the terminal, as JSON, as an HTML page and as a log for HdrHistogram's tools. Decides
//! only what a reader may conclude; nothing that speaks against the measurement is left out.

mod comparison;
mod hdr;
mod html;
mod json;
mod terminal;
mod verdict;

use std::time::{Duration, SystemTime};

pub use comparison::{Bodies, Comparison};
pub use hdr::hdr;
pub use html::html;
pub use json::{Summary, summary};
pub use terminal::terminal;
pub use verdict::{Objective, Verdict};

use crate::load::{Doubt, Errors, Played, doubts};
use crate::usage::CoreUse;

/// How a replay was made, in words and numbers.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The recording's name.
    pub recording: String,
    /// Where the requests went.
    pub target: String,
    /// The load model in words.
    pub load: String,
    /// Whether requests had moments at which they were due, or were sent by clients that waited for answers.
    pub timing: Timing,
    /// What else was asked for, a sentence each.
    pub choices: Vec<String>,
    /// Requests of the plan.
    pub planned: u64,
    /// Recorded requests that were left out.
    pub dropped: Vec<Dropped>,
    /// When it began.
    pub started: SystemTime,
    /// How long requests were sent before anything counted.
    pub settled: Duration,
    /// What the generator's thread was allowed.
    pub priority: Priority,
}

/// Recorded requests that were left out for one reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// The reason's key in JSON.
    pub key: &'static str,
    /// The reason, for people: `with …`, `that …`.
    pub words: &'static str,
    /// How many.
    pub count: u64,
}

/// When requests were sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timing {
    /// At moments fixed beforehand, whatever the answers.
    Scheduled,
    /// When a client was free.
    Closed,
}

/// The generator's right to a processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Priority {
    /// It ran as soon as it had something to do (`SCHED_FIFO`).
    RealTime,
    /// It waited its turn like any program.
    Ordinary,
}

/// What the processors of the generator's host did meanwhile.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HostUse {
    /// Each core over the whole run.
    pub cores: Vec<CoreUse>,
}

/// Everything a replay has to say.
#[derive(Clone, Debug)]
pub struct Replayed {
    /// How it was made.
    pub setting: Setting,
    /// What the engine measured.
    pub played: Played,
    /// What the host did.
    pub host: HostUse,
    /// Whether the objective was met, if there was one.
    pub verdict: Option<Verdict>,
    /// How the contents of answers compare with earlier runs, if that was asked for.
    pub comparison: Option<Comparison>,
    /// Whether the user ended it.
    pub interrupted: bool,
}

/// A second that cannot be trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// Its number, from 0.
    pub second: usize,
    /// What speaks against it.
    pub doubts: Vec<Doubt>,
}

impl Replayed {
    /// What a reader must know first, if it ended too early for what it was to show.
    #[must_use]
    pub fn partial(&self) -> Option<&'static str> {
        match (self.interrupted, self.played.unsettled) {
            (false, false) => None,
            (false, true) => Some("WARM-UP ONLY: the replay ended within its warm-up, and all figures are of the warm-up."),
            (true, false) => Some("PARTIAL: the replay was interrupted."),
            (true, true) => Some("PARTIAL: the replay was interrupted within its warm-up: all figures are of the warm-up."),
        }
    }

    /// Seconds that cannot be trusted. Those that are not left out stay in every number of the report, which says so.
    #[must_use]
    pub fn invalid(&self) -> Vec<Invalid> {
        invalid(&self.played)
    }

    /// Seconds whose steal could not be read: whether other guests disturbed them is unknown.
    #[must_use]
    pub fn unwitnessed(&self) -> usize {
        self.played.seconds.iter().filter(|second| second.steal.is_none()).count()
    }

    /// Whether every second can be trusted; `None` if nothing shows that one cannot, but not all of them, or none, could be checked.
    #[must_use]
    pub fn is_valid(&self) -> Option<bool> {
        if !self.invalid().is_empty() {
            return Some(false);
        }
        (!self.played.seconds.is_empty() && self.unwitnessed() == 0).then_some(true)
    }

    /// The share of requests that failed among those whose end is known; those never answered count as failed, unless the user broke
    /// off before they could be.
    #[must_use]
    pub fn error_share(&self) -> f64 {
        let Played { errors, completed, .. } = &self.played;
        if self.interrupted { share(errors.total(), *completed) } else { error_share(&self.played) }
    }

    /// The time in which requests were sent and counted, seconds.
    #[must_use]
    pub fn sending_seconds(&self) -> f64 {
        self.played.sending.as_secs_f64()
    }

    /// The generator's CPU time a request, seconds; `None` if nothing was sent.
    #[must_use]
    pub fn cpu_per_request(&self) -> Option<f64> {
        let sent = self.played.sent;
        (sent > 0).then(|| self.played.cpu.as_secs_f64() / sent as f64)
    }

    /// The share of its core that the generator computed.
    #[must_use]
    pub fn generator_busy(&self) -> f64 {
        self.played.cpu.as_secs_f64() / self.played.elapsed.saturating_sub(self.setting.settled).as_secs_f64().max(1e-9)
    }

    /// The share of all cores that other guests of the host took, over the whole run; `None` if it could not be read.
    #[must_use]
    pub fn steal(&self) -> Option<f64> {
        let cores = &self.host.cores;
        (!cores.is_empty()).then(|| cores.iter().map(|core| core.steal).sum::<f64>() / cores.len() as f64)
    }

    fn is_closed(&self) -> bool {
        self.setting.timing == Timing::Closed
    }
}

/// The sending time that latencies and rates are of.
fn kept(played: &Played) -> Duration {
    played.sending.saturating_sub(played.left_out.sending)
}

fn error_share(played: &Played) -> f64 {
    share(played.errors.total() + played.unfinished.outstanding + played.unfinished.unsent, played.completed)
}

fn share(failed: u64, completed: u64) -> f64 {
    let all = failed + completed;
    if all > 0 { failed as f64 / all as f64 } else { 0.0 }
}

/// A kind of failure: its key in JSON, its words, and how often it happened.
struct Kind {
    key: &'static str,
    words: &'static str,
    count: u64,
}

/// Every kind of failure, those that did not happen too.
fn kinds(errors: &Errors) -> [Kind; 10] {
    [
        ("connect", "found no connection", errors.connect),
        ("timeout", "had no answer in time", errors.timeout),
        ("closed_early", "lost their connection before the whole answer came", errors.closed_early),
        ("malformed", "got something that is no HTTP response, or one beyond a bound", errors.malformed),
        ("5xx", "got a status of 500 or above", errors.server_5xx),
        ("unexpected_status", "got a status of 400 to 499 where less was recorded", errors.unexpected_status),
        ("redirected", "were redirected where an answer was recorded", errors.redirected),
        ("unexpected_length", "got content of another length than recorded", errors.unexpected_length),
        ("shed", "were not sent: too many were waiting already", errors.shed),
        ("exhausted", "were not sent: this process had no file or port left", errors.exhausted),
    ]
    .map(|(key, words, count)| Kind { key, words, count })
}

fn invalid(played: &Played) -> Vec<Invalid> {
    let found = played.seconds.iter().enumerate().map(|(second, counted)| Invalid { second, doubts: doubts(counted).collect() });
    found.filter(|second| !second.doubts.is_empty()).collect()
}

#[cfg(test)]
mod tests;
