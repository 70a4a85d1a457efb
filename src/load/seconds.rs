//! A run second by second. Counts go to the second in which they happen. A second is to be closed when all that was due in it has been
//! taken up, however late: then what was late is late in the second it was due in.

use std::time::Duration;

use super::MAX_SECONDS;
use super::outcome::Second;
use super::spread::Spread;
use crate::units::Moment;

const SECOND: Duration = Duration::from_secs(1);
const NANOS: u64 = 1_000_000_000;

#[derive(Debug)]
pub(super) struct Seconds {
    /// The start of the second that runs.
    start: Moment,
    /// When this thread's CPU time was last looked at, what it was, and what share of the time before that is.
    read_at: Moment,
    cpu: Duration,
    busy: f64,
    current: Second,
    latency: Spread,
    lateness: Spread,
    done: Vec<Second>,
    /// How many have ended; no more than [`MAX_SECONDS`] are kept.
    ended: usize,
    recent: Second,
}

impl Seconds {
    pub(super) fn new(start: Moment, cpu: Duration) -> Self {
        Self {
            start,
            read_at: start,
            cpu,
            busy: 0.0,
            current: Second::default(),
            latency: Spread::new(),
            lateness: Spread::new(),
            done: Vec::with_capacity(64),
            ended: 0,
            recent: Second::default(),
        }
    }

    /// The first second begins now.
    pub(super) fn begin(&mut self, now: Moment, cpu: Duration) {
        (self.start, self.read_at, self.cpu) = (now, now, cpu);
    }

    /// A request that was due in this second is taken up.
    pub(super) fn taken(&mut self, late: Duration) {
        self.lateness.record(late);
        self.current.offered += 1;
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

    /// Ends the running second. `cpu` tells this thread's CPU time. Of several that end at once, each was as busy as all together.
    pub(super) fn close(&mut self, now: Moment, cpu: impl FnOnce() -> Duration) {
        if now > self.read_at {
            let cpu = cpu();
            let used = cpu.saturating_sub(std::mem::replace(&mut self.cpu, cpu));
            self.busy = (used.as_secs_f64() / now.since(self.read_at).as_secs_f64()).min(1.0);
            self.read_at = now;
        }
        let [p50, p90, p99] = self.latency.quantiles([0.5, 0.9, 0.99]);
        let [lateness_p99] = self.lateness.quantiles([0.99]);
        let latency = [p50, p90, p99, self.latency.longest()];
        self.recent = Second { latency, lateness_p99, busy: self.busy, ..std::mem::take(&mut self.current) };
        self.latency.clear();
        self.lateness.clear();
        self.ended += 1;
        if self.done.len() < MAX_SECONDS {
            self.done.push(self.recent);
        }
        self.start = self.ends_at();
    }

    /// The second that ended last, and when it began; `None` if there is none, or it is not kept.
    pub(super) fn last(&mut self) -> Option<(&mut Second, Moment)> {
        let began = Moment::from_nanos(self.start.as_nanos().saturating_sub(NANOS));
        self.done.last_mut().filter(|_| self.ended <= MAX_SECONDS).map(|second| (second, began))
    }

    /// The last whole second.
    pub(super) fn recent(&self) -> Second {
        self.recent
    }

    /// Whether nothing has happened in the running second.
    pub(super) fn is_empty(&self) -> bool {
        self.current == Second::default()
    }

    /// All seconds that have ended.
    pub(super) fn finish(self) -> Vec<Second> {
        self.done
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
        assert!(seconds.last().is_none() && seconds.is_empty());
        seconds.taken(Duration::from_micros(50));
        seconds.sent();
        seconds.completed(Duration::from_millis(3));
        seconds.close(at(1_100), || Duration::from_millis(550));
        assert!((seconds.recent().busy - 0.5).abs() < 1e-9);
        let (last, began) = seconds.last().unwrap();
        assert_eq!((last.offered, began, seconds.ends_at()), (1, at(0), at(2_000)));
        seconds.failed();
        seconds.found_nobody();
        assert!(!seconds.is_empty());
        seconds.close(at(1_600), || Duration::from_millis(850));
        let all = seconds.finish();
        let [first, second] = all.as_slice() else { panic!("{all:?}") };
        assert_eq!((first.offered, first.sent, first.completed, first.failed), (1, 1, 1, 0));
        assert!((first.latency[0] - 0.003).abs() < 1e-4 && (first.latency[3] - 0.003).abs() < 1e-9);
        assert!((first.lateness_p99 - 50e-6).abs() < 1e-9);
        assert_eq!((second.offered, second.failed, second.connect_errors), (0, 1, 1));
        assert!((second.busy - 0.6).abs() < 1e-9, "{}", second.busy);
    }

    #[test]
    fn seconds_that_end_at_once_were_equally_busy() {
        let mut seconds = Seconds::new(at(500), Duration::ZERO);
        for _ in 0..3 {
            seconds.close(at(3_600), || Duration::from_millis(1_550));
        }
        assert_eq!(seconds.ends_at(), at(4_500));
        assert!(seconds.finish().iter().all(|second| (second.busy - 0.5).abs() < 1e-9));
    }
}
