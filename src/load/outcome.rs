//! What a run measured. Without settling, every scheduled request is in exactly one of `completed`, `errors` and `unfinished`; with it,
//! those due before and ended after its end are counted too.

use std::time::Duration;

use crate::stats::Latencies;
use crate::units::Rate;

/// Requests that did not get the answer they should have, by kind. A request counts once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Errors {
    /// No connection: refused, unreachable, no such socket.
    pub connect: u64,
    /// No complete answer within the timeout.
    pub timeout: u64,
    /// The connection ended before the answer did.
    pub closed_early: u64,
    /// What came was no HTTP response, or beyond a bound.
    pub malformed: u64,
    /// The server says that it failed.
    pub server_5xx: u64,
    /// 400 to 499 where the recording has less.
    pub unexpected_status: u64,
    /// Sent elsewhere (301, 302, 303, 307 or 308; RFC 9110, 15.4) where the recording has 200 to 299: to https or to a login, which cost
    /// another time than what was asked for.
    pub redirected: u64,
    /// The content is not as long as the recording says; see [`Check::Length`](super::Check::Length).
    pub unexpected_length: u64,
    /// Never sent: [`QUEUE_LIMIT`](super::QUEUE_LIMIT) requests were waiting already.
    pub shed: u64,
    /// Never sent: this process had no file descriptor or port left. Ours, not the target's.
    pub exhausted: u64,
}

impl Errors {
    /// All kinds.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.connect
            + self.timeout
            + self.closed_early
            + self.malformed
            + self.server_5xx
            + self.unexpected_status
            + self.redirected
            + self.unexpected_length
            + self.shed
            + self.exhausted
    }
}

/// Complete responses by the first digit of their status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statuses([u64; 4]);

impl Statuses {
    pub(super) fn add(&mut self, status: u16) {
        if let Some(count) = self.0.get_mut(usize::from(status / 100).wrapping_sub(2)) {
            *count += 1;
        }
    }

    /// How many had a status of `class` × 100 and up, for 2 to 5.
    #[must_use]
    pub fn class(&self, class: u16) -> u64 {
        self.0.get(usize::from(class).wrapping_sub(2)).copied().unwrap_or(0)
    }
}

/// Scheduled requests whose end was not awaited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unfinished {
    /// Sent, and not answered when the run ended.
    pub outstanding: u64,
    /// Still waiting for a connection when sending stopped.
    pub unsent: u64,
}

/// How a run stands. Counts are since the end of settling; elapsed time is since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Batch {
    /// Since the start.
    pub elapsed: Duration,
    /// Requests that were due.
    pub scheduled: u64,
    /// Requests that were sent; one sent again on a fresh connection counts once.
    pub sent: u64,
    /// Answered as they should be.
    pub completed: u64,
    /// Not so.
    pub failed: u64,
    /// Completed, but with a latency above [`Run::slow_after`](super::Run::slow_after).
    pub slow: u64,
    /// Sent and not answered yet.
    pub outstanding: u64,
    /// Waiting for a connection.
    pub queued: u64,
    /// Those outstanding or waiting that were due longer ago than [`Run::slow_after`](super::Run::slow_after).
    pub overdue: u64,
    /// The last whole second; all zero before there is one.
    pub recent: Second,
}

/// How late requests were sent, and what held them. A closed load has no schedule to be late for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lateness {
    /// From the moment a request was due to the moment it was sent, whatever held it.
    pub total: Latencies,
    /// From the moment a request was due, or was moved to, to the moment the engine took it up: the engine's own fault. Every
    /// scheduled request.
    pub scheduler: Latencies,
    /// Moved on purpose, to be sent together with others that were due up to 400 µs later; those that were moved. None where the 64
    /// requests before came at less than 5,000 a second, or the one before is further away.
    pub merged: Latencies,
    /// Waiting for the answer to the request before it in its session; those that waited.
    pub dependency: Latencies,
    /// Waiting for a new connection; those that waited.
    pub connect: Latencies,
    /// Waiting because every allowed connection was busy; those that waited.
    pub backlog: Latencies,
}

/// One second of a run, counted by when requests were due (offered) and when they ended (the rest).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Second {
    /// Requests that were due.
    pub offered: u64,
    /// Requests that were sent.
    pub sent: u64,
    /// Requests answered as they should be.
    pub completed: u64,
    /// Requests that failed.
    pub failed: u64,
    /// Of them, those that found no connection.
    pub connect_errors: u64,
    /// Latency of the completed ones: p50, p90, p99 and the longest, seconds; 0 if there were none.
    pub latency: [f64; 4],
    /// p99 of [`Lateness::scheduler`], seconds.
    pub lateness_p99: f64,
    /// The share of the second that the engine's thread computed.
    pub busy: f64,
    /// The share of the processors' time that other guests of the host took; `None` if it was not read.
    pub steal: Option<f64>,
    /// Whether requests that were due in it are left out; see [`LeftOut`].
    pub left_out: bool,
}

/// What latencies and rates do not contain, because the generator or its host spoiled the second (see
/// [`Doubt::is_ours`](super::Doubt::is_ours)). Left out of latencies are the requests that were due in such a second, whenever they
/// ended: were those left out that only lasted into one, slow ones would be missing more often than fast ones. Left out of the
/// achieved rate are those that ended in one. Nothing is left out of a closed load, nor where less than a second would be left.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LeftOut {
    /// How many seconds.
    pub seconds: usize,
    /// How much of [`Played::sending`] they are.
    pub sending: Duration,
    /// The latency of their requests: with [`Played::latency`], that of all.
    pub latency: Latencies,
}

/// In [`Played::bodies`]: the request was answered in different ways within one run.
pub const VARIED: u64 = u64::MAX;

/// What a run measured. Times and rates do not contain what is [left out](LeftOut); counts, errors and lateness do.
#[derive(Clone, Debug)]
pub struct Played {
    /// Requests due, a second of the sending time. For a closed load: requests its clients wanted to send.
    pub offered: Rate,
    /// Requests completed while sending lasted, a second of it, by when they ended.
    pub achieved: Rate,
    /// Requests that were due.
    pub scheduled: u64,
    /// Requests that were sent; one sent again on a fresh connection counts once.
    pub sent: u64,
    /// How long requests were due and counted; [`offered`](Self::offered) is taken over it, but for what is left out.
    pub sending: Duration,
    /// Requests answered as they should be.
    pub completed: u64,
    /// From the moment a request was due (closed: its client was free) to its whole answer; where it was moved (see
    /// [`Lateness::merged`]), from the moment it was moved to. Holds completed requests, and timeouts with the time they waited.
    pub latency: Latencies,
    /// From the moment the request was sent to its whole answer; completed requests.
    pub service: Latencies,
    /// From the moment the request was sent to the first byte of its answer; completed requests.
    pub first_byte: Latencies,
    /// What these times and rates do not contain.
    pub left_out: LeftOut,
    /// How late requests were sent; loads with a schedule.
    pub lateness: Lateness,
    /// Second by second from the end of settling, [`MAX_SECONDS`](super::MAX_SECONDS) at most.
    pub seconds: Vec<Second>,
    /// Requests that failed.
    pub errors: Errors,
    /// Why the first of [`Errors::connect`] found no connection, in the words of the system or of TLS; cut if long.
    pub first_connect_failure: Option<String>,
    /// Complete responses by class.
    pub statuses: Statuses,
    /// Requests whose end was not awaited.
    pub unfinished: Unfinished,
    /// Requests sent again because their kept-alive connection turned out to be closed, which servers may do at any time (RFC 9112,
    /// 9.3.1).
    pub retried: u64,
    /// Connections opened.
    pub connections: u64,
    /// From the first to the last moment, draining included.
    pub elapsed: Duration,
    /// CPU time of the engine's thread, from the end of settling.
    pub cpu: Duration,
    /// Bytes received, heads and framing included.
    pub bytes: u64,
    /// With [`Check::Body`](super::Check::Body), the hash of the content that each request of the plan was answered with, by its
    /// index: 0 if it had no answer, [`VARIED`] if it had several different ones. Empty with other checks.
    pub bodies: Vec<u64>,
    /// Whether the watcher ended the run.
    pub stopped_early: bool,
    /// Whether it ended before its settling time was over: then everything here is of that time.
    pub unsettled: bool,
}
