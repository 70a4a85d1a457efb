//! Lets another thread of this process ask the supervisor for something.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::event::{EventfdFlags, eventfd};

use crate::supervisor::event::Wish;

/// Wishes kept until they are heard; more are dropped.
const MAX_WISHES: usize = 64;

#[derive(Debug)]
struct Shared {
    wake: OwnedFd,
    wishes: Mutex<Vec<Wish>>,
}

/// The asking end.
#[derive(Clone, Debug)]
pub struct Remote(Arc<Shared>);

/// The hearing end.
#[derive(Debug)]
pub struct Inbox(Arc<Shared>);

/// A connected pair.
pub fn pair() -> io::Result<(Remote, Inbox)> {
    let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let shared = Arc::new(Shared { wake, wishes: Mutex::new(Vec::new()) });
    Ok((Remote(Arc::clone(&shared)), Inbox(shared)))
}

impl Remote {
    /// Asks for `wish` and wakes the main loop.
    pub fn ask(&self, wish: Wish) {
        let mut wishes = self.0.wishes.lock().unwrap_or_else(PoisonError::into_inner);
        if wishes.len() < MAX_WISHES {
            wishes.push(wish);
        }
        rustix::io::write(&self.0.wake, &1_u64.to_ne_bytes()).ok();
    }
}

impl Inbox {
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.0.wake.as_fd()
    }

    pub(super) fn take(&self) -> Vec<Wish> {
        rustix::io::read(&self.0.wake, &mut [0_u8; 8]).ok();
        std::mem::take(&mut self.0.wishes.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
