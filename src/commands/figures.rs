//! How numbers are written for people: short, with their unit, and a dash for what was not measured.

/// Events a second.
pub(super) fn rate(per_second: f64) -> String {
    if per_second < 100.0 { format!("{per_second:.1}") } else { format!("{per_second:.0}") }
}

/// A time in seconds; zero is nothing measured.
pub(super) fn latency(seconds: f64) -> String {
    match seconds * 1e3 {
        millis if millis <= 0.0 => "–".to_owned(),
        millis if millis < 1.0 => format!("{:.0}µs", millis * 1e3),
        millis if millis < 10.0 => format!("{millis:.1}ms"),
        millis if millis < 999.5 => format!("{millis:.0}ms"),
        millis if millis < 9_995.0 => format!("{seconds:.2}s"),
        _ => format!("{seconds:.1}s"),
    }
}

/// A small share from 0 to 1.
pub(super) fn percent(share: f64) -> String {
    if share == 0.0 { "0%".to_owned() } else { format!("{:.2}%", share * 100.0) }
}

/// A share from 0 to 1, if there is one.
pub(super) fn share(share: Option<f64>) -> String {
    share.map_or_else(|| "–".to_owned(), |share| format!("{:.0}%", share * 100.0))
}

/// Bytes of memory.
pub(super) fn memory(bytes: u64) -> String {
    const MIB: f64 = 1024.0 * 1024.0;
    match bytes as f64 / MIB {
        _ if bytes == 0 => "–".to_owned(),
        mib if mib < 1000.0 => format!("{mib:.0}M"),
        mib => format!("{:.1}G", mib / 1024.0),
    }
}

/// A count, its digits in groups of three.
pub(super) fn count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// How many of something, in the singular or with an `s`.
pub(super) fn counted(number: u64, one: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {one}{plural}", count(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_grouped() {
        let counts = [0, 7, 999, 1_000, 12_345, 999_999, 1_000_000].map(count);
        assert_eq!(counts, ["0", "7", "999", "1,000", "12,345", "999,999", "1,000,000"]);
        assert_eq!((counted(1, "request"), counted(2_000, "request")), ("1 request".into(), "2,000 requests".into()));
    }

    #[test]
    fn times_keep_two_or_three_digits() {
        let times = [0.0, 0.000_04, 0.001_23, 0.043, 0.999_4, 0.999_6, 1.282, 9.994, 9.996, 75.25].map(latency);
        assert_eq!(times, ["–", "40µs", "1.2ms", "43ms", "999ms", "1.00s", "1.28s", "9.99s", "10.0s", "75.2s"]);
    }
}
