//! The receiving side of sd_notify(3): what workers say about themselves. One socket for all; the kernel says who speaks.

use std::fs;
use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use nix::cmsg_space;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, UnixCredentials, bind, recvmsg, setsockopt,
    socket, sockopt::PassCred,
};

/// Longest notification taken, bytes; a longer one is cut.
const MAX_MESSAGE: usize = 4096;

use super::private_folder::PrivateFolder;

/// What everybody needs to pass through a folder.
const ENTER: u32 = 0o001;

/// What a worker said that the supervisor cares for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each field of a message is there or not")]
pub(super) struct Said {
    /// READY=1
    pub(super) ready: bool,
    /// WATCHDOG=1
    pub(super) beat: bool,
    /// STOPPING=1
    pub(super) leaving: bool,
    /// X_TUNINGFORK_RENEW=1: it serves, and wants to be renewed.
    pub(super) worn: bool,
}

/// A datagram socket in a folder that only our user can enter: others cannot fill its queue.
pub(super) struct NotifySocket {
    fd: OwnedFd,
    path: PathBuf,
    folder: PrivateFolder,
    /// The user it was given to, if not ours.
    user: Option<u32>,
}

impl NotifySocket {
    pub(super) fn open() -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let fd = socket(AddressFamily::Unix, SockType::Datagram, flags, None)?;
        setsockopt(&fd, PassCred, &true)?;
        let folder = PrivateFolder::make()?;
        let path = folder.path().join("notify");
        bind(fd.as_raw_fd(), &UnixAddr::new(&path)?)?;
        Ok(Self { fd, path, folder, user: None })
    }

    /// Lets workers of another user speak: the folder can be entered then, the socket is theirs. Once given it stays given.
    pub(super) fn give_to(&mut self, uid: u32) -> io::Result<()> {
        match self.user {
            Some(user) if user == uid => return Ok(()),
            Some(_) => return Err(io::Error::other("app.user has changed: that needs a restart, since older workers live on")),
            None => {}
        }
        let closed =
            self.folder.path().ancestors().skip(1).find(|parent| {
                fs::metadata(parent).is_ok_and(|about| about.permissions().mode() & ENTER == 0 && about.uid() != uid)
            });
        if let Some(closed) = closed {
            let message = format!(
                "app.user cannot enter {}: its mode must allow that (systemd: RuntimeDirectoryMode=0711)",
                closed.display()
            );
            return Err(io::Error::other(message));
        }
        fs::set_permissions(self.folder.path(), fs::Permissions::from_mode(0o711))?;
        std::os::unix::fs::chown(&self.path, Some(uid), None)?;
        fs::set_permissions(&self.path, fs::Permissions::from_mode(0o600))?;
        self.user = Some(uid);
        Ok(())
    }

    /// The value of NOTIFY_SOCKET for workers.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// The next message and the pid of its sender. `None` when there is none.
    pub(super) fn receive(&self) -> Option<(i32, Said)> {
        let mut buffer = [0_u8; MAX_MESSAGE];
        let mut control = cmsg_space!(UnixCredentials);
        loop {
            let mut slices = [IoSliceMut::new(&mut buffer)];
            let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
            let message = recvmsg::<()>(self.fd.as_raw_fd(), &mut slices, Some(&mut control), flags);
            let message = match message {
                Ok(message) => message,
                Err(nix::errno::Errno::EINTR) => continue,
                Err(_) => return None,
            };
            let sender = message.cmsgs().ok().and_then(|mut controls| {
                controls.find_map(
                    |control| {
                        if let ControlMessageOwned::ScmCredentials(who) = control { Some(who.pid()) } else { None }
                    },
                )
            });
            let length = message.bytes;
            if let Some(sender) = sender {
                return Some((sender, said(buffer.get(..length).unwrap_or_default())));
            }
        }
    }
}

/// Reads the newline-separated fields; unknown ones are ignored.
fn said(message: &[u8]) -> Said {
    let mut said = Said::default();
    for field in message.split(|byte| *byte == b'\n') {
        match field {
            b"READY=1" => said.ready = true,
            b"WATCHDOG=1" => said.beat = true,
            b"STOPPING=1" => said.leaving = true,
            b"X_TUNINGFORK_RENEW=1" => said.worn = true,
            _ => {}
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixDatagram;

    #[test]
    fn a_message_comes_with_the_pid_of_its_sender() {
        let ours = NotifySocket::open().unwrap();
        assert_eq!(ours.receive(), None);
        let theirs = UnixDatagram::unbound().unwrap();
        theirs.send_to(b"STATUS=hello\nREADY=1\n", ours.path()).unwrap();
        theirs.send_to(b"WATCHDOG=1", ours.path()).unwrap();
        let me = i32::try_from(std::process::id()).unwrap();
        assert_eq!(ours.receive(), Some((me, Said { ready: true, ..Said::default() })));
        assert_eq!(ours.receive(), Some((me, Said { beat: true, ..Said::default() })));
        assert_eq!(ours.receive(), None);
    }

    #[test]
    fn only_whole_fields_count() {
        for nonsense in [&b""[..], b"READY=10", b"XREADY=1", b"READY=1\0", b"\xff\xfe\n\n", b"WATCHDOG=trigger"] {
            assert_eq!(said(nonsense), Said::default());
        }
    }
}
