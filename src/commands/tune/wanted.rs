//! What a study looks for beside the most requests a second, and what else than two numbers it may vary. Refuses what a kind of
//! worker lacks. How connections reach workers is nothing to vary: all of them share the listening sockets, whatever their kind.

use std::num::NonZeroU16;

use clap::{Args, ValueEnum};

use super::TuneError;
use crate::commands::arguments::rate;
use crate::commands::say::say;
use crate::config::{App, WorkerClass};
use crate::study::Objective;
use crate::units::Rate;

/// The arguments about what is wanted.
#[derive(Debug, Args)]
#[group(skip)]
pub(super) struct Options {
    /// What is best: the most requests a second; or at the rate --at, the lowest latency, or the fewest cores (a worker counts as
    /// one) and then the least memory
    #[arg(long, value_enum, value_name = "GOAL", default_value = "capacity")]
    objective: Best,
    /// The rate, requests a second, at which --objective latency or cost compares configurations
    #[arg(long, value_name = "RATE", value_parser = rate)]
    at: Option<Rate>,
    /// Vary this too; refused where the kind of worker does not have it
    #[arg(long, value_enum, value_name = "WHAT", value_delimiter = ',')]
    also: Vec<Also>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Best {
    Capacity,
    Latency,
    Cost,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Also {
    /// Threads of a gthread worker: they are its connections, which vary anyway
    Threads,
    /// Which cores workers keep to (cpu-affinity): workers of every kind, on two cores or more
    Affinity,
}

impl Options {
    /// The objective, if the arguments make one.
    pub(super) const fn objective(&self) -> Result<Objective, TuneError> {
        match (self.objective, self.at) {
            (Best::Capacity, None) => Ok(Objective::Capacity),
            (Best::Latency, Some(at)) => Ok(Objective::Latency { at }),
            (Best::Cost, Some(at)) => Ok(Objective::Cost { at }),
            (Best::Capacity, Some(_)) => Err(TuneError::RateIdle),
            (Best::Latency, None) => Err(TuneError::RateMissing("latency")),
            (Best::Cost, None) => Err(TuneError::RateMissing("cost")),
        }
    }

    /// Refuses what cannot vary, where so many cores are there to keep to. `app` is `None` where a program runs the trials.
    pub(super) fn check_also(&self, app: Option<&App>, allowed: NonZeroU16) -> Result<(), TuneError> {
        self.also.iter().try_for_each(|also| also.check(app))?;
        match (self.varies_affinity(), self.objective) {
            (true, _) if allowed == NonZeroU16::MIN => Err(TuneError::OneCore),
            (true, Best::Cost) => Err(TuneError::AffinityCostsNothing),
            (true, Best::Capacity | Best::Latency) | (false, _) => Ok(()),
        }
    }

    /// Whether workers are to be tried on other cores than the configuration file says.
    pub(super) fn varies_affinity(&self) -> bool {
        self.also.contains(&Also::Affinity)
    }

    /// Says which of it varies anyway.
    pub(super) fn introduce(&self) {
        if self.also.contains(&Also::Threads) {
            say("--also threads adds nothing: the connections of a gthread worker are its threads, and they vary anyway");
        }
    }
}

impl Also {
    fn check(self, app: Option<&App>) -> Result<(), TuneError> {
        let Some(app) = app else {
            return Err(TuneError::NotByProgram("--also"));
        };
        match (self, app) {
            (Self::Threads, App::Python(app)) if app.worker_class == WorkerClass::Gthread => Ok(()),
            (Self::Threads, App::Python(app)) => Err(TuneError::NoThreads(format!("a {} worker", app.worker_class.name()))),
            (Self::Threads, App::Command(_)) => Err(TuneError::NoThreads("a command".to_owned())),
            (Self::Affinity, App::Python(_) | App::Command(_)) => Ok(()),
        }
    }
}
