//! The monotonic clock. It does not run while the machine is suspended.

use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::units::Moment;

/// CLOCK_MONOTONIC now.
#[must_use]
pub fn now() -> Moment {
    let Timespec { tv_sec, tv_nsec } = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(tv_sec).unwrap_or(0);
    let nanos = u64::try_from(tv_nsec).unwrap_or(0);
    Moment::from_nanos(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}

/// The CPU time this thread has used.
#[must_use]
pub fn thread_cpu() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}
