//! Undoes what others do to listening sockets. All who share a socket share what is done to it, so one worker's shutdown(2) ends
//! it for every generation, and the kernel tells nobody; nor does it when a unix socket's file is taken away, without which no
//! client finds it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use nix::fcntl::OFlag;
use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::dup3_raw;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::{ListenError, Listener, Listeners, Origin, bind};
use crate::config::{Address, Listen};

impl Listeners {
    /// Listens again where somebody has shut a TCP socket down. One getsockopt(2) a socket: cheap enough for every turn.
    pub fn listen_again(&self) {
        let Some(settings) = &self.settings else { return };
        for listener in &self.sockets {
            if getsockopt(&listener.fd, sockopt::AcceptConn).unwrap_or(true) {
                continue;
            }
            let listen = listener.in_words();
            match listener.take_address_again().and_then(|()| listener.listen_anew(settings.backlog)) {
                Ok(()) => {
                    listener.is_given_up.store(false, Ordering::Relaxed);
                    tracing::warn!(
                        listen,
                        "the listening socket was shut down, which ends it for all workers; it listens again. A worker may close it, \
                         but not call shutdown(2)"
                    );
                }
                Err(error) if !listener.is_given_up.swap(true, Ordering::Relaxed) => {
                    tracing::error!(listen, %error, "the listening socket was shut down, and cannot listen again: no client is served there");
                }
                Err(_) => {}
            }
        }
    }

    /// Makes unix sockets of ours again that no client can reach any more. For a reload, before anything is started that gets
    /// them: who has the old one goes on accepting there, in vain. Whether one was made.
    pub fn make_again(&self) -> bool {
        let Some(settings) = self.settings.as_ref().filter(|_| !self.lent.load(Ordering::Relaxed)) else { return false };
        let mut is_made = false;
        for listener in self.sockets.iter().filter(|listener| listener.is_lost()) {
            let socket = &listener.address;
            match listener.make_again(settings) {
                Ok(()) => {
                    is_made = true;
                    tracing::warn!(%socket, "the socket's file was taken away or the socket shut down, and nobody could connect; it is made again");
                }
                Err(error) => {
                    tracing::error!(
                        "the socket's file was taken away or the socket shut down, nobody can connect, and cannot be made again: {error}"
                    );
                }
            }
        }
        is_made
    }
}

impl Listener {
    /// Whether no client can reach a unix socket: another file or none has its name, or it is shut down for reading, which a second
    /// listen(2) does not undo. It is unknown of a file that was never seen, in another mount namespace for example.
    fn is_lost(&self) -> bool {
        let Address::Unix(path) = &self.address else { return false };
        let file = self.file();
        (file.is_some() && bind::identity(path) != file) || is_shut(&self.fd)
    }

    /// Binds another one, as at the start, and gives it the descriptor's number, so that whoever uses that has it.
    fn make_again(&self, settings: &Listen) -> Result<(), ListenError> {
        let address = || self.address.to_string();
        let Address::Unix(path) = &self.address else { return Ok(()) };
        match self.origin {
            Origin::Ours | Origin::Stored => {}
            Origin::Descriptor(_) | Origin::Theirs(_) => return Err(ListenError::Passed { address: address() }),
        }
        let other = bind::bind_unix(&self.address, path, settings)?;
        put_in_place(&other, &self.fd).map_err(|source| ListenError::Other { address: address(), source })?;
        *self.file.lock().unwrap_or_else(PoisonError::into_inner) = bind::identity(path);
        Ok(())
    }

    /// A port of the kernel's choice is given back with the shutdown (port 0); one that was asked for is kept, which bind(2) says
    /// by EINVAL.
    fn take_address_again(&self) -> io::Result<()> {
        let Address::Tcp { host, port } = &self.address else { return Ok(()) };
        let Ok(ip) = host.parse::<IpAddr>() else { return Ok(()) };
        match rustix::net::bind(&self.fd, &SocketAddr::new(ip, *port)) {
            Ok(()) | Err(Errno::INVAL) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

fn is_shut(socket: &OwnedFd) -> bool {
    let mut look = [PollFd::new(socket, PollFlags::RDHUP)];
    poll(&mut look, Some(&Timespec::default())).is_ok() && look[0].revents().contains(PollFlags::RDHUP)
}

/// `number` names the file of `other` from now on, also for threads that use it at this moment.
fn put_in_place(other: &OwnedFd, number: &OwnedFd) -> io::Result<()> {
    #[expect(unsafe_code, reason = "a descriptor that threads share gets another file")]
    // SAFETY: the number is open before, meanwhile and after (dup(2): atomically), and stays owned by `number`: what comes back
    // is forgotten.
    let placed = unsafe { dup3_raw(other, number.as_raw_fd(), OFlag::O_CLOEXEC) }?;
    let _ = placed.into_raw_fd();
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::net::TcpStream;
    use std::os::unix::net::{UnixListener, UnixStream};

    use rustix::net::{Shutdown, shutdown};

    use super::super::bind_one;
    use super::*;

    #[test]
    fn a_socket_that_was_shut_down_has_its_address_again_also_if_the_kernel_chose_the_port() {
        let address = |port| Address::Tcp { host: "127.0.0.1".to_owned(), port };
        let chosen = bind_one(&address(0)).unwrap();
        let Address::Tcp { port, .. } = *chosen.all()[0].address() else { panic!("{chosen:?}") };
        shutdown(chosen.all()[0].fd(), Shutdown::Read).unwrap();
        TcpStream::connect(("127.0.0.1", port)).unwrap_err();
        chosen.listen_again();
        TcpStream::connect(("127.0.0.1", port)).unwrap();
        drop(chosen);
        let asked_for = bind_one(&address(port)).unwrap();
        shutdown(asked_for.all()[0].fd(), Shutdown::Both).unwrap();
        TcpStream::connect(("127.0.0.1", port)).unwrap_err();
        asked_for.listen_again();
        TcpStream::connect(("127.0.0.1", port)).unwrap();
    }

    #[test]
    fn a_unix_socket_that_was_shut_down_is_made_again_under_the_same_number() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("web.sock");
        let made = bind_one(&Address::Unix(path.clone())).unwrap();
        assert!(!made.make_again(), "nothing is wrong");
        let number = made.all()[0].fd().as_raw_fd();
        shutdown(made.all()[0].fd(), Shutdown::Both).unwrap();
        UnixStream::connect(&path).unwrap_err();
        assert!(made.make_again());
        UnixStream::connect(&path).unwrap();
        assert_eq!(made.all()[0].fd().as_raw_fd(), number);
        assert!(rustix::io::fcntl_getfd(made.all()[0].fd()).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
        assert!(!made.make_again(), "it is mended");
        drop(made);
        assert!(!path.exists());
    }

    #[test]
    fn a_file_that_somebody_put_in_the_place_of_a_socket_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("web.sock");
        let made = bind_one(&Address::Unix(path.clone())).unwrap();
        fs::remove_file(&path).unwrap();
        let others = UnixListener::bind(&path).unwrap();
        assert!(!made.make_again(), "somebody listens there");
        drop(others);
        fs::remove_file(&path).unwrap();
        fs::write(&path, "another's").unwrap();
        assert!(!made.make_again());
        drop(made);
        assert_eq!(fs::read_to_string(&path).unwrap(), "another's");
    }
}
