//! GoReplay's files: records of a header line and a raw message, between separators. Nothing says how long a record is, so that a body
//! may hold the separator: what does not begin with a header belongs to the record before it. Requests get their original responses;
//! replayed responses are of no interest.

mod message;
mod pairs;
mod records;

use std::collections::HashSet;

use super::arrival::{Arrival, Clock, Place};
use super::civil::number;
use super::scrub::Scrub;
use super::{Request, UnixNanos};

pub use records::MAX_RECORD;
pub(super) use records::{Records, SEPARATOR};

use pairs::Pairs;

/// The bytes of a connection in GoReplay's hexadecimal IDs since 1.3.0: ports and the client's address.
const CONNECTION: usize = 16;
/// Where the server's port stands in it.
const PORT: std::ops::Range<usize> = 4..8;

/// No first line of a record is longer, bytes.
const HEAD_MAX: usize = 256;

/// What an ID says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Identity {
    /// Since 1.3.0; the server's port, which is the same in all of them.
    Connection(Box<[u8]>),
    /// The whole ID is that of a client.
    Client,
    /// Nothing.
    None,
}

/// The first line of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head<'a> {
    kind: u8,
    id: &'a [u8],
    /// The first packet of the message.
    at: UnixNanos,
    /// From the first to the last packet, nanoseconds.
    lasted: i64,
}

/// `TYPE ID TIME LATENCY` at the start of a record, and what follows its line feed. Old files have no latency.
pub(super) fn head(record: &[u8]) -> Option<(Head<'_>, &[u8])> {
    let (line, rest) = record.split_at(memchr::memchr(b'\n', &record[..record.len().min(HEAD_MAX)])?);
    let mut words = line.strip_suffix(b"\r").unwrap_or(line).split(|byte| *byte == b' ');
    let kind = words.next().and_then(|kind| if let [kind @ b'1'..=b'3'] = kind { Some(*kind) } else { None })?;
    let id = words.next().filter(|id| !id.is_empty() && id.iter().all(u8::is_ascii_hexdigit))?;
    let at = number(words.next()?)?;
    let lasted = match words.next() {
        None | Some(b"") => 0,
        Some([b'-', digits @ ..]) => -number(digits)?,
        Some(digits) => number(digits)?,
    };
    let is_last = words.next().is_none();
    is_last.then_some((Head { kind, id, at: UnixNanos(at), lasted }, &rest[1..]))
}

/// What the IDs of a file's first records say.
pub(super) fn identity(beginning: &[u8]) -> Identity {
    let parts = memchr::memmem::find_iter(beginning, SEPARATOR).map(|at| at + SEPARATOR.len());
    let heads = std::iter::once(0).chain(parts).filter_map(|at| head(&beginning[at..]));
    let ids: Vec<&[u8]> = heads.filter(|(head, _)| head.kind == b'1').map(|(head, _)| head.id).collect();
    let all = |length: usize| !ids.is_empty() && ids.iter().all(|id| id.len() == length);
    if all(24) && ids.iter().all(|id| id[PORT] == ids[0][PORT]) {
        return Identity::Connection(ids[0][PORT].into());
    }
    let distinct = ids.iter().collect::<HashSet<_>>().len();
    if all(40) && distinct < ids.len() { Identity::Client } else { Identity::None }
}

/// Makes requests of records.
#[derive(Debug)]
pub(super) struct Gor {
    identity: Identity,
    pairs: Pairs,
}

impl Gor {
    pub(super) fn new(identity: Identity) -> Self {
        Self { identity, pairs: Pairs::default() }
    }

    /// Takes a record: how many pieces of it belong to no message, or `None` if it is of no use.
    pub(super) fn take(&mut self, record: &[u8], scrub: &Scrub) -> Option<u64> {
        let (head, message) = head(record)?;
        match head.kind {
            b'1' => {
                let name = match &self.identity {
                    Identity::Connection(port) if head.id.len() == 24 && head.id[PORT] == **port => Some(&head.id[..CONNECTION]),
                    Identity::Client => Some(head.id),
                    Identity::Connection(_) | Identity::None => None,
                };
                let (request, rest) = message::request(head.at, message)?;
                let connection = name.map(|name| scrub.client(name));
                self.pairs.push_request(head.id, Request { connection, ..request });
                Some(memchr::memmem::find_iter(rest, SEPARATOR).count() as u64)
            }
            b'2' => {
                self.pairs.push_response(head, message::response(message)?);
                Some(0)
            }
            _ => Some(0),
        }
    }

    /// The oldest request, if it need not wait any longer for its response.
    pub(super) fn next(&mut self) -> Option<Arrival> {
        self.pairs.pop(pairs::WAITING).map(|request| self.arrival(request))
    }

    /// The oldest request.
    pub(super) fn next_at_end(&mut self) -> Option<Arrival> {
        self.pairs.pop(0).map(|request| self.arrival(request))
    }

    fn arrival(&self, request: Request) -> Arrival {
        let place = match self.identity {
            Identity::Connection(_) => Place::Counted,
            Identity::Client | Identity::None => Place::Told,
        };
        let noted = request.at;
        Arrival { request, clock: Clock::Exact { noted }, place }
    }
}
