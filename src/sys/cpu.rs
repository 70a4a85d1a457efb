//! Reads the kernel's CPU counters: of the cores, and of one process. A process that is gone is no error.

use std::num::NonZeroU64;
use std::time::Duration;
use std::{fs, io};

use procfs::process::Process;
use rustix::thread::sched_getaffinity;

use crate::usage::{CoreTime, proc};

/// Ticks a second of the counters in /proc.
#[must_use]
pub fn hertz() -> NonZeroU64 {
    NonZeroU64::new(procfs::ticks_per_second()).unwrap_or(const { NonZeroU64::new(100).expect("invariant: 100 is not 0") })
}

/// Per-core times of the cores this process may run on (sched_getaffinity(2)). A quota shows in none of them.
pub fn usable_core_times() -> io::Result<Vec<CoreTime>> {
    let allowed = sched_getaffinity(None).ok();
    let usable = |core: &CoreTime| allowed.as_ref().is_none_or(|allowed| allowed.is_set(usize::from(core.cpu)));
    Ok(core_times()?.into_iter().filter(usable).collect())
}

/// CPU time of every core that is online.
pub fn core_times() -> io::Result<Vec<CoreTime>> {
    Ok(proc::core_times(&fs::read_to_string("/proc/stat")?, hertz()))
}

/// User and system time of a process, all its threads and those that ended included; its children are not.
/// A zombie still answers; `None` once it is reaped.
#[must_use]
pub fn process_time(pid: u32) -> Option<Duration> {
    let stat = Process::new(i32::try_from(pid).ok()?).and_then(|process| process.stat()).ok()?;
    Some(proc::ticks(stat.utime.saturating_add(stat.stime), hertz()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::accounting::tests::ended_child;

    #[test]
    fn cores_have_counted() {
        let cores = core_times().unwrap();
        assert!(!cores.is_empty());
        assert!(cores.iter().all(|core| core.idle + core.user > Duration::ZERO));
    }

    #[test]
    fn work_of_a_thread_that_ended_is_counted() {
        let pid = std::process::id();
        let before = process_time(pid).unwrap();
        let spin = move || {
            let mut rounds = 0u64;
            while process_time(pid).unwrap() < before + Duration::from_millis(20) {
                rounds = std::hint::black_box(rounds + 1);
            }
        };
        std::thread::spawn(spin).join().unwrap();
        assert!(process_time(pid).unwrap() >= before + Duration::from_millis(20));
    }

    #[test]
    fn a_vanished_process_has_no_time() {
        assert_eq!(process_time(ended_child()), None);
        assert_eq!(process_time(u32::MAX), None);
        assert_eq!(process_time(0), None);
    }
}
