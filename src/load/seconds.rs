//! A run second by second. Counts go to the second in which they happen, but what was due goes to the second it was due in, even when
//! this thread comes to it later.

use std::time::Duration;

use super::MAX_SECONDS;
use super::outcome::Second;
use super::spread::Spread;
use crate::units::Moment;

const SECOND: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Seconds {
    /// The start of the second that runs.
    start: Moment,
    /// This thread's CPU time then.
    cpu: Duration,
    current: Second,
    latency: Spread,
    lateness: Spread,
    done: Vec<Second>,
    recent: Second,
}

impl Seconds {
    pub(super) fn new(start: Moment, cpu: Duration) -> Self {
        Self {
            start,
            cpu,
            current: Second::default(),
            latency: Spread::new(),
            lateness: Spread::new(),
            done: Vec::with_capacity(64),
            recent: Second::default(),
        }
    }

    /// A request that was due at `due` is taken up.
    pub(super) fn taken(&mut self, due: Moment, late: Duration) {
        self.lateness.record(late);
        let before = self.start.since(due);
        if before.is_zero() {
            self.current.offered += 1;
            return;
        }
        let back = usize::try_from(before.as_nanos().div_ceil(SECOND.as_nanos())).unwrap_or(usize::MAX);
        let length = self.done.len();
        match length.checked_sub(back).and_then(|index| self.done.get_mut(index)) {
            Some(second) => second.offered += 1,
            None => self.current.offered += 1,
        }
    }

    /// A client takes up a request that is due only now.
    pub(super) fn wanted(&mut self) {
        self.current.offered += 1;
    }

    pub(super) fn sent(&mut self) {
        self.current.sent += 1;
    }

    pub(super) fn completed(&mut self, latency: Duration) {
        self.current.completed += 1;
        self.latency.record(latency);
    }

    pub(super) fn failed(&mut self) {
        self.current.failed += 1;
    }

    pub(super) fn found_nobody(&mut self) {
        self.current.connect_errors += 1;
    }

    /// When the running second ends.
    pub(super) fn ends_at(&self) -> Moment {
        self.start.after(SECOND)
    }

    /// Closes every second that has passed. `cpu` tells this thread's CPU time.
    pub(super) fn turn(&mut self, now: Moment, cpu: impl FnOnce() -> Duration) {
        if now < self.ends_at() {
            return;
        }
        let used = self.busy(now, cpu());
        while now >= self.ends_at() {
            self.close(used);
            self.start = self.ends_at();
        }
    }

    /// The last whole second.
    pub(super) fn recent(&self) -> Second {
        self.recent
    }

    /// All seconds. The last one is cut short, and left out if nothing happened in it.
    pub(super) fn finish(mut self, now: Moment, cpu: Duration) -> Vec<Second> {
        self.turn(now, || cpu);
        if self.current != Second::default() {
            let used = self.busy(now, cpu);
            self.close(used);
        }
        self.done
    }

    /// The share of the time since the last close that this thread computed.
    fn busy(&mut self, now: Moment, cpu: Duration) -> f64 {
        let used = cpu.saturating_sub(std::mem::replace(&mut self.cpu, cpu));
        let elapsed = now.since(self.start).as_secs_f64();
        if elapsed > 0.0 { (used.as_secs_f64() / elapsed).min(1.0) } else { 0.0 }
    }

    fn close(&mut self, busy: f64) {
        let [p50, p90, p99] = self.latency.quantiles([0.5, 0.9, 0.99]);
        let [lateness_p99] = self.lateness.quantiles([0.99]);
        let latency = [p50, p90, p99, self.latency.longest()];
        self.recent = Second { latency, lateness_p99, busy, ..std::mem::take(&mut self.current) };
        self.latency.clear();
        self.lateness.clear();
        if self.done.len() < MAX_SECONDS {
            self.done.push(self.recent);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::from_nanos(millis * 1_000_000)
    }

    #[test]
    fn counts_go_where_they_belong() {
        let mut seconds = Seconds::new(at(0), Duration::ZERO);
        seconds.taken(at(10), Duration::from_micros(50));
        seconds.sent();
        seconds.completed(Duration::from_millis(3));
        seconds.turn(at(999), || panic!("not asked for"));
        seconds.turn(at(1_100), || Duration::from_millis(550));
        assert!((seconds.recent().busy - 0.5).abs() < 1e-9);
        // Due in the first second, taken up and failed in the second one.
        seconds.taken(at(990), Duration::from_millis(110));
        seconds.failed();
        seconds.found_nobody();
        // Due before the start: the settling time left it over.
        let all = seconds.finish(at(1_600), Duration::from_millis(850));
        let [first, second] = all.as_slice() else { panic!("{all:?}") };
        assert_eq!((first.offered, first.sent, first.completed, first.failed), (2, 1, 1, 0));
        assert!((first.latency[0] - 0.003).abs() < 1e-4 && (first.latency[3] - 0.003).abs() < 1e-9);
        assert!((first.lateness_p99 - 50e-6).abs() < 1e-9);
        assert_eq!((second.offered, second.failed, second.connect_errors), (0, 1, 1));
        assert!((second.busy - 0.5).abs() < 1e-9, "{}", second.busy);
    }

    #[test]
    fn seconds_in_which_this_thread_did_not_run_are_there() {
        let mut seconds = Seconds::new(at(500), Duration::ZERO);
        seconds.taken(at(400), Duration::ZERO);
        seconds.turn(at(3_600), || Duration::ZERO);
        assert_eq!(seconds.ends_at(), at(4_500));
        let all = seconds.finish(at(3_700), Duration::ZERO);
        assert_eq!(all.iter().map(|second| second.offered).collect::<Vec<_>>(), [1, 0, 0]);
    }
}
