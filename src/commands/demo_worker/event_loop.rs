//! The worker's one thread: waits for sockets, signals and alarms, and computes in between. While it computes nothing else
//! happens, which is what makes it behave like a Python worker that holds the GIL. Decides who is served when; it never blocks
//! but in `epoll_wait`.

use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::SocketFlags;
use signal_hook::consts::{SIGINT, SIGQUIT, SIGTERM};
use signal_hook::low_level::pipe;

use super::Error;
use super::burn::burn;
use super::connection::{Connection, Progress};
use super::fault::{Leaks, Outcome};
use super::http::{self, Head};
use super::ledger::Ledger;
use super::route::{self, Faults, Route, Work};
use super::steer::Steering;
use crate::sys::clock;
use crate::sys::signals::held_back;
use crate::sys::systemd::Systemd;
use crate::units::{Connections, Moment};

/// How long an idle keep-alive connection may be used once more after SIGTERM, so that a request already on its way is not lost.
const LINGER: Duration = Duration::from_millis(200);
/// How long no connection is accepted when descriptors or memory run out.
const PAUSE: Duration = Duration::from_millis(100);
const EVENTS_MAX: usize = 256;
/// Descriptors of signals are known by these numbers, listeners by their index, connections by numbers from `FIRST_CLIENT` on.
const TERM: u64 = 1 << 32;
const QUIT: u64 = TERM + 1;
const FIRST_CLIENT: u64 = TERM + 2;

/// From a word to the supervisor for which there was no room to the next try. A queue holds ten where net.unix.max_dgram_qlen is as
/// the kernel sets it, and workers that were started together speak together.
const SAY_AGAIN: Duration = Duration::from_millis(20);

/// Who is told how the worker is.
pub(super) struct Supervisor {
    /// The way to it.
    pub(super) systemd: Systemd,
    /// How often it wants a sign of life, if at all.
    pub(super) beat: Option<Duration>,
}

/// Everything one worker is.
pub(super) struct EventLoop {
    epoll: OwnedFd,
    listeners: Vec<OwnedFd>,
    accepting: Accepting,
    clients: HashMap<u64, Client>,
    next_client: u64,
    most_clients: usize,
    alarms: BTreeSet<(Moment, Alarm)>,
    supervisor: Supervisor,
    steering: Steering,
    faults: Faults,
    leaks: Leaks,
    ledger: Ledger,
    deaf_to_term: bool,
    signals: [UnixStream; 2],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Accepting {
    Booting,
    Open,
    /// Full, or out of descriptors: the listeners are not watched.
    Paused,
    /// SIGTERM came.
    Stopping,
}

#[derive(Debug)]
struct Client {
    connection: Connection,
    due: Option<(Moment, Due)>,
}

/// What is next for a client.
#[derive(Debug)]
enum Due {
    Begin(Head),
    Finish(Head, Work),
    /// It was silent for too long.
    Close,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Alarm {
    Beat,
    Booted,
    Ready,
    Reopen,
    LingerOver,
    Die,
    Client(u64),
}

impl EventLoop {
    /// A loop that has begun to boot: signals are heard, connections not yet accepted.
    pub(super) fn new(
        listeners: Vec<OwnedFd>,
        connections: Connections,
        faults: Faults,
        supervisor: Supervisor,
        steering: Steering,
        (leaks, ledger): (Leaks, Ledger),
    ) -> Result<Self, Error> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).map_err(Error::errno("make an epoll set"))?;
        let signals = [signal_pipe(&[SIGTERM])?, signal_pipe(&[SIGINT, SIGQUIT])?];
        for (pipe, number) in signals.iter().zip([TERM, QUIT]) {
            epoll::add(&epoll, pipe, EventData::new_u64(number), EventFlags::IN).map_err(Error::errno("watch signals"))?;
        }
        let now = clock::now();
        let alarms = supervisor.beat.map(|_| (now, Alarm::Beat)).into_iter().collect();
        Ok(Self {
            epoll,
            listeners,
            accepting: Accepting::Booting,
            clients: HashMap::new(),
            next_client: FIRST_CLIENT,
            most_clients: usize::try_from(connections.get()).unwrap_or(usize::MAX),
            alarms,
            supervisor,
            deaf_to_term: steering.no_term,
            steering,
            faults,
            leaks,
            ledger,
            signals,
        })
    }

    /// Serves from `boot` on until told to end.
    pub(super) fn run(mut self, boot: Duration) -> Result<ExitCode, Error> {
        self.alarms.insert((clock::now().after(boot), Alarm::Booted));
        let mut events = Vec::with_capacity(EVENTS_MAX);
        loop {
            self.wait(&mut events)?;
            for event in events.drain(..) {
                let event: epoll::Event = event;
                if let ControlFlow::Break(code) = self.handle_event(event.data.u64()) {
                    return Ok(code);
                }
            }
            // Only what is due now: what becomes due meanwhile waits until sockets and signals were looked at.
            let now = clock::now();
            let later = self.alarms.split_off(&(now.after(Duration::from_nanos(1)), Alarm::Beat));
            for (_, alarm) in std::mem::replace(&mut self.alarms, later) {
                if let ControlFlow::Break(code) = self.handle_alarm(alarm, now) {
                    return Ok(code);
                }
            }
            if self.accepting == Accepting::Stopping && self.clients.is_empty() {
                return Ok(ExitCode::SUCCESS);
            }
            self.reopen_if_there_is_room();
        }
    }

    fn wait(&self, events: &mut Vec<epoll::Event>) -> Result<(), Error> {
        let timeout = self.alarms.first().map(|(moment, _)| {
            let span = moment.since(clock::now());
            Timespec { tv_sec: i64::try_from(span.as_secs()).unwrap_or(i64::MAX), tv_nsec: i64::from(span.subsec_nanos()) }
        });
        match epoll::wait(&self.epoll, spare_capacity(events), timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(errno) => Err(Error::errno("wait for events")(errno)),
        }
    }

    fn handle_event(&mut self, number: u64) -> ControlFlow<ExitCode> {
        match number {
            QUIT => return ControlFlow::Break(ExitCode::SUCCESS),
            TERM => {
                let mut byte = [0; 8];
                // Read so that it does not report again; its content says nothing.
                let _ = rustix::io::read(&self.signals[0], &mut byte);
                if !self.deaf_to_term {
                    self.stop();
                }
            }
            client if client >= FIRST_CLIENT => self.drive(client),
            listener => self.accept(usize::try_from(listener).unwrap_or(usize::MAX)),
        }
        ControlFlow::Continue(())
    }

    fn handle_alarm(&mut self, alarm: Alarm, now: Moment) -> ControlFlow<ExitCode> {
        match alarm {
            Alarm::Beat => {
                let heard = self.supervisor.systemd.alive();
                let next = self.supervisor.beat.map(|beat| if heard { beat } else { beat.min(SAY_AGAIN) });
                self.alarms.extend(next.map(|pause| (now.after(pause), Alarm::Beat)));
            }
            Alarm::Booted if self.accepting == Accepting::Booting => {
                self.open();
                if !self.steering.never_ready {
                    self.alarms.insert((now, Alarm::Ready));
                }
                self.alarms.extend(self.steering.life.map(|life| (now.after(life), Alarm::Die)));
            }
            Alarm::Ready => {
                if !self.supervisor.systemd.ready() {
                    // A supervisor that has not listened for a while may listen yet.
                    self.alarms.insert((now.after(SAY_AGAIN), Alarm::Ready));
                } else if self.supervisor.beat.is_some() {
                    self.supervisor.systemd.alive();
                }
            }
            Alarm::Reopen if self.accepting == Accepting::Paused => self.open(),
            Alarm::Booted | Alarm::Reopen => {}
            Alarm::LingerOver => self.clients.retain(|_, client| !client.connection.is_idle()),
            Alarm::Die => return ControlFlow::Break(ExitCode::FAILURE),
            Alarm::Client(number) => return self.serve(number, now),
        }
        ControlFlow::Continue(())
    }

    fn open(&mut self) {
        self.accepting = Accepting::Open;
        for (listener, number) in self.listeners.iter().zip(0..) {
            // Refused only for a lack of memory, or when it is watched already.
            let _ = epoll::add(&self.epoll, listener, EventData::new_u64(number), EventFlags::IN);
        }
    }

    fn pause(&mut self) {
        self.accepting = Accepting::Paused;
        for listener in &self.listeners {
            let _ = epoll::delete(&self.epoll, listener);
        }
    }

    fn reopen_if_there_is_room(&mut self) {
        let full = self.clients.len() >= self.most_clients;
        match self.accepting {
            Accepting::Open if full => self.pause(),
            Accepting::Paused if !full && !self.alarms.iter().any(|(_, alarm)| *alarm == Alarm::Reopen) => self.open(),
            Accepting::Open | Accepting::Paused | Accepting::Booting | Accepting::Stopping => {}
        }
    }

    /// Takes one connection, so that other workers that wait on the same queue get theirs.
    fn accept(&mut self, listener: usize) {
        if self.accepting != Accepting::Open || self.clients.len() >= self.most_clients {
            return;
        }
        let Some(listener) = self.listeners.get(listener) else {
            return;
        };
        match rustix::net::accept_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
            Ok(socket) => {
                let number = self.next_client;
                self.next_client += 1;
                let interest = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
                if epoll::add(&self.epoll, &socket, EventData::new_u64(number), interest).is_ok() {
                    self.clients.insert(number, Client { connection: Connection::new(socket), due: None });
                    self.drive(number);
                }
            }
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => {}
            Err(_) => {
                self.pause();
                self.alarms.insert((clock::now().after(PAUSE), Alarm::Reopen));
            }
        }
    }

    /// Lets a connection read and write as far as it can.
    fn drive(&mut self, number: u64) {
        let Some(client) = self.clients.get_mut(&number) else {
            return;
        };
        match client.connection.advance() {
            Progress::Closed => self.forget(number),
            Progress::Request(head) => self.schedule(number, clock::now(), Due::Begin(head)),
            Progress::Blocked => {
                if let Some(patience) = client.connection.patience() {
                    self.schedule(number, clock::now().after(patience), Due::Close);
                }
            }
        }
    }

    fn schedule(&mut self, number: u64, moment: Moment, due: Due) {
        if let Some(client) = self.clients.get_mut(&number) {
            if let Some((before, _)) = client.due.replace((moment, due)) {
                self.alarms.remove(&(before, Alarm::Client(number)));
            }
            self.alarms.insert((moment, Alarm::Client(number)));
        }
    }

    fn forget(&mut self, number: u64) {
        if let Some((moment, _)) = self.clients.remove(&number).and_then(|client| client.due) {
            self.alarms.remove(&(moment, Alarm::Client(number)));
        }
    }

    fn serve(&mut self, number: u64, now: Moment) -> ControlFlow<ExitCode> {
        let Some((_, due)) = self.clients.get_mut(&number).and_then(|client| client.due.take_if(|(moment, _)| *moment <= now))
        else {
            return ControlFlow::Continue(());
        };
        match due {
            Due::Close => self.forget(number),
            Due::Begin(head) => return self.begin(number, head),
            Due::Finish(head, work) => self.finish(number, &head, work),
        }
        ControlFlow::Continue(())
    }

    fn begin(&mut self, number: u64, head: Head) -> ControlFlow<ExitCode> {
        match route::route(&head.target, self.faults) {
            Route::Refused(status) => self.answer(number, &head, status, b""),
            Route::Work(work) => {
                self.ledger.read(work.id);
                burn(work.cpu / 2);
                if work.wait.is_zero() {
                    self.finish(number, &head, work);
                } else {
                    self.schedule(number, clock::now().after(work.wait), Due::Finish(head, work));
                }
            }
            Route::Fault(fault) => match self.leaks.perform(fault) {
                Outcome::End(code) => return ControlFlow::Break(code),
                Outcome::Answer(status, body) => self.answer(number, &head, status, body.as_bytes()),
                Outcome::DeafToTerm => {
                    self.deaf_to_term = true;
                    self.answer(number, &head, 200, b"ok\n");
                }
            },
        }
        ControlFlow::Continue(())
    }

    fn finish(&mut self, number: u64, head: &Head, work: Work) {
        burn(work.cpu / 2);
        match (work.bytes, work.id) {
            (Some(bytes), _) => self.answer(number, head, 200, &vec![b'x'; bytes]),
            (None, Some(id)) => self.answer(number, head, 200, format!("ok {id}\n").as_bytes()),
            (None, None) => self.answer(number, head, 200, b"ok\n"),
        }
        self.ledger.answered(work.id);
    }

    fn answer(&mut self, number: u64, head: &Head, status: u16, body: &[u8]) {
        let keep_alive = head.keep_alive && self.accepting != Accepting::Stopping;
        if let Some(client) = self.clients.get_mut(&number) {
            client.connection.answer(http::answer(status, body, keep_alive, head.wants_body), keep_alive);
            self.drive(number);
        }
    }

    /// Gives the accept queue to the other workers and answers what has been accepted.
    fn stop(&mut self) {
        if self.accepting == Accepting::Stopping {
            return;
        }
        self.supervisor.systemd.stopping();
        self.pause();
        self.accepting = Accepting::Stopping;
        self.listeners.clear();
        self.alarms.insert((clock::now().after(LINGER), Alarm::LingerOver));
    }
}

fn signal_pipe(signals: &[i32]) -> Result<UnixStream, Error> {
    let failed = |source| Error::System { action: "hear signals", source };
    let (reader, writer) = UnixStream::pair().map_err(failed)?;
    reader.set_nonblocking(true).map_err(failed)?;
    held_back(|| signals.iter().try_for_each(|signal| pipe::register(*signal, writer.try_clone()?).map(drop))).map_err(failed)?;
    Ok(reader)
}
