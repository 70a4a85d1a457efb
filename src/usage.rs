//! CPU and memory counters read twice, and what happened between. Pure: `sys` reads them.

use std::time::Duration;

/// CPU time of one core since boot, by mode, as in proc_stat(5). `user` includes nice and guest time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CoreTime {
    /// The number in `cpuN`.
    pub cpu: u16,
    /// Ordinary and niced processes.
    pub user: Duration,
    /// The kernel on their behalf.
    pub system: Duration,
    /// Nothing to do.
    pub idle: Duration,
    /// Nothing to do, and a disk read is outstanding.
    pub iowait: Duration,
    /// Hard and soft interrupts.
    pub irq: Duration,
    /// Another guest had the core.
    pub steal: Duration,
}

/// What processes used, added up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessUse {
    /// User and system time of all their threads.
    pub cpu: Duration,
    /// Resident set size, bytes: counts shared pages once for every process.
    pub rss: u64,
    /// Proportional set size, bytes: shared pages divided among those who share them (proc_pid_smaps(5)).
    pub pss: u64,
}
