//! Requests of which only the second is known: those of one second get ascending places within it, by seeded chance, in the order of
//! the input, so that they are held by the second, where [`reorder`](super::reorder) holds each alone. A second is complete when the
//! input is [`WINDOW_SECONDS`] past it; what comes later for it stands alone.

use std::collections::VecDeque;
use std::time::Duration;

use super::arrival::earlier;
use super::reorder::{HELD_BYTES, HELD_REQUESTS, LATE_IN_A_ROW};
use crate::recording::chance::uniform;
use crate::recording::{JitterSeed, Request, UnixNanos};

const SECOND: i64 = 1_000_000_000;
/// How many seconds stay open behind the newest.
pub(super) const WINDOW_SECONDS: i64 = 60;

/// A request whose time is to be moved back by this much.
#[derive(Debug)]
pub(super) struct Timed {
    pub(super) request: Request,
    pub(super) back: Option<Duration>,
}

/// The requests of one second so far.
#[derive(Debug)]
struct Group {
    /// Its start.
    second: UnixNanos,
    requests: Vec<Timed>,
    /// Where the part of the second begins that is not yet used.
    from: f64,
}

/// Seconds that may not be complete.
#[derive(Debug)]
pub(super) struct Seconds {
    seed: JitterSeed,
    /// Rising.
    groups: VecDeque<Group>,
    /// Those from before time went back.
    leaving: VecDeque<Group>,
    requests: usize,
    bytes: usize,
    newest: i64,
    late: usize,
    /// How many places were drawn.
    drawn: u64,
    places: Vec<f64>,
}

impl Seconds {
    pub(super) fn new(seed: JitterSeed) -> Self {
        Self {
            seed,
            groups: VecDeque::new(),
            leaving: VecDeque::new(),
            requests: 0,
            bytes: 0,
            newest: i64::MIN,
            late: 0,
            drawn: 0,
            places: Vec::new(),
        }
    }

    /// Another input begins: if it is an older one, its seconds are waited for as those of the first.
    pub(super) fn begin_input(&mut self) {
        self.late = LATE_IN_A_ROW;
    }

    /// Takes a request whose `at` is the start of its second.
    pub(super) fn push(&mut self, timed: Timed) {
        let second = timed.request.at;
        let is_late = second.0 < self.newest.saturating_sub(WINDOW_SECONDS * SECOND);
        self.late = if is_late { self.late + 1 } else { 0 };
        if is_late && self.late > LATE_IN_A_ROW {
            // Not a straggler: time itself went back.
            self.newest = second.0;
            self.late = 0;
            self.leaving.append(&mut self.groups);
        }
        self.newest = self.newest.max(second.0);
        self.requests += 1;
        self.bytes += timed.request.memory();
        let place = self.groups.iter().rposition(|group| group.second <= second);
        match place.map(|place| (place, self.groups[place].second == second)) {
            Some((place, true)) => self.groups[place].requests.push(timed),
            Some((place, false)) => self.groups.insert(place + 1, Group { second, requests: vec![timed], from: 0.0 }),
            None => self.groups.push_front(Group { second, requests: vec![timed], from: 0.0 }),
        }
    }

    /// Shows `take` the requests of a second that is complete or can be held no longer. `false` if there is none.
    pub(super) fn release<E>(&mut self, take: impl FnMut(Timed) -> Result<(), E>) -> Result<bool, E> {
        let is_full = self.requests > HELD_REQUESTS || self.bytes > HELD_BYTES;
        let complete_before = self.newest.saturating_sub(WINDOW_SECONDS * SECOND);
        match (self.groups.front(), self.groups.len()) {
            _ if !self.leaving.is_empty() => self.close_first(take)?,
            (Some(front), _) if front.second.0 < complete_before => self.close_first(take)?,
            (_, 2..) if is_full => self.close_first(take)?,
            (_, 1) if is_full => self.cut_only(take)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Shows `take` all the requests that are held.
    pub(super) fn release_all<E>(&mut self, mut take: impl FnMut(Timed) -> Result<(), E>) -> Result<(), E> {
        while !(self.leaving.is_empty() && self.groups.is_empty()) {
            self.close_first(&mut take)?;
        }
        Ok(())
    }

    fn close_first<E>(&mut self, take: impl FnMut(Timed) -> Result<(), E>) -> Result<(), E> {
        let Some(mut group) = self.leaving.pop_front().or_else(|| self.groups.pop_front()) else { return Ok(()) };
        self.spread(&mut group, 1.0, take)
    }

    /// The only second is too large: what is there is spread over half of what is left of it.
    fn cut_only<E>(&mut self, take: impl FnMut(Timed) -> Result<(), E>) -> Result<(), E> {
        let Some(mut group) = self.groups.pop_front() else { return Ok(()) };
        let middle = f64::midpoint(group.from, 1.0);
        let result = self.spread(&mut group, middle, take);
        group.from = middle;
        self.groups.push_front(group);
        result
    }

    /// Gives the requests of a group ascending places up to `to`, moves each back, and empties the group.
    fn spread<E>(&mut self, group: &mut Group, to: f64, mut take: impl FnMut(Timed) -> Result<(), E>) -> Result<(), E> {
        let mut places = std::mem::take(&mut self.places);
        places.clear();
        places.extend((self.drawn..).take(group.requests.len()).map(|index| uniform(self.seed.0, index)));
        places.sort_unstable_by(f64::total_cmp);
        self.drawn += group.requests.len() as u64;
        self.requests -= group.requests.len();
        let mut result = Ok(());
        for (mut timed, place) in group.requests.drain(..).zip(&places) {
            self.bytes -= timed.request.memory();
            #[expect(clippy::cast_possible_truncation, reason = "a place is below one, so the product is below a second")]
            let within = ((group.from + place * (to - group.from)) * SECOND as f64) as i64;
            timed.request.at = earlier(UnixNanos(group.second.0.saturating_add(within)), timed.back.unwrap_or_default());
            result = result.and_then(|()| take(timed));
        }
        self.places = places;
        result
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;
    use crate::recording::{Method, Target};

    fn request(second: i64, name: usize) -> Timed {
        let request = Request {
            at: UnixNanos(second * SECOND),
            method: Method::new("GET").unwrap(),
            target: Target::new(&format!("/{name}")).unwrap(),
            connection: None,
            ordinal: None,
            headers: Vec::new(),
            body: Vec::new(),
            status: None,
            duration: None,
            response_bytes: None,
        };
        Timed { request, back: None }
    }

    fn run(seconds: &mut Seconds, stamps: impl IntoIterator<Item = i64>) -> Vec<(i64, usize)> {
        let mut out = Vec::new();
        let mut take = |timed: Timed| {
            out.push((timed.request.at.0, timed.request.target.as_str()[1..].parse().unwrap()));
            Ok::<(), Infallible>(())
        };
        for (name, stamp) in stamps.into_iter().enumerate() {
            seconds.push(request(stamp, name));
            while seconds.release(&mut take).unwrap() {}
        }
        seconds.release_all(&mut take).unwrap();
        assert_eq!((seconds.requests, seconds.bytes), (0, 0));
        out
    }

    #[test]
    fn one_second_larger_than_memory_keeps_its_order() {
        let mut seconds = Seconds::new(JitterSeed(1));
        let out = run(&mut seconds, std::iter::repeat_n(7, HELD_REQUESTS * 2 + 5));
        assert_eq!(out.len(), HELD_REQUESTS * 2 + 5);
        assert!(out.is_sorted() && out.iter().all(|(at, _)| at / SECOND == 7));
        assert!(out.is_sorted_by_key(|(_, name)| *name));
    }

    #[test]
    fn one_wrong_date_does_not_spoil_the_rest() {
        let mut seconds = Seconds::new(JitterSeed(1));
        let stamps = [5, 900_000].into_iter().chain((0..1_000).map(|n| 6 + n / 10));
        let out = run(&mut seconds, stamps);
        // Those that went for stragglers, until it was clear that they are not.
        let later: Vec<_> = out.iter().filter(|(at, name)| *name > 2 + LATE_IN_A_ROW && *at < 900_000 * SECOND).collect();
        assert!(later.len() > 900 && later.is_sorted());
    }

    #[test]
    fn an_older_input_is_spread_as_the_first() {
        let mut seconds = Seconds::new(JitterSeed(1));
        let first = run(&mut seconds, std::iter::repeat_n(500, 20));
        seconds.begin_input();
        let second = run(&mut seconds, std::iter::repeat_n(3, 20));
        assert!(first.is_sorted() && second.is_sorted_by(|a, b| a.0 < b.0 && a.1 < b.1));
    }

    proptest! {
        #[test]
        fn order_of_a_second_is_that_of_the_input(stamps in prop::collection::vec(0..40_i64, 1..300)) {
            let out = run(&mut Seconds::new(JitterSeed(3)), stamps.iter().copied());
            prop_assert_eq!(out.len(), stamps.len());
            prop_assert!(out.is_sorted_by_key(|(at, _)| *at));
            for (at, name) in &out {
                prop_assert_eq!(at / SECOND, stamps[*name]);
            }
            prop_assert!(out.windows(2).all(|pair| pair[0].0 / SECOND < pair[1].0 / SECOND || pair[0].1 < pair[1].1));
        }
    }
}
