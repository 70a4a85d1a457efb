//! Times as text: decimal Unix seconds of a recording, dates of an access log. Never through a float: at 1.7e9 seconds one step of
//! an f64 is 238 ns.

use jiff::civil::DateTime;
use jiff::tz::Offset;

use super::request::UnixNanos;

const NANOS: i64 = 1_000_000_000;
const MONTHS: [&[u8; 3]; 12] = [b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec"];

/// `1700000000.123456789` as nanoseconds; digits beyond the ninth decimal are dropped. `None` for anything else, exponents too.
pub(super) fn parse_unix(text: &[u8]) -> Option<UnixNanos> {
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

/// The text [`parse_unix`] reads back, with nine decimals.
pub(super) fn format_unix(at: UnixNanos) -> String {
    let sign = if at.0 < 0 { "-" } else { "" };
    let nanos = at.0.unsigned_abs();
    let per_second = NANOS.unsigned_abs();
    format!("{sign}{}.{:09}", nanos / per_second, nanos % per_second)
}

/// Unix seconds of `17/May/2015:10:05:03 +0000`, the time of Apache's `%t`, nginx's `$time_local` and Gunicorn's `%(t)s`.
pub(super) fn parse_log_date(text: &[u8]) -> Option<i64> {
    if text.len() != 26 || [text[2], text[6], text[11], text[14], text[17], text[20]] != *b"//::: " {
        return None;
    }
    let part = |from: usize, to: usize| number(&text[from..to]);
    let month = MONTHS.iter().position(|month| text[3..6] == month[..])?;
    let civil = DateTime::new(
        i16::try_from(part(7, 11)?).ok()?,
        i8::try_from(month + 1).ok()?,
        i8::try_from(part(0, 2)?).ok()?,
        i8::try_from(part(12, 14)?).ok()?,
        i8::try_from(part(15, 17)?).ok()?,
        // A leap second counts as the one before it, as in Unix time.
        i8::try_from(part(18, 20)?.min(if part(18, 20)? == 60 { 59 } else { 60 })).ok()?,
        0,
    )
    .ok()?;
    let away = i32::try_from(part(22, 24)? * 3600 + part(24, 26)? * 60).ok()?;
    let offset = match text[21] {
        b'+' => Offset::from_seconds(away),
        b'-' => Offset::from_seconds(-away),
        _ => return None,
    };
    Some(offset.ok()?.to_timestamp(civil).ok()?.as_second())
}

/// Decimal digits and nothing else.
pub(super) fn number(digits: &[u8]) -> Option<i64> {
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

    proptest! {
        #[test]
        fn unix_times_survive_writing(nanos in (i64::MIN + 1)..i64::MAX) {
            prop_assert_eq!(parse_unix(format_unix(UnixNanos(nanos)).as_bytes()), Some(UnixNanos(nanos)));
        }

        #[test]
        fn no_text_panics(text in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = parse_unix(&text);
            let _ = parse_log_date(&text);
        }
    }
}
