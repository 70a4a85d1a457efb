//! What a killed supervisor left behind in our control group: told to leave, and ended. Only in a group of which systemd made this process
//! the main one, and nobody of whom it can be seen that no supervisor started it.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal};

use super::cgroup;
use super::departure::await_ends;
use super::environment::variable;

/// In the environment of every worker and zygote, and so of what they start.
const MARK: &[u8] = b"TUNINGFORK_WORKERS=";
/// Looks for processes that were started while others were ended.
const ROUNDS: usize = 8;
/// How long the kernel may take to end a process that was killed.
const LAST: Duration = Duration::from_secs(2);

/// Asks what is left to leave, and ends it after `patience`. `told` is called before anything is waited for.
pub fn sweep(patience: Duration, told: impl Fn()) {
    let Some(group) = cgroup::own_group() else { return };
    for _ in 0..ROUNDS {
        let left = left_behind(&group);
        if left.is_empty() {
            return;
        }
        told();
        for (pid, pidfd) in &left {
            tracing::warn!(pid = pid.as_raw_nonzero().get(), "a process of a supervisor that is gone is told to leave");
            // A stopped process takes SIGTERM only once it runs again.
            for signal in [Signal::TERM, Signal::CONT] {
                pidfd_send_signal(pidfd, signal).ok();
            }
        }
        for (pid, pidfd) in await_ends(left, patience) {
            tracing::warn!(pid = pid.as_raw_nonzero().get(), "it did not leave in time and is killed");
            pidfd_send_signal(&pidfd, Signal::KILL).ok();
            await_ends(vec![(pid, pidfd)], LAST);
        }
    }
}

/// Processes of our group that a supervisor started, and not this one: it has started none yet.
fn left_behind(group: &Path) -> Vec<(Pid, OwnedFd)> {
    // With PrivateUsers= each start has a user namespace of its own, from which older ones cannot be looked into. Signals get there.
    let marked = |pid: &Pid| variable(*pid, MARK).map_or(true, |value| value.is_some());
    let us = getpid();
    let candidates = members(group).into_iter().filter(|pid| *pid != us).filter(marked);
    let held: Vec<_> = candidates.filter_map(|pid| Some((pid, pidfd_open(pid, PidfdFlags::empty()).ok()?))).collect();
    // The number may have become another's before we held it; then it is not in our group, or not marked.
    let still = members(group);
    held.into_iter().filter(|(pid, _)| still.contains(pid) && marked(pid)).collect()
}

fn members(group: &Path) -> Vec<Pid> {
    let list = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    list.lines().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)).collect()
}
