//! What processes used: one reading of any process, and what `process_*` metrics tell of this one.

use std::fs;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit};
use procfs::process::Process;

use crate::sys::{cpu, memory};
use crate::usage::{OwnProcess, ProcessReading, proc};

/// The most processes counted as one worker's.
pub const FAMILY_MAX: usize = 256;

/// CPU time and memory of a process; `None` if it is gone.
#[must_use]
pub fn reading(pid: u32) -> Option<ProcessReading> {
    let memory = memory::of(pid)?;
    Some(ProcessReading { cpu: cpu::process_time(pid)?, rss: memory.rss, pss: memory.pss })
}

/// A process and all that it started and that still lives: a worker may be a wrapper around the real one. At most [`FAMILY_MAX`].
#[must_use]
pub fn family(pid: u32) -> Vec<u32> {
    let mut family = vec![pid];
    let mut next = 0;
    while let Some(parent) = family.get(next).copied().filter(|_| family.len() < FAMILY_MAX) {
        let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
        family.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        next += 1;
    }
    family
}

/// This process; `None` where /proc is not mounted.
#[must_use]
pub fn own() -> Option<OwnProcess> {
    let process = Process::myself().ok()?;
    let stat = process.stat().ok()?;
    let since_boot = proc::ticks(stat.starttime, cpu::hertz());
    Some(OwnProcess {
        cpu: proc::ticks(stat.utime.saturating_add(stat.stime), cpu::hertz()),
        rss: stat.rss.saturating_mul(procfs::page_size()),
        vsize: stat.vsize,
        open_fds: u64::try_from(process.fd_count().ok()?).unwrap_or(u64::MAX),
        max_fds: getrlimit(Resource::RLIMIT_NOFILE).ok()?.0,
        threads: u64::try_from(stat.num_threads).unwrap_or(0),
        started: Duration::from_secs(procfs::boot_time_secs().ok()?).saturating_add(since_boot),
    })
}

#[cfg(test)]
pub(in crate::sys) mod tests {
    use super::*;
    use std::process::Command;
    use std::time::SystemTime;

    /// The id of a process that has ended and was reaped.
    pub(in crate::sys) fn ended_child() -> u32 {
        let mut child = Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        child.id()
    }

    #[test]
    fn a_child_is_read_until_it_is_reaped() {
        let mut child = Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let reading_of_child = reading(child.id()).unwrap();
        assert!(reading_of_child.rss > 0);
        assert!(reading_of_child.pss.unwrap() <= reading_of_child.rss);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(reading(child.id()), None);
    }

    #[test]
    fn this_process_is_described() {
        let own = own().unwrap();
        assert!(own.open_fds >= 3 && own.max_fds >= own.open_fds && own.threads >= 1 && own.vsize >= own.rss && own.rss > 0);
        let age = SystemTime::UNIX_EPOCH.elapsed().unwrap().checked_sub(own.started);
        assert!(age.is_none_or(|age| age < Duration::from_hours(1)), "{age:?}");
    }
}
