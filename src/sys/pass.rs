//! Descriptors handed from one process to another over a unix stream socket (unix(7), SCM_RIGHTS).

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::cmsg_space;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};

/// The most descriptors in one message; Linux' own limit is 253 (SCM_MAX_FD).
pub const MAX_PASSED: usize = 64;

/// Sends bytes and, with the first of them, copies of `fds`. Returns how many bytes went; the descriptors went if any did.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let fds: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    if fds.len() > MAX_PASSED {
        return Err(io::Error::other("too many descriptors for one message"));
    }
    let rights = [ControlMessage::ScmRights(&fds)];
    let control = if fds.is_empty() { &[][..] } else { &rights };
    let sent = sendmsg::<()>(socket.as_raw_fd(), &[IoSlice::new(bytes)], control, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(sent)
}

/// Receives bytes, and the descriptors that came with them. Zero bytes: the other side has closed.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut control = cmsg_space!([RawFd; MAX_PASSED]);
    let mut slices = [IoSliceMut::new(buffer)];
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut slices, Some(&mut control), MsgFlags::MSG_CMSG_CLOEXEC)?;
    let mut received = Vec::new();
    for passed in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = passed {
            received.extend(fds.into_iter().map(own));
        }
    }
    Ok((message.bytes, received))
}

/// The user this process acts as.
#[must_use]
pub fn own_user() -> u32 {
    nix::unistd::geteuid().as_raw()
}

#[expect(unsafe_code, reason = "a descriptor number from the kernel becomes an owned descriptor")]
fn own(fd: RawFd) -> OwnedFd {
    // SAFETY: recvmsg(2) has just made this descriptor for us, and nothing else knows its number.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn what_is_sent_arrives_and_works() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (mut left, right) = UnixStream::pair().unwrap();
        assert_eq!(send(ours.as_fd(), b"two\n", &[right.as_fd(), right.as_fd()]).unwrap(), 4);
        assert_eq!(send(ours.as_fd(), b"none\n", &[]).unwrap(), 5);
        drop((ours, right));
        let mut buffer = [0; 64];
        let (length, mut fds) = receive(theirs.as_fd(), &mut buffer).unwrap();
        assert_eq!((&buffer[..length], fds.len()), (&b"two\n"[..], 2));
        let mut passed = UnixStream::from(fds.remove(0));
        passed.write_all(b"x").unwrap();
        let mut byte = [0];
        left.read_exact(&mut byte).unwrap();
        assert_eq!(byte, *b"x");
        let (length, fds) = receive(theirs.as_fd(), &mut buffer).unwrap();
        assert_eq!((&buffer[..length], fds.len()), (&b"none\n"[..], 0));
        assert_eq!(receive(theirs.as_fd(), &mut buffer).unwrap().0, 0);
    }
}
