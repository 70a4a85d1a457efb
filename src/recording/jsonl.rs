//! Recordings as JSON Lines, one request a line, in the keys `t m u c n h b s d rb`; the first line may be `{"meta": …}`. Unknown
//! keys are ignored, so that later versions can add some.

use std::borrow::Cow;
use std::io::{self, BufRead, Write};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::request::every_byte;
use super::text::civil::{parse_unix, push_unix};
use super::text::lines::Lines;
use super::{
    Allowance, Broken, Header, Meta, Method, Position, Recording, RecordingError, Request, Target, UnixNanos, refuse_compressed,
};
use crate::printable::make_printable;

/// Reads a recording whole. Lines that cannot be used are counted and passed over; requests keep the order of the file.
pub fn read(input: impl BufRead) -> Result<Recording, RecordingError> {
    let mut allowance = Allowance::default();
    let mut reader = Reader::new(input)?;
    let mut requests = Vec::new();
    while let Some(request) = reader.next()? {
        allowance.take(reader.length)?;
        requests.push(request);
    }
    let (meta, broken) = reader.finish()?;
    Ok(Recording { meta, requests, broken })
}

/// Writes a recording whole.
pub fn write(recording: &Recording, output: impl Write) -> io::Result<()> {
    let mut writer = Writer::new(output, &recording.meta)?;
    for request in &recording.requests {
        writer.write(request)?;
    }
    writer.finish().map(|_| ())
}

/// Reads a recording request by request, in constant memory.
#[derive(Debug)]
pub struct Reader<R> {
    lines: Lines<R>,
    meta: Meta,
    broken: Broken,
    /// The first request, if the file has no meta line.
    first: Option<Request>,
    begins_an_object: bool,
    found: u64,
    /// Bytes of the last request's line.
    length: usize,
}

impl<R: BufRead> Reader<R> {
    /// Reads the meta line, if there is one.
    pub fn new(mut input: R) -> Result<Self, RecordingError> {
        refuse_compressed(&mut input)?;
        let lines = Lines::new(input);
        let mut reader = Self {
            lines,
            meta: Meta::default(),
            broken: Broken::default(),
            first: None,
            begins_an_object: true,
            found: 0,
            length: 0,
        };
        match reader.entry(Position::First)? {
            Some(Entry::Meta(meta)) => reader.meta = meta,
            Some(Entry::Request(request)) => reader.first = Some(request),
            None => {}
        }
        Ok(reader)
    }

    /// What the recording says about itself.
    pub const fn meta(&self) -> &Meta {
        &self.meta
    }

    /// The next request, in the order of the file, or `None` at its end. Lines that cannot be used are counted and passed over.
    #[expect(clippy::should_implement_trait, reason = "an iterator cannot end with an error and what was broken")]
    pub fn next(&mut self) -> Result<Option<Request>, RecordingError> {
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        Ok(match self.entry(Position::Later)? {
            Some(Entry::Request(request)) => Some(request),
            Some(Entry::Meta(_)) | None => None,
        })
    }

    /// The number of the line the last request stands on.
    pub fn line(&self) -> u64 {
        self.lines.read()
    }

    /// What the recording says about itself, and what of it was broken. An error if there was no request at all.
    pub fn finish(self) -> Result<(Meta, Broken), RecordingError> {
        match (self.found, self.lines.read()) {
            (1.., _) => Ok((self.meta, self.broken)),
            (0, 0) => Err(RecordingError::Empty),
            (0, _) if !self.begins_an_object => Err(RecordingError::NotJsonLines),
            (0, lines) => Err(RecordingError::NothingUsable { lines }),
        }
    }

    /// The next usable line; at the start of the file, one that may be the meta line.
    fn entry(&mut self, mut position: Position) -> Result<Option<Entry>, RecordingError> {
        loop {
            let number = self.lines.read() + 1;
            let Some(line) = self.lines.next().map_err(|source| RecordingError::Read { line: number, source })? else {
                return Ok(None);
            };
            let text = line.text.unwrap_or_default();
            if line.text.is_some() && text.trim_ascii().is_empty() {
                continue;
            }
            // Nothing is known of a line that is too long to be kept.
            if position == Position::First {
                self.begins_an_object = line.text.is_none_or(is_json);
            }
            match parse(text, position) {
                Some(entry) => {
                    self.length = text.len();
                    self.found += u64::from(matches!(entry, Entry::Request(_)));
                    return Ok(Some(entry));
                }
                None => self.broken.add(line.number, line.ending),
            }
            position = Position::Later;
        }
    }
}

/// Writes a recording request by request.
#[derive(Debug)]
pub struct Writer<W: Write> {
    output: W,
    /// What is to be written next.
    lines: Vec<u8>,
}

impl<W: Write> Writer<W> {
    /// Begins with the meta line. It is written with the first request: who finds none has written nothing.
    pub fn new(output: W, meta: &Meta) -> io::Result<Self> {
        let mut lines = serde_json::to_vec(&MetaLine { meta })?;
        lines.push(b'\n');
        Ok(Self { output, lines })
    }

    /// Writes one request.
    pub fn write(&mut self, request: &Request) -> io::Result<()> {
        push_line(&mut self.lines, request)?;
        self.hand_over()
    }

    /// Gives everything to the system.
    pub fn flush(&mut self) -> io::Result<()> {
        self.hand_over()?;
        self.output.flush()
    }

    /// Flushes, and gives the output back.
    pub fn finish(mut self) -> io::Result<W> {
        self.flush()?;
        Ok(self.output)
    }

    fn hand_over(&mut self) -> io::Result<()> {
        self.output.write_all(&self.lines)?;
        self.lines.clear();
        Ok(())
    }
}

#[derive(Serialize, Deserialize)]
struct MetaLine<M> {
    meta: M,
}

/// What one line holds.
#[derive(Debug)]
pub(super) enum Entry {
    Meta(Meta),
    Request(Request),
}

/// Whether a file that begins with this line is meant to be JSON Lines.
pub(super) fn is_json(first_line: &[u8]) -> bool {
    first_line.trim_ascii_start().starts_with(b"{")
}

/// A line's content, or `None` if it is broken. Only the first line may be the meta line.
pub(super) fn parse(line: &[u8], position: Position) -> Option<Entry> {
    if let Some(request) = parse_request(line) {
        return Some(Entry::Request(request));
    }
    let mut meta = serde_json::from_slice::<MetaLine<Meta>>(line).ok().filter(|_| position == Position::First)?.meta;
    meta.texts().for_each(make_printable);
    Some(Entry::Meta(meta))
}

#[derive(Deserialize)]
struct LineIn<'a> {
    #[serde(borrow)]
    t: &'a RawValue,
    #[serde(borrow)]
    m: Cow<'a, str>,
    #[serde(borrow)]
    u: Cow<'a, str>,
    c: Option<Box<str>>,
    n: Option<u64>,
    #[serde(borrow, default)]
    h: Vec<(Cow<'a, str>, Cow<'a, str>)>,
    b: Option<Cow<'a, str>>,
    s: Option<u16>,
    d: Option<f64>,
    rb: Option<u64>,
}

fn parse_request(line: &[u8]) -> Option<Request> {
    let line: LineIn<'_> = serde_json::from_slice(line).ok()?;
    let headers = line.h.iter().map(|(name, value)| Header::new(name, value)).collect::<Option<_>>()?;
    let body = line.b.map_or(Ok(Vec::new()), |body| BASE64.decode(body.as_bytes())).ok()?;
    let duration = line.d.map(Duration::try_from_secs_f64).transpose().ok()?;
    Some(Request {
        at: time(line.t.get())?,
        method: Method::new(&line.m)?,
        target: Target::new(&line.u)?,
        connection: line.c,
        ordinal: line.n,
        headers,
        body,
        status: line.s,
        duration,
        response_bytes: line.rb,
    })
}

/// A time, exact unless it has an exponent, as programs write what is near zero: `5e-05`.
fn time(number: &str) -> Option<UnixNanos> {
    parse_unix(number.as_bytes()).or_else(|| {
        let seconds: f64 = number.contains(['e', 'E']).then(|| number.parse().ok())??;
        let size = Duration::try_from_secs_f64(seconds.abs()).ok()?;
        let nanos = i64::try_from(size.as_nanos()).ok()?;
        Some(UnixNanos(if seconds < 0.0 { -nanos } else { nanos }))
    })
}

/// Appends a request's line. By hand, since an import spends much of its time here.
fn push_line(line: &mut Vec<u8>, request: &Request) -> io::Result<()> {
    line.extend_from_slice(b"{\"t\":");
    push_unix(line, request.at)?;
    if let Some(connection) = &request.connection {
        push_text(line, b",\"c\":", connection)?;
    }
    if let Some(ordinal) = request.ordinal {
        write!(line, ",\"n\":{ordinal}")?;
    }
    push_text(line, b",\"m\":", request.method.as_str())?;
    push_text(line, b",\"u\":", request.target.as_str())?;
    for (index, header) in request.headers.iter().enumerate() {
        push_text(line, if index == 0 { b",\"h\":[[" } else { b",[" }, header.name())?;
        push_text(line, b",", header.value())?;
        line.push(b']');
    }
    if !request.headers.is_empty() {
        line.push(b']');
    }
    if !request.body.is_empty() {
        push_text(line, b",\"b\":", &BASE64.encode(&request.body))?;
    }
    if let Some(status) = request.status {
        write!(line, ",\"s\":{status}")?;
    }
    if let Some(duration) = request.duration {
        line.extend_from_slice(b",\"d\":");
        serde_json::to_writer(&mut *line, &duration.as_secs_f64())?;
    }
    if let Some(bytes) = request.response_bytes {
        write!(line, ",\"rb\":{bytes}")?;
    }
    line.extend_from_slice(b"}\n");
    Ok(())
}

/// Appends `before` and a JSON string. Nearly no text has anything to escape.
fn push_text(line: &mut Vec<u8>, before: &[u8], text: &str) -> io::Result<()> {
    line.extend_from_slice(before);
    let is_plain = every_byte(text, |byte| byte >= b' ' && byte != b'"' && byte != b'\\');
    if !is_plain {
        return Ok(serde_json::to_writer(line, text)?);
    }
    line.push(b'"');
    line.extend_from_slice(text.as_bytes());
    line.push(b'"');
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const META: &str = r#"{"meta":{"source":"nginx-json","ts_resolution_ns":1000000,"later":1}}"#;
    const FULL: &str = r#"{"t":1700000000.123456789,"c":"41.977","n":3,"m":"POST","u":"/x?y","h":[["Host","a"],["host","b"]],"b":"eA==","s":200,"d":0.0123,"rb":512}"#;
    const SHORT: &str = r#"{"t":1700000001,"m":"GET","u":"/","new":[1]}"#;

    fn text(lines: &[&str]) -> Vec<u8> {
        lines.iter().flat_map(|line| [line.as_bytes(), b"\n"].concat()).collect()
    }

    #[test]
    fn times_may_have_an_exponent() {
        let at = |number: &str| {
            let line = format!(r#"{{"t":{number},"m":"GET","u":"/"}}"#);
            parse_request(line.as_bytes()).map(|request| request.at.0)
        };
        assert_eq!(at("5e-05"), Some(50_000));
        assert_eq!(at("-1.5E0"), Some(-1_500_000_000));
        assert_eq!(at("1.7e9"), Some(1_700_000_000_000_000_000));
        for refused in ["1e10", "-1e300", "\"1e1\"", "1e"] {
            assert_eq!(at(refused), None, "{refused}");
        }
    }

    #[test]
    fn reads_what_the_format_says() {
        let recording = read(text(&[META, FULL, "", SHORT]).as_slice()).unwrap();
        assert_eq!(recording.meta.source.as_deref(), Some("nginx-json"));
        assert_eq!(recording.broken, Broken::default());
        let full = &recording.requests[0];
        assert_eq!(full.at, UnixNanos(1_700_000_000_123_456_789));
        assert_eq!((full.method.as_str(), full.target.as_str()), ("POST", "/x?y"));
        assert_eq!((full.connection.as_deref(), full.ordinal), (Some("41.977"), Some(3)));
        assert_eq!(full.headers[1].name(), "host");
        assert_eq!(full.body, b"x");
        assert_eq!((full.status, full.response_bytes), (Some(200), Some(512)));
        assert_eq!(full.duration, Some(Duration::from_micros(12_300)));
    }

    #[test]
    fn a_first_line_that_is_too_long_is_a_broken_one() {
        let long = "x".repeat(crate::recording::MAX_LINE + 1);
        let alone = read(text(&[&long]).as_slice()).unwrap_err();
        assert!(matches!(alone, RecordingError::NothingUsable { lines: 1 }), "{alone}");
        let recording = read(text(&[&long, SHORT]).as_slice()).unwrap();
        assert_eq!((recording.requests.len(), recording.broken.count), (1, 1));
    }

    #[test]
    fn broken_lines_are_counted_and_the_rest_is_read() {
        let bad = [
            "{",
            r#"{"t":1e99,"m":"GET","u":"/"}"#,
            r#"{"t":"1","m":"GET","u":"/"}"#,
            r#"{"t":1,"m":"G T","u":"/"}"#,
            r#"{"t":1,"m":"GET","u":"/ HTTP/1.1\r\nX: y"}"#,
            r#"{"t":1,"m":"GET","u":"/","b":"?"}"#,
            r#"{"t":1,"m":"GET","u":"/","d":-1}"#,
            META,
        ];
        let recording = read(text(&[&[SHORT], bad.as_slice(), &[FULL]].concat()).as_slice()).unwrap();
        assert_eq!(recording.requests.len(), 2);
        assert_eq!(recording.broken, Broken { count: 8, first: vec![2, 3, 4], torn: false });
    }

    #[test]
    fn a_torn_last_line_is_forgiven() {
        let mut input = text(&[SHORT]);
        input.extend_from_slice(&FULL.as_bytes()[..40]);
        let recording = read(input.as_slice()).unwrap();
        assert_eq!((recording.requests.len(), recording.broken), (1, Broken { count: 0, first: vec![], torn: true }));
        // Whole, but without a line feed: nothing is missing.
        assert!(!read(SHORT.as_bytes()).unwrap().broken.torn);
    }

    #[test]
    fn what_holds_no_request_is_refused() {
        assert!(matches!(read(b"".as_slice()), Err(RecordingError::Empty)));
        assert!(matches!(read(b"\n \n".as_slice()), Err(RecordingError::NothingUsable { lines: 2 })));
        assert!(matches!(read(text(&[META]).as_slice()), Err(RecordingError::NothingUsable { lines: 1 })));
        assert!(matches!(read(b"1.2.3.4 - - [".as_slice()), Err(RecordingError::NotJsonLines)));
        assert!(matches!(read(b"BZh9".as_slice()), Err(RecordingError::Compressed { with: "bzip2" })));
    }

    #[test]
    fn writing_and_reading_give_the_same() {
        let recording = read(text(&[META, FULL, SHORT]).as_slice()).unwrap();
        let mut written = Vec::new();
        write(&recording, &mut written).unwrap();
        assert_eq!(read(written.as_slice()).unwrap(), recording);
        let line = String::from_utf8(written).unwrap().lines().nth(1).unwrap().to_owned();
        assert!(line.starts_with(r#"{"t":1700000000.123456789,"c":"41.977","n":3,"m":"POST""#), "{line}");
    }

    proptest! {
        #[test]
        fn any_text_is_written_as_serde_json_would(texts in prop::collection::vec("[ -~\t\"\\\\é\u{7f}€]{0,20}", 3), nanos in (i64::MIN + 1)..i64::MAX) {
            let mut request = read(text(&[FULL]).as_slice()).unwrap().requests.remove(0);
            request.at = UnixNanos(nanos);
            request.connection = Some(texts[0].as_str().into());
            request.headers.extend(texts[1..].iter().filter_map(|value| Header::new("A", value)));
            let mut line = Vec::new();
            push_line(&mut line, &request).unwrap();
            let Some(Entry::Request(again)) = parse(&line, Position::Later) else { panic!("{}", String::from_utf8_lossy(&line)) };
            prop_assert_eq!(again, request);
            let value: serde_json::Value = serde_json::from_slice(&line).unwrap();
            prop_assert_eq!(value["c"].as_str(), Some(texts[0].as_str()));
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), at in 0..FULL.len()) {
            let _ = read(bytes.as_slice());
            let mut line = FULL.as_bytes().to_vec();
            line.splice(at..at, bytes);
            let _ = read(line.as_slice());
        }
    }
}
