//! Signals as wishes. Each is a level: however often it came since the last look, it is one wish.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use signal_hook::consts::{
    SIGALRM, SIGCHLD, SIGHUP, SIGINT, SIGIO, SIGPROF, SIGQUIT, SIGSTOP, SIGTERM, SIGTSTP, SIGTTIN, SIGTTOU, SIGUSR1, SIGUSR2,
    SIGVTALRM, SIGWINCH, SIGXCPU, SIGXFSZ,
};
use signal_hook::flag;
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;
use signal_hook::low_level;

use crate::supervisor::event::{Haste, Scale, Wish};

/// Real-time signals, but for the two that the C library keeps for itself.
const FIRST_REAL_TIME: i32 = 34;
const LAST_REAL_TIME: i32 = 64;
/// The first of those two (SIGCANCEL). The other (SIGSETXID) has a handler once there are threads.
const RESERVED: i32 = 32;

/// What a signal means to the main loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// Somebody asked for something.
    Wish(Wish),
    /// A child has ended.
    ChildEnded,
}

/// The process's signal handlers. One value for the life of the process: dropping it would bring back the default actions.
pub struct Signals {
    delivery: SignalDelivery<UnixStream, SignalOnly>,
    meaning: Meaning,
    stop_heard: bool,
}

/// What signals ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    /// What Gunicorn's master does on them.
    Service,
    /// The same on a terminal, which sends WINCH whenever its window changes.
    ServiceOnTerminal,
    /// An end, each of them.
    Study,
}

impl Signals {
    /// For a service: takes over HUP, TTIN, TTOU, USR1, USR2, WINCH, TSTP, TERM, INT, QUIT and CHLD.
    pub fn of_a_service() -> io::Result<Self> {
        let signals = [SIGHUP, SIGTTIN, SIGTTOU, SIGTERM, SIGINT, SIGQUIT, SIGCHLD, SIGUSR1, SIGUSR2, SIGWINCH];
        let on_terminal = File::open("/dev/tty").is_ok();
        held_back(|| {
            end_on_watchdog();
            ignore_others()?;
            suspend_on_tstp()?;
            Self::catch(&signals, if on_terminal { Meaning::ServiceOnTerminal } else { Meaning::Service })
        })
    }

    /// For a study: HUP (its terminal is gone), TERM, INT and QUIT end it; TTIN and TTOU are a shell's job control. USR1, USR2 and a
    /// file that may not grow further (XFSZ: writing it fails) do not.
    pub fn of_a_study() -> io::Result<Self> {
        let heard = Arc::new(AtomicBool::new(false));
        held_back(|| {
            for signal in [SIGUSR1, SIGUSR2, SIGXFSZ] {
                flag::register(signal, Arc::clone(&heard))?;
            }
            Self::catch(&[SIGHUP, SIGTERM, SIGINT, SIGQUIT, SIGCHLD], Meaning::Study)
        })
    }

    fn catch(signals: &[i32], meaning: Meaning) -> io::Result<Self> {
        let (read, write) = UnixStream::pair()?;
        let delivery = SignalDelivery::with_pipe(read, write, SignalOnly, signals)?;
        Ok(Self { delivery, meaning, stop_heard: false })
    }

    /// Readable when a signal waits to be heard.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.delivery.get_read().as_fd()
    }

    /// Whether a stop was ever asked for.
    pub fn asked_to_stop(&mut self) -> bool {
        self.heard();
        self.stop_heard
    }

    /// Whether a stop was asked for since the last look.
    pub fn asked_anew(&mut self) -> bool {
        self.heard().iter().any(|heard| matches!(heard, Heard::Wish(Wish::Stop(_))))
    }

    /// What came since the last look. Never waits.
    pub(super) fn heard(&mut self) -> Vec<Heard> {
        let pending: Vec<i32> = self.delivery.pending().collect();
        let heard = self.meaning.of_all(&pending);
        self.stop_heard |= heard.iter().any(|heard| matches!(heard, Heard::Wish(Wish::Stop(_))));
        heard
    }
}

/// Keeps signals from this thread while `install` installs handlers. One that came between a handler and what it is to do would be lost:
/// signal-hook sets the handler first. Other threads would take them, so that there may be none yet.
pub fn held_back<T>(install: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    let installed = install();
    before.thread_set_mask()?;
    installed
}

/// Keeps TSTP from this thread and from all that it starts; it is heard while the main loop sleeps. Where several threads may
/// hear it at once, the last would suspend us when CONT has come already.
pub fn hold_back_tstp() {
    SigSet::from(Signal::SIGTSTP).thread_block().expect("invariant: TSTP can be blocked");
}

/// Suspends us on TSTP. The kernel's own action does that only to what belongs to a shell: a service of systemd is in an orphaned process
/// group (setpgid(2)), where TSTP does nothing.
#[expect(unsafe_code, reason = "told to the main loop, it would be heard after the CONT that is to end it")]
fn suspend_on_tstp() -> io::Result<()> {
    let suspend = || {
        low_level::raise(SIGSTOP).ok();
    };
    // SAFETY: raise(3) may be called from a signal handler (signal-safety(7)), and nothing else is.
    unsafe { low_level::register(SIGTSTP, suspend) }.map(drop)
}

/// Signals that say nothing to a service and would end it: timers, quotas, power, real-time signals. Those that say that the program is
/// broken keep their actions; so does STKFLT, which systemd's watchdog may be told to send.
fn ignore_others() -> io::Result<()> {
    // A handler and not SIG_IGN, which a worker would inherit.
    let heard = Arc::new(AtomicBool::new(false));
    let named = [SIGALRM, SIGVTALRM, SIGPROF, SIGIO, libc::SIGPWR, SIGXCPU, SIGXFSZ];
    for signal in named.into_iter().chain(FIRST_REAL_TIME..=LAST_REAL_TIME) {
        flag::register(signal, Arc::clone(&heard))?;
    }
    ignore_reserved()
}

/// The C library keeps the first two real-time signals for itself and handles them only when it needs them; until then they would end us.
#[expect(unsafe_code, reason = "the C library's own functions refuse these two")]
fn ignore_reserved() -> io::Result<()> {
    // struct sigaction as the kernel takes it: handler, flags, restorer, mask.
    let ignore: [libc::c_ulong; 4] = [libc::SIG_IGN as libc::c_ulong, 0, 0, 0];
    let nothing = std::ptr::null_mut::<libc::c_ulong>();
    // SAFETY: the kernel reads as much as `ignore` holds; a handler that the library installs later takes its place.
    let result = unsafe { libc::syscall(libc::SYS_rt_sigaction, RESERVED, ignore.as_ptr(), nothing, size_of::<u64>()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Workers ignore the watchdog's signal; a supervisor that a supervisor started would do so too.
#[expect(unsafe_code, reason = "no safe crate here sets a default action")]
fn end_on_watchdog() {
    // SAFETY: a default action runs no code of ours.
    unsafe { libc::signal(libc::SIGSTKFLT, libc::SIG_DFL) };
}

impl Meaning {
    /// What signals that came since the last look, in whatever order, ask for. HUP ends a rest, so that with WINCH it is HUP: a
    /// service that rested by mistake would rest for ever.
    fn of_all(self, pending: &[i32]) -> Vec<Heard> {
        let heard = pending.iter().filter_map(|signal| self.of(*signal));
        let reloads = pending.contains(&SIGHUP);
        heard.filter(|heard| !reloads || *heard != Heard::Wish(Wish::Rest)).collect()
    }

    fn of(self, signal: i32) -> Option<Heard> {
        if signal == SIGCHLD {
            return Some(Heard::ChildEnded);
        }
        let wish = match (self, signal) {
            (Self::Study, _) | (_, SIGINT | SIGQUIT) => Wish::Stop(Haste::Quick),
            (_, SIGTERM) => Wish::Stop(Haste::Graceful),
            (_, SIGHUP) => Wish::Reload,
            (_, SIGTTIN) => Wish::Scale(Scale::More(1)),
            (_, SIGTTOU) => Wish::Scale(Scale::Fewer(1)),
            (_, SIGUSR1) => Wish::ReopenLogs,
            (_, SIGUSR2) => Wish::Upgrade,
            (Self::Service, SIGWINCH) => Wish::Rest,
            (Self::Service | Self::ServiceOnTerminal, _) => return None,
        };
        Some(Heard::Wish(wish))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_hup_and_winch_together_hup_counts() {
        let [reload, rest] = [Wish::Reload, Wish::Rest].map(Heard::Wish);
        let ended = Heard::ChildEnded;
        for (pending, wishes) in [
            (vec![SIGHUP, SIGCHLD, SIGWINCH], vec![reload, ended]),
            (vec![SIGWINCH, SIGHUP], vec![reload]),
            (vec![SIGCHLD, SIGWINCH], vec![ended, rest]),
        ] {
            assert_eq!(Meaning::Service.of_all(&pending), wishes);
        }
        // Whatever it is: for a study HUP is an end.
        assert_eq!(Meaning::Study.of_all(&[SIGHUP]), [Heard::Wish(Wish::Stop(Haste::Quick))]);
    }
}
