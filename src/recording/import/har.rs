//! HAR documents of browsers and proxies. They are one JSON object, so that they are read whole; files in the wild lack fields or have
//! them of other types: only the time, the method and the URL are needed. A document that ends early gives the entries it has.

use std::fmt;
use std::io::{BufRead, Read};
use std::time::Duration;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::absolute;
use super::arrival::{Arrival, Clock, Found, Numbering, identity, status};
use super::log_line::Multiplexed;
use crate::recording::scrub::Scrub;
use crate::recording::text::civil::parse_iso;
use crate::recording::{Header, Method, Request, Target};

/// The largest document, bytes.
pub const MAX_HAR: u64 = 512 << 20;

/// How a document ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    Whole,
    /// In the middle.
    Torn,
    /// It is not JSON, or not a HAR.
    Wrong(String),
    TooLarge,
}

/// Shows `take` every entry of a document of at most `limit` bytes.
pub(super) fn read(input: impl BufRead, limit: u64, mut take: impl FnMut(&RawValue)) -> std::io::Result<End> {
    let mut bytes = Vec::new();
    input.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Ok(End::TooLarge);
    }
    let text = String::from_utf8_lossy(&bytes);
    let mut parser = serde_json::Deserializer::from_str(text.trim_start_matches('\u{feff}'));
    let result = Path { keys: &["log", "entries"], take: &mut take }.deserialize(&mut parser);
    Ok(match result {
        Ok(()) => End::Whole,
        Err(error) if error.is_eof() => End::Torn,
        Err(error) => End::Wrong(error.to_string()),
    })
}

/// What is found by following `keys` through objects: a list, whose elements `take` is shown.
struct Path<'a, F> {
    keys: &'static [&'static str],
    take: &'a mut F,
}

impl<'de, F: FnMut(&RawValue)> DeserializeSeed<'de> for Path<'_, F> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.keys.is_empty() { deserializer.deserialize_seq(self) } else { deserializer.deserialize_map(self) }
    }
}

impl<'de, F: FnMut(&RawValue)> Visitor<'de> for Path<'_, F> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a HAR document")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((wanted, keys)) = self.keys.split_first() else { return Ok(()) };
        while let Some(key) = map.next_key::<String>()? {
            if key == *wanted {
                map.next_value_seed(Path { keys, take: &mut *self.take })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        while let Some(entry) = entries.next_element::<&RawValue>()? {
            (self.take)(entry);
        }
        Ok(())
    }
}

/// A field that may be missing or of another type.
fn lenient<'de, D: Deserializer<'de>, T: serde::de::DeserializeOwned>(deserializer: D) -> Result<Option<T>, D::Error> {
    Ok(serde_json::from_value(Value::deserialize(deserializer)?).ok())
}

#[derive(serde::Deserialize)]
struct Entry {
    #[serde(rename = "startedDateTime")]
    started: String,
    request: Sent,
    #[serde(default, deserialize_with = "lenient")]
    response: Option<Received>,
    /// Milliseconds.
    #[serde(default, deserialize_with = "lenient")]
    time: Option<f64>,
    #[serde(default)]
    connection: Value,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Sent {
    method: String,
    url: String,
    #[serde(default, deserialize_with = "lenient")]
    http_version: Option<String>,
    #[serde(default, deserialize_with = "lenient")]
    headers: Option<Vec<Value>>,
    #[serde(default, deserialize_with = "lenient")]
    post_data: Option<Posted>,
}

#[derive(serde::Deserialize)]
struct Posted {
    #[serde(default, deserialize_with = "lenient")]
    text: Option<String>,
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Received {
    #[serde(default, deserialize_with = "lenient")]
    status: Option<i64>,
    /// −1 if it is not known.
    #[serde(default, deserialize_with = "lenient")]
    body_size: Option<i64>,
    #[serde(default, deserialize_with = "lenient")]
    content: Option<Content>,
}

#[derive(serde::Deserialize)]
struct Content {
    #[serde(default, deserialize_with = "lenient")]
    size: Option<i64>,
}

/// What an entry holds.
pub(super) fn entry(entry: &RawValue, scrub: &Scrub) -> Found {
    let Ok(entry) = serde_json::from_str::<Entry>(entry.get()) else { return Found::Broken };
    let Some((host, target)) = absolute::split(&entry.request.url) else {
        // data:, blob: and the like never left the browser.
        return if entry.request.url.contains(':') { Found::NoRequest } else { Found::Broken };
    };
    arrival(&entry, host, &target, scrub).map_or(Found::Broken, Found::Request)
}

fn arrival(entry: &Entry, host: &str, target: &str, scrub: &Scrub) -> Option<Arrival> {
    let at = parse_iso(entry.started.as_bytes())?;
    let duration = entry.time.and_then(|millis| Duration::try_from_secs_f64(millis / 1_000.0).ok());
    let response = entry.response.as_ref();
    let size = |response: &Received| {
        let content = || response.content.as_ref().and_then(|content| content.size);
        response.body_size.filter(|size| *size >= 0).or_else(content).and_then(|size| u64::try_from(size).ok())
    };
    let connection = match &entry.connection {
        Value::String(name) if !name.is_empty() => Some(identity(scrub, name)),
        Value::Number(number) => Some(identity(scrub, &number.to_string())),
        Value::Null | Value::Bool(_) | Value::String(_) | Value::Array(_) | Value::Object(_) => None,
    };
    let overlaps = Multiplexed::of(entry.request.http_version.as_deref().unwrap_or_default().as_bytes()) == Multiplexed::Yes;
    let posted = entry.request.post_data.as_ref().and_then(|posted| posted.text.as_deref());
    let request = Request {
        at,
        method: Method::new(&entry.request.method)?,
        target: Target::from_bytes(target.as_bytes())?,
        ordinal: None,
        headers: headers(entry.request.headers.as_deref().unwrap_or_default(), host),
        body: posted.unwrap_or_default().as_bytes().to_vec(),
        status: response.and_then(|response| response.status).and_then(status),
        duration,
        response_bytes: response.and_then(size),
        connection,
    };
    let place = if overlaps { Numbering::Told } else { Numbering::Counted };
    Some(Arrival { request, clock: Clock::Exact { noted: at }, place })
}

/// The headers as listed, with the URL's host if there is no Host header, as with HTTP/2.
fn headers(listed: &[Value], host: &str) -> Vec<Header> {
    let text = |header: &Value, key: &str| header.get(key).and_then(Value::as_str).map(str::to_owned);
    let told = |header| Header::new(&text(header, "name")?, &text(header, "value")?);
    let mut headers: Vec<Header> = listed.iter().filter_map(told).collect();
    if !headers.iter().any(|header| header.is("host"))
        && let Some(host) = Header::new("Host", host)
    {
        headers.insert(0, host);
    }
    headers
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::recording::{ScrubKey, UnixNanos};

    const FULL: &str = r#"{"startedDateTime":"2015-05-17T12:05:03.250+02:00","time":12.5,"connection":"443","pageref":"p",
        "request":{"method":"POST","url":"https://a.example/x?y#z","httpVersion":"HTTP/1.1","headers":[{"name":"Host","value":"b.example"},
        {"name":"X","value":""}],"postData":{"mimeType":"text/plain","text":"body"},"bodySize":4},
        "response":{"status":200,"content":{"size":99,"text":"…"},"bodySize":-1}}"#;
    const SHORT: &str = r#"{"startedDateTime":"2015-05-17T10:05:03Z","time":null,"connection":7,"request":{"method":"GET","url":"http://a.example",
        "httpVersion":"h2","headers":[{"name":":authority","value":"a.example"},{"name":"accept","value":"*/*"},"odd"]},"response":null}"#;

    fn scrub() -> Scrub {
        Scrub::new(ScrubKey([1; 16]))
    }

    fn all(document: &[u8]) -> (End, Vec<Found>) {
        let mut found = Vec::new();
        let end = read(document, MAX_HAR, |raw| found.push(entry(raw, &scrub()))).unwrap();
        (end, found)
    }

    fn document(entries: &[&str]) -> String {
        format!("\u{feff}{{\"log\":{{\"version\":\"1.2\",\"pages\":[{{}}],\"entries\":[{}]}}}}", entries.join(","))
    }

    #[test]
    fn entries_of_browsers_and_of_lean_proxies() {
        let (end, found) = all(document(&[FULL, SHORT]).as_bytes());
        assert_eq!(end, End::Whole);
        let [Found::Request(full), Found::Request(short)] = found.as_slice() else { panic!("{found:?}") };
        let request = &full.request;
        assert_eq!(request.at, UnixNanos(1_431_857_103_250_000_000));
        assert_eq!((request.method.as_str(), request.target.as_str()), ("POST", "/x?y"));
        assert_eq!((request.connection.as_deref(), full.place), (Some("443"), Numbering::Counted));
        assert_eq!(request.headers, [Header::new("Host", "b.example").unwrap(), Header::new("X", "").unwrap()]);
        assert_eq!((request.body.as_slice(), request.status, request.response_bytes), (b"body".as_slice(), Some(200), Some(99)));
        assert_eq!(request.duration, Some(Duration::from_micros(12_500)));
        let request = &short.request;
        assert_eq!((request.target.as_str(), request.connection.as_deref(), short.place), ("/", Some("7"), Numbering::Told));
        assert_eq!(request.headers, [Header::new("Host", "a.example").unwrap(), Header::new("accept", "*/*").unwrap()]);
        assert_eq!((request.duration, request.status, request.response_bytes), (None, None, None));
    }

    #[test]
    fn a_broken_entry_costs_itself() {
        let odd = [
            FULL,
            "{}",
            r#"{"startedDateTime":1}"#,
            &SHORT.replace("http://a.example", "data:x"),
            &SHORT.replace("GET", "G T"),
            SHORT,
        ];
        let (end, found) = all(document(&odd).as_bytes());
        assert_eq!(end, End::Whole);
        let kinds: Vec<_> = found.iter().map(|found| matches!(found, Found::Request(_)).then_some(()).is_some()).collect();
        assert_eq!(kinds, [true, false, false, false, false, true]);
        assert!(matches!(found[3], Found::NoRequest));
    }

    #[test]
    fn a_torn_document_gives_what_it_has() {
        let whole = document(&[FULL, SHORT]);
        let (end, found) = all(&whole.as_bytes()[..whole.len() - 20]);
        assert_eq!((end, found.len()), (End::Torn, 1));
        assert!(matches!(all(b"[]").0, End::Wrong(_)));
        assert!(matches!(all(br#"{"log":{"entries":3}}"#).0, End::Wrong(_)));
        assert_eq!(all(br#"{"log":{}}"#).0, End::Whole);
    }

    #[test]
    fn a_document_beyond_the_bound_is_refused() {
        let endless = std::io::BufReader::new(std::io::repeat(b' '));
        assert_eq!(read(endless, 1_000, |_| {}).unwrap(), End::TooLarge);
    }

    proptest! {
        #[test]
        fn no_document_panics(bytes in prop::collection::vec(any::<u8>(), 0..60), at in 0..1_000_usize) {
            let _ = all(&bytes);
            let mut whole = document(&[FULL, SHORT]).into_bytes();
            let at = at.min(whole.len());
            whole.splice(at..at, bytes);
            let _ = all(&whole);
        }
    }
}
