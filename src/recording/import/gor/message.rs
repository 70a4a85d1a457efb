//! Raw messages of HTTP/1 as GoReplay keeps them. A request that is not complete is refused; what stands behind it is no part of it.
//! More is taken than on a connection: the message is there as a whole, some server understood it, and no next one hangs on its end.

use super::super::arrival::status;
use crate::recording::{Header, Method, Request, Target, UnixNanos};

/// The most headers of a message.
const MAX_HEADERS: usize = 128;

/// What an original response says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Response {
    pub(super) status: Option<u16>,
    /// Bytes of the body that are there.
    pub(super) held: u64,
    /// Bytes of the body that it announces.
    pub(super) announced: Option<u64>,
}

/// A request, complete, and what stands behind it.
pub(super) fn request(at: UnixNanos, message: &[u8]) -> Option<(Request, &[u8])> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(head) = parsed.parse(message).ok()? else { return None };
    let rest = &message[head..];
    let (body, rest) = match framing(parsed.headers) {
        Framing::Chunked => {
            let (body, end) = unchunked(rest)?;
            (body, &rest[end?..])
        }
        Framing::Length(length) => {
            let (body, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
            (body.to_vec(), rest)
        }
        Framing::None => (Vec::new(), rest),
    };
    let header = |header: &httparse::Header<'_>| Header::new(header.name, str::from_utf8(header.value).ok()?);
    let request = Request {
        at,
        method: Method::new(parsed.method?)?,
        target: Target::from_bytes(parsed.path?.as_bytes())?,
        connection: None,
        ordinal: None,
        headers: parsed.headers.iter().filter_map(header).collect(),
        body,
        status: None,
        duration: None,
        response_bytes: None,
    };
    Some((request, rest))
}

/// A response, of which the body may be cut.
pub(super) fn response(message: &[u8]) -> Option<Response> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(body) = parsed.parse(message).ok()? else { return None };
    let rest = &message[body..];
    let held = match framing(parsed.headers) {
        Framing::Chunked => unchunked(rest).map_or(0, |(body, _)| body.len()),
        Framing::Length(_) | Framing::None => rest.len(),
    };
    let announced = match framing(parsed.headers) {
        Framing::Length(length) => Some(length),
        Framing::Chunked | Framing::None => None,
    };
    Some(Response { status: status(i64::from(parsed.code?)), held: held as u64, announced })
}

enum Framing {
    Chunked,
    Length(u64),
    None,
}

fn framing(headers: &[httparse::Header<'_>]) -> Framing {
    let is_chunked = |value: &[u8]| value.trim_ascii().to_ascii_lowercase().ends_with(b"chunked");
    if values(headers, "transfer-encoding").any(is_chunked) {
        return Framing::Chunked;
    }
    let length = values(headers, "content-length").find_map(|value| str::from_utf8(value.trim_ascii()).ok()?.parse().ok());
    length.map_or(Framing::None, Framing::Length)
}

fn values<'a>(headers: &[httparse::Header<'a>], name: &str) -> impl Iterator<Item = &'a [u8]> {
    headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name)).map(|header| header.value)
}

/// The body behind its chunks (RFC 9112, 7.1), and where the last one ends if it is there. `None` if these are no chunks.
fn unchunked(text: &[u8]) -> Option<(Vec<u8>, Option<usize>)> {
    let mut body = Vec::new();
    let mut rest = text;
    loop {
        let (start, size) = match httparse::parse_chunk_size(rest).ok()? {
            httparse::Status::Complete(found) => found,
            httparse::Status::Partial => return Some((body, None)),
        };
        let size = usize::try_from(size).ok()?;
        if size == 0 {
            return Some((body, Some(text.len() - rest.len() + start)));
        }
        let Some((chunk, after)) = rest[start..].split_at_checked(size) else {
            body.extend_from_slice(&rest[start..]);
            return Some((body, None));
        };
        body.extend_from_slice(chunk);
        rest = after.strip_prefix(b"\r\n").unwrap_or(after);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parsed(message: &[u8]) -> Option<(Request, &[u8])> {
        request(UnixNanos(7), message)
    }

    #[test]
    fn requests_end_where_they_say() {
        let (get, rest) = parsed(b"GET /a HTTP/1.1\r\nHost: x\r\nhOST: y\r\nEmpty:\r\n\r\nrest").unwrap();
        let headers: Vec<_> = get.headers.iter().map(|header| (header.name(), header.value())).collect();
        assert_eq!((headers.as_slice(), rest), ([("Host", "x"), ("hOST", "y"), ("Empty", "")].as_slice(), b"rest".as_slice()));
        let (post, rest) = parsed(b"POST /a HTTP/1.1\r\nContent-Length: 4\r\n\r\nbodyrest").unwrap();
        assert_eq!((post.body.as_slice(), rest), (b"body".as_slice(), b"rest".as_slice()));
        let (chunked, rest) =
            parsed(b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1;x=y\r\nd\r\n0\r\n\r\n").unwrap();
        assert_eq!((chunked.body.as_slice(), rest), (b"abcd".as_slice(), b"\r\n".as_slice()));
    }

    #[test]
    fn incomplete_requests_are_refused() {
        for wrong in [
            "",
            "GET / HTTP/1.1\r\nHost: x",
            "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nbody",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nab",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz",
            "POST / HTTP/1.1\r\nContent-Length: 18446744073709551615\r\n\r\n",
            "\u{16}\u{3}\u{1}",
        ] {
            assert!(parsed(wrong.as_bytes()).is_none(), "{wrong}");
        }
    }

    #[test]
    fn responses_may_be_cut() {
        let told = |text: &str| response(text.as_bytes()).map(|told| (told.status, told.held, told.announced));
        assert_eq!(told("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbody"), Some((Some(200), 4, Some(9))));
        assert_eq!(told("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n5\r\nd"), Some((Some(200), 4, None)));
        assert_eq!(told("HTTP/1.0 404 No\r\n\r\nall"), Some((Some(404), 3, None)));
        assert_eq!(told("nothing"), None);
    }

    proptest! {
        #[test]
        fn no_message_panics(bytes in prop::collection::vec(prop::sample::select(b"0aF\r\n;: /\x80".to_vec()), 0..60)) {
            for start in ["", "GET / HTTP/1.1\r\n", "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.1 200 OK\r\n"] {
                let message = [start.as_bytes(), &bytes].concat();
                let _ = parsed(&message);
                let _ = response(&message);
            }
        }
    }
}
