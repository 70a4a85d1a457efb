//! Reads the kernel's CPU counters: of the cores, and of one process. A process that is gone is no error.

use std::num::NonZeroU64;
use std::time::Duration;
use std::{fs, io};

use nix::sys::resource::{UsageWho, getrusage};
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;
use procfs::process::Process;
use rustix::thread::{CpuSet, sched_getaffinity};

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

/// CPU time of a process as [`process_time`] and, with it, of its children that ended and that it has waited for: what a worker's short-lived
/// helpers used. The living part is as fine as the kernel counts (clock_getcpuclockid(3)), not in ticks.
#[must_use]
pub fn time_with_ended_children(pid: u32) -> Option<Duration> {
    let pid = i32::try_from(pid).ok()?;
    let stat = Process::new(pid).and_then(|process| process.stat()).ok()?;
    let fine = clock_getcpuclockid(Pid::from_raw(pid)).and_then(clock_gettime).map(Duration::from);
    let living = fine.unwrap_or_else(|_| proc::ticks(stat.utime.saturating_add(stat.stime), hertz()));
    let ended = u64::try_from(stat.cutime.saturating_add(stat.cstime)).unwrap_or(0);
    Some(living.saturating_add(proc::ticks(ended, hertz())))
}

/// The cores a process may use (sched_getaffinity(2)).
#[must_use]
pub fn affinity(pid: u32) -> Option<Vec<u16>> {
    let allowed = sched_getaffinity(rustix::process::Pid::from_raw(i32::try_from(pid).ok()?)).ok()?;
    Some((0..u16::MAX).take(CpuSet::MAX_CPU).filter(|cpu| allowed.is_set(usize::from(*cpu))).collect())
}

/// CPU time of this process, all its threads.
#[must_use]
pub fn own_time() -> Duration {
    used(UsageWho::RUSAGE_SELF)
}

/// CPU time of the children of this process that ended and were waited for, and of theirs (getrusage(2)).
#[must_use]
pub fn ended_children() -> Duration {
    used(UsageWho::RUSAGE_CHILDREN)
}

fn used(who: UsageWho) -> Duration {
    let span = |time: nix::sys::time::TimeVal| {
        let micros = u64::try_from(time.tv_usec()).unwrap_or(0);
        Duration::from_secs(u64::try_from(time.tv_sec()).unwrap_or(0)).saturating_add(Duration::from_micros(micros))
    };
    getrusage(who).map_or(Duration::ZERO, |usage| span(usage.user_time()).saturating_add(span(usage.system_time())))
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
    fn what_ended_children_used_is_not_lost() {
        use std::io::{BufRead, BufReader};
        use std::process::{Command, Stdio};

        let burn = "(i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done); echo done; read line";
        let mut shell = Command::new("sh").args(["-c", burn]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        BufReader::new(shell.stdout.as_mut().unwrap()).read_line(&mut said).unwrap();
        let (alone, with_children) = (process_time(shell.id()).unwrap(), time_with_ended_children(shell.id()).unwrap());
        assert!(with_children >= alone + Duration::from_millis(30), "{alone:?} {with_children:?}");
        let before = ended_children();
        drop(shell.stdin.take());
        shell.wait().unwrap();
        assert!(ended_children() >= before + Duration::from_millis(30), "{before:?} {:?}", ended_children());
        assert_eq!(time_with_ended_children(shell.id()), None);
    }

    #[test]
    fn a_vanished_process_has_no_time() {
        assert_eq!(process_time(ended_child()), None);
        assert_eq!(process_time(u32::MAX), None);
        assert_eq!(process_time(0), None);
    }
}
