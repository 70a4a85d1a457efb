//! Makes listening sockets. A unix socket's file is decided on under a lock on its folder, so that of many supervisors that start at
//! once one gets it, and only a file at which nobody listens is ever removed.

use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, SockaddrIn6, UnixAddr, bind, connect, listen, setsockopt, socket,
    sockopt,
};
use rustix::event::{Timespec, poll};
use rustix::fs::{FlockOperation, flock};

use super::{ListenError, dress};
use crate::config::{Address, Listen};
use crate::sys::holders;

/// How often the lock of a folder is tried for, and the pause between two attempts. Whoever starts holds it for less than a pause;
/// whoever keeps it longer is another program, and does not keep us from starting.
const LOCK_ATTEMPTS: u32 = 500;
const LOCK_PAUSE: Timespec = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };

/// Which file a path is: device and inode.
pub(super) type Identity = Option<(u64, u64)>;

pub(super) fn identity(path: &Path) -> Identity {
    fs::symlink_metadata(path).ok().map(|about| (about.dev(), about.ino()))
}

pub(super) fn is_socket(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|about| about.file_type().is_socket())
}

/// What a host name and port stand for.
pub(super) fn resolve(address: &Address, host: &str, port: u16) -> Result<SocketAddr, ListenError> {
    (host, port)
        .to_socket_addrs()
        .and_then(|all| preferred(all).ok_or_else(|| io::Error::other("no address")))
        .map_err(|source| ListenError::Unresolved { address: address.to_string(), source })
}

/// Of the addresses of a name, the one that is listened on: the first of IPv4, as for Gunicorn, whatever the hosts file says first of
/// `localhost`; clients, nginx among them, are told 127.0.0.1. A name of IPv6 alone is that.
fn preferred(all: impl Iterator<Item = SocketAddr>) -> Option<SocketAddr> {
    let all: Vec<_> = all.collect();
    all.iter().find(|address| address.is_ipv4()).or(all.first()).copied()
}

/// Whether this is IPv6's wildcard and somebody else of the same service is to have its port on IPv4, which it would take too.
fn leaves_ipv4(resolved: SocketAddr, service: &Listen) -> bool {
    resolved.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED)
        && resolved.port() != 0
        && service.addresses.iter().any(|other| match other {
            Address::Tcp { host, port } if *port == resolved.port() => {
                resolve(other, host, *port).is_ok_and(|address| address.is_ipv4())
            }
            Address::Tcp { .. } | Address::Unix(_) | Address::Fd(_) => false,
        })
}

/// `service`: what else is listened on.
pub(super) fn bind_tcp(address: &Address, resolved: SocketAddr, service: &Listen) -> Result<OwnedFd, ListenError> {
    let open = || -> nix::Result<OwnedFd> {
        let family = if resolved.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let fd = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
        setsockopt(&fd, sockopt::ReuseAddr, &true)?;
        match resolved {
            SocketAddr::V4(address) => bind(fd.as_raw_fd(), &SockaddrIn::from(address))?,
            SocketAddr::V6(address) => {
                // Else it is as net.ipv6.bindv6only says (ipv6(7)), by default both: Gunicorn leaves it alone too.
                if leaves_ipv4(resolved, service) {
                    setsockopt(&fd, sockopt::Ipv6V6Only, &true)?;
                }
                bind(fd.as_raw_fd(), &SockaddrIn6::from(address))?;
            }
        }
        setsockopt(&fd, sockopt::TcpNoDelay, &true)?;
        listen(&fd, queue(service.backlog))?;
        Ok(fd)
    };
    let hint = "ports below 1024 need a .socket unit, CAP_NET_BIND_SERVICE, or a lower net.ipv4.ip_unprivileged_port_start";
    open().map_err(|errno| in_words(errno, address, hint))
}

pub(super) fn bind_unix(address: &Address, path: &Path, settings: &Listen) -> Result<OwnedFd, ListenError> {
    let hint = "the supervisor's user must be able to write the socket's directory";
    let owner = settings.owner.as_deref().map_or(Ok((None, None)), dress::look_up)?;
    let _decided_alone = lock_folder(path);
    let open = || -> nix::Result<OwnedFd> {
        let name = UnixAddr::new(path)?;
        let fd = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
        match bind(fd.as_raw_fd(), &name) {
            Err(Errno::EADDRINUSE) if is_stale(path) => {
                fs::remove_file(path).map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0)))?;
                bind(fd.as_raw_fd(), &name)?;
            }
            result => result?,
        }
        Ok(fd)
    };
    if fs::symlink_metadata(path).is_ok_and(|about| !about.file_type().is_socket()) {
        return Err(ListenError::NotASocket { address: address.to_string() });
    }
    let fd = open().map_err(|errno| in_words(errno, address, hint))?;
    // Nobody can connect before listen(2), so nobody meets the socket with the wrong owner or mode.
    let dressed =
        dress::dress(path, settings.mode, owner).and_then(|()| listen(&fd, queue(settings.backlog)).map_err(io::Error::from));
    dressed.map_err(|source| {
        fs::remove_file(path).ok();
        ListenError::Other { address: address.to_string(), source }
    })?;
    Ok(fd)
}

/// Removes a socket file if it is still the one that was made here.
pub(super) fn remove_own(path: &Path, own: Identity) {
    // Between the look and the removal a successor could put its own there.
    let _decided_alone = lock_folder(path);
    if identity(path) != own {
        tracing::warn!(path = %path.display(), "the socket file is not ours any more; it stays");
    } else if let Err(error) = fs::remove_file(path) {
        tracing::debug!(path = %path.display(), %error, "socket file not removed");
    }
}

/// The lock of the folder that holds `path` (flock(2)), until it is dropped. On the folder itself, so that no lock file is left behind.
/// `None` where it cannot be had: a folder that we may not read, a file system without locks, or somebody who keeps it.
fn lock_folder(path: &Path) -> Option<File> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    let folder = File::open(folder).ok()?;
    for _ in 0..LOCK_ATTEMPTS {
        match flock(&folder, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Some(folder),
            Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => {
                poll(&mut [], Some(&LOCK_PAUSE)).ok();
            }
            Err(_) => return None,
        }
    }
    tracing::warn!(path = %path.display(), "another program keeps the folder of the socket locked");
    None
}

/// A socket file that nobody listens on any more: a supervisor that was killed left it.
fn is_stale(path: &Path) -> bool {
    // A full queue answers EAGAIN: somebody listens. Waiting for a place in it would hang the start.
    let probe = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None);
    let refused = probe.and_then(|probe| connect(probe.as_raw_fd(), &UnixAddr::new(path)?));
    is_socket(path) && refused == Err(Errno::ECONNREFUSED)
}

fn queue(backlog: u32) -> Backlog {
    Backlog::new(i32::try_from(backlog).unwrap_or(i32::MAX)).unwrap_or(Backlog::MAXCONN)
}

fn in_words(errno: Errno, address: &Address, hint: &'static str) -> ListenError {
    let named = address.to_string();
    if errno == Errno::EADDRINUSE {
        ListenError::InUse { who: holders::in_words(address), address: named }
    } else if [Errno::EACCES, Errno::EPERM].contains(&errno) {
        ListenError::Denied { address: named, hint }
    } else {
        ListenError::Other { address: named, source: io::Error::from(errno) }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::super::Listeners;
    use super::*;

    fn tcp(host: &str, port: u16) -> Address {
        Address::Tcp { host: host.to_owned(), port }
    }

    fn bound(addresses: &[Address]) -> Result<Listeners, ListenError> {
        Listeners::bind(&Listen { addresses: addresses.to_vec(), backlog: 16, mode: 0o600, owner: None })
    }

    fn port_of(listeners: &Listeners) -> u16 {
        let Address::Tcp { port, .. } = listeners.all()[0].address() else { panic!("{listeners:?}") };
        *port
    }

    #[test]
    fn a_name_is_its_first_address_of_ipv4_as_for_gunicorn() {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        // Debian's hosts file: ::1 localhost ip6-localhost ip6-loopback.
        let localhost = ["[::1]:80", "127.0.0.1:80", "127.0.1.1:80"].map(address);
        assert_eq!(preferred(localhost.into_iter()), Some(address("127.0.0.1:80")));
        let only_v6 = ["[fe80::1]:80", "[fe80::2]:80"].map(address);
        assert_eq!(preferred(only_v6.into_iter()), Some(address("[fe80::1]:80")));
        assert_eq!(preferred(std::iter::empty()), None);
    }

    #[test]
    fn the_wildcard_of_ipv6_takes_ipv4_too() {
        let listeners = bound(&[tcp("::", 0)]).unwrap();
        for host in ["127.0.0.1", "::1"] {
            TcpStream::connect((host, port_of(&listeners))).unwrap_or_else(|error| panic!("{host}: {error}"));
        }
        let words = listeners.all()[0].in_words();
        assert!(words.ends_with(" (IPv4 too)"), "{words}");
    }

    #[test]
    fn the_wildcard_of_ipv6_leaves_ipv4_to_whoever_of_the_same_service_has_its_port() {
        for (other, v6_first) in [("0.0.0.0", true), ("0.0.0.0", false), ("127.0.0.1", true)] {
            // A port that is free when it is looked for may be taken a moment later.
            let both = (0..20).find_map(|_| {
                let port = port_of(&bound(&[tcp("0.0.0.0", 0)]).unwrap());
                let mut addresses = [tcp("::", port), tcp(other, port)];
                if !v6_first {
                    addresses.reverse();
                }
                bound(&addresses).ok()
            });
            let both = both.unwrap_or_else(|| panic!("{other} beside [::], {v6_first}"));
            assert!(both.all().iter().any(|listener| listener.in_words().ends_with(" (IPv6 only)")), "{both:?}");
            for host in ["127.0.0.1", "::1"] {
                TcpStream::connect((host, port_of(&both))).unwrap_or_else(|error| panic!("{host}: {error}"));
            }
        }
    }
}
