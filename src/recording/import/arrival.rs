//! What the reader of a format makes of one line or record: a request on its way into the recording, and how far its time is known.

use std::time::Duration;

use crate::recording::request::{Header, Request, UnixNanos};
use crate::recording::scrub::Scrub;

/// What one line or record held.
#[derive(Debug)]
pub(super) enum Found {
    /// A request.
    Request(Arrival),
    /// Well-formed, and no request: a connection that was refused or brought none, a file's first line.
    NoRequest,
    /// Nothing that can be used.
    Broken,
}

/// A request as a format's reader found it.
#[derive(Debug)]
pub(super) struct Arrival {
    /// Its `at` is to be completed as `clock` says.
    pub(super) request: Request,
    pub(super) clock: Clock,
    pub(super) place: Numbering,
}

/// How far `at` is the arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Clock {
    /// It is. The source noted it at `noted`, which rises through the input more or less.
    Exact { noted: UnixNanos },
    /// It is the second in which the source noted it. The arrival was `back` earlier than that moment; `None` for a source that never
    /// tells, so that the order of the input is the order of arrival.
    WholeSecond { back: Option<Duration> },
}

/// How a request's place on its connection is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Numbering {
    /// The source told it, or there is none.
    Told,
    /// By counting.
    Counted,
}

/// A request whose recording tells its arrival. It may have been written when it ended.
pub(super) fn recorded(request: Request) -> Arrival {
    let took = request.duration.map_or(0, nanos);
    let noted = UnixNanos(request.at.0.saturating_add(took));
    Arrival { request, clock: Clock::Exact { noted }, place: Numbering::Told }
}

/// `by` earlier.
pub(super) fn earlier(at: UnixNanos, by: Duration) -> UnixNanos {
    UnixNanos(at.0.saturating_sub(nanos(by)))
}

pub(super) fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

/// The name of a connection or client in a recording. Numbers that name nobody are kept; all else may be an address.
pub(super) fn identity(scrub: &Scrub, name: &str) -> Box<str> {
    let dots = name.bytes().filter(|byte| *byte == b'.').count();
    let numbers = dots <= 1 && name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if numbers { name.into() } else { scrub.client(name.as_bytes()) }
}

/// A header that a source told. An empty one was absent, and one that could not be sent is taken for absent.
pub(super) fn told_header(name: &str, value: &[u8]) -> Option<Header> {
    Header::new(name, str::from_utf8(value).ok().filter(|value| !value.is_empty())?)
}

/// A status of HTTP.
pub(super) fn status(number: i64) -> Option<u16> {
    u16::try_from(number).ok().filter(|status| (100..=999).contains(status))
}
