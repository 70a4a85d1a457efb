//! Descriptors kept back, so that a worker can be made while others have taken all that the limit allows.

use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, open};

/// What a spawn needs beside a descriptor for each listener, and some to spare.
const SPARE: usize = 8;

/// Descriptors of no use but to be closed when others are needed.
#[derive(Debug)]
pub(super) struct Reserve {
    held: Vec<OwnedFd>,
    size: usize,
}

impl Reserve {
    /// Keeps enough for a worker with so many listeners.
    pub(super) fn for_listeners(listeners: usize) -> Self {
        let mut reserve = Self { held: Vec::new(), size: listeners + SPARE };
        reserve.refill();
        reserve
    }

    /// Gives all of it away for a moment.
    pub(super) fn release(&mut self) {
        self.held.clear();
    }

    /// Takes back what can be had.
    pub(super) fn refill(&mut self) {
        let null = || open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok();
        let lacking = self.size.saturating_sub(self.held.len());
        self.held.extend((0..lacking).map_while(|_| null()));
    }
}
