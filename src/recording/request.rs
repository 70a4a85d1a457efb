//! One recorded request, and the words it is made of. Refuses, at construction, whatever would change the meaning of an HTTP/1.1
//! message when written into one: spaces and control characters in a target, line ends in a header.

use std::borrow::Cow;
use std::fmt;
use std::time::Duration;

use super::text::percent::push_encoded;

/// Nanoseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixNanos(pub i64);

/// A request as it arrived.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// When it arrived; [`Meta`](super::Meta) says what that means and how fine it is.
    pub at: UnixNanos,
    /// What it asks to be done.
    pub method: Method,
    /// The request target, exactly as sent.
    pub target: Target,
    /// The connection it came on or, without an ordinal, the client it came from.
    pub connection: Option<Box<str>>,
    /// Its place on the connection, rising.
    pub ordinal: Option<u64>,
    /// Headers in order, case and duplicates kept.
    pub headers: Vec<Header>,
    /// The body, empty if there was none or if it was not recorded.
    pub body: Vec<u8>,
    /// The status of the response.
    pub status: Option<u16>,
    /// How long the response took.
    pub duration: Option<Duration>,
    /// Bytes of the response's body.
    pub response_bytes: Option<u64>,
}

impl Request {
    /// The host it is for, with its port if it names one: that of an absolute target, else that of the Host header (RFC 9112, 3.2.2).
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        let absolute = self.target.absolute().map(|(authority, _)| authority);
        absolute.or_else(|| self.headers.iter().find(|header| header.is("host")).map(Header::value))
    }

    /// About how many bytes of memory it takes: with many small headers more than ten times as many as on the wire.
    #[must_use]
    pub fn memory(&self) -> usize {
        let owned = |word: &Cow<'static, str>| if let Cow::Owned(text) = word { block(text.capacity()) } else { 0 };
        let lists = [self.headers.capacity() * size_of::<Header>(), self.body.capacity()];
        let texts = [self.target.0.len(), self.connection.as_deref().map_or(0, str::len)];
        let headers = self.headers.iter().map(|header| owned(&header.name) + block(header.value.len()));
        let apart: usize = lists.into_iter().chain(texts).map(block).sum();
        size_of::<Self>() + owned(&self.method.0) + apart + headers.sum::<usize>()
    }

    /// About how many bytes it takes on the wire.
    #[must_use]
    pub fn size(&self) -> usize {
        let line = self.method.as_str().len() + self.target.as_str().len() + " HTTP/1.1\r\n\r\n ".len();
        let headers = self.headers.iter().map(|header| header.name().len() + header.value().len() + ": \r\n".len());
        line + headers.sum::<usize>() + self.body.len()
    }
}

/// A request method: an HTTP token (RFC 9110, 5.6.2).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Method(Cow<'static, str>);

impl Method {
    /// The longest method that is accepted, bytes.
    pub const MAX: usize = 32;

    /// `text` as a method, or `None` if it is no token.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        (text.len() <= Self::MAX && is_token(text.as_bytes())).then(|| Self(word(text, &METHODS)))
    }

    /// The method as written on the wire.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether the method is defined to change nothing on the server and is cheap to repeat (RFC 9110, 9.2.1): what a replay
    /// may send without being asked.
    #[must_use]
    pub fn is_safe(&self) -> bool {
        matches!(&*self.0, "GET" | "HEAD" | "OPTIONS")
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A request target without spaces and control characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target(Box<str>);

impl Target {
    /// `text` as a target, or `None` if it is empty or cannot stand in a request line.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let fits = !text.is_empty() && every_byte(text, |byte| byte > b' ' && byte != 0x7f);
        fits.then(|| Self(text.into()))
    }

    /// As [`new`](Self::new), for bytes of a log: those above ASCII are percent-encoded, which a server reads as the same target.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        match str::from_utf8(bytes) {
            Ok(text) if text.is_ascii() => Self::new(text),
            _ => Self::new(&percent_encode(bytes)),
        }
    }

    /// The target as written on the wire.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Authority and rest (perhaps empty) of a target in absolute form, as a client sends it to a proxy (RFC 9112, 3.2.2).
    #[must_use]
    pub fn absolute(&self) -> Option<(&str, &str)> {
        let (scheme, rest) = self.0.split_once("://")?;
        if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
            return None;
        }
        Some(rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len())))
    }
}

/// Every byte above ASCII as `%XX`.
fn percent_encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 3);
    for byte in bytes {
        if byte.is_ascii() {
            text.push(char::from(*byte));
        } else {
            push_encoded(&mut text, *byte);
        }
    }
    text
}

/// A header line whose name is a token and whose value has no line ends.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Header {
    name: Cow<'static, str>,
    value: Box<str>,
}

impl Header {
    /// A header, or `None` if name or value cannot stand in a header line (RFC 9110, 5.5).
    #[must_use]
    pub fn new(name: &str, value: &str) -> Option<Self> {
        let fits = is_token(name.as_bytes()) && every_byte(value, |byte| (byte >= b' ' && byte != 0x7f) || byte == b'\t');
        fits.then(|| Self { name: word(name, &NAMES), value: value.into() })
    }

    /// The name, in the case it was sent.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The value.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }

    /// Whether the name is `name`, in any case.
    #[must_use]
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }

    /// Whether it is about one hop (RFC 9110, 7.6.1), or whoever sends the request computes it anew: it says nothing on another
    /// connection. `Expect` would make the sender wait for a 100.
    #[must_use]
    pub fn is_of_connection(&self) -> bool {
        OF_CONNECTION.iter().any(|name| self.is(name))
    }
}

const OF_CONNECTION: [&str; 9] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "content-length",
    "transfer-encoding",
    "te",
    "trailer",
    "expect",
    "http2-settings",
];

/// What so many bytes take that are stored apart: glibc adds 8, and gives multiples of 16 from 32 on.
const fn block(bytes: usize) -> usize {
    match bytes {
        0 => 0,
        1..=24 => 32,
        25.. => (bytes + 8).next_multiple_of(16),
    }
}

/// Methods that need no memory of their own.
const METHODS: [&str; 7] = ["GET", "POST", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE"];
/// Names of headers that need none, as logs and most clients write them.
const NAMES: [&str; 10] = [
    "Host",
    "User-Agent",
    "Referer",
    "Cookie",
    "Accept",
    "Accept-Encoding",
    "Accept-Language",
    "Content-Type",
    "Content-Length",
    "Connection",
];

/// A word that nearly every request has is not stored with each.
fn word(text: &str, common: &[&'static str]) -> Cow<'static, str> {
    common.iter().find(|word| **word == text).map_or_else(|| Cow::Owned(text.to_owned()), |word| Cow::Borrowed(*word))
}

/// Whether every byte fits. Looks at all of them even if one does not: so the compiler can look at many at once.
pub(super) fn every_byte(text: &str, fits: impl Fn(u8) -> bool) -> bool {
    text.bytes().fold(true, |every, byte| every & fits(byte))
}

fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_can_smuggle_a_second_request() {
        assert_eq!(Method::new("GET / HTTP/1.1\r\n\r\nPOST"), None);
        assert_eq!(Method::new(""), None);
        assert_eq!(Target::new("/a b"), None);
        assert_eq!(Target::new("/a\r\nHost: b"), None);
        assert_eq!(Target::new(""), None);
        assert_eq!(Header::new("A", "b\r\nC: d"), None);
        assert_eq!(Header::new("A:", "b"), None);
        assert_eq!(Header::new("", "b"), None);
        assert!(Header::new("X-Tab", "a\tb").is_some());
    }

    #[test]
    fn an_absolute_target_tells_its_host() {
        let split = |text: &str| Target::new(text).unwrap().absolute().map(|(host, rest)| (host.to_owned(), rest.to_owned()));
        assert_eq!(split("http://a:8080/b?c"), Some(("a:8080".into(), "/b?c".into())));
        assert_eq!(split("HTTPS://a"), Some(("a".into(), String::new())));
        assert_eq!(split("http://a?b"), Some(("a".into(), "?b".into())));
        assert_eq!(split("/login?next=http://a/"), None);
        assert_eq!(split("*"), None);
    }

    #[test]
    fn bytes_above_ascii_are_percent_encoded() {
        assert_eq!(Target::from_bytes(b"/caf\xe9?x").map(|target| target.as_str().to_owned()), Some("/caf%E9?x".into()));
        assert_eq!(Target::from_bytes(b"\x16\x03\x01"), None);
    }
}
