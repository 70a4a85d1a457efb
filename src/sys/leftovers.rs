//! What workers left behind: processes that have become ours because their parents ended. Those that the supervisor ends at the stop are
//! named in the log, with whose they were where that can be seen. Names few; the rest is counted.

use std::collections::{HashSet, VecDeque};
use std::fs;

use rustix::process::{Pid, getpgid};

use super::environment::variable;
use crate::units::Slot;

/// Processes that are named; more are counted.
const MAX_NAMED: usize = 24;
/// Workers that have ended and whose numbers are kept: by these the process groups are called of what they left behind.
const MAX_PAST: usize = 1024;
/// In the environment of workers of kind `command`, and so of what they start.
const MARK: &[u8] = b"TUNINGFORK_WORKER=";

/// What is known of those that are left behind.
#[derive(Debug, Default)]
pub(super) struct Leftovers {
    past: VecDeque<(Pid, Slot)>,
    /// As many as can be children of one process.
    told: HashSet<Pid>,
}

impl Leftovers {
    /// A worker of this slot has ended.
    pub(super) fn note_worker(&mut self, pid: Pid, slot: Slot) {
        if self.past.len() >= MAX_PAST {
            self.past.pop_front();
        }
        self.past.push_back((pid, slot));
    }

    /// Names a child of ours that is about to be ended, once.
    pub(super) fn tell(&mut self, pid: Pid) {
        if !self.told.insert(pid) || self.told.len() > MAX_NAMED {
            return;
        }
        let (number, worker) = (pid.as_raw_nonzero().get(), self.origin(pid).map(|slot| slot.0));
        tracing::warn!(pid = number, name = name(pid), worker, "a process that was left behind is ended");
    }

    /// Names those of `children` that are in the process group of this worker, which has ended and is not reaped.
    pub(super) fn tell_group(&mut self, worker: Pid, children: &[Pid]) {
        for pid in children.iter().filter(|pid| **pid != worker && getpgid(Some(**pid)) == Ok(worker)) {
            self.tell(*pid);
        }
    }

    /// Says how many were ended beside those that were named.
    pub(super) fn conclude(&mut self) {
        if let Some(more) = self.told.len().checked_sub(MAX_NAMED).filter(|more| *more > 0) {
            tracing::warn!(more, "and so many more processes that were left behind are ended");
        }
        self.told.clear();
    }

    /// The slot of the worker that left it behind. Who has a process group of its own may have that in its environment.
    fn origin(&self, pid: Pid) -> Option<Slot> {
        let group = getpgid(Some(pid)).ok()?;
        let by_group = self.past.iter().rev().find(|(worker, _)| *worker == group).map(|(_, slot)| *slot);
        by_group.or_else(|| {
            let slot = variable(pid, MARK).ok()??;
            str::from_utf8(&slot).ok()?.parse().ok().map(Slot)
        })
    }
}

/// The command's name as its process has it: anybody's bytes.
fn name(pid: Pid) -> String {
    let name = fs::read(format!("/proc/{}/comm", pid.as_raw_nonzero())).unwrap_or_default();
    String::from_utf8_lossy(name.strip_suffix(b"\n").unwrap_or(&name)).into_owned()
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command, Stdio};

    use super::*;

    /// A `cat` that has answered: a parent may run again before the kernel has given the new program its environment.
    fn start(command: &mut Command) -> (Child, Pid) {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.as_ref().unwrap().write_all(b"?").unwrap();
        child.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
        let pid = Pid::from_child(&child);
        (child, pid)
    }

    #[test]
    fn whose_a_process_was_is_seen_by_its_group_and_else_by_its_environment() {
        let mut leftovers = Leftovers::default();
        let (mut leader, group) = start(Command::new("cat").process_group(0));
        let (mut member, by_group) = start(Command::new("cat").process_group(group.as_raw_nonzero().get()));
        let (mut marked, by_environment) = start(Command::new("cat").process_group(0).env("TUNINGFORK_WORKER", "7"));
        let (mut other, unknown) = start(Command::new("cat").process_group(0).env_remove("TUNINGFORK_WORKER"));
        leftovers.note_worker(group, Slot(3));
        assert_eq!([by_group, by_environment, unknown].map(|pid| leftovers.origin(pid)), [Some(Slot(3)), Some(Slot(7)), None]);
        leftovers.tell_group(group, &[group, by_group, by_environment]);
        assert_eq!(leftovers.told, HashSet::from([by_group]));
        for child in [&mut leader, &mut member, &mut marked, &mut other] {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    #[test]
    fn of_many_workers_the_last_are_remembered() {
        let mut leftovers = Leftovers::default();
        for number in 1..=i32::try_from(MAX_PAST).unwrap() + 5 {
            leftovers.note_worker(Pid::from_raw(number).unwrap(), Slot(0));
        }
        assert_eq!((leftovers.past.len(), leftovers.past[0].0.as_raw_nonzero().get()), (MAX_PAST, 6));
    }
}
