//! The two desks at which a running service answers, metrics and control, each on its thread, and its pid file. There only while the
//! service is ours, since a successor has the same sockets.

use std::env;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

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
use crate::units::Moment;

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

/// How long what could not be opened is left alone. Long for a machine, short for whoever waits for the desk.
const PAUSE: Duration = Duration::from_secs(1);

/// The threads and the pid file, each by itself: who lacks descriptors for one may have them for another, and later for all. Dropping
/// them ends them.
#[derive(Default)]
pub(super) struct Desks {
    metrics: Desk<Endpoint>,
    control: Desk<Server>,
    /// Goes last: who sees that it is gone finds nobody at the others.
    pidfile: Desk<Pidfile>,
}

/// One of them.
#[derive(Debug, Default, PartialEq, Eq)]
enum Desk<T> {
    /// Not opened yet.
    #[default]
    New,
    /// Open, or not wanted by the configuration.
    Settled(Option<T>),
    /// It could not be opened, and is tried again then.
    Closed { until: Moment },
}

impl<T> Desk<T> {
    /// Opens it by `open`, if it is not open and due. Gives the reason of a first failure: nobody wants to read it every second.
    fn attend(&mut self, now: Moment, open: impl FnOnce() -> Result<Option<T>, CommandError>) -> Result<(), CommandError> {
        let is_first = match self {
            Self::Settled(_) => return Ok(()),
            Self::Closed { until } if now < *until => return Ok(()),
            Self::Closed { .. } => false,
            Self::New => true,
        };
        match open() {
            Ok(opened) => *self = Self::Settled(opened),
            Err(error) => {
                *self = Self::Closed { until: now.after(PAUSE) };
                if is_first {
                    return Err(error);
                }
            }
        }
        Ok(())
    }
}

impl Desks {
    /// Ends those that answer. The pid file stays, for a successor to write its own in its place.
    pub(super) fn close(self) -> Option<Pidfile> {
        match self.pidfile {
            Desk::Settled(pidfile) => pidfile,
            Desk::New | Desk::Closed { .. } => None,
        }
    }
}

impl Premises {
    /// Begins to answer, and says who has the service. Refused where metrics or a pid file are wanted and cannot be had.
    pub(super) fn open(&self, now: Moment) -> Result<Desks, CommandError> {
        let mut desks = Desks::default();
        desks.pidfile.attend(now, || self.write_pidfile())?;
        desks.metrics.attend(now, || self.endpoint())?;
        self.attend(&mut desks, now);
        Ok(desks)
    }

    /// Refuses to succeed where a pid file is wanted and could not be written, as [`Premises::open`] refuses to start.
    pub(super) fn rehearse(&self) -> Result<(), CommandError> {
        self.pidfile.as_deref().map_or(Ok(()), Pidfile::rehearse)
    }

    /// Opens what is closed, as far as that is possible: workers serve, and to end for this would be worse.
    pub(super) fn attend(&self, desks: &mut Desks, now: Moment) {
        if let Err(error) = desks.pidfile.attend(now, || self.write_pidfile()) {
            tracing::error!("no pid file, until it can be written: {error}");
        }
        if let Err(error) = desks.metrics.attend(now, || self.endpoint()) {
            tracing::error!("metrics are not served, until they can be: {error}");
        }
        if let Err(error) = desks.control.attend(now, || self.control()) {
            tracing::error!("no control socket, `tuningfork ctl` will not work until there is one: {error}");
        }
    }

    /// Closes the desks whose sockets no client could reach, and which are made again: they are opened there.
    pub(super) fn make_again(&self, desks: &mut Desks) {
        if self.sockets.metrics.as_ref().is_some_and(|metrics| metrics.make_again()) {
            desks.metrics = Desk::New;
        }
        if self.sockets.control.as_ref().is_some_and(|control| control.make_again()) {
            desks.control = Desk::New;
        }
    }

    fn write_pidfile(&self) -> Result<Option<Pidfile>, CommandError> {
        self.pidfile.as_deref().map(Pidfile::write).transpose()
    }

    /// Puts the sockets where they outlive us. systemd hands them on also after a stop that belongs to a restart, so clients have
    /// to go on finding the files of unix sockets.
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
        let address = listener.address();
        let listener = match listener.to_std().map_err(CommandError::system("cannot use the metrics socket"))? {
            StdListener::Tcp(listener) => Listener::Tcp(listener),
            StdListener::Unix(listener) => Listener::Unix(listener),
        };
        let endpoint = Endpoint::start(listener, Exposition::new(Arc::clone(&self.counters), self.watcher()))
            .map_err(|error| CommandError::System { what: "cannot serve metrics", source: std::io::Error::other(error) })?;
        tracing::info!(listen = %address, "metrics");
        Ok(Some(endpoint))
    }

    fn control(&self) -> Result<Option<Server>, CommandError> {
        let Some(socket) = &self.sockets.control else { return Ok(None) };
        let server = Server::start(Arc::clone(socket), self.watcher())?;
        if let Some(listener) = socket.all().first() {
            tracing::info!(socket = %listener.address(), "control");
        }
        Ok(Some(server))
    }
}

/// Whether systemd started this process as the main one of a service (systemd.exec(5), SYSTEMD_EXEC_PID). A successor was started by its
/// predecessor, which hands the variable on only if it was meant.
pub(super) fn is_by_systemd(succeeds: bool) -> bool {
    env::var("SYSTEMD_EXEC_PID").is_ok_and(|pid| succeeds || pid == std::process::id().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_desk_that_cannot_be_opened_is_tried_again_later_and_complained_of_once() {
        let at = |seconds| Moment::from_nanos(0).after(Duration::from_secs(seconds));
        let fails = || Err(CommandError::system("open it")(std::io::ErrorKind::Other.into()));
        let mut desk = Desk::<u8>::default();
        assert!(desk.attend(at(10), fails).is_err());
        // Not due.
        desk.attend(at(10), || panic!("too soon")).unwrap();
        desk.attend(at(12), fails).unwrap();
        assert_eq!(desk, Desk::Closed { until: at(13) });
        desk.attend(at(13), || Ok(Some(7))).unwrap();
        desk.attend(at(20), || panic!("it is open")).unwrap();
        assert_eq!(desk, Desk::Settled(Some(7)));
    }
}
