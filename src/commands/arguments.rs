//! Arguments that several commands take.

use crate::load;
use crate::recording::Header;
use crate::units::Rate;

/// A rate that can be offered, requests a second.
pub(super) fn rate(text: &str) -> Result<Rate, String> {
    let rate = text.parse().ok().and_then(Rate::new);
    let allowed = |rate: &Rate| rate.per_second() > 0.0 && rate.per_second() <= load::MAX_RATE;
    rate.filter(allowed).ok_or_else(|| format!("a number of requests a second above 0, at most {}", load::MAX_RATE))
}

/// A header that requests are sent with.
pub(super) fn header(text: &str) -> Result<Header, String> {
    let parts = text.split_once(':').and_then(|(name, value)| Header::new(name.trim(), value.trim()));
    parts.ok_or_else(|| "a header like 'Name: value'".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_above_zero_and_can_be_offered() {
        for (text, per_second) in [("0.5", 0.5), ("200", 200.0), ("1e6", 1e6)] {
            assert_eq!(rate(text), Ok(Rate::new(per_second).unwrap()));
        }
        for text in ["0", "-1", "nan", "inf", "1000001", "1e308", "1e309", "many", ""] {
            assert_eq!(rate(text).unwrap_err(), "a number of requests a second above 0, at most 1000000", "{text}");
        }
    }
}
