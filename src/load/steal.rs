//! How much processor time other guests of the host took in each second. Another thread reads the counters, since that may take longer
//! than a request does, and passes them on; neither thread waits for the other.

use std::collections::VecDeque;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use super::validity::Processors;
use crate::units::Moment;

/// Readings that are kept: those of several seconds.
const KEPT: usize = 64;

/// The counters of all cores together, since boot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostReading {
    /// When they were read, on CLOCK_MONOTONIC.
    pub at: Moment,
    /// Time of every kind, idle too.
    pub all: Duration,
    /// Time that other guests took.
    pub steal: Duration,
}

/// Which seconds of a load with a schedule its latencies and rates come from.
#[derive(Clone, Copy, Debug)]
pub enum Basis<'a> {
    /// All of them: who plays has checks of their own.
    EverySecond,
    /// Those that neither the generator nor its host spoiled (see [`Doubt::is_ours`](super::Doubt::is_ours)). The host's counters
    /// are to be read several times a second.
    UnspoiledSeconds(&'a Receiver<HostReading>, Processors),
}

#[derive(Debug)]
pub(super) struct Steal<'a> {
    basis: Basis<'a>,
    readings: VecDeque<HostReading>,
}

impl<'a> Steal<'a> {
    pub(super) fn new(basis: Basis<'a>) -> Self {
        Self { basis, readings: VecDeque::with_capacity(KEPT) }
    }

    /// The share of the processors' time that others took from `from` to `to`; `None` if it was not read.
    pub(super) fn share(&mut self, from: Moment, to: Moment) -> Option<f64> {
        self.take_in();
        let (all, steal) = self.at(from)?;
        let (all_after, steal_after) = self.at(to)?;
        (all_after > all).then(|| ((steal_after - steal) / (all_after - all)).max(0.0))
    }

    fn take_in(&mut self) {
        let Basis::UnspoiledSeconds(news, _) = self.basis else { return };
        for reading in news.try_iter() {
            if self.readings.len() == KEPT {
                self.readings.pop_front();
            }
            self.readings.push_back(reading);
        }
    }

    /// The counters at a moment, in seconds: on the straight line between the readings around it.
    fn at(&self, moment: Moment) -> Option<(f64, f64)> {
        let after = self.readings.partition_point(|reading| reading.at < moment);
        let later = self.readings.get(after).or(self.readings.back())?;
        let earlier = self.readings.get(after.saturating_sub(1)).unwrap_or(later);
        let between = later.at.since(earlier.at).as_secs_f64();
        let share = if between > 0.0 { (moment.since(earlier.at).as_secs_f64() / between).min(1.0) } else { 1.0 };
        let blend = |from: Duration, to: Duration| from.as_secs_f64() + (to.as_secs_f64() - from.as_secs_f64()) * share;
        Some((blend(earlier.all, later.all), blend(earlier.steal, later.steal)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::from_nanos(millis * 1_000_000)
    }

    fn reading(millis: u64, steal: u64) -> HostReading {
        HostReading { at: at(millis), all: Duration::from_millis(millis), steal: Duration::from_millis(steal) }
    }

    #[test]
    fn steal_is_divided_among_the_seconds_in_which_it_happened() {
        let (sender, receiver) = mpsc::channel();
        let mut steal = Steal::new(Basis::UnspoiledSeconds(&receiver, Processors::Own));
        assert_eq!(steal.share(at(0), at(1_000)), None);
        for told in [reading(0, 0), reading(500, 0), reading(1_500, 0), reading(2_000, 100), reading(2_500, 200)] {
            sender.send(told).unwrap();
        }
        let mut share = |from, to| steal.share(at(from), at(to)).map(|share| (share * 100.0).round() / 100.0);
        assert_eq!((share(500, 1_500), share(1_500, 2_500), share(1_750, 2_000)), (Some(0.0), Some(0.2), Some(0.2)));
        assert_eq!(share(2_500, 3_500), None, "nothing was read after the second began");
        for millis in 0..10 * KEPT as u64 {
            sender.send(reading(10_000 + millis, 200)).unwrap();
        }
        assert_eq!(steal.share(at(10_600), at(10_630)), Some(0.0));
        assert!(steal.readings.len() == KEPT && steal.readings.capacity() < 2 * KEPT);
    }

    #[test]
    fn nothing_is_known_where_nothing_is_asked() {
        assert_eq!(Steal::new(Basis::EverySecond).share(at(0), at(1_000)), None);
    }
}
