//! Those who hear of transitions: the log, Prometheus' counters, systemd, and the roster that scrapes read.

use std::sync::Arc;
use std::time::SystemTime;

use super::chronicle::Chronicle;
use super::roster::Roster;
use crate::metrics::{Board, Counters};
use crate::serve::Audience;
use crate::supervisor::Supervisor;
use crate::supervisor::event::{Haste, Reason, Transition};
use crate::sys::clock;
use crate::sys::linux::Linux;
use crate::sys::remote::Remote;
use crate::sys::systemd::Systemd;
use crate::units::Slot;

/// Hears every turn of `run`'s main loop.
pub(super) struct RunAudience {
    systemd: Systemd,
    counters: Arc<Counters>,
    roster: Arc<Board<Roster>>,
    remote: Remote,
    chronicle: Chronicle,
    status: String,
}

impl RunAudience {
    pub(super) fn new(systemd: Systemd, counters: Arc<Counters>, roster: Arc<Board<Roster>>, remote: Remote) -> Self {
        Self { systemd, counters, roster, remote, chronicle: Chronicle::default(), status: String::new() }
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
            | Transition::TargetChanged { .. }
            | Transition::LogsReopened
            | Transition::Answered { .. } => {}
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
    fn hear(&mut self, host: &mut Linux<'_>, supervisor: &Supervisor, transitions: &[Transition]) {
        let now = clock::now();
        for transition in transitions {
            self.chronicle.note(now, transition);
        }
        let before = self.roster.read();
        self.roster.publish(before.next(now, host, supervisor, self.chronicle.clone()));
        for transition in transitions {
            self.counters.record(transition, SystemTime::now());
        }
        // Told last: who reads that something happened finds it on the page.
        for transition in transitions {
            log(host, transition);
            self.tell_systemd(transition);
            if let Transition::TargetChanged { target } = transition {
                host.tell_target(*target);
            }
        }
        self.tell_status(supervisor);
        // Who is answered finds what it was told in the status.
        for transition in transitions {
            if let Transition::Answered { request, answer } = transition {
                self.remote.answer(*request, *answer);
            }
        }
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
            tracing::error!("no worker serves, and new ones fail: one at a time is tried until one serves");
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
        Transition::TargetChanged { target: 0 } => {
            tracing::info!("resting: all workers leave, the sockets stay; HUP brings them back");
        }
        Transition::TargetChanged { target } => tracing::info!(workers = target, "number of workers changed"),
        Transition::LogsReopened => tracing::info!("log files are opened anew"),
        Transition::Answered { answer: Err(refusal), .. } => tracing::warn!("refused: {refusal}"),
        Transition::Answered { answer: Ok(_), .. } => {}
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
        | Reason::Replace
        | Reason::Stop => {
            tracing::info!(id = %worker, worker = %slot, exit, reason = reason.name(), "worker ended");
        }
    }
}
