//! The process at the other end of a unix socket.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// The user that the socket at the other end was made by (SO_PEERCRED, unix(7)).
pub fn user(stream: &UnixStream) -> io::Result<u32> {
    Ok(getsockopt(stream, sockopt::PeerCredentials)?.uid())
}

/// A process by its pidfd: never another one of the same number.
#[derive(Debug)]
pub struct Peer(OwnedFd);

impl Peer {
    /// Who made the socket at the other end; `None` if it is gone, or in another pid namespace.
    #[must_use]
    pub fn of(stream: &UnixStream) -> Option<Self> {
        let who = getsockopt(stream, sockopt::PeerCredentials).ok()?;
        let pid = Pid::from_raw(who.pid())?;
        pidfd_open(pid, PidfdFlags::empty()).ok().map(Self)
    }

    /// Waits for its end for at most `patience`; whether it has come.
    #[must_use]
    pub fn has_ended_within(&self, patience: Duration) -> bool {
        let tv_sec = i64::try_from(patience.as_secs()).unwrap_or(i64::MAX);
        let timeout = Timespec { tv_sec, tv_nsec: i64::from(patience.subsec_nanos()) };
        poll(&mut [PollFd::new(&self.0, PollFlags::IN)], Some(&timeout)).is_ok_and(|ready| ready > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_other_end_is_us_and_lives() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        assert!(!Peer::of(&ours).unwrap().has_ended_within(Duration::ZERO));
    }
}
