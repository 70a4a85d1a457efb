//! Connections of both kinds: from a client, and to the address that it wanted.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net as unix;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, sleep_until, timeout};

use super::TapError;
use crate::config::Address;
use crate::sys::listen::Listener;
use crate::sys::peer;

/// How long a place in the accept queue is waited for before anything is recorded.
const TRY_PATIENCE: Duration = Duration::from_secs(10);
/// How often a full accept queue of a unix socket is tried again.
const RETRY: Duration = Duration::from_millis(5);
/// How often it is looked whether the other end has everything, and how long that may take.
const LOOK: Duration = Duration::from_millis(5);
const RESET_PATIENCE: Duration = Duration::from_secs(30);

/// Where the workers accept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Upstream {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// A connection.
#[derive(Debug)]
pub(super) enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Upstream {
    /// How a listening socket's address is reached from this host; `None` for one without an address.
    pub(super) fn of(address: &Address) -> Option<Self> {
        match address {
            Address::Unix(path) => Some(Self::Unix(path.clone())),
            Address::Tcp { host, port } => {
                let any: IpAddr = host.parse().ok()?;
                let here = match any {
                    IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
                    IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
                    IpAddr::V4(_) | IpAddr::V6(_) => any,
                };
                Some(Self::Tcp(SocketAddr::new(here, *port)))
            }
            Address::Fd(_) => None,
        }
    }

    /// Connects and closes, so that no client is taken who cannot be passed on: a path may be absent here or lead elsewhere.
    pub(super) async fn try_out(&self, listener: &Listener) -> Result<(), TapError> {
        let address = || listener.address().to_string();
        let Ok(tried) = timeout(TRY_PATIENCE, self.connect()).await else { return Err(TapError::Full(address())) };
        match tried {
            Ok(Stream::Unix(stream)) if !peer::may_come_from(stream.as_fd(), listener.fd()) => {
                Err(TapError::Elsewhere(address()))
            }
            Ok(Stream::Tcp(_) | Stream::Unix(_)) => Ok(()),
            Err(source) => Err(TapError::Unreachable { address: address(), source }),
        }
    }

    /// Takes over a connection that was accepted here.
    pub(super) fn adopt(&self, accepted: OwnedFd) -> io::Result<Stream> {
        match self {
            Self::Tcp(_) => {
                let stream = TcpStream::from_std(accepted.into())?;
                // Fails on a connection that was reset already; reading from it will tell.
                let _ = stream.set_nodelay(true);
                Ok(Stream::Tcp(stream))
            }
            Self::Unix(_) => UnixStream::from_std(unix::UnixStream::from(accepted)).map(Stream::Unix),
        }
    }

    /// Waits for a place in the accept queue for as long as it takes: whoever is passed on had one already.
    pub(super) async fn connect(&self) -> io::Result<Stream> {
        loop {
            let connected = match self {
                Self::Tcp(address) => TcpStream::connect(address).await.map(Stream::Tcp),
                Self::Unix(path) => UnixStream::connect(path).await.map(Stream::Unix),
            };
            match connected {
                Ok(stream) => return stream.without_delay(),
                // The accept queue is full: a unix socket says so at once, TCP after its last attempt.
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    sleep_until(Instant::now() + RETRY).await;
                }
                Err(error) => return Err(error),
            }
        }
    }
}

impl Stream {
    fn without_delay(self) -> io::Result<Self> {
        if let Self::Tcp(stream) = &self {
            stream.set_nodelay(true)?;
        }
        Ok(self)
    }

    /// Closes so that the other end learns that something is missing: it is reset when it has all that was sent. A unix socket cannot.
    pub(super) async fn reset(self) {
        let Self::Tcp(stream) = self else { return };
        let until = Instant::now() + RESET_PATIENCE;
        while peer::unsent(stream.as_fd()).is_ok_and(|bytes| bytes > 0) && Instant::now() < until {
            sleep_until(Instant::now() + LOOK).await;
        }
        // Fails where the other end has gone.
        let _ = stream.set_zero_linger();
    }

    /// The address of this end; a unix socket's clients have none.
    pub(super) fn local(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(stream) => stream.local_addr().ok().map(canonical),
            Self::Unix(_) => None,
        }
    }

    /// The address of the other end.
    pub(super) fn peer(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(stream) => stream.peer_addr().ok().map(canonical),
            Self::Unix(_) => None,
        }
    }

    /// Whether a unix socket's other end is this process.
    pub(super) fn is_from_here(&self) -> bool {
        match self {
            Self::Tcp(_) => false,
            Self::Unix(stream) => {
                let pid = stream.peer_cred().ok().and_then(|who| who.pid()).and_then(|pid| u32::try_from(pid).ok());
                pid == Some(std::process::id())
            }
        }
    }
}

/// A socket of both IP versions shows IPv4 clients as IPv6 ones.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }
}
