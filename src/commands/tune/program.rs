//! What `tune` is told about a program that runs the trials in its place.

use std::num::NonZeroU16;
use std::time::Duration;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use super::TuneError;
use crate::study::{Dimensions, Pace, Slo, Space};
use crate::tune::external::{Form, Program};
use crate::units::{self, Connections};

const TRIALS: &str = "Trials by another program";

/// Connections of the baseline where no configuration says any.
const CONNECTIONS: u32 = 10;

/// The arguments about such a program.
#[derive(Debug, Args)]
#[group(skip)]
pub(super) struct Options {
    /// A program that runs each trial, here or elsewhere: the shell starts it, it reads the trial as a line of JSON and ends with a line of
    /// JSON. No configuration and no recording are needed then
    #[arg(long, value_name = "COMMAND", help_heading = TRIALS, value_parser = NonEmptyStringValueParser::new(), conflicts_with_all = ["traffic", "demo"])]
    trial_command: Option<String>,
    /// The same kept running: it answers each line with a line
    #[arg(long, value_name = "COMMAND", help_heading = TRIALS, value_parser = NonEmptyStringValueParser::new(), conflicts_with_all = ["traffic", "demo", "trial_command"])]
    trial_server: Option<String>,
    /// The application on another host that such a program restarts and loads. Nothing is started here, and it is refused without
    /// --target-anyway. The program finds it in TUNINGFORK_TARGET
    #[arg(long, value_name = "URL", help_heading = TRIALS)]
    target_host: Option<String>,
    /// Load that host beyond what it can serve: only if it is yours, and nobody needs it
    #[arg(long, help_heading = TRIALS, requires = "target_host")]
    target_anyway: bool,
    /// How long a trial of such a program may take [default: 30s, and 4 times what it is asked to take]
    #[arg(long, value_name = "TIME", help_heading = TRIALS, value_parser = patience)]
    trial_timeout: Option<Duration>,
    /// How many cores the application has where such a program runs it [default: as many as here; with --target-host it must be said]
    #[arg(long, value_name = "N", help_heading = TRIALS, value_parser = cores)]
    cores: Option<NonZeroU16>,
}

fn patience(text: &str) -> Result<Duration, String> {
    let span = units::span(text).map_err(|error| error.to_string())?;
    if span.is_zero() { Err("a time above 0: no program answers in none".to_owned()) } else { Ok(span) }
}

fn cores(text: &str) -> Result<NonZeroU16, String> {
    text.parse().map_err(|_| format!("a whole number from 1 to {}", u16::MAX))
}

impl Options {
    /// Whether a program runs the trials.
    pub(super) const fn is_given(&self) -> bool {
        self.trial_command.is_some() || self.trial_server.is_some()
    }

    /// Refuses what means nothing without a program, and a host that may serve others.
    pub(super) fn check(&self) -> Result<(), TuneError> {
        if let Some(target) = self.target_host.as_ref().filter(|_| !self.target_anyway) {
            return Err(TuneError::OtherHost(target.clone()));
        }
        if let Some(target) = self.target_host.as_ref().filter(|_| self.cores.is_none() && self.is_given()) {
            return Err(TuneError::CoresThere(target.clone()));
        }
        let idle = [
            (self.target_host.is_some(), "--target-host"),
            (self.trial_timeout.is_some(), "--trial-timeout"),
            (self.cores.is_some(), "--cores"),
        ];
        match idle.into_iter().find(|(given, _)| *given && !self.is_given()) {
            Some((_, name)) => Err(TuneError::NoProgram(name)),
            None => Ok(()),
        }
    }

    /// The cores it is told about; `here` if none are named.
    pub(super) fn cores(&self, here: NonZeroU16) -> NonZeroU16 {
        self.cores.unwrap_or(here)
    }

    /// The program, if there is one.
    pub(super) fn program(&self, slo: Slo, pace: Pace, cores: NonZeroU16) -> Option<Program> {
        let commands = [(&self.trial_command, Form::Command), (&self.trial_server, Form::Server)];
        let (command, form) = commands.into_iter().find_map(|(command, form)| Some((command.clone()?, form)))?;
        Some(Program {
            command,
            form,
            target: self.target_host.clone(),
            patience: self.trial_timeout,
            slo,
            pace,
            cores: cores.get(),
        })
    }
}

/// What may be tried where no configuration says anything.
pub(super) fn space(cores: NonZeroU16) -> Space {
    let connections = Connections::new(CONNECTIONS).unwrap_or(Connections::ONE);
    Space::ordinary(cores, Dimensions::WorkersAndConnections, connections)
}
