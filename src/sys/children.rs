//! The worker processes: signalled through pidfds only, reaped one by one, and nobody left behind.

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, pidfd_send_signal};

use super::clock;
use super::leftovers::Leftovers;
use super::notify::Said;
use crate::supervisor::event::Exit;
use crate::units::{Generation, Moment, Slot, WorkerId};

/// Messages kept of processes whose pid is not known yet; the oldest is dropped first.
const MAX_UNCLAIMED: usize = 256;
/// How far up a sender's parents are searched for a worker.
const MAX_ANCESTORS: usize = 8;
/// How long those that were killed a moment ago may take before they count as left behind.
const LAST_BREATH: Duration = Duration::from_millis(200);
/// How long SIGKILL may take at the end.
const KILL_PATIENCE: Duration = Duration::from_secs(5);

/// A worker's process.
#[derive(Debug)]
pub(super) struct Child {
    pub(super) pid: Pid,
    pub(super) pidfd: OwnedFd,
    pub(super) slot: Slot,
    /// It counts as ready when it is alive then.
    pub(super) ready_at: Option<Moment>,
    pub(super) generation: Generation,
    /// It was ready once.
    pub(super) greeted: bool,
}

impl Child {
    /// A process that was re-parented to us. Refuses what is no child of ours: the number comes from a process that has fewer
    /// rights than we.
    pub(super) fn adopt(pid: i32, slot: Slot, generation: Generation) -> io::Result<Self> {
        let pid = (pid > 0).then(|| Pid::from_raw(pid)).flatten();
        let pid = pid.ok_or_else(|| io::Error::other("the zygote told an impossible pid"))?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
        let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        waitid(Id::PIDFd(pidfd.as_fd()), look)
            .map_err(|_| io::Error::other("the zygote told the pid of a process that is not ours"))?;
        Ok(Self { pid, pidfd, slot, ready_at: None, generation, greeted: false })
    }

    /// Its number.
    pub(super) fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().unsigned_abs()
    }

    /// Sends each signal. One that has ended takes none, and needs none.
    pub(super) fn signal(&self, signals: &[Signal]) {
        for signal in signals {
            pidfd_send_signal(&self.pidfd, *signal).ok();
        }
    }

    /// Kills what shares the worker's process group. Its number cannot be another's: the worker is not reaped.
    pub(super) fn kill_group(&self) {
        kill_process_group(self.pid, Signal::KILL).ok();
    }

    /// How it ended, if it has. It is not reaped.
    fn exit(&self) -> Option<Exit> {
        let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        match waitid(Id::PIDFd(self.pidfd.as_fd()), look) {
            Ok(WaitStatus::Exited(_, code)) => Some(Exit::Code(code)),
            Ok(WaitStatus::Signaled(_, signal, _)) => Some(Exit::Signal(signal as i32)),
            Ok(_) | Err(_) => None,
        }
    }

    /// Asks what shares its process group to leave too, then reaps it.
    fn reap(&self) {
        // What a wrapper such as `sh -c` started would go on accepting. The group's number is not another's until we reap.
        kill_process_group(self.pid, Signal::TERM).ok();
        waitid(Id::PIDFd(self.pidfd.as_fd()), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG).ok();
    }
}

/// A worker that has ended and was reaped.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) worker: WorkerId,
    pub(super) pid: Pid,
    pub(super) generation: Generation,
    pub(super) exit: Exit,
}

/// All worker processes by their names, and what was heard of them.
#[derive(Debug, Default)]
pub(super) struct Children {
    by_worker: BTreeMap<WorkerId, Child>,
    notes: VecDeque<(i32, Said)>,
    leftovers: Leftovers,
}

impl Children {
    pub(super) fn add(&mut self, worker: WorkerId, child: Child) {
        self.by_worker.insert(worker, child);
    }

    pub(super) fn get(&self, worker: WorkerId) -> Option<&Child> {
        self.by_worker.get(&worker)
    }

    /// Whether it is ready for the first time.
    pub(super) fn greet(&mut self, worker: WorkerId) -> bool {
        self.by_worker.get_mut(&worker).is_some_and(|child| !std::mem::replace(&mut child.greeted, true))
    }

    /// Every worker's process.
    pub(super) fn known(&self) -> impl Iterator<Item = (WorkerId, &Child)> {
        self.by_worker.iter().map(|(worker, child)| (*worker, child))
    }

    /// Every worker's process that is known.
    pub(super) fn all(&self) -> impl Iterator<Item = &Child> {
        self.by_worker.values()
    }

    /// When the next worker will have been alive for long enough.
    pub(super) fn next_timer(&self) -> Option<Moment> {
        self.by_worker.values().filter_map(|child| child.ready_at).min()
    }

    /// Workers that have been alive for long enough.
    pub(super) fn proved(&mut self, now: Moment) -> Vec<WorkerId> {
        let due = self.by_worker.iter_mut().filter(|(_, child)| child.ready_at.is_some_and(|at| at <= now));
        due.map(|(worker, child)| {
            child.ready_at = None;
            *worker
        })
        .collect()
    }

    /// Keeps what a process said until it is known which worker it is.
    pub(super) fn note(&mut self, pid: i32, said: Said) {
        if self.notes.len() >= MAX_UNCLAIMED {
            self.notes.pop_front();
        }
        self.notes.push_back((pid, said));
    }

    /// What known workers said. A worker's own children speak for it. Words of others are kept only while a worker may exist whose pid
    /// is not known yet; afterwards, who says that it is ready, is our child and none of `others` is a worker that nobody knows, and is
    /// ended.
    pub(super) fn take_notes(&mut self, forks_outstanding: bool, others: &[Pid]) -> Vec<(WorkerId, Said)> {
        let notes = std::mem::take(&mut self.notes);
        let mut claimed = Vec::new();
        for (pid, said) in notes {
            match self.claim(pid) {
                Some(worker) => claimed.push((worker, said)),
                None if forks_outstanding => self.notes.push_back((pid, said)),
                None if said.ready && !others.iter().any(|other| other.as_raw_nonzero().get() == pid) => end_stray(pid),
                None => {}
            }
        }
        claimed
    }

    fn claim(&self, pid: i32) -> Option<WorkerId> {
        let mut pid = pid;
        for _ in 0..MAX_ANCESTORS {
            let found = self.by_worker.iter().find(|(_, child)| child.pid.as_raw_nonzero().get() == pid);
            if let Some((worker, _)) = found {
                return Some(*worker);
            }
            pid = parent(pid)?;
        }
        None
    }

    /// Workers that have ended. When the service `ends`, what they left behind is named.
    pub(super) fn reap(&mut self, ends: bool) -> Vec<Ended> {
        let end = |(worker, child): (&WorkerId, &Child)| {
            child.exit().map(|exit| Ended { worker: *worker, pid: child.pid, generation: child.generation, exit })
        };
        let ended: Vec<Ended> = self.by_worker.iter().filter_map(end).collect();
        let ours = if ends && !ended.is_empty() { own_children() } else { Vec::new() };
        for child in ended.iter().filter_map(|gone| self.by_worker.remove(&gone.worker)) {
            self.leftovers.note_worker(child.pid, child.slot);
            self.leftovers.tell_group(child.pid, &ours);
            child.reap();
        }
        ended
    }

    /// Reaps processes that are not workers: orphans that came to us as the subreaper, and zygotes.
    pub(super) fn reap_strangers(&self, known: &[Pid]) {
        let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        while let Ok(WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, _, _)) = waitid(Id::All, look) {
            let mut ours = self.by_worker.values().map(|child| &child.pid).chain(known);
            if ours.any(|ours| ours.as_raw_nonzero().get() == pid.as_raw()) {
                return; // its end is told by the next look
            }
            waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG).ok();
        }
    }

    /// Kills and reaps every process that is still a child of ours, but the successor. Who does not even end by SIGKILL is left behind.
    pub(super) fn end_all(&mut self, successor: Option<Pid>) {
        for child in self.by_worker.values() {
            child.signal(&[Signal::KILL]);
        }
        let (breathes_until, give_up_at) = (clock::now().after(LAST_BREATH), clock::now().after(KILL_PATIENCE));
        own_children().into_iter().filter(|pid| Some(*pid) != successor).for_each(|pid| await_end(pid, breathes_until));
        // Killing an orphan can orphan its children to us in turn.
        loop {
            let left: Vec<Pid> = own_children().into_iter().filter(|pid| Some(*pid) != successor).collect();
            if left.is_empty() {
                break;
            }
            if give_up_at <= clock::now() {
                tracing::error!(pids = ?left.iter().map(|pid| pid.as_raw_nonzero().get()).collect::<Vec<_>>(), "processes that SIGKILL does not end are left behind");
                break;
            }
            for pid in left.iter().filter(|pid| !self.by_worker.values().any(|child| child.pid == **pid)) {
                self.leftovers.tell(*pid);
                rustix::process::kill_process(*pid, Signal::KILL).ok();
            }
            for pid in left {
                await_end(pid, give_up_at);
            }
        }
        self.leftovers.conclude();
        self.by_worker.clear();
    }
}

/// Waits for the end of a child of ours, until then, and reaps it.
fn await_end(pid: Pid, give_up_at: Moment) {
    if let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) {
        let left = Timespec::try_from(give_up_at.since(clock::now())).ok();
        poll(&mut [PollFd::new(&pidfd, PollFlags::IN)], left.as_ref()).ok();
    }
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG;
    waitid(Id::Pid(nix::unistd::Pid::from_raw(pid.as_raw_nonzero().get())), flags).ok();
}

/// Ends a process that is our child and no worker we know: its zygote died before it could tell us.
fn end_stray(pid: i32) {
    let us = i32::try_from(std::process::id()).ok();
    if let Some(stray) = Pid::from_raw(pid).filter(|_| parent(pid) == us) {
        tracing::warn!(pid, "a worker whose zygote died before it was announced is ended");
        rustix::process::kill_process(stray, Signal::KILL).ok();
    }
}

/// The parent of a process, from /proc.
fn parent(pid: i32) -> Option<i32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(1)?.parse().ok()
}

/// Our children of all threads, living or not reaped.
fn own_children() -> Vec<Pid> {
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    lists
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<i32>>())
        .filter_map(Pid::from_raw)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_children_are_adopted() {
        let parent = rustix::process::getppid().unwrap().as_raw_nonzero().get();
        for pid in [i32::MIN, -1, 0, 1, parent] {
            Child::adopt(pid, Slot(0), Generation::FIRST).unwrap_err();
        }
        let mut child = std::process::Command::new("sleep").arg("600").spawn().unwrap();
        Child::adopt(i32::try_from(child.id()).unwrap(), Slot(0), Generation::FIRST).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
