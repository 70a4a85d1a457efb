//! Those who hear of transitions: the log, Prometheus' counters, systemd, and the roster that scrapes read.

use std::sync::Arc;
use std::time::SystemTime;

use super::desks::{Desks, Premises};
use crate::commands::CommandError;
use crate::config::Config;
use crate::control::{self, Status, Worker};
use crate::metrics::{Board, ListenerRow, Observation, Pulse, Source, WorkerProcess, WorkerRow};
use crate::serve::Audience;
use crate::supervisor::event::{Haste, Reason, Transition, WorkerState};
use crate::supervisor::herald::{Herald, Notice};
use crate::supervisor::{Supervisor, WorkerView};
use crate::sys::linux::Linux;
use crate::sys::listen::Listeners;
use crate::sys::succession::{Charge, Predecessor};
use crate::sys::systemd::Systemd;
use crate::sys::{accounting, clock, cpu, queue};
use crate::units::{Connections, Moment, Slot, Workers};

/// Who works, as of the main loop's last turn.
pub(super) struct Roster {
    turned: Moment,
    target: Workers,
    connections: Connections,
    workers: Vec<(WorkerView, Option<u32>)>,
    waiting: Vec<Slot>,
    stopping: bool,
}

impl Roster {
    /// What the control socket tells.
    pub(super) fn status(&self) -> Status {
        let living = self.workers.iter().map(|(view, pid)| Worker {
            slot: view.slot.0,
            pid: *pid,
            state: view.state.name().to_owned(),
            generation: Some(view.generation.0),
        });
        let waiting = self.waiting.iter().map(|slot| Worker {
            slot: slot.0,
            pid: None,
            state: WorkerState::Waiting.name().to_owned(),
            generation: None,
        });
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            target: self.target.get(),
            ready: self.ready(),
            stopping: self.stopping,
            workers: living.chain(waiting).collect(),
        }
    }

    fn ready(&self) -> u16 {
        let ready = self.workers.iter().filter(|(view, _)| view.state == WorkerState::Ready).count();
        u16::try_from(ready).unwrap_or(u16::MAX)
    }

    /// Nobody yet.
    pub(super) fn empty(now: Moment, config: &Config) -> Self {
        Self {
            turned: now,
            target: config.workers,
            connections: config.connections,
            workers: Vec::new(),
            waiting: Vec::new(),
            stopping: false,
        }
    }
}

/// Hears every turn of `run`'s main loop.
pub(super) struct RunAudience<'a> {
    systemd: &'a Systemd,
    premises: &'a Premises,
    herald: Herald,
    predecessor: Option<&'a Predecessor>,
    /// Open while the service is ours.
    desks: Option<Desks>,
}

impl<'a> RunAudience<'a> {
    /// Opens the desks, unless a predecessor has the service.
    pub(super) fn new(
        systemd: &'a Systemd,
        premises: &'a Premises,
        herald: Herald,
        predecessor: Option<&'a Predecessor>,
    ) -> Result<Self, CommandError> {
        let desks = if predecessor.is_none() { Some(premises.open()?) } else { None };
        Ok(Self { systemd, premises, herald, predecessor, desks })
    }

    /// Tells a predecessor when it may leave, and takes the service over when it says so.
    fn succeed(&mut self, supervisor: &Supervisor) {
        let Some(predecessor) = self.predecessor else { return };
        if supervisor.serves_in_full() {
            predecessor.say_ready();
        }
        if predecessor.charge() == Charge::Waiting || self.desks.is_some() || supervisor.is_stopping() {
            return;
        }
        tracing::info!("the service is ours now");
        self.systemd.speak();
        self.herald.begin_anew();
        self.premises.keep(self.systemd);
        self.desks = Some(self.premises.open().unwrap_or_else(|error| {
            // Workers serve; to end for this would be worse.
            tracing::error!("metrics and control are not served: {error}");
            Desks::default()
        }));
    }

    fn tell_systemd(&mut self, supervisor: &Supervisor, transitions: &[Transition]) {
        for notice in self.herald.turn(clock::now(), supervisor, transitions) {
            match notice {
                Notice::Ready => self.systemd.ready(),
                Notice::Reloading => self.systemd.reloading(clock::now()),
                Notice::Stopping => self.systemd.stopping(),
                Notice::Alive => self.systemd.alive(),
                Notice::Status(line) => self.systemd.status(&line),
                Notice::Extend(span) => self.systemd.extend(span),
            }
        }
    }
}

impl Audience<Linux<'_>> for RunAudience<'_> {
    fn hear(&mut self, host: &Linux<'_>, supervisor: &Supervisor, transitions: &[Transition]) {
        let newest = supervisor.workers().map(|view| view.generation).max();
        let connections = newest.and_then(|generation| host.config(generation)).map(|config| config.connections);
        let roster = &self.premises.roster;
        let before = roster.read();
        roster.publish(Roster {
            turned: clock::now(),
            target: Workers::new(u32::from(supervisor.target())).unwrap_or(before.target),
            connections: connections.unwrap_or(before.connections),
            workers: supervisor.workers().map(|view| (view, host.pid(view.worker))).collect(),
            waiting: supervisor.waiting().collect(),
            stopping: supervisor.is_stopping(),
        });
        for transition in transitions {
            self.premises.counters.record(transition, SystemTime::now());
        }
        // Told last: who reads that something happened finds it on the page.
        for transition in transitions {
            log(host, transition);
            if *transition == Transition::HandedOver {
                self.desks = None;
            }
        }
        self.succeed(supervisor);
        self.tell_systemd(supervisor, transitions);
    }

    fn deadline(&self) -> Option<Moment> {
        self.herald.deadline()
    }
}

/// One line a transition, as fields.
fn log(host: &Linux<'_>, transition: &Transition) {
    match transition {
        Transition::WorkerStarted { worker, slot, generation } => {
            tracing::debug!(id = %worker, worker = %slot, %generation, "worker starts");
        }
        Transition::WorkerReady { worker, slot, took } => {
            tracing::info!(id = %worker, worker = %slot, pid = host.pid(*worker), took_ms = took.as_millis(), "worker ready");
        }
        Transition::WorkerStopping { worker, slot, reason: Reason::Timeout } => {
            tracing::error!(id = %worker, worker = %slot, pid = host.pid(*worker), "worker timeout: silent for longer than `timeout`, aborting it");
        }
        Transition::WorkerStopping { worker, slot, reason: Reason::BootTimeout } => {
            tracing::error!(id = %worker, worker = %slot, pid = host.pid(*worker), "worker not ready within `boot-timeout`, aborting it");
        }
        Transition::WorkerStopping { worker, slot, reason } => {
            tracing::info!(id = %worker, worker = %slot, pid = host.pid(*worker), reason = reason.name(), "worker stopping");
        }
        Transition::WorkerKilled { worker, slot } => {
            tracing::warn!(id = %worker, worker = %slot, pid = host.pid(*worker), "worker did not leave in time and is killed");
        }
        Transition::WorkerExited { worker, slot, exit, reason, detail } => {
            log_exit(*worker, *slot, *exit, *reason, detail.as_deref());
        }
        Transition::SlotWaits { slot, wait, failures } => {
            tracing::warn!(worker = %slot, failures, wait_ms = wait.as_millis(), "worker keeps failing; waiting before the next attempt");
        }
        Transition::ReloadStarted { generation } => tracing::info!(%generation, "reload begins"),
        Transition::ReloadFinished { generation } => tracing::info!(%generation, "reload finished"),
        Transition::ReloadFailed { generation, reason } => {
            tracing::error!(%generation, "reload failed, the old workers keep serving: {reason}");
        }
        Transition::TargetChanged { target } => tracing::info!(workers = target.get(), "number of workers changed"),
        Transition::BecameReady => tracing::info!("service ready"),
        Transition::UpgradeStarted => tracing::info!("upgrade begins: the new program is started beside this one"),
        Transition::UpgradeFailed { reason } => tracing::error!("upgrade failed, this supervisor keeps the service: {reason}"),
        Transition::HandedOver => {
            tracing::info!(successor = host.successor(), "upgrade finished: the service is the successor's");
        }
        Transition::Stopping { haste: Haste::Graceful } => tracing::info!("stopping: requests in flight are answered"),
        Transition::Stopping { haste: Haste::Quick } => tracing::info!("stopping at once"),
    }
}

fn log_exit(
    worker: crate::units::WorkerId,
    slot: Slot,
    exit: Option<crate::supervisor::event::Exit>,
    reason: Reason,
    detail: Option<&str>,
) {
    let exit = exit.map(|exit| exit.to_string());
    match reason {
        Reason::Crash | Reason::BootFailure | Reason::BootTimeout | Reason::Timeout => {
            tracing::error!(id = %worker, worker = %slot, exit, detail, reason = reason.name(), "worker ended");
        }
        Reason::Reload | Reason::Scale | Reason::Stop => {
            tracing::info!(id = %worker, worker = %slot, exit, reason = reason.name(), "worker ended");
        }
    }
}

/// Answers the metrics endpoint and the control socket, each on its thread.
pub(super) struct Watcher {
    roster: Arc<Board<Roster>>,
    listeners: Arc<Listeners>,
}

impl Watcher {
    pub(super) const fn new(roster: Arc<Board<Roster>>, listeners: Arc<Listeners>) -> Self {
        Self { roster, listeners }
    }
}

impl control::Source for Watcher {
    fn status(&self) -> Status {
        self.roster.read().status()
    }

    fn is_stopping(&self) -> bool {
        self.roster.read().stopping
    }

    fn listeners(&self) -> &Listeners {
        &self.listeners
    }
}

impl Source for Watcher {
    fn observe(&mut self) -> Observation {
        let roster = self.roster.read();
        let living = roster.workers.iter().map(|(view, pid)| WorkerRow {
            slot: view.slot,
            state: view.state,
            process: pid.map(|pid| WorkerProcess {
                worker: view.worker,
                pid,
                generation: view.generation,
                reading: accounting::reading(pid),
            }),
        });
        let waiting = roster.waiting.iter().map(|slot| WorkerRow { slot: *slot, state: WorkerState::Waiting, process: None });
        let listeners = self.listeners.all().iter();
        Observation {
            workers: living.chain(waiting).collect(),
            target: roster.target,
            connections: roster.connections,
            listeners: listeners
                .map(|listener| ListenerRow {
                    name: listener.address().to_string(),
                    queue: queue::listen_queue(listener.fd()).ok(),
                })
                .collect(),
            losses: queue::listen_losses().ok().flatten(),
            cores: cpu::core_times().unwrap_or_default(),
            own: accounting::own(),
        }
    }

    fn pulse(&mut self) -> Pulse {
        let roster = self.roster.read();
        Pulse { since_turn: clock::now().since(roster.turned), ready: roster.ready(), stopping: roster.stopping }
    }
}
