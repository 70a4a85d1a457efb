//! One line of an access log as a request, read with a [`LogFormat`]. Refuses a line whose request was none, as scanners and TLS on a
//! plain port leave behind.

use std::time::Duration;

use super::arrival::{Arrival, Clock, Found, Numbering, earlier, identity, nanos, status, told_header};
use super::log_format::{Field, LogFormat, Moment, Time};
use crate::recording::scrub::Scrub;
use crate::recording::text::civil::{
    Date, number, parse_fraction, parse_iso, parse_log_date, parse_month, parse_unix, parse_zone,
};
use crate::recording::text::escape::Escapes;
use crate::recording::text::percent::push_encoded;
use crate::recording::{Header, Method, Request, Target, UnixNanos};

const SECOND: i64 = 1_000_000_000;

/// Reads lines of one format.
#[derive(Debug)]
pub(super) struct LogLines {
    format: LogFormat,
    /// Whether the duration is to be taken from the time to get the arrival.
    is_end: bool,
    is_timed: bool,
    memory: Memory,
}

/// What lines that stand together often share.
#[derive(Debug)]
struct Memory {
    date: [u8; 26],
    seconds: i64,
    client: Vec<u8>,
    name: Box<str>,
}

/// What a line said, as far as it is needed.
#[derive(Debug, Default)]
struct Draft<'a> {
    line: Option<&'a [u8]>,
    method: Option<&'a [u8]>,
    target: Option<&'a [u8]>,
    path: Option<&'a [u8]>,
    query: &'a [u8],
    protocol: &'a [u8],
    client: Option<&'a [u8]>,
    port: Option<&'a [u8]>,
    process: Option<&'a [u8]>,
    connection: Option<&'a [u8]>,
    ordinal: Option<u64>,
    status: Option<u16>,
    bytes: Option<u64>,
    /// With the unit it was told in.
    took: Option<(Duration, i64)>,
    headers: Vec<Header>,
    body: Vec<u8>,
    instant: Option<i64>,
    date: Date,
    fraction: i64,
}

impl LogLines {
    pub(super) fn new(format: LogFormat) -> Self {
        Self {
            is_end: format.moment != Moment::Arrival,
            is_timed: format.has(|field| matches!(field, Field::Took(_))),
            format,
            memory: Memory { date: [0; 26], seconds: 0, client: Vec::new(), name: "".into() },
        }
    }

    /// What it reads.
    pub(super) fn format(&self) -> &LogFormat {
        &self.format
    }

    /// What a line holds.
    pub(super) fn read(&mut self, line: &[u8], scrub: &Scrub) -> Found {
        let mut draft = Draft::default();
        let Self { format, memory, .. } = self;
        if format.values(line, |field, value| draft.take(field, value, format.escapes, memory)).is_none() {
            return Found::Broken;
        }
        if draft.is_empty() {
            return Found::NoRequest;
        }
        let client = draft.client.map(|client| memory.client(client, scrub));
        self.arrival(draft, client, scrub).map_or(Found::Broken, Found::Request)
    }

    fn arrival(&self, draft: Draft<'_>, client: Option<Box<str>>, scrub: &Scrub) -> Option<Arrival> {
        let (method, target, protocol) = draft.request(self.format.escapes)?;
        let logged = UnixNanos(draft.instant()?);
        let duration = draft.took.map(|(took, _)| took);
        let back = if self.is_end { duration } else { None };
        let whole = self.format.resolution >= SECOND.unsigned_abs();
        let (at, clock) = if whole {
            let second = UnixNanos(logged.0.div_euclid(SECOND).saturating_mul(SECOND));
            (second, Clock::WholeSecond { back: (self.is_end && self.is_timed).then(|| back.unwrap_or_default()) })
        } else {
            let took = duration.unwrap_or_default();
            let end = if self.is_end { logged } else { UnixNanos(logged.0.saturating_add(nanos(took))) };
            (earlier(logged, back.unwrap_or_default()), Clock::Exact { noted: end })
        };
        let (connection, ordinal) = match draft.connection() {
            Some(name) => (Some(identity(scrub, &name)), draft.ordinal.filter(|_| protocol == Multiplexed::No)),
            None => (client, None),
        };
        let request = Request {
            at,
            method,
            target,
            connection,
            ordinal,
            headers: draft.headers,
            body: draft.body,
            status: draft.status,
            duration,
            response_bytes: draft.bytes,
        };
        Some(Arrival { request, clock, place: Numbering::Told })
    }
}

impl Memory {
    /// Unix seconds of a date.
    fn seconds(&mut self, date: &[u8]) -> Option<i64> {
        if self.date != date {
            self.seconds = parse_log_date(date)?;
            self.date = date.try_into().ok()?;
        }
        Some(self.seconds)
    }

    /// The name that stands for a client.
    fn client(&mut self, client: &[u8], scrub: &Scrub) -> Box<str> {
        if self.client != client {
            self.client = client.to_vec();
            self.name = scrub.client(client);
        }
        self.name.clone()
    }
}

/// Whether the requests of one connection may overlap, as in HTTP/2 and later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Multiplexed {
    Yes,
    No,
}

impl Multiplexed {
    /// Of `HTTP/1.1` and the like, in the ways it is written.
    pub(super) fn of(protocol: &[u8]) -> Self {
        let version = protocol.iter().find(|byte| byte.is_ascii_digit());
        if matches!(version, Some(b'2' | b'3')) { Self::Yes } else { Self::No }
    }
}

impl<'a> Draft<'a> {
    /// Takes one value. `None` if it makes the line useless.
    fn take(&mut self, field: &Field, value: &'a [u8], escapes: Escapes, memory: &mut Memory) -> Option<()> {
        let told = Some(value).filter(|value| !is_absent(value));
        match field {
            Field::Skip | Field::QueryMark => {}
            Field::Client => self.client = told,
            Field::ClientPort => self.port = told,
            Field::RequestLine => self.line = Some(value),
            Field::Method => self.method = told,
            Field::Target => self.target = told,
            Field::Path | Field::PathAndQuery => self.path = told,
            Field::Query => self.query = told.unwrap_or_default(),
            Field::Protocol => self.protocol = value,
            Field::Status => self.status = told.map(|digits| number(digits).and_then(status).ok_or(())).transpose().ok()?,
            Field::BodyBytes => self.bytes = told.map(|digits| unsigned(digits).ok_or(())).transpose().ok()?,
            Field::Took(unit) => self.take_duration(told, *unit),
            Field::Process => self.process = told,
            Field::Connection => self.connection = told,
            Field::Ordinal => self.ordinal = told.and_then(unsigned),
            Field::Header(name) => self.headers.extend(told.and_then(|value| told_header(name, &escapes.plain(value)))),
            Field::Body => self.body = told.map(|body| escapes.plain(body).into_owned()).unwrap_or_default(),
            Field::Time(Time::LogDate) => {
                self.instant.get_or_insert(memory.seconds(value)?.checked_mul(SECOND)?);
            }
            Field::Time(part) => self.take_time(*part, value)?,
        }
        Some(())
    }

    /// Of several durations the finest counts. One that is none says nothing.
    fn take_duration(&mut self, value: Option<&[u8]>, unit: i64) {
        let took = value.and_then(|took| u64::try_from(scaled(took, unit)?).ok());
        if let Some(took) = took
            && self.took.is_none_or(|(_, other)| unit < other)
        {
            self.took = Some((Duration::from_nanos(took), unit));
        }
    }

    fn take_time(&mut self, part: Time, value: &[u8]) -> Option<()> {
        let digits = || number(value.trim_ascii());
        match part {
            Time::LogDate => {}
            Time::Iso => self.instant = Some(parse_iso(value)?.0),
            Time::Unix(unit) => self.instant = Some(scaled(value, unit)?),
            Time::UnixWithMillis => self.instant = Some(parse_unix(value)?.0),
            Time::Year => self.date.year = digits()?,
            Time::Month => self.date.month = digits()?,
            Time::MonthName => self.date.month = parse_month(value)?,
            Time::Day => self.date.day = digits()?,
            Time::Hour => self.date.hour = digits()?,
            Time::Minute => self.date.minute = digits()?,
            Time::Second => self.date.second = digits()?,
            Time::Fraction => self.fraction = digits().map(|_| parse_fraction(value))?,
            Time::Zone => self.date.east = parse_zone(value)?,
        }
        Some(())
    }

    /// Whether the server noted that there was no request.
    fn is_empty(&self) -> bool {
        match self.line {
            Some(line) => is_absent(line),
            None => self.method.is_none() && self.target.is_none() && self.path.is_none(),
        }
    }

    /// The connection's name, if the line tells its number in a process or the client's port.
    fn connection(&self) -> Option<String> {
        let parts = match (self.process, self.connection, self.client, self.port) {
            (process, Some(connection), _, _) => [process.unwrap_or(b"0"), connection].join(&b'.'),
            (_, None, Some(client), Some(port)) => [client, port].join(&b':'),
            _ => return None,
        };
        Some(String::from_utf8_lossy(&parts).into_owned())
    }

    fn request(&self, escapes: Escapes) -> Option<(Method, Target, Multiplexed)> {
        let line = self.line.map(|line| escapes.plain(line));
        if let Some((method, target, version)) = line.as_ref().and_then(|line| split_request(line)) {
            return Some((Method::new(str::from_utf8(method).ok()?)?, Target::from_bytes(target)?, Multiplexed::of(version)));
        }
        let method = Method::new(str::from_utf8(self.method?).ok()?)?;
        let target = match (self.target, self.path) {
            (Some(target), _) => Target::from_bytes(&escapes.plain(target))?,
            (None, Some(path)) => Target::from_bytes(&encoded(&escapes.plain(path), &escapes.plain(self.query)))?,
            (None, None) => return None,
        };
        Some((method, target, Multiplexed::of(self.protocol)))
    }

    /// The time in nanoseconds since the Unix epoch.
    fn instant(&self) -> Option<i64> {
        let whole = match self.instant {
            Some(instant) => instant,
            None => self.date.unix_seconds()?.checked_mul(SECOND)?,
        };
        if whole % SECOND == 0 { whole.checked_add(self.fraction) } else { Some(whole) }
    }
}

/// How servers write that there is nothing.
fn is_absent(value: &[u8]) -> bool {
    matches!(value, b"" | b"-")
}

/// A decoded path and its query as a target: what could not stand there is encoded.
fn encoded(path: &[u8], query: &[u8]) -> Vec<u8> {
    let (path, rest) = path.split_at(memchr::memchr(b'?', path).unwrap_or(path.len()));
    let mut target = String::with_capacity(path.len() + query.len() + 1);
    for byte in path {
        match byte {
            b'!'..=b'~' if !b"%#".contains(byte) => target.push(char::from(*byte)),
            _ => push_encoded(&mut target, *byte),
        }
    }
    let mut target = target.into_bytes();
    let query = if rest.is_empty() { query } else { rest };
    match query.strip_prefix(b"?").unwrap_or(query) {
        [] => {}
        query => {
            target.push(b'?');
            target.extend_from_slice(query);
        }
    }
    target
}

/// Method, target and version of an unescaped request line, or `None` if it is not one of HTTP/1 or later.
pub(super) fn split_request(line: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let first = memchr::memchr(b' ', line)?;
    let last = memchr::memrchr(b' ', line)?;
    let version = line[last + 1..].strip_prefix(b"HTTP/")?;
    let numbered = version.first().is_some_and(u8::is_ascii_digit) && version.len() <= 3;
    (first < last && numbered).then(|| (&line[..first], &line[first + 1..last], version))
}

/// A number of units of `unit` nanoseconds; only seconds have decimals.
fn scaled(text: &[u8], unit: i64) -> Option<i64> {
    if unit == SECOND { parse_unix(text).map(|nanos| nanos.0) } else { number(text)?.checked_mul(unit) }
}

fn unsigned(digits: &[u8]) -> Option<u64> {
    u64::try_from(number(digits)?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::recording::ScrubKey;

    fn scrub() -> Scrub {
        Scrub::new(ScrubKey([1; 16]))
    }

    fn read(format: &str, line: impl AsRef<[u8]>) -> Option<Arrival> {
        match LogLines::new(LogFormat::parse(format).unwrap()).read(line.as_ref(), &scrub()) {
            Found::Request(arrival) => Some(arrival),
            Found::NoRequest | Found::Broken => None,
        }
    }

    fn combined(request: &str) -> Found {
        let line = format!("::1 - - [17/May/2015:10:05:03 +0000] \"{request}\" 200 5 \"-\" \"agent\"");
        LogLines::new(LogFormat::combined()).read(line.as_bytes(), &scrub())
    }

    const T: i64 = 1_431_857_103;

    #[test]
    fn nginx_with_all_it_can_tell() {
        let format = r#"$msec $request_time $pid.$connection $connection_requests $server_protocol $request_method $request_uri $status $body_bytes_sent "$http_host" "$http_x_y" "$request_body""#;
        let line = r#"1431857103.250 1.050 41.977 3 HTTP/1.1 POST /caf\xC3\xA9?a\x22 201 7 "h\x22" "-" "b\x0A""#;
        let arrival = read(format, line).unwrap();
        let request = &arrival.request;
        assert_eq!(request.at, UnixNanos(T * SECOND - 800_000_000));
        assert_eq!(arrival.clock, Clock::Exact { noted: UnixNanos(T * SECOND + 250_000_000) });
        assert_eq!((request.connection.as_deref(), request.ordinal), (Some("41.977"), Some(3)));
        assert_eq!((request.method.as_str(), request.target.as_str()), ("POST", "/caf%C3%A9?a\""));
        assert_eq!(request.headers, [Header::new("Host", "h\"").unwrap()]);
        assert_eq!(request.body, b"b\n");
        assert_eq!((request.status, request.response_bytes), (Some(201), Some(7)));
        assert_eq!(request.duration, Some(Duration::from_millis(1050)));
        // The requests of an HTTP/2 connection overlap.
        let multiplexed = read(format, line.replace("HTTP/1.1", "HTTP/2.0")).unwrap().request;
        assert_eq!((multiplexed.connection.as_deref(), multiplexed.ordinal), (Some("41.977"), None));
    }

    #[test]
    fn apache_tells_the_arrival_and_gunicorn_the_end() {
        let line = r#"10.0.0.1 [17/May/2015:10:05:03 +0000] "GET / HTTP/1.1" 2500000"#;
        let apache = read(r#"%h %t "%r" %D"#, line).unwrap();
        assert_eq!((apache.request.at, apache.clock), (UnixNanos(T * SECOND), Clock::WholeSecond { back: None }));
        assert_eq!(apache.request.duration, Some(Duration::from_millis(2500)));
        let back = Some(Duration::from_millis(2500));
        assert_eq!(read(r#"%(h)s %(t)s "%(r)s" %(D)s"#, line).unwrap().clock, Clock::WholeSecond { back });
        let end = read(r#"%h [%{end:%d/%b/%Y:%H:%M:%S %z}t] "%r" %D"#, line).unwrap();
        assert_eq!(end.clock, Clock::WholeSecond { back });
    }

    #[test]
    fn times_in_parts_and_units() {
        let at = |format: &str, line: &str| {
            read(&format!("{format} %r"), format!("{line} GET / HTTP/1.1")).map(|arrival| arrival.request.at.0)
        };
        let micros = T * SECOND + 123_456_000;
        assert_eq!(at("%{usec}t", "1431857103123456"), Some(micros));
        assert_eq!(at("%{msec}t", "1431857103123"), Some(micros / 1_000_000 * 1_000_000));
        assert_eq!(at("%{sec}t.%{usec_frac}t", "1431857103.123456"), Some(micros));
        assert_eq!(at("%{%F %T}t.%{usec_frac}t%{%z}t", "2015-05-17 12:05:03.123456+0200"), Some(micros));
        assert_eq!(at("%{%e %b %Y %H-%M-%S}t", "17 May 2015 10-05-03"), Some(T * SECOND));
        assert_eq!(at("%{usec}t", "14318571031234567890"), None);
        // Of several durations the finest counts.
        let took = read("%{msec}t %T %D %r", "1431857103123 2 2500001 GET / HTTP/1.1").unwrap().request.duration;
        assert_eq!(took, Some(Duration::from_micros(2_500_001)));
    }

    #[test]
    fn decoded_paths_are_encoded_anew() {
        let target = |format: &str, line: &str| read(format, line).map(|arrival| String::from(arrival.request.target.as_str()));
        assert_eq!(
            target("%(U)s|%(q)s|%(m)s %({x}i)s%(t)s", "/a b%|x=%20|GET -[17/May/2015:10:05:03 +0000]"),
            Some("/a%20b%25?x=%20".into())
        );
        assert_eq!(target("%{usec}t %m %U%q|", "1 GET /a?b|"), Some("/a?b".into()));
        assert_eq!(target("%{usec}t %m %U%q|", "1 GET /é|"), Some("/%C3%A9".into()));
        assert_eq!(target("$msec $request_method $uri$is_args$args|", "1.5 GET /a|"), Some("/a".into()));
        assert_eq!(target("%(t)s %(m)s %(U)s?%(q)s", "[17/May/2015:10:05:03 +0000] GET /a?"), Some("/a".into()));
    }

    #[test]
    fn a_clients_port_makes_a_connection() {
        let line = r#"10.0.0.1 4711 2 [17/May/2015:10:05:03 +0000] "GET / HTTP/1.1""#;
        let request = read(r#"%h %{remote}p %k %t "%r""#, line).unwrap().request;
        assert_eq!((request.connection, request.ordinal), (Some(scrub().client(b"10.0.0.1:4711")), Some(2)));
        let request = read(r#"%h %{x}e %k %t "%r""#, line).unwrap().request;
        assert_eq!((request.connection, request.ordinal), (Some(scrub().client(b"10.0.0.1")), None));
        // Behind a unix socket Gunicorn sees no address.
        let request = read(r#"%(h)s %(t)s "%(r)s""#, r#" [17/May/2015:10:05:03 +0000] "GET / HTTP/1.1""#).unwrap().request;
        assert_eq!(request.connection, None);
    }

    #[test]
    fn what_was_no_request_is_refused() {
        for nothing in ["-", ""] {
            assert!(matches!(combined(nothing), Found::NoRequest), "{nothing}");
        }
        for wrong in [r"\x16\x03\x01", "GET /", "GET HTTP/1.1", r"GET /a b\x0D\x0A HTTP/1.1", "GET / HTTP/x", "GET / FTP/1.1"] {
            assert!(matches!(combined(wrong), Found::Broken), "{wrong}");
        }
        let nginx = "$msec [$request_method] [$request_uri] $status";
        let found = |line: &str| LogLines::new(LogFormat::parse(nginx).unwrap()).read(line.as_bytes(), &scrub());
        assert!(matches!(found("1.0 [-] [-] 400"), Found::NoRequest));
        assert!(matches!(found("1.0 [GET] [/] 99"), Found::Broken));
        assert!(matches!(found("1.0 [GET] [/] -"), Found::Request(_)));
    }

    #[test]
    fn request_lines() {
        let split = split_request(b"GET /a HTTP/2");
        assert_eq!(split, Some((b"GET".as_slice(), b"/a".as_slice(), b"2".as_slice())));
        assert_eq!(Multiplexed::of(b"HTTP/2.0"), Multiplexed::Yes);
        assert_eq!(Multiplexed::of(b"1.1"), Multiplexed::No);
        assert_eq!(Multiplexed::of(b"h3"), Multiplexed::Yes);
        assert_eq!(Multiplexed::of(b""), Multiplexed::No);
    }

    proptest! {
        #[test]
        fn no_line_panics(line in prop::collection::vec(any::<u8>(), 0..200), at in 0..80_usize) {
            let format = r#"%h %{remote}p %k %{%F %T}t.%{usec_frac}t%{%z}t %{end:usec}t "%r" %m %U%q %s %b %D %{ms}T "%{A}i""#;
            let mut whole = br#"a 1 2 2015-05-17 12:05:03.123456+0200 1 "GET / HTTP/1.1" GET /a?b 200 5 1 2 "x""#.to_vec();
            let _ = read(format, &line);
            whole.splice(at..at, line);
            let _ = read(format, &whole);
        }
    }
}
