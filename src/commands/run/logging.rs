//! Begins the log of a service: its own lines, and by default its workers', in one place.

use std::env;
use std::io::{self, IsTerminal};
use std::ops::Deref;
use std::time::Duration;

use tracing_subscriber::EnvFilter;

use crate::commands::CommandError;
use crate::config::{self, LogFormat};
use crate::sys::log::{Log, Settings};

/// How long the last lines may take to be written.
const PATIENCE: Duration = Duration::from_secs(1);

/// The log, written to its end when this is dropped.
pub(super) struct Logging(Log);

/// Opens the log and has everything logged there from now on. TUNINGFORK_LOG filters our own lines.
pub(super) fn begin(config: &config::Log) -> Result<Logging, CommandError> {
    let settings = Settings { format: config.format, file: config.file.clone() };
    let log = Log::start(&settings).map_err(|source| match &settings.file {
        Some(path) => CommandError::CannotCreate { path: path.clone(), source },
        None => CommandError::System { what: "cannot start the log", source },
    })?;
    let filter = EnvFilter::try_from_env("TUNINGFORK_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let colours = settings.file.is_none() && io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none();
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(log.clone()).with_target(false);
    match config.format {
        LogFormat::Plain if log.is_stamped_elsewhere() => lines.with_ansi(false).without_time().init(),
        LogFormat::Plain => lines.with_ansi(colours).init(),
        LogFormat::Json => lines.json().flatten_event(true).init(),
    }
    Ok(Logging(log))
}

impl Deref for Logging {
    type Target = Log;

    fn deref(&self) -> &Log {
        &self.0
    }
}

impl Drop for Logging {
    fn drop(&mut self) {
        self.0.finish(PATIENCE);
    }
}
