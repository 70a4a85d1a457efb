//! Keeps requests that were due in spoiled seconds apart from the rest. Only the second in which a request was due decides, as that is
//! fixed before the target does anything. If later seconds decided too, slow requests and timeouts would be left out more often than
//! fast ones, as they last longer, and the target would look better than it is. The price: a spoiled second makes requests slower that
//! were due before it, and they count.
//!
//! Whether a second was spoiled is known only when the next one ends, since the host's counters come late; until then its requests
//! wait in a set of their own. Sets are emptied and used again.

use std::cmp::Ordering;
use std::time::Duration;

use super::MAX_SECONDS;
use crate::stats::Latencies;
use crate::units::Moment;

/// The times of requests that ended.
#[derive(Clone, Debug, Default)]
pub(super) struct Times {
    pub(super) latency: Latencies,
    pub(super) service: Latencies,
    pub(super) first_byte: Latencies,
}

/// The times of one.
#[derive(Clone, Copy, Debug)]
pub(super) struct Timed {
    pub(super) due: Moment,
    pub(super) latency: Duration,
    pub(super) service: Option<Duration>,
    pub(super) first_byte: Option<Duration>,
}

impl Times {
    pub(super) fn record(&mut self, timed: &Timed) {
        self.latency.record(timed.latency);
        if let Some(service) = timed.service {
            self.service.record(service);
        }
        if let Some(first_byte) = timed.first_byte {
            self.first_byte.record(first_byte);
        }
    }

    fn add(&mut self, other: &Self) {
        for (sum, part) in self.each().into_iter().zip([&other.latency, &other.service, &other.first_byte]) {
            if part.count() > 0 {
                sum.add(part);
            }
        }
    }

    /// Takes out what `part` holds, all of which is in here too.
    pub(super) fn subtract(&mut self, part: &Self) {
        self.latency.subtract(&part.latency);
        self.service.subtract(&part.service);
        self.first_byte.subtract(&part.first_byte);
    }

    fn clear(&mut self) {
        for times in self.each() {
            if times.count() > 0 {
                times.clear();
            }
        }
    }

    fn each(&mut self) -> [&mut Latencies; 3] {
        [&mut self.latency, &mut self.service, &mut self.first_byte]
    }
}

/// What became of a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Trusted,
    Spoiled,
}

/// What one second counts.
#[derive(Debug, Default)]
struct Group {
    /// Requests that were due in it.
    times: Times,
    /// How many were answered in it while sending lasted.
    in_time: u64,
}

#[derive(Debug)]
pub(super) struct Gate {
    /// The start of the first second.
    start: Moment,
    /// What became of the time before `start`, which is trusted, and of the seconds after it, in order. Those beyond [`MAX_SECONDS`]
    /// are trusted.
    judged: Vec<Standing>,
    /// How many of them there are, kept or not; the next is pending.
    ended: usize,
    running: Group,
    /// The second before, not judged yet.
    pending: Group,
    left_out: Group,
}

impl Gate {
    pub(super) fn new(start: Moment) -> Self {
        Self {
            start,
            judged: Vec::with_capacity(64),
            ended: 0,
            running: Group::default(),
            pending: Group::default(),
            left_out: Group::default(),
        }
    }

    /// The first second begins now.
    pub(super) const fn begin(&mut self, now: Moment) {
        self.start = now;
    }

    pub(super) fn record(&mut self, timed: &Timed) {
        let second = self.second(timed.due);
        let set = match second.cmp(&self.ended) {
            Ordering::Less if self.judged.get(second) == Some(&Standing::Spoiled) => &mut self.left_out,
            Ordering::Less => return,
            Ordering::Equal => &mut self.pending,
            Ordering::Greater => &mut self.running,
        };
        set.times.record(timed);
    }

    /// The place of a moment's second in `judged`.
    fn second(&self, moment: Moment) -> usize {
        if moment < self.start {
            return 0;
        }
        usize::try_from(moment.since(self.start).as_secs()).map_or(usize::MAX, |whole| whole.saturating_add(1))
    }

    /// A request was answered while sending lasted.
    pub(super) fn answered_in_time(&mut self) {
        self.running.in_time += 1;
    }

    /// The second that runs ends; the one before it turned out `before`.
    pub(super) fn close(&mut self, before: Standing) {
        if before == Standing::Spoiled {
            self.left_out.times.add(&self.pending.times);
            self.left_out.in_time += self.pending.in_time;
        }
        if self.judged.len() <= MAX_SECONDS {
            self.judged.push(before);
        }
        self.ended += 1;
        self.pending.times.clear();
        self.pending.in_time = 0;
        std::mem::swap(&mut self.running, &mut self.pending);
    }

    /// What is left out, and how many of all requests that were answered while sending lasted ended in spoiled seconds. Every second
    /// has been closed, but for one in which nothing was due.
    pub(super) fn finish(self) -> (Times, u64) {
        (self.left_out.times, self.left_out.in_time)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::from_nanos(millis * 1_000_000)
    }

    #[test]
    fn a_slow_request_stays_though_it_lasted_over_a_spoiled_second() {
        let timed = |due: u64| Timed { due: at(due), latency: Duration::from_secs(4), service: None, first_byte: None };
        let mut gate = Gate::new(at(0));
        for before in [Standing::Trusted, Standing::Trusted, Standing::Spoiled, Standing::Trusted] {
            gate.close(before);
        }
        gate.record(&timed(500));
        gate.record(&timed(1_000));
        gate.record(&timed(1_999));
        let (left_out, _) = gate.finish();
        assert_eq!(left_out.latency.count(), 2);
    }

    proptest! {
        /// Against the rule itself: a request is left out if it was due in a spoiled second.
        #[test]
        fn what_was_due_in_a_spoiled_second_is_left_out(
            spoiled in prop::collection::vec(any::<bool>(), 8),
            requests in prop::collection::vec((0_u64..8_000, 0_u64..3_000), 0..200),
        ) {
            let standing = |second: usize| if spoiled[second] { Standing::Spoiled } else { Standing::Trusted };
            let mut requests: Vec<_> = requests.into_iter().filter(|(due, took)| due + took < 8_000).collect();
            requests.sort_unstable_by_key(|(due, took)| due + took);
            let (mut gate, mut all, mut running) = (Gate::new(at(0)), Times::default(), 0);
            let close = |gate: &mut Gate, running: &mut usize| {
                let before = if *running == 0 { Standing::Trusted } else { standing(*running - 1) };
                *running += 1;
                gate.close(before);
            };
            let mut expected = (0, 0);
            for (due, took) in requests {
                let ends = usize::try_from((due + took) / 1_000).unwrap();
                while running < ends {
                    close(&mut gate, &mut running);
                }
                let latency = Duration::from_millis(took);
                let timed = Timed { due: at(due), latency, service: Some(latency), first_byte: None };
                all.record(&timed);
                gate.record(&timed);
                gate.answered_in_time();
                let begins = usize::try_from(due / 1_000).unwrap();
                expected.0 += u64::from(spoiled[begins]);
                expected.1 += u64::from(spoiled[ends]);
            }
            while running < 9 {
                close(&mut gate, &mut running);
            }
            let (left_out, in_time) = gate.finish();
            prop_assert_eq!((left_out.latency.count(), in_time), expected);
            let whole = all.latency.count();
            all.subtract(&left_out);
            prop_assert_eq!(all.latency.count() + left_out.service.count(), whole);
        }
    }
}
