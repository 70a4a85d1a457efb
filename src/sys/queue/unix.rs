//! Asks sock_diag(7) for one unix socket by its inode. The message is built and read as bytes, so nothing here is unsafe.

use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with};

use super::QueueError;
use crate::usage::ListenQueue;

// Names and values of linux/netlink.h, linux/sock_diag.h and linux/unix_diag.h.
const NLM_F_REQUEST: u16 = 1;
const NLMSG_ERROR: u16 = 2;
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const UDIAG_SHOW_RQLEN: u32 = 0x10;
const UNIX_DIAG_RQLEN: u16 = 4;
const UNIX_DIAG_NOCOOKIE: u32 = u32::MAX;

const AF_UNIX: u8 = 1;
const HEADER: usize = 16;
const REQUEST: usize = HEADER + 24;
/// One answer has about 60 bytes, with a name 110 more.
const ANSWER: usize = 1024;

/// The kernel answers before send(2) returns, so this never waits.
pub(super) fn listen_queue(socket: BorrowedFd<'_>) -> Result<ListenQueue, QueueError> {
    let inode = rustix::fs::fstat(socket)?.st_ino;
    let inode = u32::try_from(inode).map_err(|_| Errno::OVERFLOW)?;
    let diag = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, Some(netlink::SOCK_DIAG))?;
    send(&diag, &request(inode), SendFlags::empty())?;
    let mut answer = [0; ANSWER];
    let (length, _) = recv(&diag, &mut answer, RecvFlags::DONTWAIT)?;
    read(answer.get(..length).ok_or(QueueError::Incomplete)?)
}

/// A `nlmsghdr` and a `unix_diag_req`.
fn request(inode: u32) -> [u8; REQUEST] {
    let mut bytes = [0; REQUEST];
    let length = u32::try_from(REQUEST).expect("invariant: 40 bytes");
    bytes[0..4].copy_from_slice(&length.to_ne_bytes());
    bytes[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    bytes[6..8].copy_from_slice(&NLM_F_REQUEST.to_ne_bytes());
    bytes[16] = AF_UNIX;
    bytes[20..24].copy_from_slice(&u32::MAX.to_ne_bytes()); // any state
    bytes[24..28].copy_from_slice(&inode.to_ne_bytes());
    bytes[28..32].copy_from_slice(&UDIAG_SHOW_RQLEN.to_ne_bytes());
    bytes[32..36].copy_from_slice(&UNIX_DIAG_NOCOOKIE.to_ne_bytes());
    bytes[36..40].copy_from_slice(&UNIX_DIAG_NOCOOKIE.to_ne_bytes());
    bytes
}

/// A `nlmsghdr`, then either an error or a `unix_diag_msg` with attributes.
fn read(answer: &[u8]) -> Result<ListenQueue, QueueError> {
    match half(answer, 4) {
        Some(SOCK_DIAG_BY_FAMILY) => queue(answer.get(HEADER + 16..).unwrap_or_default()).ok_or(QueueError::Incomplete),
        Some(NLMSG_ERROR) => {
            let code = word(answer, HEADER).map(|code| code.cast_signed().wrapping_neg()).filter(|code| (1..4096).contains(code));
            Err(code.map_or(QueueError::Incomplete, |code| Errno::from_raw_os_error(code).into()))
        }
        _ => Err(QueueError::Incomplete),
    }
}

/// Looks through `rtattr`s, each as long as it says and padded to four bytes.
fn queue(mut attributes: &[u8]) -> Option<ListenQueue> {
    loop {
        let length = usize::from(half(attributes, 0)?);
        if half(attributes, 2)? == UNIX_DIAG_RQLEN {
            return Some(ListenQueue { length: word(attributes, 4)?, limit: word(attributes, 8)? });
        }
        attributes = attributes.get(length.max(4).next_multiple_of(4)..)?;
    }
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|chunk| u16::from_ne_bytes(*chunk))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|chunk| u32::from_ne_bytes(*chunk))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn answer(kind: u16, rest: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0; HEADER];
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        bytes.extend_from_slice(rest);
        bytes
    }

    #[test]
    fn attributes_before_the_queue_are_skipped() {
        let mut rest = vec![0; 16];
        rest.extend([5u16, 0].iter().flat_map(|half| half.to_ne_bytes()).chain([b's', 0, 0, 0]));
        rest.extend([12u16, UNIX_DIAG_RQLEN].iter().flat_map(|half| half.to_ne_bytes()));
        rest.extend([3u32, 128].iter().flat_map(|word| word.to_ne_bytes()));
        let whole = answer(SOCK_DIAG_BY_FAMILY, &rest);
        assert_eq!(read(&whole), Ok(ListenQueue { length: 3, limit: 128 }));
        for cut in 0..whole.len() {
            assert_eq!(read(&whole[..cut]), Err(QueueError::Incomplete), "{cut}");
        }
    }

    #[test]
    fn an_error_keeps_its_number() {
        let code = |number: i32| read(&answer(NLMSG_ERROR, &number.to_ne_bytes()));
        assert_eq!(code(-2), Err(QueueError::Refused(Errno::NOENT)));
        for nonsense in [0, 5, i32::MIN, -100_000] {
            assert_eq!(code(nonsense), Err(QueueError::Incomplete));
        }
    }

    proptest! {
        #[test]
        fn any_answer_is_survived(kind in prop::sample::select(vec![0, NLMSG_ERROR, SOCK_DIAG_BY_FAMILY]), rest: Vec<u8>) {
            let _ = read(&answer(kind, &rest));
            let _ = read(&rest);
        }
    }
}
