//! The log format we recommend for nginx: objects with the end of a request and its duration in milliseconds, the connection, and the
//! headers that matter. nginx passes bytes beyond ASCII through, so that a line is bytes, not text.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Visitor};
use serde_json::value::RawValue;

use super::arrival::{Arrival, Clock, Found, Numbering, earlier, identity, told_header};
use super::log_line::Multiplexed;
use crate::recording::scrub::Scrub;
use crate::recording::text::civil::parse_unix;
use crate::recording::{Method, Request, Target};

/// What to put into nginx's configuration.
pub const NGINX_LOG_FORMAT: &str = r#"log_format tuningfork escape=json
  '{"te":$msec,"d":$request_time,"c":"$pid.$connection","n":$connection_requests,"p":"$server_protocol",'
  '"m":"$request_method","u":"$request_uri","s":$status,"rb":$body_bytes_sent,'
  '"h":[["Host","$http_host"],["User-Agent","$http_user_agent"],["Accept","$http_accept"],'
  '["Content-Type","$content_type"],["Cookie","$http_cookie"]],"bt":"$request_body"}';"#;

/// Bytes between quotation marks.
#[derive(Default)]
struct Text<'a>(Cow<'a, [u8]>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl<'de> Visitor<'de> for Bytes {
            type Value = Text<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a string")
            }

            fn visit_borrowed_bytes<E>(self, bytes: &'de [u8]) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(bytes)))
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(bytes.to_vec())))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

#[derive(serde::Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    te: &'a RawValue,
    #[serde(borrow)]
    d: Option<&'a RawValue>,
    #[serde(borrow)]
    c: Option<Text<'a>>,
    n: Option<u64>,
    #[serde(borrow, default)]
    p: Text<'a>,
    #[serde(borrow)]
    m: Text<'a>,
    #[serde(borrow)]
    u: Text<'a>,
    s: Option<u16>,
    rb: Option<u64>,
    #[serde(borrow, default)]
    h: Vec<(Text<'a>, Text<'a>)>,
    #[serde(borrow, default)]
    bt: Text<'a>,
}

/// Whether a line is of this format, be it usable or not.
pub(super) fn is_one(line: &[u8]) -> bool {
    serde_json::from_slice::<Line<'_>>(line).is_ok()
}

/// What a line holds.
pub(super) fn read(line: &[u8], scrub: &Scrub) -> Found {
    let Ok(line) = serde_json::from_slice::<Line<'_>>(line) else { return Found::Broken };
    // nginx answered 400 to what it could not read.
    if line.m.0.is_empty() && line.u.0.is_empty() {
        return Found::NoRequest;
    }
    arrival(&line, scrub).map_or(Found::Broken, Found::Request)
}

fn arrival(line: &Line<'_>, scrub: &Scrub) -> Option<Arrival> {
    let noted = parse_unix(line.te.get().as_bytes())?;
    let took = line.d.map(|d| parse_unix(d.get().as_bytes()).and_then(|d| u64::try_from(d.0).ok()).ok_or(())).transpose().ok()?;
    let duration = took.map(Duration::from_nanos);
    let name = |name: &Text<'_>| identity(scrub, &String::from_utf8_lossy(&name.0));
    let header = |(name, value): &(Text<'_>, Text<'_>)| told_header(str::from_utf8(&name.0).ok()?, &value.0);
    let request = Request {
        at: earlier(noted, duration.unwrap_or_default()),
        method: Method::new(str::from_utf8(&line.m.0).ok()?)?,
        target: Target::from_bytes(&line.u.0)?,
        connection: line.c.as_ref().map(name),
        // The requests of such a connection overlap: it is a client, not an order.
        ordinal: line.n.filter(|_| Multiplexed::of(&line.p.0) == Multiplexed::No),
        headers: line.h.iter().filter_map(header).collect(),
        body: line.bt.0.to_vec(),
        status: line.s.filter(|status| (100..=999).contains(status)),
        duration,
        response_bytes: line.rb,
    };
    Some(Arrival { request, clock: Clock::Exact { noted }, place: Numbering::Told })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::recording::{Header, ScrubKey, UnixNanos};

    const LINE: &str = r#"{"te":1431857103.250,"d":1.050,"c":"41.977","n":3,"p":"HTTP/1.1","m":"POST","u":"/a?b=\"c","s":201,"rb":7,"h":[["Host","a.example"],["Cookie",""],["X","caf\u00e9\u0001"]],"bt":"x\ny"}"#;

    fn found(line: &[u8]) -> Found {
        read(line, &Scrub::new(ScrubKey([1; 16])))
    }

    fn request(line: &[u8]) -> Option<Request> {
        if let Found::Request(arrival) = found(line) { Some(arrival.request) } else { None }
    }

    #[test]
    fn every_key_is_read() {
        let request = request(LINE.as_bytes()).unwrap();
        assert_eq!(request.at, UnixNanos(1_431_857_102_200_000_000));
        assert_eq!((request.method.as_str(), request.target.as_str()), ("POST", "/a?b=\"c"));
        assert_eq!((request.connection.as_deref(), request.ordinal), (Some("41.977"), Some(3)));
        // An absent header is empty, and what cannot be sent again is not kept.
        assert_eq!(request.headers, [Header::new("Host", "a.example").unwrap()]);
        assert_eq!(request.body, b"x\ny");
        assert_eq!((request.status, request.response_bytes), (Some(201), Some(7)));
        assert_eq!(request.duration, Some(Duration::from_millis(1050)));
    }

    #[test]
    fn bytes_beyond_ascii_come_as_they_are() {
        let mut line = LINE.as_bytes().to_vec();
        let at = LINE.find("/a?b").unwrap() + 1;
        line.splice(at..=at, *b"caf\xe9");
        assert_eq!(request(&line).unwrap().target.as_str(), "/caf%E9?b=\"c");
        let end = LINE.find("x\\ny").unwrap();
        let mut line = LINE.as_bytes().to_vec();
        line.splice(end..=end, [0xff, 0x80]);
        assert_eq!(request(&line).unwrap().body, b"\xff\x80\ny");
    }

    #[test]
    fn requests_of_multiplexed_connections_have_no_order() {
        let request = request(LINE.replace("HTTP/1.1", "HTTP/2.0").as_bytes()).unwrap();
        assert_eq!((request.connection.as_deref(), request.ordinal), (Some("41.977"), None));
    }

    #[test]
    fn an_address_in_place_of_a_connection_does_not_pass() {
        let name = request(LINE.replace("41.977", "10.1.2.3").as_bytes()).unwrap().connection.unwrap();
        assert_eq!(name.len(), 16);
    }

    #[test]
    fn a_400_without_request_is_none() {
        let refused = LINE.replace("\"POST\"", "\"\"").replace(r#""/a?b=\"c""#, "\"\"");
        assert!(matches!(found(refused.as_bytes()), Found::NoRequest));
        assert!(is_one(refused.as_bytes()));
        for wrong in
            ["", "{}", r#"{"te":1,"m":"G T","u":"/"}"#, r#"{"te":1,"d":-1,"m":"GET","u":"/"}"#, r#"{"te":"1","m":"GET","u":"/"}"#]
        {
            assert!(matches!(found(wrong.as_bytes()), Found::Broken), "{wrong}");
        }
        assert!(request(br#"{"te":1,"m":"GET","u":"/"}"#).is_some());
    }

    proptest! {
        #[test]
        fn no_line_panics(bytes in prop::collection::vec(any::<u8>(), 0..100), at in 0..LINE.len()) {
            let _ = found(&bytes);
            let mut line = LINE.as_bytes().to_vec();
            line.splice(at..at, bytes);
            let _ = found(&line);
        }
    }
}
