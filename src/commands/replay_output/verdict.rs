//! Whether a replay met its objective.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::{error_share, invalid, kept};
use crate::load::Played;
use crate::study::{ErrorBound, Slo, SloError};

/// The least share of the sending time whose latencies tell of the whole.
const KEPT_SHARE: f64 = 0.5;

/// What a replay must hold, written `p90<700ms,errors<0.1%`, or `errors<1%` if latency does not matter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Objective {
    /// A latency, and a share of errors.
    Both(Slo),
    /// A share of errors only.
    Errors(ErrorBound),
}

/// An objective and what was measured of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verdict {
    /// The objective.
    pub objective: Objective,
    /// The bounded quantile, seconds; `None` if no latency is bounded.
    pub measured: Option<f64>,
    /// The share of requests that failed.
    pub errors: f64,
    /// Whether all bounds hold. Nothing completed meets nothing. `None` if no second can be trusted, or if a latency is bounded and
    /// latencies are those of less than half of the time: neither is a success.
    pub met: Option<bool>,
}

impl Verdict {
    /// Judges a run.
    #[must_use]
    pub fn of(objective: Objective, played: &Played) -> Self {
        let errors = error_share(played);
        let none_trusted = !played.seconds.is_empty() && invalid(played).len() == played.seconds.len();
        // Errors are of all seconds.
        let is_unjudged = none_trusted || (objective.latency().is_some() && kept(played) < played.sending.mul_f64(KEPT_SHARE));
        let (measured, holds) = match objective {
            Objective::Both(slo) => {
                let measured = played.latency.quantile(slo.quantile().share());
                (Some(measured), measured <= slo.latency().as_secs_f64() && errors <= slo.error_share())
            }
            Objective::Errors(bound) => (None, errors <= bound.share()),
        };
        let met = match played.completed {
            0 => Some(false),
            _ if is_unjudged => None,
            _ => Some(holds),
        };
        Self { objective, measured, errors, met }
    }
}

impl Objective {
    /// The latency it bounds.
    #[must_use]
    pub const fn latency(&self) -> Option<Duration> {
        match self {
            Self::Both(slo) => Some(slo.latency()),
            Self::Errors(_) => None,
        }
    }
}

impl FromStr for Objective {
    type Err = SloError;

    fn from_str(text: &str) -> Result<Self, SloError> {
        match text.parse() {
            Err(SloError::NoLatency) => text.parse().map(Self::Errors),
            read => read.map(Self::Both),
        }
    }
}

impl fmt::Display for Objective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Both(slo) => slo.fmt(f),
            Self::Errors(bound) => bound.fmt(f),
        }
    }
}
