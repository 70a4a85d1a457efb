//! What the service promises: a latency quantile below a bound, and a share of errors below a bound. Refuses promises nobody could keep or check.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A service-level objective, written `p90<700ms,errors<0.1%`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Slo {
    quantile: Quantile,
    latency: Duration,
    error_percent: f64,
}

/// A bound on errors alone, written `errors<1%`: for judging a load that is given, not for finding the highest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ErrorBound {
    percent: f64,
}

/// Which latency is promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quantile {
    /// The median.
    P50,
    /// Nine of ten requests.
    P90,
    /// Nineteen of twenty requests.
    P95,
    /// Ninety-nine of a hundred requests.
    P99,
    /// Every request.
    Max,
}

/// Why a text is not a service-level objective.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SloError {
    /// A part has no `<`.
    #[error("`{0}` is not a bound: write for example p90<700ms,errors<0.1%")]
    NotABound(String),
    /// What is bounded is neither a known quantile nor `errors`.
    #[error("`{0}` cannot be bounded: use p50, p90, p95, p99, max or errors")]
    UnknownName(String),
    /// The latency is not a positive number with a unit, or is above an hour.
    #[error("`{0}` is not a latency: write a number above 0 (at most an hour) and ms, s or us, as in 700ms")]
    Latency(String),
    /// The share of errors is not a percentage.
    #[error("`{0}` is not a share of errors: write a percentage from 0% to 100%, as in 0.1%")]
    Errors(String),
    /// Two latency bounds, or two bounds on errors.
    #[error("{0} is bounded twice: give one bound on latency and one on errors")]
    Twice(&'static str),
    /// No latency bound.
    #[error("no bound on latency: write for example p90<700ms,errors<0.1%")]
    NoLatency,
}

/// Errors allowed when nothing is said about them, in percent.
const DEFAULT_ERROR_PERCENT: f64 = 0.1;
const LONGEST: f64 = 3600.0;

impl Slo {
    /// The promised quantile.
    #[must_use]
    pub const fn quantile(&self) -> Quantile {
        self.quantile
    }

    /// The bound of that quantile.
    #[must_use]
    pub const fn latency(&self) -> Duration {
        self.latency
    }

    /// The share of requests that may be later than [`Self::latency`].
    #[must_use]
    pub const fn late_share(&self) -> f64 {
        1.0 - self.quantile.share()
    }

    /// The share of requests that may fail.
    #[must_use]
    pub const fn error_share(&self) -> f64 {
        self.error_percent / 100.0
    }
}

impl ErrorBound {
    /// The share of requests that may fail.
    #[must_use]
    pub const fn share(self) -> f64 {
        self.percent / 100.0
    }
}

impl FromStr for ErrorBound {
    type Err = SloError;

    fn from_str(text: &str) -> Result<Self, SloError> {
        let (name, value) = text.split_once('<').ok_or_else(|| SloError::NotABound(text.to_owned()))?;
        if !name.trim().eq_ignore_ascii_case("errors") {
            return Err(SloError::UnknownName(name.trim().to_owned()));
        }
        let percent = parse_percent(value.trim()).ok_or_else(|| SloError::Errors(value.trim().to_owned()))?;
        Ok(Self { percent })
    }
}

impl fmt::Display for ErrorBound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "errors<{}%", self.percent)
    }
}

impl Quantile {
    /// The share of requests it covers.
    #[must_use]
    pub const fn share(self) -> f64 {
        match self {
            Self::P50 => 0.50,
            Self::P90 => 0.90,
            Self::P95 => 0.95,
            Self::P99 => 0.99,
            Self::Max => 1.0,
        }
    }

    /// Its name in an objective.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::P50 => "p50",
            Self::P90 => "p90",
            Self::P95 => "p95",
            Self::P99 => "p99",
            Self::Max => "max",
        }
    }

    fn named(name: &str) -> Option<Self> {
        [Self::P50, Self::P90, Self::P95, Self::P99, Self::Max].into_iter().find(|quantile| quantile.name() == name)
    }
}

impl FromStr for Slo {
    type Err = SloError;

    fn from_str(text: &str) -> Result<Self, SloError> {
        let (mut bound, mut errors) = (None, None);
        for clause in text.split(',').map(str::trim) {
            let (name, value) = clause.split_once('<').ok_or_else(|| SloError::NotABound(clause.to_owned()))?;
            let (name, value) = (name.trim().to_ascii_lowercase(), value.trim());
            if name == "errors" {
                let percent = parse_percent(value).ok_or_else(|| SloError::Errors(value.to_owned()))?;
                if errors.replace(percent).is_some() {
                    return Err(SloError::Twice("errors"));
                }
            } else {
                let quantile = Quantile::named(&name).ok_or(SloError::UnknownName(name))?;
                let latency = parse_latency(value).ok_or_else(|| SloError::Latency(value.to_owned()))?;
                if bound.replace((quantile, latency)).is_some() {
                    return Err(SloError::Twice("latency"));
                }
            }
        }
        let (quantile, latency) = bound.ok_or(SloError::NoLatency)?;
        Ok(Self { quantile, latency, error_percent: errors.unwrap_or(DEFAULT_ERROR_PERCENT) })
    }
}

fn parse_percent(text: &str) -> Option<f64> {
    let percent: f64 = text.strip_suffix('%')?.trim_end().parse().ok()?;
    (0.0..=100.0).contains(&percent).then_some(percent)
}

fn parse_latency(text: &str) -> Option<Duration> {
    const UNITS: [(&str, f64); 4] = [("ms", 1e-3), ("us", 1e-6), ("µs", 1e-6), ("s", 1.0)];
    let (number, unit) = UNITS.iter().find_map(|(suffix, unit)| Some((text.strip_suffix(suffix)?, unit)))?;
    let seconds: f64 = number.trim_end().parse::<f64>().ok()? * unit;
    let latency = (seconds <= LONGEST).then(|| Duration::try_from_secs_f64(seconds).ok())??;
    (!latency.is_zero()).then_some(latency)
}

impl fmt::Display for Slo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.latency.as_nanos();
        write!(f, "{}<", self.quantile.name())?;
        if nanos.is_multiple_of(1_000_000_000) {
            write!(f, "{}s", self.latency.as_secs())?;
        } else if nanos.is_multiple_of(1_000_000) {
            write!(f, "{}ms", self.latency.as_millis())?;
        } else {
            write!(f, "{}us", nanos as f64 / 1e3)?;
        }
        write!(f, ",errors<{}%", self.error_percent)
    }
}

impl From<Slo> for String {
    fn from(slo: Slo) -> Self {
        slo.to_string()
    }
}

impl TryFrom<String> for Slo {
    type Error = SloError;

    fn try_from(text: String) -> Result<Self, SloError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round_trip(text: &str) -> String {
        text.parse::<Slo>().unwrap().to_string()
    }

    #[test]
    fn reads_and_prints_the_same_objective() {
        for text in ["p90<700ms,errors<0.1%", "max<2s,errors<0%", "p99<250us,errors<12.5%", "p50<0.5us,errors<0.7%"] {
            assert_eq!(round_trip(text), text);
        }
        assert_eq!(round_trip(" errors < 1 % , P95 < 1.5s "), "p95<1500ms,errors<1%");
        assert_eq!(round_trip("p90<0.7s"), "p90<700ms,errors<0.1%");
    }

    #[test]
    fn offers_its_bounds_as_shares() {
        let slo: Slo = "p90<700ms,errors<0.1%".parse().unwrap();
        assert_eq!(slo.latency(), Duration::from_millis(700));
        assert!((slo.late_share() - 0.1).abs() < 1e-12 && (slo.error_share() - 0.001).abs() < 1e-12);
    }

    #[test]
    fn refuses_what_cannot_be_checked() {
        let refusals: Vec<String> = [
            "",
            "p90",
            "p42<1s",
            "p90<700",
            "p90<0ms",
            "p90<-1s",
            "p90<2h",
            "p90<nans",
            "p90<99999s",
            "p90<1s,errors<2",
            "p90<1s,errors<101%",
            "p90<1s,p99<2s",
            "p90<1s,errors<1%,errors<1%",
            "errors<1%",
        ]
        .iter()
        .map(|text| format!("{text:?}: {}", text.parse::<Slo>().unwrap_err()))
        .collect();
        insta::assert_snapshot!(refusals.join("\n"));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused_and_what_is_read_round_trips(text in "[pmaxer0-9<>,.%us -]{0,30}") {
            if let Ok(slo) = text.parse::<Slo>() {
                proptest::prop_assert_eq!(slo.to_string().parse::<Slo>().unwrap(), slo);
            }
        }
    }
}
