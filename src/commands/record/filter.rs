//! `tuningfork record filter`: some of the requests of a recording.

use std::path::PathBuf;

use clap::Args;

use super::super::CommandError;
use super::output::Output;
use super::which::Which;
use crate::recording::Choice;

/// The arguments of `record filter`.
#[derive(Debug, Args)]
pub struct Options {
    /// The recording
    #[arg(value_name = "RECORDING")]
    input: PathBuf,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    which: Which,
}

/// Writes them, and tells how many they are.
pub(super) fn filter(options: &Options) -> Result<String, CommandError> {
    let selection = options.which.selection();
    options.output.copy(&options.input, |request| if selection.keeps(request) { Choice::Keep } else { Choice::Drop })
}
