//! When an answer arrived, by the kernel's stamp (SO_TIMESTAMPNS, socket(7)) rather than by the moment this thread came to read it:
//! the wake-up of a sleeping thread takes tens of microseconds that are not the target's, and an answer may be read later on purpose.
//! A stamp is that of the last segment read. Loads with a schedule over plain TCP have stamps; unix sockets and TLS have none, and a
//! closed load needs none, since its client goes on only when it has read. Where an answer was over only with its connection, of which
//! no stamp tells, answers are read as they come from then on.
//!
//! Stamps are of the wall clock. What they are on the monotonic clock is known from the difference of both, which only changes when
//! somebody sets the wall clock: that is looked for before answers are read, and stamps from before it are not believed.

use std::time::Duration;

use crate::units::Moment;

/// Two readings of the clocks may be apart by this; more is a pause of this thread or a step of the wall clock.
const STEP_NANOS: u64 = 50_000;

/// Time of the wall clock, since 1970.
pub(super) type WallTime = Duration;

/// What the clocks showed at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    pub(super) monotonic: Moment,
    pub(super) wall: WallTime,
}

impl Reading {
    fn difference(&self) -> i128 {
        i128::try_from(self.wall.as_nanos()).unwrap_or(i128::MAX) - i128::from(self.monotonic.as_nanos())
    }
}

/// Makes moments of stamps.
#[derive(Debug)]
pub(super) struct Arrivals {
    difference: i128,
    /// Earlier moments are from before a step of the wall clock.
    trusted_from: Moment,
    /// Whether the last answer had a stamp.
    stamped: bool,
    /// Whether an answer was over only when its connection was: that has no stamp, and other answers of this target may end so too.
    ends_with_connections: bool,
}

impl Arrivals {
    /// `close` is a reading whose two times are as close together as they can be.
    pub(super) fn new(close: Reading) -> Self {
        Self { difference: close.difference(), trusted_from: Moment::default(), stamped: false, ends_with_connections: false }
    }

    /// Looks for a step of the wall clock; `close` gives a better reading where this one raises a doubt.
    pub(super) fn check(&mut self, reading: Reading, close: impl FnOnce() -> Reading) {
        if reading.difference().abs_diff(self.difference) <= u128::from(STEP_NANOS) {
            return;
        }
        let close = close();
        if close.difference().abs_diff(self.difference) > u128::from(STEP_NANOS) {
            self.difference = close.difference();
            self.trusted_from = close.monotonic;
        }
    }

    /// When what was read at `now` arrived; `now` if the stamp is missing or cannot be: it cannot be from before the request was sent.
    pub(super) fn moment(&mut self, stamp: Option<WallTime>, sent: Option<Moment>, now: Moment) -> Moment {
        self.stamped = stamp.is_some();
        let at = stamp.and_then(|stamp| {
            let nanos = i128::try_from(stamp.as_nanos()).ok()? - self.difference;
            u64::try_from(nanos).ok().map(Moment::from_nanos)
        });
        at.filter(|at| *at < now && *at >= self.trusted_from && sent.is_some_and(|sent| *at >= sent)).unwrap_or(now)
    }

    /// The end of a connection was the end of an answer.
    pub(super) fn ended_with_connection(&mut self) {
        self.ends_with_connections = true;
    }

    /// Whether an answer that is read late will not seem late.
    pub(super) const fn are_stamped(&self) -> bool {
        self.stamped && !self.ends_with_connections
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EPOCH: u64 = 1_700_000_000_000_000_000;

    fn at(nanos: u64) -> Moment {
        Moment::from_nanos(nanos)
    }

    fn reading(monotonic: u64, wall: u64) -> Reading {
        Reading { monotonic: at(monotonic), wall: Duration::from_nanos(wall) }
    }

    #[test]
    fn a_stamp_counts_unless_it_cannot_be() {
        let mut arrivals = Arrivals::new(reading(1_000, EPOCH));
        assert!(!arrivals.are_stamped());
        let mut moment = |stamp: Option<u64>| arrivals.moment(stamp.map(Duration::from_nanos), Some(at(5_000)), at(9_000));
        assert_eq!(moment(Some(EPOCH + 6_000)), at(7_000));
        assert_eq!(moment(Some(EPOCH + 3_000)), at(9_000), "before the request was sent");
        assert_eq!(moment(Some(EPOCH + 9_500)), at(9_000), "in the future");
        assert_eq!(moment(Some(0)), at(9_000));
        assert_eq!(moment(None), at(9_000));
        assert!(!arrivals.are_stamped());
        assert_eq!(arrivals.moment(Some(Duration::from_nanos(EPOCH)), None, at(9_000)), at(9_000), "never sent");
        assert!(arrivals.are_stamped());
        arrivals.ended_with_connection();
        arrivals.moment(Some(Duration::from_nanos(EPOCH)), None, at(9_000));
        assert!(!arrivals.are_stamped(), "not every end has a stamp");
    }

    #[test]
    fn a_step_of_the_wall_clock_is_noticed_and_a_pause_is_not_taken_for_one() {
        let mut arrivals = Arrivals::new(reading(0, EPOCH));
        arrivals.check(reading(1_000, EPOCH + 21_000), || panic!("close enough"));
        arrivals.check(reading(1_000, EPOCH + 400_000), || reading(500_000, EPOCH + 500_000));
        assert_eq!(arrivals.moment(Some(Duration::from_nanos(EPOCH + 600_000)), Some(at(0)), at(700_000)), at(600_000));
        // One second back.
        let back = EPOCH - 1_000_000_000;
        arrivals.check(reading(1_000_000, back + 1_000_000), || reading(1_000_100, back + 1_000_100));
        let mut moment = |stamp: u64| arrivals.moment(Some(Duration::from_nanos(stamp)), Some(at(0)), at(2_000_000));
        assert_eq!(moment(back + 1_500_000), at(1_500_000));
        assert_eq!(moment(back + 900_000), at(2_000_000), "stamped before the step was seen");
    }
}
