//! Reads the memory of workers on a thread of its own: the kernel walks page tables for it, for milliseconds a process, which the
//! main loop must not wait for. Decides nothing but "more than it may".

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;
use std::time::Duration;

use super::accounting;
use crate::config::Bytes;
use crate::units::{Moment, WorkerId};

/// How often workers are looked at.
const INTERVAL: Duration = Duration::from_secs(10);

/// Workers of whom the kernel does not tell, and threads that wait for it.
const MAX_UNTOLD: usize = 16;

/// A worker to look at, and how much it may have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ration {
    pub(super) worker: WorkerId,
    pub(super) pid: u32,
    pub(super) most: Bytes,
}

/// How the memory of a process is read.
type Measure = fn(u32) -> Bytes;

/// Nobody's name: no worker is being read.
const NOBODY: u64 = 0;

/// The thread, and both ways to it.
pub(super) struct MemoryWatch {
    measure: Measure,
    ask: SyncSender<Vec<Ration>>,
    answers: Receiver<Vec<WorkerId>>,
    /// Whom the thread reads.
    reading: Arc<AtomicU64>,
    /// When to look next; never while it is looking.
    due: Option<Moment>,
    /// Whom it was seen to read, since when.
    seen: (u64, Moment),
    /// Workers of whom the kernel did not tell. Each has a thread that waits for that.
    untold: Vec<WorkerId>,
}

impl MemoryWatch {
    pub(super) fn start(now: Moment) -> io::Result<Self> {
        Self::by(size, now)
    }

    fn by(measure: Measure, now: Moment) -> io::Result<Self> {
        let (ask, asked) = sync_channel::<Vec<Ration>>(1);
        let (answer, answers) = channel();
        let reading = Arc::new(AtomicU64::new(NOBODY));
        let read = Arc::clone(&reading);
        thread::Builder::new().name("memory".to_owned()).spawn(move || look(&asked, &answer, &read, measure))?;
        let (due, seen) = (Some(now.after(INTERVAL)), (NOBODY, now));
        Ok(Self { measure, ask, answers, reading, due, seen, untold: Vec::new() })
    }

    /// Whether it is time to look again.
    pub(super) fn is_due(&self, now: Moment) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    /// Has these workers looked at, but those of whom the kernel did not tell.
    pub(super) fn look_at(&mut self, mut rations: Vec<Ration>) {
        rations.retain(|ration| !self.untold.contains(&ration.worker));
        if self.ask.try_send(rations).is_ok() {
            self.due = None;
        }
    }

    /// Workers that were found to have more than they may.
    pub(super) fn found(&mut self, now: Moment) -> Vec<WorkerId> {
        let Ok(found) = self.answers.try_recv() else {
            self.leave_one_that_hangs(now);
            return Vec::new();
        };
        self.due = Some(now.after(INTERVAL));
        found
    }

    /// A process whose memory the kernel is changing for long keeps whoever reads it: the others are looked at by another thread.
    fn leave_one_that_hangs(&mut self, now: Moment) {
        let reading = self.reading.load(Ordering::Relaxed);
        if reading != self.seen.0 {
            self.seen = (reading, now);
        }
        if reading == NOBODY || now.since(self.seen.1) < INTERVAL || self.untold.len() >= MAX_UNTOLD {
            return;
        }
        let worker = WorkerId(reading);
        // Where there can be no other thread now, it is tried again later.
        self.seen.1 = now;
        match Self::by(self.measure, now) {
            Ok(other) => {
                tracing::warn!(id = %worker, "the memory of a worker cannot be read: max-memory no longer holds for it");
                let mut untold = std::mem::take(&mut self.untold);
                untold.push(worker);
                *self = Self { due: Some(now), untold, ..other };
                if self.untold.len() == MAX_UNTOLD {
                    tracing::error!(
                        "the memory of {MAX_UNTOLD} workers cannot be read: with one more, max-memory holds for none"
                    );
                }
            }
            Err(error) => {
                tracing::warn!(id = %worker, %error, "the memory of a worker cannot be read: max-memory holds for none");
            }
        }
    }
}

/// Until the supervisor has no more questions.
fn look(asked: &Receiver<Vec<Ration>>, answer: &Sender<Vec<WorkerId>>, reading: &AtomicU64, measure: Measure) {
    while let Ok(rations) = asked.recv() {
        let has_too_much = |ration: &&Ration| {
            reading.store(ration.worker.0, Ordering::Relaxed);
            measure(ration.pid) > ration.most
        };
        let found = rations.iter().filter(has_too_much).map(|ration| ration.worker).collect();
        reading.store(NOBODY, Ordering::Relaxed);
        if answer.send(found).is_err() {
            return;
        }
    }
}

/// Proportional set size of a worker and of what it started; resident where the kernel does not tell.
fn size(pid: u32) -> Bytes {
    let readings = accounting::family(pid).into_iter().filter_map(accounting::reading);
    Bytes(readings.map(|reading| reading.pss.unwrap_or(reading.rss)).sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_too_much_is_found() {
        let start = Moment::from_nanos(0);
        let mut watch = MemoryWatch::start(start).unwrap();
        assert!(!watch.is_due(start) && watch.is_due(start.after(INTERVAL)));
        let pid = std::process::id();
        let ration = |worker, most| Ration { worker: WorkerId(worker), pid, most: Bytes(most) };
        watch.look_at(vec![ration(1, 1), ration(2, u64::MAX)]);
        assert!(!watch.is_due(start.after(INTERVAL)), "one look at a time");
        let found = watch.answers.recv().unwrap();
        assert_eq!(found, [WorkerId(1)]);
        assert_eq!(size(u32::MAX), Bytes(0));
    }

    /// Of the process 1 the kernel never tells.
    fn hangs_at_one(pid: u32) -> Bytes {
        if pid == 1 {
            loop {
                thread::park();
            }
        }
        Bytes(u64::from(pid))
    }

    #[test]
    fn a_worker_of_whom_the_kernel_does_not_tell_keeps_nobody_from_looking_at_the_others() {
        let start = Moment::from_nanos(0);
        let after = |intervals: u32| start.after(INTERVAL * intervals);
        let mut watch = MemoryWatch::by(hangs_at_one, start).unwrap();
        let rations = || [1, 2, 3].map(|pid| Ration { worker: WorkerId(u64::from(pid) + 6), pid, most: Bytes(2) }).to_vec();
        watch.look_at(rations());
        while watch.reading.load(Ordering::Relaxed) != 7 {
            thread::yield_now();
        }
        assert_eq!((watch.found(after(1)), watch.is_due(after(1))), (vec![], false), "it has just begun");
        assert_eq!((watch.found(after(2)), watch.is_due(after(2))), (vec![], true));
        watch.look_at(rations());
        assert_eq!(watch.answers.recv().unwrap(), [WorkerId(9)]);
        assert_eq!(watch.untold, [WorkerId(7)]);
    }
}
