//! Apache's directives. The time is that of the arrival, unless it says `end:`.

use super::{Field, LogFormat, LogFormatError, Moment, Needs, Time, Token, assemble, check, directive};
use crate::recording::text::escape::Escapes;

/// What `%t` alone writes.
const DEFAULT_TIME: &str = "[%d/%b/%Y:%H:%M:%S %z]";
const NEEDS: Needs = Needs { request: "%r, or %m and %U%q,", time: "%t" };

pub(super) fn compile(text: &str) -> Result<LogFormat, LogFormatError> {
    let format = directive::apache(text);
    let compiled = |moment| Ok((check(assemble(tokens(&format, moment)?)?, Escapes::Apache, &NEEDS)?, moment));
    // A time of the end is of use only where there is no other.
    let (format, moment) = match compiled(Moment::Arrival) {
        Err(LogFormatError::NoTime(_)) => compiled(Moment::End)?,
        result => result?,
    };
    Ok(LogFormat { moment, source: "apache-log", ..format })
}

fn tokens(format: &str, moment: Moment) -> Result<Vec<Token>, LogFormatError> {
    let mut tokens = Vec::new();
    let mut rest = format;
    while let Some(at) = rest.find('%') {
        tokens.push(Token::Text(rest[..at].into()));
        let unfinished = || LogFormatError::Unfinished(rest[at..].to_owned());
        let mut behind = rest[at + 1..].trim_start_matches(|sign: char| matches!(sign, '!' | ',' | '<' | '>' | '0'..='9'));
        let mut argument = "";
        if let Some(braced) = behind.strip_prefix('{') {
            (argument, behind) = braced.split_once('}').ok_or_else(unfinished)?;
        }
        // %^FB and the like have two letters more.
        let length = if behind.starts_with('^') { 3 } else { behind.chars().next().map_or(0, char::len_utf8) };
        let (letter, after) = behind.split_at_checked(length).filter(|(letter, _)| !letter.is_empty()).ok_or_else(unfinished)?;
        match letter {
            "%" => tokens.push(Token::Text(b"%".into())),
            "t" => tokens.extend(time(argument, moment)),
            _ => tokens.push(Token::Value(field(letter, argument))),
        }
        rest = after;
    }
    tokens.push(Token::Text(rest.into()));
    Ok(tokens)
}

fn field(letter: &str, argument: &str) -> Field {
    match (letter, argument) {
        ("h" | "a", _) => Field::Client,
        ("p", "remote") => Field::ClientPort,
        ("r", _) => Field::RequestLine,
        ("m", _) => Field::Method,
        ("U", _) => Field::Path,
        ("q", _) => Field::Query,
        ("H", _) => Field::Protocol,
        ("s", _) => Field::Status,
        ("b" | "B", _) => Field::BodyBytes,
        ("D", _) | ("T", "us") => Field::Took(1_000),
        ("T", "ms") => Field::Took(1_000_000),
        ("T", _) => Field::Took(1_000_000_000),
        ("k", _) => Field::Ordinal,
        ("i", name) => Field::Header(name.into()),
        _ => Field::Skip,
    }
}

/// `%t` with its argument: a prefix that says which moment, then a number's name or a format of strftime. The time of another moment
/// than the wanted one is passed over.
fn time(argument: &str, wanted: Moment) -> Vec<Token> {
    let (moment, format) = match argument.split_once(':') {
        Some(("begin", format)) => (Moment::Arrival, format),
        Some(("end", format)) => (Moment::End, format),
        Some(_) | None => (Moment::Arrival, argument),
    };
    let unix = |unit| vec![Token::Value(Field::Time(Time::Unix(unit)))];
    let tokens = match format {
        "" => strftime(DEFAULT_TIME),
        "sec" => unix(1_000_000_000),
        "msec" => unix(1_000_000),
        "usec" => unix(1_000),
        "msec_frac" => vec![Token::Fixed(Field::Time(Time::Fraction), 3)],
        "usec_frac" => vec![Token::Fixed(Field::Time(Time::Fraction), 6)],
        _ => strftime(format),
    };
    let unwanted = |token| match token {
        Token::Value(_) => Token::Value(Field::Skip),
        Token::Fixed(_, width) => Token::Fixed(Field::Skip, width),
        text @ Token::Text(_) => text,
    };
    if moment == wanted { tokens } else { tokens.into_iter().map(unwanted).collect() }
}

/// The conversions of strftime that tell a time in figures; others are passed over.
fn strftime(format: &str) -> Vec<Token> {
    let date = &DEFAULT_TIME[1..DEFAULT_TIME.len() - 1];
    if let Some((before, after)) = format.split_once(date) {
        let mut tokens = strftime(before);
        tokens.push(Token::Value(Field::Time(Time::LogDate)));
        tokens.extend(strftime(after));
        return tokens;
    }
    let mut tokens = Vec::new();
    let mut letters = format.chars();
    while let Some(letter) = letters.next() {
        if letter == '%' {
            tokens.extend(conversion(letters.next()));
        } else {
            tokens.push(Token::Text(letter.to_string().into()));
        }
    }
    tokens
}

fn conversion(letter: Option<char>) -> Vec<Token> {
    let (part, width) = match letter {
        Some('Y') => (Time::Year, 4),
        Some('m') => (Time::Month, 2),
        Some('b' | 'h') => (Time::MonthName, 3),
        Some('d' | 'e') => (Time::Day, 2),
        Some('H') => (Time::Hour, 2),
        Some('M') => (Time::Minute, 2),
        Some('S') => (Time::Second, 2),
        Some('z') => (Time::Zone, 5),
        Some('F') => return strftime("%Y-%m-%d"),
        Some('T') => return strftime("%H:%M:%S"),
        Some('s') => return vec![Token::Value(Field::Time(Time::Unix(1_000_000_000)))],
        Some('%') => return vec![Token::Text(b"%".into())],
        Some(_) | None => return vec![Token::Value(Field::Skip)],
    };
    vec![Token::Fixed(Field::Time(part), width)]
}
