//! Monotonic time, and the burning of CPU time.

use std::hint::black_box;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::units::Moment;

/// Rounds of hashing between two looks at the clock: some ten microseconds.
const ROUNDS: u32 = 4_000;

/// Now, on CLOCK_MONOTONIC.
pub(super) fn now() -> Moment {
    read(ClockId::Monotonic)
}

/// Computes until this thread has used `amount` of CPU time. What others take from the core does not count, as with real work.
pub(super) fn burn(amount: Duration) {
    if amount.is_zero() {
        return;
    }
    let until = read(ClockId::ThreadCPUTime).after(amount);
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    while read(ClockId::ThreadCPUTime) < until {
        for round in 0..ROUNDS {
            hash = (hash ^ u64::from(black_box(round))).wrapping_mul(0x0100_0000_01b3);
        }
    }
    black_box(hash);
}

fn read(clock: ClockId) -> Moment {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    Moment::from_nanos(seconds.saturating_mul(1_000_000_000).saturating_add(nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burning_uses_the_cpu_time_asked_for() {
        let before = read(ClockId::ThreadCPUTime);
        burn(Duration::from_millis(5));
        assert!(read(ClockId::ThreadCPUTime).since(before) >= Duration::from_millis(5));
    }
}
