//! Control groups of the tests' own: real limits, in whichever version the controller is mounted.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A group that is removed when it is dropped. Whoever is in it then goes back to the group above.
pub(crate) struct Cgroup {
    path: PathBuf,
    version_2: bool,
}

impl Cgroup {
    /// A group of this controller; none where the kernel or our rights lack it, which is said where nobody can miss it.
    pub(crate) fn of(controller: &str) -> Option<Self> {
        let name = format!("tuningfork-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let first = Path::new("/sys/fs/cgroup").join(controller).join(&name);
        let second = Path::new("/sys/fs/cgroup").join(&name);
        let has = fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
        let (path, version_2) =
            if has.split_whitespace().any(|known| known == controller) { (second, true) } else { (first, false) };
        match fs::create_dir(&path) {
            Ok(()) => Some(Self { path, version_2 }),
            Err(error) => {
                let test = std::thread::current().name().unwrap_or("a test").to_owned();
                let _ = writeln!(std::io::stderr(), "LEFT OUT: {test} needs the control group {}: {error}", path.display());
                None
            }
        }
    }

    /// Writes a setting: its name in version 1 and in version 2.
    pub(crate) fn set(&self, first: &str, second: &str, value: &str) {
        let file = self.path.join(if self.version_2 { second } else { first });
        fs::write(&file, value).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    }

    /// Moves a process in.
    pub(crate) fn take(&self, pid: u32) {
        fs::write(self.path.join("cgroup.procs"), pid.to_string()).expect("move a process");
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let members = fs::read_to_string(self.path.join("cgroup.procs")).unwrap_or_default();
        let above = self.path.parent().expect("invariant: below the root").join("cgroup.procs");
        for pid in members.lines() {
            let _ = fs::write(&above, pid);
        }
        let _ = fs::remove_dir(&self.path);
    }
}
