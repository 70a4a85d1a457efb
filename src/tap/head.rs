//! The head of a request: what is recorded of it, and where the request ends (RFC 9112, 6.3). Refuses what two readers could
//! understand differently: unlike a response of a server under load, and unlike a message of a capture, it is still on its way. Pure.

use super::reason::Reason;
use crate::recording::{Header, Method, Target};
use crate::replay::ResponseBody;

/// The longest head that is read, bytes.
pub(super) const MAX_HEAD: usize = 64 << 10;
/// The most header lines.
const MAX_HEADERS: usize = 128;

/// A request's head.
#[derive(Debug)]
pub(super) struct Head {
    /// What a recording holds of it; `None` where it is not text.
    pub(super) text: Option<Text>,
    /// What follows it.
    pub(super) body: Body,
    /// Whether the answer can have a body.
    pub(super) answer: ResponseBody,
}

/// A head in the words of a recording.
#[derive(Debug)]
pub(super) struct Text {
    pub(super) method: Method,
    pub(super) target: Target,
    pub(super) headers: Vec<Header>,
}

/// What follows a head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    /// This many bytes.
    Length(u64),
    /// Chunks.
    Chunked,
}

impl Head {
    /// Reads a whole head.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Reason> {
        let mut lines = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut head = httparse::Request::new(&mut lines);
        let Ok(httparse::Status::Complete(_)) = head.parse(bytes) else { return Err(Reason::Malformed) };
        let (Some(method), Some(target), Some(minor)) = (head.method, head.path, head.version) else {
            return Err(Reason::Malformed);
        };
        if method == "CONNECT" {
            return Err(Reason::Upgraded);
        }
        let text = || {
            let headers = head.headers.iter().map(|line| Header::new(line.name, str::from_utf8(line.value).ok()?));
            Some(Text { method: Method::new(method)?, target: Target::new(target)?, headers: headers.collect::<Option<_>>()? })
        };
        let answer = if method == "HEAD" { ResponseBody::Never } else { ResponseBody::Possible };
        Ok(Self { text: text(), body: Body::of(head.headers, minor)?, answer })
    }
}

impl Body {
    fn of(lines: &[httparse::Header<'_>], minor: u8) -> Result<Self, Reason> {
        let mut length: Option<u64> = None;
        let mut chunked = false;
        for line in lines {
            if line.name.eq_ignore_ascii_case("content-length") {
                let digits = !line.value.is_empty() && line.value.iter().all(u8::is_ascii_digit);
                let said = str::from_utf8(line.value).ok().filter(|_| digits).and_then(|text| text.parse().ok());
                let said = said.ok_or(Reason::Malformed)?;
                if length.is_some_and(|before| before != said) {
                    return Err(Reason::Malformed);
                }
                length = Some(said);
            } else if line.name.eq_ignore_ascii_case("transfer-encoding") {
                if chunked || minor == 0 || !line.value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                    return Err(Reason::Malformed);
                }
                chunked = true;
            }
        }
        match (chunked, length) {
            (true, Some(_)) => Err(Reason::Malformed),
            (true, None) => Ok(Self::Chunked),
            (false, length) => Ok(Self::Length(length.unwrap_or(0))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(lines: &str) -> Result<Body, Reason> {
        Head::parse(format!("POST / HTTP/1.1\r\n{lines}\r\n").as_bytes()).map(|head| head.body)
    }

    #[test]
    fn a_head_is_kept_as_it_was_sent() {
        let head = Head::parse(b"GET /a?b=c HTTP/1.1\r\nHost: x\r\nhost:  Y \r\nEmpty:\r\n\r\n").unwrap();
        let text = head.text.unwrap();
        assert_eq!((text.method.as_str(), text.target.as_str(), head.answer), ("GET", "/a?b=c", ResponseBody::Possible));
        let headers: Vec<_> = text.headers.iter().map(|header| (header.name(), header.value())).collect();
        assert_eq!(headers, [("Host", "x"), ("host", "Y"), ("Empty", "")]);
        assert!(
            Head::parse(b"HEAD / HTTP/1.0\r\nX: \xff\r\n\r\n")
                .is_ok_and(|head| head.answer == ResponseBody::Never && head.text.is_none())
        );
    }

    #[test]
    fn where_a_request_ends_is_never_guessed() {
        assert_eq!(body(""), Ok(Body::Length(0)));
        assert_eq!(body("Content-Length: 7\r\ncontent-length: 7\r\n"), Ok(Body::Length(7)));
        assert_eq!(body("Transfer-Encoding: Chunked\r\n"), Ok(Body::Chunked));
        for wrong in [
            "Content-Length: 7\r\nContent-Length: 8\r\n",
            "Content-Length: +7\r\n",
            "Content-Length: 7, 7\r\n",
            "Content-Length:\r\n",
            "Content-Length: 99999999999999999999\r\n",
            "Transfer-Encoding: gzip, chunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: 7\r\n",
            "X: a\r\n b\r\n",
        ] {
            assert_eq!(body(wrong), Err(Reason::Malformed), "{wrong}");
        }
        assert_eq!(Head::parse(b"CONNECT a:1 HTTP/1.1\r\n\r\n").unwrap_err(), Reason::Upgraded);
        assert_eq!(Head::parse(b"PRI * HTTP/2.0\r\n\r\n").unwrap_err(), Reason::Malformed);
    }
}
