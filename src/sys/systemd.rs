//! The service's side of systemd's protocol: sd_notify(3). Without NOTIFY_SOCKET every call does nothing.

use std::cell::Cell;
use std::ffi::OsStr;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};

use super::inherit;
use super::listen::{Listeners, Origin};
use crate::units::Moment;

/// Longest STATUS text sent, bytes: systemd shows one line.
const MAX_STATUS: usize = 512;

/// How long a full queue at the other end is waited for, and the other end's word that it has taken everything.
const PATIENCE: Duration = Duration::from_secs(1);
const PATIENCE_OF_POLL: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// Where systemd, or whoever set NOTIFY_SOCKET, listens.
pub struct Systemd {
    socket: Option<(UnixDatagram, UnixAddr)>,
    /// systemd hears the main process only (NotifyAccess=main): whoever is not, or is not any more, is silent.
    silent: Cell<bool>,
}

impl Systemd {
    /// Talks to the socket that NOTIFY_SOCKET names: a path, or an abstract name that begins with `@`.
    pub fn new(notify_socket: Option<&OsStr>) -> io::Result<Self> {
        let Some(name) = notify_socket.map(OsStr::as_bytes).filter(|name| !name.is_empty()) else {
            return Ok(Self::absent());
        };
        let address = match name.strip_prefix(b"@") {
            Some(name) => UnixAddr::new_abstract(name)?,
            None => UnixAddr::new(OsStr::from_bytes(name))?,
        };
        let socket = UnixDatagram::unbound()?;
        // A full queue is waited for, or READY=1 would be lost when many workers start at once; but not for ever.
        socket.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { socket: Some((socket, address)), silent: Cell::new(false) })
    }

    /// Nobody listens.
    #[must_use]
    pub const fn absent() -> Self {
        Self { socket: None, silent: Cell::new(false) }
    }

    /// Says nothing until [`Self::speak`].
    pub fn fall_silent(&self) {
        self.silent.set(true);
    }

    /// Says again what it is told to.
    pub fn speak(&self) {
        self.silent.set(false);
    }

    /// The service serves; also ends a reload. Whether that was heard.
    pub fn ready(&self) -> bool {
        self.send("READY=1", &[], MsgFlags::empty())
    }

    /// A reload begins. `now` is on CLOCK_MONOTONIC, which is what `Type=notify-reload` compares with.
    pub fn reloading(&self, now: Moment) {
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={}", now.as_nanos() / 1_000), &[], MsgFlags::empty());
    }

    /// The service ends.
    pub fn stopping(&self) {
        self.send("STOPPING=1", &[], MsgFlags::empty());
    }

    /// The service is alive. What cannot be sent at once is not sent: whether it was.
    pub fn alive(&self) -> bool {
        self.send("WATCHDOG=1", &[], MsgFlags::MSG_DONTWAIT)
    }

    /// What is under way takes at most this much longer: systemd's own time-out is pushed back that far.
    pub fn extend(&self, span: Duration) {
        self.send(&format!("EXTEND_TIMEOUT_USEC={}", span.as_micros()), &[], MsgFlags::MSG_DONTWAIT);
    }

    /// One line for `systemctl status`. What cannot be sent at once is not sent.
    pub fn status(&self, line: &str) {
        let end = line.char_indices().map(|(at, _)| at).take_while(|at| *at <= MAX_STATUS).last().unwrap_or(0);
        let line = if line.len() > MAX_STATUS { line.get(..end).unwrap_or_default() } else { line };
        self.send(&format!("STATUS={}", line.replace(char::is_control, " ")), &[], MsgFlags::MSG_DONTWAIT);
    }

    /// Another process is the service's main one from now on. It has to be in the service's control group.
    pub fn main_pid(&self, pid: u32) {
        self.send(&format!("MAINPID={pid}"), &[], MsgFlags::empty());
    }

    /// Puts the sockets that are ours into the store, from where they come back when this process has died (FileDescriptorStoreMax=
    /// above 0). `lapsed` are names in the store whose sockets nobody needs; what is used of the same name is stored again.
    pub fn keep(&self, listeners: &Listeners, lapsed: &[String]) {
        for name in lapsed {
            self.send(&format!("FDSTOREREMOVE=1\nFDNAME={name}"), &[], MsgFlags::empty());
        }
        let name = inherit::HTTP;
        let ours = listeners.all().iter().filter(|listener| match listener.origin() {
            Origin::Ours => true,
            Origin::Stored => lapsed.iter().any(|lapsed| lapsed == name),
            Origin::Descriptor(_) | Origin::Theirs(_) => false,
        });
        for listener in ours {
            // Without FDPOLL=0 systemd drops a descriptor as soon as poll(2) reports an error on it.
            self.send(&format!("FDSTORE=1\nFDNAME={name}\nFDPOLL=0"), &[listener.fd()], MsgFlags::empty());
        }
    }

    /// Waits until everything said so far was taken in (BARRIER=1), for at most `PATIENCE`. Whether it was.
    pub fn barrier(&self) -> bool {
        if self.socket.is_none() || self.silent.get() {
            return true;
        }
        let Ok((ours, theirs)) = pipe_with(PipeFlags::CLOEXEC) else { return false };
        self.send("BARRIER=1", &[theirs.as_fd()], MsgFlags::empty());
        drop(theirs);
        let mut closed = [PollFd::new(&ours, PollFlags::empty())];
        poll(&mut closed, Some(&PATIENCE_OF_POLL)).is_ok_and(|ready| ready > 0)
    }

    /// A lost notification is no reason to end a service: systemd's own time-outs judge. Whether it is on its way to all who want it.
    fn send(&self, message: &str, fds: &[BorrowedFd<'_>], flags: MsgFlags) -> bool {
        let Some((socket, address)) = self.socket.as_ref().filter(|_| !self.silent.get()) else { return true };
        let fds: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&fds)];
        let control = if fds.is_empty() { &[][..] } else { &rights };
        let flags = flags | MsgFlags::MSG_NOSIGNAL;
        let sent = sendmsg(socket.as_raw_fd(), &[IoSlice::new(message.as_bytes())], control, flags, Some(address));
        if let Err(error) = sent {
            tracing::warn!(%error, message, "systemd did not take a notification");
        }
        sent.is_ok()
    }
}

/// How often the service manager wants to hear WATCHDOG=1: half of WATCHDOG_USEC (sd_watchdog_enabled(3)). `None` if it does not,
/// or means another process.
#[must_use]
pub fn watchdog(usec: Option<&str>, pid: Option<&str>) -> Option<Duration> {
    let for_us = pid.is_none_or(|pid| pid == std::process::id().to_string());
    let allowed = usec.filter(|_| for_us)?.parse().ok().filter(|micros| *micros > 0)?;
    Some(Duration::from_micros(allowed) / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hear(receiver: &UnixDatagram) -> String {
        let mut buffer = [0; 1024];
        let length = receiver.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    }

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
        // These do not wait.
        assert!(!systemd.alive());
        systemd.status("busy");
        let reader = std::thread::spawn(move || while hear(&receiver) != "READY=1" {});
        assert!(systemd.ready());
        reader.join().unwrap();
        assert!(!systemd.alive(), "the reader is gone");
    }

    #[test]
    fn what_is_said_is_as_documented_and_nothing_is_said_in_silence() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let receiver = UnixDatagram::bind(&path).unwrap();
        let systemd = Systemd::new(Some(path.as_os_str())).unwrap();
        systemd.reloading(Moment::from_nanos(5_001_999));
        assert_eq!(hear(&receiver), "RELOADING=1\nMONOTONIC_USEC=5001");
        systemd.fall_silent();
        systemd.ready();
        assert!(systemd.barrier());
        systemd.speak();
        systemd.status("one\nline");
        assert_eq!(hear(&receiver), "STATUS=one line");
        systemd.extend(Duration::from_secs(2));
        assert_eq!(hear(&receiver), "EXTEND_TIMEOUT_USEC=2000000");
        systemd.main_pid(7);
        assert_eq!(hear(&receiver), "MAINPID=7");
    }

    #[test]
    fn a_barrier_is_passed_when_the_other_end_closes_what_came_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let receiver = UnixDatagram::bind(&path).unwrap();
        let systemd = Systemd::new(Some(path.as_os_str())).unwrap();
        // recv(2) without room for control messages closes what came.
        let reader = std::thread::spawn(move || hear(&receiver));
        assert!(systemd.barrier());
        assert_eq!(reader.join().unwrap(), "BARRIER=1");
    }

    #[test]
    fn a_watchdog_of_another_process_is_not_ours() {
        let us = std::process::id().to_string();
        assert_eq!(watchdog(Some("2000000"), None), Some(Duration::from_secs(1)));
        assert_eq!(watchdog(Some("2000000"), Some(&us)), Some(Duration::from_secs(1)));
        for none in [(None, None), (Some("0"), None), (Some("x"), None), (Some("2000000"), Some("1"))] {
            assert_eq!(watchdog(none.0, none.1), None);
        }
    }
}
