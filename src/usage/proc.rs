//! Reads the text of /proc files where the procfs crate loses something: it drops the number in `cpuN`, and has no
//! `/proc/net/netstat`. A line that does not parse is left out: a kernel may add to these files what nobody asked for.

use std::num::NonZeroU64;
use std::time::Duration;

use super::{CoreTime, ListenLosses};

/// The `cpuN` lines of /proc/stat; `hertz` is the number of ticks a second (sysconf(3), `_SC_CLK_TCK`).
#[must_use]
pub fn core_times(stat: &str, hertz: NonZeroU64) -> Vec<CoreTime> {
    stat.lines().filter_map(|line| core_time(line, hertz)).collect()
}

/// Guest time is left alone: the kernel has counted it in user and nice.
fn core_time(line: &str, hertz: NonZeroU64) -> Option<CoreTime> {
    let mut words = line.strip_prefix("cpu")?.split_ascii_whitespace();
    // The line of the sum begins with "cpu " and so has a count, not a number, in first place.
    let cpu = line.as_bytes().get(3)?.is_ascii_digit().then(|| words.next()?.parse().ok())??;
    let mut counts = [0u64; 8];
    for (at, count) in counts.iter_mut().enumerate() {
        match words.next() {
            Some(word) => *count = word.parse().ok()?,
            // Kernels before 2.6.11 stop earlier; four counts have always been there.
            None if at >= 4 => break,
            None => return None,
        }
    }
    let [user, nice, system, idle, iowait, irq, softirq, steal] = counts;
    Some(CoreTime {
        cpu,
        user: ticks(user.saturating_add(nice), hertz),
        system: ticks(system, hertz),
        idle: ticks(idle, hertz),
        iowait: ticks(iowait, hertz),
        irq: ticks(irq.saturating_add(softirq), hertz),
        steal: ticks(steal, hertz),
    })
}

/// The span of `count` ticks of which `hertz` make a second.
#[must_use]
pub fn ticks(count: u64, hertz: NonZeroU64) -> Duration {
    let rest = (count % hertz).saturating_mul(1_000_000_000) / hertz;
    Duration::from_secs(count / hertz).saturating_add(Duration::from_nanos(rest))
}

/// `ListenOverflows` and `ListenDrops` of /proc/net/netstat; `None` if the kernel does not count them.
#[must_use]
pub fn listen_losses(netstat: &str) -> Option<ListenLosses> {
    let mut lines = netstat.lines().filter_map(|line| line.strip_prefix("TcpExt:"));
    let (names, counts) = (lines.next()?, lines.next()?);
    let count = |wanted| {
        let mut columns = names.split_ascii_whitespace().zip(counts.split_ascii_whitespace());
        columns.find(|(name, _)| *name == wanted)?.1.parse().ok()
    };
    Some(ListenLosses { overflows: count("ListenOverflows")?, drops: count("ListenDrops")? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HERTZ: NonZeroU64 = NonZeroU64::new(100).unwrap();

    #[test]
    fn the_lines_of_cores_are_read_and_nothing_else() {
        let stat = "cpu  26466 0 7268 195752 499 0 64 26 0 0\n\
                    cpu0 1234 6 3329 99175 98 1 10 13 7 7\n\
                    cpu12 1 2 3 4\n\
                    cpufreq 1 2 3 4 5\ncpu3 1 2 3\ncpu4 1 2 x 4\ncpu99999 1 2 3 4\nintr 5 6\nbtime 1700000000\n";
        let millis = |ticks: u64| Duration::from_millis(ticks * 10);
        let first = CoreTime {
            cpu: 0,
            user: millis(1240),
            system: millis(3329),
            idle: millis(99175),
            iowait: millis(98),
            irq: millis(11),
            steal: millis(13),
        };
        let old = CoreTime { cpu: 12, user: millis(3), system: millis(3), idle: millis(4), ..CoreTime::default() };
        assert_eq!(core_times(stat, HERTZ), [first, old]);
    }

    #[test]
    fn ticks_are_exact_where_a_second_does_not_divide() {
        assert_eq!(ticks(250, HERTZ), Duration::from_millis(2500));
        assert_eq!(ticks(1025, NonZeroU64::new(1024).unwrap()), Duration::new(1, 976_562));
        assert!(ticks(u64::MAX, NonZeroU64::MIN) > Duration::from_secs(1));
        assert!(ticks(u64::MAX - 1, NonZeroU64::MAX) > Duration::ZERO);
    }

    #[test]
    fn losses_are_found_by_their_column() {
        let netstat = "TcpExt: SyncookiesSent ListenOverflows ListenDrops TCPHPHits\nTcpExt: 1 22 333 4444\nIpExt: A\nIpExt: 1\n";
        let expected = ListenLosses { overflows: 22, drops: 333 };
        assert_eq!(listen_losses(netstat), Some(expected));
        for broken in ["", "TcpExt:", "TcpExt: ListenDrops\nTcpExt: 1\n", "TcpExt: ListenOverflows ListenDrops\nTcpExt: 1 -2\n"] {
            assert_eq!(listen_losses(broken), None, "{broken:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "(cpu[0-9 ]{0,30}|TcpExt:[ A-Za-z0-9]{0,30}|.{0,30}|\n){0,8}", hertz in 1u64..) {
            let hertz = NonZeroU64::new(hertz).unwrap();
            let _ = (core_times(&text, hertz), listen_losses(&text));
        }
    }
}
