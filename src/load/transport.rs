//! A connection's way to move bytes: the socket itself, or TLS on top of it. Neither ever waits.

use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::OwnedFd;

use rustix::io::Errno;
use rustls::ClientConnection;

use super::arrival::WallTime;
use super::socket::{self, Breakage, Moved};

/// Plaintext that TLS holds for a socket that takes no more, bytes.
const TLS_BACKLOG: usize = 64 << 10;

/// An open connection.
#[derive(Debug)]
pub(super) enum Transport {
    Plain(OwnedFd),
    Tls(Box<Secure>),
}

impl Transport {
    pub(super) fn secure(socket: OwnedFd, mut session: ClientConnection) -> Self {
        session.set_buffer_limit(Some(TLS_BACKLOG));
        Self::Tls(Box::new(Secure { socket, session }))
    }

    pub(super) fn socket(&self) -> &OwnedFd {
        match self {
            Self::Plain(socket) => socket,
            Self::Tls(secure) => &secure.socket,
        }
    }

    /// Takes as much of `bytes` as fits. TLS also needs to be called when nothing is left, for what it holds back.
    pub(super) fn send(&mut self, bytes: &[u8]) -> Moved {
        match self {
            Self::Plain(socket) => socket::push(socket, bytes),
            Self::Tls(secure) => secure.send(bytes),
        }
    }

    /// Receives what is there.
    pub(super) fn receive(&mut self, buffer: &mut [u8]) -> Moved {
        match self {
            Self::Plain(socket) => socket::pull(socket, buffer),
            Self::Tls(secure) => secure.receive(buffer),
        }
    }

    /// Receives what is there, and when the kernel says that it arrived; TLS has no stamps.
    pub(super) fn receive_stamped(&mut self, buffer: &mut [u8]) -> (Moved, Option<WallTime>) {
        match self {
            Self::Plain(socket) => socket::pull_stamped(socket, buffer),
            Self::Tls(secure) => (secure.receive(buffer), None),
        }
    }

    /// Whether a receive of less than was asked for means that nothing more is there. It does for a stream socket (epoll(7)).
    pub(super) const fn is_plain(&self) -> bool {
        matches!(self, Self::Plain(_))
    }
}

/// TLS over a socket.
#[derive(Debug)]
pub(super) struct Secure {
    socket: OwnedFd,
    session: ClientConnection,
}

impl Secure {
    fn send(&mut self, bytes: &[u8]) -> Moved {
        let taken = if self.session.is_handshaking() { 0 } else { self.session.writer().write(bytes).unwrap_or(0) };
        match self.flush() {
            broken @ Moved::Broken(_) => broken,
            Moved::Bytes(_) | Moved::Blocked if taken > 0 => Moved::Bytes(taken),
            Moved::Bytes(_) | Moved::Blocked => Moved::Blocked,
        }
    }

    fn receive(&mut self, buffer: &mut [u8]) -> Moved {
        loop {
            match self.session.reader().read(buffer) {
                Ok(count) => return Moved::Bytes(count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // The end came without a farewell: what was cut off, nobody knows (RFC 9112, 9.8).
                Err(_) => return Moved::Broken(Breakage::Closed),
            }
            match self.session.read_tls(&mut Wire(&self.socket)) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Moved::Blocked,
                Err(error) => return Moved::Broken(cause(&error)),
            }
            let progress = self.session.process_new_packets();
            // The handshake answers, and an error is told to the peer.
            let flushed = self.flush();
            if let Err(error) = progress {
                return Moved::Broken(Breakage::Tls(Box::new(error)));
            }
            if let Moved::Broken(_) = flushed {
                return flushed;
            }
        }
    }

    fn flush(&mut self) -> Moved {
        while self.session.wants_write() {
            match self.session.write_tls(&mut Wire(&self.socket)) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Moved::Blocked,
                Err(error) => return Moved::Broken(cause(&error)),
            }
        }
        Moved::Bytes(0)
    }
}

/// A socket as rustls wants it.
struct Wire<'a>(&'a OwnedFd);

impl Read for Wire<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        result(&socket::pull(self.0, buffer))
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        result(&socket::push(self.0, bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn result(moved: &Moved) -> io::Result<usize> {
    match moved {
        Moved::Bytes(count) => Ok(*count),
        Moved::Blocked => Err(ErrorKind::WouldBlock.into()),
        Moved::Broken(Breakage::System(errno)) => Err((*errno).into()),
        Moved::Broken(Breakage::Tls(_) | Breakage::Closed) => Err(ErrorKind::BrokenPipe.into()),
    }
}

/// What [`result`] made of a cause, made a cause again.
fn cause(error: &io::Error) -> Breakage {
    Errno::from_io_error(error).map_or(Breakage::Closed, Breakage::System)
}
