//! From answer to counted: reads what came, and decides what becomes of the request and its connection.

use std::hash::Hasher;

use rustix::event::epoll::EventFlags;

use super::super::answer::Reader;
use super::super::arrival::Arrivals;
use super::super::pool::{Attempt, Busy, Flight, Phase, Place, State, Usage};
use super::super::socket::{Breakage, Moved};
use super::super::tally::Failure;
use super::super::{Check, Cookies, clock};
use super::{READ_BUFFER, Reactor};
use crate::replay::{Answer, FramingError, Progress, Reuse};
use crate::units::Moment;

/// Reads from one connection before others have their turn.
const READS_A_TURN: usize = 16;

/// Methods that change nothing, as a request begins.
const SAFE: [&[u8]; 3] = [b"GET ", b"HEAD ", b"OPTIONS "];

impl Reactor<'_> {
    pub(super) fn handle_events(&mut self) {
        if let Some(arrivals) = &mut self.arrivals
            && !self.events.is_empty()
        {
            arrivals.check(clock::reading(), clock::close_reading);
        }
        let mut events = std::mem::take(&mut self.events);
        for event in &events {
            self.handle(event.data.u64(), event.flags);
            self.go_on();
        }
        events.clear();
        self.events = events;
        std::mem::swap(&mut self.unread, &mut self.reading);
        while let Some(label) = self.reading.pop() {
            if let Some(place) = self.pool.find(label) {
                self.receive(place, true);
                self.go_on();
            }
        }
    }

    fn handle(&mut self, label: u64, flags: EventFlags) {
        let Some(place) = self.pool.find(label) else {
            return;
        };
        let ends = flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
        let readable = ends || flags.contains(EventFlags::IN);
        match &mut self.pool.get(place).state {
            State::Busy(transport, busy) => {
                let talks = !transport.is_plain();
                if flags.contains(EventFlags::OUT) && (talks || busy.sent < busy.length) {
                    self.transmit(place, None);
                }
                if readable && self.pool.find(label).is_some() {
                    self.receive(place, ends);
                }
                // What came may have been the end of a handshake.
                if talks && readable && self.pool.find(label).is_some() {
                    self.transmit(place, None);
                }
            }
            // TLS has messages of its own.
            State::Idle(transport) if readable && !transport.is_plain() => {
                if transport.receive(&mut self.buffer) != Moved::Blocked {
                    self.close(place);
                }
            }
            // Nobody asked for anything: the peer has ended it, or talks out of turn.
            State::Idle(_) if readable => {
                self.close(place);
            }
            State::Idle(_) | State::Vacant => {}
        }
    }

    /// Reads until the answer is complete or nothing is left. A short read empties a stream socket (epoll(7)) unless its end is near.
    fn receive(&mut self, place: Place, ending: bool) {
        for _ in 0..READS_A_TURN {
            let connection = self.pool.get(place);
            let State::Busy(transport, busy) = &mut connection.state else {
                return;
            };
            let short_is_all = transport.is_plain() && !ending;
            let (moved, stamp) = match &self.arrivals {
                Some(_) => transport.receive_stamped(&mut self.buffer),
                None => (transport.receive(&mut self.buffer), None),
            };
            let count = match moved {
                Moved::Bytes(0) => match connection.response.finish() {
                    Some(answer) => {
                        self.arrivals.iter_mut().for_each(Arrivals::ended_with_connection);
                        return self.complete(place, answer, clock::now());
                    }
                    None => return self.break_off(place, &Breakage::Closed),
                },
                Moved::Bytes(count) => count,
                Moved::Blocked => return,
                Moved::Broken(cause) => return self.break_off(place, &cause),
            };
            let now = clock::now();
            let now = self.arrivals.as_mut().map_or(now, |arrivals| arrivals.moment(stamp, busy.sent_at, now));
            busy.answered_at.get_or_insert(now);
            self.tally.received(count);
            match self.read(place, count) {
                Ok(Progress::Complete(answer)) => return self.complete(place, answer, now),
                Ok(Progress::Partial) => {
                    self.pool.enter(place, Phase::Moving);
                    if count < READ_BUFFER && short_is_all {
                        return;
                    }
                }
                Err(_) => return self.fail(place, Failure::Malformed, now),
            }
        }
        let label = self.pool.label(place);
        self.unread.push(label);
    }

    /// Takes in what the buffer holds.
    fn read(&mut self, place: Place, count: usize) -> Result<Progress, FramingError> {
        let input = &self.buffer[..count];
        if self.run.check != Check::Body && self.run.cookies == Cookies::Recorded {
            return self.pool.get(place).response.feed(input);
        }
        let flight = match &self.pool.get(place).state {
            State::Busy(_, busy) => busy.flight,
            State::Vacant | State::Idle(_) => return Ok(Progress::Partial),
        };
        let session = self.jar_of(&flight);
        let connection = self.pool.get(place);
        let hasher = (self.run.check == Check::Body).then_some(&mut connection.hasher);
        let jar = session.map(|session| (&mut self.jars, session));
        connection.response.feed_before(input, &mut Reader { hasher, jar })
    }

    fn complete(&mut self, place: Place, answer: Answer, now: Moment) {
        let connection = self.pool.get(place);
        let State::Busy(_, busy) = &connection.state else {
            return;
        };
        let busy = *busy;
        if self.run.check == Check::Body {
            let hash = connection.hasher.finish();
            self.tally.hashed(busy.flight.due.index, hash);
        }
        self.tally.complete(&busy, answer, now, self.end);
        if answer.reusable && busy.sent == busy.length && self.run.plan.reuse() == Reuse::KeepAlive {
            self.pool.rest(place);
        } else {
            self.close(place);
        }
        self.ended(&busy.flight, now);
    }

    /// The connection is gone before the answer. One that was kept alive may have been closed just as we sent: that request goes
    /// out once more, on a fresh connection.
    pub(super) fn break_off(&mut self, place: Place, cause: &Breakage) {
        let Some(busy) = self.close(place) else {
            return;
        };
        let now = clock::now();
        if busy.usage == Usage::Reused
            && busy.answered_at.is_none()
            && busy.flight.attempt == Attempt::First
            && self.is_repeatable(&busy)
        {
            self.tally.retried();
            let attempt = Attempt::Second { counted: busy.sent_at.is_some() };
            // Its wait for a connection was over when it was sent; what comes now is another one.
            self.launch(Flight { attempt, since: now, ..busy.flight }, now);
        } else if busy.usage == Usage::Fresh && busy.sent == 0 {
            self.tally.find_nobody(cause);
            self.found_nobody(&busy.flight, now);
        } else {
            self.tally.fail(Failure::ClosedEarly);
            self.ended(&busy.flight, now);
        }
    }

    /// Whether a request can be sent again without doing anything twice: none of it is out, or its method is safe (RFC 9110, 9.2.2).
    fn is_repeatable(&self, busy: &Busy) -> bool {
        let bytes = self.run.plan.bytes(&self.run.plan.requests()[busy.flight.due.index]);
        busy.sent == 0 || SAFE.iter().any(|method| bytes.starts_with(method))
    }

    /// The answer is none.
    fn fail(&mut self, place: Place, failure: Failure, now: Moment) {
        if let Some(busy) = self.close(place) {
            self.tally.fail(failure);
            self.ended(&busy.flight, now);
        }
    }

    pub(super) fn expire(&mut self, now: Moment) {
        while let Some((place, due)) = self.pool.earliest().filter(|(_, due)| due.after(self.run.timeout) <= now) {
            let Some(busy) = self.close(place) else { return };
            self.tally.time_out(due, now);
            self.ended(&busy.flight, now);
            self.go_on();
        }
        while let Some(flight) = self.queue.front().copied().filter(|flight| flight.due.at.after(self.run.timeout) <= now) {
            self.queue.pop_front();
            self.tally.time_out(flight.due.at, now);
            self.ended(&flight, now);
            self.go_on();
        }
    }
}
