//! `tuningfork record`: makes recordings, and works on them.

mod audit;
mod cut;
mod export;
pub(super) mod files;
mod filter;
mod import;
mod info;
pub(super) mod input;
mod live;
mod merge;
mod output;
mod progress;
mod scrub;
mod which;

use clap::Subcommand;

use super::say::say;
use super::{CommandError, Ending};

pub use import::ImportError;
pub use live::LiveError;
pub use which::Which;

/// What to do with recordings.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a recording of access logs and captures: nginx, Apache, Gunicorn, AWS ALB, HAR, GoReplay, JSON Lines
    ///
    /// What a file is, is seen from its beginning. Addresses and secrets do not reach the recording. `-` is standard input or output.
    Import(import::Arguments),
    /// Replace personal data and secrets in a recording
    ///
    /// Import and capture do so already. Equal values stay equal, lengths and alphabets are kept, paths too but for secrets in them.
    Scrub(scrub::Options),
    /// Look for personal data and secrets in a recording
    ///
    /// Prints how many of each kind there are and on which lines, never what they are. The exit code is 0 if there are none and
    /// everything could be looked at, and 1 otherwise. Values with fewer than four letters and digits are not counted, and of those
    /// with fewer than eight one in ten may be missed.
    Audit(audit::Options),
    /// Record a running service's traffic: a share of its connections passes through this command on its way to the workers
    ///
    /// Needs the service's user or root, and no restart. A recorded client is seen by the application as this command: on TCP by its
    /// address, on a unix socket by its user. Ctrl-C ends the recording: idle connections are closed, others go on until they end, for at
    /// most 5 minutes or until a second Ctrl-C cuts them. Then what was recorded is told, and the exit code is 0; if that is nothing, there
    /// is no file. A reload of the service does not end it, an upgrade does. Secrets do not reach the file.
    Live(live::Options),
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
    match perform(command) {
        Err(error) if output::is_unread(&error) => Ok(Ending::Success),
        ended => ended,
    }
}

fn perform(command: &Command) -> Result<Ending, CommandError> {
    let report = match command {
        Command::Info(options) => return info::info(options).map(|()| Ending::Success),
        Command::Import(arguments) => match import::import(arguments)? {
            Some(report) => report,
            None => return Ok(Ending::Success),
        },
        Command::Cut(options) => cut::cut(options)?,
        Command::Filter(options) => filter::filter(options)?,
        Command::Merge(options) => merge::merge(options)?,
        Command::Export(options) => export::export(options)?,
        Command::Scrub(options) => scrub::scrub(options)?,
        Command::Audit(options) => return audit::audit(options),
        Command::Live(options) => live::live(options)?,
    };
    say(&report);
    Ok(Ending::Success)
}
