//! Recorded times, superposed: copies of the plan, each shifted in time and with connections of its own, merged in order of time. What
//! is shifted, kept or left out is a session as a whole, so that its gaps stay what they were. Memory depends on the number of copies
//! only.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::time::Duration;

use super::model::{Sessions, Turns};
use super::plan::Plan;
use super::scale::{Copies, Speed};
use super::timetable::{Arrival, SessionId};
use crate::recording::uniform;

/// What the choice of sessions depends on when a copy is not whole.
const THINNING_SEED: u64 = 3;

/// The arrivals of all copies.
#[derive(Clone, Debug)]
pub(super) struct Superposed<'a> {
    course: Course<'a>,
    strands: Vec<Strand>,
    /// The next arrival of each strand that has one: nanoseconds at recorded speed, and the strand's place.
    heads: BinaryHeap<Reverse<(u64, usize)>>,
}

/// What all strands have in common.
#[derive(Clone, Debug)]
struct Course<'a> {
    plan: &'a Plan,
    /// The time one turn takes, nanoseconds.
    period: u64,
    turns: Turns,
    speed: f64,
    copies: u64,
    sessions: Sessions,
}

/// One copy's sessions that begin before the turn ends when shifted, or those that are wrapped round to its start.
#[derive(Clone, Debug)]
struct Strand {
    copy: u64,
    part: Part,
    /// How much later everything is, nanoseconds; less than the period.
    shift: u64,
    /// The probability of a session to be kept.
    share: f64,
    /// The first request that can belong to it.
    begin: usize,
    /// The request that is due next.
    next: usize,
    turn: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Straight,
    Wrapped,
}

impl<'a> Superposed<'a> {
    /// The first copy is shifted so that what begins with request `from` comes first. `None` if nothing is left of the plan.
    pub(super) fn new(
        plan: &'a Plan,
        from: usize,
        speed: Speed,
        copies: Copies,
        sessions: Sessions,
        turns: Turns,
    ) -> Option<Self> {
        let period = plan.turn();
        let count = whole(copies.get().ceil());
        let course = Course { plan, period, turns, speed: speed.get(), copies: count, sessions };
        let ahead = period - plan.requests()[from].nanos().min(period);
        let strands = (0..count).flat_map(|copy| {
            let shift = shift(copy, period, ahead);
            let share = (copies.get() - copy as f64).min(1.0);
            [Part::Straight, Part::Wrapped].map(|part| Strand::new(&course, copy, part, shift, share))
        });
        let mut strands: Vec<_> = strands.collect();
        let firsts = strands.iter_mut().enumerate().filter_map(|(place, strand)| Some(Reverse((strand.settle(&course)?, place))));
        let heads: BinaryHeap<_> = firsts.collect();
        (!heads.is_empty()).then_some(Self { course, strands, heads })
    }

    pub(super) fn next(&mut self) -> Option<Arrival> {
        let mut head = self.heads.peek_mut()?;
        let Reverse((at, place)) = *head;
        let strand = &mut self.strands[place];
        let arrival = Arrival { index: strand.next, at: self.course.hasten(at), session: self.course.session(strand) };
        strand.next += 1;
        match strand.settle(&self.course) {
            Some(later) => *head = Reverse((later, place)),
            None => drop(PeekMut::pop(head)),
        }
        Some(arrival)
    }
}

impl Course<'_> {
    /// A recorded time at the speed of the run.
    fn hasten(&self, at: u64) -> Duration {
        #[expect(clippy::float_cmp, reason = "the recorded speed is exactly 1, and its times are kept to the nanosecond")]
        let as_recorded = self.speed == Speed::RECORDED.get();
        Duration::from_nanos(if as_recorded { at } else { whole(at as f64 / self.speed) })
    }

    /// Recorded connections have 32 bits, so no two of a run fall together.
    fn session(&self, strand: &Strand) -> Option<SessionId> {
        match self.sessions {
            Sessions::Pooled => None,
            Sessions::Kept => {
                let session = self.plan.requests()[strand.next].session()?;
                let round = strand.turn.wrapping_mul(self.copies).wrapping_add(strand.copy);
                Some(SessionId((round << 32) | u64::from(session)))
            }
        }
    }
}

impl Strand {
    fn new(course: &Course<'_>, copy: u64, part: Part, shift: u64, share: f64) -> Self {
        let begin = match part {
            Part::Straight => 0,
            Part::Wrapped => {
                course.plan.requests().partition_point(|request| request.nanos().saturating_add(shift) < course.period)
            }
        };
        Self { copy, part, shift, share, begin, next: begin, turn: 0 }
    }

    /// Goes on to the next request of this strand, from `next` on, and returns when it is due.
    fn settle(&mut self, course: &Course<'_>) -> Option<u64> {
        let length = course.plan.requests().len();
        // When a whole turn has nothing, no turn has.
        for _ in 0..=length - self.begin {
            if self.next == length {
                if course.turns == Turns::Once {
                    return None;
                }
                self.turn += 1;
                self.next = self.begin;
            } else if self.plays(course) {
                return Some(self.due(course));
            } else {
                self.next += 1;
            }
        }
        None
    }

    /// Whether the request `next` is one of this strand's, which depends on the first of its session.
    fn plays(&self, course: &Course<'_>) -> bool {
        let opening = course.plan.opening_of(self.next);
        let begins = course.plan.requests()[opening].nanos().saturating_add(self.shift);
        let part = if begins < course.period { Part::Straight } else { Part::Wrapped };
        part == self.part && (self.share >= 1.0 || uniform(THINNING_SEED ^ self.copy, opening as u64) < self.share)
    }

    fn due(&self, course: &Course<'_>) -> u64 {
        let at = course.plan.requests()[self.next].nanos().saturating_add(self.shift);
        let in_turn = match self.part {
            Part::Straight => at,
            Part::Wrapped => at - course.period,
        };
        self.turn.saturating_mul(course.period).saturating_add(in_turn)
    }
}

/// How much later a copy begins: multiples of the golden ratio lie evenly in the period, however many there are (Knuth, TAOCP 3, 6.4).
fn shift(copy: u64, period: u64, ahead: u64) -> u64 {
    let share = u128::from(copy.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let period = u128::from(period);
    let shift = (((share * period) >> 64) + u128::from(ahead)) % period;
    u64::try_from(shift).expect("invariant: less than the period")
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "never negative, and saturates")]
const fn whole(number: f64) -> u64 {
    number as u64
}
