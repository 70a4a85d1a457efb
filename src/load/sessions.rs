//! Sessions whose requests go out one after the other, each on a connection of its own: which of them is on its way, and which wait
//! for its answer. The order within a session is that of arrival, whatever fails. Bounded; what goes beyond is shed.

use std::collections::HashMap;

use super::QUEUE_LIMIT;
use super::pool::{Flight, Place};
use crate::replay::SessionId;
use crate::units::Moment;

/// The most sessions that are open at once.
pub(super) const MAX_SESSIONS: usize = 1 << 20;

/// A session that is open; the key is used again for a later one.
pub(super) type Key = u32;

/// What becomes of a request that arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// It can go at once, as this session's.
    Go(Key),
    /// It waits for the answer to the one before it.
    Waits,
    /// Too many are open or waiting.
    Shed,
}

/// What a session does after an answer, or after it failed to get one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum After {
    /// It sends what waited.
    Next(Flight),
    /// It waits for its next request to be due.
    Rests(SessionId),
    /// That was its last request, and this its connection.
    Over(SessionId, Option<Place>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Resting,
    /// A request is on its way, or waits for a connection.
    Going,
}

#[derive(Debug)]
struct Session {
    id: SessionId,
    stage: Stage,
    /// Its connection.
    place: Option<Place>,
    /// The requests that wait, first and last.
    waiting: Option<(u32, u32)>,
    /// Whether its last request has arrived.
    complete: bool,
}

#[derive(Debug)]
struct Waiting {
    flight: Flight,
    next: Option<u32>,
}

#[derive(Debug, Default)]
pub(super) struct Sessions {
    open: HashMap<SessionId, Key>,
    all: Vec<Session>,
    vacant: Vec<Key>,
    waiting: Vec<Waiting>,
    free: Vec<u32>,
}

impl Sessions {
    /// A request of session `id` arrives; `last` if the session has no other.
    pub(super) fn admit(&mut self, id: SessionId, flight: Flight, last: bool) -> Admission {
        let Some(key) = self.open.get(&id).copied().or_else(|| self.begin(id)) else {
            return Admission::Shed;
        };
        let full = self.waiting() >= QUEUE_LIMIT;
        let session = &mut self.all[key as usize];
        session.complete |= last;
        match session.stage {
            Stage::Resting => {
                session.stage = Stage::Going;
                Admission::Go(key)
            }
            Stage::Going if full => Admission::Shed,
            Stage::Going => {
                self.append(key, flight);
                Admission::Waits
            }
        }
    }

    /// Whether requests may have to wait for an answer.
    pub(super) fn are_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// How many requests wait for an answer to the one before.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len() - self.free.len()
    }

    /// How many of those were due before `moment`. Looks at all.
    pub(super) fn due_before(&self, moment: Moment) -> u64 {
        let chains = self.all.iter().filter_map(|session| session.waiting);
        let flights = chains.flat_map(|(first, _)| {
            let following = |at: &u32| self.waiting[*at as usize].next;
            std::iter::successors(Some(first), following).map(|at| self.waiting[at as usize].flight.due.at)
        });
        flights.filter(|due| *due < moment).count() as u64
    }

    /// The connection of a session.
    pub(super) fn place(&self, key: Key) -> Option<Place> {
        self.all[key as usize].place
    }

    /// The session has a connection, or has lost it.
    pub(super) fn moved(&mut self, key: Key, place: Option<Place>) {
        self.all[key as usize].place = place;
    }

    /// The request that was on its way has ended.
    pub(super) fn ended(&mut self, key: Key) -> After {
        let session = &mut self.all[key as usize];
        if let Some((first, last)) = session.waiting {
            let Waiting { flight, next } = &self.waiting[first as usize];
            session.waiting = next.map(|next| (next, last));
            self.free.push(first);
            return After::Next(Flight { session: Some(key), ..*flight });
        }
        session.stage = Stage::Resting;
        let (id, place) = (session.id, session.place);
        if !session.complete {
            return After::Rests(id);
        }
        session.place = None;
        self.open.remove(&id);
        self.vacant.push(key);
        After::Over(id, place)
    }

    fn begin(&mut self, id: SessionId) -> Option<Key> {
        let session = Session { id, stage: Stage::Resting, place: None, waiting: None, complete: false };
        let key = if let Some(key) = self.vacant.pop() {
            self.all[key as usize] = session;
            key
        } else if self.all.len() < MAX_SESSIONS {
            self.all.push(session);
            Key::try_from(self.all.len() - 1).ok()?
        } else {
            return None;
        };
        self.open.insert(id, key);
        Some(key)
    }

    fn append(&mut self, key: Key, flight: Flight) {
        let node = Waiting { flight, next: None };
        let at = if let Some(at) = self.free.pop() {
            self.waiting[at as usize] = node;
            at
        } else {
            self.waiting.push(node);
            u32::try_from(self.waiting.len() - 1).expect("invariant: QUEUE_LIMIT is below 4 G")
        };
        let session = &mut self.all[key as usize];
        if let Some((first, last)) = session.waiting {
            self.waiting[last as usize].next = Some(at);
            session.waiting = Some((first, at));
        } else {
            session.waiting = Some((at, at));
        }
    }
}

#[cfg(test)]
#[path = "sessions/tests.rs"]
mod tests;
