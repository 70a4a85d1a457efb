//! Requests at a fixed rate, each with a number: a slow answer does not slow the sending, and each loss has a place. Shares no
//! code with `load`.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::probe::{now, pause, since};
use crate::support::hammer::{Outcome, classify};
use crate::support::http::{Address, Client};

/// How a request is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// GET, a connection each.
    New,
    /// GET, on kept connections.
    KeepAlive,
    /// POST of 16 KiB, a connection each.
    Post16k,
}

/// Load to be offered.
#[derive(Clone, Debug)]
pub(super) struct Load {
    /// Where.
    pub(super) address: Address,
    /// How.
    pub(super) mode: Mode,
    /// Requests a second.
    pub(super) rate: f64,
    /// Requests that may wait for an answer at the same time.
    pub(super) clients: usize,
    /// How long an answer may take.
    pub(super) patience: Duration,
}

/// Load that is offered.
pub(super) struct Offered {
    done: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Report>>,
}

/// What became of the requests.
#[derive(Clone, Debug, Default)]
pub(super) struct Report {
    /// How many were made.
    pub(super) sent: usize,
    /// Those that were not answered as they should be.
    pub(super) lost: BTreeMap<u64, Outcome>,
    /// The time of each from sending to the whole answer, or to the loss, in microseconds.
    spans: Vec<u32>,
}

/// Where the lost ones were lost, as the workers' list of requests tells it.
#[derive(Debug, Default)]
pub(super) struct Places {
    /// No worker read it.
    pub(super) never_read: usize,
    /// A worker read it, and it is one of those that died.
    pub(super) with_the_dead: usize,
    /// A worker read it that lived on.
    pub(super) with_the_living: Vec<u64>,
    /// Read more than once.
    pub(super) twice: Vec<u64>,
}

impl Load {
    /// 16 clients that wait for 10 seconds.
    pub(super) fn new(address: &Address, mode: Mode, rate: f64) -> Self {
        Self { address: address.clone(), mode, rate, clients: 16, patience: Duration::from_secs(10) }
    }

    /// Begins, and ends when told to.
    pub(super) fn start(self) -> Offered {
        self.start_up_to(u64::MAX)
    }

    /// Makes so many requests.
    pub(super) fn start_up_to(self, requests: u64) -> Offered {
        let (done, sent, begun) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)), now());
        let step = self.clients as u64;
        let client = |first| {
            let (load, done, sent) = (self.clone(), Arc::clone(&done), Arc::clone(&sent));
            let numbers = (first..requests).step_by(usize::try_from(step).expect("few"));
            std::thread::spawn(move || load.client(begun, numbers, &done, &sent))
        };
        let clients = (0..step).map(client).collect();
        Offered { done, sent, clients }
    }

    fn client(&self, begun: Duration, numbers: impl Iterator<Item = u64>, done: &AtomicBool, sent: &AtomicU64) -> Report {
        let (mut report, mut kept) = (Report::default(), None);
        for number in numbers {
            let due = begun + Duration::from_secs_f64(number as f64 / self.rate);
            // Ends in small steps, so that whoever waits for the end does not wait for long.
            while now() < due && !done.load(Ordering::Relaxed) {
                pause(due.saturating_sub(now()).min(Duration::from_millis(20)));
            }
            if done.load(Ordering::Relaxed) {
                break;
            }
            let sending = now();
            let outcome = self.request(number, &mut kept).unwrap_or_else(|error| classify(&error));
            report.sent += 1;
            report.spans.push(u32::try_from(since(sending).as_micros()).unwrap_or(u32::MAX));
            sent.fetch_add(1, Ordering::Relaxed);
            if outcome != Outcome::Ok {
                report.lost.insert(number, outcome);
            }
        }
        report
    }

    fn request(&self, number: u64, kept: &mut Option<Client>) -> io::Result<Outcome> {
        let usable = kept.take().filter(Client::is_open);
        let mut client = usable.map_or_else(|| Client::connect(&self.address, self.patience), Ok)?;
        let connection = if self.mode == Mode::KeepAlive { "keep-alive" } else { "close" };
        let line = format!("/ok?id={number} HTTP/1.1\r\nHost: test\r\nConnection: {connection}\r\n");
        match self.mode {
            Mode::New | Mode::KeepAlive => client.send(format!("GET {line}\r\n").as_bytes())?,
            Mode::Post16k => {
                let mut post = format!("POST {line}Content-Length: {}\r\n\r\n", 16 << 10).into_bytes();
                post.resize(post.len() + (16 << 10), b'x');
                client.send(&post)?;
            }
        }
        let reply = client.receive()?;
        let right = reply.body == format!("ok {number}\n").as_bytes();
        let stays = self.mode == Mode::KeepAlive && reply.header("connection").is_none_or(|value| value != "close");
        let answered_twice = !stays && client.rest()? > 0;
        if stays {
            *kept = Some(client);
        }
        Ok(match reply.status {
            200 if right && !answered_twice => Outcome::Ok,
            200 => Outcome::Wrong,
            other => Outcome::Status(other),
        })
    }
}

impl Offered {
    /// How many requests have been made so far.
    pub(super) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Begins no more requests, and says what became of those that were made.
    pub(super) fn finish(self) -> Report {
        self.done.store(true, Ordering::Relaxed);
        self.join()
    }

    /// Waits until all requests were made.
    pub(super) fn join(self) -> Report {
        self.clients.into_iter().map(|client| client.join().expect("a client panicked")).fold(Report::default(), Report::and)
    }
}

impl Report {
    /// Both together.
    pub(super) fn and(mut self, other: Self) -> Self {
        self.sent += other.sent;
        self.lost.extend(other.lost);
        self.spans.extend(other.spans);
        self
    }

    /// The time that this share of the requests did not exceed; the longest for 1.
    pub(super) fn span(&self, share: f64) -> Duration {
        let mut spans = self.spans.clone();
        spans.sort_unstable();
        let wanted = (0..spans.len()).find(|place| (place + 1) as f64 >= share * spans.len() as f64);
        Duration::from_micros(wanted.map_or(0, |place| u64::from(spans[place])))
    }

    /// Of all of them, in milliseconds: p50, p99 and the slowest.
    pub(super) fn spans(&self) -> String {
        let [median, late, slowest] = [0.5, 0.99, 1.0].map(|share| self.span(share).as_secs_f64() * 1e3);
        format!("p50 {median:.1} ms, p99 {late:.1} ms, slowest {slowest:.0} ms")
    }

    /// How often each class of loss was seen.
    pub(super) fn classes(&self) -> String {
        let mut classes: BTreeMap<Outcome, usize> = BTreeMap::new();
        for outcome in self.lost.values() {
            *classes.entry(*outcome).or_default() += 1;
        }
        let told: Vec<String> = classes.iter().map(|(outcome, count)| format!("{count} {outcome:?}")).collect();
        if told.is_empty() { "none".to_owned() } else { told.join(", ") }
    }

    /// Finds each loss in the workers' list.
    pub(super) fn places(&self, ledger: &str, dead: &[u32]) -> Places {
        let mut places = Places::default();
        let mut readers: BTreeMap<u64, u32> = BTreeMap::new();
        let mut twice = BTreeSet::new();
        for line in ledger.lines().filter_map(|line| line.strip_prefix("read ")) {
            let Some((number, pid)) = line.split_once(' ') else { continue };
            let (Ok(number), Ok(pid)) = (number.parse(), pid.parse()) else { continue };
            if readers.insert(number, pid).is_some() {
                twice.insert(number);
            }
        }
        for number in self.lost.keys() {
            match readers.get(number) {
                None => places.never_read += 1,
                Some(pid) if dead.contains(pid) => places.with_the_dead += 1,
                Some(_) => places.with_the_living.push(*number),
            }
        }
        places.twice = twice.into_iter().collect();
        places
    }
}
