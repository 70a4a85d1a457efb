//! Gunicorn's atoms. The time is that of the end.

use super::{Field, GUNICORN_CLOCK, LogFormat, LogFormatError, Moment, Needs, Time, Token, assemble, check, directive};
use crate::recording::text::escape::Escapes;

const NEEDS: Needs = Needs { request: "%(r)s", time: "%(t)s" };

pub(super) fn compile(text: &str) -> Result<LogFormat, LogFormatError> {
    let format = check(assemble(tokens(&directive::gunicorn(text))?)?, Escapes::Gunicorn, &NEEDS)?;
    Ok(LogFormat { moment: Moment::End, source: "gunicorn-log", note: Some(GUNICORN_CLOCK), ..format })
}

fn tokens(format: &str) -> Result<Vec<Token>, LogFormatError> {
    let mut tokens = Vec::new();
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        tokens.push(Token::Text(rest[..at].into()));
        let unfinished = || LogFormatError::Unfinished(rest[at..].to_owned());
        let behind = &rest[at + 1..];
        if let Some(after) = behind.strip_prefix('%') {
            tokens.push(Token::Text(b"%".into()));
            rest = after;
            continue;
        }
        let (atom, after) = behind.strip_prefix('(').and_then(|open| open.split_once(')')).ok_or_else(unfinished)?;
        let conversion = after.chars().next().filter(char::is_ascii_alphabetic).ok_or_else(unfinished)?;
        match atom {
            "t" => tokens.extend([Token::Text(b"[".into()), Token::Value(Field::Time(Time::LogDate)), Token::Text(b"]".into())]),
            _ => tokens.push(Token::Value(field(atom))),
        }
        rest = &after[conversion.len_utf8()..];
    }
    tokens.push(Token::Text(rest.into()));
    Ok(tokens)
}

fn field(atom: &str) -> Field {
    match atom {
        "h" => Field::Client,
        "r" => Field::RequestLine,
        "m" => Field::Method,
        "U" => Field::Path,
        "q" => Field::Query,
        "H" => Field::Protocol,
        "s" => Field::Status,
        "b" | "B" => Field::BodyBytes,
        "f" => Field::Header("Referer".into()),
        "a" => Field::Header("User-Agent".into()),
        "T" | "L" => Field::Took(1_000_000_000),
        "M" => Field::Took(1_000_000),
        "D" => Field::Took(1_000),
        _ => match atom.strip_prefix('{').and_then(|named| named.split_once('}')) {
            Some((name, "i")) => Field::Header(name.into()),
            Some(("remote_port" | "REMOTE_PORT", "e")) => Field::ClientPort,
            Some(("raw_uri" | "RAW_URI", "e")) => Field::Target,
            Some(_) | None => Field::Skip,
        },
    }
}
