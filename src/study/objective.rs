//! What "best" means.

use std::num::NonZeroU16;

use serde::{Deserialize, Serialize};

use crate::stats::{Interval, Spread};
use crate::study::{Candidate, Measurement, Pace, Task};
use crate::units::Rate;

/// What the search looks for. Configurations must meet the service-level objective in every case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Objective {
    /// The most requests a second.
    #[default]
    Capacity,
    /// The lowest latency, of the quantile that is bounded, at a fixed rate.
    Latency {
        /// The rate.
        at: Rate,
    },
    /// The fewest cores, then the least memory, at a fixed rate.
    Cost {
        /// The rate.
        at: Rate,
    },
}

impl Objective {
    /// What a full trial finds out under this objective.
    #[must_use]
    pub const fn task(self) -> Task {
        match self {
            Self::Capacity => Task::Measure,
            Self::Latency { at } | Self::Cost { at } => Task::Serve { rate: at.per_second() },
        }
    }

    /// How good a measurement of `candidate` is on a host of `cores` cores: positive, more is better, a ratio of two merits means something.
    /// Requests a second; or the inverse of the bounded latency; or the inverse of the cores that the workers can keep busy, as a worker keeps one
    /// busy at most. `None` if it met nothing, or did not measure this.
    #[must_use]
    pub fn merit(self, found: &Measurement, candidate: Candidate, cores: NonZeroU16) -> Option<f64> {
        let merit = match self {
            Self::Capacity => Some(found.capacity),
            Self::Latency { .. } => found.bounded.map(f64::recip),
            Self::Cost { .. } => Some(1.0 / f64::from(candidate.workers.get().min(cores.get()))),
        };
        merit.filter(|merit| found.capacity > 0.0 && merit.is_finite() && *merit > 0.0)
    }

    /// A merit, or a ratio of two, in the objective's own unit: requests a second; seconds of latency; cores. The latter two are better when less.
    #[must_use]
    pub fn amount(self, merit: Interval) -> Interval {
        match self {
            Self::Capacity => merit,
            Self::Latency { .. } | Self::Cost { .. } => {
                Interval { value: 1.0 / merit.value, low: 1.0 / merit.high, high: 1.0 / merit.low }
            }
        }
    }

    /// The rate that every trial serves, requests a second; `None` where capacity is looked for.
    #[must_use]
    pub const fn fixed_rate(self) -> Option<f64> {
        match self {
            Self::Capacity => None,
            Self::Latency { at } | Self::Cost { at } => Some(at.per_second()),
        }
    }

    /// How much the merit of one candidate scatters between trials, before a study has seen any repetition. A latency near the knee scatters several
    /// times as much as a capacity; a number of cores does not.
    #[must_use]
    pub const fn scatter(self, pace: Pace) -> Spread {
        let Spread { sd, weight } = pace.scatter();
        match self {
            Self::Capacity => Spread { sd, weight },
            Self::Latency { .. } => Spread { sd: LATENCY_SCATTER * sd, weight },
            Self::Cost { .. } => Spread { sd: 1e-6, weight },
        }
    }
}

const LATENCY_SCATTER: f64 = 3.0;
