//! Clients of a closed load that play recorded sessions: each takes the next session of the plan, sends its requests one after the
//! other with a pause after each answer, and then takes the next one: at once, or after a fixed pause too.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use super::pace::Due;
use crate::replay::{Plan, SessionId, Think, Turns};
use crate::units::Moment;

#[derive(Debug)]
pub(super) struct Clients<'a> {
    plan: &'a Plan,
    turns: Turns,
    think: Think,
    /// Where the search for the next session begins; `None` when the plan is played.
    cursor: Option<usize>,
    from: usize,
    /// Whether the search went past the end of the plan.
    wrapped: bool,
    /// The request each client sends next, or has on its way.
    requests: Vec<usize>,
    /// Clients with a request to send, by when.
    ready: BinaryHeap<Reverse<(Moment, u32)>>,
    /// Clients with a request on its way.
    going: u32,
}

impl<'a> Clients<'a> {
    pub(super) fn new(plan: &'a Plan, from: usize, turns: Turns, count: u32, think: Think, start: Moment) -> Self {
        let from = from % plan.requests().len();
        let capacity = count as usize;
        let mut clients = Self {
            plan,
            turns,
            think,
            cursor: Some(from),
            from,
            wrapped: false,
            requests: Vec::with_capacity(capacity),
            ready: BinaryHeap::with_capacity(capacity),
            going: 0,
        };
        for client in 0..count {
            let Some(opening) = clients.open() else { break };
            clients.requests.push(opening);
            clients.ready.push(Reverse((start, client)));
        }
        clients
    }

    pub(super) fn take(&mut self, now: Moment) -> Option<Due> {
        let Reverse((at, client)) = *self.ready.peek().filter(|Reverse((at, _))| *at <= now)?;
        self.ready.pop();
        self.going += 1;
        let (index, session) = (self.requests[client as usize], Some(SessionId(client.into())));
        Some(Due { index, at, moved: Duration::ZERO, session })
    }

    /// The request of a client has ended, which is free from `now` on.
    pub(super) fn ended(&mut self, SessionId(client): SessionId, now: Moment) {
        let Some((client, request)) =
            u32::try_from(client).ok().and_then(|client| Some((client, self.requests.get_mut(client as usize)?)))
        else {
            return;
        };
        self.going = self.going.saturating_sub(1);
        if let Some(next) = self.plan.next_in_session(*request) {
            *request = next;
            let pause = match self.think {
                Think::None => Duration::ZERO,
                Think::Recorded => self.plan.think(next),
                Think::Fixed(pause) => pause,
            };
            self.ready.push(Reverse((now.after(pause), client)));
        } else if let Some(opening) = self.open() {
            self.requests[client as usize] = opening;
            let pause = match self.think {
                Think::Fixed(pause) => pause,
                Think::None | Think::Recorded => Duration::ZERO,
            };
            self.ready.push(Reverse((now.after(pause), client)));
        }
    }

    pub(super) fn wakes_at(&self) -> Option<Moment> {
        self.ready.peek().map(|Reverse((at, _))| *at)
    }

    /// Whether every client has played its last session.
    pub(super) fn are_gone(&self) -> bool {
        self.ready.is_empty() && self.going == 0
    }

    /// The first request of the next session.
    fn open(&mut self) -> Option<usize> {
        let mut found = self.plan.next_opening(self.cursor?);
        if found.is_none() && !(self.wrapped && self.turns == Turns::Once) {
            self.wrapped = true;
            found = self.plan.next_opening(0);
        }
        let played = self.turns == Turns::Once && self.wrapped && found.is_none_or(|opening| opening >= self.from);
        let opening = found.filter(|_| !played);
        self.cursor = opening.map(|opening| opening + 1);
        opening
    }
}
