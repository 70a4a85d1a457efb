//! Listening sockets that whoever started this process handed to it (sd_listen_fds(3)). Refuses descriptors that are not listening
//! sockets, and a second taking.

use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::OFlags;
use rustix::io::FdFlags;
use thiserror::Error;

/// SD_LISTEN_FDS_START.
const FIRST: RawFd = 3;
/// More sockets than this are a mistake.
const MOST: u16 = 64;

static TAKEN: AtomicBool = AtomicBool::new(false);

/// Why no socket could be taken.
#[derive(Debug, Error)]
pub enum Error {
    /// LISTEN_FDS or LISTEN_PID is missing, or meant for another process.
    #[error("no listening socket was handed over: LISTEN_FDS and LISTEN_PID must name this process")]
    None,
    /// LISTEN_FDS is not a number from 1 to 64.
    #[error("LISTEN_FDS is {0:?}, not a number from 1 to {MOST}")]
    Count(String),
    /// A descriptor that was announced is closed, or something else.
    #[error("descriptor {0} was announced by LISTEN_FDS and is not a listening socket")]
    NotListening(RawFd),
    /// They were taken before.
    #[error("the listening sockets were taken before")]
    Taken,
}

/// Takes ownership of the sockets announced by `LISTEN_FDS`, in order; they are made non-blocking and close-on-exec.
pub fn take_listeners() -> Result<Vec<OwnedFd>, Error> {
    let meant_for_us = std::env::var("LISTEN_PID").is_ok_and(|pid| pid == std::process::id().to_string());
    let Some(count) = std::env::var("LISTEN_FDS").ok().filter(|_| meant_for_us) else {
        return Err(Error::None);
    };
    let number = match count.parse::<u16>() {
        Ok(number) if (1..=MOST).contains(&number) => number,
        Ok(_) | Err(_) => return Err(Error::Count(count)),
    };
    if TAKEN.swap(true, Ordering::SeqCst) {
        return Err(Error::Taken);
    }
    (FIRST..FIRST + RawFd::from(number)).map(take).collect()
}

#[expect(unsafe_code, reason = "a number from the environment becomes a descriptor that is owned")]
fn take(number: RawFd) -> Result<OwnedFd, Error> {
    // SAFETY: only borrowed for the questions below; the kernel answers EBADF for a number that is not open.
    let candidate = unsafe { BorrowedFd::borrow_raw(number) };
    let prepared = rustix::net::sockopt::socket_acceptconn(candidate).is_ok_and(|listening| listening)
        && rustix::io::fcntl_setfd(candidate, FdFlags::CLOEXEC).is_ok()
        && rustix::fs::fcntl_getfl(candidate)
            .and_then(|flags| rustix::fs::fcntl_setfl(candidate, flags | OFlags::NONBLOCK))
            .is_ok();
    if !prepared {
        return Err(Error::NotListening(number));
    }
    // SAFETY: it is open, nobody in this program opened it (it was announced at start), and TAKEN lets this happen once.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}
