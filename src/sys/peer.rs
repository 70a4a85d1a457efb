//! The process at the other end of a unix socket.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// The user that the socket at the other end was made by (SO_PEERCRED, unix(7)).
pub fn user(stream: &UnixStream) -> io::Result<u32> {
    Ok(getsockopt(stream, sockopt::PeerCredentials)?.uid())
}

/// Whether a connection to a unix socket may have come out at `listener`: both tell who called listen(2) there (SO_PEERCRED, unix(7)).
/// True where the system does not say.
#[must_use]
pub fn may_come_from(connection: BorrowedFd<'_>, listener: BorrowedFd<'_>) -> bool {
    let who = |socket: BorrowedFd<'_>| getsockopt(&socket, sockopt::PeerCredentials).ok();
    who(connection).zip(who(listener)).is_none_or(|(there, here)| there == here)
}

/// Bytes that were sent on a TCP connection and that the other end has not acknowledged (SIOCOUTQ, tcp(7)).
#[expect(unsafe_code, reason = "no safe crate here has SIOCOUTQ")]
pub fn unsent(connection: BorrowedFd<'_>) -> io::Result<i32> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the request writes one int, for which `bytes` has room; the descriptor is borrowed, so open.
    let outcome = unsafe { libc::ioctl(connection.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if outcome == 0 { Ok(bytes) } else { Err(io::Error::last_os_error()) }
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

    /// The process that the one at the other end calls `pid`, where it calls itself `itself`; `None` if it is gone, or if numbers
    /// are others there, as in another pid namespace.
    #[must_use]
    pub fn named(stream: &UnixStream, itself: u32, pid: u32) -> Option<Self> {
        let number = |pid: u32| i32::try_from(pid).ok().and_then(Pid::from_raw);
        let who = getsockopt(stream, sockopt::PeerCredentials).ok()?;
        let is_same = Pid::from_raw(who.pid()) == number(itself);
        pidfd_open(number(pid).filter(|_| is_same)?, PidfdFlags::empty()).ok().map(Self)
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
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_connection_comes_from_who_listens() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let connection = UnixStream::connect(&path).unwrap();
        assert!(may_come_from(connection.as_fd(), listener.as_fd()));
    }

    #[test]
    fn the_other_end_is_us_and_lives() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        assert!(!Peer::of(&ours).unwrap().has_ended_within(Duration::ZERO));
        let us = std::process::id();
        assert!(Peer::named(&ours, us, us).is_some_and(|peer| !peer.has_ended_within(Duration::ZERO)));
        assert!(Peer::named(&ours, us + 1, us).is_none());
        assert!(Peer::named(&ours, us, u32::MAX).is_none());
    }
}
