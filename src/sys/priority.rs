//! Lets the load generator run when its requests are due, also while the application keeps every core busy.

use std::marker::PhantomData;

/// Real-time priority of the thread that took it; when this is dropped, the thread has the one it had before.
#[derive(Debug)]
pub struct RealTime {
    policy: libc::c_int,
    before: libc::sched_param,
    /// It is of one thread, which alone may give it back.
    of_this_thread: PhantomData<*const ()>,
}

/// Gives this thread the lowest real-time priority (sched(7), SCHED_FIFO), which needs CAP_SYS_NICE. The thread must sleep most of the time.
/// Returns `None` if the kernel does not allow it; without it, lateness is larger and is reported.
#[must_use]
#[expect(unsafe_code, reason = "no safe crate here has sched_setscheduler(2)")]
pub fn raise_this_thread() -> Option<RealTime> {
    let mut before = libc::sched_param { sched_priority: 0 };
    // SAFETY: both calls are about the calling thread, which 0 names; the second writes `before`, which outlives it.
    let (policy, read) = unsafe { (libc::sched_getscheduler(0), libc::sched_getparam(0, &raw mut before)) };
    let is_known = policy >= 0 && read == 0;
    let raised = is_known && schedule(libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, libc::sched_param { sched_priority: 1 });
    raised.then_some(RealTime { policy, before, of_this_thread: PhantomData })
}

impl Drop for RealTime {
    fn drop(&mut self) {
        // Only CAP_SYS_NICE takes away that children start with ordinary priority, which does no harm.
        let _ = schedule(self.policy, self.before) || schedule(self.policy | libc::SCHED_RESET_ON_FORK, self.before);
    }
}

/// Whether the kernel has put this thread under `policy`.
#[expect(unsafe_code, reason = "no safe crate here has sched_setscheduler(2)")]
fn schedule(policy: libc::c_int, param: libc::sched_param) -> bool {
    // SAFETY: the call reads `param`, which outlives it; 0 names the calling thread.
    unsafe { libc::sched_setscheduler(0, policy, &raw const param) == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(unsafe_code, reason = "no safe crate here has sched_getscheduler(2)")]
    fn policy() -> libc::c_int {
        // SAFETY: the call has no memory of ours; 0 names the calling thread.
        unsafe { libc::sched_getscheduler(0) & !libc::SCHED_RESET_ON_FORK }
    }

    #[test]
    fn a_thread_has_its_former_priority_back() {
        // Where it is not allowed, nothing may change either.
        let before = policy();
        let raised = raise_this_thread();
        assert_eq!(policy(), if raised.is_some() { libc::SCHED_FIFO } else { before });
        drop(raised);
        assert_eq!(policy(), before);
    }
}
