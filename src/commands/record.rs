//! `tuningfork record`: makes recordings, and works on them.

mod cut;
mod export;
pub(super) mod files;
mod filter;
mod import;
mod info;
mod input;
mod merge;
mod output;
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
    /// Tell what recordings hold: rates, bursts, clients, routes, sizes
    Info(info::Options),
    /// Write a piece of a recording, by time
    Cut(cut::Options),
    /// Write some of the requests of a recording
    Filter(Box<filter::Options>),
    /// Write several recordings as one, in order of time
    Merge(merge::Options),
    /// Write a recording for another load generator, so that both play the same traffic
    Export(Box<export::Options>),
}

/// Does it. Reports go to standard error: standard output may be the recording.
pub fn record(command: &Command) -> Result<Ending, CommandError> {
    let report = match command {
        Command::Info(options) => return info::info(options).map(|()| Ending::Success),
        Command::Import { logs, output, seed } => import::import(logs, output, JitterSeed(*seed))?.to_string(),
        Command::Cut(options) => cut::cut(options)?,
        Command::Filter(options) => filter::filter(options)?,
        Command::Merge(options) => merge::merge(options)?,
        Command::Export(options) => export::export(options)?,
    };
    say(&report);
    Ok(Ending::Success)
}

#[expect(clippy::print_stderr, reason = "what was done, and what could not be")]
fn say(text: &str) {
    eprintln!("{text}");
}
