//! `tuningfork record`: makes recordings, and works on them.

mod files;
mod import;

use clap::Subcommand;

use super::{CommandError, Ending};

pub use import::ImportError;

/// What to do with recordings.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a recording of access logs and captures: nginx, Apache, Gunicorn, AWS ALB, HAR, GoReplay, JSON Lines
    ///
    /// What a file is, is seen from its beginning. Addresses and secrets do not reach the recording. `-` is standard input or output.
    Import(import::Arguments),
}

/// Does it. Reports go to standard error: standard output may be the recording.
pub fn record(command: &Command) -> Result<Ending, CommandError> {
    match command {
        Command::Import(arguments) => import::import(arguments)?.iter().for_each(|report| say(report)),
    }
    Ok(Ending::Success)
}

#[expect(clippy::print_stderr, reason = "what was done, and what could not be")]
fn say(text: &str) {
    eprintln!("{text}");
}
