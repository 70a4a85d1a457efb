//! GoReplay's files: records of a header line and a raw message, between separators. Nothing says how long a record is, so that a body
//! may hold the separator: what does not begin with a header belongs to the record before it. Requests get their original responses;
//! replayed responses are of no interest.

mod message;
mod pairs;
mod records;

use std::collections::HashSet;

use super::arrival::{Arrival, Clock, Numbering};
use crate::recording::scrub::Scrub;
use crate::recording::text::civil::number;
use crate::recording::{Request, UnixNanos};

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
                let strays = || memchr::memmem::find_iter(rest, SEPARATOR).count() as u64;
                Some(if rest.len() < SEPARATOR.len() { 0 } else { strays() })
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
            Identity::Connection(_) => Numbering::Counted,
            Identity::Client | Identity::None => Numbering::Told,
        };
        let noted = request.at;
        Arrival { request, clock: Clock::Exact { noted }, place }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::recording::ScrubKey;

    const GET: &str = "GET /a HTTP/1.1\r\nHost: x\r\n\r\n";
    const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
    /// Client port, server port, client address, acknowledgement.
    const ID: &str = "c0de1f907f000001000000aa";

    fn scrub() -> Scrub {
        Scrub::new(ScrubKey([1; 16]))
    }

    fn run(identity: Identity, records: &[String]) -> Vec<Request> {
        let mut gor = Gor::new(identity);
        for record in records {
            gor.take(record.as_bytes(), &scrub()).unwrap();
        }
        std::iter::from_fn(|| gor.next_at_end()).map(|arrival| arrival.request).collect()
    }

    fn file(records: &[&str]) -> Vec<u8> {
        records.iter().flat_map(|record| [record.as_bytes(), SEPARATOR].concat()).collect()
    }

    #[test]
    fn heads_of_all_versions() {
        let parsed = |text: &str| head(text.as_bytes()).map(|(head, rest)| (head.kind, head.at.0, head.lasted, rest.to_vec()));
        assert_eq!(parsed("1 0aF 17 5\nrest"), Some((b'1', 17, 5, b"rest".to_vec())));
        assert_eq!(parsed("2 0a 17\n"), Some((b'2', 17, 0, Vec::new())));
        assert_eq!(parsed("3 0a 17 -5\r\n"), Some((b'3', 17, -5, Vec::new())));
        for wrong in ["", "1 0a 17", "4 0a 17 1\n", "1 xyz 17 1\n", "1 0a x 1\n", "1 0a 17 1 1\n", "10 0a 17 1\n", "1  17 1\n"] {
            assert_eq!(parsed(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn requests_get_their_responses_in_either_order() {
        let request = format!("1 {ID} 1000 10\n{GET}");
        let response = format!("2 {ID} 5000 300\n{OK}");
        let replayed = format!("3 {ID} 9000 1\n{OK}");
        for records in [[&request, &response, &replayed], [&response, &request, &replayed]] {
            let [request] = run(Identity::None, &records.map(String::clone)).try_into().unwrap();
            assert_eq!((request.at, request.connection), (UnixNanos(1000), None));
            assert_eq!(request.duration, Some(Duration::from_nanos(4300)));
            assert_eq!((request.status, request.response_bytes), (Some(200), Some(5)));
        }
        let head = format!("1 {ID} 1000 10\n{}", GET.replace("GET", "HEAD"));
        let cut = response.replace("hello", "");
        assert_eq!(run(Identity::None, &[head, cut.clone()])[0].response_bytes, Some(0));
        assert_eq!(run(Identity::None, &[request, cut])[0].response_bytes, Some(5));
    }

    #[test]
    fn one_id_for_several_requests_is_answered_in_turn() {
        let records = [
            format!("1 {ID} 1 0\n{GET}"),
            format!("1 {ID} 2 0\n{GET}"),
            format!("2 {ID} 11 0\n{OK}"),
            format!("2 {ID} 22 0\n{OK}"),
        ];
        let took: Vec<_> = run(Identity::None, &records).iter().map(|request| request.duration.unwrap().as_nanos()).collect();
        assert_eq!(took, [10, 20]);
    }

    #[test]
    fn a_connection_is_told_only_by_ids_of_one_port() {
        let other = "c0df1f907f000001000000ab";
        let request = |id: &str| format!("1 {id} 1 0\n{GET}");
        let seen = identity(&file(&[&request(ID), &format!("2 {ID} 2 0\n{OK}"), &request(other)]));
        assert_eq!(seen, Identity::Connection(b"1f90".as_slice().into()));
        let [request_of_id] = run(seen, &[request(ID)]).try_into().unwrap();
        assert_eq!(request_of_id.connection, Some(scrub().client(&ID.as_bytes()[..CONNECTION])));
        assert_eq!(identity(&file(&[&request(ID), &request("c0de1f917f000001000000aa")])), Identity::None);
        // 40 digits are at best a client, and only if they come again.
        let [one, two] = ["1", "2"].map(|digit| request(&digit.repeat(40)));
        assert_eq!(identity(&file(&[&one, &two])), Identity::None);
        assert_eq!(identity(&file(&[&one, &two, &one])), Identity::Client);
        assert_eq!(identity(b""), Identity::None);
        // A later one of another port is nobody's.
        let [stranger] =
            run(Identity::Connection(b"1f90".as_slice().into()), &[request("c0de1f917f000001000000aa")]).try_into().unwrap();
        assert_eq!(stranger.connection, None);
    }

    #[test]
    fn strays_behind_a_message_are_counted() {
        let mut gor = Gor::new(Identity::None);
        let separator = str::from_utf8(SEPARATOR).unwrap();
        let body = format!("POST / HTTP/1.1\r\nContent-Length: 16\r\n\r\na{separator}b");
        assert_eq!(gor.take(format!("1 {ID} 1 0\n{body}").as_bytes(), &scrub()), Some(0));
        assert_eq!(gor.take(format!("1 {ID} 1 0\n{body}{separator}stray").as_bytes(), &scrub()), Some(1));
        assert_eq!(gor.take(format!("1 {ID} 1 0\n{}", &body[..45]).as_bytes(), &scrub()), None);
    }

    #[test]
    fn those_without_a_partner_do_not_pile_up() {
        let mut gor = Gor::new(Identity::None);
        let mut out = 0;
        for n in 0..3 * pairs::WAITING {
            gor.take(format!("1 {n:x} {n} 0\n{GET}").as_bytes(), &scrub()).unwrap();
            gor.take(format!("2 f{n:x} {n} 0\n{OK}").as_bytes(), &scrub()).unwrap();
            out += std::iter::from_fn(|| gor.next()).count();
        }
        assert_eq!(out, 2 * pairs::WAITING);
        assert!(gor.pairs.is_bounded());
    }
}
