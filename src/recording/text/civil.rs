//! Times as text: decimal Unix seconds of a recording, dates of logs. Never through a float: at 1.7e9 seconds one step of an f64 is
//! 238 ns.

use std::io::{self, Write};

use jiff::civil::DateTime;
use jiff::tz::Offset;

use crate::recording::request::UnixNanos;

const NANOS: i64 = 1_000_000_000;
const MONTHS: [&[u8; 3]; 12] = [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

/// `1700000000.123456789` as nanoseconds; digits beyond the ninth decimal are dropped. `None` for anything else, exponents too.
pub(in crate::recording) fn parse_unix(text: &[u8]) -> Option<UnixNanos> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    let (seconds, decimals) = match memchr::memchr(b'.', digits) {
        Some(dot) => (&digits[..dot], Some(&digits[dot + 1..])),
        None => (digits, None),
    };
    let mut nanos = number(seconds)?.checked_mul(NANOS)?;
    if let Some(decimals) = decimals {
        number(&decimals[..decimals.len().min(18)])?;
        let mut place = NANOS / 10;
        for digit in decimals {
            nanos = nanos.checked_add(i64::from(digit.checked_sub(b'0').filter(|digit| *digit < 10)?) * place)?;
            place /= 10;
        }
    }
    Some(UnixNanos(if negative { -nanos } else { nanos }))
}

/// Appends the text that [`parse_unix`] reads back, with nine decimals.
pub(in crate::recording) fn push_unix(text: &mut Vec<u8>, at: UnixNanos) -> io::Result<()> {
    let sign = if at.0 < 0 { "-" } else { "" };
    let nanos = at.0.unsigned_abs();
    let per_second = NANOS.unsigned_abs();
    write!(text, "{sign}{}.{:09}", nanos / per_second, nanos % per_second)
}

/// Unix seconds of `17/May/2015:10:05:03 +0000`, the time of Apache's `%t`, nginx's `$time_local` and Gunicorn's `%(t)s`.
pub(in crate::recording) fn parse_log_date(text: &[u8]) -> Option<i64> {
    if text.len() != 26 || [text[2], text[6], text[11], text[14], text[17], text[20]] != *b"//::: " {
        return None;
    }
    let part = |from: usize, to: usize| number(&text[from..to]);
    let date = Date {
        year: part(7, 11)?,
        month: parse_month(&text[3..6])?,
        day: part(0, 2)?,
        hour: part(12, 14)?,
        minute: part(15, 17)?,
        second: part(18, 20)?,
        east: parse_zone(&text[21..])?,
    };
    date.unix_seconds()
}

/// The instant of `2024-01-15T10:00:00.123456Z` (RFC 3339); a blank for the T, `+0000` and an absent zone, which is UTC, are taken too.
pub(in crate::recording) fn parse_iso(text: &[u8]) -> Option<UnixNanos> {
    let (head, tail) = text.split_at_checked(19)?;
    let separators = [head[4], head[7], head[13], head[16]] == *b"--::" && matches!(head[10], b'T' | b't' | b' ');
    let part = |from: usize, to: usize| number(&head[from..to]).filter(|_| separators);
    let digits = tail.strip_prefix(b".").map_or(0, |tail| tail.iter().take_while(|byte| byte.is_ascii_digit()).count());
    let (fraction, zone) = if digits > 0 { tail[1..].split_at(digits) } else { (&b""[..], tail) };
    let date = Date {
        year: part(0, 4)?,
        month: part(5, 7)?,
        day: part(8, 10)?,
        hour: part(11, 13)?,
        minute: part(14, 16)?,
        second: part(17, 19)?,
        east: parse_zone(zone)?,
    };
    date.unix_seconds()?.checked_mul(NANOS)?.checked_add(parse_fraction(fraction)).map(UnixNanos)
}

/// Digits behind a decimal point as nanoseconds; what is beyond the ninth is dropped.
pub(in crate::recording) fn parse_fraction(digits: &[u8]) -> i64 {
    let nine = digits.iter().copied().chain(std::iter::repeat(b'0')).take(9);
    nine.fold(0, |nanos, digit| nanos * 10 + i64::from(digit.saturating_sub(b'0').min(9)))
}

/// January is 1.
pub(in crate::recording) fn parse_month(name: &[u8]) -> Option<i64> {
    (1..).zip(MONTHS).find_map(|(number, month)| (name == month).then_some(number))
}

/// Seconds east of Greenwich of `Z`, `+0200`, `+02:00` or nothing.
pub(in crate::recording) fn parse_zone(text: &[u8]) -> Option<i64> {
    let (sign, hours, minutes) = match text {
        [] | [b'Z' | b'z'] => return Some(0),
        [sign, a, b, c, d] | [sign, a, b, b':', c, d] => (sign, [*a, *b], [*c, *d]),
        _ => return None,
    };
    let away = number(&hours)? * 3600 + number(&minutes)? * 60;
    match sign {
        b'+' => Some(away),
        b'-' => Some(-away),
        _ => None,
    }
}

/// A date and time of day, of any values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::recording) struct Date {
    pub(in crate::recording) year: i64,
    pub(in crate::recording) month: i64,
    pub(in crate::recording) day: i64,
    pub(in crate::recording) hour: i64,
    pub(in crate::recording) minute: i64,
    pub(in crate::recording) second: i64,
    /// Seconds east of Greenwich.
    pub(in crate::recording) east: i64,
}

impl Date {
    /// `None` for what no calendar has.
    pub(in crate::recording) fn unix_seconds(self) -> Option<i64> {
        // A leap second counts as the one before it, as in Unix time.
        let second = if self.second == 60 { 59 } else { self.second };
        let [month, day, hour, minute, second] = [self.month, self.day, self.hour, self.minute, second].map(i8::try_from);
        let year = i16::try_from(self.year).ok()?;
        let civil = DateTime::new(year, month.ok()?, day.ok()?, hour.ok()?, minute.ok()?, second.ok()?, 0).ok()?;
        let offset = Offset::from_seconds(i32::try_from(self.east).ok()?).ok()?;
        Some(offset.to_timestamp(civil).ok()?.as_second())
    }
}

/// Decimal digits and nothing else.
pub(in crate::recording) fn number(digits: &[u8]) -> Option<i64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0_i64, |value, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10)?;
        value.checked_mul(10)?.checked_add(i64::from(digit))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn unix_times_keep_every_nanosecond() {
        let parsed = |text: &str| parse_unix(text.as_bytes()).map(|at| at.0);
        assert_eq!(parsed("1700000000.123456789"), Some(1_700_000_000_123_456_789));
        assert_eq!(parsed("1700000000.1"), Some(1_700_000_000_100_000_000));
        assert_eq!(parsed("1700000000"), Some(1_700_000_000_000_000_000));
        assert_eq!(parsed("-0.5"), Some(-500_000_000));
        assert_eq!(parsed("1.0000000019"), Some(1_000_000_001));
        for wrong in ["", ".", "1.", ".5", "1e9", "1.5e3", "-", "--1", "1.2.3", "99999999999", "0x1", "NaN"] {
            assert_eq!(parsed(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn log_dates_know_their_offset() {
        assert_eq!(parse_log_date(b"17/May/2015:10:05:03 +0000"), Some(1_431_857_103));
        assert_eq!(parse_log_date(b"17/May/2015:12:05:03 +0200"), Some(1_431_857_103));
        assert_eq!(parse_log_date(b"17/May/2015:04:35:03 -0530"), Some(1_431_857_103));
        assert_eq!(parse_log_date(b"30/Jun/2015:23:59:60 +0000"), Some(1_435_708_799));
        for wrong in [
            "31/Feb/2015:10:05:03 +0000",
            "17/Mai/2015:10:05:03 +0000",
            "17/May/2015:24:05:03 +0000",
            "17/May/2015:10:05:61 +0000",
            "17/May/2015:10:05:03 *0000",
            "17/May/2015:10:05:03 +9900",
            "17-May-2015:10:05:03 +0000",
            "",
        ] {
            assert_eq!(parse_log_date(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn iso_dates_in_the_ways_they_are_written() {
        let parsed = |text: &str| parse_iso(text.as_bytes()).map(|at| at.0);
        let noon = 1_431_857_103_000_000_000;
        assert_eq!(parsed("2015-05-17T10:05:03Z"), Some(noon));
        assert_eq!(parsed("2015-05-17T10:05:03.123456Z"), Some(noon + 123_456_000));
        assert_eq!(parsed("2015-05-17T12:05:03.5+02:00"), Some(noon + 500_000_000));
        assert_eq!(parsed("2015-05-17 12:05:03+0200"), Some(noon));
        assert_eq!(parsed("2015-05-17T10:05:03.1234567890123"), Some(noon + 123_456_789));
        for wrong in ["", "2015-05-17", "2015-13-17T10:05:03Z", "2015-05-17T10:05:03.Z", "2015-05-17T10:05:03 GMT"] {
            assert_eq!(parsed(wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn unix_times_survive_writing(nanos in (i64::MIN + 1)..i64::MAX) {
            let mut text = Vec::new();
            push_unix(&mut text, UnixNanos(nanos)).unwrap();
            prop_assert_eq!(parse_unix(&text), Some(UnixNanos(nanos)));
        }

        #[test]
        fn no_text_panics(text in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = parse_unix(&text);
            let _ = parse_log_date(&text);
            let _ = parse_iso(&text);
            let _ = parse_iso(&[b"2015-05-17T10:05:03", text.as_slice()].concat());
        }
    }
}
