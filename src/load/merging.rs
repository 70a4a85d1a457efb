//! At high rates, requests that are due close together are sent together: a sleep and a wake-up cost more processor time than several
//! sends. Which are merged depends on the timetable alone, never on the target or on how late this thread is, so the load stays open.
//!
//! The price: a request may be due up to [`WINDOW`] later than the timetable says, and arrives together with others. Its latency
//! counts from the moment it was moved to, since the target is not to blame for the move; the move itself is reported as lateness
//! with a cause of its own. Nothing is held where the last 64 requests came at less than [`MERGED_FROM`] a second, nor if the one before
//! is more than [`WINDOW`] away: a lone request after a burst goes out when it is due.

use std::time::Duration;

use crate::units::Moment;

/// The longest a request is held for others.
pub(super) const WINDOW: Duration = Duration::from_micros(400);
/// Requests a second from which on they are merged: two in a window, fewer are not worth it.
pub(super) const MERGED_FROM: f64 = 5_000.0;
/// Requests that are enough for one wake-up: where they come faster, the window is shorter.
const ENOUGH: f64 = 8.0;
/// The rate is that of so many requests.
const RECENT: usize = 64;

/// The moments requests are moved to.
#[derive(Debug)]
pub(super) struct Merging {
    /// Where those that are due by then are moved to.
    gate: Moment,
    recent: Box<[Moment; RECENT]>,
    seen: usize,
    /// When sending stops: nothing that is due before is moved beyond.
    end: Moment,
}

impl Merging {
    pub(super) fn new(end: Moment) -> Self {
        Self { gate: Moment::default(), recent: Box::new([Moment::default(); RECENT]), seen: 0, end }
    }

    /// When a request is sent that is due at `due`. Requests come in the order in which they are due.
    pub(super) fn moved(&mut self, due: Moment) -> Moment {
        let window = self.window(due);
        if due > self.gate {
            let last = Moment::from_nanos(self.end.as_nanos().saturating_sub(1));
            self.gate = due.after(window).min(last);
        }
        due.max(self.gate)
    }

    fn window(&mut self, due: Moment) -> Duration {
        let before = self.recent[self.seen.wrapping_sub(1) % RECENT];
        let oldest = std::mem::replace(&mut self.recent[self.seen % RECENT], due);
        self.seen += 1;
        if self.seen <= RECENT || due.since(before) > WINDOW {
            return Duration::ZERO;
        }
        let rate = RECENT as f64 / due.since(oldest).max(Duration::from_nanos(1)).as_secs_f64();
        if rate < MERGED_FROM { Duration::ZERO } else { WINDOW.min(Duration::from_secs_f64(ENOUGH / rate)) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn moves(gap: u64, count: u64, end: u64) -> Vec<(u64, u64)> {
        let mut merging = Merging::new(Moment::from_nanos(end));
        (1..=count).map(|n| (n * gap, merging.moved(Moment::from_nanos(n * gap)).as_nanos())).collect()
    }

    #[test]
    fn slow_requests_are_never_moved() {
        assert!(moves(201_000, 1_000, u64::MAX).iter().all(|(due, moved)| due == moved));
    }

    #[test]
    fn fast_ones_share_a_wake_up() {
        for (gap, most) in [(100_000, 5), (50_000, 9), (10_000, 9)] {
            let moved: Vec<_> = moves(gap, 1_064, u64::MAX).into_iter().skip(64).map(|(_, moved)| moved).collect();
            let groups: Vec<_> = moved.chunk_by(|one, other| one == other).map(<[u64]>::len).collect();
            let whole = &groups[1..groups.len() - 1];
            assert!(whole.iter().all(|size| *size == most), "{gap}: {whole:?}");
        }
    }

    #[test]
    fn a_lone_request_after_a_burst_is_not_moved() {
        let mut merging = Merging::new(Moment::from_nanos(u64::MAX));
        for number in 1..=64 {
            merging.moved(Moment::from_nanos(number * 15_000));
        }
        let lone = Moment::from_nanos(64 * 15_000 + 5_000_000);
        assert_eq!(merging.moved(lone), lone);
    }

    #[test]
    fn nothing_is_moved_beyond_the_end() {
        let end = 200 * 20_000 + 1;
        let last = moves(20_000, 200, end);
        assert!(last.iter().all(|(_, moved)| *moved < end));
    }

    proptest! {
        #[test]
        fn order_stays_and_moves_are_bounded(gaps in prop::collection::vec(0_u64..400_000, 1..500)) {
            let mut merging = Merging::new(Moment::from_nanos(u64::MAX));
            let (mut due, mut before) = (1, Moment::default());
            for gap in gaps {
                due += gap;
                let moved = merging.moved(Moment::from_nanos(due));
                prop_assert!(moved >= before && moved >= Moment::from_nanos(due));
                prop_assert!(moved.since(Moment::from_nanos(due)) <= WINDOW);
                before = moved;
            }
        }
    }
}
