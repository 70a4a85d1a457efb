//! Whether the kernel killed a process because memory was short. A SIGKILL alone says nothing: anybody may have sent it.

use super::cgroup::Slice;

/// How many of our control group's processes the kernel has killed, and for how many of them we know who it was.
#[derive(Debug)]
pub(super) struct Shortage {
    slice: Slice,
    known: u64,
}

impl Shortage {
    pub(super) fn watch() -> Self {
        let slice = Slice::own();
        let known = slice.oom_kills();
        Self { slice, known }
    }

    /// Whether a process that was killed just now was killed by the kernel; each kill is told once.
    pub(super) fn explains_a_kill(&mut self) -> bool {
        let slice = Slice::own();
        if slice != self.slice {
            // We were moved: whoever was killed in the new group was one of ours.
            *self = Self { slice, known: 0 };
        }
        let rose = self.slice.oom_kills() > self.known;
        self.known += u64::from(rose);
        rose
    }
}
