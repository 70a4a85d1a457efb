//! Request heads in, answers out, as bytes. Refuses what is malformed, too long, or has a body of unknown length. Touches no socket.

use std::fmt::Write as _;

/// The longest request head.
pub(super) const HEAD_MAX: usize = 16 << 10;
/// The longest request body; it is read and forgotten.
const BODY_MAX: u64 = 64 << 20;
const HEADERS_MAX: usize = 64;

/// What a worker has to know about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Path and query, as sent.
    pub(super) target: String,
    /// Whether the client wants to use the connection again.
    pub(super) keep_alive: bool,
    /// HEAD is answered without a body.
    pub(super) wants_body: bool,
    /// Bytes of body that follow the head.
    pub(super) body: u64,
    /// Bytes of the head itself.
    pub(super) length: usize,
}

/// A request that is answered with this status before the connection is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal(pub(super) u16);

/// Parses the head at the start of `bytes`; `None` if it is not complete yet.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<Head>, Refusal> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    let length = match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) if length <= HEAD_MAX => length,
        Ok(httparse::Status::Partial) if bytes.len() < HEAD_MAX => return Ok(None),
        Ok(_) | Err(httparse::Error::TooManyHeaders) => return Err(Refusal(431)),
        Err(_) => return Err(Refusal(400)),
    };
    let mut body = None;
    let mut keep_alive = request.version == Some(1);
    for header in request.headers.iter() {
        if header.name.eq_ignore_ascii_case("content-length") {
            let announced = content_length(header.value)?;
            if body.replace(announced).is_some_and(|before| before != announced) {
                return Err(Refusal(400));
            }
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(Refusal(501));
        } else if header.name.eq_ignore_ascii_case("connection") {
            keep_alive = (keep_alive || has_token(header.value, b"keep-alive")) && !has_token(header.value, b"close");
        }
    }
    Ok(Some(Head {
        target: request.path.unwrap_or("/").to_owned(),
        keep_alive,
        wants_body: request.method != Some("HEAD"),
        body: body.unwrap_or(0),
        length,
    }))
}

fn content_length(value: &[u8]) -> Result<u64, Refusal> {
    let digits = str::from_utf8(value).ok().map(str::trim).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let length = digits.and_then(|digits| digits.parse::<u64>().ok()).ok_or(Refusal(400))?;
    if length > BODY_MAX { Err(Refusal(413)) } else { Ok(length) }
}

fn has_token(value: &[u8], token: &[u8]) -> bool {
    value.split(|byte| *byte == b',').any(|part| part.trim_ascii().eq_ignore_ascii_case(token))
}

/// A whole answer: head and `body`, or the head alone where the client asked for that.
pub(super) fn answer(status: u16, body: &[u8], keep_alive: bool, wants_body: bool) -> Vec<u8> {
    let connection = if keep_alive { "keep-alive" } else { "close" };
    let mut head = String::with_capacity(128);
    write!(
        head,
        "HTTP/1.1 {status} {}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: {connection}\r\n\r\n",
        reason(status),
        body.len(),
    )
    .expect("invariant: writing to a String succeeds");
    let mut bytes = head.into_bytes();
    if wants_body {
        bytes.extend_from_slice(body);
    }
    bytes
}

const fn reason(status: u16) -> &'static str {
    match status {
        200..=299 => "OK",
        300..=399 => "Elsewhere",
        400..=499 => "Refused",
        500..=u16::MAX => "Failed",
        0..=199 => "Unusual",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn head(text: &str) -> Head {
        parse(text.as_bytes()).unwrap().unwrap()
    }

    #[test]
    fn http_1_1_is_kept_alive_unless_it_says_close() {
        assert!(head("GET / HTTP/1.1\r\n\r\n").keep_alive);
        assert!(!head("GET / HTTP/1.1\r\nConnection: Close\r\n\r\n").keep_alive);
        assert!(!head("GET / HTTP/1.0\r\n\r\n").keep_alive);
        assert!(head("GET / HTTP/1.0\r\nConnection: x, keep-alive\r\n\r\n").keep_alive);
    }

    #[test]
    fn pipelined_bytes_stay_behind_the_first_head() {
        let first = "POST /a?b HTTP/1.1\r\nContent-Length: 3\r\n\r\n";
        let parsed = head(&format!("{first}xyzGET / HTTP/1.1\r\n\r\n"));
        assert_eq!((parsed.target.as_str(), parsed.body, parsed.length), ("/a?b", 3, first.len()));
    }

    #[test]
    fn what_cannot_be_served_is_refused() {
        let refusal = |text: &str| parse(text.as_bytes()).unwrap_err().0;
        assert_eq!(refusal("GET\r\n\r\n"), 400);
        assert_eq!(refusal("GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"), 400);
        assert_eq!(refusal("GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n"), 400);
        assert_eq!(refusal("GET / HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n"), 413);
        assert_eq!(refusal("GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"), 501);
        assert_eq!(refusal(&format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(HEAD_MAX))), 431);
        assert_eq!(refusal(&format!("GET /{}", "a".repeat(HEAD_MAX))), 431);
        assert_eq!(refusal(&format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(HEADERS_MAX + 1))), 431);
    }

    #[test]
    fn head_is_answered_without_a_body_and_with_its_length() {
        let text = String::from_utf8(answer(200, b"hello", false, false)).unwrap();
        assert!(text.contains("Content-Length: 5\r\n") && text.ends_with("Connection: close\r\n\r\n"), "{text}");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
            let _ = parse(&bytes);
        }
    }
}
