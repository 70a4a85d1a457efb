//! Reads how much memory a process has, and the machine has left. A process that is gone is no error.

use procfs::process::{Process, SmapsRollup};
use procfs::{Current, Meminfo};

/// Memory of one process, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Resident set size.
    pub rss: u64,
    /// Proportional set size; `None` if /proc/PID/smaps_rollup may not be read (ptrace(2), access mode checking).
    pub pss: Option<u64>,
}

/// The memory of a process; `None` if there is no such process or it holds none, as a zombie.
/// The proportional size costs the kernel a walk over the page tables: milliseconds for a large process.
#[must_use]
pub fn of(pid: u32) -> Option<Memory> {
    let process = Process::new(i32::try_from(pid).ok()?).ok()?;
    let memory = match process.smaps_rollup() {
        Ok(rollup) => rolled_up(&rollup)?,
        Err(_) => Memory { rss: process.statm().ok()?.resident.saturating_mul(procfs::page_size()), pss: None },
    };
    (memory.rss > 0).then_some(memory)
}

/// The memory of the machine that could be had without swapping, bytes (proc_meminfo(5), MemAvailable).
#[must_use]
pub fn available() -> Option<u64> {
    Meminfo::current().ok()?.mem_available
}

fn rolled_up(rollup: &SmapsRollup) -> Option<Memory> {
    let sizes = &rollup.memory_map_rollup.iter().next()?.extension.map;
    Some(Memory { rss: *sizes.get("Rss")?, pss: sizes.get("Pss").copied() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::accounting::tests::ended_child;

    #[test]
    fn pages_written_become_resident_and_proportional() {
        let before = of(std::process::id()).unwrap();
        let block = std::hint::black_box(vec![1u8; 64 << 20]);
        let after = of(std::process::id()).unwrap();
        assert!(after.rss >= before.rss + (48 << 20), "{before:?} {after:?}");
        assert!(after.pss >= before.pss.map(|pss| pss + (48 << 20)) && after.pss.is_some(), "{before:?} {after:?}");
        drop(block);
    }

    #[test]
    fn a_vanished_process_has_no_memory() {
        assert_eq!(of(ended_child()), None);
        assert_eq!(of(u32::MAX), None);
    }
}
