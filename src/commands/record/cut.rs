//! `tuningfork record cut`: a piece of a recording by time.

use std::path::PathBuf;

use clap::Args;

use super::super::CommandError;
use super::output::Output;
use crate::recording::{self, Edge};

/// The arguments of `record cut`.
#[derive(Debug, Args)]
pub struct Options {
    /// The recording
    #[arg(value_name = "RECORDING")]
    input: PathBuf,
    /// Where the piece begins: 2026-11-22T10:00:00Z, Unix seconds, or +10m after the first request
    #[arg(long, value_name = "TIME")]
    from: Option<Edge>,
    /// Where it ends; a request of this very time is left out
    #[arg(long, value_name = "TIME")]
    to: Option<Edge>,
    /// The first so many requests of it
    #[arg(long, value_name = "N", required_unless_present_any = ["from", "to"])]
    first: Option<u64>,
    #[command(flatten)]
    output: Output,
}

/// Writes the piece, and tells how much of the recording it is.
pub(super) fn cut(options: &Options) -> Result<String, CommandError> {
    let mut piece = recording::Cut::new(options.from, options.to, options.first);
    options.output.copy(&options.input, |request| piece.judge(request))
}
