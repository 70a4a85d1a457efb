//! nginx's variables. `$request_time` starts at the request's first byte; the time is that of the end.

use super::{Field, LogFormat, LogFormatError, Moment, NGINX_CLOCK, Needs, Time, Token, assemble, check, directive};
use crate::recording::text::escape::Escapes;

const NEEDS: Needs =
    Needs { request: "$request, or $request_method and $request_uri,", time: "$msec, $time_iso8601 or $time_local" };

pub(super) fn compile(text: &str) -> Result<LogFormat, LogFormatError> {
    let (format, escape) = directive::nginx(text);
    let escapes = match escape {
        Some("json") => Escapes::Json,
        Some("none") => Escapes::None,
        // A format that writes objects was hardly meant for anything else.
        None if format.starts_with('{') => Escapes::Json,
        Some(_) | None => Escapes::Nginx,
    };
    let format = check(assemble(tokens(&format)?)?, escapes, &NEEDS)?;
    Ok(LogFormat { moment: Moment::End, source: "nginx-log", note: Some(NGINX_CLOCK), ..format })
}

fn tokens(format: &str) -> Result<Vec<Token>, LogFormatError> {
    let mut tokens = Vec::new();
    let mut rest = format;
    while let Some(at) = rest.find('$') {
        tokens.push(Token::Text(rest[..at].into()));
        let behind = &rest[at + 1..];
        let (name, after) = if let Some(braced) = behind.strip_prefix('{') {
            braced.split_once('}').ok_or_else(|| LogFormatError::Unfinished(rest[at..].to_owned()))?
        } else {
            let is_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
            behind.split_at(behind.find(|letter| !is_name(letter)).unwrap_or(behind.len()))
        };
        tokens.push(if name.is_empty() { Token::Text(b"$".into()) } else { Token::Value(field(name)) });
        rest = after;
    }
    tokens.push(Token::Text(rest.into()));
    Ok(tokens)
}

fn field(name: &str) -> Field {
    match name {
        "remote_addr" => Field::Client,
        "remote_port" => Field::ClientPort,
        "request" => Field::RequestLine,
        "request_method" => Field::Method,
        "request_uri" => Field::Target,
        "uri" | "document_uri" => Field::Path,
        "args" | "query_string" => Field::Query,
        "is_args" => Field::QueryMark,
        "server_protocol" => Field::Protocol,
        "status" => Field::Status,
        "body_bytes_sent" => Field::BodyBytes,
        "request_time" => Field::Took(1_000_000_000),
        "pid" => Field::Process,
        "connection" => Field::Connection,
        "connection_requests" => Field::Ordinal,
        "request_body" => Field::Body,
        "content_type" => Field::Header("Content-Type".into()),
        "content_length" => Field::Header("Content-Length".into()),
        "time_local" => Field::Time(Time::LogDate),
        "time_iso8601" => Field::Time(Time::Iso),
        "msec" => Field::Time(Time::UnixWithMillis),
        _ => name.strip_prefix("http_").map_or(Field::Skip, |header| Field::Header(header_name(header).into())),
    }
}

/// `user_agent` as the header it was.
fn header_name(variable: &str) -> String {
    let words = variable.split('_').map(|word| {
        let (first, rest) = word.split_at_checked(1).unwrap_or((word, ""));
        first.to_ascii_uppercase() + rest
    });
    words.collect::<Vec<_>>().join("-")
}
