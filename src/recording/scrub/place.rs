//! Where in a request secrets are: which headers are kept, and what a body is made of. Headers go by a list of what is harmless, and
//! everything else in them is secret, as is a body that is neither a form nor JSON. Fields of queries, forms and JSON go by name and look:
//! what neither gives away stays.

use std::ops::Range;

use super::super::request::{Header, Request};
use super::detect::{TextKind, detect};
use super::json::json;
use super::secret::{Coding, Found, Secret};
use super::url::{field_name, form, parts, url, value};

/// How a header is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Policy {
    /// Kept, but for what is a secret by its look.
    Keep,
    /// A URL.
    Url,
    /// `name=value; name=value`: each value apart, so that the same cookie stays the same among others.
    Cookies,
    /// A scheme, then something secret.
    Credentials,
    /// Secret, each part between commas apart.
    Hide,
}

/// Words of an Authorization header that are no secret (IANA's registry of schemes, and three that are common).
const SCHEMES: [&[u8]; 12] = [
    b"basic",
    b"bearer",
    b"digest",
    b"dpop",
    b"hoba",
    b"negotiate",
    b"ntlm",
    b"privatetoken",
    b"vapid",
    b"token",
    b"apikey",
    b"aws4-hmac-sha256",
];
/// The longest name of a header that is kept.
const LONGEST_NAME: usize = 32;

fn policy(name: &str) -> Policy {
    let mut lower = [0; LONGEST_NAME];
    let Some(lower) = lower.get_mut(..name.len()) else { return Policy::Hide };
    lower.copy_from_slice(name.as_bytes());
    lower.make_ascii_lowercase();
    match &*lower {
        b"referer" | b"origin" => Policy::Url,
        b"cookie" | b"set-cookie" => Policy::Cookies,
        b"authorization" | b"proxy-authorization" => Policy::Credentials,
        // Words of the protocol. The whole User-Agent is among them: applications choose what to serve by the products in it, so that
        // a class would change what is measured, and among many clients it tells nobody apart. And so is what a proxy says about
        // itself: without its `https`, an application may redirect every request.
        b"host"
        | b"user-agent"
        | b"accept"
        | b"accept-charset"
        | b"accept-datetime"
        | b"accept-encoding"
        | b"accept-language"
        | b"accept-ranges"
        | b"if-match"
        | b"if-none-match"
        | b"if-modified-since"
        | b"if-unmodified-since"
        | b"if-range"
        | b"sec-fetch-dest"
        | b"sec-fetch-mode"
        | b"sec-fetch-site"
        | b"sec-fetch-user"
        | b"connection"
        | b"content-type"
        | b"content-length"
        | b"content-encoding"
        | b"transfer-encoding"
        | b"range"
        | b"cache-control"
        | b"pragma"
        | b"upgrade"
        | b"upgrade-insecure-requests"
        | b"x-requested-with"
        | b"x-http-method-override"
        | b"x-forwarded-proto"
        | b"x-forwarded-host"
        | b"x-forwarded-port"
        | b"te"
        | b"expect"
        | b"keep-alive" => Policy::Keep,
        _ => Policy::Hide,
    }
}

/// Appends every secret in a header's value.
pub(in crate::recording) fn header(name: &str, value: &[u8], found: &mut Vec<Found>) {
    match policy(name) {
        Policy::Keep => detect(value, TextKind::Header, found),
        Policy::Url => url(value, found),
        Policy::Cookies => {
            for cookie in parts(value, 0, b";") {
                let equals = memchr::memchr(b'=', &value[cookie.clone()]).map(|at| cookie.start + at);
                if let Some(equals) = equals {
                    field_name(value, cookie.start..equals, found);
                }
                push(value, equals.map_or(cookie.start, |equals| equals + 1)..cookie.end, Secret::Cookie, found);
            }
        }
        Policy::Credentials => {
            let space = memchr::memchr(b' ', value).unwrap_or(0);
            let known = SCHEMES.iter().any(|scheme| value[..space].eq_ignore_ascii_case(scheme));
            push(value, if known { space + 1 } else { 0 }..value.len(), Secret::Credentials, found);
        }
        Policy::Hide => parts(value, 0, b",").for_each(|part| push(value, part, Secret::Header, found)),
    }
}

/// Appends a range without the blanks around it, if anything is left.
fn push(text: &[u8], range: Range<usize>, secret: Secret, found: &mut Vec<Found>) {
    let part = &text[range.clone()];
    let start = range.start + (part.len() - part.trim_ascii_start().len());
    let range = start..start + part.trim_ascii().len();
    if !range.is_empty() {
        found.push(Found { range, secret, coding: Coding::Percent });
    }
}

/// What the headers say a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::recording) enum Content {
    /// `a=b&c=d`
    Form,
    /// JSON.
    Json,
    /// Anything else, also a form or JSON that is compressed.
    Opaque,
}

impl Content {
    /// What `request`'s body is.
    pub(in crate::recording) fn of(request: &Request) -> Self {
        let first = |name| request.headers.iter().find(|header| header.is(name)).map_or("", Header::value);
        let kind = first("content-type").split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match kind.as_str() {
            _ if !["", "identity"].contains(&first("content-encoding").trim()) => Self::Opaque,
            "application/x-www-form-urlencoded" => Self::Form,
            other if other == "application/json" || other.ends_with("+json") => Self::Json,
            _ => Self::Opaque,
        }
    }
}

/// Appends every secret in a body: all of it if we do not know what is.
pub(in crate::recording) fn body(text: &[u8], content: Content, found: &mut Vec<Found>) {
    let understood = match content {
        Content::Form => {
            form(text, found);
            true
        }
        Content::Json => json(text, 0, found),
        Content::Opaque => false,
    };
    if !understood && !text.is_empty() {
        found.clear();
        found.push(Found { range: 0..text.len(), secret: Secret::Body, coding: Coding::Opaque });
    }
}

/// Appends what tells who a client is. Connections are told apart by numbers and hashes of all kinds.
pub(in crate::recording) fn connection(name: &[u8], found: &mut Vec<Found>) {
    detect(name, TextKind::Value, found);
    found.retain(|one| matches!(one.secret, Secret::Email | Secret::Address));
}

/// Appends every secret in what a recording says about itself.
pub(in crate::recording) fn words(text: &[u8], found: &mut Vec<Found>) {
    value(text, 0, found);
}

/// Appends every secret in a request target.
pub(in crate::recording) fn target(text: &[u8], found: &mut Vec<Found>) {
    url(text, found);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets<'a>(name: &str, value: &'a str) -> Vec<(Secret, &'a str)> {
        let mut found = Vec::new();
        header(name, value.as_bytes(), &mut found);
        found.into_iter().map(|one| (one.secret, &value[one.range])).collect()
    }

    #[test]
    fn what_is_not_known_is_secret() {
        assert_eq!(secrets("X-Api-Key", "abc"), [(Secret::Header, "abc")]);
        assert_eq!(
            secrets("X-Forwarded-For", "203.0.113.7, 10.0.0.1"),
            [(Secret::Header, "203.0.113.7"), (Secret::Header, "10.0.0.1")]
        );
        assert_eq!(secrets(&"Accept".repeat(20), "a"), [(Secret::Header, "a")]);
        assert_eq!(secrets("Acceptor", "a"), [(Secret::Header, "a")]);
        assert_eq!(secrets("X-Empty", " ,"), []);
        for name in ["Accept-Token", "If-Secret", "If", "Sec-Fetch-Key"] {
            assert_eq!(secrets(name, "hunter2"), [(Secret::Header, "hunter2")], "{name}");
        }
        for (name, value) in [
            ("HOST", "10.0.0.1:8000"),
            ("Accept-Language", "de-DE,de;q=0.9"),
            ("If-None-Match", "W/\"5f2b-5c8a9d3f4e2c0aaf0123\""),
            ("sec-fetch-mode", "navigate"),
            ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64) Chrome/120.0.0.0"),
            ("X-Forwarded-Proto", "https"),
        ] {
            assert_eq!(secrets(name, value), [], "{name}");
        }
    }

    #[test]
    fn names_of_cookies_and_schemes_are_kept() {
        let cookies = secrets("Cookie", "sid=abc; theme=dark==;flag; e=");
        assert_eq!(cookies, ["abc", "dark==", "flag"].map(|value| (Secret::Cookie, value)));
        let cookies = secrets("Cookie", "user_ann@example.org=1; AKIAIOSFODNN7EXAMPLE=2; ann%40example.org=");
        let names = [
            (Secret::Email, "user_ann@example.org"),
            (Secret::Key, "AKIAIOSFODNN7EXAMPLE"),
            (Secret::Email, "ann%40example.org"),
        ];
        assert!(names.iter().all(|name| cookies.contains(name)) && cookies.len() == 5, "{cookies:?}");
        assert_eq!(secrets("authorization", "Bearer a b"), [(Secret::Credentials, "a b")]);
        assert_eq!(secrets("Authorization", "s3cret a"), [(Secret::Credentials, "s3cret a")]);
        assert_eq!(secrets("Authorization", "Basic"), [(Secret::Credentials, "Basic")]);
        assert_eq!(secrets("Referer", "https://e.org/a?token=b"), [(Secret::Field, "b")]);
    }

    #[test]
    fn a_body_that_is_not_understood_is_secret_as_a_whole() {
        let secrets = |text: &[u8], content| {
            let mut found = Vec::new();
            body(text, content, &mut found);
            found.into_iter().map(|one| (one.secret, one.range)).collect::<Vec<_>>()
        };
        assert_eq!(secrets(b"a=1&token=xy", Content::Form), [(Secret::Field, 10..12)]);
        assert_eq!(secrets(b"ann%40example.org=1", Content::Form), [(Secret::Email, 0..17)]);
        assert_eq!(secrets(b"a=1&token=\xff", Content::Form), [(Secret::Field, 10..11)]);
        assert_eq!(secrets(b"{\"token\":", Content::Json), [(Secret::Body, 0..9)]);
        assert_eq!(secrets(b"abc", Content::Opaque), [(Secret::Body, 0..3)]);
        assert_eq!(secrets(b"", Content::Opaque), []);
    }
}
