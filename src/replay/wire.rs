//! The bytes of a request as it goes over the wire: recorded headers in their order, minus those that belong to the recorded
//! connection, plus ours.

use std::io::Write;

use super::options::{HostRule, PlanOptions};
use crate::recording::{Header, Request};

/// How connections to the application are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reuse {
    /// One request a connection, as nginx talks to an upstream unless told otherwise.
    PerRequest,
    /// Connections stay open for further requests.
    KeepAlive,
}

/// Headers about one hop (RFC 9110, 7.6.1), or that are computed anew. `Expect` would make us wait for a 100.
const REPLACED: [&str; 10] = [
    "host",
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

/// Appends the request to `out`. A recorded Host is kept; `host` stands in where none was recorded.
pub(super) fn encode(request: &Request, options: &PlanOptions, out: &mut Vec<u8>) {
    let (HostRule::Default(host) | HostRule::Always(host)) = &options.host;
    let host = request.headers.iter().find(|header| header.is("host")).map_or(host.as_str(), |header| header.value());
    let sent = request.headers.iter().filter(|header| !REPLACED.iter().any(|name| header.is(name)));
    put(out, format_args!("{} {} HTTP/1.1\r\nHost: {host}\r\n", request.method, request.target.as_str()));
    for header in sent {
        put(out, format_args!("{}: {}\r\n", header.name(), header.value()));
    }
    if !request.body.is_empty() {
        put(out, format_args!("Content-Length: {}\r\n", request.body.len()));
    }
    let connection = match options.reuse {
        Reuse::PerRequest => "close",
        Reuse::KeepAlive => "keep-alive",
    };
    put(out, format_args!("Connection: {connection}\r\n\r\n"));
    out.extend_from_slice(&request.body);
}

/// Whether a header is ours to write, so that nobody can set it. The host is not.
pub(super) fn is_computed(header: &Header) -> bool {
    !header.is("host") && REPLACED.iter().any(|name| header.is(name))
}

fn put(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).expect("invariant: a vector takes every write");
}
