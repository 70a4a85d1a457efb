//! Load models as data: how requests are offered, by the clock (open), by the answers (closed), or as recorded, which is partly both
//! (Schroeder, Wierman, Harchol-Balter, "Open Versus Closed: A Cautionary Tale", NSDI 2006).

use std::num::NonZeroU32;
use std::time::Duration;

use super::plan::Plan;
use super::profile::Profile;
use super::scale::{Copies, Speed};
use crate::units::Rate;

/// How requests are offered.
#[derive(Clone, Debug, PartialEq)]
pub enum Load {
    /// At a rate of requests a second, independent of the responses and of recorded connections. The recording gives the sequence.
    Open {
        /// The mean rate.
        rate: Rate,
        /// How single arrivals lie around it.
        arrivals: Arrivals,
    },
    /// At a rate that changes over time, else as [`Open`](Self::Open). Ends with the profile, or earlier with the plan unless turns
    /// are endless.
    Profile {
        /// The rate over time.
        rate: Profile,
        /// How single arrivals lie around it.
        arrivals: Arrivals,
    },
    /// At the recorded times.
    Recorded {
        /// How much faster than recorded.
        speed: Speed,
        /// How many times the recorded traffic.
        copies: Copies,
        /// Whether recorded connections are played as such.
        sessions: Sessions,
    },
    /// By clients that send their next request when the last one is answered.
    Closed {
        /// How many there are.
        clients: NonZeroU32,
        /// What each of them takes next.
        order: ClosedOrder,
    },
}

/// The gaps between the requests of an open load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrivals {
    /// All equal.
    Even,
    /// Exponential: independent users.
    Poisson {
        /// What they depend on.
        seed: u64,
    },
    /// Exponential, but every 128 requests take exactly as many mean gaps: bursts as independent users make them, without the
    /// scatter of the count that would blur short comparisons (a Poisson process, given its count in each block).
    Steady {
        /// What they depend on.
        seed: u64,
    },
}

/// Whether recorded connections matter to a load by recorded times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sessions {
    /// Each recorded connection is one connection, and each of its requests waits for the answer to the one before.
    Kept,
    /// Any request goes out when it is due, on any connection.
    Pooled,
}

/// What a client of a closed load takes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClosedOrder {
    /// The next request of the plan, whoever made it.
    Requests,
    /// The next recorded session whole, or request that belongs to none, pausing between requests; see [`Plan::next_opening`].
    Sessions(Think),
}

/// The pause of a client between an answer and its next request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Think {
    /// None.
    None,
    /// The recorded one; see [`Plan::think`]. None between sessions, where nothing is recorded.
    Recorded,
    /// Always the same.
    Fixed(Duration),
}

/// How often a plan is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turns {
    /// Every request once.
    Once,
    /// Again and again; connections of a later turn are new ones.
    Endless,
}

impl Load {
    /// The highest mean rate that this load offers when it plays `plan`: over the plan's period when by recorded times, at the peak
    /// of a profile. `None` for a closed load, whose rate the target decides.
    #[must_use]
    pub fn rate(&self, plan: &Plan) -> Option<Rate> {
        match self {
            Self::Open { rate, .. } => Some(*rate),
            Self::Profile { rate, .. } => Some(rate.peak()),
            Self::Recorded { speed, copies, .. } => {
                let turns_a_second = speed.get() * copies.get() * 1e9 / plan.turn() as f64;
                Rate::new(plan.requests().len() as f64 * turns_a_second)
            }
            Self::Closed { .. } => None,
        }
    }
}
