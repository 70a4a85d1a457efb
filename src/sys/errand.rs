//! Something that is done once, on a thread of its own, because it may hang. Nobody has to wait for it: it can be polled for its end.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::thread;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};

/// What is under way. Dropping it forgets it; it goes on.
#[derive(Debug)]
pub(super) struct Errand {
    /// The other end is closed when it is done, even by a panic.
    end: OwnedFd,
}

impl Errand {
    pub(super) fn start(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<Self> {
        let (end, ours) = pipe_with(PipeFlags::CLOEXEC)?;
        let errand = move || {
            let _ends_with_us = ours;
            work();
        };
        thread::Builder::new().name(name.to_owned()).spawn(errand)?;
        Ok(Self { end })
    }

    /// Polls as hung up once it is done.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.end.as_fd()
    }

    /// Whether it is done.
    pub(super) fn is_done(&self) -> bool {
        poll(&mut [PollFd::new(&self.end, PollFlags::IN)], Some(&Timespec::default())).is_ok_and(|ready| ready > 0)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn an_errand_that_hangs_keeps_nobody_waiting() {
        let (go, hangs) = mpsc::channel::<()>();
        let (told, done) = mpsc::channel();
        let errand = Errand::start("hangs", move || {
            hangs.recv().ok();
            told.send(()).unwrap();
        })
        .unwrap();
        assert!(!errand.is_done());
        drop(go);
        poll(&mut [PollFd::from_borrowed_fd(errand.fd(), PollFlags::IN)], None).unwrap();
        assert!(errand.is_done() && done.try_recv().is_ok());
    }
}
