//! Why a study cannot be made as it was asked for.

use super::write::WriteError;
use crate::commands::Ending;

/// What stands against a study. The message is what the user reads.
#[derive(Debug, thiserror::Error)]
pub enum TuneError {
    /// Nothing to replay.
    #[error(
        "no traffic: --traffic RECORDING, which `tuningfork record import ACCESS_LOG -o RECORDING` makes, or --demo for an embedded \
         application with traffic of its own"
    )]
    NoTraffic,
    /// No place for the journal.
    #[error("no place for the journal: name one with --journal FILE, or set HOME")]
    NoPlace,
    /// An option about trial programs without one.
    #[error(
        "{0} is about --trial-command or --trial-server, and neither is given: `tune` itself starts what it measures, on this host"
    )]
    NoProgram(&'static str),
    /// An application elsewhere, said once.
    #[error(
        "{0} is another host: `tune` loads what it measures beyond what it can serve, so this harms whoever uses it. If it is yours to load, add --target-anyway, and with --trial-command or --trial-server a program that restarts it there (samples/)"
    )]
    OtherHost(String),
    /// An application elsewhere, on nobody knows how many cores.
    #[error("how many cores has {0}? Say it with --cores N: the baseline and what is tried follow from it")]
    CoresThere(String),
    /// What a trial program cannot be asked for.
    #[error("{0} is not for trial programs, which are asked for capacities only: leave it out")]
    NotByProgram(&'static str),
    /// An objective without its rate.
    #[error("--objective {0} needs --at RATE, the requests a second at which configurations are compared")]
    RateMissing(&'static str),
    /// A rate without an objective that needs it.
    #[error("--at is about --objective latency and --objective cost: add one of them, or leave it out")]
    RateIdle,
    /// Threads cannot vary.
    #[error("--also threads: {0} has no threads to vary (gthread workers do, and their connections are their threads)")]
    NoThreads(String),
    /// Affinity cannot vary.
    #[error("--also affinity: there is one core here, and every worker keeps to it already")]
    OneCore,
    /// Affinity makes no difference to the objective.
    #[error("--also affinity: cores and memory, which --objective cost counts, do not depend on it: leave it out")]
    AffinityCostsNothing,
    /// The configuration file cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl TuneError {
    /// How the program ends for it.
    #[must_use]
    pub const fn ending(&self) -> Ending {
        match self {
            Self::Write(error) => error.ending(),
            Self::NoTraffic
            | Self::NoPlace
            | Self::NoProgram(_)
            | Self::NotByProgram(_)
            | Self::OtherHost(_)
            | Self::RateMissing(_)
            | Self::RateIdle
            | Self::NoThreads(_)
            | Self::OneCore
            | Self::CoresThere(_)
            | Self::AffinityCostsNothing => Ending::Usage,
        }
    }
}
