//! `tuningfork demo-worker`: a worker of kind `command` that behaves like one Python worker with an event loop, for the demo and
//! the tests. One request computes at a time, waits overlap, and no more connections are accepted than it was given.

mod burn;
mod connection;
mod event_loop;
mod fault;
mod http;
mod ledger;
mod route;
mod steer;

use std::env;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use rustix::fs::OFlags;
use rustix::io::Errno;
use thiserror::Error;

use self::event_loop::{EventLoop, Supervisor};
use self::fault::Leaks;
use self::ledger::Ledger;
use self::route::Faults;
use self::steer::{Boot, Steering};
use crate::sys::inherit::{Inherited, Variables};
use crate::sys::listen::{ListenError, Listener};
use crate::sys::systemd::{Systemd, watchdog};
use crate::units::Connections;

/// The slowest heartbeat.
const BEAT_MAX: Duration = Duration::from_secs(1);

/// What the worker is told on its command line.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// Connections served at the same time; more wait in the listening socket's queue
    #[arg(long, value_name = "N", value_parser = connections)]
    pub connections: Connections,
    /// Serve paths such as /segv, /hang and /exit/3, which hurt
    #[arg(long)]
    pub faults: bool,
    /// Directory of files that steer the boot: boot_fail, crash_on_boot, boot_sleep, die_after_ready, never_ready, no_term; boots and
    /// requests with a number (?id=1) are written into files called boots and ledger, if they are there
    #[arg(long, value_name = "DIR")]
    pub steer: Option<PathBuf>,
    /// Megabytes of memory to hold, as an application would
    #[arg(long, value_name = "MB", default_value_t = 0, value_parser = clap::value_parser!(u16).range(..=4096))]
    pub memory: u16,
}

/// Why the worker could not serve.
#[derive(Debug, Error)]
pub enum Error {
    /// What was handed over is no listening socket.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Nobody handed over a socket.
    #[error("no listening socket was handed over: a demo worker is started by `tuningfork run`, or by a systemd socket unit")]
    NoSocket,
    /// A file of the steering directory.
    #[error("{}: {reason}", file.display())]
    Steering {
        /// Which one.
        file: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// `boot_fail` was there.
    #[error("told to fail at boot")]
    ToldToFail,
    /// The system refused.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried.
        action: &'static str,
        /// The system's reason.
        source: io::Error,
    },
}

impl Error {
    fn io(action: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { action, source }
    }

    fn errno(action: &'static str) -> impl FnOnce(Errno) -> Self {
        move |errno| Self::System { action, source: errno.into() }
    }
}

/// Serves the sockets of LISTEN_FDS until SIGTERM (answer what was accepted), SIGINT or SIGQUIT (leave at once).
pub fn run(options: &Options) -> Result<ExitCode, Error> {
    let steering = options.steer.as_deref().map_or(Ok(Steering::default()), Steering::read)?;
    // Whom a test finds in it has read how to boot.
    let ledger = options.steer.as_deref().map_or(Ok(Ledger::default()), Ledger::open)?;
    let boot = match steering.boot {
        Boot::Crash => std::process::abort(),
        Boot::Fail => return Err(Error::ToldToFail),
        Boot::Serve(after) => after,
    };
    let listeners = listeners()?;
    let notify_socket = env::var_os("NOTIFY_SOCKET");
    let systemd = Systemd::new(notify_socket.as_deref()).map_err(Error::io("reach NOTIFY_SOCKET"))?;
    let mut leaks = Leaks::default();
    leaks.take_memory(usize::from(options.memory));
    let faults = if options.faults { Faults::Served } else { Faults::Unknown };
    let supervisor = Supervisor { systemd, beat: beat() };
    EventLoop::new(listeners, options.connections, faults, supervisor, steering, (leaks, ledger))?.run(boot)
}

/// The sockets of LISTEN_FDS, non-blocking: another worker may have been faster to accept.
fn listeners() -> Result<Vec<OwnedFd>, Error> {
    let inherited = Inherited::take(&Variables::read(|name| env::var(name).ok()))?.into_listeners();
    let own = |listener: &Listener| {
        let socket = listener.fd().try_clone_to_owned()?;
        let flags = rustix::fs::fcntl_getfl(&socket)?;
        rustix::fs::fcntl_setfl(&socket, flags | OFlags::NONBLOCK)?;
        Ok(socket)
    };
    if inherited.all().is_empty() {
        return Err(Error::NoSocket);
    }
    inherited.all().iter().map(own).collect::<io::Result<_>>().map_err(Error::io("use the listening sockets"))
}

/// As often as is asked for, and at least once a second; `None` if nobody waits for a heartbeat.
fn beat() -> Option<Duration> {
    let variable = |name| env::var(name).ok();
    watchdog(variable("WATCHDOG_USEC").as_deref(), variable("WATCHDOG_PID").as_deref()).map(|pause| pause.min(BEAT_MAX))
}

fn connections(text: &str) -> Result<Connections, String> {
    let count = text.parse().ok().and_then(Connections::new);
    count.ok_or_else(|| format!("not a number from 1 to {}", Connections::MAX))
}
