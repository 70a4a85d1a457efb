//! Lets another thread of this process ask the supervisor for something, and hear what becomes of it.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{EventfdFlags, eventfd};
use tokio::sync::oneshot;

use crate::supervisor::event::{Answer, Event, RequestId, Wish};

/// Wishes kept until they are heard, and answers awaited; more are refused.
const MAX_WISHES: usize = 64;

#[derive(Debug)]
struct Shared {
    wake: OwnedFd,
    desk: Mutex<Desk>,
}

#[derive(Debug, Default)]
struct Desk {
    unheard: Vec<Event>,
    awaited: BTreeMap<RequestId, oneshot::Sender<Answer>>,
    last: u64,
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
    let shared = Arc::new(Shared { wake, desk: Mutex::default() });
    Ok((Remote(Arc::clone(&shared)), Inbox(shared)))
}

impl Remote {
    /// Asks for `wish` and wakes the main loop.
    pub fn ask(&self, wish: Wish) {
        let mut desk = self.0.desk();
        if desk.unheard.len() < MAX_WISHES {
            desk.unheard.push(Event::Asked(wish));
        }
        drop(desk);
        self.0.wake();
    }

    /// The same, and the answer comes as [`Remote::answer`] is told it. `None`: too many wait already.
    #[must_use]
    pub fn request(&self, wish: Wish) -> Option<oneshot::Receiver<Answer>> {
        let mut desk = self.0.desk();
        desk.awaited.retain(|_, awaited| !awaited.is_closed());
        if desk.unheard.len() >= MAX_WISHES || desk.awaited.len() >= MAX_WISHES {
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        desk.last += 1;
        let request = RequestId(desk.last);
        desk.unheard.push(Event::Requested { request, wish });
        desk.awaited.insert(request, sender);
        drop(desk);
        self.0.wake();
        Some(receiver)
    }

    /// Tells whoever made `request` what becomes of it.
    pub fn answer(&self, request: RequestId, answer: Answer) {
        if let Some(awaited) = self.0.desk().awaited.remove(&request) {
            // Who went away meanwhile is told nothing.
            awaited.send(answer).ok();
        }
    }
}

impl Inbox {
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.0.wake.as_fd()
    }

    pub(super) fn take(&self) -> Vec<Event> {
        rustix::io::read(&self.0.wake, &mut [0_u8; 8]).ok();
        std::mem::take(&mut self.0.desk().unheard)
    }
}

impl Shared {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        rustix::io::write(&self.wake, &1_u64.to_ne_bytes()).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::event::{Granted, Refusal};

    #[test]
    fn an_answer_reaches_who_asked_and_who_left_takes_no_room() {
        let (remote, inbox) = pair().unwrap();
        for _ in 0..2 * MAX_WISHES {
            drop(remote.request(Wish::Reload).unwrap());
            inbox.take();
        }
        let mut first = remote.request(Wish::Reload).unwrap();
        let mut second = remote.request(Wish::Upgrade).unwrap();
        let heard = inbox.take();
        let [Event::Requested { request: one, wish: Wish::Reload }, Event::Requested { request: other, wish: Wish::Upgrade }] =
            heard[..]
        else {
            panic!("{heard:?}")
        };
        remote.answer(other, Err(Refusal::Stopping));
        remote.answer(one, Ok(Granted::Now));
        assert_eq!((first.try_recv().unwrap(), second.try_recv().unwrap()), (Ok(Granted::Now), Err(Refusal::Stopping)));
    }

    #[test]
    fn more_than_can_be_kept_is_refused() {
        let (remote, inbox) = pair().unwrap();
        let _waiting: Vec<_> = (0..MAX_WISHES).map(|_| remote.request(Wish::Reload).unwrap()).collect();
        assert!(remote.request(Wish::Reload).is_none());
        remote.ask(Wish::Reload);
        assert_eq!(inbox.take().len(), MAX_WISHES);
    }
}
