//! The format strings of servers, compiled to what finds their values in a line: nginx's log_format, Apache's LogFormat, Gunicorn's
//! access_log_format. What a directive is for and nobody here knows is passed over. Refuses a format that does not log the request
//! or its time, and one in which two values cannot be told apart.

mod apache;
mod directive;
mod gunicorn;
mod nginx;

use memchr::{memchr, memchr_iter, memchr2};

use crate::recording::text::escape::Escapes;

/// The most values a format may have.
const MAX_VALUES: usize = 100;

/// The bias of nginx's times.
pub(super) const NGINX_CLOCK: &str =
    "nginx reads its clock once for all that is ready: requests it handled together share a stamp";
/// The bias of Gunicorn's times.
pub(super) const GUNICORN_CLOCK: &str = "Gunicorn's clock starts when a worker begins with a request: what it waited before is not seen, \
                                         and under overload these are the requests served, not those offered";

/// What a value of a line is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Field {
    /// Of no use here.
    Skip,
    /// The client's address.
    Client,
    /// The client's port.
    ClientPort,
    /// Method, target and version.
    RequestLine,
    Method,
    /// The target as sent.
    Target,
    /// The target's path, decoded.
    Path,
    /// The query, with or without its question mark.
    Query,
    /// A question mark if there is a query.
    QueryMark,
    /// [`Path`](Self::Path) and [`Query`](Self::Query) with nothing else between them.
    PathAndQuery,
    Protocol,
    Status,
    /// Bytes of the response's body.
    BodyBytes,
    /// The response's duration, in units of so many nanoseconds.
    Took(i64),
    /// The server's process.
    Process,
    /// The connection's number in its process.
    Connection,
    /// The request's place on its connection.
    Ordinal,
    /// A header of the request.
    Header(Box<str>),
    /// The request's body.
    Body,
    Time(Time),
}

/// A part of the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Time {
    /// `17/May/2015:10:05:03 +0000`.
    LogDate,
    /// RFC 3339.
    Iso,
    /// Unix time in units of so many nanoseconds.
    Unix(i64),
    /// Unix time in seconds with three decimals.
    UnixWithMillis,
    Year,
    Month,
    MonthName,
    Day,
    Hour,
    Minute,
    Second,
    /// Decimals of the second.
    Fraction,
    Zone,
}

impl Field {
    /// Whether its values hold no blanks.
    const fn is_word(&self) -> bool {
        !matches!(self, Self::Skip | Self::RequestLine | Self::Header(_) | Self::Body | Self::Time(Time::LogDate))
    }
}

/// What the time of a line says about the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    /// It arrived then.
    Arrival,
    /// Its response was done then.
    End,
    /// One of the two.
    Unclear,
}

/// A piece of a format string.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Text(Vec<u8>),
    Value(Field),
    /// A value of so many bytes.
    Fixed(Field, usize),
}

/// A value, and what stands before it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Item {
    before: Vec<u8>,
    field: Field,
    width: Option<usize>,
}

/// How to read one kind of line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogFormat {
    items: Vec<Item>,
    /// A line has at least so many of them.
    required: usize,
    pub(super) escapes: Escapes,
    pub(super) moment: Moment,
    /// The step of its times, nanoseconds.
    pub(super) resolution: u64,
    pub(super) source: &'static str,
    pub(super) note: Option<&'static str>,
}

/// Why a format string is of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogFormatError {
    /// It is no format string.
    #[error("neither nginx's $variables nor Apache's %directives nor Gunicorn's %(atoms)s are in it")]
    NoValues,
    /// A directive does not end.
    #[error("the directive at {0:?} does not end")]
    Unfinished(String),
    /// Nothing separates two values.
    #[error("nothing stands between value {0} and the next: they cannot be told apart")]
    Adjacent(usize),
    /// More values than are ever logged.
    #[error("more than {MAX_VALUES} values")]
    TooMany,
    /// No request.
    #[error("the request is not logged: {0} is missing")]
    NoRequest(&'static str),
    /// No time.
    #[error("the time is not logged: {0} is missing")]
    NoTime(&'static str),
}

impl LogFormat {
    /// Values of the common format.
    pub(super) const COMMON: usize = 7;
    /// Values of the combined format.
    pub(super) const COMBINED: usize = 10;

    /// Compiles a format string, or the whole directive of the server's configuration it stands in. Variables with `$` are nginx's,
    /// `%(x)s` is Gunicorn's, everything else with `%` Apache's.
    pub fn parse(text: &str) -> Result<Self, LogFormatError> {
        let text = text.trim();
        let bytes = text.as_bytes();
        let is_variable = |at: usize| matches!(bytes.get(at + 1), Some(b'{' | b'_' | b'a'..=b'z'));
        if text.contains("%(") {
            gunicorn::compile(text)
        } else if memchr_iter(b'$', bytes).any(is_variable) {
            nginx::compile(text)
        } else if text.contains('%') {
            apache::compile(text)
        } else {
            Err(LogFormatError::NoValues)
        }
    }

    /// Common and combined, as Apache, nginx and Gunicorn write them, and a duration in microseconds behind that.
    pub(super) fn combined() -> Self {
        let item = |before: &str, field, width| Item { before: before.into(), field, width };
        Self {
            items: vec![
                item("", Field::Client, None),
                item(" ", Field::Skip, None),
                item(" ", Field::Skip, None),
                item(" [", Field::Time(Time::LogDate), None),
                item("] \"", Field::RequestLine, None),
                item("\" ", Field::Status, None),
                item(" ", Field::BodyBytes, None),
                item(" \"", Field::Header("Referer".into()), None),
                item("\" \"", Field::Header("User-Agent".into()), None),
                item("\"", Field::Skip, Some(0)),
                item(" ", Field::Took(1_000), None),
            ],
            required: Self::COMMON,
            escapes: Escapes::Any,
            moment: Moment::Unclear,
            resolution: 1_000_000_000,
            source: "access-log",
            note: None,
        }
    }

    /// The fields, in the order of the line.
    pub(super) fn fields(&self) -> impl Iterator<Item = &Field> {
        self.items.iter().map(|item| &item.field)
    }

    /// Whether a line tells this.
    pub(super) fn has(&self, wanted: impl FnMut(&Field) -> bool) -> bool {
        self.fields().any(wanted)
    }

    /// Keeps only the first `count` values, for lines that end there.
    pub(super) fn truncate(&mut self, count: usize) {
        self.items.truncate(count.max(self.required));
    }

    /// Shows `take` the values of a line with their fields, in order. `None` if the line is not of this format or a value is refused.
    pub(super) fn values<'a>(&self, line: &'a [u8], mut take: impl FnMut(&Field, &'a [u8]) -> Option<()>) -> Option<()> {
        let mut rest = line;
        for (index, item) in self.items.iter().enumerate() {
            let found = rest.strip_prefix(item.before.as_slice()).and_then(|rest| self.value(index, rest));
            let Some((value, after)) = found else {
                return (index >= self.required).then_some(());
            };
            take(&item.field, value)?;
            rest = after;
        }
        Some(())
    }

    /// The value of an item at the start of `rest`, and what follows.
    fn value<'a>(&self, index: usize, rest: &'a [u8]) -> Option<(&'a [u8], &'a [u8])> {
        let item = &self.items[index];
        if let Some(width) = item.width {
            return rest.split_at_checked(width);
        }
        let next = self.items.get(index + 1).filter(|_| index + 1 != self.required);
        let end = match next {
            Some(next) => self.find(rest, &next.before)?,
            None if item.field.is_word() => memchr(b' ', rest).unwrap_or(rest.len()),
            None => rest.len(),
        };
        Some(rest.split_at(end))
    }

    /// Where `literal` begins. One that begins with a quotation mark does not begin behind a backslash.
    fn find(&self, text: &[u8], literal: &[u8]) -> Option<usize> {
        match literal {
            [b'"', ..] if self.escapes.guard_quotes() => {
                let mut from = 0;
                loop {
                    let at = from + memchr2(b'"', b'\\', text.get(from..)?)?;
                    from = match text[at] {
                        b'"' if text[at..].starts_with(literal) => return Some(at),
                        b'"' => at + 1,
                        _ => at + 2,
                    };
                }
            }
            // Values are short: to prepare a search would take longer than this.
            [first, ..] => memchr_iter(*first, text).find(|at| text[*at..].starts_with(literal)),
            [] => Some(0),
        }
    }
}

/// Joins tokens to items, and checks that a line can be read with them.
fn assemble(tokens: Vec<Token>) -> Result<Vec<Item>, LogFormatError> {
    let mut items: Vec<Item> = Vec::new();
    let mut before = Vec::new();
    for token in tokens {
        let (field, width) = match token {
            Token::Text(text) => {
                before.extend_from_slice(&text);
                continue;
            }
            Token::Value(field) => (field, None),
            Token::Fixed(field, width) => (field, Some(width)),
        };
        if before.is_empty()
            && let Some(last) = items.last_mut()
            && last.width.is_none()
        {
            match (&last.field, &field) {
                (Field::Path | Field::PathAndQuery, Field::Query | Field::QueryMark) => last.field = Field::PathAndQuery,
                (Field::Skip, Field::Skip) => {}
                _ => return Err(LogFormatError::Adjacent(items.len())),
            }
            continue;
        }
        items.push(Item { before: std::mem::take(&mut before), field, width });
    }
    if !before.is_empty() {
        items.push(Item { before, field: Field::Skip, width: Some(0) });
    }
    if items.len() > MAX_VALUES { Err(LogFormatError::TooMany) } else { Ok(items) }
}

/// What a server calls what every format needs.
struct Needs {
    request: &'static str,
    time: &'static str,
}

/// A format of these items, if they say enough.
fn check(items: Vec<Item>, escapes: Escapes, needs: &Needs) -> Result<LogFormat, LogFormatError> {
    let required = items.len();
    let format =
        LogFormat { items, required, escapes, moment: Moment::Arrival, resolution: 1_000_000_000, source: "", note: None };
    if !format.has(|_| true) {
        return Err(LogFormatError::NoValues);
    }
    let target = |field: &Field| matches!(field, Field::Target | Field::Path | Field::PathAndQuery);
    let in_parts = format.has(|field| *field == Field::Method) && format.has(target);
    if !in_parts && !format.has(|field| *field == Field::RequestLine) {
        return Err(LogFormatError::NoRequest(needs.request));
    }
    if !has_time(&format) {
        return Err(LogFormatError::NoTime(needs.time));
    }
    let resolution = resolution(&format);
    Ok(LogFormat { resolution, ..format })
}

/// Whether the parts of the time are enough for an instant.
fn has_time(format: &LogFormat) -> bool {
    let has = |part: Time| format.has(|field| *field == Field::Time(part));
    let unix = format.has(|field| matches!(field, Field::Time(Time::Unix(_) | Time::UnixWithMillis)));
    let date = has(Time::Year) && (has(Time::Month) || has(Time::MonthName)) && has(Time::Day);
    unix || has(Time::LogDate) || has(Time::Iso) || (date && has(Time::Hour) && has(Time::Minute) && has(Time::Second))
}

fn resolution(format: &LogFormat) -> u64 {
    let steps = format.items.iter().filter_map(|item| match (&item.field, item.width) {
        (Field::Time(Time::Unix(unit)), _) => Some(unit.unsigned_abs()),
        (Field::Time(Time::UnixWithMillis), _) => Some(1_000_000),
        (Field::Time(Time::Fraction), Some(digits)) => Some(10_u64.pow(9_u32.saturating_sub(u32::try_from(digits).unwrap_or(9)))),
        _ => None,
    });
    steps.min().unwrap_or(1_000_000_000)
}

#[cfg(test)]
mod tests;
