//! `tuningfork run`: the service. Reads the configuration, binds, and lets [`serve`] do the rest.

mod audience;
mod chronicle;
mod desks;
mod logging;
mod pidfile;
mod roster;
mod sockets;

use std::env;
use std::ffi::OsString;
use std::panic::{set_hook, take_hook};
use std::process::abort;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::configuration::Source;
use super::{CommandError, socket};
use crate::config::{App, Config};
use crate::metrics::{Board, Counters};
use crate::serve::serve;
use crate::supervisor::Outcome;
use crate::supervisor::event::Settings;
use crate::supervisor::herald::Herald;
use crate::sys::inherit::{Inherited, Variables};
use crate::sys::linux::{Linux, Loading, Surroundings};
use crate::sys::listen::{Listener, Listeners};
use crate::sys::log::Log;
use crate::sys::signals::{Signals, hold_back_tstp};
use crate::sys::spawn::Output;
use crate::sys::succession::{Estate, Predecessor, own_program};
use crate::sys::sweep::sweep;
use crate::sys::systemd::{Systemd, watchdog};
use crate::sys::{clock, launch, limits, remote};
use crate::units::Generation;
use audience::RunAudience;
use desks::Premises;
use roster::Roster;
use sockets::Sockets;

/// What ending leftovers may take beside graceful-timeout.
const SWEEP_MARGIN: Duration = Duration::from_secs(10);

/// Runs the service that `source` describes until it is told to stop.
pub fn run(source: &Source) -> Result<(), CommandError> {
    end_by_a_panic();
    hold_back_tstp();
    // LISTEN_FDS and its fellows are read once, here, and reach no program that we start.
    let mut inherited = Inherited::take(&Variables::read(|name| env::var(name).ok()))?;
    let predecessor = inherited.predecessor().map(Predecessor::new);
    // Where the configuration is found may be another place when the service ends.
    let folders = socket::to_leave(&source.path());
    let outcome = supervise(source, inherited, predecessor.as_ref());
    socket::leave(&folders);
    if let (Err(error), Some(predecessor)) = (&outcome, &predecessor) {
        predecessor.say_failed(&error.to_string());
    }
    outcome
}

/// A panic of any thread ends the process: half of a supervisor is worse than a new one. Released programs are built so; here the
/// others, which are tested, are made so.
fn end_by_a_panic() {
    let tell = take_hook();
    set_hook(Box::new(move |panic| {
        tell(panic);
        abort();
    }));
}

fn supervise(source: &Source, inherited: Inherited, predecessor: Option<&Predecessor>) -> Result<(), CommandError> {
    let config = Arc::new(source.read()?);
    if let Some(predecessor) = predecessor {
        predecessor.say_began(config.timing.boot_timeout);
    }
    // Before there are threads: one that does not hold signals back would take those that come while handlers are installed.
    let mut signals = Signals::of_a_service().map_err(CommandError::system("cannot catch signals"))?;
    let log = logging::begin(&config.log)?;
    let outcome = supervise_with(&config, &log, &mut signals, source, inherited, predecessor);
    if let (Err(error), Some(_)) = (&outcome, &config.log.file) {
        // Standard error, where it is told too, may be nowhere.
        tracing::error!("{error}");
    }
    outcome
}

fn supervise_with(
    config: &Arc<Config>,
    log: &Log,
    signals: &mut Signals,
    source: &Source,
    inherited: Inherited,
    predecessor: Option<&Predecessor>,
) -> Result<(), CommandError> {
    launch::check(config).map_err(|error| CommandError::Config(error.to_string()))?;
    for remark in source.remarks() {
        tracing::warn!("gunicorn: {remark}");
    }
    limits::raise_open_files();
    let systemd = manager(predecessor)?;
    let (remote, inbox) = remote::pair().map_err(CommandError::system("cannot make an eventfd"))?;
    let by_systemd = desks::is_by_systemd(predecessor.is_some());
    if predecessor.is_none() {
        // What is left behind may hold the addresses.
        clear_up(config, by_systemd, &systemd);
    }
    let premises = Premises {
        sockets: Sockets::open(source, config, inherited)?,
        counters: Arc::new(Counters::new(SystemTime::now()).expect("invariant: metric names are distinct and valid")),
        roster: Arc::new(Board::new(Roster::empty(clock::now(), config))),
        remote,
        log: log.clone(),
        pidfile: config.pidfile.clone(),
        by_systemd,
    };
    if predecessor.is_none() {
        premises.keep(&systemd);
    }
    let listeners = &premises.sockets.http;
    say_what_runs(config, listeners);
    let first = Arc::clone(config);
    let loader =
        Box::new(
            move |generation| {
                if generation == Generation::FIRST { Loading::Done(Ok(Arc::clone(&first))) } else { source.load_again(&first) }
            },
        );
    let env = launch::environment(env::vars_os());
    let output = if config.log.capture { Output::Through(log.clone()) } else { Output::Inherit };
    let estate = estate(&premises, &systemd);
    let own = Some(log.clone());
    let around = Surroundings { signals, listeners, inbox, loader, output: &output, log: own, env, estate, predecessor };
    let mut host = Linux::new(around).map_err(CommandError::system("cannot become a supervisor"))?;
    let mut audience = RunAudience::new(&systemd, &premises, herald(predecessor), predecessor)?;
    let outcome = serve(&mut host, Settings::of(config), &mut audience);
    drop(host);
    match outcome {
        Outcome::Stopped | Outcome::HandedOver => Ok(()),
        Outcome::AppNotLoaded { reason } => Err(CommandError::AppNotLoaded(reason)),
        Outcome::WorkersKeepFailing { reason } => Err(CommandError::WorkersKeepFailing(reason)),
        Outcome::WorkersNotBooting { reason } => Err(CommandError::WorkersNotBooting(reason)),
    }
}

/// Whoever set NOTIFY_SOCKET. It hears us only while we have the service.
fn manager(predecessor: Option<&Predecessor>) -> Result<Systemd, CommandError> {
    let socket = env::var_os("NOTIFY_SOCKET");
    let systemd = Systemd::new(socket.as_deref()).map_err(CommandError::system("cannot reach NOTIFY_SOCKET"))?;
    if predecessor.is_some() {
        systemd.fall_silent();
    }
    Ok(systemd)
}

/// A predecessor hands WATCHDOG_USEC on for us, and WATCHDOG_PID not at all.
fn herald(predecessor: Option<&Predecessor>) -> Herald {
    let variable = |name| env::var(name).ok();
    let pid = variable("WATCHDOG_PID").filter(|_| predecessor.is_none());
    Herald::new(watchdog(variable("WATCHDOG_USEC").as_deref(), pid.as_deref()))
}

/// Ends what a killed supervisor left in our control group. Anywhere else the group is shared with others, a terminal's shell for
/// example: there, who still listens at our address is named, and nobody is signalled.
fn clear_up(config: &Config, by_systemd: bool, systemd: &Systemd) {
    let patience = config.timing.graceful_timeout;
    if by_systemd {
        sweep(patience, || systemd.extend(patience.saturating_add(SWEEP_MARGIN)));
    }
}

/// What a successor gets: our command line and environment, and every socket.
fn estate<'a>(premises: &'a Premises, systemd: &'a Systemd) -> Result<Estate<'a>, &'static str> {
    if std::process::id() == 1 {
        return Err(
            "this supervisor is process 1, whose end is the end of its container; start a container with the new program",
        );
    }
    let handed_on = |key: &OsString| premises.by_systemd || key != "SYSTEMD_EXEC_PID";
    let sockets = &premises.sockets;
    Ok(Estate {
        program: own_program(),
        arguments: env::args_os().skip(1).collect(),
        env: env::vars_os().filter(|(key, _)| handed_on(key)).collect(),
        http: &sockets.http,
        metrics: sockets.metrics.as_deref(),
        control: sockets.control.as_deref(),
        systemd,
    })
}

fn say_what_runs(config: &Config, listeners: &Listeners) {
    let addresses: Vec<_> = listeners.all().iter().map(Listener::in_words).collect();
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
