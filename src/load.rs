//! Plays a plan over real connections: one reactor on the calling thread, an absolute schedule in nanoseconds, every request timed
//! from the moment it was due. Refuses targets beyond this host unless told otherwise, and never resolves a name.
//!
//! A sleep and a wake-up cost more processor time than a request, so at high rates there are fewer of them:
//!
//! - *Sends are merged* (`merging`), from 5,000 requests a second on: requests due within at most 400 µs (within the time of eight,
//!   above 20,000 a second) go out at the end of that time. Latency counts from then; by how much each was moved is reported as
//!   lateness of its own.
//! - *Answers are read late*, up to 500 µs, where the next request is due soon (loads with a schedule over plain TCP): the kernel stamps
//!   what arrives, and the stamp is the end of the latency (`arrival`). An answer that has begun is read as it comes.
//!
//! What the generator or its host spoiled is no measurement of the target: where [`Basis`] says so, latencies and rates leave out the
//! seconds in which other guests took the processors, or this thread was late or short of time (`validity` judges, `gate` keeps their
//! requests apart). What may be the target's fault always counts: the lateness too, where the target shares the processors with this
//! thread and may have kept it from them.

mod answer;
mod arrival;
mod bodies;
mod chain;
mod clients;
mod clock;
mod gate;
mod jar;
mod merging;
mod outcome;
mod pace;
mod pool;
mod reactor;
mod seconds;
mod sessions;
mod socket;
mod spread;
mod steal;
mod tally;
mod tls;
mod transport;
pub mod validity;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

pub use outcome::{Batch, Errors, Lateness, LeftOut, Played, Second, Statuses, Unfinished, VARIED};
pub use socket::knock;
pub use steal::{Basis, HostReading};
pub use tls::{Tls, TlsError, Trust};
pub use validity::{Doubt, LATENESS, Processors, doubts};

use crate::replay::{Load, Plan, Turns};
use crate::units::Rate;
use reactor::Reactor;

/// The most scheduled requests that wait for a connection; a further one is shed.
pub const QUEUE_LIMIT: usize = 65_536;
/// The most seconds a run keeps apart: a day.
pub const MAX_SECONDS: usize = 86_400;
/// The highest rate of an open load, requests a second.
pub const MAX_RATE: f64 = 1_000_000.0;
/// The usual time between two calls of the watcher.
pub const USUAL_BATCH: Duration = Duration::from_millis(500);

/// What to play, where and how.
#[derive(Clone, Debug)]
pub struct Run<'a> {
    /// The requests.
    pub plan: &'a Plan,
    /// Where they go.
    pub target: Target,
    /// Which targets are allowed.
    pub reach: Reach,
    /// When they go.
    pub load: Load,
    /// The place in the plan where the run starts; it goes round.
    pub from: usize,
    /// How often the plan is played.
    pub turns: Turns,
    /// How long requests are sent before anything counts: what ended by then is forgotten.
    pub settle: Duration,
    /// How long requests are sent at most, settling included. A timetable that is played out ends the run earlier.
    pub duration: Duration,
    /// How long requests that are outstanding when sending stops are awaited.
    pub drain: Duration,
    /// How long a request may take from the moment it is due.
    pub timeout: Duration,
    /// How many connections are open at most; further requests wait.
    pub max_connections: NonZeroU32,
    /// The longest response body, bytes; a longer one is an error.
    pub max_body: u64,
    /// A latency above this counts as slow in a [`Batch`].
    pub slow_after: Duration,
    /// The time between two calls of the watcher; see [`USUAL_BATCH`].
    pub batch: Duration,
    /// Which cookies are sent.
    pub cookies: Cookies,
    /// What of an answer is compared with the recording.
    pub check: Check,
    /// TLS to the target, if it speaks that.
    pub tls: Option<Tls>,
    /// Which seconds latencies and rates come from.
    pub basis: Basis<'a>,
}

/// Which cookies a request carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cookies {
    /// The recorded ones.
    #[default]
    Recorded,
    /// The recorded ones, but with the values the target has set since in the same session.
    Jar,
}

/// What of an answer is compared with the recording.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Check {
    /// The status: 5xx is an error, and 4xx where the recording has less.
    #[default]
    Status,
    /// The status, and the length of the content where the recording holds it.
    Length,
    /// The status; the content is hashed into [`Played::bodies`], so that runs can be compared.
    Body,
}

/// Where requests go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A unix stream socket.
    Unix(PathBuf),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Which targets a run may load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Loopback addresses and unix sockets.
    ThisHost,
    /// Any: the user has said that the target is theirs to load.
    Anywhere,
}

/// Why a run cannot start or go on. What the target does wrong is counted in [`Errors`] instead.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The target is another host.
    #[error("refusing to load {0}: not a loopback address")]
    Remote(SocketAddr),
    /// The rate is zero or beyond [`MAX_RATE`].
    #[error("a rate of {} requests a second is not between 0 and {MAX_RATE}", .0.per_second())]
    Rate(Rate),
    /// A time that must be greater than zero is not.
    #[error("{0} must be greater than zero")]
    Zero(&'static str),
    /// The path cannot be the address of a unix socket.
    #[error("unix socket {path}: {source}")]
    UnixPath {
        /// The path.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The engine's own needs are not met.
    #[error("{doing}: {source}")]
    System {
        /// What was tried.
        doing: &'static str,
        /// The system's reason.
        source: io::Error,
    },
}

/// What a watcher wants of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Onward {
    /// Play on.
    GoOn,
    /// Send nothing more, and await what is outstanding.
    StopSending,
    /// End at once.
    BreakOff,
}

/// Plays `run` on this thread. `watch` is called at the end of settling and then every [`Run::batch`] while requests are sent or
/// awaited, and may end the run; a signal makes the next call come early.
pub fn play(run: &Run<'_>, watch: &mut dyn FnMut(&Batch) -> Onward) -> Result<Played, LoadError> {
    check(run)?;
    let _slack = clock::FineTimers::set();
    let mut reactor = Reactor::new(run)?;
    let ending = reactor.drive(watch)?;
    Ok(reactor.played(ending))
}

fn check(run: &Run<'_>) -> Result<(), LoadError> {
    if let Target::Tcp(address) = &run.target
        && run.reach == Reach::ThisHost
        && !address.ip().to_canonical().is_loopback()
    {
        return Err(LoadError::Remote(*address));
    }
    // Recorded times that are closer are played as fast as it goes, and told as late; but not for ever.
    let is_played_once = matches!((&run.load, run.turns), (Load::Recorded { .. }, Turns::Once));
    if let Some(rate) = run.load.rate(run.plan)
        && !is_played_once
        && (rate.per_second() <= 0.0 || rate.per_second() > MAX_RATE)
    {
        return Err(LoadError::Rate(rate));
    }
    if run.timeout.is_zero() {
        return Err(LoadError::Zero("the timeout"));
    }
    if run.batch.is_zero() {
        return Err(LoadError::Zero("the batch"));
    }
    Ok(())
}

#[cfg(test)]
mod server;
#[cfg(test)]
mod tests;
