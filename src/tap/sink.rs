//! Writes requests to the recording on a thread of its own, through a queue that never makes the relay wait.

use std::io::{self, BufWriter, IntoInnerError, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvError, SyncSender, TryRecvError, sync_channel};
use std::thread::{self, JoinHandle};

use super::reason::Reason;
use crate::recording::{Meta, Request, Writer};

/// The thread's name in `ps -L`.
const THREAD: &str = "recording";
/// The most requests that wait to be written.
const MAX_QUEUED: usize = 8192;
/// The most bytes of requests, heads and bodies, that wait to be written.
const MAX_QUEUED_BYTES: u64 = 32 << 20;
/// The most requests that whoever kills the tap loses, though there was no pause.
const MAX_UNFLUSHED: u64 = 256;

/// When a recording is long enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// So many requests are in it.
    pub requests: u64,
    /// It has at least so many bytes.
    pub bytes: u64,
}

/// The thread.
#[derive(Debug)]
pub struct Sink {
    queue: Option<SyncSender<Request>>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

/// What the thread and the relay both see.
#[derive(Debug, Default)]
struct Shared {
    queued_bytes: AtomicU64,
    /// A limit is reached, or writing failed.
    is_full: AtomicBool,
    /// What the system has taken, requests and bytes.
    requests: AtomicU64,
    flushed: AtomicU64,
    /// Bytes written.
    bytes: AtomicU64,
    /// Requests that came too late, or were not taken.
    lost: AtomicU64,
}

/// What became of a recording.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) requests: u64,
    pub(super) bytes: u64,
    /// Those that came too late; or, if writing failed, those that are not in the file for sure.
    pub(super) lost: u64,
    pub(super) outcome: io::Result<()>,
}

impl Sink {
    /// Writes to `output`, beginning with `meta`, at once. `close` writes what `output` has at its end.
    pub fn start<W: Write + Send + 'static>(
        output: W,
        close: impl FnOnce(W) -> io::Result<()> + Send + 'static,
        meta: &Meta,
        limits: Limits,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let counted = Counted { output: BufWriter::new(output), shared: Arc::clone(&shared) };
        let mut writer = Writer::new(counted, meta)?;
        let (queue, waiting) = sync_channel(MAX_QUEUED);
        let seen = Arc::clone(&shared);
        let work = move || {
            let written = write_all(&mut writer, &waiting, &seen, limits).and_then(|()| writer.finish());
            let outcome = written.and_then(|counted| close(counted.output.into_inner().map_err(IntoInnerError::into_error)?));
            seen.is_full.store(true, Ordering::Relaxed);
            // What still comes has to be counted.
            seen.lost.fetch_add(waiting.into_iter().count() as u64, Ordering::Relaxed);
            outcome
        };
        let thread = thread::Builder::new().name(THREAD.to_owned()).spawn(work)?;
        Ok(Self { queue: Some(queue), shared, thread: Some(thread) })
    }

    /// Whether nothing more will be written.
    pub(super) fn is_full(&self) -> bool {
        self.shared.is_full.load(Ordering::Relaxed)
    }

    /// Hands over a request. Never waits.
    pub(super) fn record(&self, request: Request) -> Result<(), Reason> {
        let size = request.size() as u64;
        let queued = self.shared.queued_bytes.fetch_add(size, Ordering::Relaxed);
        let fits = queued == 0 || queued + size <= MAX_QUEUED_BYTES;
        let sent = fits && self.queue.as_ref().is_some_and(|queue| queue.try_send(request).is_ok());
        if sent {
            return Ok(());
        }
        self.shared.queued_bytes.fetch_sub(size, Ordering::Relaxed);
        Err(Reason::QueueFull)
    }

    /// Waits until everything is written.
    pub(super) fn finish(mut self) -> Written {
        self.queue = None;
        let gone = || Err(io::Error::other("the writing thread panicked"));
        let outcome = self.thread.take().map_or(Ok(()), |thread| thread.join().unwrap_or_else(|_| gone()));
        let number = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let shared = &self.shared;
        Written { requests: number(&shared.requests), bytes: number(&shared.flushed), lost: number(&shared.lost), outcome }
    }
}

/// Writes until the queue is closed or a limit is reached. What was not flushed is lost if that fails.
fn write_all<W: Write>(writer: &mut Writer<W>, queue: &Receiver<Request>, shared: &Shared, limits: Limits) -> io::Result<()> {
    let mut unflushed = 0;
    let written = write_on(writer, queue, shared, limits, &mut unflushed).and_then(|()| flush(writer, shared, &mut unflushed));
    shared.lost.fetch_add(unflushed, Ordering::Relaxed);
    written
}

fn write_on<W: Write>(
    writer: &mut Writer<W>,
    queue: &Receiver<Request>,
    shared: &Shared,
    limits: Limits,
    unflushed: &mut u64,
) -> io::Result<()> {
    let is_open = |unflushed: u64| {
        let requests = shared.requests.load(Ordering::Relaxed) + unflushed;
        requests < limits.requests && shared.bytes.load(Ordering::Relaxed) < limits.bytes
    };
    while is_open(*unflushed) {
        let next = match queue.try_recv() {
            Err(TryRecvError::Empty) => {
                // Whoever kills the tap finds what was written before the last pause.
                flush(writer, shared, unflushed)?;
                queue.recv()
            }
            Err(TryRecvError::Disconnected) => Err(RecvError),
            Ok(request) => Ok(request),
        };
        let Ok(request) = next else { return Ok(()) };
        shared.queued_bytes.fetch_sub(request.size() as u64, Ordering::Relaxed);
        *unflushed += 1;
        writer.write(&request)?;
        if *unflushed == MAX_UNFLUSHED {
            flush(writer, shared, unflushed)?;
        }
    }
    Ok(())
}

fn flush<W: Write>(writer: &mut Writer<W>, shared: &Shared, unflushed: &mut u64) -> io::Result<()> {
    writer.flush()?;
    shared.flushed.store(shared.bytes.load(Ordering::Relaxed), Ordering::Relaxed);
    shared.requests.fetch_add(std::mem::take(unflushed), Ordering::Relaxed);
    Ok(())
}

/// Counts what goes through.
struct Counted<W> {
    output: W,
    shared: Arc<Shared>,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.output.write(bytes)?;
        self.shared.bytes.fetch_add(written as u64, Ordering::Relaxed);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.output.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;
    use crate::recording::{Header, Method, Target, UnixNanos};

    /// A file that is only written when the test allows it.
    struct Slow(Receiver<()>);

    impl Write for Slow {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.recv().map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn request(body: usize) -> Request {
        Request {
            at: UnixNanos(0),
            method: Method::new("GET").unwrap(),
            target: Target::new("/").unwrap(),
            connection: None,
            ordinal: None,
            headers: Vec::new(),
            body: vec![0; body],
            status: None,
            duration: None,
            response_bytes: None,
        }
    }

    const ENDLESS: Limits = Limits { requests: u64::MAX, bytes: u64::MAX };

    #[test]
    fn a_full_queue_is_a_loss_and_no_wait() {
        let (allow, allowed) = channel();
        let sink = Sink::start(Slow(allowed), |_| Ok(()), &Meta::default(), ENDLESS).unwrap();
        let accepted = (0..2 * MAX_QUEUED).filter(|_| sink.record(request(0)).is_ok()).count();
        assert!((MAX_QUEUED..2 * MAX_QUEUED).contains(&accepted), "{accepted}");
        drop(allow);
        let written = sink.finish();
        assert!(written.outcome.is_err());
        assert_eq!(written.requests + written.lost, accepted as u64, "every request is accounted for");
    }

    #[test]
    fn bytes_in_the_queue_are_bounded() {
        let with_body = request((1 << 20) - 1024);
        let header = Header::new("X-Long", &"x".repeat((1 << 20) - 1024)).unwrap();
        let with_head = Request { headers: vec![header], ..request(0) };
        for large in [with_body, with_head] {
            let (allow, allowed) = channel::<()>();
            let sink = Sink::start(Slow(allowed), |_| Ok(()), &Meta::default(), ENDLESS).unwrap();
            let accepted = (0..100).filter(|_| sink.record(large.clone()).is_ok()).count();
            assert!((32..40).contains(&accepted), "{accepted}");
            drop(allow);
            sink.finish();
        }
    }

    /// A disk that is full after so many bytes, and the lines on it.
    struct Full(usize, Arc<AtomicU64>);

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = self.0.checked_sub(bytes.len()).ok_or(io::ErrorKind::StorageFull)?;
            let lines = bytes.split(|byte| *byte == b'\n').skip(1).count();
            self.1.fetch_add(lines as u64, Ordering::Relaxed);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn on_a_full_disk_only_what_it_took_counts() {
        let lines = Arc::new(AtomicU64::new(0));
        let sink = Sink::start(Full(100_000, Arc::clone(&lines)), |_| Ok(()), &Meta::default(), ENDLESS).unwrap();
        let accepted = (0..MAX_QUEUED).filter(|_| sink.record(request(100)).is_ok()).count();
        let written = sink.finish();
        assert!(written.outcome.is_err());
        assert_eq!(written.requests + written.lost, accepted as u64);
        assert!(
            written.requests > 0 && written.requests < lines.load(Ordering::Relaxed),
            "{written:?}, {lines:?} with the meta line"
        );
        assert!((1..=100_000).contains(&written.bytes), "{written:?}");
    }

    #[test]
    fn it_ends_at_its_limits() {
        let sink = Sink::start(io::sink(), |_| Ok(()), &Meta::default(), Limits { requests: 3, bytes: u64::MAX }).unwrap();
        for _ in 0..5 {
            sink.record(request(0)).unwrap();
        }
        let written = sink.finish();
        assert_eq!((written.requests, written.lost), (3, 2));

        let sink = Sink::start(io::sink(), |_| Ok(()), &Meta::default(), Limits { requests: 9, bytes: 100 }).unwrap();
        for _ in 0..9 {
            sink.record(request(0)).unwrap();
        }
        let written = sink.finish();
        assert!((100..140).contains(&written.bytes) && written.requests < 9, "{written:?}");
    }
}
