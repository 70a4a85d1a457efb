//! When each request of a plan is due under a [`Load`]. Open models draw the moments and take the sequence from the plan; recorded
//! times are shifted, scaled and superposed. Every timetable starts at a position of the plan and goes round, so two runs can play
//! the same slice.

use std::time::Duration;

use super::copies::Superposed;
use super::gaps::Gaps;
use super::model::{Arrivals, Load, Turns};
use super::plan::Plan;
use super::profile::Inverse;

/// A recorded connection, in one copy and one turn of the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub u64);

/// A request that becomes due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Its index in the plan.
    pub index: usize,
    /// When it is due, after the start of the run. A request of a session also waits for the answer to the one before it.
    pub at: Duration,
    /// The connection it belongs on; `None` if any will do.
    pub session: Option<SessionId>,
}

/// The arrivals of a load in order of time. Ends when the plan is played, or never if turns are endless.
#[derive(Clone, Debug)]
pub struct Timetable<'a> {
    source: Source<'a>,
}

#[derive(Clone, Debug)]
enum Source<'a> {
    Drawn { sequence: Sequence<'a>, gaps: Gaps, pace: Pace },
    Recorded(Superposed<'a>),
}

/// What the mean gap is.
#[derive(Clone, Debug)]
enum Pace {
    /// Always the same, in nanoseconds.
    Constant(f64),
    Varying(Inverse),
}

/// The requests of a plan in their order.
#[derive(Clone, Debug)]
struct Sequence<'a> {
    plan: &'a Plan,
    from: usize,
    sent: u64,
    turns: Turns,
}

impl<'a> Timetable<'a> {
    /// The arrivals of `load` over `plan` from its request number `from` (taken round the plan), or `None` if there are none: the
    /// rate is zero, a fraction of a copy has no session, or the load is closed and has no times.
    #[must_use]
    pub fn new(plan: &'a Plan, from: usize, load: &Load, turns: Turns) -> Option<Self> {
        let from = from % plan.requests().len();
        let sequence = Sequence { plan, from, sent: 0, turns };
        let source = match load {
            Load::Open { rate, arrivals } => {
                let gap = 1e9 / rate.per_second();
                gap.is_finite().then_some(Source::Drawn { sequence, gaps: Gaps::new(*arrivals), pace: Pace::Constant(gap) })?
            }
            Load::Profile { rate, arrivals } => {
                // Even arrivals come in the middle of their gaps, lest the first one fall into silence before the rate rises.
                let ahead = if *arrivals == Arrivals::Even { 0.5 } else { 0.0 };
                let pace = Pace::Varying(Inverse::new(rate.clone(), ahead));
                Source::Drawn { sequence, gaps: Gaps::new(*arrivals), pace }
            }
            Load::Recorded { speed, copies, sessions } => {
                Source::Recorded(Superposed::new(plan, from, *speed, *copies, *sessions, turns)?)
            }
            Load::Closed { .. } => return None,
        };
        Some(Self { source })
    }
}

impl Iterator for Timetable<'_> {
    type Item = Arrival;

    fn next(&mut self) -> Option<Arrival> {
        match &mut self.source {
            Source::Recorded(superposed) => superposed.next(),
            Source::Drawn { sequence, gaps, pace } => {
                let index = sequence.next()?;
                let at = pace.when(gaps.draw())?;
                Some(Arrival { index, at, session: None })
            }
        }
    }
}

impl Pace {
    /// When so many mean gaps have passed; `None` if sending has ended by then.
    fn when(&mut self, gaps: f64) -> Option<Duration> {
        match self {
            Self::Constant(gap) => Some(nanos(gaps * *gap)),
            Self::Varying(profile) => profile.when(gaps).map(|seconds| nanos(seconds * 1e9)),
        }
    }
}

impl Sequence<'_> {
    fn next(&mut self) -> Option<usize> {
        if self.turns == Turns::Once && self.sent >= self.plan.requests().len() as u64 {
            return None;
        }
        let index = self.plan.index(self.from, self.sent);
        self.sent += 1;
        Some(index)
    }
}

/// So many nanoseconds; saturates after 584 years.
fn nanos(count: f64) -> Duration {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "not negative, and saturates")]
    let count = count as u64;
    Duration::from_nanos(count)
}

#[cfg(test)]
mod tests;
