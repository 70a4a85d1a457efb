//! Puts requests in order of arrival again, which sources note in order of completion: each is held until the source is
//! [`WINDOW`] past it. What comes later than that, or when too much is held, is passed on out of order.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use super::arrival::{Numbering, earlier};
use crate::recording::{Request, UnixNanos};

/// How much earlier than the newest line a request may have arrived and still find its place.
pub(super) const WINDOW: Duration = Duration::from_mins(1);
/// The most requests that are held.
pub(super) const HELD_REQUESTS: usize = 100_000;
/// The most bytes of memory that requests take which are held.
pub(super) const HELD_BYTES: usize = 64 << 20;
/// After so many late ones in a row it is time that went back.
pub(super) const LATE_IN_A_ROW: usize = 64;

/// Requests that wait for earlier ones.
#[derive(Debug)]
pub(super) struct Reorder {
    /// Arrival, turn, slot.
    order: BinaryHeap<Reverse<(UnixNanos, u64, usize)>>,
    /// Those from before time went back.
    leaving: BinaryHeap<Reverse<(UnixNanos, u64, usize)>>,
    slots: Vec<Option<(Request, Numbering)>>,
    free: Vec<usize>,
    pushed: u64,
    bytes: usize,
    /// How far the source is.
    noted: UnixNanos,
    late: usize,
}

impl Default for Reorder {
    fn default() -> Self {
        Self {
            order: BinaryHeap::new(),
            leaving: BinaryHeap::new(),
            slots: Vec::new(),
            free: Vec::new(),
            pushed: 0,
            bytes: 0,
            noted: UnixNanos(i64::MIN),
            late: 0,
        }
    }
}

impl Reorder {
    /// Another input begins: if it is an older one, it is waited for as for the first.
    pub(super) fn begin_input(&mut self) {
        self.late = LATE_IN_A_ROW;
    }

    /// Whether nothing is held.
    pub(super) fn is_empty(&self) -> bool {
        self.order.is_empty() && self.leaving.is_empty()
    }

    /// Takes a request that the source noted at `noted`.
    pub(super) fn push(&mut self, request: Request, place: Numbering, noted: UnixNanos) {
        self.late = if noted < self.before_window() { self.late + 1 } else { 0 };
        self.noted = self.noted.max(noted);
        if self.late > LATE_IN_A_ROW {
            self.noted = noted;
            self.late = 0;
            self.leaving.append(&mut self.order);
        }
        self.bytes += request.memory();
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.order.push(Reverse((request.at, self.pushed, slot)));
        self.slots[slot] = Some((request, place));
        self.pushed += 1;
    }

    /// The next request that need not wait any longer.
    pub(super) fn pop(&mut self) -> Option<(Request, Numbering)> {
        if !self.leaving.is_empty() {
            return self.pop_any();
        }
        let Reverse((at, _, _)) = self.order.peek()?;
        let is_due = *at <= self.before_window() || self.order.len() > HELD_REQUESTS || self.bytes > HELD_BYTES;
        if is_due { self.pop_any() } else { None }
    }

    /// The next request, waiting or not.
    pub(super) fn pop_any(&mut self) -> Option<(Request, Numbering)> {
        let Reverse((_, _, slot)) = self.leaving.pop().or_else(|| self.order.pop())?;
        let (request, place) = self.slots[slot].take().expect("invariant: an ordered slot is taken");
        self.free.push(slot);
        self.bytes -= request.memory();
        Some((request, place))
    }

    fn before_window(&self) -> UnixNanos {
        earlier(self.noted, WINDOW)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::recording::{Header, Method, Target};

    const SECOND: i64 = 1_000_000_000;

    fn request(at: i64) -> Request {
        Request {
            at: UnixNanos(at),
            method: Method::new("GET").unwrap(),
            target: Target::new("/").unwrap(),
            connection: None,
            ordinal: None,
            headers: Vec::new(),
            body: Vec::new(),
            status: None,
            duration: None,
            response_bytes: None,
        }
    }

    fn run(arrivals: &[(i64, i64)]) -> Vec<i64> {
        let mut reorder = Reorder::default();
        let mut out = Vec::new();
        for (at, noted) in arrivals {
            reorder.push(request(*at), Numbering::Told, UnixNanos(*noted));
            out.extend(std::iter::from_fn(|| reorder.pop()).map(|(request, _)| request.at.0));
        }
        out.extend(std::iter::from_fn(|| reorder.pop_any()).map(|(request, _)| request.at.0));
        assert_eq!(reorder.bytes, 0);
        out
    }

    #[test]
    fn a_step_back_in_time_is_followed() {
        let old = (0..200).map(|n| (n * SECOND, n * SECOND + n % 7 * SECOND));
        let arrivals: Vec<_> = [(1 << 50, 1 << 50)].into_iter().chain(old).collect();
        let out = run(&arrivals);
        let rest: Vec<_> = out.iter().copied().filter(|at| *at < 1 << 50).collect();
        assert!(rest.is_sorted(), "{rest:?}");
    }

    #[test]
    fn memory_is_bounded() {
        let mut reorder = Reorder::default();
        for n in 0..HELD_REQUESTS + 10 {
            reorder.push(request(i64::try_from(n).unwrap()), Numbering::Told, UnixNanos(0));
            while reorder.pop().is_some() {}
        }
        assert_eq!((reorder.order.len(), reorder.slots.len()), (HELD_REQUESTS, HELD_REQUESTS + 1));
        let mut large = request(0);
        large.body = vec![0; HELD_BYTES];
        reorder.push(large, Numbering::Told, UnixNanos(0));
        while reorder.pop().is_some() {}
        assert!(reorder.bytes <= HELD_BYTES);

        let mut reorder = Reorder::default();
        let mut small = request(0);
        small.headers = vec![Header::new("a", "").unwrap(); 100_000];
        for _ in 0..30 {
            reorder.push(small.clone(), Numbering::Told, UnixNanos(0));
            while reorder.pop().is_some() {}
        }
        let held: usize = reorder.slots.iter().flatten().map(|(request, _)| request.headers.len() * size_of::<Header>()).sum();
        assert!(held <= HELD_BYTES, "{held}");
    }

    proptest! {
        #[test]
        fn what_is_at_most_a_window_late_finds_its_place(took in prop::collection::vec(0..60 * SECOND, 1..200)) {
            let arrivals: Vec<_> = took.iter().zip(0..).map(|(took, n)| (n * SECOND / 3 - took, n * SECOND / 3)).collect();
            let out = run(&arrivals);
            prop_assert_eq!(out.len(), arrivals.len());
            prop_assert!(out.is_sorted());
        }
    }
}
