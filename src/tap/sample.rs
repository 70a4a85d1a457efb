//! Takes a share of the connections of one listening socket, whole ones, beside the workers. Which ones, the kernel decides.
//!
//! What is taken is connected to the same address again, so that any worker can have it. It waits there in the same queue, where the
//! tap might take it once more, and again, if no worker does. So no connection is taken from when the last one was connected until its
//! first answer; if that takes long, for a time that doubles whenever one of our own comes back.

use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::spawn_local;
use tokio::time::{Instant, sleep_until};

use super::relay::{Phase, Relay, Shared};
use super::stream::{Stream, Upstream};
use super::{Share, TapError};
use crate::recording::uniform;
use crate::sys::accept::{Accepted, Acceptor};
use crate::sys::clock;
use crate::sys::listen::Listener;
use crate::units::Moment;

/// How long connections are taken before a pause that makes the share.
const WINDOW: Duration = Duration::from_millis(50);
/// How long an answer is waited for before the next connection is taken; at first, and at most.
const PATIENCE: Duration = Duration::from_millis(250);
const MAX_PATIENCE: Duration = Duration::from_secs(8);
/// How long taking pauses when the process or the system has run out of something.
const REFUSED_PAUSE: Duration = Duration::from_millis(100);
/// How long an acceptor may be late before it is asked for its answer, and how often.
const NUDGE: Duration = Duration::from_millis(2);

/// One listening socket.
pub(super) struct Sampler {
    upstream: Upstream,
    acceptor: Acceptor,
    answers: mpsc::UnboundedReceiver<Accepted>,
    shared: Rc<Shared>,
    slots: Arc<Semaphore>,
    share: Share,
    seed: u64,
    patience: Duration,
}

impl Sampler {
    pub(super) fn new(
        listener: &Listener,
        share: Share,
        seed: u64,
        shared: &Rc<Shared>,
        slots: &Arc<Semaphore>,
    ) -> Result<Self, TapError> {
        let upstream = Upstream::of(listener.address()).ok_or_else(|| TapError::NoAddress(listener.address().to_string()))?;
        // One answer at a time is under way, so nothing piles up.
        let (answer, answers) = mpsc::unbounded_channel();
        let fd = listener.fd().try_clone_to_owned()?;
        let acceptor = Acceptor::start(fd, move |accepted| drop(answer.send(accepted)))?;
        let (shared, slots) = (Rc::clone(shared), Arc::clone(slots));
        Ok(Self { upstream, acceptor, answers, shared, slots, share, seed, patience: PATIENCE })
    }

    /// Fails if clients could not be passed on.
    pub(super) async fn try_out(&self, listener: &Listener) -> Result<(), TapError> {
        self.upstream.try_out(listener).await
    }

    /// Takes connections until the phase changes. The socket is closed when this ends.
    pub(super) async fn run(mut self) {
        let mut turn = 0;
        while self.is_sampling() {
            self.window().await;
            let pause = self.share.pause(WINDOW).mul_f64(0.5 + uniform(self.seed, turn));
            turn += 1;
            self.wait(pause).await;
        }
    }

    /// Takes connections for a while.
    async fn window(&mut self) {
        let until = clock::now().after(WINDOW);
        while self.is_sampling() && clock::now() < until {
            let Some(slot) = self.slot().await else { return };
            match self.accept(until).await {
                Ok(Some(connection)) => {
                    if self.take(connection, slot).await.is_err() {
                        self.shared.account.borrow_mut().failed += 1;
                    }
                }
                Ok(None) => return,
                Err(_) => {
                    self.shared.account.borrow_mut().refused += 1;
                    self.wait(REFUSED_PAUSE).await;
                }
            }
        }
    }

    fn is_sampling(&self) -> bool {
        *self.shared.phase.borrow() == Phase::Sampling && !self.shared.is_cut_off.get()
    }

    async fn wait(&self, span: Duration) {
        let mut phase = self.shared.phase.clone();
        tokio::select! {
            _ = phase.wait_for(|phase| *phase != Phase::Sampling) => {}
            () = sleep_until(Instant::now() + span) => {}
        }
    }

    /// The right to one more connection, or `None` if the time is over first.
    async fn slot(&self) -> Option<OwnedSemaphorePermit> {
        let mut phase = self.shared.phase.clone();
        tokio::select! {
            _ = phase.wait_for(|phase| *phase != Phase::Sampling) => None,
            slot = Arc::clone(&self.slots).acquire_owned() => slot.ok(),
        }
    }

    /// One connection, if one comes in time. One that was accepted is never lost.
    async fn accept(&mut self, until: Moment) -> Accepted {
        let mut phase = self.shared.phase.clone();
        let mut nudge = Instant::now() + until.since(clock::now()) + NUDGE;
        let mut is_ending = false;
        self.acceptor.accept(until);
        loop {
            tokio::select! {
                answer = self.answers.recv() => return answer.unwrap_or(Ok(None)),
                _ = phase.wait_for(|phase| *phase != Phase::Sampling), if !is_ending => {
                    is_ending = true;
                    nudge = Instant::now();
                }
                () = sleep_until(nudge) => {
                    self.acceptor.nudge();
                    nudge = Instant::now() + NUDGE;
                }
            }
        }
    }

    /// Relays a connection, and waits until the next one may be taken.
    async fn take(&mut self, connection: OwnedFd, slot: OwnedSemaphorePermit) -> io::Result<()> {
        let client = self.upstream.adopt(connection)?;
        let came_back = client.is_from_here() || client.peer().is_some_and(|peer| self.shared.own.borrow().contains(&peer));
        let (tell_connected, connected) = oneshot::channel();
        let (tell, told) = oneshot::channel();
        let (shared, upstream) = (Rc::clone(&self.shared), self.upstream.clone());
        // On its own: the listening socket may have to be given back before there is a place in the queue.
        spawn_local(async move {
            let _slot = slot;
            let mut phase = shared.phase.clone();
            let connected = tokio::select! {
                connected = upstream.connect() => connected,
                _ = phase.wait_for(|phase| *phase == Phase::Cut) => Err(ErrorKind::TimedOut.into()),
            };
            let server = match connected {
                Ok(server) => server,
                Err(error) => return failed(&shared, &error),
            };
            count(&shared, &client, came_back);
            let relay = if came_back { Relay::of_ourselves(&shared, &server) } else { Relay::of_client(&shared, &server) };
            // Nobody waits for it at the end.
            let _ = tell_connected.send(());
            relay.run(client, server, tell).await;
        });
        let mut phase = self.shared.phase.clone();
        tokio::select! {
            connected = connected => if connected.is_err() { return Ok(()) },
            _ = phase.wait_for(|phase| *phase != Phase::Sampling) => return Ok(()),
        }
        if came_back {
            self.patience = (self.patience * 2).min(MAX_PATIENCE);
        }
        let patience = self.patience;
        tokio::select! {
            // Answered or ended: in both cases it is not in the queue.
            _ = told => self.patience = PATIENCE,
            () = self.wait(patience) => {}
        }
        Ok(())
    }
}

/// A client is lost. It is the last one if there is no way to the workers any more.
fn failed(shared: &Shared, error: &io::Error) {
    shared.account.borrow_mut().failed += 1;
    if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused | ErrorKind::PermissionDenied) {
        tracing::warn!(%error, "the service cannot be connected to any more: the recording ends");
        shared.is_cut_off.set(true);
    }
}

fn count(shared: &Shared, client: &Stream, came_back: bool) {
    let mut account = shared.account.borrow_mut();
    match (came_back, client) {
        (true, _) => account.again += 1,
        (false, Stream::Tcp(_)) => account.tcp += 1,
        (false, Stream::Unix(_)) => account.unix += 1,
    }
    account.own_tcp += u64::from(matches!(client, Stream::Tcp(_)));
}
