//! What the supervisor's thread tells the measuring thread about the candidate, and the other way round.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::serve::Audience;
use crate::supervisor::Supervisor;
use crate::supervisor::event::{Reason, Transition};
use crate::sys::linux::Linux;

use super::floor::{Floor, Low};

/// How often the memory is looked at while workers start.
const LOOK: Duration = Duration::from_millis(100);

/// Where the candidate stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Phase {
    /// Workers are starting.
    #[default]
    Starting,
    /// All of them serve.
    Ready,
    /// Some of them do not come up.
    Short,
    /// The supervisor has ended.
    Over,
}

#[derive(Debug, Default)]
struct Scene {
    phase: Phase,
    pids: Vec<u32>,
    crashes: u32,
    ending: bool,
    interrupted: bool,
}

/// The shared state. Each lock is held for a few instructions.
#[derive(Debug, Default)]
pub(super) struct Backstage {
    scene: Mutex<Scene>,
    changed: Condvar,
}

impl Backstage {
    fn scene(&self) -> MutexGuard<'_, Scene> {
        self.scene.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the candidate is ready or gone, as long as it leaves enough memory.
    pub(super) fn await_ready(&self, floor: Floor) -> Result<Phase, Low> {
        loop {
            floor.check()?;
            let waiting = self.changed.wait_timeout_while(self.scene(), LOOK, |scene| scene.phase == Phase::Starting);
            let phase = waiting.unwrap_or_else(PoisonError::into_inner).0.phase;
            if phase != Phase::Starting {
                return Ok(phase);
            }
        }
    }

    /// Waits for so long, or until the candidate is gone.
    pub(super) fn rest(&self, span: Duration) {
        let goes_on = |scene: &mut Scene| scene.phase != Phase::Over;
        drop(self.changed.wait_timeout_while(self.scene(), span, goes_on));
    }

    /// The supervisor has ended.
    pub(super) fn end(&self) {
        self.scene().phase = Phase::Over;
        self.changed.notify_all();
    }

    /// From now on a stop is what we asked for.
    pub(super) fn expect_the_end(&self) {
        self.scene().ending = true;
    }

    /// Whether somebody else asked for a stop.
    pub(super) fn is_interrupted(&self) -> bool {
        self.scene().interrupted
    }

    /// The workers' processes.
    pub(super) fn pids(&self) -> Vec<u32> {
        self.scene().pids.clone()
    }

    /// Workers that ended without being asked to, since the start.
    pub(super) fn crashes(&self) -> u32 {
        self.scene().crashes
    }
}

/// Keeps the shared state true.
pub(super) struct Prompter<'a>(&'a Backstage);

impl<'a> Prompter<'a> {
    pub(super) const fn new(backstage: &'a Backstage) -> Self {
        Self(backstage)
    }
}

impl Audience<Linux<'_>> for Prompter<'_> {
    fn hear(&mut self, host: &Linux<'_>, supervisor: &Supervisor, transitions: &[Transition]) {
        if transitions.is_empty() {
            return;
        }
        let mut scene = self.0.scene();
        scene.pids = supervisor.workers().filter_map(|view| host.pid(view.worker)).collect();
        for transition in transitions {
            match transition {
                Transition::BecameReady => {
                    let all = supervisor.ready() >= usize::from(supervisor.target());
                    scene.phase = if all { Phase::Ready } else { Phase::Short };
                    self.0.changed.notify_all();
                }
                Transition::Stopping { .. } if !scene.ending => scene.interrupted = true,
                Transition::WorkerExited { reason, .. } => scene.crashes += u32::from(is_crash(*reason)),
                Transition::WorkerStarted { .. }
                | Transition::WorkerReady { .. }
                | Transition::WorkerStopping { .. }
                | Transition::WorkerKilled { .. }
                | Transition::WorkerStuck { .. }
                | Transition::NobodyServes
                | Transition::SlotWaits { .. }
                | Transition::ReloadStarted { .. }
                | Transition::ReloadFinished { .. }
                | Transition::ReloadFailed { .. }
                | Transition::TargetChanged { .. }
                | Transition::UpgradeStarted
                | Transition::UpgradeFailed { .. }
                | Transition::HandedOver
                | Transition::Orphaned
                | Transition::LogsReopened
                | Transition::Answered { .. }
                | Transition::Stopping { .. } => {}
            }
        }
    }
}

const fn is_crash(reason: Reason) -> bool {
    match reason {
        Reason::Crash | Reason::OutOfMemory | Reason::Left | Reason::BootFailure | Reason::BootTimeout | Reason::Timeout => true,
        Reason::MaxRequests
        | Reason::MaxAge
        | Reason::MaxMemory
        | Reason::Reload
        | Reason::Scale
        | Reason::Replace
        | Reason::Stop => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_candidate_that_takes_the_memory_of_others_is_not_waited_for() {
        assert!(Backstage::default().await_ready(Floor::under(Some(u64::MAX))).is_err());
        let backstage = Backstage::default();
        backstage.end();
        assert_eq!(backstage.await_ready(Floor::under(None)), Ok(Phase::Over));
        // Nobody is left to wait for.
        backstage.rest(Duration::MAX);
    }
}
