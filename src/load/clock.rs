//! The clocks of the engine: monotonic time, CPU time of this thread, and how finely the kernel rounds this thread's timers.

use std::num::NonZeroU64;
use std::time::Duration;

use rustix::thread::{current_timer_slack, set_current_timer_slack};
use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::units::Moment;

/// Now, on CLOCK_MONOTONIC.
pub(super) fn now() -> Moment {
    Moment::default().after(span(clock_gettime(ClockId::Monotonic)))
}

/// The CPU time this thread has used.
pub(super) fn thread_cpu() -> Duration {
    span(clock_gettime(ClockId::ThreadCPUTime))
}

/// Seconds since 1970, for the dates of cookies.
pub(super) fn unix_seconds() -> i64 {
    clock_gettime(ClockId::Realtime).tv_sec
}

fn span(time: Timespec) -> Duration {
    Duration::try_from(time).unwrap_or_default()
}

/// While it lives, timers of this thread fire on time: the default slack of 50 µs would make every send late by up to as much
/// (prctl(2), PR_SET_TIMERSLACK).
#[derive(Debug)]
pub(super) struct FineTimers {
    before: Option<NonZeroU64>,
}

impl FineTimers {
    /// Where the kernel refuses, sends are a little later; their lateness is measured either way.
    pub(super) fn set() -> Self {
        let before = current_timer_slack().ok().and_then(NonZeroU64::new);
        let _ = set_current_timer_slack(Some(NonZeroU64::MIN));
        Self { before }
    }
}

impl Drop for FineTimers {
    fn drop(&mut self) {
        let _ = set_current_timer_slack(self.before);
    }
}
