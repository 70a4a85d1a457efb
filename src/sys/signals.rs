//! Signals as wishes. Each is a level: however often it came since the last look, it is one wish.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use signal_hook::consts::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTTIN, SIGTTOU, SIGUSR1, SIGUSR2, SIGWINCH};
use signal_hook::iterator::backend::SignalDelivery;
use signal_hook::iterator::exfiltrator::SignalOnly;

use crate::supervisor::event::{Haste, Wish};

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
}

impl Signals {
    /// Takes over HUP, TTIN, TTOU, TERM, INT, QUIT and CHLD. USR1, USR2 and WINCH are caught so that they do not end the service.
    pub fn catch() -> io::Result<Self> {
        let (read, write) = UnixStream::pair()?;
        let signals = [SIGHUP, SIGTTIN, SIGTTOU, SIGTERM, SIGINT, SIGQUIT, SIGCHLD, SIGUSR1, SIGUSR2, SIGWINCH];
        let delivery = SignalDelivery::with_pipe(read, write, SignalOnly, signals)?;
        Ok(Self { delivery })
    }

    /// Readable when a signal waits to be heard.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.delivery.get_read().as_fd()
    }

    /// What came since the last look. Never waits.
    pub(super) fn heard(&mut self) -> Vec<Heard> {
        let heard = self.delivery.pending().filter_map(|signal| match signal {
            SIGHUP => Some(Heard::Wish(Wish::Reload)),
            SIGTTIN => Some(Heard::Wish(Wish::MoreWorkers)),
            SIGTTOU => Some(Heard::Wish(Wish::FewerWorkers)),
            SIGTERM => Some(Heard::Wish(Wish::Stop(Haste::Graceful))),
            SIGINT | SIGQUIT => Some(Heard::Wish(Wish::Stop(Haste::Quick))),
            SIGCHLD => Some(Heard::ChildEnded),
            other => {
                tracing::warn!(signal = other, "signal ignored: not supported yet");
                None
            }
        });
        heard.collect()
    }
}
