//! From due to sent: takes requests up, finds each a connection, and writes it.

use std::time::Duration;

use siphasher::sip::SipHasher13;

use super::super::pace::{CLIENT_PAUSE, Due};
use super::super::pool::{Attempt, Busy, Flight, Phase, Place, Source, State, Usage};
use super::super::sessions::{Admission, After};
use super::super::socket::{self, Breakage, Moved, Refusal};
use super::super::tally::{Cause, Failure};
use super::super::transport::Transport;
use super::super::{Check, Cookies, QUEUE_LIMIT, clock};
use super::Reactor;
use crate::replay::SessionId;
use crate::units::Moment;

/// How long new connections wait after a full backlog.
const BUSY_PAUSE: Duration = Duration::from_micros(500);
/// Requests taken up before answers, timeouts and the watcher have their turn, however many are due.
const TAKEN_A_TURN: usize = 4096;

/// What became of a request that was to go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Launched {
    /// It is on a connection, or has failed to get one.
    Gone,
    /// The target takes no more connections now: it is the first in the queue.
    Waits,
}

impl Reactor<'_> {
    /// Takes up what is due and sends what can be sent. What was due before the end is sent even if this thread comes to it late;
    /// what was waiting for a connection then is not.
    pub(super) fn release(&mut self, now: Moment) {
        let mut taken_up = now;
        for _ in 0..TAKEN_A_TURN {
            // A second ends when all that was due in it has been taken up: what is late, is late in its own second.
            let second = Moment::from_nanos(self.tally.second_ends_at().as_nanos().saturating_sub(1));
            let live = self.pool.busy() + self.queue.len();
            let Some(due) = self.pace.take(now.min(second), self.end, live) else {
                if now <= second {
                    break;
                }
                self.tally.close_second(now);
                continue;
            };
            self.tally.taken(&due, taken_up);
            self.admit(due, taken_up);
            self.follow_up(taken_up);
            taken_up = clock::now();
        }
        if now < self.end && !self.queue.is_empty() {
            self.send_queued(now);
            self.follow_up(now);
        }
    }

    fn admit(&mut self, due: Due, now: Moment) {
        let mut flight = Flight { due, session: None, since: now, attempt: Attempt::First };
        if let Some(id) = due.session {
            match self.sessions.admit(id, flight, self.is_last(due.index)) {
                Admission::Go(key) => flight.session = Some(key),
                Admission::Waits => return,
                Admission::Shed => return self.tally.fail(Failure::Shed),
            }
        }
        self.dispatch(flight, now);
    }

    /// Whether a request is the last of its recorded session. One that belongs to none does not end a client's connection.
    fn is_last(&self, index: usize) -> bool {
        self.run.plan.requests()[index].session().is_some() && self.run.plan.ends_session(index)
    }

    /// Sends a request if it can have a connection, and lets it wait for one else.
    fn dispatch(&mut self, flight: Flight, now: Moment) {
        let has_own = flight.session.is_some_and(|key| self.sessions.place(key).is_some());
        if has_own || (self.queue.is_empty() && now >= self.busy_until && self.pool.has_room()) {
            self.launch(flight, now);
        } else if self.queue.len() < QUEUE_LIMIT {
            self.queue.push_back(flight);
        } else {
            self.tally.fail(Failure::Shed);
            self.pace.found_nobody(now);
            self.ended(&flight, now.after(CLIENT_PAUSE));
        }
    }

    fn send_queued(&mut self, now: Moment) {
        let mut now = now;
        while now >= self.busy_until && self.pool.has_room() {
            let Some(flight) = self.queue.pop_front() else {
                return;
            };
            match self.launch(flight, now) {
                Launched::Gone => self.tally.waited(Cause::Backlog, now.since(flight.since)),
                Launched::Waits => return,
            }
            now = clock::now();
        }
    }

    /// Lets sessions go on whose request has ended, and clients that are free. A loop, since what they send may fail at once.
    pub(super) fn follow_up(&mut self, now: Moment) {
        while let Some((key, free_from)) = self.freed.pop() {
            match self.sessions.ended(key) {
                After::Next(flight) if flight.due.at.after(self.run.timeout) <= now => {
                    self.tally.time_out(flight.due.at, now);
                    self.freed.push((key, now));
                }
                After::Next(flight) if now < self.end => {
                    self.tally.waited(Cause::Dependency, now.since(flight.since));
                    self.dispatch(Flight { since: now, ..flight }, now);
                }
                // Sending has stopped.
                After::Next(flight) => self.queue.push_back(flight),
                After::Rests(id) => self.pace.ended(id, free_from),
                After::Over(id, place) => {
                    if let Some(place) = place {
                        self.pool.end(place);
                    }
                    self.jars.forget(id);
                    self.pace.ended(id, free_from);
                }
            }
        }
    }

    /// A request has ended, however it did: its session may go on, and its client is free.
    pub(super) fn ended(&mut self, flight: &Flight, free_from: Moment) {
        match flight.session {
            Some(key) => self.freed.push((key, free_from)),
            None => self.forget_jar(flight),
        }
    }

    /// Sends what waited for the requests that have just ended.
    pub(super) fn go_on(&mut self) {
        if !self.freed.is_empty() {
            self.follow_up(clock::now());
        }
    }

    /// Puts a request on a connection, kept or new.
    pub(super) fn launch(&mut self, flight: Flight, now: Moment) -> Launched {
        let kept = match flight.attempt {
            Attempt::First => self.take_kept(&flight),
            Attempt::Second { .. } => None,
        };
        let (place, transport, usage) = match kept {
            Some((place, transport)) => (place, transport, Usage::Reused),
            None => match self.connect() {
                Ok((place, transport)) => (place, transport, Usage::Fresh),
                Err(Refusal::Busy) => {
                    self.busy_until = now.after(BUSY_PAUSE);
                    self.queue.push_front(flight);
                    return Launched::Waits;
                }
                Err(Refusal::Exhausted) => {
                    self.tally.fail(Failure::Exhausted);
                    self.found_nobody(&flight, now);
                    return Launched::Gone;
                }
                Err(Refusal::Unreachable(cause)) => {
                    self.tally.find_nobody(&cause);
                    self.found_nobody(&flight, now);
                    return Launched::Gone;
                }
            },
        };
        if let Some(key) = flight.session {
            self.sessions.moved(key, Some(place));
        }
        let source = self.rewrite(place, &flight);
        let request = &self.run.plan.requests()[flight.due.index];
        let connection = self.pool.get(place);
        let length = match source {
            Source::Plan => self.run.plan.bytes(request).len(),
            Source::Rewritten => connection.rewritten.len(),
        };
        connection.response.begin(request.response_body());
        if self.run.check == Check::Body {
            connection.hasher = SipHasher13::new();
        }
        let busy =
            Busy { flight, started: now, sent_at: None, answered_at: None, phase: Phase::Moving, length, sent: 0, usage, source };
        self.pool.begin(place, transport, busy);
        self.transmit(place, (usage == Usage::Reused).then_some(now));
        Launched::Gone
    }

    /// The idle connection that a request may use.
    fn take_kept(&mut self, flight: &Flight) -> Option<(Place, Transport)> {
        match flight.session {
            None => self.pool.take_idle(None),
            Some(key) => self.sessions.place(key).and_then(|place| self.pool.take_idle(Some(place))),
        }
    }

    fn connect(&mut self) -> Result<(Place, Transport), Refusal> {
        if let Some(place) = self.pool.in_the_way() {
            self.close(place);
        }
        let place = self.pool.take_vacant().ok_or(Refusal::Exhausted)?;
        let opened = self.open(place);
        match opened {
            Ok(_) => self.tally.connected(),
            Err(_) => self.pool.put_back(place),
        }
        opened.map(|transport| (place, transport))
    }

    fn open(&self, place: Place) -> Result<Transport, Refusal> {
        let socket = socket::open(&self.address)?;
        if self.arrivals.is_some() {
            socket::ask_for_stamps(&socket);
        }
        socket::watch(&self.epoll, &socket, self.pool.label(place), &self.address).map_err(|_errno| Refusal::Exhausted)?;
        match &self.run.tls {
            None => Ok(Transport::Plain(socket)),
            Some(tls) => match tls.client() {
                Ok(session) => Ok(Transport::secure(socket, session)),
                Err(error) => Err(Refusal::Unreachable(Breakage::Tls(Box::new(error)))),
            },
        }
    }

    /// Sends what is left of a request, if anything, at `now` or else at the present moment. A connection still being made takes it
    /// later.
    pub(super) fn transmit(&mut self, place: Place, now: Option<Moment>) {
        let connection = self.pool.get(place);
        let State::Busy(transport, busy) = &mut connection.state else {
            return;
        };
        let bytes = match busy.source {
            Source::Plan => self.run.plan.bytes(&self.run.plan.requests()[busy.flight.due.index]),
            Source::Rewritten => &connection.rewritten,
        };
        while busy.sent < bytes.len() || !transport.is_plain() {
            match transport.send(&bytes[busy.sent..]) {
                Moved::Bytes(count) => {
                    busy.sent += count;
                    if busy.sent_at.is_none() {
                        let now = now.unwrap_or_else(clock::now);
                        busy.sent_at = Some(now);
                        if busy.flight.attempt != (Attempt::Second { counted: true }) {
                            self.tally.sent(busy, now);
                        }
                    }
                }
                Moved::Blocked => return self.hear_of_room(place),
                // An answer may have come before the connection broke; the poller reports it.
                Moved::Broken(_) if busy.sent > 0 => return,
                Moved::Broken(cause) => return self.break_off(place, &cause),
            }
        }
        if busy.answered_at.is_none() {
            self.pool.enter(place, Phase::Awaiting);
        }
    }

    /// Makes the poller tell when a socket takes more.
    fn hear_of_room(&mut self, place: Place) {
        let label = self.pool.label(place);
        if let State::Busy(transport, _) = &self.pool.get(place).state {
            socket::watch_for_room(&self.epoll, transport.socket(), label, &self.address);
        }
    }

    /// The session whose cookies a request shares.
    pub(super) fn jar_of(&self, flight: &Flight) -> Option<SessionId> {
        match self.run.cookies {
            Cookies::Recorded => None,
            Cookies::Jar => {
                let recorded = self.run.plan.requests()[flight.due.index].session();
                flight.due.session.or(recorded.map(|session| SessionId(session.into())))
            }
        }
    }

    /// A request without a connection of its own may still be the last of a recorded session.
    fn forget_jar(&mut self, flight: &Flight) {
        if let Some(id) = self.jar_of(flight)
            && self.is_last(flight.due.index)
        {
            self.jars.forget(id);
        }
    }

    /// Puts the cookies that were set in the place of those recorded.
    fn rewrite(&mut self, place: Place, flight: &Flight) -> Source {
        // Only with a jar are requests searched for their cookies.
        let found = self.jar_of(flight).and_then(|id| Some((id, self.run.plan.cookie(flight.due.index)?)));
        let Some((id, range)) = found else {
            return Source::Plan;
        };
        let bytes = self.run.plan.bytes(&self.run.plan.requests()[flight.due.index]);
        let out = &mut self.pool.get(place).rewritten;
        out.clear();
        out.extend_from_slice(&bytes[..range.start]);
        if !self.jars.rewrite(id, &bytes[range.clone()], out) {
            return Source::Plan;
        }
        let mut rest = &bytes[range.end..];
        if out.len() == range.start {
            // Every cookie was deleted: the line goes too.
            out.truncate(bytes[..range.start].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1));
            rest = rest.strip_prefix(b"\r\n").unwrap_or(rest);
        }
        out.extend_from_slice(rest);
        Source::Rewritten
    }
}

impl Reactor<'_> {
    /// Closes a connection. Returns what it carried.
    pub(super) fn close(&mut self, place: Place) -> Option<Busy> {
        let (busy, owner) = self.pool.end(place);
        if let Some(key) = owner {
            self.sessions.moved(key, None);
        }
        busy
    }

    /// No connection could be had for this request.
    pub(super) fn found_nobody(&mut self, flight: &Flight, now: Moment) {
        self.pace.found_nobody(now);
        self.ended(flight, now.after(CLIENT_PAUSE));
    }
}
