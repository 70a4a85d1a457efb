//! What the host's processors did during a run, by readings of their counters. Reads nothing itself.

use std::time::Duration;

use crate::commands::replay_output::HostUse;
use crate::load::HostReading;
use crate::units::Moment;
use crate::usage::{CoreTime, CpuUse};

/// Collects readings.
#[derive(Debug, Default)]
pub(super) struct Witness {
    /// When the run began to count.
    counted_from: Option<Moment>,
    first: Option<Vec<CoreTime>>,
    last: Vec<CoreTime>,
}

impl Witness {
    /// The run counts from `moment` on; the first time this is told is when it is known.
    pub(super) fn counts_from(&mut self, moment: Moment) {
        self.counted_from.get_or_insert(moment);
    }

    /// The cores' counters now. Returns what the engine is to know of them.
    pub(super) fn read(&mut self, at: Moment, cores: Vec<CoreTime>) -> HostReading {
        let sum = |of: &dyn Fn(&CoreTime) -> Duration| cores.iter().map(of).sum::<Duration>();
        let all = sum(&|core| core.modes().iter().map(|(_, time)| *time).sum());
        let reading = HostReading { at, all, steal: sum(&|core| core.steal) };
        let is_before = self.counted_from.is_some_and(|from| at <= from);
        if is_before || self.first.is_none() {
            self.first = Some(cores.clone());
        }
        self.last = cores;
        reading
    }

    /// What they tell of the run.
    pub(super) fn tell(&self) -> HostUse {
        HostUse { cores: CpuUse::between(self.first.as_deref().unwrap_or(&[]), &self.last).cores }
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
    fn what_cores_did_before_the_run_counted_is_not_told() {
        let mut witness = Witness::default();
        witness.read(at(0), core(0, 0));
        witness.counts_from(at(500));
        witness.counts_from(at(900));
        witness.read(at(500), core(500, 0));
        let reading = witness.read(at(2_500), core(2_300, 200));
        let (all, steal) = (Duration::from_millis(2_500), Duration::from_millis(200));
        assert_eq!(reading, HostReading { at: at(2_500), all, steal });
        let told = witness.tell();
        assert_eq!(told.cores.len(), 1);
        assert!((told.cores[0].steal - 0.1).abs() < 1e-9, "{told:?}");
    }

    #[test]
    fn nothing_read_tells_nothing() {
        assert_eq!(Witness::default().tell(), HostUse::default());
    }
}
