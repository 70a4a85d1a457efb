//! The listening sockets: bound, or inherited from systemd (LISTEN_FDS, sd_listen_fds(3)). All workers share them.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, SockaddrIn6, SockaddrStorage, UnixAddr, bind, connect, getsockname,
    getsockopt, listen, setsockopt, socket, sockopt,
};
use nix::unistd::{Group, User, chown};
use std::os::fd::AsRawFd;
use thiserror::Error;

use crate::config::{Address, Listen};

/// The first descriptor systemd passes (SD_LISTEN_FDS_START).
const FIRST_INHERITED: RawFd = 3;
/// The most inherited sockets taken.
const MAX_INHERITED: RawFd = 64;

/// Why an address cannot be listened on.
#[derive(Debug, Error)]
pub enum ListenError {
    /// Somebody else has it.
    #[error("{address} is in use: another process listens there (see `ss -ltnpx`); stop it or choose another address")]
    InUse {
        /// The address as configured.
        address: String,
    },
    /// A file of another kind is in the way.
    #[error("{address}: a file that is no socket has this name; move it or choose another address")]
    NotASocket {
        /// The address as configured.
        address: String,
    },
    /// Not allowed.
    #[error("{address}: permission denied; {hint}")]
    Denied {
        /// The address as configured.
        address: String,
        /// What would help.
        hint: &'static str,
    },
    /// The host name has no address.
    #[error("{address}: the host name cannot be resolved: {source}")]
    Unresolved {
        /// The address as configured.
        address: String,
        /// The resolver's words.
        source: io::Error,
    },
    /// `fd:N` or LISTEN_FDS names something else.
    #[error("descriptor {fd} is not a listening stream socket; start tuningfork from a .socket unit, or give an address")]
    NotListening {
        /// The descriptor's number.
        fd: RawFd,
    },
    /// `owner` names nobody.
    #[error("[listen] owner: there is no user or group {name:?} on this host")]
    NoSuchOwner {
        /// The unknown name.
        name: String,
    },
    /// Something else.
    #[error("{address}: {source}")]
    Other {
        /// The address as configured.
        address: String,
        /// The system's words.
        source: io::Error,
    },
}

/// One listening socket.
#[derive(Debug)]
pub struct Listener {
    fd: OwnedFd,
    address: Address,
}

impl Listener {
    /// The address it really has: port 0 is replaced by the kernel's choice.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// A listening socket that another process handed over.
    pub fn received(fd: OwnedFd) -> Result<Self, ListenError> {
        let number = fd.as_raw_fd();
        check(&fd).map(|()| Self { address: local_address(&fd).unwrap_or(Address::Fd(number)), fd })
    }

    /// The socket.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The sockets of a service. Those bound here on a path are unlinked at the end.
#[derive(Debug)]
pub struct Listeners {
    sockets: Vec<Listener>,
    /// Socket files made here, and which file each was (device, inode): another's in its place stays.
    bound_paths: Vec<(PathBuf, Option<(u64, u64)>)>,
}

impl Listeners {
    /// The sockets a service manager passed, if it passed any to this process.
    pub fn inherited(listen_pid: Option<&str>, listen_fds: Option<&str>) -> Result<Option<Self>, ListenError> {
        let ours = listen_pid.and_then(|pid| pid.parse::<u32>().ok()) == Some(std::process::id());
        let count = listen_fds.and_then(|count| count.parse::<RawFd>().ok()).unwrap_or(0).min(MAX_INHERITED);
        if !ours || count == 0 {
            return Ok(None);
        }
        let sockets: Result<Vec<_>, _> = (FIRST_INHERITED..FIRST_INHERITED + count).map(adopt).collect();
        Ok(Some(Self { sockets: sockets?, bound_paths: Vec::new() }))
    }

    /// Binds every address. Either all succeed, or none stays bound.
    pub fn bind(listen: &Listen) -> Result<Self, ListenError> {
        let mut listeners = Self { sockets: Vec::new(), bound_paths: Vec::new() };
        for address in &listen.addresses {
            match address {
                Address::Fd(fd) => listeners.sockets.push(adopt(*fd)?),
                Address::Unix(path) => {
                    let fd = bind_unix(address, path, listen)?;
                    listeners.bound_paths.push((path.clone(), identity(path)));
                    listeners.sockets.push(Listener { fd, address: address.clone() });
                }
                Address::Tcp { host, port } => {
                    let fd = bind_tcp(address, host, *port, listen.backlog)?;
                    let address = local_address(&fd).unwrap_or_else(|| address.clone());
                    listeners.sockets.push(Listener { fd, address });
                }
            }
        }
        Ok(listeners)
    }

    /// In the order of the configuration.
    #[must_use]
    pub fn all(&self) -> &[Listener] {
        &self.sockets
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        for (path, ours) in &self.bound_paths {
            if identity(path) != *ours {
                tracing::warn!(path = %path.display(), "the socket file is not ours any more; it stays");
            } else if let Err(error) = fs::remove_file(path) {
                tracing::debug!(path = %path.display(), %error, "socket file not removed");
            }
        }
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|about| (about.dev(), about.ino()))
}

/// Listens on one address for ourselves, for example for metrics.
pub fn bind_one(address: &Address) -> Result<Listeners, ListenError> {
    Listeners::bind(&Listen { addresses: vec![address.clone()], backlog: 128, mode: 0o660, owner: None })
}

/// A standard listener over a copy of a TCP or unix socket.
pub enum StdListener {
    /// TCP.
    Tcp(TcpListener),
    /// unix.
    Unix(UnixListener),
}

impl Listener {
    /// The same socket as a standard type, non-blocking.
    pub fn to_std(&self) -> io::Result<StdListener> {
        let fd = self.fd.try_clone()?;
        let listener = match self.address {
            Address::Unix(_) => StdListener::Unix(UnixListener::from(fd)),
            Address::Tcp { .. } | Address::Fd(_) => StdListener::Tcp(TcpListener::from(fd)),
        };
        match &listener {
            StdListener::Tcp(listener) => listener.set_nonblocking(true)?,
            StdListener::Unix(listener) => listener.set_nonblocking(true)?,
        }
        Ok(listener)
    }
}

/// Takes over an inherited descriptor after checking what it is.
fn adopt(fd: RawFd) -> Result<Listener, ListenError> {
    let wrong = || ListenError::NotListening { fd };
    let link = fs::read_link(format!("/proc/self/fd/{fd}")).map_err(|_| wrong())?;
    if !link.to_string_lossy().starts_with("socket:") {
        return Err(wrong());
    }
    #[expect(unsafe_code, reason = "a descriptor number from the environment becomes an owned descriptor")]
    // SAFETY: the number is open (its link was just read) and was handed to this process to own; nothing else here holds it.
    let fd_owned = unsafe { OwnedFd::from_raw_fd(fd) };
    rustix::io::fcntl_setfd(&fd_owned, rustix::io::FdFlags::CLOEXEC).map_err(|_| wrong())?;
    Listener::received(fd_owned)
}

/// Whether clients can be accepted on it.
fn check(fd: &OwnedFd) -> Result<(), ListenError> {
    let accepts = getsockopt(fd, sockopt::AcceptConn).unwrap_or(false);
    let stream = getsockopt(fd, sockopt::SockType).is_ok_and(|kind| kind == SockType::Stream);
    if accepts && stream { Ok(()) } else { Err(ListenError::NotListening { fd: fd.as_raw_fd() }) }
}

fn local_address(fd: &OwnedFd) -> Option<Address> {
    let storage: SockaddrStorage = getsockname(fd.as_raw_fd()).ok()?;
    let tcp = |address: SocketAddr| Address::Tcp { host: address.ip().to_string(), port: address.port() };
    let v4 = storage.as_sockaddr_in().map(|address| tcp(SocketAddr::V4((*address).into())));
    let v6 = storage.as_sockaddr_in6().map(|address| tcp(SocketAddr::V6((*address).into())));
    v4.or(v6).or_else(|| storage.as_unix_addr().and_then(UnixAddr::path).map(|path| Address::Unix(path.to_owned())))
}

fn bind_tcp(address: &Address, host: &str, port: u16, backlog: u32) -> Result<OwnedFd, ListenError> {
    let named = || address.to_string();
    let resolved = (host, port)
        .to_socket_addrs()
        .and_then(|mut all| all.next().ok_or_else(|| io::Error::other("no address")))
        .map_err(|source| ListenError::Unresolved { address: named(), source })?;
    let open = || -> nix::Result<OwnedFd> {
        let family = if resolved.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let fd = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
        setsockopt(&fd, sockopt::ReuseAddr, &true)?;
        match resolved {
            SocketAddr::V4(address) => bind(fd.as_raw_fd(), &SockaddrIn::from(address))?,
            SocketAddr::V6(address) => {
                setsockopt(&fd, sockopt::Ipv6V6Only, &true)?;
                bind(fd.as_raw_fd(), &SockaddrIn6::from(address))?;
            }
        }
        setsockopt(&fd, sockopt::TcpNoDelay, &true)?;
        listen(&fd, queue(backlog))?;
        Ok(fd)
    };
    let hint = "ports below 1024 need CAP_NET_BIND_SERVICE or a .socket unit";
    open().map_err(|errno| in_words(errno, named(), hint))
}

fn bind_unix(address: &Address, path: &Path, settings: &Listen) -> Result<OwnedFd, ListenError> {
    let named = || address.to_string();
    let hint = "the supervisor's user must be able to write the socket's directory";
    let owner = settings.owner.as_deref().map(look_up).transpose()?;
    let open = || -> nix::Result<OwnedFd> {
        let name = UnixAddr::new(path)?;
        let fd = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
        match bind(fd.as_raw_fd(), &name) {
            Err(nix::errno::Errno::EADDRINUSE) if is_stale(path) => {
                fs::remove_file(path).map_err(|error| nix::errno::Errno::from_raw(error.raw_os_error().unwrap_or(0)))?;
                bind(fd.as_raw_fd(), &name)?;
            }
            result => result?,
        }
        Ok(fd)
    };
    let in_the_way = fs::symlink_metadata(path).is_ok_and(|about| !about.file_type().is_socket());
    if in_the_way {
        return Err(ListenError::NotASocket { address: named() });
    }
    let fd = open().map_err(|errno| in_words(errno, named(), hint))?;
    // Nobody can connect before listen(2), so nobody meets the socket with the wrong owner or mode.
    let dressed = fs::set_permissions(path, fs::Permissions::from_mode(settings.mode))
        .and_then(|()| owner.map_or(Ok(()), |(user, group)| chown(path, user, group).map_err(io::Error::from)))
        .and_then(|()| listen(&fd, queue(settings.backlog)).map_err(io::Error::from));
    dressed.map_err(|source| {
        fs::remove_file(path).ok();
        ListenError::Other { address: named(), source }
    })?;
    Ok(fd)
}

/// A socket file that nobody listens on any more: a supervisor that was killed left it.
fn is_stale(path: &Path) -> bool {
    let is_socket = fs::symlink_metadata(path).is_ok_and(|about| about.file_type().is_socket());
    // A full queue answers EAGAIN: somebody listens. Waiting for a place in it would hang the start.
    let probe = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None);
    let refused = probe.and_then(|probe| connect(probe.as_raw_fd(), &UnixAddr::new(path)?));
    is_socket && refused == Err(nix::errno::Errno::ECONNREFUSED)
}

type Ids = (Option<nix::unistd::Uid>, Option<nix::unistd::Gid>);

/// `user`, `user:group` or `:group`.
fn look_up(owner: &str) -> Result<Ids, ListenError> {
    let (user, group) = owner.split_once(':').unwrap_or((owner, ""));
    let missing = |name: &str| ListenError::NoSuchOwner { name: name.to_owned() };
    let uid = match user {
        "" => None,
        name => Some(User::from_name(name).ok().flatten().ok_or_else(|| missing(name))?.uid),
    };
    let gid = match group {
        "" => None,
        name => Some(Group::from_name(name).ok().flatten().ok_or_else(|| missing(name))?.gid),
    };
    Ok((uid, gid))
}

fn queue(backlog: u32) -> Backlog {
    Backlog::new(i32::try_from(backlog).unwrap_or(i32::MAX)).unwrap_or(Backlog::MAXCONN)
}

fn in_words(errno: nix::errno::Errno, address: String, hint: &'static str) -> ListenError {
    if errno == nix::errno::Errno::EADDRINUSE {
        ListenError::InUse { address }
    } else if [nix::errno::Errno::EACCES, nix::errno::Errno::EPERM].contains(&errno) {
        ListenError::Denied { address, hint }
    } else {
        ListenError::Other { address, source: io::Error::from(errno) }
    }
}
