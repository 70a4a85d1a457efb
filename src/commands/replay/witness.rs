//! What the host's processors did during a run: readings of their counters, and how they divide among its seconds. Reads nothing
//! itself.

use std::time::Duration;

use crate::commands::replay_output::HostUse;
use crate::units::Moment;
use crate::usage::{CoreTime, CpuUse};

/// Readings that are kept: a day at four a second.
const MOST_READINGS: usize = 345_600;

/// Time of all cores together since boot.
#[derive(Clone, Copy, Debug, Default)]
struct Reading {
    at: Moment,
    all: Duration,
    steal: Duration,
}

/// Collects readings.
#[derive(Debug, Default)]
pub(super) struct Witness {
    /// When the run began to count.
    counted_from: Option<Moment>,
    first: Option<Vec<CoreTime>>,
    last: Vec<CoreTime>,
    readings: Vec<Reading>,
}

impl Witness {
    /// The run counts from `moment` on; the first time this is told is when it is known.
    pub(super) fn counts_from(&mut self, moment: Moment) {
        self.counted_from.get_or_insert(moment);
    }

    /// The cores' counters now.
    pub(super) fn read(&mut self, at: Moment, cores: Vec<CoreTime>) {
        let sum = |of: &dyn Fn(&CoreTime) -> Duration| cores.iter().map(of).sum::<Duration>();
        let all = sum(&|core| core.modes().iter().map(|(_, time)| *time).sum());
        if self.readings.len() < MOST_READINGS {
            self.readings.push(Reading { at, all, steal: sum(&|core| core.steal) });
        }
        let is_before = self.counted_from.is_some_and(|from| at <= from);
        if is_before || self.first.is_none() {
            self.first = Some(cores.clone());
        }
        self.last = cores;
    }

    /// What they tell of a run of so many seconds.
    pub(super) fn tell(&self, seconds: usize) -> HostUse {
        let cores = CpuUse::between(self.first.as_deref().unwrap_or(&[]), &self.last).cores;
        let from = self.counted_from.unwrap_or_default();
        let ends = (0..=seconds as u64).map(|second| self.at(from.after(Duration::from_secs(second))));
        let ends: Vec<(f64, f64)> = ends.map_while(|end| end).collect();
        let share = |ends: &[(f64, f64); 2]| {
            let [(all, steal), (all_after, steal_after)] = *ends;
            (all_after > all).then(|| ((steal_after - steal) / (all_after - all)).max(0.0))
        };
        HostUse { cores, steal: ends.array_windows().map(share).collect() }
    }

    /// The counters at a moment, in seconds: on the straight line between the readings around it.
    fn at(&self, moment: Moment) -> Option<(f64, f64)> {
        let after = self.readings.partition_point(|reading| reading.at < moment);
        let later = self.readings.get(after).or(self.readings.last())?;
        let earlier = self.readings.get(after.saturating_sub(1)).unwrap_or(later);
        let between = later.at.since(earlier.at).as_secs_f64();
        let share = if between > 0.0 { (moment.since(earlier.at).as_secs_f64() / between).min(1.0) } else { 1.0 };
        let blend = |from: Duration, to: Duration| from.as_secs_f64() + (to.as_secs_f64() - from.as_secs_f64()) * share;
        Some((blend(earlier.all, later.all), blend(earlier.steal, later.steal)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::from_nanos(millis * 1_000_000)
    }

    fn core(idle: u64, steal: u64) -> Vec<CoreTime> {
        vec![CoreTime { idle: Duration::from_millis(idle), steal: Duration::from_millis(steal), ..CoreTime::default() }]
    }

    #[test]
    fn steal_is_divided_among_the_seconds_in_which_it_happened() {
        let mut witness = Witness::default();
        witness.read(at(0), core(0, 0));
        witness.counts_from(at(500));
        witness.counts_from(at(900));
        witness.read(at(500), core(500, 0));
        witness.read(at(1_500), core(1_500, 0));
        witness.read(at(2_000), core(1_900, 100));
        witness.read(at(2_500), core(2_300, 200));
        let told = witness.tell(3);
        let rounded: Vec<Option<f64>> =
            told.steal.iter().map(|share| share.map(|share| (share * 100.0).round() / 100.0)).collect();
        assert_eq!(rounded, [Some(0.0), Some(0.2), None]);
        assert_eq!(told.cores.len(), 1);
        assert!((told.cores[0].steal - 0.1).abs() < 1e-9, "{told:?}");
    }

    #[test]
    fn nothing_read_tells_nothing() {
        assert_eq!(Witness::default().tell(3), HostUse::default());
    }
}
