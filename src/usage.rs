//! CPU and memory counters read twice, and what happened between. Pure: `sys` reads them, [`proc`] parses what it read.
//! Refuses to invent: a core that came, went or did not count between two readings has no share.

pub mod cgroup;
pub mod proc;

use std::iter::Sum;
use std::ops::Add;
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

impl CoreTime {
    /// The time in each mode, under the names node_exporter uses (its `nice` is in `user`, its `softirq` in `irq`).
    #[must_use]
    pub const fn modes(&self) -> [(&'static str, Duration); 6] {
        [
            ("user", self.user),
            ("system", self.system),
            ("idle", self.idle),
            ("iowait", self.iowait),
            ("irq", self.irq),
            ("steal", self.steal),
        ]
    }
}

/// How one core spent a window: shares from 0 to 1 that add up to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CoreUse {
    /// The number in `cpuN`.
    pub cpu: u16,
    /// Ordinary and niced processes.
    pub user: f64,
    /// The kernel on their behalf.
    pub system: f64,
    /// Nothing to do.
    pub idle: f64,
    /// Nothing to do, and a disk read was outstanding.
    pub iowait: f64,
    /// Hard and soft interrupts.
    pub irq: f64,
    /// Another guest had the core.
    pub steal: f64,
}

impl CoreUse {
    /// The share in which this machine worked: user, system and interrupts. Stolen time is neither work nor free.
    #[must_use]
    pub fn busy(&self) -> f64 {
        self.user + self.system + self.irq
    }

    /// `None` if the core counted nothing. A mode that runs backwards, as `iowait` may (proc_stat(5)), counts as zero.
    fn between(before: &CoreTime, after: &CoreTime) -> Option<Self> {
        let mut spent = [0.0; 6];
        for (share, ((_, earlier), (_, later))) in spent.iter_mut().zip(before.modes().into_iter().zip(after.modes())) {
            *share = later.saturating_sub(earlier).as_secs_f64();
        }
        let total: f64 = spent.iter().sum();
        let [user, system, idle, iowait, irq, steal] = spent.map(|span| span / total);
        (total > 0.0).then_some(Self { cpu: after.cpu, user, system, idle, iowait, irq, steal })
    }
}

/// How the cores spent a window.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CpuUse {
    /// Those that were there at both ends and counted, in the order of the later reading.
    pub cores: Vec<CoreUse>,
}

impl CpuUse {
    /// What happened between two readings. The kernel counts in ticks, usually of 10 ms: keep windows above a second.
    #[must_use]
    pub fn between(before: &[CoreTime], after: &[CoreTime]) -> Self {
        let find = |cpu| before.iter().find(|earlier| earlier.cpu == cpu);
        let cores = after.iter().filter_map(|later| CoreUse::between(find(later.cpu)?, later)).collect();
        Self { cores }
    }

    /// The mean of one share over the cores, such as `CoreUse::busy`; `None` without cores.
    #[must_use]
    pub fn mean(&self, share: impl Fn(&CoreUse) -> f64) -> Option<f64> {
        (!self.cores.is_empty()).then(|| self.cores.iter().map(share).sum::<f64>() / self.cores.len() as f64)
    }

    /// The least busy core.
    #[must_use]
    pub fn lowest(&self) -> Option<&CoreUse> {
        self.cores.iter().min_by(|a, b| a.busy().total_cmp(&b.busy()))
    }
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

impl ProcessUse {
    /// CPU time used since `earlier`, and memory as it is now: memory is a level, not a count.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self { cpu: self.cpu.saturating_sub(earlier.cpu), ..self }
    }
}

impl Add for ProcessUse {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            cpu: self.cpu.saturating_add(other.cpu),
            rss: self.rss.saturating_add(other.rss),
            pss: self.pss.saturating_add(other.pss),
        }
    }
}

impl Sum for ProcessUse {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), Add::add)
    }
}

/// Lines of the log that were dropped, by whose they were.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DroppedLines {
    /// tuningfork's own, and those of a new program that is to take its place.
    pub supervisor: u64,
    /// Those of processes that Python workers are forked from.
    pub zygote: u64,
    /// Those of workers.
    pub worker: u64,
}

/// One process's counters, read once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessReading {
    /// User and system time of all its threads, those that ended included.
    pub cpu: Duration,
    /// Resident set size, bytes.
    pub rss: u64,
    /// Proportional set size, bytes; `None` if the kernel does not show it to us.
    pub pss: Option<u64>,
}

impl From<ProcessReading> for ProcessUse {
    /// Where the proportional size is hidden, the resident size stands in: too much, never too little.
    fn from(reading: ProcessReading) -> Self {
        Self { cpu: reading.cpu, rss: reading.rss, pss: reading.pss.unwrap_or(reading.rss) }
    }
}

/// The supervisor's own process, as the `process_*` metrics of every Prometheus client describe it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnProcess {
    /// User and system time of all threads.
    pub cpu: Duration,
    /// Resident set size, bytes.
    pub rss: u64,
    /// Size of the address space, bytes.
    pub vsize: u64,
    /// File descriptors open.
    pub open_fds: u64,
    /// File descriptors allowed (soft limit).
    pub max_fds: u64,
    /// Threads.
    pub threads: u64,
    /// Start of the process, since the Unix epoch.
    pub started: Duration,
}

/// A listening socket's accept queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListenQueue {
    /// Connections that wait for accept(2).
    pub length: u32,
    /// listen(2)'s backlog after the kernel's cap; the kernel takes one connection more than that.
    pub limit: u32,
}

/// Connections this network namespace lost at listening sockets since it was made, those of other programs included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListenLosses {
    /// The accept queue was full.
    pub overflows: u64,
    /// Any reason, `overflows` included.
    pub drops: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn core(cpu: u16, ticks: [u64; 6]) -> CoreTime {
        let [user, system, idle, iowait, irq, steal] = ticks.map(|ticks| Duration::from_millis(ticks * 10));
        CoreTime { cpu, user, system, idle, iowait, irq, steal }
    }

    #[test]
    fn shares_are_differences_over_their_sum() {
        let used = CpuUse::between(&[core(0, [100, 50, 1000, 7, 3, 1])], &[core(0, [150, 70, 1020, 12, 7, 2])]);
        let share = used.cores[0];
        assert_eq!(
            (share.user, share.system, share.idle, share.iowait, share.irq, share.steal),
            (0.5, 0.2, 0.2, 0.05, 0.04, 0.01)
        );
        assert!((share.busy() - 0.74).abs() < 1e-12);
    }

    #[test]
    fn cores_come_go_and_change_places() {
        let before = [core(0, [0; 6]), core(1, [0; 6]), core(2, [5; 6])];
        let after = [core(3, [9; 6]), core(2, [5; 6]), core(1, [30, 0, 70, 0, 0, 0]), core(0, [90, 0, 10, 0, 0, 0])];
        let used = CpuUse::between(&before, &after);
        assert_eq!(used.cores.iter().map(|core| core.cpu).collect::<Vec<_>>(), [1, 0]);
        assert_eq!(used.lowest().map(|core| core.cpu), Some(1));
        assert_eq!(used.mean(CoreUse::busy), Some(0.6));
    }

    #[test]
    fn nothing_counted_is_nothing_known() {
        let same = [core(0, [1, 2, 3, 4, 5, 6])];
        for used in [CpuUse::between(&same, &same), CpuUse::between(&[], &same)] {
            assert_eq!((used.mean(CoreUse::busy), used.lowest()), (None, None));
        }
    }

    #[test]
    fn a_mode_that_runs_backwards_counts_as_zero() {
        let used = CpuUse::between(&[core(0, [0, 0, 0, 50, 0, 0])], &[core(0, [10, 0, 10, 20, 0, 0])]);
        assert_eq!((used.cores[0].user, used.cores[0].idle, used.cores[0].iowait), (0.5, 0.5, 0.0));
    }

    #[test]
    fn processes_add_up_and_memory_is_a_level() {
        let reading = |cpu, rss, pss| ProcessUse::from(ProcessReading { cpu: Duration::from_secs(cpu), rss, pss });
        let total: ProcessUse = [reading(1, 100, Some(40)), reading(2, 10, None)].into_iter().sum();
        assert_eq!((total.cpu.as_secs(), total.rss, total.pss), (3, 110, 50));
        let later = reading(10, 80, Some(30)).since(total);
        assert_eq!((later.cpu.as_secs(), later.rss, later.pss), (7, 80, 30));
        assert_eq!(reading(1, 0, None).since(total).cpu, Duration::ZERO);
    }

    proptest! {
        #[test]
        fn any_two_readings_give_shares_that_add_up_to_one(
            before in proptest::array::uniform6(0..u64::MAX / 20), after in proptest::array::uniform6(0..u64::MAX / 20),
        ) {
            for share in CpuUse::between(&[core(0, before)], &[core(0, after)]).cores {
                let sum = share.busy() + share.idle + share.iowait + share.steal;
                prop_assert!((sum - 1.0).abs() < 1e-9, "{share:?}");
            }
        }
    }
}
