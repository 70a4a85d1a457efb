//! Processes that are told to leave: waited for by pidfds, so that they need not be our children and no number is mistaken for another's.

use std::os::fd::OwnedFd;
use std::time::Duration;

use procfs::process::all_processes;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use super::clock;

/// The most members of a group that are waited for at a time.
const MOST_AT_ONCE: usize = 256;

/// Ends the process group that `leader` leads: whoever of it lives has `patience` between SIGTERM and SIGKILL. Returns at once where
/// nobody does. The leader must be a child of ours that nobody has waited for, or its number could be another's.
pub(super) fn end_group(leader: Pid, patience: Duration) {
    let until = clock::now().after(patience);
    let mut living = members(leader);
    if !living.is_empty() {
        kill_process_group(leader, Signal::TERM).ok();
    }
    while !living.is_empty() && !until.since(clock::now()).is_zero() {
        await_ends(living, until.since(clock::now()));
        // They may have started others meanwhile.
        living = members(leader);
    }
    kill_process_group(leader, Signal::KILL).ok();
}

/// Those that have not ended within `patience`.
pub(super) fn await_ends(mut waited: Vec<(Pid, OwnedFd)>, patience: Duration) -> Vec<(Pid, OwnedFd)> {
    let until = clock::now().after(patience);
    loop {
        waited.retain(|(_, pidfd)| !has_ended(pidfd));
        let left = until.since(clock::now());
        if waited.is_empty() || left.is_zero() {
            return waited;
        }
        let mut polled: Vec<_> = waited.iter().map(|(_, pidfd)| PollFd::new(pidfd, PollFlags::IN)).collect();
        let seconds = i64::try_from(left.as_secs()).unwrap_or(i64::MAX);
        poll(&mut polled, Some(&Timespec { tv_sec: seconds, tv_nsec: i64::from(left.subsec_nanos()) })).ok();
    }
}

/// Who lives of the group that `leader` leads.
fn members(leader: Pid) -> Vec<(Pid, OwnedFd)> {
    let group = leader.as_raw_nonzero().get();
    let living = all_processes().into_iter().flatten().flatten().filter_map(|process| {
        let is_member = || process.stat().is_ok_and(|stat| stat.pgrp == group);
        let pid = Pid::from_raw(process.pid).filter(|_| is_member())?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        // Its number may have become another's before we held it.
        (is_member() && !has_ended(&pidfd)).then_some((pid, pidfd))
    });
    living.take(MOST_AT_ONCE).collect()
}

/// Whether a process has ended, though nobody may have waited for it.
fn has_ended(pidfd: &OwnedFd) -> bool {
    let none = Some(&Timespec { tv_sec: 0, tv_nsec: 0 });
    poll(&mut [PollFd::new(pidfd, PollFlags::IN)], none).is_ok_and(|ready| ready > 0)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::os::unix::process::{CommandExt, ExitStatusExt};
    use std::process::{Child, Command, Stdio};

    use super::*;

    /// Longer than any test may take.
    const ENDLESS: Duration = Duration::from_hours(1);

    /// A shell with a group of its own that runs `script`, which says something once it is where it should be.
    fn group(script: &str) -> (Child, Pid) {
        let mut shell = Command::new("/bin/sh");
        let mut child = shell.args(["-c", script]).process_group(0).stdout(Stdio::piped()).spawn().unwrap();
        let output = child.stdout.as_mut().unwrap();
        BufReader::new(output).read_line(&mut String::new()).unwrap();
        let leader = Pid::from_child(&child);
        (child, leader)
    }

    #[test]
    fn a_group_of_which_nobody_lives_is_not_waited_for() {
        let (mut child, leader) = group("echo; exit 3");
        let left = await_ends(vec![(leader, pidfd_open(leader, PidfdFlags::empty()).unwrap())], ENDLESS);
        assert!(left.is_empty() && members(leader).is_empty(), "it has ended, and nobody has waited for it yet");
        end_group(leader, ENDLESS);
        assert_eq!(child.wait().unwrap().code(), Some(3));
    }

    #[test]
    fn whoever_leaves_ends_the_wait_and_whoever_does_not_is_killed() {
        let (mut willing, leader) = group("sleep 1000 & sleep 1000 & echo; wait");
        assert_eq!(members(leader).len(), 3);
        end_group(leader, ENDLESS);
        assert_eq!(willing.wait().unwrap().signal(), Some(Signal::TERM.as_raw()));
        let (mut deaf, leader) = group("trap '' TERM; echo; sleep 1000");
        end_group(leader, Duration::from_millis(1));
        assert_eq!(deaf.wait().unwrap().signal(), Some(Signal::KILL.as_raw()));
    }
}
