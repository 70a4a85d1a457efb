//! What `tune` is told about a program that runs the trials in its place.

use std::num::NonZeroU16;
use std::time::Duration;

use clap::Args;

use crate::study::{Dimensions, Pace, Slo, Space};
use crate::tune::external::{Form, Program};
use crate::units::Connections;

const TRIALS: &str = "Trials by another program";

/// Connections of the baseline where no configuration says any.
const CONNECTIONS: u32 = 10;

/// The arguments about such a program.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// A program that runs each trial, here or elsewhere: the shell starts it, it reads the trial as a line of JSON and ends with a line of
    /// JSON. No configuration and no recording are needed then
    #[arg(long, value_name = "COMMAND", help_heading = TRIALS, conflicts_with_all = ["traffic", "demo"])]
    trial_command: Option<String>,
    /// The same kept running: it answers each line with a line
    #[arg(long, value_name = "COMMAND", help_heading = TRIALS, conflicts_with_all = ["traffic", "demo", "trial_command"])]
    trial_server: Option<String>,
    /// How long a trial of such a program may take [default: 30s, and 4 times what it is asked to take]
    #[arg(long, value_name = "TIME", help_heading = TRIALS, value_parser = humantime::parse_duration)]
    trial_timeout: Option<Duration>,
    /// How many cores the application has where such a program runs it [default: as many as here]
    #[arg(long, value_name = "N", help_heading = TRIALS, value_parser = cores)]
    cores: Option<NonZeroU16>,
}

fn cores(text: &str) -> Result<NonZeroU16, String> {
    text.parse().map_err(|_| format!("a whole number from 1 to {}", u16::MAX))
}

impl Options {
    /// Whether a program runs the trials.
    pub(super) const fn is_given(&self) -> bool {
        self.trial_command.is_some() || self.trial_server.is_some()
    }

    /// The first of its options that means nothing without one.
    pub(super) fn idle(&self) -> Option<&'static str> {
        let given = [(self.trial_timeout.is_some(), "--trial-timeout"), (self.cores.is_some(), "--cores")];
        given.into_iter().find(|(given, _)| *given && !self.is_given()).map(|(_, name)| name)
    }

    /// The cores it is told about; `here` if none are named.
    pub(super) fn cores(&self, here: NonZeroU16) -> NonZeroU16 {
        self.cores.unwrap_or(here)
    }

    /// The program, if there is one.
    pub(super) fn program(&self, slo: Slo, pace: Pace, cores: NonZeroU16) -> Option<Program> {
        let commands = [(&self.trial_command, Form::Command), (&self.trial_server, Form::Server)];
        let (command, form) = commands.into_iter().find_map(|(command, form)| Some((command.clone()?, form)))?;
        Some(Program { command, form, patience: self.trial_timeout, slo, pace, cores: cores.get() })
    }
}

/// What may be tried where no configuration says anything.
pub(super) fn space(cores: NonZeroU16) -> Space {
    let connections = Connections::new(CONNECTIONS).unwrap_or(Connections::ONE);
    Space::ordinary(cores, Dimensions::WorkersAndConnections, connections)
}
