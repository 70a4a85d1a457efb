//! A neutral observer of load generators: one thread that answers every GET with the same 200 bytes and remembers when each request had
//! arrived and when its answer left: `cargo bench --bench observer -- --listen 127.0.0.1:8000 --log FILE`. Decides nothing; requests
//! with bodies and other methods end their connection.
//!
//! A request's index is the number in its target `/i/NUMBER`. The log, written at SIGTERM, has 24 bytes a request in the machine's byte
//! order: index and connection as u32, CLOCK_MONOTONIC nanoseconds after the recv that completed it and before the send of its answer as u64.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "where it listens and what it counted go to standard output, complaints to standard error"
)]

use std::collections::VecDeque;
use std::error::Error;
use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use memchr::memmem::Finder;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, EventData, EventFlags};

use rustix::io::Errno;
use rustix::net::sockopt::{set_socket_reuseaddr, set_tcp_nodelay};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType};
use rustix::thread::{CpuSet, sched_setaffinity, set_current_timer_slack};
use rustix::time::Timespec;
use tuningfork::sys::clock;
use tuningfork::sys::priority::{self, RealTime};
use tuningfork::units::Moment;

/// Bytes of every answer.
const ANSWER: usize = 200;
/// How many answers one send takes at most.
const ANSWERS_A_SEND: usize = 256;
/// The longest request head that may come in pieces, bytes.
const MAX_HEAD: usize = 16 << 10;
/// Connections at a time; more are closed at once.
const MAX_CONNECTIONS: usize = 4_096;
const EVENTS: usize = 256;
/// The index of a request whose target has none.
const NO_INDEX: u32 = u32::MAX;
const LISTENER: u64 = u64::MAX;
const SIGNAL: u64 = u64::MAX - 1;

/// Answers requests and remembers when they came
#[derive(Debug, Parser)]
#[command(bin_name = "cargo bench --bench observer --")]
struct Options {
    /// An address such as 127.0.0.1:8000 (port 0: any that is free), or unix:PATH
    #[arg(long, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Where the log is written at SIGTERM
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// How many requests are remembered; later ones are only counted
    #[arg(long, value_name = "N", default_value_t = 2_000_000)]
    capacity: usize,
    /// How long each answer is held back, microseconds
    #[arg(long, value_name = "N", default_value_t = 0)]
    delay_us: u64,
    /// The only core to run on
    #[arg(long, value_name = "N")]
    cpu: Option<usize>,
    /// Real-time priority, so that no other process delays it
    #[arg(long)]
    fifo: bool,
    /// Cargo's own
    #[arg(long, hide = true)]
    bench: bool,
}

/// What is remembered of a request.
#[derive(Clone, Copy, Debug)]
struct Entry {
    index: u32,
    connection: u32,
    received: Moment,
    sent: Moment,
}

#[derive(Debug)]
struct Connection {
    socket: OwnedFd,
    /// Counts connections since the start.
    number: u32,
    /// The part of a request that came without its end.
    partial: Vec<u8>,
    /// Bytes of answers that are yet to be sent.
    owed: usize,
    /// How far into an answer the last send came.
    offset: usize,
    /// The client wants no answer beyond those owed.
    last: bool,
}

/// Requests of one recv, to be answered together.
#[derive(Clone, Copy, Debug)]
struct Due {
    at: Moment,
    slot: usize,
    connection: u32,
    /// Their place among all requests.
    first: usize,
    count: usize,
}

/// Whether a connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Lives,
    Ends,
}

#[derive(Debug)]
struct Observer {
    epoll: OwnedFd,
    listener: OwnedFd,
    delay: Duration,
    capacity: usize,
    log: Vec<Entry>,
    requests: usize,
    /// When the first and the last request had arrived.
    span: Option<(Moment, Moment)>,
    accepted: u32,
    refused: u64,
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    /// In order of `at`, because the delay is constant.
    due: VecDeque<Due>,
    answers: Vec<u8>,
    buffer: Vec<u8>,
    head_end: Finder<'static>,
    close: Finder<'static>,
}

impl Observer {
    fn new(options: &Options, listener: OwnedFd) -> Result<Self, Errno> {
        let blank = Entry { index: NO_INDEX, connection: NO_INDEX, received: clock::now(), sent: clock::now() };
        // Written to once, so that no page is missing later.
        let mut log = vec![blank; options.capacity];
        log.clear();
        Ok(Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            listener,
            delay: Duration::from_micros(options.delay_us),
            capacity: options.capacity,
            log,
            requests: 0,
            span: None,
            accepted: 0,
            refused: 0,
            connections: (0..MAX_CONNECTIONS).map(|_| None).collect(),
            free: (0..MAX_CONNECTIONS).rev().collect(),
            due: VecDeque::with_capacity(MAX_CONNECTIONS),
            answers: answer().repeat(ANSWERS_A_SEND),
            buffer: vec![0; 64 << 10],
            head_end: Finder::new(b"\r\n\r\n"),
            close: Finder::new(b"onnection: close"),
        })
    }

    /// Serves until `signal` is readable.
    fn serve(&mut self, signal: &UnixStream) -> Result<(), Errno> {
        epoll::add(&self.epoll, &self.listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
        epoll::add(&self.epoll, signal, EventData::new_u64(SIGNAL), EventFlags::IN)?;
        let mut events = Vec::with_capacity(EVENTS);
        loop {
            let wait = self.due.front().map(|due| timespec(due.at.since(clock::now())));
            match epoll::wait(&self.epoll, spare_capacity(&mut events), wait.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(errno),
            }
            for event in events.drain(..) {
                match event.data.u64() {
                    LISTENER => self.accept(),
                    SIGNAL => return Ok(()),
                    slot => self.attend(usize::try_from(slot).expect("invariant: a slot"), event.flags),
                }
            }
            self.answer_due();
        }
    }

    fn accept(&mut self) {
        while let Ok(socket) = rustix::net::accept_with(&self.listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
            let Some(slot) = self.free.pop() else {
                self.refused += 1;
                continue;
            };
            // Unix sockets refuse it and do not need it.
            let _ = set_tcp_nodelay(&socket, true);
            let edges = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
            if epoll::add(&self.epoll, &socket, EventData::new_u64(slot as u64), edges).is_err() {
                self.refused += 1;
                self.free.push(slot);
                continue;
            }
            let partial = Vec::new();
            let number = self.accepted;
            self.accepted = self.accepted.wrapping_add(1);
            self.connections[slot] = Some(Connection { socket, number, partial, owed: 0, offset: 0, last: false });
        }
    }

    fn attend(&mut self, slot: usize, flags: EventFlags) {
        // A later event of this pass may be of a connection that has ended.
        let Some(mut connection) = self.connections[slot].take() else { return };
        let mut fate = Fate::Lives;
        if flags.contains(EventFlags::OUT) && connection.owed > 0 {
            fate = push(&mut connection, &self.answers);
        }
        if fate == Fate::Lives && flags.intersects(EventFlags::IN | EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR) {
            fate = self.receive(slot, &mut connection, flags.contains(EventFlags::RDHUP));
        }
        self.keep(slot, connection, fate);
    }

    fn keep(&mut self, slot: usize, connection: Connection, fate: Fate) {
        if fate == Fate::Lives {
            self.connections[slot] = Some(connection);
        } else {
            self.free.push(slot);
        }
    }

    /// Receives what is there: a recv that does not fill the buffer has emptied the socket.
    fn receive(&mut self, slot: usize, connection: &mut Connection, to_the_end: bool) -> Fate {
        loop {
            let (count, _) = match rustix::net::recv(&connection.socket, self.buffer.as_mut_slice(), RecvFlags::DONTWAIT) {
                Ok((0, _)) => return Fate::Ends,
                Ok(received) => received,
                Err(Errno::AGAIN) => return Fate::Lives,
                Err(Errno::INTR) => continue,
                Err(_) => return Fate::Ends,
            };
            let now = clock::now();
            let first = self.requests;
            let Some(found) = self.requests_in(connection, count, now) else {
                self.refused += 1;
                return Fate::Ends;
            };
            if found > 0 {
                self.span = Some((self.span.map_or(now, |(start, _)| start), now));
                let due = Due { at: now.after(self.delay), slot, connection: connection.number, first, count: found };
                if self.delay.is_zero() {
                    if self.answer(connection, due) == Fate::Ends {
                        return Fate::Ends;
                    }
                } else {
                    self.due.push_back(due);
                }
            }
            if count < self.buffer.len() && !to_the_end {
                return Fate::Lives;
            }
        }
    }

    /// Remembers the requests that the first `count` bytes of the buffer complete, and keeps the rest; `None` of what is no plain GET.
    fn requests_in(&mut self, connection: &mut Connection, count: usize, now: Moment) -> Option<usize> {
        let joined = if connection.partial.is_empty() {
            None
        } else {
            let mut joined = std::mem::take(&mut connection.partial);
            joined.extend_from_slice(&self.buffer[..count]);
            Some(joined)
        };
        let bytes = joined.as_deref().unwrap_or(&self.buffer[..count]);
        let mut found = 0;
        let mut at = 0;
        while let Some(length) = self.head_end.find(&bytes[at..]) {
            let head = &bytes[at..at + length + 2];
            let target = head.strip_prefix(b"GET ")?;
            connection.last |= self.close.find(head).is_some();
            if self.log.len() < self.capacity {
                self.log.push(Entry { index: index(target), connection: connection.number, received: now, sent: now });
            }
            self.requests += 1;
            found += 1;
            at += length + 4;
        }
        let rest = &bytes[at..];
        if rest.len() > MAX_HEAD {
            return None;
        }
        connection.partial.extend_from_slice(rest);
        Some(found)
    }

    fn answer_due(&mut self) {
        while let Some(due) = self.due.front().copied()
            && due.at <= clock::now()
        {
            self.due.pop_front();
            let same = |connection: &mut Connection| connection.number == due.connection;
            if let Some(mut connection) = self.connections[due.slot].take_if(same) {
                let fate = self.answer(&mut connection, due);
                self.keep(due.slot, connection, fate);
            }
        }
    }

    fn answer(&mut self, connection: &mut Connection, due: Due) -> Fate {
        connection.owed += due.count * ANSWER;
        let now = clock::now();
        let end = (due.first + due.count).min(self.log.len());
        for entry in self.log.get_mut(due.first..end).unwrap_or_default() {
            entry.sent = now;
        }
        push(connection, &self.answers)
    }
}

/// Sends what is owed, as far as the socket takes it.
fn push(connection: &mut Connection, answers: &[u8]) -> Fate {
    while connection.owed > 0 {
        let end = answers.len().min(connection.offset + connection.owed);
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        match rustix::net::send(&connection.socket, &answers[connection.offset..end], flags) {
            Ok(sent) => {
                connection.owed -= sent;
                connection.offset = (connection.offset + sent) % ANSWER;
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Fate::Lives,
            Err(_) => return Fate::Ends,
        }
    }
    if connection.last { Fate::Ends } else { Fate::Lives }
}

fn answer() -> Vec<u8> {
    let head = |body: usize| format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {body}\r\n\r\n");
    // Every length near the final one has three digits.
    let body = ANSWER - head(100).len();
    format!("{}{}", head(body), "x".repeat(body)).into_bytes()
}

/// The number in `/i/NUMBER`, at the start of `target`; absolute targets have a host before it.
fn index(target: &[u8]) -> u32 {
    let path = if target.starts_with(b"/") { 0 } else { memchr::memmem::find(target, b"/i/").unwrap_or(0) };
    let Some(digits) = target[path..].strip_prefix(b"/i/") else { return NO_INDEX };
    let count = digits.iter().take_while(|byte| byte.is_ascii_digit()).count();
    str::from_utf8(&digits[..count]).ok().and_then(|digits| digits.parse().ok()).unwrap_or(NO_INDEX)
}

fn timespec(span: Duration) -> Timespec {
    Timespec { tv_sec: span.as_secs().cast_signed(), tv_nsec: i64::from(span.subsec_nanos()) }
}

/// A listening socket, and how its address is written.
fn listen(address: &str) -> Result<(OwnedFd, String), Box<dyn Error>> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let backlog = i32::try_from(MAX_CONNECTIONS)?;
    if let Some(path) = address.strip_prefix("unix:") {
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
        rustix::net::listen(&socket, backlog)?;
        return Ok((socket, address.to_owned()));
    }
    let address: SocketAddr = address.parse()?;
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    set_socket_reuseaddr(&socket, true)?;
    rustix::net::bind(&socket, &address)?;
    rustix::net::listen(&socket, backlog)?;
    let bound = SocketAddr::try_from(rustix::net::getsockname(&socket)?)?;
    Ok((socket, bound.to_string()))
}

fn write_log(path: &Path, log: &[Entry]) -> std::io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    for entry in log {
        file.write_all(&entry.index.to_ne_bytes())?;
        file.write_all(&entry.connection.to_ne_bytes())?;
        file.write_all(&entry.received.as_nanos().to_ne_bytes())?;
        file.write_all(&entry.sent.as_nanos().to_ne_bytes())?;
    }
    file.flush()
}

/// The priority lasts as long as what is returned.
fn prepare(options: &Options) -> Result<Option<RealTime>, Errno> {
    if let Some(cpu) = options.cpu {
        let mut only = CpuSet::new();
        only.set(cpu);
        sched_setaffinity(None, &only)?;
    }
    set_current_timer_slack(std::num::NonZeroU64::new(1))?;
    let raised = if options.fifo { priority::raise_this_thread() } else { None };
    if options.fifo && raised.is_none() {
        eprintln!("no real-time priority: it needs CAP_SYS_NICE");
    }
    Ok(raised)
}

fn run(options: &Options, address: &str) -> Result<(), Box<dyn Error>> {
    let (wake, signal) = UnixStream::pair()?;
    for number in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::low_level::pipe::register(number, wake.try_clone()?)?;
    }
    let _raised = prepare(options)?;
    let (listener, address) = listen(address)?;
    let mut observer = Observer::new(options, listener)?;
    println!("listening on {address}");
    std::io::stdout().flush()?;
    observer.serve(&signal)?;
    if let Some(path) = &options.log {
        write_log(path, &observer.log)?;
    }
    if let Some(path) = address.strip_prefix("unix:") {
        fs::remove_file(path)?;
    }
    println!(
        "{{\"requests\": {}, \"remembered\": {}, \"connections\": {}, \"refused\": {}, \"seconds\": {:.9}, \"cpu_seconds\": {:.6}}}",
        observer.requests,
        observer.log.len(),
        observer.accepted,
        observer.refused,
        observer.span.map_or(0.0, |(first, last)| last.since(first).as_secs_f64()),
        clock::thread_cpu().as_secs_f64(),
    );
    Ok(())
}

fn main() -> ExitCode {
    let options = Options::parse();
    // `cargo bench` runs every bench; this one serves only when told where.
    let Some(address) = &options.listen else { return ExitCode::SUCCESS };
    match run(&options, address) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
