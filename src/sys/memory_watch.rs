//! Reads the memory of workers on a thread of its own: the kernel walks page tables for it, for milliseconds a process, which the main loop
//! must not wait for. Decides nothing but "more than it may".

use std::io;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
use std::thread;
use std::time::Duration;

use super::accounting;
use crate::config::Bytes;
use crate::units::{Moment, WorkerId};

/// How often workers are looked at.
const INTERVAL: Duration = Duration::from_secs(10);

/// A worker to look at, and how much it may have.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ration {
    pub(super) worker: WorkerId,
    pub(super) pid: u32,
    pub(super) most: Bytes,
}

/// The thread, and both ways to it.
pub(super) struct MemoryWatch {
    ask: SyncSender<Vec<Ration>>,
    answers: Receiver<Vec<WorkerId>>,
    /// When to look next; never while it is looking.
    due: Option<Moment>,
}

impl MemoryWatch {
    pub(super) fn start(now: Moment) -> io::Result<Self> {
        let (ask, asked) = sync_channel::<Vec<Ration>>(1);
        let (answer, answers) = channel();
        thread::Builder::new().name("memory".to_owned()).spawn(move || look(&asked, &answer))?;
        Ok(Self { ask, answers, due: Some(now.after(INTERVAL)) })
    }

    /// Whether it is time to look again.
    pub(super) fn is_due(&self, now: Moment) -> bool {
        self.due.is_some_and(|due| due <= now)
    }

    /// Has these workers looked at.
    pub(super) fn look_at(&mut self, rations: Vec<Ration>) {
        if self.ask.try_send(rations).is_ok() {
            self.due = None;
        }
    }

    /// Workers that were found to have more than they may.
    pub(super) fn found(&mut self, now: Moment) -> Vec<WorkerId> {
        let Ok(found) = self.answers.try_recv() else { return Vec::new() };
        self.due = Some(now.after(INTERVAL));
        found
    }
}

/// Until the supervisor has no more questions.
fn look(asked: &Receiver<Vec<Ration>>, answer: &Sender<Vec<WorkerId>>) {
    while let Ok(rations) = asked.recv() {
        let found = rations.iter().filter(|ration| size(ration.pid) > ration.most).map(|ration| ration.worker).collect();
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
}
