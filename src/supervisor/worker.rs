//! One worker's life. Each state carries what only that state needs.

use std::time::Duration;

use super::event::{Reason, WorkerState};
use crate::config::Timing;
use crate::units::{Generation, Moment, Slot};

/// A worker whose process exists, or was ordered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Worker {
    pub(super) slot: Slot,
    pub(super) generation: Generation,
    pub(super) life: Life,
    /// What it has used up, once it has.
    pub(super) worn: Option<Reason>,
}

/// Where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// Ordered, not ready.
    Starting { since: Moment, give_up_at: Moment },
    /// Serving. `last_beat` is `None` until its first heartbeat: who never beats is not judged by silence. At `old_at` it has served long
    /// enough.
    Ready { since: Moment, last_beat: Option<Moment>, old_at: Option<Moment> },
    /// Asked to leave.
    Stopping { reason: Reason, kill_at: Moment },
    /// Sent SIGQUIT: leaving at once.
    Quitting { reason: Reason, kill_at: Moment },
    /// Sent SIGABRT: it hangs, and may leave a trace.
    Aborting { reason: Reason, kill_at: Moment },
    /// Sent SIGKILL: only the kernel can still hold it.
    Killed { reason: Reason, stuck_at: Moment },
    /// Still not gone: the kernel does hold it.
    Stuck { reason: Reason },
}

impl Worker {
    /// Whether it serves or soon will.
    pub(super) const fn in_service(&self) -> bool {
        matches!(self.life, Life::Starting { .. } | Life::Ready { .. })
    }

    /// Whether it serves.
    pub(super) const fn is_ready(&self) -> bool {
        matches!(self.life, Life::Ready { .. })
    }

    /// Whether it was ordered and is not ready.
    pub(super) const fn is_starting(&self) -> bool {
        matches!(self.life, Life::Starting { .. })
    }

    /// Whether not even SIGKILL ends it.
    pub(super) const fn is_stuck(&self) -> bool {
        matches!(self.life, Life::Stuck { .. })
    }

    /// When it was ordered, if it is not ready.
    pub(super) const fn starting_since(&self) -> Option<Moment> {
        match self.life {
            Life::Starting { since, .. } => Some(since),
            Life::Ready { .. }
            | Life::Stopping { .. }
            | Life::Quitting { .. }
            | Life::Aborting { .. }
            | Life::Killed { .. }
            | Life::Stuck { .. } => None,
        }
    }

    /// When it began to serve, if it does.
    pub(super) const fn ready_since(&self) -> Option<Moment> {
        match self.life {
            Life::Ready { since, .. } => Some(since),
            Life::Starting { .. }
            | Life::Stopping { .. }
            | Life::Quitting { .. }
            | Life::Aborting { .. }
            | Life::Killed { .. }
            | Life::Stuck { .. } => None,
        }
    }

    /// Whether it serves and has used up nothing.
    pub(super) const fn is_fresh(&self) -> bool {
        self.worn.is_none()
    }

    /// Whether it leaves because it was renewed.
    pub(super) const fn is_leaving_worn(&self) -> bool {
        self.worn.is_some() && !self.in_service()
    }

    /// The state's public name.
    pub(super) const fn state(&self) -> WorkerState {
        match self.life {
            Life::Starting { .. } => WorkerState::Starting,
            Life::Ready { .. } => WorkerState::Ready,
            Life::Stopping { .. } | Life::Quitting { .. } | Life::Aborting { .. } | Life::Killed { .. } => WorkerState::Stopping,
            Life::Stuck { .. } => WorkerState::Stuck,
        }
    }

    /// When something has to be done about it if nothing is heard.
    pub(super) fn deadline(&self, timing: &Timing) -> Option<Moment> {
        match self.life {
            Life::Starting { give_up_at, .. } => Some(give_up_at),
            Life::Ready { last_beat, old_at, .. } => {
                let silent = last_beat.filter(|_| !timing.timeout.is_zero()).map(|beat| beat.after(timing.timeout));
                silent.into_iter().chain(old_at.filter(|_| self.is_fresh())).min()
            }
            Life::Stopping { kill_at: at, .. }
            | Life::Quitting { kill_at: at, .. }
            | Life::Aborting { kill_at: at, .. }
            | Life::Killed { stuck_at: at, .. } => Some(at),
            Life::Stuck { .. } => None,
        }
    }

    /// Gives back the time in which nobody listened, so that a suspended supervisor kills nobody.
    pub(super) fn forgive(&mut self, now: Moment, lost: Duration) {
        match &mut self.life {
            Life::Starting { give_up_at: limit, .. }
            | Life::Stopping { kill_at: limit, .. }
            | Life::Quitting { kill_at: limit, .. }
            | Life::Aborting { kill_at: limit, .. }
            | Life::Killed { stuck_at: limit, .. } => *limit = limit.after(lost),
            Life::Ready { last_beat, .. } => *last_beat = last_beat.map(|_| now),
            Life::Stuck { .. } => {}
        }
    }

    /// How long it has served at `now`.
    pub(super) fn served(&self, now: Moment) -> Duration {
        self.ready_since().map_or(Duration::ZERO, |since| now.since(since))
    }
}
