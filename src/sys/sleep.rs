//! Sleeping until something happens or a moment has come.

use std::os::fd::BorrowedFd;

use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::clock;
use crate::units::Moment;

/// Sleeps until one of `fds` can be read or `until` has come. TSTP suspends us meanwhile also where it is kept from us otherwise.
pub(super) fn sleep(fds: &[BorrowedFd<'_>], until: Option<Moment>) {
    let mut polled: Vec<PollFd<'_>> = fds.iter().map(|fd| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
    let timeout = until.map(|until| {
        let left = until.since(clock::now());
        Timespec { tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX), tv_nsec: i64::from(left.subsec_nanos()) }
    });
    let before = SigSet::from(Signal::SIGTSTP).thread_swap_mask(SigmaskHow::SIG_UNBLOCK);
    // An error here (EINTR, ENOMEM) only means that we look sooner.
    poll(&mut polled, timeout.as_ref()).ok();
    if let Ok(before) = before {
        before.thread_set_mask().ok();
    }
}
