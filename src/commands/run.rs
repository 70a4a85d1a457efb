//! `tuningfork run`: the service. Reads the configuration, binds, and lets [`serve`] do the rest.

mod audience;
mod chronicle;
mod pidfile;
mod roster;

use std::env;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use super::configuration::Source;
use super::{CommandError, socket};
use crate::config::{App, Config};
use crate::control::Server;
use crate::metrics::{Board, Counters, Endpoint, Exposition, Listener};
use crate::serve::serve;
use crate::supervisor::Outcome;
use crate::supervisor::event::Settings;
use crate::sys::linux::{Linux, Loading, Surroundings};
use crate::sys::listen::{Listeners, StdListener, bind_one};
use crate::sys::signals::Signals;
use crate::sys::spawn::Output;
use crate::sys::systemd::Systemd;
use crate::sys::{clock, launch, limits, remote};
use crate::units::Generation;
use audience::RunAudience;
use pidfile::Pidfile;
use roster::{Roster, Watcher};

/// Runs the service that `source` describes until it is told to stop.
pub fn run(source: &Source) -> Result<(), CommandError> {
    let config = Arc::new(source.read()?);
    launch::check(&config).map_err(|error| CommandError::Config(error.to_string()))?;
    let mut signals = Signals::of_a_service().map_err(CommandError::system("cannot catch signals"))?;
    limits::raise_open_files();
    let systemd =
        Systemd::new(env::var_os("NOTIFY_SOCKET").as_deref()).map_err(CommandError::system("cannot reach NOTIFY_SOCKET"))?;
    let listeners = Arc::new(listeners(&config)?);
    let _pidfile = config.pidfile.as_deref().map(Pidfile::write).transpose()?;
    say_what_runs(&config, &listeners);
    let counters = Counters::new(SystemTime::now()).expect("invariant: metric names are distinct and valid");
    let counters = Arc::new(counters);
    let roster = Arc::new(Board::new(Roster::empty(clock::now(), &config)));
    let (remote, inbox) = remote::pair().map_err(CommandError::system("cannot make an eventfd"))?;
    let watcher = || Watcher::new(Arc::clone(&roster), Arc::clone(&listeners), remote.clone());
    let endpoint = endpoint(&config, &counters, watcher())?;
    let control = control(&source.path(), &config, watcher());
    let first = Arc::clone(&config);
    let loader =
        Box::new(
            move |generation| {
                if generation == Generation::FIRST { Loading::Done(Ok(Arc::clone(&first))) } else { source.load_again(&first) }
            },
        );
    let env = launch::environment(env::vars_os());
    let output = Output::Inherit;
    let around = Surroundings { signals: &mut signals, listeners: &listeners, inbox, loader, output: &output, env };
    let mut host = Linux::new(around).map_err(CommandError::system("cannot become a supervisor"))?;
    let settings = Settings::of(&config);
    let outcome = serve(&mut host, settings, &mut RunAudience::new(systemd, counters, Arc::clone(&roster), remote.clone()));
    drop(host);
    drop(control);
    drop(endpoint);
    match outcome {
        Outcome::Stopped => Ok(()),
        Outcome::AppNotLoaded { reason } => Err(CommandError::AppNotLoaded(reason)),
        Outcome::WorkersKeepFailing { reason } => Err(CommandError::WorkersKeepFailing(reason)),
        Outcome::WorkersNotBooting { reason } => Err(CommandError::WorkersNotBooting(reason)),
    }
}

/// Inherited sockets take the place of configured ones.
fn listeners(config: &Config) -> Result<Listeners, CommandError> {
    let variable = |name| env::var(name).ok();
    match Listeners::inherited(variable("LISTEN_PID").as_deref(), variable("LISTEN_FDS").as_deref())? {
        Some(inherited) => Ok(inherited),
        None => Ok(Listeners::bind(&config.listen)?),
    }
}

fn say_what_runs(config: &Config, listeners: &Listeners) {
    let addresses: Vec<_> = listeners.all().iter().map(|listener| listener.address().to_string()).collect();
    let kind = match &config.app {
        App::Command(app) => app.command.join(" "),
        App::Python(app) => format!("{} ({})", app.app, app.worker_class.name()),
    };
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        pid = std::process::id(),
        app = kind,
        workers = config.workers.get(),
        workers_from = %config.workers_from,
        connections = config.connections.get(),
        listen = addresses.join(", "),
        "tuningfork starts"
    );
}

fn endpoint(config: &Config, counters: &Arc<Counters>, watcher: Watcher) -> Result<Option<(Endpoint, Listeners)>, CommandError> {
    let Some(metrics) = &config.metrics else { return Ok(None) };
    let bound = bind_one(&metrics.listen)?;
    let Some(listener) = bound.all().first() else { return Ok(None) };
    tracing::info!(listen = %listener.address(), "metrics");
    let listener = match listener.to_std().map_err(CommandError::system("cannot use the metrics socket"))? {
        StdListener::Tcp(listener) => Listener::Tcp(listener),
        StdListener::Unix(listener) => Listener::Unix(listener),
    };
    let endpoint = Endpoint::start(listener, Exposition::new(Arc::clone(counters), watcher))
        .map_err(|error| CommandError::System { what: "cannot serve metrics", source: std::io::Error::other(error) })?;
    Ok(Some((endpoint, bound)))
}

/// A service that cannot be told anything at its socket can still serve, and be told by signals.
fn control(path: &Path, config: &Config, watcher: Watcher) -> Option<Server> {
    let configured = config.control.as_ref().map(|control| control.socket.clone());
    let Some(socket) = configured.or_else(|| socket::default_place(path)) else {
        tracing::warn!("no control socket: there is no folder for one; name its path under [control]");
        return None;
    };
    match Server::start(&socket, watcher) {
        Ok(server) => {
            tracing::info!(socket = %socket.display(), "control");
            Some(server)
        }
        Err(error) => {
            tracing::error!("no control socket, `tuningfork ctl` will not work: {error}");
            None
        }
    }
}
