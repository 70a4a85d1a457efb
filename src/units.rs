//! The quantities everything else speaks in. A unit lives in its type, so no function takes a bare number of seconds.

use std::fmt;
use std::num::{NonZeroU16, NonZeroU32};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A point on a monotonic clock, in nanoseconds since an arbitrary origin. Moments of different processes do not compare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(u64);

impl Moment {
    /// The moment `nanos` nanoseconds after the clock's origin.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the clock's origin.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// How long after `earlier` this is; zero if it is not after it.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }

    /// This moment, `span` later.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_nanos()).unwrap_or(u64::MAX)))
    }
}

/// A time as people write it: "90s", "1m 30s", or a bare number of seconds, as Gunicorn has it: "90", "0.5".
///
/// # Errors
///
/// The text is neither. The message says what would be.
pub fn span(text: &str) -> Result<Duration, NotASpan> {
    let text = text.trim();
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let seconds = text.parse().ok().filter(|_| is_number).and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.or_else(|| humantime::parse_duration(text).ok()).ok_or(NotASpan)
}

/// A text that is no time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write seconds (90), or a time with its unit: 90s, 1m30s, 500ms")]
pub struct NotASpan;

/// How many worker processes run. At least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Workers(NonZeroU16);

impl Workers {
    /// The most workers one supervisor runs.
    pub const MAX: u16 = 1024;

    /// `count` workers, or `None` outside 1..=[`Self::MAX`].
    #[must_use]
    pub fn new(count: u32) -> Option<Self> {
        let count = u16::try_from(count).ok().filter(|count| *count <= Self::MAX)?;
        NonZeroU16::new(count).map(Self)
    }

    /// Gunicorn's rule of thumb, `(2 × cores) + 1` (gunicorn, design.rst, "How Many Workers?").
    #[must_use]
    pub fn folk(cores: NonZeroU16) -> Self {
        let count = cores.get().saturating_mul(2).saturating_add(1).min(Self::MAX);
        Self(NonZeroU16::new(count).unwrap_or(NonZeroU16::MIN))
    }

    /// The count.
    #[must_use]
    pub const fn get(self) -> u16 {
        self.0.get()
    }
}

impl fmt::Display for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How many connections one worker serves at the same time (Gunicorn's `worker_connections`; `threads` for gthread). At least one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Connections(NonZeroU32);

impl Connections {
    /// One request at a time: what a `sync` worker does.
    pub const ONE: Self = Self(NonZeroU32::MIN);
    /// The most connections one worker may be given.
    pub const MAX: u32 = 65_535;

    /// `count` connections, or `None` outside 1..=[`Self::MAX`].
    #[must_use]
    pub fn new(count: u32) -> Option<Self> {
        NonZeroU32::new(count).filter(|count| count.get() <= Self::MAX).map(Self)
    }

    /// The count.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0.get()
    }
}

impl fmt::Display for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Events a second. Finite and not negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd, Serialize, Deserialize)]
pub struct Rate(f64);

impl Rate {
    /// `per_second` events a second, or `None` if that is negative or not a number.
    #[must_use]
    pub fn new(per_second: f64) -> Option<Self> {
        (per_second.is_finite() && per_second >= 0.0).then_some(Self(per_second))
    }

    /// Events a second.
    #[must_use]
    pub const fn per_second(self) -> f64 {
        self.0
    }
}

/// A worker's identity. Never used twice in the life of a supervisor, so an order can never reach the wrong process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WorkerId(pub u64);

impl fmt::Display for WorkerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The place a worker fills, 0 up to the number of workers. A replacement takes its predecessor's slot, so metrics keep their label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(pub u16);

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One loading of configuration and code. A reload makes the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub u32);

impl Generation {
    /// What the supervisor starts with.
    pub const FIRST: Self = Self(1);

    /// The generation a reload makes.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_unit_or_is_in_seconds() {
        for (text, millis) in
            [("90", 90_000), ("90s", 90_000), ("1m 30s", 90_000), ("0.5", 500), ("500ms", 500), ("0", 0), (" 7 ", 7000)]
        {
            assert_eq!(span(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", ".", "-1", "1e3", "inf", "nan", "1.2.3", "5 parsecs", "99999999999999999999999"] {
            assert_eq!(span(text), Err(NotASpan), "{text}");
        }
    }
}
