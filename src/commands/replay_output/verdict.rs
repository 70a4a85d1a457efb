//! Whether a replay met its objective.

use super::error_share;
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
    /// Whether both bounds hold. Nothing completed meets nothing.
    pub met: bool,
}

impl Verdict {
    /// Judges a run.
    #[must_use]
    pub fn of(slo: Slo, played: &Played) -> Self {
        let measured = played.latency.quantile(slo.quantile().share());
        let errors = error_share(played);
        let met = played.completed > 0 && measured <= slo.latency().as_secs_f64() && errors <= slo.error_share();
        Self { slo, measured, errors, met }
    }
}
