//! Access logs of AWS Application Load Balancers. Fields are separated by single blanks; those that may hold blanks are quoted. Fields
//! beyond the time of creation, which came later and may grow in number, are not looked at.

use std::time::Duration;

use super::absolute;
use super::arrival::{Arrival, Clock, Found, Numbering, told_header};
use crate::recording::scrub::Scrub;
use crate::recording::text::civil::{number, parse_iso, parse_unix};
use crate::recording::text::escape::Escapes;
use crate::recording::{Header, Method, Request, Target};

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
    Some(Arrival { request, clock: Clock::Exact { noted }, place: if is_client { Numbering::Told } else { Numbering::Counted } })
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::recording::{ScrubKey, UnixNanos};

    const LINE: &str = concat!(
        r#"https 2024-01-15T10:00:00.500000Z app/lb/50dc6c495c0c9188 192.168.131.39:2817 10.0.0.1:80 0.086 0.048 0.037 200 200 0 57 "#,
        r#""GET https://www.example.com:443/a?b=c HTTP/1.1" "curl/7.46.0 \x22" ECDHE TLSv1.2 arn:aws:tg "Root=1-58337281" "www.example.com" "#,
        r#""arn:aws:acm:x" 1 2024-01-15T10:00:00.329000Z "authenticate,forward" "-" "-" "10.0.0.1:80" "200" "-" "-" TID_x"#
    );

    fn scrub() -> Scrub {
        Scrub::new(ScrubKey([1; 16]))
    }

    fn arrival(line: &str) -> Option<Arrival> {
        if let Found::Request(arrival) = read(line.as_bytes(), &scrub()) { Some(arrival) } else { None }
    }

    #[test]
    fn the_host_is_split_from_the_url_and_the_time_is_that_of_creation() {
        let Arrival { request, clock, place } = arrival(LINE).unwrap();
        assert_eq!(request.at, UnixNanos(1_705_312_800_329_000_000));
        assert_eq!((clock, place), (Clock::Exact { noted: UnixNanos(1_705_312_800_500_000_000) }, Numbering::Counted));
        assert_eq!(request.target.as_str(), "/a?b=c");
        assert_eq!(
            request.headers,
            [("Host", "www.example.com"), ("User-Agent", "curl/7.46.0 \"")]
                .map(|(name, value)| Header::new(name, value).unwrap())
        );
        assert_eq!(request.connection, Some(scrub().client(b"192.168.131.39:2817")));
        assert_eq!((request.status, request.duration), (Some(200), Some(Duration::from_millis(171))));
    }

    #[test]
    fn what_was_not_reached_is_minus_one() {
        let line = LINE.replace("10.0.0.1:80 0.086 0.048 0.037 200 200", "- -1 -1 0.5 502 -");
        let request = arrival(&line).unwrap().request;
        assert_eq!((request.status, request.duration), (Some(502), Some(Duration::from_millis(500))));
        assert_eq!(arrival(&line.replace("0.5 502", "-1 -")).unwrap().request.duration, None);
    }

    #[test]
    fn multiplexed_connections_are_clients() {
        assert_eq!(arrival(&LINE.replace("https 2", "h2 2")).unwrap().place, Numbering::Told);
        assert_eq!(arrival(&LINE.replace("https 2", "wss 2")).unwrap().place, Numbering::Counted);
    }

    #[test]
    fn lines_without_request_and_broken_ones() {
        let found = |line: &str| read(line.as_bytes(), &scrub());
        assert!(matches!(
            found(&LINE.replace("GET https://www.example.com:443/a?b=c HTTP/1.1", "- http://lb:80- -")),
            Found::NoRequest
        ));
        for wrong in ["", "https", &LINE[..LINE.len() / 2], &LINE.replace("https://www", "www"), &LINE.replace("00.329", "xx")] {
            assert!(matches!(found(wrong), Found::Broken), "{wrong}");
        }
        assert!(is_one(LINE.as_bytes()) && !is_one(LINE.replace("https 2", "udp 2").as_bytes()));
        // As old files are, up to the time of creation.
        assert!(arrival(&LINE[..LINE.find(" \"authenticate").unwrap()]).is_some());
    }

    proptest! {
        #[test]
        fn no_line_panics(bytes in prop::collection::vec(any::<u8>(), 0..60), at in 0..LINE.len()) {
            let _ = read(&bytes, &scrub());
            let mut line = LINE.as_bytes().to_vec();
            line.splice(at..at, bytes);
            let _ = read(&line, &scrub());
        }
    }
}
