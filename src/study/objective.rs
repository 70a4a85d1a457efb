//! What "best" means.

use serde::{Deserialize, Serialize};

use crate::study::Task;
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
}
