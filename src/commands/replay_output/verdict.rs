//! Whether a replay met its objective.

use super::{HostUse, error_share, invalid};
use crate::load::Played;
use crate::study::Slo;

/// An objective and what was measured of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Verdict {
    /// The objective.
    pub slo: Slo,
    /// The bounded quantile, seconds.
    pub measured: f64,
    /// The share of requests that failed.
    pub errors: f64,
    /// Whether both bounds hold. Nothing completed meets nothing. `None` if no second can be trusted, which is no success either.
    pub met: Option<bool>,
}

impl Verdict {
    /// Judges a run.
    #[must_use]
    pub fn of(slo: Slo, played: &Played, host: &HostUse) -> Self {
        let measured = played.latency.quantile(slo.quantile().share());
        let errors = error_share(played);
        let is_unjudged = !played.seconds.is_empty() && invalid(played, host).len() == played.seconds.len();
        let met = match played.completed {
            0 => Some(false),
            _ if is_unjudged => None,
            _ => Some(measured <= slo.latency().as_secs_f64() && errors <= slo.error_share()),
        };
        Self { slo, measured, errors, met }
    }
}
