//! The burning of CPU time: what others take from the core does not count, as with real work.

use std::hint::black_box;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Rounds of hashing between two looks at the clock: some ten microseconds.
const ROUNDS: u32 = 4_000;

/// Computes until this thread has used `amount` of CPU time.
pub(super) fn burn(amount: Duration) {
    let begun = used();
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    while used().saturating_sub(begun) < amount {
        for round in 0..ROUNDS {
            hash = (hash ^ u64::from(black_box(round))).wrapping_mul(0x0100_0000_01b3);
        }
    }
    black_box(hash);
}

/// CPU time of this thread.
fn used() -> Duration {
    Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burning_uses_the_cpu_time_asked_for() {
        let before = used();
        burn(Duration::from_millis(5));
        assert!(used().saturating_sub(before) >= Duration::from_millis(5));
    }
}
