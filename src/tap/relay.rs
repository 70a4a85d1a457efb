//! One connection through the tap: every byte as it came, in both directions, each as fast as the slower side. A copy is read along.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, sink, split};
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::account::Account;
use super::follow::{Follower, Seen, Time};
use super::reason::Reason;
use super::sink::Sink;
use super::stream::Stream;
use crate::recording::{BodyPolicy, Scrub, UnixNanos};
use crate::sys::clock;

/// Bytes that are under way in one direction of a connection, beside the sockets' own.
const BUFFER: usize = 16 << 10;
/// How long one direction may go on when the other has come to nothing: a client may keep a connection that the server has closed, a
/// server may read what a client sent before it left.
const LINGER: Duration = Duration::from_secs(30);
/// How long a kept-alive connection has to be quiet before it is closed at the end: whoever is just sending would get no answer.
const QUIET: Duration = Duration::from_millis(250);
/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(50);

/// What a tap is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Connections are taken.
    Sampling,
    /// Those that were taken are brought to their end.
    Finishing,
    /// Those that are left end now.
    Cut,
}

/// What all connections share.
pub(super) struct Shared {
    pub(super) account: RefCell<Account>,
    /// Our ends of TCP connections to the workers.
    pub(super) own: RefCell<HashSet<SocketAddr>>,
    pub(super) sink: Sink,
    pub(super) scrub: Scrub,
    pub(super) bodies: BodyPolicy,
    pub(super) phase: watch::Receiver<Phase>,
    /// Connections of clients so far.
    pub(super) connections: Cell<u64>,
    /// An address leads nowhere any more.
    pub(super) is_cut_off: Cell<bool>,
}

/// A connection that is relayed.
pub(super) struct Relay {
    shared: Rc<Shared>,
    /// `None` for one that went through the tap before.
    follower: Option<RefCell<Follower>>,
    /// Our end of the connection to the workers.
    own: Option<SocketAddr>,
}

impl Relay {
    /// A client's connection.
    pub(super) fn of_client(shared: &Rc<Shared>, server: &Stream) -> Self {
        shared.connections.set(shared.connections.get() + 1);
        let follower = Follower::new(shared.connections.get(), shared.bodies, clock::now());
        Self::new(shared, Some(RefCell::new(follower)), server)
    }

    /// A connection of our own that came back.
    pub(super) fn of_ourselves(shared: &Rc<Shared>, server: &Stream) -> Self {
        Self::new(shared, None, server)
    }

    fn new(shared: &Rc<Shared>, follower: Option<RefCell<Follower>>, server: &Stream) -> Self {
        let own = server.local();
        shared.own.borrow_mut().extend(own);
        Self { shared: Rc::clone(shared), follower, own }
    }

    /// Relays until both sides have ended, one has gone, or it is time to end. `answered` is told of the server's first byte.
    pub(super) async fn run(self, mut client: Stream, mut server: Stream, answered: oneshot::Sender<()>) {
        if self.relay(&mut client, &mut server, answered).await == Over::Reset {
            client.reset().await;
        }
    }

    async fn relay(&self, client: &mut Stream, server: &mut Stream, answered: oneshot::Sender<()>) -> Over {
        let (mut from_client, mut to_client) = split(client);
        let (mut from_server, mut to_server) = split(server);
        let mut answered = Some(answered);
        let (is_refused, client_speaks, client_left) = (Cell::new(false), Cell::new(true), Cell::new(false));
        let up = async {
            let ended = pump(&mut from_client, &mut to_server, |bytes| self.see_client(bytes)).await;
            if ended == Ended::Refused {
                is_refused.set(true);
                // The answer may be there already. A connection that is closed while its client is still sending is reset, and the
                // answer is lost on the way: so what it sends is taken off it (RFC 9112, 9.6).
                return pump(&mut from_client, &mut sink(), |bytes| self.see_client(bytes)).await;
            }
            // Fails if the other side has gone meanwhile; reading from it tells.
            let _ = to_server.shutdown().await;
            ended
        };
        let down = async {
            let ended = pump(&mut from_server, &mut to_client, |bytes| {
                drop(answered.take());
                self.see_server(bytes);
            });
            let ended = ended.await;
            // After a reset nobody knows whether that was all.
            let is_reset = ended == Ended::Broken || ended == Ended::Whole && is_refused.get();
            if is_reset && !self.is_answered() {
                return Over::Reset;
            }
            if ended == Ended::Refused {
                client_left.set(true);
                // What the client sent is still on its way to a worker who may be writing, and reads when that is taken off it.
                if client_speaks.get() {
                    let _ = timeout(LINGER, pump(&mut from_server, &mut sink(), |bytes| self.see_server(bytes))).await;
                }
                return Over::Closed;
            }
            if ended == Ended::Whole {
                self.see_server_close();
            }
            let _ = to_client.shutdown().await;
            Over::Closed
        };
        tokio::pin!(up, down);
        let mut give_up = None;
        loop {
            let lingering = give_up.unwrap_or_else(|| Instant::now() + LINGER);
            tokio::select! {
                ended = &mut up, if client_speaks.get() => {
                    client_speaks.set(false);
                    if ended == Ended::Broken || give_up.is_some() || client_left.get() { return Over::Closed }
                }
                over = &mut down, if give_up.is_none() => {
                    if over == Over::Reset || !client_speaks.get() || client_left.get() { return over }
                    give_up = Some(Instant::now() + LINGER);
                }
                () = sleep_until(lingering), if give_up.is_some() => return Over::Closed,
                () = self.time_to_end() => return Over::Closed,
            }
        }
    }

    /// Waits for the end of the tap and then for a moment in which nothing is under way here.
    async fn time_to_end(&self) {
        let mut phase = self.shared.phase.clone();
        // A phase that nobody can change any more is the last.
        let _ = phase.wait_for(|phase| *phase != Phase::Sampling).await;
        loop {
            let quiet = self.follower.as_ref().and_then(|follower| follower.borrow().quiet_since());
            let is_quiet = quiet.is_some_and(|since| clock::now().since(since) >= QUIET);
            if is_quiet || *phase.borrow() == Phase::Cut {
                return;
            }
            tokio::select! {
                _ = phase.wait_for(|phase| *phase == Phase::Cut) => {}
                () = sleep_until(Instant::now() + LOOK) => {}
            }
        }
    }

    /// Whether nothing is missing that the server was asked for, as far as anybody knows.
    fn is_answered(&self) -> bool {
        self.follower.as_ref().is_some_and(|follower| follower.borrow().is_answered())
    }

    fn see_client(&self, bytes: &[u8]) {
        self.shared.account.borrow_mut().bytes[0] += bytes.len() as u64;
        let Some(follower) = &self.follower else { return };
        let seen = follower.borrow_mut().client_said(bytes, now());
        for seen in seen {
            self.note(seen);
        }
    }

    fn see_server(&self, bytes: &[u8]) {
        self.shared.account.borrow_mut().bytes[1] += bytes.len() as u64;
        let seen = self.follower.as_ref().and_then(|follower| follower.borrow_mut().server_said(bytes, clock::now()));
        self.note_if(seen);
    }

    fn see_server_close(&self) {
        let seen = self.follower.as_ref().and_then(|follower| follower.borrow_mut().server_closed(clock::now()));
        self.note_if(seen);
    }

    fn note_if(&self, seen: Option<Seen>) {
        if let Some(seen) = seen {
            self.note(seen);
        }
    }

    fn note(&self, seen: Seen) {
        let mut account = self.shared.account.borrow_mut();
        match seen {
            Seen::Request(mut request) => {
                self.shared.scrub.request(&mut request);
                if let Err(reason) = self.shared.sink.record(*request) {
                    account.skip(reason, 1);
                }
            }
            Seen::Skipped(reason) => account.skip(reason, 1),
            Seen::Lost(reason) => {
                let is_open = self.follower.as_ref().is_some_and(|follower| follower.borrow().is_open());
                account.skip(reason, u64::from(is_open));
                account.unread += u64::from(reason != Reason::CutOff);
            }
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(own) = self.own {
            self.shared.own.borrow_mut().remove(&own);
        }
        let seen = self.follower.as_ref().and_then(|follower| follower.borrow_mut().ended());
        self.note_if(seen);
    }
}

/// How a connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    /// In order, or so that the client notices.
    Closed,
    /// The workers' side was reset in the middle of an answer. A client whose answers end with the connection would take it for whole.
    Reset,
}

/// How one direction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// Nothing more is sent.
    Whole,
    /// It cannot be read further: who sent has gone.
    Broken,
    /// It cannot be sent on: who received has gone, or takes no more.
    Refused,
}

/// Copies one direction to its end. Every piece is shown before it is sent on, so that a question is always seen before its answer.
async fn pump(from: &mut (impl AsyncRead + Unpin), to: &mut (impl AsyncWrite + Unpin), mut see: impl FnMut(&[u8])) -> Ended {
    let mut buffer = vec![0; BUFFER];
    loop {
        let piece = match from.read(&mut buffer).await {
            Ok(0) => return Ended::Whole,
            Ok(length) => &buffer[..length],
            Err(_) => return Ended::Broken,
        };
        see(piece);
        if to.write_all(piece).await.is_err() {
            return Ended::Refused;
        }
    }
}

fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Time { moment: clock::now(), unix: UnixNanos(i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)) }
}

#[cfg(test)]
mod tests;
