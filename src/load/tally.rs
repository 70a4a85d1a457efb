//! Counts what becomes of requests. Every scheduled one ends in exactly one of completed, failed and unfinished.

use std::time::Duration;

use super::outcome::{Batch, Errors, Lateness, Played, Second, Statuses, Unfinished};
use crate::replay::{Answer, PlannedRequest};
use crate::stats::Latencies;
use crate::units::{Moment, Rate};

/// Why a request failed without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    Connect,
    ClosedEarly,
    Malformed,
    Shed,
    Exhausted,
}

/// Requests that have not ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    pub(super) outstanding: u64,
    pub(super) queued: u64,
    pub(super) overdue: u64,
}

#[derive(Debug)]
pub(super) struct Tally {
    slow_after: Duration,
    scheduled: u64,
    sent: u64,
    completed: u64,
    completed_while_sending: u64,
    slow: u64,
    retried: u64,
    connections: u64,
    bytes: u64,
    latency: Latencies,
    service: Latencies,
    lateness: Lateness,
    errors: Errors,
    statuses: Statuses,
}

impl Tally {
    pub(super) fn new(slow_after: Duration) -> Self {
        Self {
            slow_after,
            scheduled: 0,
            sent: 0,
            completed: 0,
            completed_while_sending: 0,
            slow: 0,
            retried: 0,
            connections: 0,
            bytes: 0,
            latency: Latencies::new(),
            service: Latencies::new(),
            lateness: Lateness::default(),
            errors: Errors::default(),
            statuses: Statuses::default(),
        }
    }

    pub(super) fn scheduled(&mut self) {
        self.scheduled += 1;
    }

    pub(super) fn sent(&mut self) {
        self.sent += 1;
    }

    pub(super) fn retried(&mut self) {
        self.retried += 1;
    }

    pub(super) fn connected(&mut self) {
        self.connections += 1;
    }

    pub(super) fn received(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }

    pub(super) fn late(&mut self, lateness: Duration) {
        self.lateness.scheduler.record(lateness);
    }

    /// A whole answer has come. Whether it is the right one depends on the status the recording holds.
    pub(super) fn complete(
        &mut self,
        request: &PlannedRequest,
        answer: Answer,
        due: Moment,
        started: Moment,
        now: Moment,
        end: Moment,
    ) {
        self.statuses.add(answer.status);
        if answer.status >= 500 {
            self.errors.server_5xx += 1;
            return;
        }
        if answer.status >= 400 && request.recorded_status().is_some_and(|recorded| recorded < 400) {
            self.errors.unexpected_status += 1;
            return;
        }
        let latency = now.since(due);
        self.completed += 1;
        self.completed_while_sending += u64::from(now <= end);
        self.slow += u64::from(latency > self.slow_after);
        self.latency.record(latency);
        self.service.record(now.since(started));
    }

    pub(super) fn fail(&mut self, failure: Failure) {
        let count = match failure {
            Failure::Connect => &mut self.errors.connect,
            Failure::ClosedEarly => &mut self.errors.closed_early,
            Failure::Malformed => &mut self.errors.malformed,
            Failure::Shed => &mut self.errors.shed,
            Failure::Exhausted => &mut self.errors.exhausted,
        };
        *count += 1;
    }

    /// Nobody waits longer than this, so the time waited belongs to the distribution: without it, the slowest would be missing.
    pub(super) fn time_out(&mut self, waited: Duration) {
        self.errors.timeout += 1;
        self.latency.record(waited);
    }

    pub(super) fn batch(&self, elapsed: Duration, waiting: Waiting) -> Batch {
        Batch {
            elapsed,
            scheduled: self.scheduled,
            sent: self.sent,
            completed: self.completed,
            failed: self.errors.total(),
            slow: self.slow,
            outstanding: waiting.outstanding,
            queued: waiting.queued,
            overdue: waiting.overdue,
            recent: Second::default(),
        }
    }

    /// The result. `unfinished` and `stopped_early` are the caller's to fill in.
    pub(super) fn played(self, elapsed: Duration, sending: Duration, cpu: Duration) -> Played {
        let a_second = |count: u64| Rate::new(count as f64 / sending.as_secs_f64()).unwrap_or_default();
        Played {
            offered: a_second(self.scheduled),
            achieved: a_second(self.completed_while_sending),
            scheduled: self.scheduled,
            completed: self.completed,
            latency: self.latency,
            service: self.service,
            first_byte: Latencies::new(),
            lateness: self.lateness,
            seconds: Vec::new(),
            errors: self.errors,
            statuses: self.statuses,
            unfinished: Unfinished::default(),
            retried: self.retried,
            connections: self.connections,
            elapsed,
            cpu,
            bytes: self.bytes,
            bodies: Vec::new(),
            stopped_early: false,
        }
    }
}
