//! Reads the text of control-group files: which groups a process is in, the CPU quota, and how often it was throttled. Both versions:
//! cgroups(7), the kernel's admin-guide/cgroup-v2 and scheduler/sched-bwc.

use std::time::Duration;

/// The place of a process in the hierarchies that matter here: paths below each hierarchy's root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Membership {
    /// Of the one hierarchy of version 2.
    pub unified: Option<String>,
    /// Of version 1's `cpu`.
    pub cpu: Option<String>,
    /// Of version 1's `memory`.
    pub memory: Option<String>,
}

impl Membership {
    /// Reads /proc/PID/cgroup.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut found = Self::default();
        for line in text.lines() {
            let mut fields = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
            let has = |name| controllers.split(',').any(|controller| controller == name);
            let place = || Some(path.to_owned());
            if controllers.is_empty() {
                found.unified = place();
            }
            if has("cpu") {
                found.cpu = place();
            }
            if has("memory") {
                found.memory = place();
            }
        }
        found
    }
}

/// Where a hierarchy is mounted, and which of its groups is seen there: the rest of a container's path is cut off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mounted {
    /// The directory.
    pub at: String,
    /// The group at that directory.
    pub root: String,
}

/// Finds a hierarchy in /proc/self/mountinfo: that of version 2, or of version 1 with `controller` among its options.
#[must_use]
pub fn mounted(mountinfo: &str, controller: Option<&str>) -> Option<Mounted> {
    mountinfo.lines().find_map(|line| {
        let (mount, source) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, at) = (fields.next()?, fields.next()?);
        let mut source = source.split(' ');
        let (kind, options) = (source.next()?, source.nth(1).unwrap_or_default());
        let is_it = match controller {
            None => kind == "cgroup2",
            Some(name) => kind == "cgroup" && options.split(',').any(|option| option == name),
        };
        is_it.then(|| Mounted { at: at.to_owned(), root: root.to_owned() })
    })
}

/// `cpu.max`: cores' worth of CPU; `None` if there is no limit or the text is something else.
#[must_use]
pub fn cpu_max(text: &str) -> Option<f64> {
    let (quota, period) = text.trim().split_once(' ')?;
    share(quota, period)
}

/// `cpu.cfs_quota_us` and `cpu.cfs_period_us`: cores' worth of CPU; a quota of -1 is none.
#[must_use]
pub fn cfs_quota(quota: &str, period: &str) -> Option<f64> {
    share(quota.trim(), period.trim())
}

fn share(quota: &str, period: &str) -> Option<f64> {
    let (quota, period) = (quota.parse::<u64>().ok()?, period.parse::<u64>().ok()?);
    (quota > 0 && period > 0).then(|| quota as f64 / period as f64)
}

/// `memory.max`, or `memory.limit_in_bytes` of version 1, where the largest page counter means none.
#[must_use]
pub fn memory_limit(text: &str) -> Option<u64> {
    const UNLIMITED: u64 = 1 << 62;
    text.trim().parse().ok().filter(|limit| *limit < UNLIMITED)
}

/// How long the tasks of a group had to wait for the next period, from `cpu.stat` of either version.
#[must_use]
pub fn throttled(stat: &str) -> Option<Duration> {
    stat.lines().find_map(|line| {
        let (name, count) = line.split_once(' ')?;
        let count = count.trim().parse().ok();
        match name {
            "throttled_usec" => count.map(Duration::from_micros),
            "throttled_time" => count.map(Duration::from_nanos),
            _ => None,
        }
    })
}

/// The field `oom_kill` of memory.events (version 2) or memory.oom_control (version 1).
#[must_use]
pub fn oom_kills(text: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_process_is_found_in_both_versions() {
        let hybrid = "9:name=systemd:/\n4:memory:/a/b\n2:cpuacct,cpu:/web\n0::/x\n";
        let expected =
            Membership { unified: Some("/x".to_owned()), cpu: Some("/web".to_owned()), memory: Some("/a/b".to_owned()) };
        assert_eq!(Membership::parse(hybrid), expected);
        let unified = Membership::parse("0::/system.slice/web.service\n");
        assert_eq!((unified.unified.as_deref(), unified.cpu), (Some("/system.slice/web.service"), None));
    }

    #[test]
    fn hierarchies_are_found_where_they_are_mounted() {
        let text = "24 1 0:20 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu,cpuacct\n\
                    25 1 0:21 /docker/f00 /sys/fs/cgroup/memory rw shared:3 - cgroup cgroup rw,memory\n\
                    26 1 0:22 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate\n";
        let at = |at: &str, root: &str| Some(Mounted { at: at.to_owned(), root: root.to_owned() });
        assert_eq!(mounted(text, Some("cpu")), at("/sys/fs/cgroup/cpu", "/"));
        assert_eq!(mounted(text, Some("memory")), at("/sys/fs/cgroup/memory", "/docker/f00"));
        assert_eq!(mounted(text, None), at("/sys/fs/cgroup/unified", "/"));
        assert_eq!(mounted(text, Some("cpuset")), None);
    }

    #[test]
    fn quotas_are_cores_worth() {
        let near = |found: Option<f64>, expected: f64| found.is_some_and(|found| (found - expected).abs() < 1e-12);
        assert!(near(cpu_max("50000 100000\n"), 0.5) && near(cpu_max("250000 100000"), 2.5));
        assert_eq!((cpu_max("max 100000\n"), cpu_max(""), cpu_max("1")), (None, None, None));
        assert!(near(cfs_quota("150000\n", "100000\n"), 1.5));
        assert_eq!((cfs_quota("-1\n", "100000\n"), cfs_quota("1000", "0")), (None, None));
    }

    #[test]
    fn limits_of_memory_and_throttling() {
        assert_eq!((memory_limit("536870912\n"), memory_limit("max\n")), (Some(512 << 20), None));
        assert_eq!(memory_limit("9223372036854771712\n"), None);
        assert_eq!(throttled("usage_usec 7\nnr_throttled 3\nthrottled_usec 1500\n"), Some(Duration::from_micros(1500)));
        assert_eq!(throttled("nr_periods 0\nnr_throttled 0\nthrottled_time 42\n"), Some(Duration::from_nanos(42)));
        assert_eq!(throttled("usage_usec 7\n"), None);
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in "([0-9:a-z/, -]{0,40}\n?){0,6}") {
            let _ = (Membership::parse(&text), mounted(&text, Some("cpu")), cpu_max(&text), memory_limit(&text), throttled(&text));
        }
    }
}
