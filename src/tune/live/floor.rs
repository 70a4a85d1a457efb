//! What a trial must leave of the machine's memory, so that the kernel ends nobody else's processes for want of it. Watches;
//! frees nothing.

use crate::sys::memory;

/// A trial leaves one part of so many of what was free before the first.
const PARTS: u64 = 20;

/// The least memory that must be left, bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Floor(u64);

/// Less is left.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "stopped, as it left {} MiB of this host's memory, and {} MiB are kept for others: try fewer workers, or allow less with --max-memory",
    left >> 20,
    kept >> 20
)]
pub(super) struct Low {
    left: u64,
    kept: u64,
}

impl Floor {
    /// By what is free now.
    pub(super) fn now() -> Self {
        Self::under(memory::available())
    }

    /// By what is free, bytes. Without that there is no floor.
    pub(super) fn under(free: Option<u64>) -> Self {
        Self(free.unwrap_or(0) / PARTS)
    }

    /// Whether enough is left.
    pub(super) fn check(self) -> Result<(), Low> {
        self.judge(memory::available())
    }

    fn judge(self, left: Option<u64>) -> Result<(), Low> {
        let Self(kept) = self;
        match left {
            Some(left) if left < kept => Err(Low { left, kept }),
            Some(_) | None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_twentieth_of_what_was_free_is_kept_where_that_is_known() {
        let floor = Floor::under(Some(4000 << 20));
        assert_eq!(
            (floor.judge(Some(200 << 20)), floor.judge(None), Floor::under(None).judge(Some(0))),
            (Ok(()), Ok(()), Ok(()))
        );
        let low = floor.judge(Some(199 << 20)).unwrap_err();
        assert!(low.to_string().starts_with("stopped, as it left 199 MiB of this host's memory, and 200 MiB are kept"), "{low}");
        assert_eq!(Floor::now().check(), Ok(()));
    }
}
