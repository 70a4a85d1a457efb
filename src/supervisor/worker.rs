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
}

/// Where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// Ordered, not ready.
    Starting { since: Moment, give_up_at: Moment },
    /// Serving. `last_beat` is `None` until its first heartbeat: who never beats is not judged by silence.
    Ready { since: Moment, last_beat: Option<Moment> },
    /// Asked to leave.
    Stopping { reason: Reason, kill_at: Moment },
    /// Sent SIGQUIT: leaving at once.
    Quitting { reason: Reason, kill_at: Moment },
    /// Sent SIGABRT: it hangs, and may leave a trace.
    Aborting { reason: Reason, kill_at: Moment },
    /// Sent SIGKILL: only the kernel can still hold it.
    Killed { reason: Reason },
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

    /// The state's public name.
    pub(super) const fn state(&self) -> WorkerState {
        match self.life {
            Life::Starting { .. } => WorkerState::Starting,
            Life::Ready { .. } => WorkerState::Ready,
            Life::Stopping { .. } | Life::Quitting { .. } | Life::Aborting { .. } | Life::Killed { .. } => WorkerState::Stopping,
        }
    }

    /// When something has to be done about it if nothing is heard.
    pub(super) fn deadline(&self, timing: &Timing) -> Option<Moment> {
        match self.life {
            Life::Starting { give_up_at, .. } => Some(give_up_at),
            Life::Ready { last_beat, .. } => {
                last_beat.filter(|_| !timing.timeout.is_zero()).map(|beat| beat.after(timing.timeout))
            }
            Life::Stopping { kill_at, .. } | Life::Quitting { kill_at, .. } | Life::Aborting { kill_at, .. } => Some(kill_at),
            Life::Killed { .. } => None,
        }
    }

    /// Gives back the time in which nobody listened, so that a suspended supervisor kills nobody.
    pub(super) fn forgive(&mut self, now: Moment, lost: Duration) {
        match &mut self.life {
            Life::Starting { give_up_at: limit, .. }
            | Life::Stopping { kill_at: limit, .. }
            | Life::Quitting { kill_at: limit, .. }
            | Life::Aborting { kill_at: limit, .. } => *limit = limit.after(lost),
            Life::Ready { last_beat, .. } => *last_beat = last_beat.map(|_| now),
            Life::Killed { .. } => {}
        }
    }

    /// How long it has served at `now`.
    pub(super) const fn served(&self, now: Moment) -> Duration {
        match self.life {
            Life::Ready { since, .. } => now.since(since),
            Life::Starting { .. }
            | Life::Stopping { .. }
            | Life::Quitting { .. }
            | Life::Aborting { .. }
            | Life::Killed { .. } => Duration::ZERO,
        }
    }
}
