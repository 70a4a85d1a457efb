//! Why a replay cannot be made as it was asked for.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::commands::Ending;
use crate::load::{LoadError, TlsError};
use crate::replay::Copies;

/// What stands against a replay. The message is what the user reads.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// The target's name has no address.
    #[error("{name}: {source}; is the name right?")]
    Unresolved {
        /// The name.
        name: String,
        /// The resolver's words.
        source: io::Error,
    },
    /// The target is another host.
    #[error("{name} ({address}) is not an address of this host: if you may load it, add --target-anyway")]
    Remote {
        /// As it was written.
        name: String,
        /// What it stands for.
        address: SocketAddr,
    },
    /// The target is another host, and the recording holds what people sent.
    #[error("the recording is not scrubbed, and what people sent would go to {name}: scrub it first (tuningfork record scrub)")]
    Unscrubbed {
        /// As it was written.
        name: String,
    },
    /// Nothing takes connections at the target.
    #[error("{name}: {source}; is the server running, and is this where it listens?")]
    Deaf {
        /// As it was written.
        name: String,
        /// The system's words.
        source: io::Error,
    },
    /// More connections than this process may open.
    #[error("only {files} open files are allowed, and --max-conns {wanted} needs {}: raise the limit (ulimit -n), or lower --max-conns", u64::from(*wanted) + spare)]
    TooFewFiles {
        /// Connections asked for.
        wanted: u32,
        /// Files allowed.
        files: u64,
        /// Files needed beside connections.
        spare: u64,
    },
    /// More clients than connections.
    #[error(
        "{clients} clients need as many connections, and there may be {most}: raise --max-conns or the limit of open files (ulimit -n), or lower --clients"
    )]
    TooManyClients {
        /// Clients asked for.
        clients: u32,
        /// Connections allowed.
        most: u32,
    },
    /// The share of the traffic is so small that nothing is left.
    #[error("--copies {0} leaves no request: raise it")]
    NoCopies(Copies),
    /// A report would take the place of the recording or of another report.
    #[error("{}: two files of this command have this name, and one would take the place of the other: name another one", .0.display())]
    Overwrites(PathBuf),
    /// Longer than a replay may take.
    #[error("--duration and --warm-up together are at most {}", humantime::format_duration(*longest))]
    TooLong {
        /// The longest that is possible.
        longest: Duration,
    },
    /// Everything is played before anything counts.
    #[error("all requests would be played within --warm-up, and nothing would count: shorten it, or add --loop and --duration")]
    OnlyWarmUp,
    /// An option about TLS, and none is spoken.
    #[error("{0} is about targets with https://")]
    NoTls(&'static str),
    /// The filters keep nothing.
    #[error("the filters leave out all {0} requests: nothing to replay")]
    NothingSelected(u64),
    /// Sessions are asked for and the recording has none.
    #[error("{0} needs to know which requests came on one connection, and the recording does not tell")]
    NoSessions(&'static str),
    /// A file of content hashes cannot be read.
    #[error("{}: {reason}", path.display())]
    Baseline {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// TLS cannot be spoken.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The engine cannot run.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The engine's thread ended in a way that it should not.
    #[error("the watching thread ended unexpectedly; please report this")]
    WatcherLost,
}

impl ReplayError {
    /// How the program ends for it.
    #[must_use]
    pub const fn ending(&self) -> Ending {
        match self {
            Self::NothingSelected(_) | Self::NoSessions(_) | Self::Baseline { .. } | Self::Tls(TlsError::Authorities { .. }) => {
                Ending::NoInput
            }
            Self::Overwrites(_) => Ending::CannotCreate,
            Self::Deaf { .. } => Ending::Unreachable,
            Self::Remote { .. } | Self::NoCopies(_) | Self::TooLong { .. } | Self::OnlyWarmUp | Self::NoTls(_) => Ending::Usage,
            Self::Unresolved { .. }
            | Self::Unscrubbed { .. }
            | Self::TooManyClients { .. }
            | Self::TooFewFiles { .. }
            | Self::Tls(_)
            | Self::Load(_)
            | Self::WatcherLost => Ending::Failure,
        }
    }
}
