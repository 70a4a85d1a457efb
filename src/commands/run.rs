//! `tuningfork run`: the service. Reads the configuration, binds, and lets [`serve`] do the rest.

mod audience;
mod sockets;

use std::env;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use super::{CommandError, configuration};
use crate::config::{App, Config};
use crate::control::Server;
use crate::metrics::{Board, Counters, Endpoint, Exposition, Listener};
use crate::serve::serve;
use crate::supervisor::Outcome;
use crate::supervisor::event::Settings;
use crate::supervisor::herald::Herald;
use crate::sys::linux::{Linux, Surroundings};
use crate::sys::listen::{Listeners, StdListener};
use crate::sys::signals::Signals;
use crate::sys::spawn::Output;
use crate::sys::systemd::{Systemd, watchdog};
use crate::sys::{clock, launch, limits, remote};
use crate::units::Generation;
use audience::{Roster, RunAudience, Watcher};
use sockets::Sockets;

/// Runs the service that `path` describes until it is told to stop.
pub fn run(path: &Path) -> Result<(), CommandError> {
    let config = Arc::new(configuration::read(path)?);
    launch::check(&config).map_err(|error| CommandError::Config(error.to_string()))?;
    let mut signals = Signals::of_a_service().map_err(CommandError::system("cannot catch signals"))?;
    limits::raise_open_files();
    let systemd =
        Systemd::new(env::var_os("NOTIFY_SOCKET").as_deref()).map_err(CommandError::system("cannot reach NOTIFY_SOCKET"))?;
    let sockets = Sockets::open(&config)?;
    let listeners = &sockets.http;
    keep(&systemd, &sockets);
    say_what_runs(&config, listeners);
    let counters = Counters::new(SystemTime::now()).expect("invariant: metric names are distinct and valid");
    let counters = Arc::new(counters);
    let roster = Arc::new(Board::new(Roster::empty(clock::now(), &config)));
    let endpoint = endpoint(&sockets, &counters, &roster)?;
    let control = control(&sockets, &roster)?;
    let (_remote, inbox) = remote::pair().map_err(CommandError::system("cannot make an eventfd"))?;
    let first = Arc::clone(&config);
    let loader =
        Box::new(move |generation| if generation == Generation::FIRST { Ok(Arc::clone(&first)) } else { reload(path, &first) });
    let env = launch::environment(env::vars_os());
    let output = Output::Inherit;
    let around = Surroundings { signals: &mut signals, listeners, inbox, loader, output: &output, env };
    let mut host = Linux::new(around).map_err(CommandError::system("cannot become a supervisor"))?;
    let variable = |name| env::var(name).ok();
    let herald = Herald::new(watchdog(variable("WATCHDOG_USEC").as_deref(), variable("WATCHDOG_PID").as_deref()));
    let settings = Settings::of(&config);
    let outcome = serve(&mut host, settings, &mut RunAudience::new(systemd, counters, roster, herald));
    drop(host);
    drop(control);
    drop(endpoint);
    match outcome {
        Outcome::Stopped => Ok(()),
        Outcome::AppNotLoaded { reason } => Err(CommandError::AppNotLoaded(reason)),
        Outcome::WorkersNotBooting { reason } => Err(CommandError::WorkersNotBooting(reason)),
    }
}

/// Puts the sockets where they outlive us. Where systemd itself started us as a service it hands them to whoever is started next,
/// also after a stop that belongs to a restart, so clients go on finding the files of unix sockets.
fn keep(systemd: &Systemd, sockets: &Sockets) {
    systemd.keep(&sockets.http, &sockets.lapsed);
    if env::var("SYSTEMD_EXEC_PID").is_ok_and(|pid| pid == std::process::id().to_string()) {
        sockets.http.leave_files();
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
        connections = config.connections.get(),
        listen = addresses.join(", "),
        "tuningfork starts"
    );
}

/// What a reload reads. Sockets stay as they are: all generations share them.
fn reload(path: &Path, first: &Config) -> Result<Arc<Config>, String> {
    let config = configuration::read(path).map_err(|error| error.to_string())?;
    if config.listen != first.listen || config.metrics != first.metrics || config.control != first.control {
        tracing::warn!("[listen], [metrics] or [control] has changed: that needs a restart, the sockets stay as they are");
    }
    Ok(Arc::new(config))
}

fn endpoint(sockets: &Sockets, counters: &Arc<Counters>, roster: &Arc<Board<Roster>>) -> Result<Option<Endpoint>, CommandError> {
    let Some(listener) = sockets.metrics.as_ref().and_then(|metrics| metrics.all().first()) else { return Ok(None) };
    tracing::info!(listen = %listener.address(), "metrics");
    let listener = match listener.to_std().map_err(CommandError::system("cannot use the metrics socket"))? {
        StdListener::Tcp(listener) => Listener::Tcp(listener),
        StdListener::Unix(listener) => Listener::Unix(listener),
    };
    let watcher = Watcher::new(Arc::clone(roster), Arc::clone(&sockets.http));
    let endpoint = Endpoint::start(listener, Exposition::new(Arc::clone(counters), watcher))
        .map_err(|error| CommandError::System { what: "cannot serve metrics", source: std::io::Error::other(error) })?;
    Ok(Some(endpoint))
}

fn control(sockets: &Sockets, roster: &Arc<Board<Roster>>) -> Result<Option<Server>, CommandError> {
    let Some(socket) = &sockets.control else { return Ok(None) };
    let server = Server::start(Arc::clone(socket), Watcher::new(Arc::clone(roster), Arc::clone(&sockets.http)))?;
    if let Some(listener) = socket.all().first() {
        tracing::info!(socket = %listener.address(), "control");
    }
    Ok(Some(server))
}
