//! How long an empty slot waits before the next attempt: none after the first failure, then doubling.

use std::time::Duration;

use crate::units::{Moment, Slot};

/// The wait after the second failure in a row.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// No wait is longer, but for the jitter.
pub(super) const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// A worker that served this long has proved itself: its slot's failures are forgotten.
pub(super) const PROVED: Duration = Duration::from_secs(10);

/// One slot's record of failures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Backoff {
    failures: u32,
    not_before: Moment,
}

impl Backoff {
    /// Records a failure at `now` of a worker that had served for `served`; returns the wait before the next attempt.
    pub(super) fn fail(&mut self, now: Moment, slot: Slot, served: Duration) -> Duration {
        if served >= PROVED {
            self.failures = 0;
        }
        self.failures = self.failures.saturating_add(1);
        let wait = wait(self.failures, u64::from(slot.0));
        self.not_before = now.after(wait);
        wait
    }

    /// Failures in a row.
    pub(super) const fn failures(self) -> u32 {
        self.failures
    }

    /// When the next attempt may be made.
    pub(super) const fn not_before(self) -> Moment {
        self.not_before
    }
}

/// The wait after `failures` in a row, within 20 % of doubling; `salt` spreads slots that fail together.
fn wait(failures: u32, salt: u64) -> Duration {
    let Some(doublings) = failures.checked_sub(2) else {
        return Duration::ZERO;
    };
    let exact = FIRST_WAIT.saturating_mul(1 << doublings.min(20)).min(LONGEST_WAIT);
    exact.mul_f64(0.8 + 0.4 * spread(u64::from(failures) << 32 | salt))
}

/// A number in 0..1 that looks random and is the same for the same input (the finaliser of SplitMix64; Steele, Lea, Flood, OOPSLA 2014).
pub(super) fn spread(input: u64) -> f64 {
    let mut z = input.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_waits_for_nothing_and_a_loop_forks_at_most_twelve_times_a_minute() {
        for slot in 0..200 {
            let mut backoff = Backoff::default();
            let mut now = Moment::from_nanos(1);
            let mut forks = 0;
            while now < Moment::from_nanos(60_000_000_000) {
                forks += 1;
                let wait = backoff.fail(now, Slot(slot), Duration::ZERO);
                assert_eq!(wait.is_zero(), forks == 1);
                assert!(wait <= LONGEST_WAIT.mul_f64(1.2));
                now = now.after(wait).after(Duration::from_millis(1));
            }
            assert!(forks <= 12, "slot {slot}: {forks} forks in a minute");
        }
    }

    #[test]
    fn a_worker_that_proved_itself_is_replaced_at_once() {
        let mut backoff = Backoff::default();
        for _ in 0..5 {
            backoff.fail(Moment::default(), Slot(0), Duration::ZERO);
        }
        assert_eq!(backoff.fail(Moment::default(), Slot(0), PROVED), Duration::ZERO);
        assert_eq!(backoff.failures(), 1);
    }
}
