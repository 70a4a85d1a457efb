//! How many connections wait at a listening socket. Neither way grows with the number of connections, as reading
//! /proc/net/tcp would: TCP answers getsockopt(2) with `TCP_INFO`, unix sockets answer sock_diag(7).

mod unix;

use std::os::fd::BorrowedFd;
use std::{fs, io};

use rustix::io::Errno;
use rustix::net::{AddressFamily, sockopt};

use crate::usage::{ListenLosses, ListenQueue, proc};

/// Why a queue is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// The kernel refused; on unix sockets `NOENT` or `PROTONOSUPPORT` if it was built without unix_diag.
    #[error("the kernel does not tell the length of the accept queue: {0}")]
    Refused(#[from] Errno),
    /// A socket, but nobody called listen(2) on it.
    #[error("the socket does not listen")]
    NotListening,
    /// Neither TCP nor unix.
    #[error("the socket is neither TCP nor unix")]
    Family,
    /// The answer over netlink has no queue in it.
    #[error("the kernel's answer about the accept queue is incomplete")]
    Incomplete,
}

/// The accept queue of a listening TCP or unix socket.
pub fn listen_queue(socket: BorrowedFd<'_>) -> Result<ListenQueue, QueueError> {
    if !sockopt::socket_acceptconn(socket)? {
        return Err(QueueError::NotListening);
    }
    match sockopt::socket_domain(socket)? {
        AddressFamily::INET | AddressFamily::INET6 => tcp(socket),
        AddressFamily::UNIX => unix::listen_queue(socket),
        _ => Err(QueueError::Family),
    }
}

/// Connections lost at the listening sockets of this network namespace; `None` if the kernel does not count them.
pub fn listen_losses() -> io::Result<Option<ListenLosses>> {
    Ok(proc::listen_losses(&fs::read_to_string("/proc/net/netstat")?))
}

/// On a listener `tcpi_unacked` is the length and `tcpi_sacked` the limit (Linux, net/ipv4/tcp.c, tcp_get_info).
#[expect(unsafe_code, reason = "no safe crate here has TCP_INFO")]
fn tcp(socket: BorrowedFd<'_>) -> Result<ListenQueue, QueueError> {
    use std::os::fd::AsRawFd;

    // SAFETY: tcp_info is plain integers, for which all bits zero is a value.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let size = libc::socklen_t::try_from(size_of::<libc::tcp_info>()).expect("invariant: the struct has about 100 bytes");
    let mut length = size;
    // SAFETY: `info` is writable for `length` bytes and both outlive the call; the descriptor is borrowed, so open.
    let outcome = unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, (&raw mut info).cast(), &raw mut length)
    };
    match outcome {
        0 => Ok(ListenQueue { length: info.tcpi_unacked, limit: info.tcpi_sacked }),
        _ => Err(Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(Errno::INVAL).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;
    use std::os::unix::net::{UnixListener, UnixStream};

    fn length(socket: &impl AsFd) -> u32 {
        listen_queue(socket.as_fd()).unwrap().length
    }

    #[test]
    fn tcp_counts_what_is_not_accepted() {
        let wildcards = ["127.0.0.1:0", "[::1]:0"];
        for listener in wildcards.iter().filter_map(|address| TcpListener::bind(address).ok()) {
            let clients: Vec<_> = (1..=5)
                .map(|count| {
                    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
                    assert_eq!(length(&listener), count);
                    client
                })
                .collect();
            listener.accept().unwrap();
            assert_eq!(length(&listener), 4);
            drop(clients);
        }
    }

    #[test]
    fn the_limit_is_the_backlog() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        rustix::net::listen(&listener, 7).unwrap();
        assert_eq!(listen_queue(listener.as_fd()).unwrap().limit, 7);
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("s")).unwrap();
        rustix::net::listen(&listener, 9).unwrap();
        assert_eq!(listen_queue(listener.as_fd()).unwrap(), ListenQueue { length: 0, limit: 9 });
    }

    #[test]
    fn unix_counts_what_is_not_accepted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let clients: Vec<_> = (1..=5)
            .map(|count| {
                let client = UnixStream::connect(&path).unwrap();
                assert_eq!(length(&listener), count);
                client
            })
            .collect();
        listener.accept().unwrap();
        assert_eq!(length(&listener), 4);
        drop(clients);
    }

    #[test]
    fn other_descriptors_are_refused() {
        let (one, _two) = UnixStream::pair().unwrap();
        assert_eq!(listen_queue(one.as_fd()), Err(QueueError::NotListening));
        let file = tempfile::tempfile().unwrap();
        assert_eq!(listen_queue(file.as_fd()), Err(QueueError::Refused(Errno::NOTSOCK)));
    }

    #[test]
    fn an_overflow_is_counted() {
        let before = listen_losses().unwrap().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let address = listener.local_addr().unwrap();
        let patience = std::time::Duration::from_millis(100);
        let clients: Vec<_> = (0..4).map(|_| TcpStream::connect_timeout(&address, patience)).collect();
        let after = listen_losses().unwrap().unwrap();
        assert!(after.overflows > before.overflows && after.drops > before.drops, "{before:?} {after:?} {clients:?}");
    }
}
