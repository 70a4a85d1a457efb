//! Which network a socket belongs to: a socket that another process handed over may be of another network namespace
//! (network_namespaces(7)), where its address means something else.

use std::io;
use std::net::UdpSocket;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// The network namespace of a socket, as this process sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// That of this process: what it connects to is what others connect to there.
    Ours,
    /// Another one.
    Another,
    /// The kernel does not tell: Linux does from 5.14 on.
    Unknown,
}

impl Network {
    /// That of an internet socket. A unix socket is reached by its path, whatever its network namespace.
    #[must_use]
    pub fn of(socket: BorrowedFd<'_>) -> Self {
        // Sends nothing: it is only there to be compared with.
        let ours = UdpSocket::bind("127.0.0.1:0").or_else(|_| UdpSocket::bind("[::1]:0")).and_then(|ours| cookie(ours.as_fd()));
        match (cookie(socket), ours) {
            (Ok(theirs), Ok(ours)) if theirs == ours => Self::Ours,
            (Ok(_), Ok(_)) => Self::Another,
            (Ok(_) | Err(_), Err(_)) | (Err(_), Ok(_)) => Self::Unknown,
        }
    }
}

/// A number that no other network namespace has until the next boot (socket(7), SO_NETNS_COOKIE).
#[expect(unsafe_code, reason = "no safe crate here has SO_NETNS_COOKIE")]
fn cookie(socket: BorrowedFd<'_>) -> io::Result<u64> {
    let mut cookie = 0_u64;
    let mut length = libc::socklen_t::try_from(size_of::<u64>()).expect("invariant: 8");
    // SAFETY: `cookie` is writable for `length` bytes and both outlive the call; the descriptor is borrowed, so open.
    let outcome = unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_NETNS_COOKIE, (&raw mut cookie).cast(), &raw mut length)
    };
    if outcome == 0 { Ok(cookie) } else { Err(io::Error::last_os_error()) }
}
