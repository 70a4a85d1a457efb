//! Requests ready to be sent, as a [`PlanDraft`] makes them: sorted, filtered to what may be sent, every one as final bytes, equal ones
//! stored once. Answers what a load model asks of them; changes nothing.

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use super::draft::PlanDraft;
use super::options::PlanOptions;
use super::planned::PlannedRequest;
use super::wire::{Reuse, cookie};
use crate::recording::{Method, Recording};

/// How often a plan repeats whose requests all have one time.
const LONE_TURN: Duration = Duration::from_secs(1);

/// Requests ready to be sent, in order of arrival. Never empty.
#[derive(Debug)]
pub struct Plan {
    pub(super) requests: Vec<PlannedRequest>,
    pub(super) arena: Vec<u8>,
    pub(super) reuse: Reuse,
    pub(super) dropped: Dropped,
    /// The first request of each session.
    pub(super) firsts: Vec<u32>,
}

/// Recorded requests that a plan leaves out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Their method may change something on the server, and is not allowed.
    pub unsafe_method: u64,
    /// They turn the connection into something else: CONNECT, or an Upgrade header.
    pub upgrade: u64,
}

impl Dropped {
    /// How many in all.
    #[must_use]
    pub const fn total(self) -> u64 {
        self.unsafe_method + self.upgrade
    }
}

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "dropped: {} not GET, HEAD or OPTIONS, {} CONNECT or Upgrade", self.unsafe_method, self.upgrade)
    }
}

/// Why a recording makes no plan.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Nothing is left to send.
    #[error("nothing to replay in {recorded} recorded requests ({dropped}){}", hint(.refused))]
    Empty {
        /// How many were recorded.
        recorded: u64,
        /// Why they are not sent.
        dropped: Dropped,
        /// Methods that would have to be allowed.
        refused: Vec<Method>,
    },
    /// The host is no header value.
    #[error("not a host name: {0:?}")]
    Host(String),
    /// A method to be allowed is none.
    #[error("not a method: {0:?}; name it like POST")]
    Method(String),
    /// A header to be set is one that a replay computes.
    #[error("the header {0} is computed for each request and cannot be set")]
    Computed(String),
    /// A bound is reached.
    #[error("more than {limit} {what} to replay; cut the recording into smaller ones")]
    TooLarge {
        /// The bound.
        limit: usize,
        /// What is counted.
        what: &'static str,
    },
}

/// How refused methods are allowed.
fn hint(refused: &[Method]) -> String {
    let names: Vec<_> = refused.iter().map(Method::as_str).collect();
    if names.is_empty() { String::new() } else { format!("; `tuningfork replay --allow {}` sends them", names.join(",")) }
}

impl Plan {
    /// Compiles a recording that is in memory; one that is not goes through a [`PlanDraft`].
    pub fn compile(recording: &Recording, options: &PlanOptions) -> Result<Self, PlanError> {
        let mut draft = PlanDraft::new(options.clone(), &recording.meta)?;
        for request in &recording.requests {
            draft.take(request)?;
        }
        draft.finish()
    }

    /// The requests, in order.
    #[must_use]
    pub fn requests(&self) -> &[PlannedRequest] {
        &self.requests
    }

    /// The index of the request `sent` places after `from`, round the plan.
    #[must_use]
    pub fn index(&self, from: usize, sent: u64) -> usize {
        let length = self.requests.len();
        // A plan is shorter than the address space, so the remainder fits.
        let ahead = usize::try_from(sent % length as u64).unwrap_or(0);
        (from % length + ahead) % length
    }

    /// The bytes of one of this plan's requests.
    #[must_use]
    pub fn bytes(&self, request: &PlannedRequest) -> &[u8] {
        let from = request.place.offset as usize;
        self.arena.get(from..from + request.place.length as usize).unwrap_or(&[])
    }

    /// How many recorded connections there are.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.firsts.len()
    }

    /// The first request at `from` or after it that [`opens`](Self::opens) something: what a client of a closed load takes next.
    #[must_use]
    pub fn next_opening(&self, from: usize) -> Option<usize> {
        (from..self.requests.len()).find(|index| self.opens(*index))
    }

    /// Whether a request is the first of its recorded connection, or belongs to none.
    #[must_use]
    pub fn opens(&self, index: usize) -> bool {
        self.opening_of(index) == index
    }

    /// The first request on the same recorded connection, or the request itself if it belongs to none.
    pub(super) fn opening_of(&self, index: usize) -> usize {
        self.requests[index].session().map_or(index, |session| self.firsts[session as usize] as usize)
    }

    /// The index of the request that followed on the same recorded connection.
    #[must_use]
    pub fn next_in_session(&self, index: usize) -> Option<usize> {
        self.requests[index].link.next()
    }

    /// Whether no request followed on the same recorded connection.
    #[must_use]
    pub fn ends_session(&self, index: usize) -> bool {
        self.next_in_session(index).is_none()
    }

    /// The recorded time between the end of the response before it on the same connection and this request. Zero for the first one,
    /// and where requests overlapped. Where the duration of the response is unknown, since its request.
    #[must_use]
    pub fn think(&self, index: usize) -> Duration {
        self.requests[index].link.think()
    }

    /// Where in the bytes of a request the value of its Cookie header lies.
    #[must_use]
    pub fn cookie(&self, index: usize) -> Option<Range<usize>> {
        cookie(self.bytes(&self.requests[index]))
    }

    /// Bytes of the recorded response's body; unknown from 4 GiB on.
    #[must_use]
    pub fn recorded_length(&self, index: usize) -> Option<u64> {
        let length = self.requests[index].recorded_length;
        (length != u32::MAX).then_some(u64::from(length))
    }

    /// How connections are used.
    #[must_use]
    pub const fn reuse(&self) -> Reuse {
        self.reuse
    }

    /// What was left out.
    #[must_use]
    pub const fn dropped(&self) -> Dropped {
        self.dropped
    }

    /// From the first request to the last.
    #[must_use]
    pub fn span(&self) -> Duration {
        self.requests.last().map_or(Duration::ZERO, PlannedRequest::at)
    }

    /// The time one turn through the plan takes when it repeats: the span and one mean gap.
    #[must_use]
    pub fn period(&self) -> Duration {
        let gaps = self.requests.len().saturating_sub(1).max(1);
        self.span() + self.span().div_f64(gaps as f64)
    }

    /// The time one turn of a timetable takes, in nanoseconds: the period, but longer than the span, and a second if all requests
    /// have one time.
    pub(super) fn turn(&self) -> u64 {
        let span = self.span().as_nanos();
        let turn = if span == 0 { LONE_TURN.as_nanos() } else { self.period().as_nanos().max(span + 1) };
        u64::try_from(turn).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests;
