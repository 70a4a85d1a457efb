//! Decides, batch by batch, whether the application holds an offered rate within its objective. Early where the answer is plain.

use crate::study::{Candidate, Slo, Timing};

/// What happened in a fraction of a second of a probe. Counts are of this batch alone; `outstanding` and `overdue` are the state
/// at its end.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Batch {
    /// Its length.
    pub seconds: f64,
    /// Requests that were due, sent or not.
    pub due: u64,
    /// Requests answered or failed.
    pub completed: u64,
    /// Those of them that failed or took longer than the objective's latency from the moment they were due.
    pub late: u64,
    /// Those of them that failed.
    pub failed: u64,
    /// Requests due and not completed.
    pub outstanding: u64,
    /// Those of them that have been due for longer than the objective's latency.
    pub overdue: u64,
    /// CPU time of the workers, seconds.
    pub cpu_seconds: f64,
}

/// Whether a load should play on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Undecided.
    GoOn,
    /// Decided: stop the load.
    Stop,
}

/// The answer of a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The rate is held within the objective.
    Held,
    /// It is not.
    Missed(Miss),
}

/// Why a rate is not held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Miss {
    /// Too many requests were late.
    Late,
    /// Too many requests failed.
    Errors,
    /// Requests pile up.
    Growing,
    /// Nothing completed.
    Silent,
}

impl Miss {
    /// In words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Late => "too many late",
            Self::Errors => "too many errors",
            Self::Growing => "queue grows",
            Self::Silent => "no answer",
        }
    }
}

/// Judges one probe at a fixed offered rate.
#[derive(Clone, Debug)]
pub struct Judge {
    timing: Timing,
    /// Completions that it takes to decide, unless there is no time for them.
    wanted: u64,
    late_share: f64,
    error_share: f64,
    /// Outstanding requests that cannot be explained by slots and a queue within the latency bound.
    queue_limit: f64,
    shares: Vec<f64>,
    seen: Batch,
    first_outstanding: Option<u64>,
    early: Option<Verdict>,
}

/// One stray error proves nothing about an error share below one in a few hundred.
const TELLING_ERRORS: u64 = 2;
/// Growth of outstanding requests, as a share of those due, that fails a probe early, keeps it from passing early, and fails it
/// at the end.
const GROWTH_FAILS: f64 = 0.04;
const GROWTH_DOUBTS: f64 = 0.015;
const GROWTH_AT_END: f64 = 0.02;
/// A probe passes early only if it is this far inside the allowed share.
const CLEARLY_INSIDE: f64 = 0.8;
/// A queue of this many requests is no sign of overload, however few are allowed by rate and latency.
const SMALL_QUEUE: f64 = 20.0;

impl Judge {
    /// A judge of `rate` requests a second offered to `candidate`.
    #[must_use]
    pub fn new(slo: &Slo, timing: Timing, candidate: Candidate, rate: f64) -> Self {
        let queue = (1.5 * rate * slo.latency().as_secs_f64()).max(SMALL_QUEUE);
        Self {
            timing,
            wanted: timing.wanted(slo.late_share()),
            late_share: slo.late_share(),
            error_share: slo.error_share(),
            queue_limit: candidate.slots() as f64 + queue,
            shares: Vec::new(),
            seen: Batch::default(),
            first_outstanding: None,
            early: None,
        }
    }

    /// Takes the next batch after settling, and says whether the probe is decided.
    pub fn observe(&mut self, batch: &Batch) -> Decision {
        let seen = &mut self.seen;
        // What was outstanding before the first batch, by conservation of requests.
        self.first_outstanding.get_or_insert((batch.outstanding + batch.completed).saturating_sub(batch.due));
        seen.seconds += batch.seconds;
        seen.due += batch.due;
        seen.completed += batch.completed;
        seen.late += batch.late;
        seen.failed += batch.failed;
        (seen.outstanding, seen.overdue) = (batch.outstanding, batch.overdue);
        if batch.completed > 0 {
            self.shares.push(batch.late as f64 / batch.completed as f64);
        }
        self.early = self.decided();
        let seen = &self.seen;
        let complete = seen.seconds >= self.timing.probe && seen.completed >= self.wanted;
        if self.early.is_some() || complete || seen.seconds >= self.timing.probe_cap { Decision::Stop } else { Decision::GoOn }
    }

    /// The answer, from all batches seen.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.early.unwrap_or_else(|| self.final_verdict())
    }

    /// Whether it had to be decided with so few completions that chance may have done it.
    #[must_use]
    pub const fn is_scant(&self) -> bool {
        self.early.is_none() && self.seen.completed < self.wanted
    }

    fn decided(&self) -> Option<Verdict> {
        let seen = &self.seen;
        if seen.seconds < self.timing.fail_from {
            return None;
        }
        if seen.outstanding as f64 > self.queue_limit {
            return Some(Verdict::Missed(Miss::Growing));
        }
        let error_share = ratio(seen.failed, seen.completed);
        if seen.failed >= TELLING_ERRORS && error_share - 2.0 * (error_share / seen.completed as f64).sqrt() > self.error_share {
            return Some(Verdict::Missed(Miss::Errors));
        }
        let (share, doubt) = (self.late(), 2.0 * self.standard_error());
        if share - doubt > self.late_share {
            return Some(Verdict::Missed(Miss::Late));
        }
        let growth = self.growth();
        if growth > GROWTH_FAILS && share > self.late_share / 2.0 && seen.seconds >= self.timing.fail_from * 1.2 {
            return Some(Verdict::Missed(Miss::Growing));
        }
        let inside = share + doubt < CLEARLY_INSIDE * self.late_share && growth < GROWTH_DOUBTS;
        let enough = seen.seconds >= self.timing.pass_from && seen.completed >= self.wanted;
        (inside && enough && error_share <= self.error_share).then_some(Verdict::Held)
    }

    fn final_verdict(&self) -> Verdict {
        let seen = &self.seen;
        if seen.completed == 0 {
            Verdict::Missed(Miss::Silent)
        } else if seen.failed >= TELLING_ERRORS.min(seen.completed) && ratio(seen.failed, seen.completed) > self.error_share {
            Verdict::Missed(Miss::Errors)
        } else if self.late() > self.late_share {
            Verdict::Missed(Miss::Late)
        } else if self.growth() > GROWTH_AT_END {
            Verdict::Missed(Miss::Growing)
        } else {
            Verdict::Held
        }
    }

    /// The share of late requests, those still outstanding and overdue among them.
    fn late(&self) -> f64 {
        ratio(self.seen.late + self.seen.overdue, self.seen.completed + self.seen.overdue)
    }

    fn standard_error(&self) -> f64 {
        let batches = crate::stats::deviation(&self.shares).unwrap_or(1.0) / (self.shares.len().max(1) as f64).sqrt();
        batches + 0.3 / (self.seen.completed.max(1) as f64).sqrt()
    }

    /// How much faster requests come than go, as a share of those due, beyond what chance explains.
    fn growth(&self) -> f64 {
        let before = self.first_outstanding.unwrap_or_default() as f64;
        let chance = 2.0 * (before + 1.0).sqrt();
        (self.seen.outstanding as f64 - before - chance).max(0.0) / self.seen.due.max(1) as f64
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::Pace;
    use crate::study::simulation::Chance;
    use crate::units::{Connections, Workers};

    fn judge(slo: &str) -> Judge {
        let candidate = Candidate::new(Workers::new(2).unwrap(), Connections::new(10).unwrap());
        Judge::new(&slo.parse().unwrap(), Pace::Normal.timing(), candidate, 200.0)
    }

    /// Plays equal batches until the judge stops; what it decided and after how many seconds.
    fn play(slo: &str, mut batch: impl FnMut(u64) -> Batch) -> (Verdict, f64) {
        let mut judge = judge(slo);
        for number in 1..=200 {
            if judge.observe(&batch(number)) == Decision::Stop {
                return (judge.verdict(), number as f64 * 0.5);
            }
        }
        panic!("the judge must end every probe");
    }

    fn steady(late: u64) -> Batch {
        Batch { seconds: 0.5, due: 100, completed: 100, late, outstanding: 8, ..Batch::default() }
    }

    #[test]
    fn passes_early_when_plainly_inside() {
        assert_eq!(play("p90<700ms", |_| steady(0)), (Verdict::Held, 4.0));
    }

    #[test]
    fn fails_early_when_plainly_outside() {
        assert_eq!(play("p90<700ms", |_| steady(30)), (Verdict::Missed(Miss::Late), 2.5));
        assert_eq!(play("p90<700ms", |_| Batch { failed: 5, ..steady(5) }), (Verdict::Missed(Miss::Errors), 2.5));
    }

    #[test]
    fn takes_its_time_near_the_limit() {
        assert_eq!(play("p90<700ms", |_| steady(9)), (Verdict::Held, 8.0));
        assert_eq!(play("p90<700ms", |_| steady(11)), (Verdict::Missed(Miss::Late), 8.0));
        assert_eq!(play("max<700ms", |number| steady(u64::from(number == 9))), (Verdict::Missed(Miss::Late), 8.0));
    }

    #[test]
    fn sees_a_queue_before_it_makes_anyone_late() {
        let growing = |number| Batch { completed: 80, outstanding: 8 + 20 * number, ..steady(0) };
        assert_eq!(play("p90<10s", growing), (Verdict::Missed(Miss::Growing), 8.0));
        let exploding = |number| Batch { completed: 20, outstanding: 80 * number, ..steady(0) };
        assert_eq!(play("p90<700ms", exploding), (Verdict::Missed(Miss::Growing), 2.5));
    }

    #[test]
    fn an_application_that_never_answers_ends_the_probe() {
        let silent = |number| Batch { seconds: 0.5, due: 1, outstanding: number, overdue: number, ..Batch::default() };
        assert!(matches!(play("p90<700ms", silent).0, Verdict::Missed(_)));
    }

    #[test]
    fn waits_for_enough_completions_of_a_slow_application() {
        let slow = |_| Batch { seconds: 0.5, due: 5, completed: 5, outstanding: 3, ..Batch::default() };
        assert_eq!(play("p90<700ms", slow), (Verdict::Held, 20.0));
    }

    /// Of 300 probes at p99 and `rate` requests a second, of which a share `late` is late, the share that finds the rate held, and
    /// whether the last was scant; with `wanted` completions or as many as it says itself.
    fn passing(rate: u64, late: f64, wanted: Option<u64>) -> (f64, bool) {
        let (mut chance, mut held, mut scant) = (Chance::new(rate), 0, false);
        for _ in 0..300 {
            let mut judge = judge("p99<700ms");
            judge.wanted = wanted.unwrap_or(judge.wanted);
            let mut batch = || {
                let late = (0..rate / 2).filter(|_| chance.even() < late).count() as u64;
                Batch { seconds: 0.5, due: rate / 2, completed: rate / 2, late, outstanding: 8, ..Batch::default() }
            };
            while judge.observe(&batch()) == Decision::GoOn {}
            held += u32::from(judge.verdict() == Verdict::Held);
            scant = judge.is_scant();
        }
        (f64::from(held) / 300.0, scant)
    }

    #[test]
    fn a_rare_latency_takes_many_completions_or_is_told_to_be_scant() {
        assert!(passing(24, 0.02, Some(200)).0 > 0.15, "too few are decided by chance");
        let (wrong, scant) = passing(100, 0.02, None);
        assert!(wrong < 0.01 && !scant, "{wrong}");
        let (wrong, scant) = passing(24, 0.02, None);
        assert!(wrong < 0.06 && scant, "{wrong}");
        assert!(passing(100, 0.005, None).0 > 0.97);
        let (slo, timing) = ("p90<700ms".parse::<Slo>().unwrap(), Pace::Normal.timing());
        assert_eq!(timing.wanted(slo.late_share()), 200);
        assert_eq!([0.5, 0.05, 0.01, 0.0].map(|late| timing.wanted(late)), [200, 400, 2000, 200]);
    }

    #[test]
    fn one_stray_error_proves_nothing() {
        let stray = |number| Batch { failed: u64::from(number == 3), late: u64::from(number == 3), ..steady(0) };
        assert_eq!(play("p90<700ms,errors<0.1%", stray).0, Verdict::Held);
    }
}
