//! The clocks of the engine: monotonic time, CPU time of this thread, and how finely the kernel rounds this thread's timers.

use std::num::NonZeroU64;
use std::time::Duration;

use rustix::io::Errno;
use rustix::thread::{clock_nanosleep_absolute, current_timer_slack, set_current_timer_slack};
use rustix::time::{ClockId, Timespec, clock_gettime};

use super::arrival::{Reading, WallTime};
use crate::units::Moment;

/// Now, on CLOCK_MONOTONIC.
pub(super) fn now() -> Moment {
    Moment::default().after(span(clock_gettime(ClockId::Monotonic)))
}

/// The CPU time this thread has used.
pub(super) fn thread_cpu() -> Duration {
    span(clock_gettime(ClockId::ThreadCPUTime))
}

/// How many readings of both clocks are tried for one that was not interrupted.
const READINGS: usize = 5;

/// Both clocks, one right after the other.
pub(super) fn reading() -> Reading {
    Reading { monotonic: now(), wall: wall() }
}

/// Both clocks as of one moment: the reading that took least.
pub(super) fn close_reading() -> Reading {
    let readings = (0..READINGS).map(|_| {
        let (before, wall, after) = (now(), wall(), now());
        let took = after.since(before);
        (took, Reading { monotonic: before.after(took / 2), wall })
    });
    readings.min_by_key(|(took, _)| *took).map_or_else(reading, |(_, reading)| reading)
}

fn wall() -> WallTime {
    span(clock_gettime(ClockId::Realtime))
}

/// Whether a sleep was cut short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slept {
    ToTheEnd,
    UntilASignal,
}

/// Sleeps until `moment`.
pub(super) fn sleep_until(moment: Moment) -> Slept {
    let nanos = Duration::from_nanos(moment.as_nanos());
    let Ok(until) = Timespec::try_from(nanos) else {
        return Slept::ToTheEnd;
    };
    match clock_nanosleep_absolute(ClockId::Monotonic, &until) {
        Err(Errno::INTR) => Slept::UntilASignal,
        Ok(()) | Err(_) => Slept::ToTheEnd,
    }
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
