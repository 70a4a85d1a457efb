//! Who works, as of the main loop's last turn, and what is told of it: to Prometheus, to probes, at the control socket.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::chronicle::Chronicle;
use crate::config::Config;
use crate::control::{self, Status, Worker};
use crate::metrics::{Board, ListenerRow, Observation, Pulse, Source, WorkerProcess, WorkerRow};
use crate::supervisor::event::{Answer, Wish, WorkerState};
use crate::supervisor::{Phase, Supervisor, WorkerView};
use crate::sys::linux::Linux;
use crate::sys::listen::Listeners;
use crate::sys::log::{Health, Log};
use crate::sys::remote::Remote;
use crate::sys::{accounting, clock, cpu, queue};
use crate::units::{Connections, Generation, Moment, Slot};

/// Who works.
pub(super) struct Roster {
    began: Moment,
    turned: Moment,
    changes: u64,
    phase: Phase,
    generation: Generation,
    target: u16,
    connections: Connections,
    /// What sockets and files were made by.
    first: Arc<Config>,
    awaits_restart: Vec<&'static str>,
    workers: Vec<(WorkerView, Option<u32>)>,
    waiting: Vec<Slot>,
    successor: Option<u32>,
    chronicle: Arc<Chronicle>,
}

impl Roster {
    /// Nobody yet.
    pub(super) fn empty(now: Moment, config: &Arc<Config>) -> Self {
        Self {
            began: now,
            turned: now,
            changes: 0,
            phase: Phase::Starting,
            generation: Generation::FIRST,
            target: config.workers.get(),
            connections: config.connections,
            first: Arc::clone(config),
            awaits_restart: Vec::new(),
            workers: Vec::new(),
            waiting: Vec::new(),
            successor: None,
            chronicle: Arc::default(),
        }
    }

    /// What follows it.
    pub(super) fn next(&self, now: Moment, host: &Linux<'_>, supervisor: &Supervisor, chronicle: Arc<Chronicle>) -> Self {
        let newest = supervisor.workers().map(|view| view.generation).max();
        let config = newest.and_then(|generation| host.config(generation));
        Self {
            began: self.began,
            turned: now,
            changes: chronicle.changes,
            phase: supervisor.phase(),
            generation: supervisor.generation(),
            target: supervisor.target(),
            connections: config.map_or(self.connections, |config| config.connections),
            first: Arc::clone(&self.first),
            awaits_restart: config.map_or_else(|| self.awaits_restart.clone(), |config| self.first.fixed_until_restart(config)),
            workers: supervisor.workers().map(|view| (view, host.pid(view.worker))).collect(),
            waiting: supervisor.waiting().collect(),
            successor: host.successor(),
            chronicle,
        }
    }

    /// What the control socket tells.
    fn status(&self) -> Status {
        let now = clock::now();
        let living = self.workers.iter().map(|(view, pid)| Worker {
            id: Some(view.worker.0),
            pid: *pid,
            generation: Some(view.generation.0),
            age_seconds: self.chronicle.begun.get(&view.worker).map(|begun| now.since(*begun).as_secs_f64()),
            ..self.worker(view.slot, view.state)
        });
        let waiting = self.waiting.iter().map(|slot| {
            let retry_at = self.chronicle.slots.get(slot).map(|past| past.retry_at);
            let retry_seconds = retry_at.map(|at| at.since(now).as_secs_f64());
            Worker { retry_seconds, ..self.worker(*slot, WorkerState::Waiting) }
        });
        let mut workers: Vec<_> = living.chain(waiting).collect();
        workers.sort_by_key(|worker| (worker.slot, worker.id));
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            target: self.target,
            ready: self.ready(),
            stopping: self.is_stopping(),
            phase: name(self.phase).to_owned(),
            generation: self.generation.0,
            next_generation: match self.phase {
                Phase::Loading(next) | Phase::Rolling(next) => Some(next.0),
                Phase::Starting | Phase::Running | Phase::Resting | Phase::Stopping => None,
            },
            changes: self.changes,
            uptime_seconds: now.since(self.began).as_secs_f64(),
            reloads: self.chronicle.reloads(now),
            awaits_restart: self.awaits_restart.iter().map(|part| (*part).to_owned()).collect(),
            log: control::LogStatus::default(),
            successor: self.successor,
            failed_upgrades: self.chronicle.failed_upgrades,
            last_upgrade_failure: self.chronicle.last_upgrade_failure.as_deref().map(str::to_owned),
            workers,
        }
    }

    fn worker(&self, slot: Slot, state: WorkerState) -> Worker {
        let past = self.chronicle.slots.get(&slot);
        Worker {
            slot: slot.0,
            state: state.name().to_owned(),
            restarts: past.map_or(0, |past| past.restarts),
            last_exit: past.and_then(|past| past.last_exit.clone()),
            ..Worker::default()
        }
    }

    fn ready(&self) -> u16 {
        let ready = self.workers.iter().filter(|(view, _)| view.state == WorkerState::Ready).count();
        u16::try_from(ready).unwrap_or(u16::MAX)
    }

    fn is_stopping(&self) -> bool {
        self.phase == Phase::Stopping
    }
}

const fn name(phase: Phase) -> &'static str {
    match phase {
        Phase::Starting => "starting",
        Phase::Running => "running",
        Phase::Loading(_) => "loading",
        Phase::Rolling(_) => "rolling",
        Phase::Resting => "resting",
        Phase::Stopping => "stopping",
    }
}

/// Answers the metrics endpoint and the control socket, each on its thread.
pub(super) struct Watcher {
    roster: Arc<Board<Roster>>,
    listeners: Arc<Listeners>,
    remote: Remote,
    log: Log,
}

impl Watcher {
    pub(super) const fn new(roster: Arc<Board<Roster>>, listeners: Arc<Listeners>, remote: Remote, log: Log) -> Self {
        Self { roster, listeners, remote, log }
    }
}

impl control::Source for Watcher {
    fn status(&self) -> Status {
        let mut status = self.progress();
        for worker in &mut status.workers {
            let reading = worker.pid.and_then(accounting::reading);
            worker.cpu_seconds = reading.as_ref().map(|reading| reading.cpu.as_secs_f64());
            worker.memory_bytes = reading.and_then(|reading| reading.pss);
            worker.cores = worker.pid.and_then(cpu::affinity);
        }
        status
    }

    fn progress(&self) -> Status {
        let health = self.log.health();
        let dropped_lines = health.dropped.supervisor + health.dropped.zygote + health.dropped.worker;
        let Health { destination, reopened, open_failure, write_failure, .. } = health;
        let status = self.roster.read().status();
        Status {
            changes: status.changes + reopened,
            log: control::LogStatus { destination, reopened, open_failure, write_failure, dropped_lines },
            ..status
        }
    }

    fn changes(&self) -> u64 {
        self.roster.read().changes + self.log.reopened()
    }

    fn ask(&self, wish: Wish) -> Option<oneshot::Receiver<Answer>> {
        self.remote.request(wish)
    }

    fn log(&self) -> &Log {
        &self.log
    }

    fn is_stopping(&self) -> bool {
        self.roster.read().is_stopping()
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
            dropped: self.log.health().dropped,
            own: accounting::own(),
        }
    }

    fn pulse(&mut self) -> Pulse {
        let roster = self.roster.read();
        Pulse { since_turn: clock::now().since(roster.turned), ready: roster.ready(), stopping: roster.is_stopping() }
    }
}
