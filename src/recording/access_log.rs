//! One line of an access log: Apache's and nginx's common and combined formats, Gunicorn's default, and a duration in microseconds
//! (`%D`, `%(D)s`) after the user agent. Refuses a line whose request was none, as scanners and TLS on a plain port leave behind.

use std::borrow::Cow;

use super::civil::number;
use super::percent::hex_byte;

/// What a line says, escapes still in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fields<'a> {
    pub(super) client: &'a [u8],
    /// Without its brackets.
    pub(super) date: &'a [u8],
    /// The request line.
    pub(super) request: &'a [u8],
    pub(super) status: u16,
    pub(super) response_bytes: Option<u64>,
    pub(super) referer: Option<&'a [u8]>,
    pub(super) agent: Option<&'a [u8]>,
    /// How long the response took.
    pub(super) micros: Option<u64>,
}

/// Takes `client ident user [date] "request" status bytes`, then `"referer" "agent"` if they follow, then a number; the rest of the
/// line is somebody's own addition and is passed over.
pub(super) fn parse(line: &[u8]) -> Option<Fields<'_>> {
    let mut rest = Cursor(line);
    let client = rest.until(b" ")?;
    rest.until(b" [")?;
    let date = rest.until(b"] ")?;
    let request = rest.quoted()?;
    let status = rest.word()?;
    let bytes = rest.word()?;
    let status = u16::try_from(number(status)?).ok().filter(|status| (100..=999).contains(status))?;
    let response_bytes = match bytes {
        b"-" => None,
        digits => Some(u64::try_from(number(digits)?).ok()?),
    };
    let referer = rest.quoted();
    let agent = referer.and_then(|_| rest.quoted());
    let micros = rest.word().and_then(number).and_then(|micros| u64::try_from(micros).ok());
    (!client.is_empty()).then_some(Fields { client, date, request, status, response_bytes, referer, agent, micros })
}

/// Method and target of an unescaped request line, or `None` if it is not one of HTTP/1 or later.
pub(super) fn split_request(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let first = memchr::memchr(b' ', line)?;
    let last = memchr::memrchr(b' ', line)?;
    let version = line[last + 1..].strip_prefix(b"HTTP/")?;
    let numbered = version.first().is_some_and(u8::is_ascii_digit) && version.len() <= 3;
    (first < last && numbered).then(|| (&line[..first], &line[first + 1..last]))
}

/// The value behind nginx's (`\xXX`) and Apache's (`\"`, `\\`, `\n`, `\xhh`) escapes.
pub(super) fn unescape(text: &[u8]) -> Cow<'_, [u8]> {
    let Some(first) = memchr::memchr(b'\\', text) else {
        return Cow::Borrowed(text);
    };
    let mut plain = text[..first].to_vec();
    let mut rest = &text[first..];
    loop {
        rest = match rest {
            [] => return Cow::Owned(plain),
            [b'\\', b'x', high, low, after @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                plain.push(hex_byte(*high, *low));
                after
            }
            [b'\\', escaped @ (b'"' | b'\\'), after @ ..] => {
                plain.push(*escaped);
                after
            }
            [b'\\', letter @ (b'b' | b'n' | b'r' | b't' | b'v' | b'f'), after @ ..] => {
                plain.push(control(*letter));
                after
            }
            [byte, after @ ..] => {
                plain.push(*byte);
                after
            }
        };
    }
}

fn control(letter: u8) -> u8 {
    match letter {
        b'b' => 0x08,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'v' => 0x0b,
        _ => 0x0c,
    }
}

/// What is left of a line.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    /// Everything before `end`, which is passed over.
    fn until(&mut self, end: &[u8]) -> Option<&'a [u8]> {
        let at = memchr::memmem::find(self.0, end)?;
        let value = &self.0[..at];
        self.0 = &self.0[at + end.len()..];
        Some(value)
    }

    /// Everything before the next space or the end.
    fn word(&mut self) -> Option<&'a [u8]> {
        let end = memchr::memchr(b' ', self.0).unwrap_or(self.0.len());
        let value = &self.0[..end];
        self.0 = self.0.get(end + 1..).unwrap_or(&[]);
        (!value.is_empty()).then_some(value)
    }

    /// A value between double quotes, and the space after them. A backslash guards the byte behind it.
    fn quoted(&mut self) -> Option<&'a [u8]> {
        let inner = self.0.strip_prefix(b"\"")?;
        let mut from = 0;
        loop {
            let at = from + memchr::memchr2(b'"', b'\\', inner.get(from..)?)?;
            if inner[at] == b'"' {
                self.0 = inner.get(at + 1..)?;
                self.0 = self.0.strip_prefix(b" ").unwrap_or(self.0);
                return Some(&inner[..at]);
            }
            from = at + 2;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const COMMON: &str = r#"10.0.0.1 - frank [17/May/2015:10:05:03 +0000] "GET /a?b=c HTTP/1.1" 200 203023"#;

    fn parsed(line: &str) -> Option<Fields<'_>> {
        parse(line.as_bytes())
    }

    #[test]
    fn common_combined_and_gunicorn() {
        let common = parsed(COMMON).unwrap();
        assert_eq!(common.client, b"10.0.0.1");
        assert_eq!(common.date, b"17/May/2015:10:05:03 +0000");
        assert_eq!(common.request, b"GET /a?b=c HTTP/1.1");
        assert_eq!((common.status, common.response_bytes), (200, Some(203_023)));
        assert_eq!((common.referer, common.agent, common.micros), (None, None, None));

        let combined = format!(r#"{COMMON} "http://x/" "Mozilla/5.0 (X11; \"q\")""#);
        let combined = parsed(&combined).unwrap();
        assert_eq!(combined.referer, Some(b"http://x/".as_slice()));
        assert_eq!(combined.agent, Some(br#"Mozilla/5.0 (X11; \"q\")"#.as_slice()));

        let gunicorn = format!(r#"{COMMON} "-" "curl/8" 15300 <1234>"#);
        assert_eq!(parsed(&gunicorn).unwrap().micros, Some(15_300));
        // nginx's $request_time is not a number of microseconds.
        let nginx = format!(r#"{COMMON} "-" "curl/8" 0.015 "extra""#);
        assert_eq!(parsed(&nginx).unwrap().micros, None);
    }

    #[test]
    fn a_user_may_contain_spaces_and_sizes_may_be_missing() {
        let line = r#"::1 - john doe [17/May/2015:10:05:03 +0000] "GET / HTTP/1.0" 304 -"#;
        let fields = parsed(line).unwrap();
        assert_eq!((fields.client, fields.response_bytes), (b"::1".as_slice(), None));
    }

    #[test]
    fn what_is_not_a_line_is_refused() {
        for line in [
            "",
            "hello",
            r#"- - - [17/May/2015:10:05:03 +0000] "GET / HTTP/1.1" abc 5"#,
            r#"1.2.3.4 - - [17/May/2015:10:05:03 +0000] "GET / HTTP/1.1"#,
            r#"1.2.3.4 - - [17/May/2015:10:05:03 +0000] "GET / HTTP/1.1" 200"#,
            r#"1.2.3.4 - - [17/May/2015:10:05:03 +0000] "GET / HTTP/1.1" 99 5"#,
            r"1.2.3.4 - - [17/May/2015:10:05:03 +0000] GET 200 5",
        ] {
            assert_eq!(parsed(line), None, "{line}");
        }
    }

    #[test]
    fn request_lines() {
        assert_eq!(split_request(b"GET /a HTTP/1.1"), Some((b"GET".as_slice(), b"/a".as_slice())));
        assert_eq!(split_request(b"GET /a HTTP/2"), Some((b"GET".as_slice(), b"/a".as_slice())));
        for wrong in ["-", "", "GET /", "GET HTTP/1.1", "\x16\x03\x01", "GET / HTTP/x", "GET / FTP/1.1"] {
            assert_eq!(split_request(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn escapes_of_nginx_and_apache() {
        assert_eq!(&*unescape(br#"a\x22b\xE9\"\\\n\t\q\"#), b"a\"b\xe9\"\\\n\t\\q\\");
        assert!(matches!(unescape(b"plain"), Cow::Borrowed(_)));
        assert_eq!(&*unescape(br"\x1"), br"\x1");
    }

    proptest! {
        #[test]
        fn no_line_panics(line in prop::collection::vec(prop::sample::select(b"ab \"\\[]x0:-/".to_vec()), 0..120)) {
            let _ = parse(&line);
            let _ = unescape(&line);
            let _ = split_request(&line);
        }
    }
}
