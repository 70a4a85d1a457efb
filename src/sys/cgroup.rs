//! The slice of the machine that this process was given by its control groups: CPU quota, memory limit, throttling. Reads, never writes.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::usage::cgroup::{self, Membership, Mounted};

/// The most groups above each other that are looked at.
const DEEPEST: usize = 64;

/// The groups that bound this process, each with those above it, innermost first. Empty where there are none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slice {
    unified: Vec<PathBuf>,
    cpu: Vec<PathBuf>,
    memory: Vec<PathBuf>,
}

impl Slice {
    /// That of this process.
    #[must_use]
    pub fn own() -> Self {
        Self::described(&read("/proc/self/cgroup".as_ref()), &read("/proc/self/mountinfo".as_ref()))
    }

    fn described(groups: &str, mounts: &str) -> Self {
        let member = Membership::parse(groups);
        let chain = |place: Option<String>, controller| {
            place.zip(cgroup::mounted(mounts, controller)).map_or_else(Vec::new, |(place, mounted)| chain(&mounted, &place))
        };
        Self {
            unified: chain(member.unified, None),
            cpu: chain(member.cpu, Some("cpu")),
            memory: chain(member.memory, Some("memory")),
        }
    }

    /// Cores' worth of CPU time: the tightest quota of all groups.
    #[must_use]
    pub fn quota(&self) -> Option<f64> {
        self.quotas().map(|(quota, _)| quota).min_by(f64::total_cmp)
    }

    /// The most memory, bytes: the tightest limit of all groups.
    #[must_use]
    pub fn memory_limit(&self) -> Option<u64> {
        let of = |file: &'static str| move |group: &PathBuf| cgroup::memory_limit(&read(&group.join(file)));
        let unified = self.unified.iter().filter_map(of("memory.max"));
        unified.chain(self.memory.iter().filter_map(of("memory.limit_in_bytes"))).min()
    }

    /// How many processes of this group the kernel has killed because memory was short.
    #[must_use]
    pub fn oom_kills(&self) -> u64 {
        let count = |group: Option<&PathBuf>, file| {
            group.and_then(|group| cgroup::oom_kills(&read(&group.join(file)))).unwrap_or_default()
        };
        count(self.unified.first(), "memory.events") + count(self.memory.first(), "memory.oom_control")
    }

    /// How long the group with the tightest quota was held back so far.
    #[must_use]
    pub fn throttled(&self) -> Option<Duration> {
        let (_, group) = self.quotas().min_by(|(one, _), (other, _)| one.total_cmp(other))?;
        cgroup::throttled(&read(&group.join("cpu.stat")))
    }

    fn quotas(&self) -> impl Iterator<Item = (f64, &PathBuf)> {
        let second = |group: &PathBuf| cgroup::cpu_max(&read(&group.join("cpu.max")));
        let first =
            |group: &PathBuf| cgroup::cfs_quota(&read(&group.join("cpu.cfs_quota_us")), &read(&group.join("cpu.cfs_period_us")));
        let unified = self.unified.iter().filter_map(move |group| Some((second(group)?, group)));
        unified.chain(self.cpu.iter().filter_map(move |group| Some((first(group)?, group))))
    }
}

/// The directory of the group that this process is in, in the second version's hierarchy.
pub(super) fn own_group() -> Option<PathBuf> {
    Slice::own().unified.into_iter().next()
}

/// A group's directory and those above it up to where the hierarchy is mounted.
fn chain(mounted: &Mounted, place: &str) -> Vec<PathBuf> {
    let top = Path::new(&mounted.at);
    // In a container the path may be the host's, of which only the part below the mounted root is visible.
    let below = Path::new(place).strip_prefix(&mounted.root).unwrap_or_else(|_| Path::new(""));
    let mut group = top.join(below);
    let mut chain = Vec::new();
    while group.starts_with(top) && chain.len() < DEEPEST {
        chain.push(group.clone());
        if !group.pop() {
            break;
        }
    }
    chain
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A slice in a made-up file system, where `files` hold what they say.
    fn slice(folder: &Path, groups: &str, kind: &str, files: &[(&str, &str)]) -> Slice {
        for (file, content) in files {
            let path = folder.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let mounts = format!("24 1 0:20 / {} rw - {kind}\n", folder.display());
        Slice::described(groups, &mounts)
    }

    #[test]
    fn the_tightest_quota_above_a_process_counts() {
        let folder = tempfile::tempdir().unwrap();
        let files = [
            ("web/memory.events", "low 0\noom 3\noom_kill 2\noom_group_kill 0\n"),
            ("web/cpu.max", "max 100000\n"),
            ("cpu.max", "50000 100000\n"),
            ("cpu.stat", "throttled_usec 7\n"),
            ("web/memory.max", "1000\n"),
        ];
        let found = slice(folder.path(), "0::/web\n", "cgroup2 cgroup2 rw", &files);
        assert_eq!((found.quota(), found.memory_limit()), (Some(0.5), Some(1000)));
        assert_eq!((found.throttled(), found.oom_kills()), (Some(Duration::from_micros(7)), 2));
    }

    #[test]
    fn version_one_has_files_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let files = [
            ("a/b/cpu.cfs_quota_us", "150000\n"),
            ("a/b/cpu.cfs_period_us", "100000\n"),
            ("a/cpu.cfs_quota_us", "-1\n"),
            ("a/cpu.cfs_period_us", "100000\n"),
            ("a/b/cpu.stat", "nr_periods 1\nthrottled_time 9\n"),
        ];
        let found = slice(folder.path(), "1:cpu,cpuacct:/a/b\n", "cgroup cgroup rw,cpu,cpuacct", &files);
        assert_eq!((found.quota(), found.throttled()), (Some(1.5), Some(Duration::from_nanos(9))));
        assert_eq!(found.memory_limit(), None);
    }

    #[test]
    fn a_path_that_is_not_visible_here_is_the_mounted_root() {
        let mounted = Mounted { at: "/sys/fs/cgroup".to_owned(), root: "/docker/f00".to_owned() };
        assert_eq!(chain(&mounted, "/docker/f00"), [PathBuf::from("/sys/fs/cgroup")]);
        assert_eq!(chain(&mounted, "/"), [PathBuf::from("/sys/fs/cgroup")]);
        let inner = ["/sys/fs/cgroup/a", "/sys/fs/cgroup"].map(PathBuf::from);
        assert_eq!(chain(&mounted, "/docker/f00/a"), inner);
    }

    #[test]
    fn nothing_known_is_no_limit() {
        let none = Slice::described("", "");
        assert_eq!((none.quota(), none.memory_limit(), none.throttled()), (None, None, None));
    }
}
