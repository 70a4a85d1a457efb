//! Counts what becomes of requests. Every scheduled one ends in exactly one of completed, failed and unfinished.

use std::time::Duration;

use super::Check;
use super::bodies::Bodies;
use super::clock;
use super::gate::{Gate, Standing, Timed, Times};
use super::outcome::{Batch, Errors, Lateness, LeftOut, Played, Second, Statuses, Unfinished};
use super::pace::Due;
use super::pool::{Busy, Usage};
use super::seconds::Seconds;
use super::socket::Breakage;
use super::steal::{Basis, Steal};
use super::validity::doubts;
use crate::replay::{Answer, Plan};
use crate::units::{Moment, Rate};

/// The longest text that is kept of a cause, characters.
const MAX_CAUSE: usize = 300;

/// The least time of sending that tells anything when the rest is left out.
const LEAST_KEPT: Duration = Duration::from_secs(1);

/// Why a request failed without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    Connect,
    ClosedEarly,
    Malformed,
    Shed,
    Exhausted,
}

/// What a request waited for before it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    Dependency,
    Backlog,
}

/// Whether requests are due by the clock, so that they can be late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Schedule {
    Given,
    /// Requests are due when a client is free.
    None,
}

/// Requests that have not ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    pub(super) outstanding: u64,
    pub(super) queued: u64,
    pub(super) overdue: u64,
}

/// What a tally is about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms<'a> {
    pub(super) plan: &'a Plan,
    pub(super) check: Check,
    pub(super) slow_after: Duration,
    pub(super) schedule: Schedule,
    pub(super) basis: Basis<'a>,
}

#[derive(Debug)]
pub(super) struct Tally<'a> {
    terms: Terms<'a>,
    scheduled: u64,
    sent: u64,
    completed: u64,
    completed_while_sending: u64,
    slow: u64,
    retried: u64,
    connections: u64,
    bytes: u64,
    last_due: Option<Moment>,
    last_end: Option<Moment>,
    times: Times,
    lateness: Lateness,
    seconds: Seconds,
    steal: Steal<'a>,
    /// Where seconds may be left out.
    gate: Option<Gate>,
    errors: Errors,
    first_connect_failure: Option<String>,
    statuses: Statuses,
    bodies: Bodies,
}

impl<'a> Tally<'a> {
    /// One that counts once it has [begun](Self::begin).
    pub(super) fn new(terms: Terms<'a>) -> Self {
        let now = Moment::default();
        let bodies = match terms.check {
            Check::Status | Check::Length => Bodies::default(),
            Check::Body => Bodies::new(terms.plan.requests().len()),
        };
        Self {
            terms,
            scheduled: 0,
            sent: 0,
            completed: 0,
            completed_while_sending: 0,
            slow: 0,
            retried: 0,
            connections: 0,
            bytes: 0,
            last_due: None,
            last_end: None,
            times: Times::default(),
            lateness: Lateness::default(),
            seconds: Seconds::new(now, Duration::ZERO),
            steal: Steal::new(terms.basis),
            gate: match (terms.basis, terms.schedule) {
                (Basis::UnspoiledSeconds(..), Schedule::Given) => Some(Gate::new(now)),
                (Basis::UnspoiledSeconds(..), Schedule::None) | (Basis::EverySecond, _) => None,
            },
            errors: Errors::default(),
            first_connect_failure: None,
            statuses: Statuses::default(),
            bodies,
        }
    }

    /// Counts from `now` on. Nothing has been counted yet: its tables are made beforehand, as that takes a millisecond, in which nothing
    /// could be sent.
    pub(super) fn begin(mut self, now: Moment) -> Self {
        self.seconds.begin(now, clock::thread_cpu());
        if let Some(gate) = &mut self.gate {
            gate.begin(now);
        }
        self
    }

    /// A request is taken up.
    pub(super) fn taken(&mut self, due: &Due, now: Moment) {
        let (due, moved) = (due.at, due.moved);
        self.scheduled += 1;
        self.last_due = Some(due);
        match self.terms.schedule {
            Schedule::Given => {
                let late = now.since(due);
                if !moved.is_zero() {
                    self.lateness.merged.record(moved);
                }
                self.lateness.scheduler.record(late);
                self.seconds.taken(late);
            }
            Schedule::None => self.seconds.wanted(),
        }
    }

    pub(super) fn waited(&mut self, cause: Cause, span: Duration) {
        if self.terms.schedule == Schedule::Given {
            match cause {
                Cause::Dependency => self.lateness.dependency.record(span),
                Cause::Backlog => self.lateness.backlog.record(span),
            }
        }
    }

    /// The first byte of a request has gone out, for the first time.
    pub(super) fn sent(&mut self, busy: &Busy, now: Moment) {
        self.sent += 1;
        self.seconds.sent();
        if self.terms.schedule == Schedule::Given {
            self.lateness.total.record(now.since(busy.flight.due.at) + busy.flight.due.moved);
            if busy.usage == Usage::Fresh {
                self.lateness.connect.record(now.since(busy.started));
            }
        }
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

    /// A whole answer has come. Whether it is the right one depends on what the recording holds.
    pub(super) fn complete(&mut self, busy: &Busy, answer: Answer, now: Moment, end: Moment) {
        self.statuses.add(answer.status);
        let index = busy.flight.due.index;
        let request = &self.terms.plan.requests()[index];
        if answer.status >= 500 {
            self.errors.server_5xx += 1;
            return self.seconds.failed();
        }
        if answer.status >= 400 && request.recorded_status().is_some_and(|recorded| recorded < 400) {
            self.errors.unexpected_status += 1;
            return self.seconds.failed();
        }
        if is_redirect(answer.status) && request.recorded_status().is_some_and(|recorded| recorded < 300) {
            self.errors.redirected += 1;
            return self.seconds.failed();
        }
        if self.terms.check == Check::Length
            && self.terms.plan.recorded_length(index).is_some_and(|length| length != answer.content)
        {
            self.errors.unexpected_length += 1;
            return self.seconds.failed();
        }
        let latency = now.since(busy.flight.due.at);
        self.completed += 1;
        if now <= end {
            self.completed_while_sending += 1;
            self.gate.iter_mut().for_each(Gate::answered_in_time);
        }
        self.last_end = Some(now);
        self.slow += u64::from(latency > self.terms.slow_after);
        self.measure(&Timed {
            due: busy.flight.due.at,
            latency,
            // An answer that came before its request went out took no time.
            service: Some(now.since(busy.sent_at.unwrap_or(now))),
            first_byte: busy.sent_at.zip(busy.answered_at).map(|(sent, answered)| answered.since(sent)),
        });
        self.seconds.completed(latency);
    }

    fn measure(&mut self, timed: &Timed) {
        self.times.record(timed);
        if let Some(gate) = &mut self.gate {
            gate.record(timed);
        }
    }

    /// The content of an answer to request `index` has this hash.
    pub(super) fn hashed(&mut self, index: usize, hash: u64) {
        self.bodies.note(index, hash);
    }

    /// No connection was made, for this cause; the first is kept.
    pub(super) fn find_nobody(&mut self, cause: &Breakage) {
        self.first_connect_failure.get_or_insert_with(|| cause.to_string().chars().take(MAX_CAUSE).collect());
        self.fail(Failure::Connect);
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
        self.seconds.failed();
        if matches!(failure, Failure::Connect | Failure::Exhausted) {
            self.seconds.found_nobody();
        }
    }

    /// Nobody waits longer than this, so the time waited belongs to the distribution: without it, the slowest would be missing.
    pub(super) fn time_out(&mut self, due: Moment, now: Moment) {
        self.errors.timeout += 1;
        self.measure(&Timed { due, latency: now.since(due), service: None, first_byte: None });
        self.seconds.failed();
    }

    /// Closes the seconds that have passed.
    pub(super) fn turn(&mut self, now: Moment) {
        while now >= self.second_ends_at() {
            self.close_second(now);
        }
    }

    /// Ends the running second. All that was due in it has been taken up.
    pub(super) fn close_second(&mut self, now: Moment) {
        let before = self.judge();
        self.seconds.close(now, clock::thread_cpu);
        if let Some(gate) = &mut self.gate {
            gate.close(before);
        }
    }

    /// Judges the second that ended last. The host's counters come late: not before the next one has ended, too.
    fn judge(&mut self) -> Standing {
        let Some((second, began)) = self.seconds.last() else {
            return Standing::Trusted;
        };
        second.steal = self.steal.share(began, began.after(Duration::from_secs(1)));
        second.left_out = match self.terms.basis {
            Basis::UnspoiledSeconds(_, processors) => {
                self.gate.is_some() && doubts(second).any(|doubt| doubt.is_ours(processors))
            }
            Basis::EverySecond => false,
        };
        if second.left_out { Standing::Spoiled } else { Standing::Trusted }
    }

    /// When the running second ends.
    pub(super) fn second_ends_at(&self) -> Moment {
        self.seconds.ends_at()
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
            recent: self.seconds.recent(),
        }
    }

    /// How long a timetable took that was played out before its time: from `start` to its last request, and one mean gap, after
    /// which the next one would have been due.
    pub(super) fn played_in(&self, start: Moment) -> Duration {
        let span = self.last_due.map_or(Duration::ZERO, |last| last.since(start));
        let requests = self.scheduled as f64;
        if requests > 1.0 { span.mul_f64(requests / (requests - 1.0)) } else { Duration::ZERO }
    }

    /// When the last answer came.
    pub(super) const fn last_end(&self) -> Option<Moment> {
        self.last_end
    }

    /// The result. `unfinished`, `stopped_early` and `unsettled` are the caller's to fill in.
    pub(super) fn played(mut self, now: Moment, elapsed: Duration, sending: Sending, cpu: Duration) -> Played {
        self.turn(now);
        if !self.seconds.is_empty() {
            self.close_second(now);
        }
        let last = self.judge();
        let gate = self.gate.take().map(|mut gate| {
            gate.close(last);
            gate.finish()
        });
        let mut seconds = self.seconds.finish();
        let kept = Kept::choose(&mut seconds, sending, gate);
        self.times.subtract(&kept.left_out);
        let left_out = LeftOut {
            seconds: seconds.iter().filter(|second| second.left_out).count(),
            sending: sending.offered.saturating_sub(kept.sending.offered),
            latency: kept.left_out.latency,
        };
        let a_second = |count: u64, span: Duration| Rate::new(count as f64 / span.as_secs_f64()).unwrap_or_default();
        Played {
            offered: a_second(self.scheduled.saturating_sub(kept.without_due), kept.sending.offered),
            achieved: a_second(self.completed_while_sending.saturating_sub(kept.without_answered), kept.sending.achieved),
            scheduled: self.scheduled,
            sent: self.sent,
            sending: sending.offered,
            completed: self.completed,
            latency: self.times.latency,
            service: self.times.service,
            first_byte: self.times.first_byte,
            left_out,
            lateness: self.lateness,
            seconds,
            errors: self.errors,
            first_connect_failure: self.first_connect_failure,
            statuses: self.statuses,
            unfinished: Unfinished::default(),
            retried: self.retried,
            connections: self.connections,
            elapsed,
            cpu,
            bytes: self.bytes,
            bodies: self.bodies.into_hashes(),
            stopped_early: false,
            unsettled: false,
        }
    }
}

const fn is_redirect(status: u16) -> bool {
    matches!(status, 301 | 302 | 303 | 307 | 308)
}

/// The times over which rates are taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sending {
    pub(super) offered: Duration,
    pub(super) achieved: Duration,
}

/// What is left when spoiled seconds are left out.
#[derive(Debug)]
struct Kept {
    sending: Sending,
    /// Requests that were due in the seconds left out, and those that were answered in them while sending lasted.
    without_due: u64,
    without_answered: u64,
    left_out: Times,
}

impl Kept {
    /// Too little is no measurement: where less than [`LEAST_KEPT`] would be left, nothing is left out.
    fn choose(seconds: &mut [Second], sending: Sending, gate: Option<(Times, u64)>) -> Self {
        let left = |span: Duration| {
            let spoiled = seconds.iter().zip(0..).filter(|(second, _)| second.left_out);
            let lost = spoiled.map(|(_, began)| span.saturating_sub(Duration::from_secs(began)).min(Duration::from_secs(1)));
            span.saturating_sub(lost.sum())
        };
        let kept = Sending { offered: left(sending.offered), achieved: left(sending.achieved) };
        match gate {
            Some((left_out, without_answered)) if kept.offered >= LEAST_KEPT => {
                let without_due = seconds.iter().filter(|second| second.left_out).map(|second| second.offered).sum();
                Self { sending: kept, without_due, without_answered, left_out }
            }
            Some(_) | None => {
                for second in seconds {
                    second.left_out = false;
                }
                Self { sending, without_due: 0, without_answered: 0, left_out: Times::default() }
            }
        }
    }
}

#[cfg(test)]
#[path = "tally/tests.rs"]
mod tests;
