//! Signals as wishes. Each is a level: however often it came since the last look, it is one wish.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTTIN, SIGTTOU, SIGUSR1, SIGUSR2, SIGWINCH};
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;

use crate::supervisor::event::{Haste, Scale, Wish};

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
    /// For a service: takes over HUP, TTIN, TTOU, USR1, USR2, WINCH, TERM, INT, QUIT and CHLD.
    pub fn of_a_service() -> io::Result<Self> {
        end_on_watchdog();
        let signals = [SIGHUP, SIGTTIN, SIGTTOU, SIGTERM, SIGINT, SIGQUIT, SIGCHLD, SIGUSR1, SIGUSR2, SIGWINCH];
        let on_terminal = File::open("/dev/tty").is_ok();
        Self::catch(&signals, if on_terminal { Meaning::ServiceOnTerminal } else { Meaning::Service })
    }

    /// For a study: HUP (its terminal is gone), TERM, INT and QUIT end it; TTIN and TTOU are a shell's job control.
    pub fn of_a_study() -> io::Result<Self> {
        Self::catch(&[SIGHUP, SIGTERM, SIGINT, SIGQUIT, SIGCHLD], Meaning::Study)
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

    /// What came since the last look. Never waits.
    pub(super) fn heard(&mut self) -> Vec<Heard> {
        let meaning = self.meaning;
        let heard: Vec<Heard> = self.delivery.pending().filter_map(|signal| meaning.of(signal)).collect();
        self.stop_heard |= heard.iter().any(|heard| matches!(heard, Heard::Wish(Wish::Stop(_))));
        heard
    }
}

/// Workers ignore the watchdog's signal; a supervisor that a supervisor started would do so too.
#[expect(unsafe_code, reason = "no safe crate here sets a default action")]
fn end_on_watchdog() {
    // SAFETY: a default action runs no code of ours.
    unsafe { libc::signal(libc::SIGSTKFLT, libc::SIG_DFL) };
}

impl Meaning {
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
