//! Undoes what others do to listening sockets. All who share a socket share what is done to it, so one worker's shutdown(2) ends it for every
//! generation, and the kernel tells nobody.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;

use nix::sys::socket::{getsockopt, sockopt};
use rustix::io::Errno;
use rustix::net::bind;

use super::{Listener, Listeners};
use crate::config::Address;

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
}

impl Listener {
    /// A port of the kernel's choice is given back with the shutdown (port 0); one that was asked for is kept, which bind(2) says by EINVAL.
    fn take_address_again(&self) -> io::Result<()> {
        let Address::Tcp { host, port } = &self.address else { return Ok(()) };
        let Ok(ip) = host.parse::<IpAddr>() else { return Ok(()) };
        match bind(&self.fd, &SocketAddr::new(ip, *port)) {
            Ok(()) | Err(Errno::INVAL) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

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
}
