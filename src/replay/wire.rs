//! The bytes of a request as it goes over the wire: recorded headers in their order, minus those that belong to the recorded
//! connection, changed as the user asks, plus ours.

use std::borrow::Cow;
use std::io::Write;
use std::ops::Range;

use memchr::memchr_iter;

use super::options::{HostRule, PlanOptions, Rewrite};
use crate::recording::{Header, Request};

/// How connections to the application are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reuse {
    /// One request a connection, as nginx talks to an upstream unless told otherwise.
    PerRequest,
    /// Connections stay open for further requests.
    KeepAlive,
}

/// Methods whose requests tell their length even if it is zero (RFC 9110, 8.6).
const WITH_LENGTH: [&str; 3] = ["POST", "PUT", "PATCH"];

/// Appends the request to `out`.
pub(super) fn encode(request: &Request, options: &PlanOptions, out: &mut Vec<u8>) {
    let host = host(request, options);
    put(out, format_args!("{} {} HTTP/1.1\r\nHost: {host}\r\n", request.method, target(request)));
    let recorded = request.headers.iter().filter(|header| is_kept(header, &options.rewrite));
    for header in recorded.chain(&options.rewrite.set).filter(|header| !is_replaced(header)) {
        put(out, format_args!("{}: {}\r\n", header.name(), header.value()));
    }
    if !request.body.is_empty() || WITH_LENGTH.contains(&request.method.as_str()) {
        put(out, format_args!("Content-Length: {}\r\n", request.body.len()));
    }
    let connection = match options.reuse {
        Reuse::PerRequest => "close",
        Reuse::KeepAlive => "keep-alive",
    };
    put(out, format_args!("Connection: {connection}\r\n\r\n"));
    out.extend_from_slice(&request.body);
}

/// Where in the bytes of an encoded request the value of its first Cookie header lies. A client sends no second one (RFC 6265, 5.4).
pub(super) fn cookie(bytes: &[u8]) -> Option<Range<usize>> {
    const NAME: &[u8] = b"cookie: ";
    let mut from = 0;
    for feed in memchr_iter(b'\n', bytes) {
        let line = bytes[from..feed].strip_suffix(b"\r")?;
        if line.is_empty() {
            return None;
        }
        if line.get(..NAME.len()).is_some_and(|name| name.eq_ignore_ascii_case(NAME)) {
            return Some(from + NAME.len()..from + line.len());
        }
        from = feed + 1;
    }
    None
}

/// In origin form: in absolute form, a proxy at the target would send the request to another host.
fn target(request: &Request) -> Cow<'_, str> {
    match request.target.absolute() {
        None => request.target.as_str().into(),
        // Of the server as a whole (RFC 9112, 3.2.4).
        Some((_, "")) if request.method.as_str() == "OPTIONS" => "*".into(),
        Some((_, rest)) if rest.starts_with('/') => rest.into(),
        Some((_, rest)) => format!("/{rest}").into(),
    }
}

fn host<'a>(request: &'a Request, options: &'a PlanOptions) -> &'a str {
    let usual = match &options.host {
        HostRule::Always(name) => return name,
        HostRule::Default(name) => name,
    };
    let recorded = request.headers.iter().filter(|header| is_kept(header, &options.rewrite));
    let mut hosts = options.rewrite.set.iter().chain(recorded).filter(|header| header.is("host"));
    match hosts.next() {
        Some(host) => host.value(),
        None if options.rewrite.remove.iter().any(|name| name.eq_ignore_ascii_case("host")) => usual,
        None => absolute_host(request).unwrap_or(usual),
    }
}

/// The host that a target in absolute form names, without a user.
fn absolute_host(request: &Request) -> Option<&str> {
    let (authority, _) = request.target.absolute()?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    (!host.is_empty()).then_some(host)
}

fn is_kept(header: &Header, rewrite: &Rewrite) -> bool {
    !rewrite.remove.iter().any(|name| header.is(name)) && !rewrite.set.iter().any(|set| header.is(set.name()))
}

fn is_replaced(header: &Header) -> bool {
    header.is("host") || header.is_of_connection()
}

fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("invariant: a vector takes every write");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::read;

    fn encoded(line: &str, options: &PlanOptions) -> String {
        let recording = read(line.as_bytes()).unwrap();
        let mut out = Vec::new();
        encode(&recording.requests[0], options, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn header(name: &str, value: &str) -> Header {
        Header::new(name, value).unwrap()
    }

    #[test]
    fn headers_are_set_and_removed() {
        let line =
            r#"{"t":1,"m":"GET","u":"/","h":[["Host","a"],["X-One","1"],["x-one","2"],["Authorization","b"],["Accept","c"]]}"#;
        let rewrite = Rewrite { set: vec![header("X-ONE", "3"), header("X-Two", "4")], remove: vec!["authorization".into()] };
        let options = PlanOptions { rewrite, ..PlanOptions::new("usual", Reuse::KeepAlive) };
        assert_eq!(
            encoded(line, &options),
            "GET / HTTP/1.1\r\nHost: a\r\nAccept: c\r\nX-ONE: 3\r\nX-Two: 4\r\nConnection: keep-alive\r\n\r\n"
        );
    }

    #[test]
    fn there_is_one_host_and_the_strictest_rule_decides() {
        let line = r#"{"t":1,"m":"GET","u":"/","h":[["Host","recorded"]]}"#;
        let usual = PlanOptions::new("usual", Reuse::KeepAlive);
        let hosts = |options: &PlanOptions| {
            let text = encoded(line, options);
            assert_eq!(text.matches("Host: ").count(), 1);
            text.lines().nth(1).unwrap()["Host: ".len()..].to_owned()
        };
        assert_eq!(hosts(&usual), "recorded");
        let removed = Rewrite { remove: vec!["HOST".into()], ..Rewrite::default() };
        assert_eq!(hosts(&PlanOptions { rewrite: removed, ..usual.clone() }), "usual");
        let set = Rewrite { set: vec![header("host", "set")], ..Rewrite::default() };
        assert_eq!(hosts(&PlanOptions { rewrite: set.clone(), ..usual.clone() }), "set");
        assert_eq!(hosts(&PlanOptions { rewrite: set, host: HostRule::Always("always".into()), ..usual }), "always");
    }

    #[test]
    fn targets_in_absolute_form_are_sent_in_origin_form() {
        let options = PlanOptions::new("usual", Reuse::KeepAlive);
        let start = |line: &str| encoded(line, &options).lines().take(2).collect::<Vec<_>>().join(" ");
        let bare = |method: &str, target: &str| start(&format!(r#"{{"t":1,"m":"{method}","u":"{target}"}}"#));
        assert_eq!(bare("GET", "http://other:81/a?b"), "GET /a?b HTTP/1.1 Host: other:81");
        assert_eq!(bare("GET", "HTTPS://user:word@other"), "GET / HTTP/1.1 Host: other");
        assert_eq!(bare("GET", "http://other?b"), "GET /?b HTTP/1.1 Host: other");
        assert_eq!(bare("GET", "http:///a"), "GET /a HTTP/1.1 Host: usual");
        assert_eq!(bare("OPTIONS", "http://other"), "OPTIONS * HTTP/1.1 Host: other");
        let recorded = r#"{"t":1,"m":"GET","u":"http://other/a","h":[["Host","recorded"]]}"#;
        assert_eq!(start(recorded), "GET /a HTTP/1.1 Host: recorded");
    }

    #[test]
    fn a_body_is_expected_where_its_length_is_told() {
        let options = PlanOptions::new("a", Reuse::KeepAlive);
        let post =
            encoded(r#"{"t":1,"m":"POST","u":"/","h":[["Content-Length","7"],["Transfer-Encoding","chunked"]]}"#, &options);
        assert_eq!(post, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n");
        assert!(!encoded(r#"{"t":1,"m":"DELETE","u":"/"}"#, &options).contains("Content-Length"));
        assert!(encoded(r#"{"t":1,"m":"DELETE","u":"/","b":"eHl6"}"#, &options).contains("Content-Length: 3\r\n"));
    }

    #[test]
    fn the_cookie_is_found_in_the_head_only() {
        let options = PlanOptions::new("a", Reuse::KeepAlive);
        let text = encoded(r#"{"t":1,"m":"GET","u":"/","h":[["X-Cookie","no"],["COOKIE","a=1; b=2"],["Z","z"]]}"#, &options);
        assert_eq!(cookie(text.as_bytes()).map(|range| &text[range]), Some("a=1; b=2"));
        // The body is "\r\ncookie: c\r\n".
        let text = encoded(r#"{"t":1,"m":"POST","u":"/","b":"DQpjb29raWU6IGMNCg=="}"#, &options);
        assert!(text.ends_with("\r\ncookie: c\r\n"));
        assert_eq!(cookie(text.as_bytes()), None);
    }
}
