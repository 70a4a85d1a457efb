//! Factors by which recorded traffic is changed: [`Speed`] and [`Copies`]. Refuses what is no number above zero, or beyond a named bound.

use std::fmt;
use std::str::FromStr;

/// The highest speed.
pub const MAX_SPEED: f64 = 1_000.0;
/// The most copies.
pub const MAX_COPIES: f64 = 1_000.0;

/// How much faster than recorded: 2 halves every gap.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Speed(f64);

/// How many times the recorded traffic, fractions too: every copy has its own connections and its own shift in time.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Copies(f64);

/// Why a text is no factor.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ScaleError {
    /// It is no number.
    #[error("{0:?} is not a number; write it like 2 or 0.5")]
    NotANumber(String),
    /// It is a number that makes no sense.
    #[error("{given} is not above 0 and at most {limit}")]
    OutOfRange {
        /// What was written.
        given: String,
        /// The bound.
        limit: f64,
    },
}

impl Speed {
    /// As recorded.
    pub const RECORDED: Self = Self(1.0);

    /// `factor` times as fast, or `None` unless it is above 0 and at most [`MAX_SPEED`].
    #[must_use]
    pub fn new(factor: f64) -> Option<Self> {
        (factor > 0.0 && factor <= MAX_SPEED).then_some(Self(factor))
    }

    /// The factor.
    #[must_use]
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl Copies {
    /// The recorded traffic itself.
    pub const ONE: Self = Self(1.0);

    /// `count` copies, or `None` unless it is above 0 and at most [`MAX_COPIES`].
    #[must_use]
    pub fn new(count: f64) -> Option<Self> {
        (count > 0.0 && count <= MAX_COPIES).then_some(Self(count))
    }

    /// The count.
    #[must_use]
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl FromStr for Speed {
    type Err = ScaleError;

    fn from_str(text: &str) -> Result<Self, ScaleError> {
        parse(text, MAX_SPEED, Self::new)
    }
}

impl FromStr for Copies {
    type Err = ScaleError;

    fn from_str(text: &str) -> Result<Self, ScaleError> {
        parse(text, MAX_COPIES, Self::new)
    }
}

impl fmt::Display for Speed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Copies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

fn parse<T>(text: &str, limit: f64, new: impl Fn(f64) -> Option<T>) -> Result<T, ScaleError> {
    let number: f64 = text.trim().parse().map_err(|_| ScaleError::NotANumber(text.to_owned()))?;
    new(number).ok_or_else(|| ScaleError::OutOfRange { given: text.to_owned(), limit })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_are_above_zero_and_bounded() {
        assert_eq!("0.25".parse(), Ok(Speed(0.25)));
        assert_eq!(" 1e3 ".parse(), Ok(Copies(1_000.0)));
        for text in ["0", "-1", "inf", "NaN", "1000.5"] {
            let refusal = text.parse::<Copies>().unwrap_err().to_string();
            assert_eq!(refusal, format!("{text} is not above 0 and at most 1000"));
            assert_eq!(text.parse::<Speed>().unwrap_err().to_string(), refusal);
        }
        assert_eq!("2x".parse::<Speed>().unwrap_err().to_string(), r#""2x" is not a number; write it like 2 or 0.5"#);
    }
}
