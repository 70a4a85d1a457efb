//! The subcommands: wiring and printing, no decisions.

mod arguments;
pub mod check;
mod configuration;
pub mod ctl;
pub mod demo;
pub mod demo_worker;
mod figures;
pub mod gunicorn;
pub mod man;
mod page;
pub mod record;
pub mod replay;
pub mod replay_output;
pub mod report;
pub mod run;
mod say;
mod socket;
mod traffic;
pub mod tune;
pub mod tune_output;

pub use configuration::Source;

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::control::ControlError;
use crate::recording::RecordingError;
use crate::replay::PlanError;
use crate::sys::listen::ListenError;
use crate::tune::JournalError;

/// How the program ends. The numbers are documented in `--help` and the README.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// As asked.
    Success,
    /// Something failed that has no code of its own.
    Failure,
    /// The arguments contradict each other, or ask for what is refused (clap's 2).
    Usage,
    /// A worker did not become ready at the start (Gunicorn's 3).
    WorkersNotBooting,
    /// The application could not be loaded at the start (Gunicorn's 4).
    AppNotLoaded,
    /// A file that was to be read is missing or unusable (EX_NOINPUT).
    NoInput,
    /// Nothing listens where requests were to be sent (EX_UNAVAILABLE).
    Unreachable,
    /// A socket or file could not be made (EX_CANTCREAT).
    CannotCreate,
    /// Workers kept failing, more often in a row than `fail-after` allows (EX_SOFTWARE).
    GivenUp,
    /// Another process listens where this one should (EX_TEMPFAIL): another supervisor, or what one left behind.
    InUse,
    /// The configuration is invalid (EX_CONFIG).
    Config,
    /// No configuration meets the SLO, or the application answers only errors.
    Unmet,
    /// Stopped by Ctrl-C; what was finished is reported.
    Interrupted,
}

impl Ending {
    /// Every ending.
    pub const ALL: [Self; 13] = [
        Self::Success,
        Self::Failure,
        Self::Usage,
        Self::WorkersNotBooting,
        Self::AppNotLoaded,
        Self::NoInput,
        Self::Unreachable,
        Self::GivenUp,
        Self::CannotCreate,
        Self::InUse,
        Self::Config,
        Self::Unmet,
        Self::Interrupted,
    ];

    /// The exit code.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failure => 1,
            Self::Usage => 2,
            Self::WorkersNotBooting => 3,
            Self::AppNotLoaded => 4,
            Self::NoInput => 66,
            Self::Unreachable => 69,
            Self::GivenUp => 70,
            Self::CannotCreate => 73,
            Self::InUse => 75,
            Self::Config => 78,
            Self::Unmet => 99,
            Self::Interrupted => 130,
        }
    }
}

/// Why a command ended early. The message is what the user reads.
#[derive(Debug, Error)]
pub enum CommandError {
    /// A file cannot be read.
    #[error("{}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// A file is not there that another command makes.
    #[error("{path}: {source}: {instead}", path = path.display())]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
        /// What to do.
        instead: &'static str,
    },
    /// The configuration is invalid.
    #[error("{0}")]
    Config(String),
    /// An address cannot be listened on.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The application cannot be loaded.
    #[error("the application could not be loaded:\n{0}")]
    AppNotLoaded(String),
    /// No worker became ready.
    #[error("no worker became ready: {0}")]
    WorkersNotBooting(String),
    /// Workers that had served failed too often.
    #[error("no worker serves any more, and `fail-after` attempts have failed: {0}; what it wrote stands above")]
    WorkersKeepFailing(String),
    /// A recording cannot be used.
    #[error("{name}: {source}")]
    Recording {
        /// The file, or what it is.
        name: String,
        /// What is wrong with it.
        source: RecordingError,
    },
    /// A recording holds nothing to replay.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// Logs cannot be made a recording.
    #[error(transparent)]
    Import(#[from] record::ImportError),
    /// Traffic cannot be recorded.
    #[error(transparent)]
    Live(#[from] record::LiveError),
    /// A study cannot be written down.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The rates of two studies do not mean the same.
    #[error("{one} and {other} cannot be compared: different {reasons}")]
    Incomparable {
        /// A journal.
        one: PathBuf,
        /// The other.
        other: PathBuf,
        /// What differs, in words.
        reasons: String,
    },
    /// Nothing that is written or shown has a place for the hosts of `--peak`.
    #[error(
        "--peak is answered by the report on standard output, by --html, and by report --markdown: ask for one of them, or leave it out"
    )]
    PeakUnanswered,
    /// A replay cannot be made as it was asked for.
    #[error(transparent)]
    Replay(#[from] replay::ReplayError),
    /// A study cannot be made as it was asked for.
    #[error(transparent)]
    Tune(#[from] tune::TuneError),
    /// A file cannot be made.
    #[error("{}: {source}", path.display())]
    CannotCreate {
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// A running service cannot be asked, or did not do what it was told.
    #[error(transparent)]
    Ctl(#[from] ctl::CtlError),
    /// A demo worker cannot serve.
    #[error(transparent)]
    DemoWorker(#[from] demo_worker::Error),
    /// The system refused something basic.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The system's words.
        source: io::Error,
    },
}

impl CommandError {
    /// A system error with what was tried.
    pub fn system(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { what, source }
    }

    /// Why `path` cannot be read, with what to do `instead` where it is not there.
    #[must_use]
    pub fn unread(path: &Path, source: io::Error, instead: &'static str) -> Self {
        let path = path.to_owned();
        let is_missing = source.kind() == io::ErrorKind::NotFound;
        if is_missing { Self::Missing { path, source, instead } } else { Self::Unreadable { path, source } }
    }

    /// Why a journal that should exist cannot be read, with what to do `instead` where it does not: what the file system says of it is said of
    /// an input.
    fn of_a_journal_read(error: JournalError, instead: &'static str) -> Self {
        match error {
            JournalError::Io { path, source } => Self::unread(&path, source, instead),
            other @ (JournalError::Exists(_)
            | JournalError::InUse(_)
            | JournalError::OtherStudy { .. }
            | JournalError::OtherVersion { .. }
            | JournalError::NotWritten { .. }
            | JournalError::Damaged { .. }
            | JournalError::Broken { .. }) => other.into(),
        }
    }

    /// How the program ends for it.
    #[must_use]
    pub const fn ending(&self) -> Ending {
        match self {
            Self::Unreadable { .. }
            | Self::Missing { .. }
            | Self::Recording { .. }
            | Self::Incomparable { .. }
            | Self::Plan(PlanError::Empty { .. } | PlanError::TooLarge { .. })
            | Self::Ctl(ctl::CtlError::Control(ControlError::NoConfig { .. }))
            | Self::Live(record::LiveError::Control(ControlError::NoConfig { .. }))
            | Self::Import(_)
            | Self::Journal(
                JournalError::OtherStudy { .. }
                | JournalError::OtherVersion { .. }
                | JournalError::Damaged { .. }
                | JournalError::Broken { .. },
            ) => Ending::NoInput,
            Self::Config(_) => Ending::Config,
            Self::Listen(ListenError::InUse { .. }) => Ending::InUse,
            Self::Live(record::LiveError::Output { .. } | record::LiveError::Removed(_))
            | Self::Listen(_)
            | Self::CannotCreate { .. }
            | Self::Journal(
                JournalError::Exists(_) | JournalError::InUse(_) | JournalError::NotWritten { .. } | JournalError::Io { .. },
            ) => Ending::CannotCreate,
            Self::PeakUnanswered
            | Self::Plan(PlanError::Host(_) | PlanError::Method(_) | PlanError::Computed(_))
            | Self::Live(record::LiveError::Control(ControlError::Several { .. })) => Ending::Usage,
            Self::AppNotLoaded(_) => Ending::AppNotLoaded,
            Self::WorkersNotBooting(_) => Ending::WorkersNotBooting,
            Self::WorkersKeepFailing(_) => Ending::GivenUp,
            Self::Ctl(ctl::CtlError::Control(
                ControlError::NotFound { .. }
                | ControlError::Several { .. }
                | ControlError::Unreachable { .. }
                | ControlError::Stranger { .. },
            )) => Ending::Unreachable,
            Self::Replay(error) => error.ending(),
            Self::Tune(error) => error.ending(),
            Self::DemoWorker(_)
            | Self::Ctl(_)
            | Self::Live(
                record::LiveError::Control(_)
                | record::LiveError::SeenAsLocal(_)
                | record::LiveError::AnotherNetwork(_)
                | record::LiveError::Tap(_)
                | record::LiveError::Gone
                | record::LiveError::System(_),
            )
            | Self::System { .. } => Ending::Failure,
        }
    }
}
