//! The service's side of systemd's protocol: sd_notify(3). Without NOTIFY_SOCKET every call does nothing.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use crate::units::Moment;

/// Longest STATUS text sent, bytes: systemd shows one line.
const MAX_STATUS: usize = 512;

/// How long a full queue at the other end is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where systemd, or whoever set NOTIFY_SOCKET, listens.
pub struct Systemd {
    socket: Option<(UnixDatagram, SocketAddr)>,
}

impl Systemd {
    /// Talks to the socket that NOTIFY_SOCKET names: a path, or an abstract name that begins with `@`.
    pub fn new(notify_socket: Option<&OsStr>) -> io::Result<Self> {
        let Some(name) = notify_socket.map(OsStr::as_bytes).filter(|name| !name.is_empty()) else {
            return Ok(Self { socket: None });
        };
        let address = match name.strip_prefix(b"@") {
            Some(name) => SocketAddr::from_abstract_name(name)?,
            None => SocketAddr::from_pathname(OsStr::from_bytes(name))?,
        };
        let socket = UnixDatagram::unbound()?;
        // A full queue is waited for, or READY=1 would be lost when many workers start at once; but not for ever.
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { socket: Some((socket, address)) })
    }

    /// The service serves; also ends a reload.
    pub fn ready(&self) {
        self.send("READY=1");
    }

    /// A reload begins. `now` is on CLOCK_MONOTONIC, which is what `Type=notify-reload` compares with.
    pub fn reloading(&self, now: Moment) {
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={}", now.as_nanos() / 1_000));
    }

    /// The service ends.
    pub fn stopping(&self) {
        self.send("STOPPING=1");
    }

    /// The service is alive.
    pub fn alive(&self) {
        self.send("WATCHDOG=1");
    }

    /// One line for `systemctl status`.
    pub fn status(&self, line: &str) {
        let end = line.char_indices().map(|(at, _)| at).take_while(|at| *at <= MAX_STATUS).last().unwrap_or(0);
        let line = if line.len() > MAX_STATUS { line.get(..end).unwrap_or_default() } else { line };
        self.send(&format!("STATUS={}", line.replace('\n', " ")));
    }

    /// A lost notification is no reason to end a service: systemd's own time-outs judge.
    fn send(&self, message: &str) {
        if let Some((socket, address)) = &self.socket
            && let Err(error) = socket.send_to_addr(message.as_bytes(), address)
        {
            tracing::warn!(%error, message, "systemd did not take a notification");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_is_waited_for_and_a_dead_one_not_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let receiver = UnixDatagram::bind(&path).unwrap();
        let systemd = Systemd::new(Some(path.as_os_str())).unwrap();
        // Far more than any queue holds (net.unix.max_dgram_qlen): without a reader, the first that does not fit is given up.
        let filler = UnixDatagram::unbound().unwrap();
        filler.set_nonblocking(true).unwrap();
        while filler.send_to(b"x", &path).is_ok() {}
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 64];
            loop {
                let length = receiver.recv(&mut buffer).unwrap();
                if buffer[..length] == *b"READY=1" {
                    return;
                }
            }
        });
        systemd.ready();
        reader.join().unwrap();
    }
}
