//! Those who hear of transitions: the log, Prometheus' counters, systemd, and the roster that scrapes read.

use std::sync::Arc;
use std::time::SystemTime;

use crate::config::Config;
use crate::control::{self, Status, Worker};
use crate::metrics::{Board, Counters, ListenerRow, Observation, Pulse, Source, WorkerProcess, WorkerRow};
use crate::serve::Audience;
use crate::supervisor::event::{Haste, Reason, Transition, WorkerState};
use crate::supervisor::{Supervisor, WorkerView};
use crate::sys::linux::Linux;
use crate::sys::listen::Listeners;
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
pub(super) struct RunAudience {
    systemd: Systemd,
    counters: Arc<Counters>,
    roster: Arc<Board<Roster>>,
    status: String,
}

impl RunAudience {
    pub(super) const fn new(systemd: Systemd, counters: Arc<Counters>, roster: Arc<Board<Roster>>) -> Self {
        Self { systemd, counters, roster, status: String::new() }
    }

    fn tell_systemd(&mut self, transition: &Transition) {
        match transition {
            Transition::BecameReady | Transition::ReloadFinished { .. } | Transition::ReloadFailed { .. } => self.systemd.ready(),
            Transition::ReloadStarted { .. } => self.systemd.reloading(clock::now()),
            Transition::Stopping { .. } => self.systemd.stopping(),
            Transition::WorkerStarted { .. }
            | Transition::WorkerReady { .. }
            | Transition::WorkerStopping { .. }
            | Transition::WorkerKilled { .. }
            | Transition::WorkerStuck { .. }
            | Transition::NobodyServes
            | Transition::WorkerExited { .. }
            | Transition::SlotWaits { .. }
            | Transition::TargetChanged { .. } => {}
        }
    }

    fn tell_status(&mut self, supervisor: &Supervisor) {
        let doing = if supervisor.is_stopping() { "stopping, " } else { "" };
        let barren = if supervisor.is_barren() { "; they keep failing, one is tried at a time" } else { "" };
        let status = format!("{doing}{} of {} workers ready{barren}", supervisor.ready(), supervisor.target());
        if status != self.status {
            self.systemd.status(&status);
            self.status = status;
        }
    }
}

impl Audience<Linux<'_>> for RunAudience {
    fn hear(&mut self, host: &Linux<'_>, supervisor: &Supervisor, transitions: &[Transition]) {
        let newest = supervisor.workers().map(|view| view.generation).max();
        let connections = newest.and_then(|generation| host.config(generation)).map(|config| config.connections);
        let before = self.roster.read();
        self.roster.publish(Roster {
            turned: clock::now(),
            target: Workers::new(u32::from(supervisor.target())).unwrap_or(before.target),
            connections: connections.unwrap_or(before.connections),
            workers: supervisor.workers().map(|view| (view, host.pid(view.worker))).collect(),
            waiting: supervisor.waiting().collect(),
            stopping: supervisor.is_stopping(),
        });
        for transition in transitions {
            self.counters.record(transition, SystemTime::now());
        }
        // Told last: who reads that something happened finds it on the page.
        for transition in transitions {
            log(host, transition);
            self.tell_systemd(transition);
        }
        self.tell_status(supervisor);
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
        Transition::WorkerStuck { worker, slot } => {
            tracing::error!(id = %worker, worker = %slot, pid = host.pid(*worker), "worker does not end by SIGKILL: the kernel holds it; another takes its place");
        }
        Transition::NobodyServes => {
            tracing::error!("no worker serves, and new ones fail: one at a time is tried until one serves")
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
        Reason::Crash | Reason::OutOfMemory | Reason::BootFailure | Reason::BootTimeout | Reason::Timeout => {
            tracing::error!(id = %worker, worker = %slot, exit, detail, reason = reason.name(), "worker ended");
        }
        Reason::Left
        | Reason::MaxRequests
        | Reason::MaxAge
        | Reason::MaxMemory
        | Reason::Reload
        | Reason::Scale
        | Reason::Stop => {
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
