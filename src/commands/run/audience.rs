//! Those who hear of transitions: the log, Prometheus' counters, systemd, and the roster that scrapes read.

use std::sync::Arc;
use std::time::SystemTime;

use super::chronicle::Chronicle;
use super::desks::{Desks, Premises};
use super::pidfile::Pidfile;
use crate::commands::CommandError;
use crate::serve::Audience;
use crate::supervisor::Supervisor;
use crate::supervisor::event::{Haste, Reason, Transition};
use crate::supervisor::herald::{Herald, Notice};
use crate::sys::clock;
use crate::sys::linux::Linux;
use crate::sys::succession::Predecessor;
use crate::sys::systemd::Systemd;
use crate::units::{Moment, Slot};

/// Hears every turn of `run`'s main loop.
pub(super) struct RunAudience<'a> {
    systemd: &'a Systemd,
    premises: &'a Premises,
    herald: Herald,
    /// Shared with the roster; another one is made only when something has happened.
    chronicle: Arc<Chronicle>,
    predecessor: Option<&'a Predecessor>,
    /// Open while the service is ours.
    desks: Option<Desks>,
    /// Names us until we end, or a successor's takes its place: who reads it meanwhile finds one.
    parting: Option<Pidfile>,
}

impl<'a> RunAudience<'a> {
    /// Opens the desks, unless a predecessor has the service: then it is refused where the pid file could not be had.
    pub(super) fn new(
        systemd: &'a Systemd,
        premises: &'a Premises,
        herald: Herald,
        predecessor: Option<&'a Predecessor>,
    ) -> Result<Self, CommandError> {
        let desks = if predecessor.is_none() {
            Some(premises.open(clock::now())?)
        } else {
            premises.rehearse()?;
            None
        };
        Ok(Self { systemd, premises, herald, chronicle: Arc::default(), predecessor, desks, parting: None })
    }

    /// Tells a predecessor when it may leave, and takes the service over when it says so.
    fn succeed(&mut self, supervisor: &Supervisor) {
        let Some(predecessor) = self.predecessor else { return };
        if supervisor.serves_in_full() {
            predecessor.say_ready();
        }
        if !predecessor.charge().is_ours() || self.desks.is_some() {
            return;
        }
        self.premises.sockets.own_files();
        if supervisor.is_stopping() {
            return;
        }
        tracing::info!("the service is ours now");
        self.systemd.speak();
        self.herald.begin_anew();
        self.premises.keep(self.systemd);
        self.desks = Some(Desks::default());
    }

    fn tell_systemd(&mut self, supervisor: &Supervisor, transitions: &[Transition]) {
        for notice in self.herald.turn(clock::now(), supervisor, transitions) {
            match notice {
                Notice::Ready => {
                    self.systemd.ready();
                }
                Notice::Reloading => self.systemd.reloading(clock::now()),
                Notice::Stopping => self.systemd.stopping(),
                Notice::Alive => {
                    self.systemd.alive();
                }
                Notice::Status(line) => self.systemd.status(&line),
                Notice::Extend(span) => self.systemd.extend(span),
            }
        }
    }
}

impl Audience<Linux<'_>> for RunAudience<'_> {
    fn hear(&mut self, host: &Linux<'_>, supervisor: &Supervisor, transitions: &[Transition]) {
        if transitions.contains(&Transition::HandedOver) {
            // Who asks from now on is the successor's, and is not told that the service stops.
            self.parting = self.desks.take().and_then(Desks::close);
        }
        let now = clock::now();
        for transition in transitions {
            Arc::make_mut(&mut self.chronicle).note(now, transition);
        }
        let roster = &self.premises.roster;
        let before = roster.read();
        roster.publish(before.next(now, host, supervisor, Arc::clone(&self.chronicle)));
        for transition in transitions {
            self.premises.counters.record(transition, SystemTime::now());
        }
        // Told last: who reads that something happened finds it on the page.
        for transition in transitions {
            log(host, transition);
        }
        self.succeed(supervisor);
        if let Some(desks) = &mut self.desks {
            if transitions.iter().any(|transition| matches!(transition, Transition::ReloadStarted { .. })) {
                self.premises.make_again(desks);
            }
            self.premises.attend(desks, now);
            // Who leaves may shut down what it has; at a stop nobody needs it any more.
            if !supervisor.is_stopping() {
                self.premises.sockets.http.listen_again();
            }
        }
        self.tell_systemd(supervisor, transitions);
        // Who is answered finds what it was told in the status.
        for transition in transitions {
            if let Transition::Answered { request, answer } = transition {
                self.premises.remote.answer(*request, *answer);
            }
        }
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
        Transition::UpgradeStarted => tracing::info!("upgrade begins: the new program is started beside this one"),
        Transition::UpgradeFailed { reason } => tracing::error!("upgrade failed, this supervisor keeps the service: {reason}"),
        Transition::Orphaned => {
            tracing::error!("the supervisor that this one was to replace has ended without handing over the service");
        }
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
