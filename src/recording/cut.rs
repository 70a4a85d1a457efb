//! A piece of a recording: from one time to another, and not more than so many requests. Times may be told from the first request.

use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;

use super::request::{Request, UnixNanos};
use super::text::civil::parse_unix;
use crate::units;

/// An end of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// A moment.
    At(UnixNanos),
    /// A time after the first request of the recording.
    After(Duration),
}

/// Why a text is no [`Edge`].
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a time like 2026-11-22T10:00:00Z, Unix seconds, or a time after the first request like +10m")]
pub struct EdgeError;

impl FromStr for Edge {
    type Err = EdgeError;

    /// `2026-11-22T10:00:00Z` (RFC 3339, with any offset), `1795341600.5` (Unix seconds) or `+10m`.
    fn from_str(text: &str) -> Result<Self, EdgeError> {
        if let Some(span) = text.strip_prefix('+') {
            return units::span(span).map(Self::After).map_err(|_| EdgeError);
        }
        if let Some(at) = parse_unix(text.as_bytes()) {
            return Ok(Self::At(at));
        }
        let stamp: Timestamp = text.parse().map_err(|_| EdgeError)?;
        i64::try_from(stamp.as_nanosecond()).map(|nanos| Self::At(UnixNanos(nanos))).map_err(|_| EdgeError)
    }
}

/// What a [`Cut`] says of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// It belongs to the piece.
    Keep,
    /// It does not.
    Drop,
    /// Neither it nor any after it does.
    Stop,
}

/// Tells which requests belong to a piece.
#[derive(Clone, Debug, Default)]
pub struct Cut {
    /// Where it begins; this moment belongs to it.
    pub from: Option<Edge>,
    /// Where it ends; this moment does not belong to it.
    pub to: Option<Edge>,
    /// How many requests it has at most.
    pub first: Option<u64>,
    begin: Option<UnixNanos>,
    kept: u64,
}

impl Cut {
    /// A piece with these ends.
    #[must_use]
    pub const fn new(from: Option<Edge>, to: Option<Edge>, first: Option<u64>) -> Self {
        Self { from, to, first, begin: None, kept: 0 }
    }

    /// Whether `request`, the next of the file, belongs to it. A recording may be slightly out of order, so none is the last before it
    /// has all it may have.
    pub fn judge(&mut self, request: &Request) -> Choice {
        let begin = *self.begin.get_or_insert(request.at);
        if self.first.is_some_and(|first| self.kept >= first) {
            return Choice::Stop;
        }
        let is_early = self.from.is_some_and(|from| request.at < from.moment(begin));
        let is_late = self.to.is_some_and(|to| request.at >= to.moment(begin));
        if is_early || is_late {
            return Choice::Drop;
        }
        self.kept += 1;
        Choice::Keep
    }
}

impl Edge {
    fn moment(self, begin: UnixNanos) -> UnixNanos {
        match self {
            Self::At(at) => at,
            Self::After(span) => UnixNanos(begin.0.saturating_add(i64::try_from(span.as_nanos()).unwrap_or(i64::MAX))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::read;

    const SECOND: i64 = 1_000_000_000;

    #[test]
    fn edges_are_parsed() {
        let at = |seconds: i64| Ok(Edge::At(UnixNanos(seconds * SECOND)));
        assert_eq!("1970-01-01T00:01:00Z".parse(), at(60));
        assert_eq!("1970-01-01T02:01:00+02:00".parse(), at(60));
        assert_eq!("60".parse(), at(60));
        assert_eq!("0.5".parse(), Ok(Edge::At(UnixNanos(SECOND / 2))));
        for span in ["+1m 30s", "+90"] {
            assert_eq!(span.parse(), Ok(Edge::After(Duration::from_secs(90))));
        }
        for wrong in ["", "+", "+-5", "noon", "1970-01-01", "1970-01-01T00:01:00", "1e9"] {
            assert_eq!(wrong.parse::<Edge>(), Err(EdgeError), "{wrong}");
        }
    }

    fn kept(cut: &mut Cut, times: &[i64]) -> (Vec<i64>, bool) {
        let lines: Vec<String> = times.iter().map(|time| format!("{{\"t\":{time},\"m\":\"GET\",\"u\":\"/\"}}")).collect();
        let mut kept = Vec::new();
        for request in read(lines.join("\n").as_bytes()).unwrap().requests {
            match cut.judge(&request) {
                Choice::Keep => kept.push(request.at.0 / SECOND),
                Choice::Drop => {}
                Choice::Stop => return (kept, true),
            }
        }
        (kept, false)
    }

    #[test]
    fn a_piece_begins_with_its_first_moment_and_ends_before_its_last() {
        let times = [10, 12, 11, 13, 20];
        let after = |seconds| Some(Edge::After(Duration::from_secs(seconds)));
        let at = |seconds: i64| Some(Edge::At(UnixNanos(seconds * SECOND)));
        assert_eq!(kept(&mut Cut::new(after(1), after(3), None), &times), (vec![12, 11], false));
        assert_eq!(kept(&mut Cut::new(at(11), at(13), None), &times), (vec![12, 11], false));
        assert_eq!(kept(&mut Cut::new(at(12), None, Some(2)), &times), (vec![12, 13], true));
        assert_eq!(kept(&mut Cut::new(None, None, Some(0)), &times), (vec![], true));
        assert_eq!(kept(&mut Cut::default(), &times), (times.to_vec(), false));
    }
}
