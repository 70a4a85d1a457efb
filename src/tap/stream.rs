//! Connections of both kinds: from a client, and to the address that it wanted.

use std::io;
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

/// How long a place in the accept queue is waited for.
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);
/// How often a full accept queue of a unix socket is tried again.
const RETRY: Duration = Duration::from_millis(5);

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
        match self.connect().await {
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

    pub(super) async fn connect(&self) -> io::Result<Stream> {
        let full = |_| io::Error::new(io::ErrorKind::TimedOut, "its workers take no connection");
        timeout(CONNECT_PATIENCE, self.connect_patiently()).await.map_err(full)?
    }

    async fn connect_patiently(&self) -> io::Result<Stream> {
        match self {
            Self::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Ok(Stream::Tcp(stream))
            }
            Self::Unix(path) => loop {
                match UnixStream::connect(path).await {
                    // The accept queue is full.
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => sleep_until(Instant::now() + RETRY).await,
                    connected => return connected.map(Stream::Unix),
                }
            },
        }
    }
}

impl Stream {
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
