//! The reading ends of everything that processes write to. They are read whatever becomes of what was read, so that nobody who
//! writes waits.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::atomic::Ordering;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::{Errno, ioctl_fionbio};
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};

use super::lines::{Splitter, ending};
use super::record::Stream;
use super::{MAX_LAST_WORDS, Mouth, Shared, Speaker};

/// Read from one pipe at a time, bytes: a flood must not keep others waiting.
const MAX_TURN: usize = 64 << 10;
/// What a pipe holds, bytes: what workers of a killed supervisor may log before one of them waits.
const PIPE_SIZE: usize = 256 << 10;
const PIECE: usize = 16 << 10;
/// Turns that empty a pipe which was full, unless somebody writes still.
const MAX_TURNS: usize = PIPE_SIZE / MAX_TURN + 1;
/// Pipes looked at in one turn.
const MAX_EVENTS: usize = 64;
/// Last words kept of processes that nobody has asked for.
const MAX_MEMORIES: usize = 1024;
/// What epoll tells when the log ends.
const END: u64 = u64::MAX;

/// One output of one process.
#[derive(Debug)]
struct Pipe {
    fd: OwnedFd,
    speaker: Speaker,
    stream: Stream,
    lines: Splitter,
}

/// Whether there may be more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rest {
    Later,
    Now,
    Never,
}

/// All pipes.
#[derive(Debug)]
pub(super) struct Pipes {
    epoll: OwnedFd,
    open: BTreeMap<u64, Pipe>,
    next: u64,
    last_words: BTreeMap<Speaker, VecDeque<u8>>,
}

impl Pipes {
    pub(super) fn new() -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        Ok(Self { epoll, open: BTreeMap::new(), next: 0, last_words: BTreeMap::new() })
    }

    /// Has the reader woken when `wake` is readable.
    pub(super) fn watch(&self, wake: &OwnedFd) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, wake, EventData::new_u64(END), EventFlags::IN)?)
    }

    /// Makes the pipes of a process.
    pub(super) fn open(&mut self, speaker: Speaker) -> io::Result<Mouth> {
        let out = self.pipe(speaker, Stream::Out)?;
        let err = self.pipe(speaker, Stream::Err)?;
        Ok(Mouth { out, err })
    }

    fn pipe(&mut self, speaker: Speaker, stream: Stream) -> io::Result<OwnedFd> {
        let (ours, theirs) = pipe_with(PipeFlags::CLOEXEC)?;
        // Ours only: each end has a description of its own.
        ioctl_fionbio(&ours, true)?;
        epoll::add(&self.epoll, &ours, EventData::new_u64(self.next), EventFlags::IN)?;
        self.open.insert(self.next, Pipe { fd: ours, speaker, stream, lines: Splitter::default() });
        self.next += 1;
        // Where it cannot be had, they live no worse than with any pipe.
        fcntl_setpipe_size(&theirs, PIPE_SIZE).ok();
        Ok(both_ways(&theirs).unwrap_or(theirs))
    }

    /// Reads all that a process has written by now, and gives the end of its standard error.
    pub(super) fn last_words(&mut self, speaker: Speaker, shared: &Shared) -> String {
        let its: Vec<u64> = self.open.iter().filter(|(_, pipe)| pipe.speaker == speaker).map(|(token, _)| *token).collect();
        for token in its {
            self.empty(token, shared);
        }
        let words = self.last_words.remove(&speaker).unwrap_or_default();
        let (front, back) = words.as_slices();
        ending(&[front, back].concat(), MAX_LAST_WORDS)
    }

    #[cfg(test)]
    pub(super) fn close_all(&mut self) {
        self.open.clear();
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty() && self.last_words.is_empty()
    }

    /// Reads all that is there.
    pub(super) fn drain_all(&mut self, shared: &Shared) {
        let all: Vec<u64> = self.open.keys().copied().collect();
        for token in all {
            self.empty(token, shared);
        }
    }

    /// Reads what a pipe holds. Who writes still does not keep us.
    fn empty(&mut self, token: u64, shared: &Shared) {
        for _ in 0..MAX_TURNS {
            if self.turn(token, shared) != Rest::Now {
                return;
            }
        }
    }

    /// Reads one pipe, but not for long.
    fn turn(&mut self, token: u64, shared: &Shared) -> Rest {
        let Some(pipe) = self.open.get_mut(&token) else { return Rest::Never };
        let words = (pipe.stream == Stream::Err).then(|| self.last_words.entry(pipe.speaker).or_default());
        let (rest, speaker) = (pipe.read(words, shared), pipe.speaker);
        if self.last_words.get(&speaker).is_some_and(VecDeque::is_empty) {
            self.last_words.remove(&speaker);
        }
        if rest == Rest::Never {
            // Closing it takes it out of the epoll set too.
            self.open.remove(&token);
        }
        if self.last_words.len() > MAX_MEMORIES {
            self.last_words.pop_first();
        }
        rest
    }
}

/// A descriptor of the same pipe that reads too. Who writes to it is its own reader: should the supervisor be killed, its workers finish
/// what they have, and what they log meanwhile neither fails nor ends them (SIGPIPE, pipe(7)).
fn both_ways(pipe: &OwnedFd) -> io::Result<OwnedFd> {
    Ok(open(format!("/proc/self/fd/{}", pipe.as_raw_fd()), OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?)
}

impl Pipe {
    fn read(&mut self, mut words: Option<&mut VecDeque<u8>>, shared: &Shared) -> Rest {
        let (speaker, stream) = (self.speaker, self.stream);
        let add = |line: &[u8], extent| {
            let (level, text) = shared.scribe.line(speaker, stream, line, extent);
            shared.add(speaker, level, text);
        };
        let mut piece = [0_u8; PIECE];
        let mut taken = 0;
        while taken < MAX_TURN {
            match rustix::io::read(&self.fd, &mut piece) {
                Ok(0) => {
                    self.lines.finish(add);
                    return Rest::Never;
                }
                Ok(count) => {
                    let bytes = piece.get(..count).unwrap_or_default();
                    self.lines.feed(bytes, add);
                    if let Some(words) = &mut words {
                        words.extend(bytes);
                        // One byte more than is told: then it is known that it was cut.
                        let surplus = words.len().saturating_sub(MAX_LAST_WORDS + 1);
                        words.drain(..surplus);
                    }
                    taken += count;
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Rest::Later,
                Err(_) => return Rest::Never,
            }
        }
        Rest::Now
    }
}

/// The reader's thread: reads until the log ends.
pub(super) fn drain(shared: &Shared) {
    let Ok(epoll) = shared.pipes().epoll.try_clone() else { return };
    let mut events = Vec::with_capacity(MAX_EVENTS);
    while !shared.ends.load(Ordering::Acquire) {
        events.clear();
        // An error here (EINTR, ENOMEM) only means that we look again.
        epoll::wait(epoll.as_fd(), spare_capacity(&mut events), None).ok();
        for event in &events {
            // One at a time: the main loop opens pipes meanwhile.
            shared.pipes().turn(event.data.u64(), shared);
        }
    }
}
