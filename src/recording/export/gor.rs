//! GoReplay's file: `TYPE ID TS LATENCY`, the raw request, a separator. The ID has the layout GoReplay gives it since 1.3.0 (its
//! tcp_message.go): client port, server port, client address and TCP acknowledgement in hexadecimal, so that whoever reads the file
//! sees which requests share a connection. Ours are made up: hashed from the recorded connection.

use std::io::{self, Write};

use siphasher::sip::SipHasher13;

use super::Base;
use crate::recording::request::Request;

const SEPARATOR: &str = "\n🐵🙈🙉\n";
/// Readers take IDs for connections only where it is the same in all of them.
const SERVER_PORT: u16 = 80;
/// A request without a body has a Content-Length if its method makes one expected (RFC 9110, 8.6).
const WITH_CONTENT: [&str; 3] = ["POST", "PUT", "PATCH"];

/// A file of GoReplay that is being written.
#[derive(Debug)]
pub(super) struct Script<W> {
    output: W,
    message: Vec<u8>,
    /// Requests written so far; wraps in the ID, where it tells the requests of one connection apart.
    count: u64,
}

impl<W: Write> Script<W> {
    pub(super) const fn new(output: W) -> Self {
        Self { output, message: Vec::new(), count: 0 }
    }

    /// Whether it was written.
    pub(super) fn write(&mut self, request: &Request, base: Option<&Base>) -> io::Result<bool> {
        if request.method.as_str() == "CONNECT" {
            return Ok(false);
        }
        let connection = match &request.connection {
            Some(connection) => SipHasher13::new().hash(connection.as_bytes()),
            // Nothing is known to share its connection.
            None => SipHasher13::new_with_keys(1, 0).hash(&self.count.to_le_bytes()),
        };
        let (port, address) = (connection >> 48, connection & 0xffff_ffff);
        let acknowledgement = self.count & 0xffff_ffff;
        self.message.clear();
        encode(request, base, &mut self.message)?;
        writeln!(self.output, "1 {port:04x}{SERVER_PORT:04x}{address:08x}{acknowledgement:08x} {} 0", request.at.0)?;
        self.output.write_all(&self.message)?;
        self.output.write_all(SEPARATOR.as_bytes())?;
        self.count += 1;
        Ok(true)
    }

    pub(super) fn into_output(self) -> W {
        self.output
    }
}

/// The request with a Host and the length its body has.
fn encode(request: &Request, base: Option<&Base>, out: &mut Vec<u8>) -> io::Result<()> {
    write!(out, "{} {} HTTP/1.1\r\n", request.method, request.target.as_str())?;
    if !request.headers.iter().any(|header| header.is("host")) {
        let recorded = request.host();
        write!(out, "Host: {}\r\n", recorded.unwrap_or(base.map_or("localhost", |base| &base.authority)))?;
    }
    let mut has_length = false;
    let mut had_body = !request.body.is_empty() || WITH_CONTENT.contains(&request.method.as_str());
    for header in &request.headers {
        if header.is("transfer-encoding") {
            // The chunks are not recorded, only what was in them.
            had_body = true;
        } else if !header.is("content-length") {
            write!(out, "{}: {}\r\n", header.name(), header.value())?;
        } else if !has_length {
            write!(out, "{}: {}\r\n", header.name(), request.body.len())?;
            has_length = true;
        }
    }
    if had_body && !has_length {
        write!(out, "Content-Length: {}\r\n", request.body.len())?;
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(&request.body);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;
    use crate::recording::export::tests::export;
    use crate::recording::export::{Exporter, Format};
    use crate::recording::{Header, Meta, Method, Target, UnixNanos};

    /// A record as a reader sees it: ID, time, method and target, headers, body.
    #[derive(Debug)]
    struct Record {
        id: String,
        at: i64,
        line: String,
        headers: Vec<(String, String)>,
        body: Vec<u8>,
    }

    /// Reads by Content-Length, since a body may hold a separator.
    fn parse(mut rest: &[u8]) -> Vec<Record> {
        let mut records = Vec::new();
        while !rest.is_empty() {
            let end = rest.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
            let head = String::from_utf8(rest[..end].to_vec()).unwrap();
            rest = &rest[end + 4..];
            let (first, message) = head.split_once('\n').unwrap();
            let fields: Vec<_> = first.split(' ').collect();
            assert_eq!((fields[0], fields[3], fields[1].len()), ("1", "0", 24));
            let (line, headers) = message.split_once("\r\n").unwrap();
            let headers: Vec<(String, String)> = headers
                .split("\r\n")
                .map(|header| header.split_once(": ").unwrap())
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect();
            let length = headers.iter().find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
            let length = length.map_or(0, |(_, length)| length.parse().unwrap());
            records.push(Record {
                id: fields[1].to_owned(),
                at: fields[2].parse().unwrap(),
                line: line.to_owned(),
                headers,
                body: rest[..length].to_vec(),
            });
            rest = rest[length..].strip_prefix(SEPARATOR.as_bytes()).unwrap();
        }
        records
    }

    #[test]
    fn a_file_looks_as_goreplay_writes_it() {
        let lines = [
            r#"{"t":1.5,"c":"x","m":"POST","u":"/a","h":[["Host","h"],["content-length","99"],["X","1"]],"b":"eHl6"}"#,
            r#"{"t":2,"c":"x","m":"GET","u":"/b"}"#,
            r#"{"t":3,"m":"POST","u":"/c","h":[["Transfer-Encoding","chunked"]]}"#,
            r#"{"t":4,"m":"CONNECT","u":"a:443"}"#,
        ];
        let (bytes, exported) = export(&lines, Format::Gor, Some("http://app:80")).unwrap();
        assert_eq!((exported.written, exported.left_out), (3, 1));
        let records: Vec<String> =
            String::from_utf8(bytes).unwrap().split(SEPARATOR).filter(|record| !record.is_empty()).map(str::to_owned).collect();
        let (ids, messages): (Vec<&str>, Vec<&str>) = records.iter().map(|record| (&record[2..26], &record[27..])).unzip();
        assert_eq!(messages[0], "1500000000 0\nPOST /a HTTP/1.1\r\nHost: h\r\ncontent-length: 3\r\nX: 1\r\n\r\nxyz");
        assert_eq!(messages[1], "2000000000 0\nGET /b HTTP/1.1\r\nHost: app:80\r\n\r\n");
        assert_eq!(messages[2], "3000000000 0\nPOST /c HTTP/1.1\r\nHost: app:80\r\nContent-Length: 0\r\n\r\n");
        assert_eq!(&ids[0][..16], &ids[1][..16], "one connection");
        assert_ne!(&ids[0][..16], &ids[2][..16]);
        assert!(ids.iter().all(|id| id[4..8] == *"0050"), "{ids:?}");
        assert_eq!(ids.iter().collect::<std::collections::BTreeSet<_>>().len(), 3, "no ID stands twice");
    }

    fn request() -> impl Strategy<Value = Request> {
        let body = prop_oneof![prop::collection::vec(any::<u8>(), 0..20), Just(SEPARATOR.as_bytes().to_vec())];
        let headers = prop::collection::vec(("[A-Za-z-]{1,8}", "[!-~]{1,9}"), 0..4);
        (0..i64::MAX, "/[a-z]{0,5}", prop::option::of("[a-c]"), headers, body).prop_map(
            |(at, target, connection, headers, body)| Request {
                at: UnixNanos(at),
                method: Method::new(if body.is_empty() { "GET" } else { "POST" }).unwrap(),
                target: Target::new(&target).unwrap(),
                connection: connection.map(Into::into),
                ordinal: None,
                headers: headers.iter().map(|(name, value)| Header::new(name, value).unwrap()).collect(),
                body,
                status: None,
                duration: None,
                response_bytes: None,
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(requests in prop::collection::vec(request(), 0..8)) {
            let mut exporter = Exporter::new(Vec::new(), Format::Gor, None, &Meta::default()).unwrap();
            for request in &requests {
                exporter.write(request).unwrap();
            }
            let records = parse(&exporter.finish().unwrap().0);
            prop_assert_eq!(records.len(), requests.len());
            let mut connections = HashMap::new();
            for (record, request) in records.iter().zip(&requests) {
                prop_assert_eq!(record.at, request.at.0);
                prop_assert_eq!(&record.line, &format!("{} {} HTTP/1.1", request.method, request.target.as_str()));
                prop_assert_eq!(&record.body, &request.body);
                let is_repaired = |name: &str| name.eq_ignore_ascii_case("host") || name.eq_ignore_ascii_case("content-length");
                let read: Vec<_> = record.headers.iter().filter(|(name, _)| !is_repaired(name)).cloned().collect();
                let written: Vec<_> = request.headers.iter().filter(|header| !is_repaired(header.name()))
                    .map(|header| (header.name().to_owned(), header.value().to_owned())).collect();
                prop_assert_eq!(read, written);
                if let Some(connection) = &request.connection {
                    let id = &record.id[..16];
                    prop_assert_eq!(connections.entry(connection.clone()).or_insert(id.to_owned()).as_str(), id);
                }
            }
        }
    }
}
