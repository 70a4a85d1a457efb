//! The two desks at which a running service answers, metrics and control, each on its thread, and its pid file. There only while the
//! service is ours, since a successor has the same sockets.

use std::env;
use std::path::PathBuf;
use std::sync::Arc;

use super::pidfile::Pidfile;
use super::roster::{Roster, Watcher};
use super::sockets::Sockets;
use crate::commands::CommandError;
use crate::control::Server;
use crate::metrics::{Board, Counters, Endpoint, Exposition, Listener};
use crate::sys::listen::StdListener;
use crate::sys::log::Log;
use crate::sys::remote::Remote;
use crate::sys::systemd::Systemd;

/// What the desks need.
pub(super) struct Premises {
    pub(super) sockets: Sockets,
    pub(super) counters: Arc<Counters>,
    pub(super) roster: Arc<Board<Roster>>,
    /// Passes wishes to the main loop, and answers back.
    pub(super) remote: Remote,
    pub(super) log: Log,
    /// The file that names who has the service.
    pub(super) pidfile: Option<PathBuf>,
    /// systemd started this service, and hands its sockets to whoever is started next.
    pub(super) by_systemd: bool,
}

/// The threads. Dropping them ends them.
#[derive(Default)]
pub(super) struct Desks {
    _endpoint: Option<Endpoint>,
    _control: Option<Server>,
    _pidfile: Option<Pidfile>,
}

impl Premises {
    /// Says who has the service, if the configuration names a place for that.
    pub(super) fn write_pidfile(&self) -> Result<Option<Pidfile>, CommandError> {
        self.pidfile.as_deref().map(Pidfile::write).transpose()
    }

    /// Begins to answer.
    pub(super) fn open(&self, pidfile: Option<Pidfile>) -> Result<Desks, CommandError> {
        Ok(Desks { _endpoint: self.endpoint()?, _control: self.control(), _pidfile: pidfile })
    }

    /// Puts the sockets where they outlive us. systemd hands them on also after a stop that belongs to a restart, so clients have to go on
    /// finding the files of unix sockets.
    pub(super) fn keep(&self, systemd: &Systemd) {
        systemd.keep(&self.sockets.http, &self.sockets.lapsed);
        if self.by_systemd {
            self.sockets.http.leave_files();
        }
    }

    fn watcher(&self) -> Watcher {
        Watcher::new(Arc::clone(&self.roster), Arc::clone(&self.sockets.http), self.remote.clone(), self.log.clone())
    }

    fn endpoint(&self) -> Result<Option<Endpoint>, CommandError> {
        let Some(listener) = self.sockets.metrics.as_ref().and_then(|metrics| metrics.all().first()) else { return Ok(None) };
        tracing::info!(listen = %listener.address(), "metrics");
        let listener = match listener.to_std().map_err(CommandError::system("cannot use the metrics socket"))? {
            StdListener::Tcp(listener) => Listener::Tcp(listener),
            StdListener::Unix(listener) => Listener::Unix(listener),
        };
        let endpoint = Endpoint::start(listener, Exposition::new(Arc::clone(&self.counters), self.watcher()))
            .map_err(|error| CommandError::System { what: "cannot serve metrics", source: std::io::Error::other(error) })?;
        Ok(Some(endpoint))
    }

    /// A service that cannot be told anything at its socket can still serve, and be told by signals.
    fn control(&self) -> Option<Server> {
        let socket = self.sockets.control.as_ref()?;
        let started = Server::start(Arc::clone(socket), self.watcher());
        match (&started, socket.all().first()) {
            (Ok(_), Some(listener)) => tracing::info!(socket = %listener.address(), "control"),
            (Err(error), _) => tracing::error!("no control socket, `tuningfork ctl` will not work: {error}"),
            (Ok(_), None) => {}
        }
        started.ok()
    }
}

/// Whether systemd started this process as the main one of a service (systemd.exec(5), SYSTEMD_EXEC_PID). A successor was started by its
/// predecessor, which hands the variable on only if it was meant.
pub(super) fn is_by_systemd(succeeds: bool) -> bool {
    env::var("SYSTEMD_EXEC_PID").is_ok_and(|pid| succeeds || pid == std::process::id().to_string())
}
