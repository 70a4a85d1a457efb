//! Access logs of AWS Application Load Balancers. Fields are separated by single blanks; those that may hold blanks are quoted. Fields
//! beyond the time of creation, which came later and may grow in number, are not looked at.

use std::time::Duration;

use super::absolute;
use super::arrival::{Arrival, Clock, Found, Place, told_header};
use super::civil::{number, parse_iso, parse_unix};
use super::escape::Escapes;
use super::scrub::Scrub;
use super::{Header, Method, Request, Target};

/// What a line begins with.
const TYPES: [&[u8]; 6] = [b"http", b"https", b"h2", b"grpcs", b"ws", b"wss"];
/// Fields up to `request_creation_time`.
const FIELDS: usize = 22;
const TYPE: usize = 0;
const TIME: usize = 1;
const CLIENT: usize = 3;
/// The first of three.
const DURATIONS: usize = 5;
const STATUS: usize = 8;
const REQUEST: usize = 12;
const USER_AGENT: usize = 13;
const CREATED: usize = 21;

/// Whether a line is of this format, be it usable or not.
pub(super) fn is_one(line: &[u8]) -> bool {
    fields(line).is_some_and(|fields| TYPES.contains(&fields[TYPE]) && parse_iso(fields[TIME]).is_some())
}

/// What a line holds.
pub(super) fn read(line: &[u8], scrub: &Scrub) -> Found {
    let Some(fields) = fields(line) else { return Found::Broken };
    // The balancer could not read the request, or the client left before there was one.
    if fields[REQUEST].starts_with(b"- ") {
        return Found::NoRequest;
    }
    arrival(&fields, scrub).map_or(Found::Broken, Found::Request)
}

fn arrival(fields: &[&[u8]; FIELDS], scrub: &Scrub) -> Option<Arrival> {
    let noted = parse_iso(fields[TIME])?;
    let line = Escapes::Any.plain(fields[REQUEST]);
    let mut words = line.splitn(3, |byte| *byte == b' ');
    let (method, url) = (words.next()?, String::from_utf8_lossy(words.next()?));
    let (host, target) = absolute::split(&url)?;
    let agent = Some(fields[USER_AGENT]).filter(|agent| *agent != b"-");
    let agent = agent.and_then(|agent| told_header("User-Agent", &Escapes::Any.plain(agent)));
    // With HTTP/2 the requests of one connection overlap.
    let is_client = matches!(fields[TYPE], b"h2" | b"grpcs");
    let request = Request {
        at: parse_iso(fields[CREATED])?,
        method: Method::new(str::from_utf8(method).ok()?)?,
        target: Target::from_bytes(target.as_bytes())?,
        connection: Some(scrub.client(fields[CLIENT])),
        ordinal: None,
        headers: Header::new("Host", host).into_iter().chain(agent).collect(),
        body: Vec::new(),
        status: number(fields[STATUS]).and_then(super::arrival::status),
        duration: duration(fields),
        // The balancer counts the headers too.
        response_bytes: None,
    };
    Some(Arrival { request, clock: Clock::Exact { noted }, place: if is_client { Place::Told } else { Place::Counted } })
}

/// The three durations summed; what the balancer gives as −1 was not reached.
fn duration(fields: &[&[u8]; FIELDS]) -> Option<Duration> {
    let told = fields[DURATIONS..DURATIONS + 3].iter().filter_map(|text| u64::try_from(parse_unix(text)?.0).ok());
    told.reduce(u64::saturating_add).map(Duration::from_nanos)
}

/// The fields up to the time of creation, without their quotation marks.
fn fields(line: &[u8]) -> Option<[&[u8]; FIELDS]> {
    let mut fields: [&[u8]; FIELDS] = [b""; FIELDS];
    let mut rest = line;
    for field in &mut fields {
        let (value, after) = match rest {
            [b'"', quoted @ ..] => {
                let end = end_of_quote(quoted)?;
                (&quoted[..end], &quoted[end + 1..])
            }
            [] | [b' ', ..] => return None,
            _ => rest.split_at(memchr::memchr(b' ', rest).unwrap_or(rest.len())),
        };
        *field = value;
        rest = after.strip_prefix(b" ").unwrap_or(after);
    }
    Some(fields)
}

fn end_of_quote(text: &[u8]) -> Option<usize> {
    let mut from = 0;
    loop {
        let at = from + memchr::memchr2(b'"', b'\\', text.get(from..)?)?;
        if text[at] == b'"' {
            return Some(at);
        }
        from = at + 2;
    }
}
