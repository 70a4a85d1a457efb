//! The loop: send what is due, expire what is late, tell the watcher, wait, read. Sends come before reads, which bounds how late a
//! request goes out however many answers are waiting.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event, EventFlags};
use rustix::io::Errno;

use super::clock;
use super::outcome::{Batch, Played, Unfinished};
use super::pace::Pace;
use super::pool::{Attempt, Busy, Flight, Place, Pool, State, Usage};
use super::socket::{self, Address, Moved, Refusal};
use super::tally::{Failure, Tally, Waiting};
use super::{LoadError, Onward, QUEUE_LIMIT, Run};
use crate::replay::{Answer, Progress, Reuse};
use crate::units::Moment;

/// Events taken in one wait: few enough that due sends need not wait long behind them.
const EVENTS: usize = 128;
/// Bytes read at once.
const READ_BUFFER: usize = 64 << 10;
/// Reads from one connection before others have their turn.
const READS_A_TURN: usize = 16;
/// How long new connections wait after a full backlog.
const BUSY_PAUSE: Duration = Duration::from_micros(500);

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    Complete,
    Stopped,
}

/// What a wait brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Woken {
    ByTimeOrEvent,
    BySignal,
}

pub(super) struct Reactor<'a> {
    run: &'a Run<'a>,
    address: Address,
    epoll: OwnedFd,
    events: Vec<Event>,
    buffer: Vec<u8>,
    pool: Pool,
    pace: Pace<'a>,
    /// Due, and waiting for a connection.
    queue: VecDeque<Flight>,
    /// No new connections before this.
    busy_until: Moment,
    /// Connections with more to read than one turn allows.
    unread: Vec<u64>,
    tally: Tally,
    start: Moment,
    /// What ended before this is forgotten.
    counted_from: Moment,
    /// When sending stops.
    end: Moment,
}

impl<'a> Reactor<'a> {
    pub(super) fn new(run: &'a Run<'a>) -> Result<Self, LoadError> {
        let epoll = epoll::create(CreateFlags::CLOEXEC).map_err(system("epoll_create1"))?;
        let address = Address::new(&run.target)?;
        let start = clock::now();
        let pace = Pace::new(&run.load, run.plan, run.from, start).ok_or(LoadError::Zero("the rate"))?;
        let end = start.after(run.duration);
        Ok(Self {
            run,
            address,
            epoll,
            events: Vec::with_capacity(EVENTS),
            buffer: vec![0; READ_BUFFER],
            pool: Pool::new(run.max_connections.get(), run.max_body),
            pace,
            queue: VecDeque::new(),
            busy_until: start,
            unread: Vec::new(),
            tally: Tally::new(run.slow_after),
            start,
            counted_from: start.after(run.settle.min(run.duration)),
            end,
        })
    }

    /// Plays to the end, or until the watcher breaks off.
    pub(super) fn drive(&mut self, watch: &mut dyn FnMut(&Batch) -> Onward) -> Result<Ending, LoadError> {
        let mut settling = self.counted_from > self.start;
        let mut next_batch = self.start.after(self.run.batch);
        if settling {
            next_batch = next_batch.min(self.counted_from);
        }
        let mut ending = Ending::Complete;
        loop {
            let now = clock::now();
            self.release(now);
            self.expire(now);
            if settling && now >= self.counted_from {
                settling = false;
                self.tally = Tally::new(self.run.slow_after);
                self.counted_from = now;
                next_batch = now;
            }
            if now >= next_batch {
                next_batch = now.after(self.run.batch);
                if settling {
                    next_batch = next_batch.min(self.counted_from);
                }
                match watch(&self.batch(now)) {
                    Onward::BreakOff => return Ok(Ending::Stopped),
                    Onward::StopSending if now < self.end => {
                        self.end = now;
                        ending = Ending::Stopped;
                    }
                    Onward::StopSending | Onward::GoOn => {}
                }
            }
            let drained = self.end.after(self.run.drain);
            if now >= self.end && (self.pool.busy() == 0 || now >= drained) {
                return Ok(ending);
            }
            let limit = if now < self.end { self.end } else { drained };
            if self.wait(self.wakes_at(now).min(next_batch).min(limit))? == Woken::BySignal {
                next_batch = now;
            }
            self.handle_events();
        }
    }

    pub(super) fn played(self, ending: Ending, cpu: Duration) -> Played {
        let now = clock::now();
        let sending = now.min(self.end).since(self.counted_from);
        let unfinished = Unfinished { outstanding: self.pool.busy() as u64, unsent: self.queue.len() as u64 };
        let stopped_early = ending == Ending::Stopped;
        Played { unfinished, stopped_early, ..self.tally.played(now.since(self.start), sending, cpu) }
    }

    fn batch(&self, now: Moment) -> Batch {
        let overdue = |due: Moment| now.since(due) > self.run.slow_after;
        let flying = self.pool.due_before(Moment::from_nanos(
            now.as_nanos().saturating_sub(u64::try_from(self.run.slow_after.as_nanos()).unwrap_or(u64::MAX)),
        ));
        let queued = self.queue.iter().take_while(|flight| overdue(flight.due.at)).count() as u64;
        let waiting = Waiting { outstanding: self.pool.busy() as u64, queued: self.queue.len() as u64, overdue: flying + queued };
        self.tally.batch(now.since(self.start), waiting)
    }

    /// Takes up what is due and sends what can be sent. What was due before the end is sent even if this thread comes to it late;
    /// what was waiting for a connection then is not.
    fn release(&mut self, now: Moment) {
        loop {
            let live = self.pool.busy() + self.queue.len();
            let Some(due) = self.pace.take(now, self.end, live) else {
                break;
            };
            if self.pace.is_scheduled() {
                self.tally.late(clock::now().since(due.at));
            }
            self.tally.scheduled();
            if self.queue.len() < QUEUE_LIMIT {
                self.queue.push_back(Flight { due, attempt: Attempt::First });
                self.send_queued(now);
            } else {
                self.tally.fail(Failure::Shed);
            }
        }
        if now < self.end {
            self.send_queued(now);
        }
    }

    fn send_queued(&mut self, now: Moment) {
        while now >= self.busy_until && self.pool.has_room() {
            let Some(flight) = self.queue.pop_front() else {
                return;
            };
            self.launch(flight);
        }
    }

    /// Puts a request on a connection, kept or new.
    fn launch(&mut self, flight: Flight) {
        let started = clock::now();
        let kept = match flight.attempt {
            Attempt::First => self.pool.take_idle(),
            Attempt::Second => None,
        };
        let (place, socket, usage) = match kept {
            Some((place, socket)) => (place, socket, Usage::Reused),
            None => match self.connect() {
                Ok((place, socket)) => (place, socket, Usage::Fresh),
                Err(Refusal::Busy) => {
                    self.busy_until = started.after(BUSY_PAUSE);
                    self.queue.push_front(flight);
                    return;
                }
                Err(refusal) => {
                    self.tally.fail(if refusal == Refusal::Exhausted { Failure::Exhausted } else { Failure::Connect });
                    self.pace.found_nobody(started);
                    return;
                }
            },
        };
        if flight.attempt == Attempt::First {
            self.tally.sent();
        }
        let request = &self.run.plan.requests()[flight.due.index];
        self.pool.get(place).response.begin(request.response_body());
        self.pool.begin(place, Busy { socket, flight, started, sent: 0, usage, answering: false });
        self.transmit(place);
    }

    fn connect(&mut self) -> Result<(Place, OwnedFd), Refusal> {
        let place = self.pool.take_vacant().ok_or(Refusal::Exhausted)?;
        let opened = socket::open(&self.address).and_then(|socket| {
            socket::watch(&self.epoll, &socket, self.pool.label(place)).map_err(|_errno| Refusal::Exhausted)?;
            Ok((place, socket))
        });
        match opened {
            Ok(_) => self.tally.connected(),
            Err(_) => self.pool.put_back(place),
        }
        opened
    }

    /// Sends what is left of a request. A connection still being made takes it later.
    fn transmit(&mut self, place: Place) {
        let State::Busy(busy) = &mut self.pool.get(place).state else {
            return;
        };
        let bytes = self.run.plan.bytes(&self.run.plan.requests()[busy.flight.due.index]);
        while busy.sent < bytes.len() {
            match socket::push(&busy.socket, &bytes[busy.sent..]) {
                Moved::Bytes(count) => busy.sent += count,
                Moved::Blocked => return,
                // An answer may have come before the connection broke; the poller reports it.
                Moved::Broken if busy.sent > 0 => return,
                Moved::Broken => return self.break_off(place),
            }
        }
    }

    fn handle_events(&mut self) {
        let mut events = std::mem::take(&mut self.events);
        for event in &events {
            let (label, flags) = (event.data.u64(), event.flags);
            let Some(place) = self.pool.find(label) else {
                continue;
            };
            let readable = flags.intersects(EventFlags::IN | EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
            match &self.pool.get(place).state {
                State::Busy(_) => {
                    if flags.contains(EventFlags::OUT) {
                        self.transmit(place);
                    }
                    if readable && self.pool.find(label).is_some() {
                        self.receive(place, flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR));
                    }
                }
                // Nobody asked for anything: the peer has ended it, or talks out of turn.
                State::Idle(_) if readable => {
                    self.pool.end(place);
                }
                State::Idle(_) | State::Vacant => {}
            }
        }
        events.clear();
        self.events = events;
        for label in std::mem::take(&mut self.unread) {
            if let Some(place) = self.pool.find(label) {
                self.receive(place, true);
            }
        }
    }

    /// Reads until the answer is complete or nothing is left. A short read empties a stream socket (epoll(7)) unless its end is near.
    fn receive(&mut self, place: Place, ending: bool) {
        for _ in 0..READS_A_TURN {
            let connection = self.pool.get(place);
            let State::Busy(busy) = &mut connection.state else {
                return;
            };
            let count = match socket::pull(&busy.socket, &mut self.buffer) {
                Moved::Bytes(0) => match connection.response.finish() {
                    Some(answer) => return self.complete(place, answer),
                    None => return self.break_off(place),
                },
                Moved::Bytes(count) => count,
                Moved::Blocked => return,
                Moved::Broken => return self.break_off(place),
            };
            busy.answering = true;
            self.tally.received(count);
            match connection.response.feed(&self.buffer[..count]) {
                Ok(Progress::Complete(answer)) => return self.complete(place, answer),
                Ok(Progress::Partial) if count < READ_BUFFER && !ending => return,
                Ok(Progress::Partial) => {}
                Err(_) => {
                    self.pool.end(place);
                    return self.tally.fail(Failure::Malformed);
                }
            }
        }
        let label = self.pool.label(place);
        self.unread.push(label);
    }

    fn complete(&mut self, place: Place, answer: Answer) {
        let now = clock::now();
        let State::Busy(busy) = &self.pool.get(place).state else {
            return;
        };
        let request = &self.run.plan.requests()[busy.flight.due.index];
        self.tally.complete(request, answer, busy.flight.due.at, busy.started, now, self.end);
        let all_sent = busy.sent == self.run.plan.bytes(request).len();
        if answer.reusable && all_sent && self.run.plan.reuse() == Reuse::KeepAlive {
            self.pool.rest(place);
        } else {
            self.pool.end(place);
        }
    }

    /// The connection is gone before the answer. One that was kept alive may have been closed just as we sent: that request goes
    /// out once more, on a fresh connection.
    fn break_off(&mut self, place: Place) {
        let Some(busy) = self.pool.end(place) else {
            return;
        };
        if busy.usage == Usage::Reused && !busy.answering && busy.flight.attempt == Attempt::First {
            self.tally.retried();
            self.launch(Flight { attempt: Attempt::Second, ..busy.flight });
        } else if busy.usage == Usage::Fresh && busy.sent == 0 {
            self.tally.fail(Failure::Connect);
            self.pace.found_nobody(clock::now());
        } else {
            self.tally.fail(Failure::ClosedEarly);
        }
    }

    fn expire(&mut self, now: Moment) {
        while let Some((place, due)) = self.pool.earliest().filter(|(_, due)| due.after(self.run.timeout) <= now) {
            self.pool.end(place);
            self.tally.time_out(now.since(due));
        }
        while let Some(flight) = self.queue.front().filter(|flight| flight.due.at.after(self.run.timeout) <= now) {
            self.tally.time_out(now.since(flight.due.at));
            self.queue.pop_front();
        }
    }

    /// When something has to be done although no event comes.
    fn wakes_at(&self, now: Moment) -> Moment {
        if !self.unread.is_empty() {
            return Moment::default();
        }
        let flying = self.pool.earliest().map(|(_, due)| due.after(self.run.timeout));
        let queued = self.queue.front().map(|flight| flight.due.at.after(self.run.timeout));
        let may_send = now < self.end && !self.queue.is_empty() && self.pool.has_room();
        let retry = may_send.then_some(self.busy_until);
        let moments = [self.pace.wakes_at(self.end), flying, queued, retry];
        moments.into_iter().flatten().min().unwrap_or(self.end.after(self.run.drain))
    }

    fn wait(&mut self, until: Moment) -> Result<Woken, LoadError> {
        let timeout = until.since(clock::now());
        let timeout = Timespec::try_from(timeout).map_err(|_| Errno::INVAL).map_err(system("epoll_pwait2"))?;
        match epoll::wait(&self.epoll, spare_capacity(&mut self.events), Some(&timeout)) {
            Ok(_) => Ok(Woken::ByTimeOrEvent),
            Err(Errno::INTR) => Ok(Woken::BySignal),
            Err(errno) => Err(system("epoll_pwait2")(errno)),
        }
    }
}

fn system(doing: &'static str) -> impl Fn(Errno) -> LoadError {
    move |errno| LoadError::System { doing, source: io::Error::from(errno) }
}
