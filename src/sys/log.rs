//! The log of a service: its own lines and everything its workers write, one record a line, to standard error or to a file.
//!
//! Refuses to make anybody wait. Whoever logs only adds to a bounded queue; what does not fit there any more is dropped, the
//! oldest first, counted and told. One thread drains the workers' pipes and never writes; another writes, and may hang with what
//! it writes to (a FIFO that nobody reads, a stalled journald, a dead disk) without anybody else noticing.

mod escape;
pub(super) mod file;
mod journal;
mod lines;
mod pipes;
mod queue;
mod record;
mod sink;
mod writer;

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{Uid, fchown};
use tokio::sync::watch;
use tracing_subscriber::fmt::MakeWriter;

use crate::config::LogFormat;
use crate::units::{Generation, Slot, WorkerId};
use crate::usage::DroppedLines;
use pipes::Pipes;
use queue::Queue;
use record::Scribe;
use sink::Sink;

pub use queue::Excerpt;

/// The threads' names in `ps -L` and their stacks.
const READER: &str = "log-read";
const WRITER: &str = "log-write";
const STACK_BYTES: usize = 256 << 10;
/// The end of a worker's standard error that is kept for when it fails, bytes.
pub const MAX_LAST_WORDS: usize = 4 << 10;

/// Who says something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Speaker {
    /// tuningfork itself.
    Supervisor,
    /// A new program that is to take our place, until it speaks for itself.
    Successor,
    /// The process that Python workers of a generation are forked from.
    Zygote(Generation),
    /// A worker.
    Worker {
        /// The place it fills.
        slot: Slot,
        /// Its name.
        worker: WorkerId,
    },
}

/// How serious a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Something is broken.
    Error,
    /// Something is odd.
    Warning,
    /// All is well.
    Info,
    /// For who looks closely.
    Debug,
}

/// Where the log goes and how it looks.
#[derive(Clone, Debug)]
pub struct Settings {
    /// One line a record, for people or for programs.
    pub format: LogFormat,
    /// The file it is appended to; standard error if there is none.
    pub file: Option<PathBuf>,
}

/// The two descriptors that take the place of a process's standard output and error.
#[derive(Debug)]
pub struct Mouth {
    /// Its standard output.
    pub out: OwnedFd,
    /// Its standard error.
    pub err: OwnedFd,
}

impl Mouth {
    /// Makes the pipes a user's, who may then open them by their names too.
    pub(super) fn give_to(&self, uid: u32) -> io::Result<()> {
        let uid = Some(Uid::from_raw(uid));
        fchown(&self.out, uid, None)?;
        Ok(fchown(&self.err, uid, None)?)
    }
}

/// How the log fares.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Where it goes, in words.
    pub destination: String,
    /// How often it was to be opened anew.
    pub reopened: u64,
    /// Why that failed the last time, if it did.
    pub open_failure: Option<String>,
    /// Why it could not be written the last time, if it could not.
    pub write_failure: Option<String>,
    /// Lines that were dropped.
    pub dropped: DroppedLines,
}

/// The log. Clones share it.
#[derive(Clone)]
pub struct Log(Arc<Shared>);

struct Shared {
    scribe: Scribe,
    queue: Mutex<Queue>,
    /// Rung when there is something to write, or the writer is told something.
    work: Condvar,
    /// Rung when the writer has ended.
    ended: Condvar,
    orders: Mutex<Orders>,
    health: Mutex<Health>,
    /// [`Health::reopened`], for who asks often.
    reopened: AtomicU64,
    pipes: Mutex<Pipes>,
    /// Wakes the reader for its end.
    wake: OwnedFd,
    ends: AtomicBool,
    /// The number of the newest line, for who follows.
    newest: watch::Sender<u64>,
}

/// What the writer is told.
#[derive(Default)]
struct Orders {
    reopen: bool,
    writer_ended: bool,
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Log").field(&self.health()).finish()
    }
}

impl Log {
    /// Opens the log and starts its threads. Fails if the file cannot be opened.
    pub fn start(settings: &Settings) -> io::Result<Self> {
        let sink = Sink::open(settings.file.as_deref())?;
        let shared = Arc::new(Shared {
            scribe: Scribe::new(settings.format, sink.stamps_itself()),
            queue: Mutex::default(),
            work: Condvar::new(),
            ended: Condvar::new(),
            orders: Mutex::default(),
            health: Mutex::new(Health { destination: sink.to_string(), ..Health::default() }),
            reopened: AtomicU64::new(0),
            pipes: Mutex::new(Pipes::new()?),
            wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?,
            ends: AtomicBool::new(false),
            newest: watch::Sender::new(0),
        });
        shared.pipes().watch(&shared.wake)?;
        let reader = Arc::clone(&shared);
        thread::Builder::new().name(READER.to_owned()).stack_size(STACK_BYTES).spawn(move || pipes::drain(&reader))?;
        let writer = Arc::clone(&shared);
        thread::Builder::new().name(WRITER.to_owned()).stack_size(STACK_BYTES).spawn(move || writer::write(&writer, sink))?;
        Ok(Self(shared))
    }

    /// Whether the lines go to journald, which stamps their time itself.
    #[must_use]
    pub fn is_stamped_elsewhere(&self) -> bool {
        self.0.scribe.stamped_elsewhere
    }

    /// Makes pipes for a process. They are read until all its ends are closed.
    pub fn mouth(&self, speaker: Speaker) -> io::Result<Mouth> {
        self.0.pipes().open(speaker)
    }

    /// The end of what a process wrote to its standard error, everything it has written by now included. Can be asked for once.
    #[must_use]
    pub fn last_words(&self, speaker: Speaker) -> String {
        self.0.pipes().last_words(speaker, &self.0)
    }

    /// Logs a line of the supervisor's own. A line break in it does not begin another record.
    pub fn say(&self, level: Level, text: &[u8]) {
        self.0.add(Speaker::Supervisor, level, self.0.scribe.own(text));
    }

    /// Has the file opened anew, under its name.
    pub fn reopen(&self) {
        lock(&self.0.orders).reopen = true;
        self.0.ring();
    }

    /// How it fares.
    #[must_use]
    pub fn health(&self) -> Health {
        Health { dropped: self.0.queue().dropped(), ..lock(&self.0.health).clone() }
    }

    /// [`Health::reopened`], without waiting for anybody.
    #[must_use]
    pub fn reopened(&self) -> u64 {
        self.0.reopened.load(Ordering::Acquire)
    }

    /// The lines that are remembered behind line `after`; those of one slot only, if it says.
    #[must_use]
    pub fn excerpt(&self, after: u64, slot: Option<Slot>) -> Excerpt {
        self.0.queue().excerpt(after, slot)
    }

    /// Tells the number of the newest line whenever there is another.
    #[must_use]
    pub fn newest(&self) -> watch::Receiver<u64> {
        self.0.newest.subscribe()
    }

    /// Takes in what processes have written, and waits until all is written, but not for longer than `patience`.
    pub fn finish(&self, patience: Duration) {
        self.0.pipes().drain_all(&self.0);
        self.0.ends.store(true, Ordering::Release);
        rustix::io::write(&self.0.wake, &1_u64.to_ne_bytes()).ok();
        self.0.ring();
        let waits = |orders: &mut Orders| !orders.writer_ended;
        drop(self.0.ended.wait_timeout_while(lock(&self.0.orders), patience, waits));
    }
}

impl Shared {
    /// Adds a finished line.
    fn add(&self, speaker: Speaker, level: Level, text: String) {
        let number = self.queue().push(speaker, level, text);
        self.newest.send_replace(number);
        self.work.notify_one();
    }

    /// Wakes the writer. It may be about to sleep: it holds the queue from its last look at its orders on.
    fn ring(&self) {
        drop(self.queue());
        self.work.notify_one();
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        lock(&self.queue)
    }

    fn pipes(&self) -> MutexGuard<'_, Pipes> {
        lock(&self.pipes)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes one formatted event.
pub struct Pen {
    log: Log,
    level: Level,
}

impl io::Write for Pen {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.log.say(self.level, line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Pen;

    fn make_writer(&'a self) -> Pen {
        Pen { log: self.clone(), level: Level::Info }
    }

    fn make_writer_for(&'a self, about: &tracing::Metadata<'_>) -> Pen {
        let level = match *about.level() {
            tracing::Level::ERROR => Level::Error,
            tracing::Level::WARN => Level::Warning,
            tracing::Level::INFO => Level::Info,
            tracing::Level::DEBUG | tracing::Level::TRACE => Level::Debug,
        };
        Pen { log: self.clone(), level }
    }
}

#[cfg(test)]
mod tests;
