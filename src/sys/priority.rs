//! Lets the load generator run when its requests are due, also while the application keeps every core busy.

/// Gives this thread the lowest real-time priority (sched(7), SCHED_FIFO), which needs CAP_SYS_NICE. The thread must sleep most of the time.
/// Returns whether the kernel allowed it; without it, lateness is larger and is reported.
#[must_use]
#[expect(unsafe_code, reason = "no safe crate here has sched_setscheduler(2)")]
pub fn raise_this_thread() -> bool {
    let lowest = libc::sched_param { sched_priority: 1 };
    // SAFETY: the call reads `lowest`, which outlives it; 0 names the calling thread. Children start with ordinary priority.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, &raw const lowest) == 0 }
}
