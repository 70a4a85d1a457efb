//! `tuningfork record`: makes recordings, and works on them.

pub(super) mod files;
mod import;
mod progress;
mod which;

use std::path::PathBuf;

use clap::Subcommand;

use super::{CommandError, Ending};
use crate::recording::JitterSeed;

pub use import::ImportError;
pub use which::Which;

/// What to do with recordings.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a recording of access logs: common, combined (nginx, Apache) or Gunicorn's
    ///
    /// Addresses and secrets do not reach the recording. `-` is standard input or output.
    Import {
        /// The logs
        #[arg(required = true, value_name = "LOG")]
        logs: Vec<PathBuf>,
        /// The recording to write
        #[arg(short, long, value_name = "FILE", default_value = "-")]
        output: PathBuf,
        /// How requests of one second are spread within it: the same seed gives the same recording
        #[arg(long, value_name = "N", default_value_t = 1)]
        seed: u64,
    },
}

/// Does it. Reports go to standard error: standard output may be the recording.
pub fn record(command: &Command) -> Result<Ending, CommandError> {
    match command {
        Command::Import { logs, output, seed } => say(&import::import(logs, output, JitterSeed(*seed))?.to_string()),
    }
    Ok(Ending::Success)
}

#[expect(clippy::print_stderr, reason = "what was done, and what could not be")]
fn say(text: &str) {
    eprintln!("{text}");
}
