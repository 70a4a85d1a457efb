//! The loop: send what is due, expire what is late, tell the watcher, wait, read. Sends come before reads, which bounds how late a
//! request goes out however many answers are waiting.

mod inbound;
mod outbound;

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, Event};
use rustix::io::Errno;

use super::arrival::Arrivals;
use super::clock::{self, Slept};
use super::jar::Jars;
use super::outcome::{Batch, Played, Unfinished};
use super::pace::Pace;
use super::pool::{Flight, Pool};
use super::sessions::{self, Sessions};
use super::socket::Address;
use super::tally::{Schedule, Sending, Tally, Terms, Waiting};
use super::{LoadError, Onward, Run};
use crate::replay::Load;
use crate::units::Moment;

/// Events taken in one wait: few enough that due sends need not wait long behind them.
const EVENTS: usize = 128;
/// An answer is read so much after its arrival at most where something else is awaited anyway: two wake-ups become one. One larger than
/// the socket's buffer holds is delayed by as much when it begins, once; from then on it is read as it comes.
const READ_WITHIN: Duration = Duration::from_micros(500);
/// Bytes read at once.
const READ_BUFFER: usize = 64 << 10;

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
    /// Of loads with a schedule over plain TCP.
    arrivals: Option<Arrivals>,
    pool: Pool,
    pace: Pace<'a>,
    sessions: Sessions,
    jars: Jars,
    /// Due, and waiting for a connection.
    queue: VecDeque<Flight>,
    /// Sessions whose request has ended, and from when on their clients are free.
    freed: Vec<(sessions::Key, Moment)>,
    /// No new connections before this.
    busy_until: Moment,
    /// Connections with more to read than one turn allows.
    unread: Vec<u64>,
    /// Of the turn before, those that are read now; empty between turns.
    reading: Vec<u64>,
    tally: Tally<'a>,
    /// What takes its place at the end of settling.
    after_settling: Option<Tally<'a>>,
    start: Moment,
    /// What ended before this is forgotten.
    counted_from: Moment,
    /// CPU time of this thread until then.
    cpu_before: Duration,
    /// When sending stops.
    end: Moment,
}

impl<'a> Reactor<'a> {
    pub(super) fn new(run: &'a Run<'a>) -> Result<Self, LoadError> {
        let cpu_before = clock::thread_cpu();
        let epoll = epoll::create(CreateFlags::CLOEXEC).map_err(system("epoll_create1"))?;
        let address = Address::new(&run.target)?;
        let schedule = match run.load {
            Load::Open { .. } | Load::Profile { .. } | Load::Recorded { .. } => Schedule::Given,
            Load::Closed { .. } => Schedule::None,
        };
        let is_stamped = schedule == Schedule::Given && matches!(address, Address::Tcp(_)) && run.tls.is_none();
        let terms = Terms { plan: run.plan, check: run.check, slow_after: run.slow_after, schedule, basis: run.basis };
        let settles = !run.settle.min(run.duration).is_zero();
        let (tally, after_settling) = (Tally::new(terms), settles.then(|| Tally::new(terms)));
        let arrivals = is_stamped.then(|| Arrivals::new(clock::close_reading()));
        let (buffer, pool) = (vec![0; READ_BUFFER], Pool::new(run.max_connections.get(), run.max_body));
        // The first request may be due at once, and everything else is ready.
        let start = clock::now();
        let pace = Pace::new(run, start).ok_or(LoadError::Zero("the rate"))?;
        Ok(Self {
            run,
            address,
            epoll,
            events: Vec::with_capacity(EVENTS),
            buffer,
            arrivals,
            pool,
            pace,
            sessions: Sessions::default(),
            jars: Jars::default(),
            queue: VecDeque::new(),
            freed: Vec::new(),
            busy_until: start,
            unread: Vec::new(),
            reading: Vec::new(),
            tally: tally.begin(start),
            after_settling,
            start,
            counted_from: start.after(run.settle.min(run.duration)),
            cpu_before,
            end: start.after(run.duration),
        })
    }

    /// Plays to the end, or until the watcher breaks off.
    pub(super) fn drive(&mut self, watch: &mut dyn FnMut(&Batch) -> Onward) -> Result<Ending, LoadError> {
        let mut next_batch = self.next_batch(self.start);
        let mut ending = Ending::Complete;
        loop {
            let now = clock::now();
            if !self.pace.is_scheduled() {
                self.tally.turn(now);
            }
            self.release(now);
            self.expire(now);
            if let Some(tally) = self.after_settling.take_if(|_| now >= self.counted_from) {
                self.tally = tally.begin(now);
                self.counted_from = now;
                self.cpu_before = clock::thread_cpu();
                next_batch = now;
            }
            if now >= next_batch {
                next_batch = self.next_batch(now);
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
            if self.is_over(now, drained) {
                return Ok(ending);
            }
            let limit = if now < self.end { self.end } else { drained };
            let wake = self.wakes_at(now).min(next_batch).min(limit).min(self.tally.second_ends_at());
            let rests = self.may_rest_until(wake, now);
            let mut woken = self.wait(if rests { Moment::default() } else { wake })?;
            self.handle_events();
            if rests && self.may_rest_until(wake, now) {
                if clock::sleep_until(wake) == Slept::UntilASignal {
                    woken = Woken::BySignal;
                }
                self.catch_up(clock::now())?;
            }
            if woken == Woken::BySignal {
                next_batch = now;
            }
        }
    }

    /// When the watcher is called after `now`: regularly, and when settling ends.
    fn next_batch(&self, now: Moment) -> Moment {
        let regular = now.after(self.run.batch);
        if self.after_settling.is_some() { regular.min(self.counted_from) } else { regular }
    }

    fn is_over(&self, now: Moment, drained: Moment) -> bool {
        if self.pool.busy() > 0 {
            return now >= drained;
        }
        let nothing_waits = self.queue.is_empty() && self.sessions.waiting() == 0;
        now >= self.end || (self.pace.is_played_out() && nothing_waits)
    }

    pub(super) fn played(self, ending: Ending) -> Played {
        let now = clock::now();
        let cpu = clock::thread_cpu().saturating_sub(self.cpu_before);
        let unsent = self.queue.len() + self.sessions.waiting();
        let unfinished = Unfinished { outstanding: self.pool.busy() as u64, unsent: unsent as u64 };
        let stopped_early = ending == Ending::Stopped;
        let unsettled = self.after_settling.is_some();
        let (elapsed, sending) = (now.since(self.start), self.sending(now));
        Played { unfinished, stopped_early, unsettled, ..self.tally.played(now, elapsed, sending, cpu) }
    }

    /// A timetable that is played out was sent in its own time, and answered by the last answer.
    fn sending(&self, now: Moment) -> Sending {
        let whole = now.min(self.end).since(self.counted_from);
        if !self.pace.is_played_out() || !self.pace.is_scheduled() {
            return Sending { offered: whole, achieved: whole };
        }
        let offered = self.tally.played_in(self.counted_from).min(self.run.duration);
        let offered = if offered.is_zero() { whole } else { offered };
        let answered = self.tally.last_end().map_or(Duration::ZERO, |last| last.min(self.end).since(self.counted_from));
        Sending { offered, achieved: offered.max(answered) }
    }

    fn batch(&self, now: Moment) -> Batch {
        let slow_after = u64::try_from(self.run.slow_after.as_nanos()).unwrap_or(u64::MAX);
        let limit = Moment::from_nanos(now.as_nanos().saturating_sub(slow_after));
        let queued = self.queue.iter().take_while(|flight| flight.due.at < limit).count() as u64;
        let following = if self.sessions.waiting() > 0 { self.sessions.due_before(limit) } else { 0 };
        let waiting = Waiting {
            outstanding: self.pool.busy() as u64,
            queued: (self.queue.len() + self.sessions.waiting()) as u64,
            overdue: self.pool.due_before(limit) + queued + following,
        };
        self.tally.batch(now.since(self.start), waiting)
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

    /// After a rest, what came meanwhile is still unread. It is read before a request is given up that it may answer, and before
    /// requests of sessions go out, which would seem to wait for it.
    fn catch_up(&mut self, now: Moment) -> Result<(), LoadError> {
        let gives_up = self.pool.earliest().is_some_and(|(_, due)| due.after(self.run.timeout) <= now);
        if gives_up || self.sessions.are_open() {
            self.wait(Moment::default())?;
            self.handle_events();
        }
        Ok(())
    }

    /// Whether this thread can sleep and read answers afterwards: they have stamps, nothing but whole answers is awaited, and what is
    /// sent next need not wait for one of them to have a connection.
    fn may_rest_until(&self, wake: Moment, now: Moment) -> bool {
        self.arrivals.as_ref().is_some_and(Arrivals::are_stamped)
            && wake.since(now) <= READ_WITHIN
            && self.pool.busy() > 0
            && self.pool.moving() == 0
            && self.queue.is_empty()
            && self.pool.has_room()
            && self.sessions.waiting() == 0
            && self.unread.is_empty()
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

#[cfg(test)]
#[path = "reactor/tests.rs"]
mod tests;
