//! The listening sockets of a service, bound here or passed to it. All workers share them.

mod bind;
mod dress;
mod mend;

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use nix::sys::socket::{SockType, SockaddrStorage, UnixAddr, getsockname, getsockopt, sockopt};
use rustix::fs::fstat;
use thiserror::Error;

use crate::config::{Address, Listen};
use bind::Identity;

/// Why an address cannot be listened on.
#[derive(Debug, Error)]
pub enum ListenError {
    /// Somebody else has it.
    #[error("{address} is in use by {who}; stop it or choose another address")]
    InUse {
        /// The address as configured.
        address: String,
        /// The processes that listen there, as far as they can be seen.
        who: String,
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
    /// A socket that is not ours to make.
    #[error("{address}: whoever passed this socket has to make it again: restart its .socket unit, and then tuningfork")]
    Passed {
        /// The address.
        address: String,
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

/// Where a listening socket comes from, which decides who keeps it when we end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Bound here, or by the supervisor whose place we took.
    Ours,
    /// Came back from the service manager's store, where we had put it: it is in there still.
    Stored,
    /// `fd:N`: inherited from whoever started us.
    Descriptor(RawFd),
    /// A socket unit's, by this name, or lent by another process.
    Theirs(String),
}

/// One listening socket.
#[derive(Debug)]
pub struct Listener {
    fd: OwnedFd,
    address: Address,
    origin: Origin,
    /// Which file a unix socket's was when it was made or taken over: another's in its place stays.
    file: Mutex<Identity>,
    /// It was told that this one cannot be mended.
    is_given_up: AtomicBool,
}

impl Listener {
    fn new(fd: OwnedFd, address: Address, origin: Origin) -> Self {
        let file = match &address {
            Address::Unix(path) => bind::identity(path),
            Address::Tcp { .. } | Address::Fd(_) => None,
        };
        Self { fd, address, origin, file: Mutex::new(file), is_given_up: AtomicBool::new(false) }
    }

    fn file(&self) -> Identity {
        *self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A listening socket that another process handed over; refused if clients cannot be accepted on it.
    pub fn received(fd: OwnedFd, origin: Origin) -> Result<Self, ListenError> {
        let number = fd.as_raw_fd();
        let accepts = getsockopt(&fd, sockopt::AcceptConn).unwrap_or(false);
        let stream = getsockopt(&fd, sockopt::SockType).is_ok_and(|kind| kind == SockType::Stream);
        if !accepts || !stream {
            return Err(ListenError::NotListening { fd: number });
        }
        let address = local_address(&fd).unwrap_or(Address::Fd(number));
        Ok(Self::new(fd, address, origin))
    }

    /// The address it really has: port 0 is replaced by the kernel's choice.
    #[must_use]
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// The address, and of IPv6's wildcard whether it takes IPv4 too.
    #[must_use]
    pub fn in_words(&self) -> String {
        let mut words = self.address.to_string();
        if matches!(&self.address, Address::Tcp { host, .. } if host == "::") {
            let is_alone = getsockopt(&self.fd, sockopt::Ipv6V6Only).unwrap_or(false);
            words.push_str(if is_alone { " (IPv6 only)" } else { " (IPv4 too)" });
        }
        words
    }

    /// Where it comes from.
    #[must_use]
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The socket.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Which socket it is: the same for every copy of its descriptor.
    #[must_use]
    pub fn inode(&self) -> u64 {
        fstat(&self.fd).map_or(0, |about| about.st_ino)
    }

    /// Whether it is what binding `wanted` would give. A socket whose file is gone cannot be reached, and does not count.
    #[must_use]
    pub fn serves(&self, wanted: &Address) -> bool {
        match (wanted, &self.address) {
            (Address::Unix(wanted), Address::Unix(path)) => wanted == path && bind::is_socket(path),
            (Address::Tcp { host, port }, Address::Tcp { host: bound, port: bound_port }) => {
                let address = bind::resolve(wanted, host, *port).ok();
                (*port == 0 || port == bound_port) && address.is_some_and(|address| address.ip().to_string() == *bound)
            }
            (Address::Fd(number), _) => self.origin == Origin::Descriptor(*number),
            (Address::Unix(_) | Address::Tcp { .. }, _) => false,
        }
    }

    /// Calls listen(2) once more, which changes the length of the queue and who is told to be at this end.
    pub fn listen_anew(&self, backlog: u32) -> io::Result<()> {
        Ok(rustix::net::listen(&self.fd, i32::try_from(backlog).unwrap_or(i32::MAX))?)
    }

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

/// A standard listener over a copy of a TCP or unix socket.
pub enum StdListener {
    /// TCP.
    Tcp(TcpListener),
    /// unix.
    Unix(UnixListener),
}

/// The sockets of a service. Files of unix sockets that are ours are unlinked at the end.
#[derive(Debug, Default)]
pub struct Listeners {
    sockets: Vec<Listener>,
    /// How they are made; a worker, who only uses them, has none.
    settings: Option<Listen>,
    /// A predecessor has the service, so the files of what it passed are its.
    lent: AtomicBool,
    /// Somebody else goes on listening: the files stay.
    files_stay: AtomicBool,
}

impl Listeners {
    /// Binds every address. Either all succeed, or none stays bound.
    pub fn bind(listen: &Listen) -> Result<Self, ListenError> {
        let mut listeners = Self::made_as(listen);
        for address in &listen.addresses {
            listeners.add(bind_address(address, listen)?);
        }
        Ok(listeners)
    }

    /// None yet.
    pub(super) fn made_as(listen: &Listen) -> Self {
        let mut listeners = Self::default();
        listeners.settings = Some(listen.clone());
        listeners
    }

    /// One more.
    pub(super) fn add(&mut self, listener: Listener) {
        self.sockets.push(listener);
    }

    /// In the order of the configuration.
    #[must_use]
    pub fn all(&self) -> &[Listener] {
        &self.sockets
    }

    /// What was passed is a predecessor's until [`Self::own_files`].
    pub(super) fn lend(&self) {
        self.lent.store(true, Ordering::Relaxed);
    }

    /// The predecessor has handed the service over, and its files with it.
    pub fn own_files(&self) {
        self.lent.store(false, Ordering::Relaxed);
    }

    /// The service manager or a successor keeps the sockets, so clients go on finding their files.
    pub fn leave_files(&self) {
        self.files_stay.store(true, Ordering::Relaxed);
    }
}

impl Drop for Listeners {
    fn drop(&mut self) {
        if self.files_stay.load(Ordering::Relaxed) {
            return;
        }
        let lent = self.lent.load(Ordering::Relaxed);
        for listener in &self.sockets {
            let is_ours = match listener.origin {
                Origin::Ours => true,
                Origin::Stored => !lent,
                Origin::Descriptor(_) | Origin::Theirs(_) => false,
            };
            if let Address::Unix(path) = &listener.address
                && is_ours
            {
                bind::remove_own(path, listener.file());
            }
        }
    }
}

/// Listens on one address for ourselves, for example for metrics.
pub fn bind_one(address: &Address) -> Result<Listeners, ListenError> {
    Listeners::bind(&private(address))
}

/// How a socket for ourselves is made.
pub(super) fn private(address: &Address) -> Listen {
    Listen { addresses: vec![address.clone()], backlog: 128, mode: 0o660, owner: None }
}

pub(super) fn bind_address(address: &Address, listen: &Listen) -> Result<Listener, ListenError> {
    let (fd, bound) = match address {
        Address::Fd(number) => return Listener::received(own(*number)?, Origin::Descriptor(*number)),
        Address::Unix(path) => (bind::bind_unix(address, path, listen)?, None),
        Address::Tcp { host, port } => {
            let fd = bind::bind_tcp(address, bind::resolve(address, host, *port)?, listen)?;
            let bound = local_address(&fd);
            (fd, bound)
        }
    };
    Ok(Listener::new(fd, bound.unwrap_or_else(|| address.clone()), Origin::Ours))
}

/// Takes over an inherited descriptor, which no program that we start inherits in turn. Refuses what is not a socket.
pub(super) fn own(fd: RawFd) -> Result<OwnedFd, ListenError> {
    let wrong = || ListenError::NotListening { fd };
    let link = fs::read_link(format!("/proc/self/fd/{fd}")).map_err(|_| wrong())?;
    if link.to_string_lossy().starts_with("socket:") { own_file(fd) } else { Err(wrong()) }
}

/// The same of whatever is open.
pub(super) fn own_file(fd: RawFd) -> Result<OwnedFd, ListenError> {
    let wrong = || ListenError::NotListening { fd };
    fs::read_link(format!("/proc/self/fd/{fd}")).map_err(|_| wrong())?;
    #[expect(unsafe_code, reason = "a descriptor number from the environment becomes an owned descriptor")]
    // SAFETY: the number is open (its link was just read) and was handed to this process to own; nothing else here holds it.
    let owned = unsafe { OwnedFd::from_raw_fd(fd) };
    rustix::io::fcntl_setfd(&owned, rustix::io::FdFlags::CLOEXEC).map_err(|_| wrong())?;
    Ok(owned)
}

fn local_address(fd: &OwnedFd) -> Option<Address> {
    let storage: SockaddrStorage = getsockname(fd.as_raw_fd()).ok()?;
    let tcp = |address: SocketAddr| Address::Tcp { host: address.ip().to_string(), port: address.port() };
    let v4 = storage.as_sockaddr_in().map(|address| tcp(SocketAddr::V4((*address).into())));
    let v6 = storage.as_sockaddr_in6().map(|address| tcp(SocketAddr::V6((*address).into())));
    v4.or(v6).or_else(|| storage.as_unix_addr().and_then(UnixAddr::path).map(|path| Address::Unix(path.to_owned())))
}
