//! The few things done to a socket, none of which ever waits: connect, send, receive, watch.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::libc::timespec;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg, setsockopt, sockopt};
use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;
use rustix::net::sockopt::set_tcp_nodelay;
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, recv, send, socket_with,
};

use super::arrival::WallTime;
use super::{LoadError, Target};

/// A target as the kernel wants it.
#[derive(Debug)]
pub(super) enum Address {
    Tcp(SocketAddr),
    Unix(SocketAddrUnix),
}

impl Address {
    pub(super) fn new(target: &Target) -> Result<Self, LoadError> {
        match target {
            Target::Tcp(address) => Ok(Self::Tcp(*address)),
            Target::Unix(path) => SocketAddrUnix::new(path)
                .map(Self::Unix)
                .map_err(|errno| LoadError::UnixPath { path: path.clone(), source: errno.into() }),
        }
    }
}

/// What broke a connection, or kept it from being made.
#[derive(Debug, PartialEq)]
pub(super) enum Breakage {
    System(Errno),
    Tls(Box<rustls::Error>),
    /// The peer ended it.
    Closed,
}

impl fmt::Display for Breakage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System(errno) => io::Error::from(*errno).fmt(f),
            Self::Tls(error) => write!(f, "TLS: {error}"),
            Self::Closed => f.write_str("the target closed the connection before a request was sent"),
        }
    }
}

/// Tries for at most `within` whether somebody listens at `target`. Who is slow to take the connection does, as does a unix socket
/// whose backlog is full.
pub fn knock(target: &Target, within: Duration) -> io::Result<()> {
    let knocked = match target {
        Target::Tcp(address) => TcpStream::connect_timeout(address, within).map(drop),
        Target::Unix(path) => {
            let address = Address::Unix(SocketAddrUnix::new(path)?);
            match open(&address) {
                Err(Refusal::Unreachable(Breakage::System(errno))) => Err(errno.into()),
                Err(Refusal::Exhausted) => Err(io::Error::from(Errno::MFILE)),
                Err(Refusal::Busy | Refusal::Unreachable(Breakage::Tls(_) | Breakage::Closed)) | Ok(_) => Ok(()),
            }
        }
    };
    knocked.or_else(|error| if error.kind() == io::ErrorKind::TimedOut { Ok(()) } else { Err(error) })
}

/// Why there is no connection.
#[derive(Debug, PartialEq)]
pub(super) enum Refusal {
    /// The backlog of a unix socket is full; it may be worth trying again.
    Busy,
    /// This process, or this host, has no socket or port left.
    Exhausted,
    /// Nobody listens, or nobody can be reached.
    Unreachable(Breakage),
}

/// A connection that is made, or on its way.
pub(super) fn open(address: &Address) -> Result<OwnedFd, Refusal> {
    let family = match address {
        Address::Tcp(SocketAddr::V4(_)) => AddressFamily::INET,
        Address::Tcp(SocketAddr::V6(_)) => AddressFamily::INET6,
        Address::Unix(_) => AddressFamily::UNIX,
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(family, SocketType::STREAM, flags, None).map_err(|_errno| Refusal::Exhausted)?;
    let connected = match address {
        Address::Tcp(address) => {
            // Without it a request sent in two pieces would wait for an acknowledgement; failing costs only that.
            let _ = set_tcp_nodelay(&socket, true);
            connect(&socket, address)
        }
        Address::Unix(address) => connect(&socket, address),
    };
    match connected {
        Ok(()) | Err(Errno::INPROGRESS | Errno::INTR) => Ok(socket),
        Err(Errno::AGAIN) if matches!(address, Address::Unix(_)) => Err(Refusal::Busy),
        Err(Errno::AGAIN | Errno::ADDRNOTAVAIL | Errno::NOBUFS | Errno::NOMEM) => Err(Refusal::Exhausted),
        Err(errno) => Err(Refusal::Unreachable(Breakage::System(errno))),
    }
}

/// What a send or a receive came to.
#[derive(Debug, PartialEq)]
pub(super) enum Moved {
    /// So many bytes; zero received means that the peer has finished.
    Bytes(usize),
    /// Not now; the poller will tell.
    Blocked,
    /// The connection is broken.
    Broken(Breakage),
}

fn moved(result: Result<usize, Errno>) -> Moved {
    match result {
        Ok(count) => Moved::Bytes(count),
        Err(Errno::AGAIN) => Moved::Blocked,
        Err(errno) => Moved::Broken(Breakage::System(errno)),
    }
}

/// Sends as much as fits.
pub(super) fn push(socket: &OwnedFd, bytes: &[u8]) -> Moved {
    moved(rustix::io::retry_on_intr(|| send(socket, bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT)))
}

/// Receives what is there.
pub(super) fn pull(socket: &OwnedFd, buffer: &mut [u8]) -> Moved {
    moved(rustix::io::retry_on_intr(|| recv(socket, &mut *buffer, RecvFlags::DONTWAIT)).map(|(count, _)| count))
}

/// Room for the control message with a stamp; the kernel sends no other, since no other was asked for.
#[derive(Debug)]
#[repr(align(8))]
struct StampRoom([u8; STAMP_ROOM]);

/// A header of 16 bytes (cmsg(3)) and a timespec.
const STAMP_ROOM: usize = 16 + size_of::<timespec>();

/// Asks the kernel to stamp what arrives. Where it does not, there are no stamps.
pub(super) fn ask_for_stamps(socket: &OwnedFd) {
    let _ = setsockopt(socket, sockopt::ReceiveTimestampns, &true);
}

/// Receives what is there, and when the last of it arrived, if the kernel stamped it.
pub(super) fn pull_stamped(socket: &OwnedFd, buffer: &mut [u8]) -> (Moved, Option<WallTime>) {
    let mut room = StampRoom([0; STAMP_ROOM]);
    let mut parts = [IoSliceMut::new(buffer)];
    loop {
        let result = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut room.0), MsgFlags::MSG_DONTWAIT);
        match result {
            Ok(message) => {
                let stamp = message.cmsgs().ok().and_then(|mut all| all.find_map(|one| stamp(&one)));
                return (Moved::Bytes(message.bytes), stamp);
            }
            Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return (moved(Err(Errno::from_raw_os_error(errno as i32))), None),
        }
    }
}

fn stamp(message: &ControlMessageOwned) -> Option<WallTime> {
    let ControlMessageOwned::ScmTimestampns(time) = message else {
        return None;
    };
    let seconds = u64::try_from(time.tv_sec()).ok()?;
    Some(Duration::new(seconds, u32::try_from(time.tv_nsec()).ok()?))
}

/// Registers a socket, by edges. A TCP socket is registered once and for all, both ways. One of unix would tell of room whenever the
/// peer reads anything, so it is asked only where there was none; see [`watch_for_room`].
pub(super) fn watch(epoll: &OwnedFd, socket: &OwnedFd, label: u64, address: &Address) -> Result<(), Errno> {
    let edges = match address {
        Address::Tcp(_) => EDGES | EventFlags::OUT,
        Address::Unix(_) => EDGES,
    };
    epoll::add(epoll, socket, EventData::new_u64(label), edges)
}

/// The socket took not all it was given: the poller is to tell when it takes more.
pub(super) fn watch_for_room(epoll: &OwnedFd, socket: &OwnedFd, label: u64, address: &Address) {
    match address {
        Address::Tcp(_) => {}
        Address::Unix(_) => {
            // A socket that is open and registered can be registered otherwise; if not, the request times out.
            let _ = epoll::modify(epoll, socket, EventData::new_u64(label), EDGES | EventFlags::OUT);
        }
    }
}

const EDGES: EventFlags = EventFlags::IN.union(EventFlags::RDHUP).union(EventFlags::ET);
