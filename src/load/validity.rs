//! Whether a second of a run can be trusted: limits on what the generator itself, or the host, did to the measurement. Pure; refuses
//! to judge the target.

use std::fmt;

use super::outcome::Second;

/// The least share of due requests that must be sent (open loads).
pub const SENT_SHARE: f64 = 0.99;
/// Requests that may cross into the next second without being missed.
pub const CROSSING: u64 = 1;
/// The largest p99 of the generator's own lateness, seconds, unless responses are slow.
pub const LATENESS: f64 = 1e-3;
/// The largest p99 of the generator's own lateness, as a share of the median latency.
pub const LATENESS_SHARE: f64 = 0.1;
/// The largest share of a second that the engine's thread may compute.
pub const BUSY: f64 = 0.7;
/// The largest share of processor time that other guests of the host may take.
pub const STEAL: f64 = 0.02;

/// Why a second cannot be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Doubt {
    /// Fewer requests were sent than were due; see [`SENT_SHARE`].
    Behind,
    /// The generator sent late; see [`LATENESS`].
    Late,
    /// The generator had too little time to spare; see [`BUSY`].
    Busy,
    /// The host gave its processors to others; see [`STEAL`].
    Steal,
    /// Requests found no connection.
    ConnectErrors,
}

/// Whether the target can keep the generator's thread from the processors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Processors {
    /// It cannot: it is on another host, or this thread goes before all others.
    Own,
    /// It can: it is on this host, and this thread waits its turn.
    Shared,
}

impl Doubt {
    /// Whether the generator or its host is to blame. The others can be the target's doing: a second is never left out for them. Where
    /// the target shares the [`Processors`], it makes the generator late when it is overloaded: without those seconds it would look
    /// better than it is.
    #[must_use]
    pub const fn is_ours(self, processors: Processors) -> bool {
        match self {
            Self::Late | Self::Busy => matches!(processors, Processors::Own),
            Self::Steal => true,
            Self::Behind | Self::ConnectErrors => false,
        }
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Behind => "fewer requests were sent than were due",
            Self::Late => "the generator sent requests late",
            Self::Busy => "the generator was short of processor time",
            Self::Steal => "other guests of this host took processor time",
            Self::ConnectErrors => "connections were refused",
        })
    }
}

/// What speaks against a second. Unknown steal does not. A closed load has nothing due by the clock and cannot be behind or late: its
/// `offered` is what was sent, and its lateness zero.
pub fn doubts(second: &Second) -> impl Iterator<Item = Doubt> + use<> {
    let [median, ..] = second.latency;
    let due = second.offered as f64 * SENT_SHARE;
    let signs = [
        (Doubt::Behind, ((second.sent + CROSSING) as f64) < due),
        (Doubt::Late, second.lateness_p99 > LATENESS.max(LATENESS_SHARE * median)),
        (Doubt::Busy, second.busy > BUSY),
        (Doubt::Steal, second.steal.is_some_and(|steal| steal > STEAL)),
        (Doubt::ConnectErrors, second.connect_errors > 0),
    ];
    signs.into_iter().filter_map(|(doubt, seen)| seen.then_some(doubt))
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: Second = Second {
        offered: 1_000,
        sent: 999,
        completed: 990,
        failed: 0,
        connect_errors: 0,
        latency: [0.002, 0.003, 0.004, 0.005],
        lateness_p99: 0.000_9,
        busy: 0.69,
        steal: None,
        left_out: false,
    };

    fn found(second: Second, steal: f64) -> Vec<Doubt> {
        doubts(&Second { steal: Some(steal), ..second }).collect()
    }

    #[test]
    fn each_limit_has_its_doubt() {
        assert_eq!(found(GOOD, 0.02), []);
        assert_eq!(found(Second { sent: 988, ..GOOD }, 0.0), [Doubt::Behind]);
        assert_eq!(found(Second { lateness_p99: 0.001_1, ..GOOD }, 0.0), [Doubt::Late]);
        assert_eq!(found(Second { busy: 0.71, ..GOOD }, 0.0), [Doubt::Busy]);
        assert_eq!(found(GOOD, 0.021), [Doubt::Steal]);
        assert_eq!(found(Second { connect_errors: 1, ..GOOD }, 0.0), [Doubt::ConnectErrors]);
        assert_eq!(found(Second { sent: 0, busy: 1.0, ..GOOD }, 1.0), [Doubt::Behind, Doubt::Busy, Doubt::Steal]);
    }

    #[test]
    fn slow_answers_allow_lateness_and_few_requests_may_cross_a_second() {
        assert_eq!(found(Second { lateness_p99: 0.009, latency: [0.1; 4], ..GOOD }, 0.0), []);
        assert_eq!(found(Second { offered: 2, sent: 1, ..GOOD }, 0.0), []);
        assert_eq!(found(Second::default(), 0.0), []);
        assert_eq!(doubts(&GOOD).count(), 0);
    }
}
