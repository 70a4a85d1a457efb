//! What this machine is, and how much of it this process may use.

use std::num::NonZeroU16;
use std::thread::available_parallelism;

use rustix::thread::sched_getaffinity;
use sysinfo::{CpuRefreshKind, MemoryRefreshKind, RefreshKind, System};

use super::cgroup::Slice;

/// Facts for the head of a report.
#[derive(Clone, Debug, PartialEq)]
pub struct Facts {
    /// The processor's name; empty if the kernel does not tell.
    pub cpu_model: String,
    /// Memory of the machine, bytes.
    pub memory: u64,
    /// The memory this process and what it starts may have, bytes: the machine's, or less where a control group bounds it.
    pub memory_limit: u64,
    /// The memory that could be had without swapping just now, bytes: proc_meminfo(5), MemAvailable.
    pub memory_available: Option<u64>,
    /// The kernel's release, as `uname -r`.
    pub kernel: String,
    /// The cores to count on.
    pub cores: Cores,
}

/// How many cores this process may use, and why not more.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cores {
    /// Those that can work for it at the same time: a quota is rounded up. Every rule of thumb counts these.
    pub usable: NonZeroU16,
    /// Those it may run on, by its affinity: what workers can be bound to, whatever a quota says.
    pub allowed: NonZeroU16,
    /// Those the machine has online.
    pub online: NonZeroU16,
    /// What allows no more.
    pub bound: CoreBound,
    /// Cores' worth of CPU time that a quota allows.
    pub quota: Option<f64>,
}

/// What limits the cores of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CoreBound {
    /// Nothing: all that are online.
    Online,
    /// The affinity mask: sched_setaffinity(2), a cpuset, systemd's `CPUAffinity=`.
    Affinity,
    /// The CPU quota of a control group: `cpu.max`, or `cpu.cfs_quota_us` of version 1; systemd's `CPUQuota=`.
    Quota,
}

impl Facts {
    /// The memory that may be filled, bytes: nine tenths of all this process may have, and no more than others leave; `None` if
    /// the kernel tells neither.
    #[must_use]
    pub fn memory_to_fill(&self) -> Option<u64> {
        let limit = Some(self.memory_limit / 10 * 9).filter(|limit| *limit > 0);
        [limit, self.memory_available].into_iter().flatten().min()
    }
}

/// The facts; what the kernel hides is empty or zero.
#[must_use]
pub fn facts() -> Facts {
    let wanted = RefreshKind::nothing().with_cpu(CpuRefreshKind::nothing()).with_memory(MemoryRefreshKind::nothing().with_ram());
    let system = System::new_with_specifics(wanted).ok();
    let memory = system.as_ref().map_or(0, System::total_memory);
    let model = system.as_ref().and_then(|system| system.cpus().first().map(|cpu| cpu.brand().trim().to_owned()));
    Facts {
        cpu_model: model.unwrap_or_default(),
        memory,
        memory_limit: Slice::own().memory_limit().map_or(memory, |limit| if memory == 0 { limit } else { limit.min(memory) }),
        memory_available: super::memory::available(),
        kernel: System::kernel_version().unwrap_or_default(),
        cores: cores(),
    }
}

/// The cores this process may use: the standard library sees affinity and the quotas of cgroup 1 and 2.
#[must_use]
pub fn cores() -> Cores {
    let allowed = sched_getaffinity(None).map_or(u32::MAX, |set| set.count());
    let available = available_parallelism().map_or(u32::MAX, |count| u32::try_from(count.get()).unwrap_or(u32::MAX));
    let online = super::cpu::core_times().map_or(0, |cores| u32::try_from(cores.len()).unwrap_or(u32::MAX));
    bounded(online, allowed, available, Slice::own().quota())
}

/// `online` of 0 and the others' maximum mean "not known".
fn bounded(online: u32, allowed: u32, available: u32, quota: Option<f64>) -> Cores {
    let online = if online == 0 { allowed.min(available) } else { online };
    // The standard library rounds a quota down.
    let whole = online.min(allowed).min(available);
    let bound = if whole == online {
        CoreBound::Online
    } else if whole == allowed {
        CoreBound::Affinity
    } else {
        CoreBound::Quota
    };
    let narrow = |count: u32| NonZeroU16::new(u16::try_from(count).unwrap_or(u16::MAX)).unwrap_or(NonZeroU16::MIN);
    let reach = online.min(allowed).min(if quota.is_some() { u32::MAX } else { available });
    let usable = quota.map_or(reach, |quota| (0..reach).find(|cores| f64::from(*cores) >= quota).unwrap_or(reach));
    Cores {
        quota: quota.filter(|quota| *quota < f64::from(reach)),
        allowed: if reach == u32::MAX { NonZeroU16::MIN } else { narrow(online.min(allowed)) },
        usable: if usable == u32::MAX { NonZeroU16::MIN } else { narrow(usable) },
        online: if online == u32::MAX { NonZeroU16::MIN } else { narrow(online) },
        bound,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::thread::{CpuSet, sched_setaffinity};

    #[test]
    fn the_tightest_bound_is_named() {
        let cases = [
            ((8, 8, 8), 8, 8, CoreBound::Online),
            ((8, 4, 4), 4, 8, CoreBound::Affinity),
            ((8, 8, 2), 2, 8, CoreBound::Quota),
            ((8, 4, 2), 2, 8, CoreBound::Quota),
            ((0, 4, 4), 4, 4, CoreBound::Online),
            ((0, u32::MAX, u32::MAX), 1, 1, CoreBound::Online),
            ((8, u32::MAX, 0), 1, 8, CoreBound::Quota),
            ((100_000, u32::MAX, u32::MAX), u16::MAX, u16::MAX, CoreBound::Online),
        ];
        for ((online, allowed, available), usable, shown, bound) in cases {
            let cores = bounded(online, allowed, available, None);
            assert_eq!((cores.usable.get(), cores.online.get(), cores.bound), (usable, shown, bound));
        }
    }

    #[test]
    fn a_quota_counts_in_fractions_and_rounds_up_to_cores() {
        for (quota, online, available, kept, usable) in
            [(0.5, 8, 1, Some(0.5), 1), (2.5, 8, 2, Some(2.5), 3), (2.0, 8, 2, Some(2.0), 2), (9.0, 8, 8, None, 8)]
        {
            let cores = bounded(online, online, available, Some(quota));
            assert_eq!((cores.quota, cores.usable.get(), cores.allowed.get()), (kept, usable, 8));
        }
        assert_eq!(bounded(8, 4, 4, None).usable.get(), 4);
    }

    #[test]
    fn affinity_is_seen() {
        // A thread has its own mask, so the other tests keep theirs.
        let pinned = std::thread::spawn(|| {
            let first = (0..CpuSet::MAX_CPU).find(|cpu| sched_getaffinity(None).unwrap().is_set(*cpu)).unwrap();
            let mut one = CpuSet::new();
            one.set(first);
            sched_setaffinity(None, &one).unwrap();
            cores()
        });
        let cores = pinned.join().unwrap();
        assert_eq!((cores.usable, cores.allowed), (NonZeroU16::MIN, NonZeroU16::MIN));
        assert!(cores.bound == CoreBound::Affinity || cores.online == NonZeroU16::MIN);
    }

    #[test]
    fn what_others_hold_is_not_there_to_be_filled() {
        let with = |limit_gib: u64, available: Option<u64>| {
            let facts = Facts { memory_limit: limit_gib << 30, memory_available: available.map(|gib| gib << 30), ..facts() };
            facts.memory_to_fill().map(|bytes| bytes >> 30)
        };
        assert_eq!([with(10, Some(4)), with(10, Some(10)), with(10, None)], [Some(4), Some(9), Some(9)]);
        assert_eq!([with(0, Some(4)), with(0, None)], [Some(4), None]);
    }

    #[test]
    fn this_machine_has_facts() {
        let facts = facts();
        assert!(facts.memory_available.is_some_and(|free| free > 0 && free <= facts.memory), "{facts:?}");
        assert!(facts.memory > 0 && facts.kernel.starts_with(|c: char| c.is_ascii_digit()), "{facts:?}");
        assert!(facts.cores.usable <= facts.cores.online);
    }
}
