//! Checks what the supervisor does for workers that serve: when they are renewed, how many at once, and how long a new one is watched.

use std::num::{NonZeroU16, NonZeroU32};
use std::ops::RangeInclusive;
use std::time::Duration;

use toml::Spanned;

use super::check::{LONGEST, span};
use super::keys::{self, Key};
use super::problem::{Problems, quote};
use super::raw::RawCare;
use super::reader::NumberOrText;
use super::{App, Bytes};
use crate::units::Workers;

const DEFAULT_SETTLE: Duration = Duration::from_secs(5);
/// Workers live for weeks, not for years.
const LONGEST_AGE: Duration = Duration::from_hours(24 * 365);
/// The longest count a Python worker keeps exactly, and more than any serves.
const MOST_REQUESTS: i64 = u32::MAX as i64;
/// Less than any interpreter needs: a mistake of unit.
const LEAST_MEMORY: u64 = 1 << 20;

/// When workers that serve are renewed, and what is done while none does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Care {
    /// How long the first worker of a new generation has to serve before others of it are started.
    pub settle: Duration,
    /// How many workers are renewed at the same time because of their age, memory or requests.
    pub max_unavailable: NonZeroU16,
    /// A Python worker is renewed after this many requests (Gunicorn's `max_requests`).
    pub max_requests: Option<NonZeroU32>,
    /// Up to so many more, by chance, so that workers are not renewed together (Gunicorn's `max_requests_jitter`).
    pub max_requests_jitter: u32,
    /// A worker is renewed when it has served for this long, or up to a tenth less.
    pub max_age: Option<Duration>,
    /// A worker is renewed when its processes' proportional set size (proc_pid_smaps(5)) exceeds this.
    pub max_memory: Option<Bytes>,
    /// Attempts in a row, while no worker serves, after which the supervisor gives up.
    pub fail_after: Option<NonZeroU32>,
}

impl Default for Care {
    fn default() -> Self {
        Self {
            settle: DEFAULT_SETTLE,
            max_unavailable: NonZeroU16::MIN,
            max_requests: None,
            max_requests_jitter: 0,
            max_age: None,
            max_memory: None,
            fail_after: None,
        }
    }
}

/// The care. What is wrong is in `problems`, and has its default here.
pub(super) fn check(raw: &RawCare, app: Option<&App>, problems: &mut Problems<'_>) -> Care {
    let defaults = Care::default();
    let settle = spell(raw.settle.as_ref(), &keys::SETTLE, LONGEST, problems);
    let max_age = spell(raw.max_age.as_ref(), &keys::MAX_AGE, LONGEST_AGE, problems);
    let at_once = count(raw.max_unavailable.as_ref(), &keys::MAX_UNAVAILABLE, &(1..=i64::from(Workers::MAX)), problems);
    let requests = count(raw.max_requests.as_ref(), &keys::MAX_REQUESTS, &(0..=MOST_REQUESTS), problems);
    let jitter = count(raw.max_requests_jitter.as_ref(), &keys::MAX_REQUESTS_JITTER, &(0..=MOST_REQUESTS), problems);
    let fail_after = count(raw.fail_after.as_ref(), &keys::FAIL_AFTER, &(0..=MOST_REQUESTS), problems);
    let max_memory = memory(raw.max_memory.as_ref(), problems);
    check_counting(raw, app, problems);
    Care {
        settle: settle.unwrap_or(defaults.settle),
        max_unavailable: at_once.and_then(|most| u16::try_from(most).ok()).and_then(NonZeroU16::new).unwrap_or(NonZeroU16::MIN),
        max_requests: requests.and_then(NonZeroU32::new),
        max_requests_jitter: jitter.unwrap_or_default(),
        max_age: max_age.filter(|age| !age.is_zero()),
        max_memory,
        fail_after: fail_after.and_then(NonZeroU32::new),
    }
}

/// Nobody outside a worker knows how many requests it has answered.
fn check_counting(raw: &RawCare, app: Option<&App>, problems: &mut Problems<'_>) {
    let Some(App::Command(_)) = app else { return };
    for (written, key) in [(&raw.max_requests, &keys::MAX_REQUESTS), (&raw.max_requests_jitter, &keys::MAX_REQUESTS_JITTER)] {
        if let Some(written) = written.as_ref().filter(|written| *written.get_ref() != 0) {
            let message = r#"only workers of kind = "python" count their requests"#;
            let hint = "remove it, and have the program say X_TUNINGFORK_RENEW=1 to NOTIFY_SOCKET when it wants to be renewed";
            problems.at(written.span(), key, message, hint);
        }
    }
}

/// A span of time from nothing on, if it is written and right.
fn spell(
    written: Option<&Spanned<NumberOrText>>,
    key: &'static Key,
    longest: Duration,
    problems: &mut Problems<'_>,
) -> Option<Duration> {
    written.and_then(|written| span(written, key, &(Duration::ZERO..=longest), problems))
}

/// A whole number within `range`, if it is written and right.
fn count(
    written: Option<&Spanned<i64>>,
    key: &'static Key,
    range: &RangeInclusive<i64>,
    problems: &mut Problems<'_>,
) -> Option<u32> {
    let written = written?;
    let number = u32::try_from(*written.get_ref()).ok().filter(|_| range.contains(written.get_ref()));
    if number.is_none() {
        problems.at(written.span(), key, format!("{} is out of range", written.get_ref()), key.hint());
    }
    number
}

fn memory(written: Option<&Spanned<NumberOrText>>, problems: &mut Problems<'_>) -> Option<Bytes> {
    let written = written?;
    let bytes = bytes(written, &keys::MAX_MEMORY, problems)?;
    if bytes.0 != 0 && bytes.0 < LEAST_MEMORY {
        let message = format!("{} bytes are less than any worker needs", bytes.0);
        problems.at(written.span(), &keys::MAX_MEMORY, message, r#"write a unit: "512 MiB""#);
        return None;
    }
    Some(bytes).filter(|bytes| bytes.0 != 0)
}

/// A number of bytes, or a text such as "512 MiB". K, M and G are powers of 1024, as in systemd.
pub(super) fn bytes(written: &Spanned<NumberOrText>, key: &'static Key, problems: &mut Problems<'_>) -> Option<Bytes> {
    let (shown, bytes) = match written.get_ref() {
        NumberOrText::Number(number) => (number.to_string(), u64::try_from(*number).ok()),
        NumberOrText::Text(text) => (quote(text), size(text)),
    };
    if bytes.is_none() {
        problems.at(written.span(), key, format!("{shown} is not a size"), key.hint());
    }
    bytes.map(Bytes)
}

fn size(text: &str) -> Option<u64> {
    let (digits, unit) = text.split_at(text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len()));
    let shift = match unit.trim_start() {
        "" | "B" => 0,
        "K" | "KiB" => 10,
        "M" | "MiB" => 20,
        "G" | "GiB" => 30,
        "T" | "TiB" => 40,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        for (text, bytes) in [
            ("0", Some(0)),
            ("512 MiB", Some(512 << 20)),
            ("512M", Some(512 << 20)),
            ("2GiB", Some(2 << 30)),
            ("1 K", Some(1024)),
            ("7", Some(7)),
            ("1 T", Some(1 << 40)),
            ("", None),
            ("MiB", None),
            ("512 MB", None),
            ("1.5G", None),
            ("-1", None),
            ("99999999999 T", None),
        ] {
            assert_eq!(size(text), bytes, "{text}");
        }
    }
}
