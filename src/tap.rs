//! Records traffic while it is served: takes a share of the connections off the listening sockets, beside the workers, and relays each
//! to the same address, byte for byte, so that it works with any kind of worker. Refuses to hold anything up: what cannot be read along
//! is only relayed, what cannot be written in time is counted and dropped, and at a limit no connection is taken.

mod account;
mod follow;
mod head;
mod reason;
mod relay;
mod sample;
mod sink;
mod stream;

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::future::Future;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Builder;
use tokio::sync::{Semaphore, watch};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{Instant, sleep_until, timeout};

pub use account::Account;
pub use follow::{Follower, MAX_BODY, Seen, Time};
pub use reason::Reason;
pub use sink::{Limits, Sink};

use crate::recording::{BodyPolicy, Scrub};
use crate::sys::accept::tcp_accepted;
use crate::sys::clock;
use crate::sys::listen::Listener;
use relay::{Phase, Shared};
use sample::Sampler;

/// The most connections that go through a tap at the same time.
pub const MAX_CONNECTIONS: u16 = 256;
/// How long connections may take to end when no more are taken.
pub const GRACE: Duration = Duration::from_mins(5);
/// For how long it is not told that they do.
const SOON: Duration = Duration::from_millis(500);
/// How long they may take to notice that they are cut.
const CUT: Duration = Duration::from_secs(1);
/// How often it is looked whether the recording is over.
const LOOK: Duration = Duration::from_millis(100);

/// For how much of the time connections are taken: more than 0, at most 1.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Share(f64);

impl Share {
    /// The least: a twentieth of a second in a minute or so.
    pub const MIN: f64 = 0.001;

    /// `share` of the time, or `None` if it is not from [`Self::MIN`] to 1.
    #[must_use]
    pub fn new(share: f64) -> Option<Self> {
        (Self::MIN..=1.0).contains(&share).then_some(Self(share))
    }

    /// How long to pause after `taking`.
    fn pause(self, taking: Duration) -> Duration {
        taking.mul_f64((1.0 - self.0) / self.0)
    }
}

/// How to record.
#[derive(Clone)]
pub struct How {
    /// How much.
    pub share: Share,
    /// For how long.
    pub duration: Duration,
    /// Whether bodies are read; what is kept of them is the scrub's decision.
    pub bodies: BodyPolicy,
    /// What is replaced before a request leaves the relay.
    pub scrub: Scrub,
    /// Decides the lengths of pauses.
    pub seed: u64,
}

/// Why nothing was recorded, or not to the end.
#[derive(Debug, thiserror::Error)]
pub enum TapError {
    /// A socket cannot be connected to.
    #[error("{0} cannot be connected to: its connections cannot be relayed")]
    NoAddress(String),
    /// Nothing was accepted within the time in which the address was tried.
    #[error("{0}: its accept queue is full, and no worker took a connection for ten seconds; record when the service keeps up")]
    Full(String),
    /// The address is not reached from here.
    #[error(
        "{address} cannot be connected to from here: {source}. What is recorded could not be passed on to the service. If it runs in a \
         container, record from within: nsenter --all --target PID tuningfork record live …, with the process id of the service"
    )]
    Unreachable {
        /// The address.
        address: String,
        /// The system's reason.
        source: io::Error,
    },
    /// The address leads to somebody else.
    #[error(
        "{0} is not the service's socket here: another program has this path, as it may in a container, or after the file was replaced. \
         What is recorded could not be passed on to the service. Record from within: nsenter --all --target PID tuningfork record live …, \
         with the process id of the service, or start the service anew"
    )]
    Elsewhere(String),
    /// The system refused something basic.
    #[error("cannot record: {0}")]
    System(#[from] io::Error),
}

/// Records from `listeners` until `ended`, for a time, until the sink is full or an address leads nowhere any more. Then the
/// listeners are closed, then `ended` and what it gave are dropped; connections that were taken have [`GRACE`] to end, or until
/// `cut`. Also says whether writing failed.
pub fn record<T>(
    listeners: Vec<Listener>,
    how: How,
    sink: Sink,
    ended: impl Future<Output = T>,
    cut: impl Future<Output = ()>,
) -> Result<(Account, io::Result<()>), TapError> {
    let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
    let connections = LocalSet::new();
    let shared = connections.block_on(&runtime, tap(listeners, how, sink, ended, cut))?;
    drop(connections);
    Ok(settle(shared))
}

async fn tap<T>(
    listeners: Vec<Listener>,
    how: How,
    sink: Sink,
    ended: impl Future<Output = T>,
    cut: impl Future<Output = ()>,
) -> Result<Rc<Shared>, TapError> {
    let (turn, phase) = watch::channel(Phase::Sampling);
    let shared = Rc::new(Shared {
        account: RefCell::new(Account::default()),
        own: RefCell::new(HashSet::new()),
        sink,
        scrub: how.scrub,
        bodies: how.bodies,
        phase,
        connections: Cell::new(0),
        is_cut_off: Cell::new(false),
    });
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS.into()));
    let samplers = listeners.iter().map(|listener| Sampler::new(listener, how.share, how.seed, &shared, &slots));
    let samplers = samplers.collect::<Result<Vec<_>, _>>()?;
    // Boxed, so that it can be dropped before the end of this function.
    let mut ended = Box::pin(ended);
    for (sampler, listener) in samplers.iter().zip(&listeners) {
        tokio::select! {
            tried = sampler.try_out(listener) => tried?,
            _ = &mut ended => return Ok(shared),
        }
    }
    let addresses: Vec<_> = listeners.iter().map(|listener| listener.address().to_string()).collect();
    tracing::info!(listen = addresses.join(", "), "recording; Ctrl-C ends it");
    drop(listeners);
    let (began, before) = (clock::now(), tcp_accepted());
    let mut tasks = JoinSet::new();
    for sampler in samplers {
        tasks.spawn_local(sampler.run());
    }
    let gave = tokio::select! {
        gave = &mut ended => Some(gave),
        () = sleep_until(Instant::now() + how.duration) => None,
        () = over(&shared) => None,
    };
    turn.send_replace(Phase::Finishing);
    while tasks.join_next().await.is_some() {}
    drop((gave, ended));
    {
        let mut account = shared.account.borrow_mut();
        account.lasted = clock::now().since(began);
        let all = tcp_accepted().zip(before).map(|(after, before)| after.saturating_sub(before));
        account.host_tcp = all.map(|all| all.saturating_sub(account.own_tcp));
    }
    finish(&turn, &slots, &shared, cut).await;
    Ok(shared)
}

/// Waits until nothing more can be recorded.
async fn over(shared: &Shared) {
    while !shared.sink.is_full() && !shared.is_cut_off.get() {
        sleep_until(Instant::now() + LOOK).await;
    }
}

/// Lets connections end, and then makes them.
async fn finish(turn: &watch::Sender<Phase>, slots: &Semaphore, shared: &Shared, cut: impl Future<Output = ()>) {
    let all = || slots.acquire_many(MAX_CONNECTIONS.into());
    let open = || u64::from(MAX_CONNECTIONS).saturating_sub(slots.available_permits() as u64);
    if timeout(SOON, all()).await.is_ok() {
        return;
    }
    let minutes = GRACE.as_secs() / 60;
    tracing::info!(connections = open(), "the recording ends with these: for at most {minutes} minutes; Ctrl-C cuts them");
    tokio::select! {
        _ = all() => return,
        () = sleep_until(Instant::now() + GRACE) => {}
        () = cut => {}
    }
    shared.account.borrow_mut().cut = open();
    turn.send_replace(Phase::Cut);
    // They look at once; whoever does not is dropped with the runtime.
    let _ = timeout(CUT, all()).await;
}

fn settle(shared: Rc<Shared>) -> (Account, io::Result<()>) {
    let shared = Rc::into_inner(shared).expect("invariant: the connections were dropped");
    let written = shared.sink.finish();
    let mut account = shared.account.into_inner();
    account.recorded = written.requests;
    account.written = written.bytes;
    account.skip(if written.outcome.is_ok() { Reason::TooLate } else { Reason::Unwritten }, written.lost);
    (account, written.outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_a_part_of_the_time() {
        let taking = Duration::from_millis(50);
        assert_eq!(Share::new(1.0).unwrap().pause(taking), Duration::ZERO);
        assert_eq!(Share::new(0.1).unwrap().pause(taking), Duration::from_millis(450));
        for wrong in [0.0, -1.0, 1.1, f64::NAN, f64::INFINITY] {
            assert_eq!(Share::new(wrong), None);
        }
    }
}
