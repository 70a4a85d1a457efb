//! Requests from several threads at once, each outcome put in its class. The judge: it shares no code with what it judges.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::http::{Address, Client, Reply};

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Outcome {
    /// 200, complete.
    Ok,
    /// The connection was refused.
    Refused,
    /// The connection was reset.
    Reset,
    /// Closed in order, without any answer.
    Empty,
    /// Closed in the middle of the answer.
    Torn,
    /// No answer in time.
    TimedOut,
    /// An answer that is none.
    Wrong,
    /// Another status than 200.
    Status(u16),
}

/// How connections are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reuse {
    /// One request a connection.
    Never,
    /// Until the service closes.
    KeepAlive,
}

/// Requests to be made.
#[derive(Clone, Debug)]
pub(crate) struct Hammer {
    /// Where.
    pub(crate) address: Address,
    /// What is asked for.
    pub(crate) path: String,
    /// Requests at the same time.
    pub(crate) clients: usize,
    /// Requests at most, all clients together.
    pub(crate) requests: usize,
    /// How connections are used.
    pub(crate) reuse: Reuse,
}

/// A hammer at work.
pub(crate) struct Running {
    done: Arc<AtomicBool>,
    sent: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<Tally>>,
}

/// How often each outcome was seen.
pub(crate) type Tally = BTreeMap<Outcome, usize>;

const ANSWER_WITHIN: Duration = Duration::from_secs(20);

impl Hammer {
    /// Makes all requests, and says what became of them.
    pub(crate) fn run(self) -> Tally {
        self.start().join()
    }

    /// Begins; [`Running::finish`] ends it early.
    pub(crate) fn start(self) -> Running {
        let done = Arc::new(AtomicBool::new(false));
        let sent = Arc::new(AtomicUsize::new(0));
        let one = |_| {
            let (hammer, done, sent) = (self.clone(), Arc::clone(&done), Arc::clone(&sent));
            std::thread::spawn(move || hammer.client(&done, &sent))
        };
        let clients = (0..self.clients).map(one).collect();
        Running { done, sent, clients }
    }

    fn client(&self, done: &AtomicBool, sent: &AtomicUsize) -> Tally {
        let mut tally = Tally::new();
        let mut kept = None;
        while !done.load(Ordering::Relaxed) && sent.fetch_add(1, Ordering::Relaxed) < self.requests {
            let outcome = match self.request(&mut kept) {
                Ok(reply) if reply.status == 200 => Outcome::Ok,
                Ok(reply) => Outcome::Status(reply.status),
                Err(error) => classify(&error),
            };
            *tally.entry(outcome).or_default() += 1;
        }
        tally
    }

    fn request(&self, kept: &mut Option<Client>) -> io::Result<Reply> {
        let mut client = kept.take().map_or_else(|| Client::connect(&self.address, ANSWER_WITHIN), Ok)?;
        let connection = match self.reuse {
            Reuse::Never => "close",
            Reuse::KeepAlive => "keep-alive",
        };
        let head = format!("GET {} HTTP/1.1\r\nHost: test\r\nConnection: {connection}\r\n\r\n", self.path);
        client.send(head.as_bytes())?;
        let reply = client.receive()?;
        if self.reuse == Reuse::KeepAlive && reply.header("connection") != Some("close") {
            *kept = Some(client);
        }
        Ok(reply)
    }
}

impl Running {
    /// Requests begun so far.
    pub(crate) fn sent(&self) -> usize {
        self.sent.load(Ordering::Relaxed)
    }

    /// Begins no more requests, and says what became of those that were made.
    pub(crate) fn finish(self) -> Tally {
        self.done.store(true, Ordering::Relaxed);
        self.join()
    }

    fn join(self) -> Tally {
        let mut total = Tally::new();
        for client in self.clients {
            for (outcome, count) in client.join().expect("a client of the hammer panicked") {
                *total.entry(outcome).or_default() += count;
            }
        }
        total
    }
}

/// The class of an error.
pub(crate) fn classify(error: &io::Error) -> Outcome {
    let is = |kinds: &[ErrorKind]| kinds.contains(&error.kind());
    let before_answer = error.get_ref().is_some_and(|inner| inner.to_string() == "nothing");
    if is(&[ErrorKind::ConnectionRefused, ErrorKind::NotFound]) {
        Outcome::Refused
    } else if is(&[ErrorKind::UnexpectedEof]) {
        if before_answer { Outcome::Empty } else { Outcome::Torn }
    } else if is(&[ErrorKind::ConnectionReset, ErrorKind::BrokenPipe]) {
        Outcome::Reset
    } else if is(&[ErrorKind::WouldBlock, ErrorKind::TimedOut]) {
        Outcome::TimedOut
    } else {
        Outcome::Wrong
    }
}
