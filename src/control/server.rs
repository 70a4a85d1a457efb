//! The supervisor's side, on a thread of its own.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Builder;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{Instant, sleep_until, timeout};

use super::{Excerpt, Granted, Lent, MAX_REQUEST, Reply, Request, Status};
use crate::config::{Address, Listen};
use crate::supervisor::event::{self, Answer, Wish};
use crate::sys::listen::{ListenError, Listeners, StdListener};
use crate::sys::log::{self, Log};
use crate::sys::pass;
use crate::units::Slot;

/// The thread's name in `ps -L` and its stack.
const THREAD: &str = "control";
const STACK_BYTES: usize = 512 << 10;
/// Connections at a time; others wait.
const MAX_CONNECTIONS: usize = 8;
/// How many of them may read the log: others must get through.
const MAX_FOLLOWERS: usize = 4;
/// Connections that may wait.
const BACKLOG: u32 = 16;
/// Only the owner may connect.
const MODE: u32 = 0o600;
/// How long a client may take to say a line or to take a reply.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a borrower may take to give the listening sockets back when the service ends.
const FAREWELL: Duration = Duration::from_secs(1);
/// How often it is looked whether the service ends, while its sockets are lent.
const LOOK: Duration = Duration::from_millis(100);
/// How long who watches is kept waiting for a change, and how often it is looked for one.
const LONGEST_WATCH: Duration = Duration::from_secs(1);
const GLANCE: Duration = Duration::from_millis(20);
/// How long accepting pauses when the process or the system has run out of something.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What the server tells and lends. Asked on the server's thread.
pub trait Source: Send + 'static {
    /// How the service is, with what its workers used.
    fn status(&self) -> Status;
    /// How the service is.
    fn progress(&self) -> Status;
    /// [`Status::changes`]. Asked often.
    fn changes(&self) -> u64;
    /// Passes a wish on; the answer comes soon. `None`: too many wait.
    fn ask(&self, wish: Wish) -> Option<oneshot::Receiver<Answer>>;
    /// Whether the service is about to end. Asked often.
    fn is_stopping(&self) -> bool;
    /// Its log.
    fn log(&self) -> &Log;
    /// Its listening sockets.
    fn listeners(&self) -> &Listeners;
}

/// The thread. Dropping it ends it and removes the socket.
#[derive(Debug)]
pub struct Server {
    stop: Option<watch::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    _socket: Arc<Listeners>,
}

impl Server {
    /// How its socket is made: only the owner may connect.
    #[must_use]
    pub fn listen(path: &Path) -> Listen {
        Listen { addresses: vec![Address::Unix(path.to_owned())], backlog: BACKLOG, mode: MODE, owner: None }
    }

    /// Answers on `socket` from `source`.
    pub fn start(socket: Arc<Listeners>, source: impl Source) -> Result<Self, ListenError> {
        let bound = socket.all().first().expect("invariant: one address was bound");
        let other = |source| ListenError::Other { address: bound.address().to_string(), source };
        // Whoever connects sees who listened last (unix(7), SO_PEERCRED): us, and not whose socket we took over.
        bound.listen_anew(BACKLOG).map_err(other)?;
        let bound = bound.to_std().map_err(other)?;
        let StdListener::Unix(listener) = bound else { return Err(other(io::ErrorKind::Unsupported.into())) };
        let runtime = Builder::new_current_thread().enable_io().enable_time().build().map_err(other)?;
        let listener = {
            let _entered = runtime.enter();
            UnixListener::from_std(listener).map_err(other)?
        };
        let (stop, stopped) = watch::channel(());
        let desk = move || {
            let desk = Rc::new(Desk {
                source,
                user: pass::own_user(),
                lease: Semaphore::new(1),
                followers: Semaphore::new(MAX_FOLLOWERS),
                stopped,
            });
            LocalSet::new().block_on(&runtime, serve(listener, desk));
        };
        let thread = thread::Builder::new().name(THREAD.to_owned()).stack_size(STACK_BYTES).spawn(desk).map_err(other)?;
        Ok(Self { stop: Some(stop), thread: Some(thread), _socket: socket })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic was reported when it happened; there is nothing to add.
            let _ = thread.join();
        }
    }
}

/// What all conversations share.
struct Desk<S> {
    source: S,
    /// Who may ask, beside root.
    user: u32,
    /// The right to borrow the listening sockets.
    lease: Semaphore,
    /// Room for who reads the log.
    followers: Semaphore,
    /// Closed when the server stops.
    stopped: watch::Receiver<()>,
}

async fn serve<S: Source>(listener: UnixListener, desk: Rc<Desk<S>>) {
    let mut stopped = desk.stopped.clone();
    let mut guests = JoinSet::new();
    loop {
        while guests.try_join_next().is_some() {}
        let accepted = tokio::select! {
            biased;
            _ = stopped.changed() => break,
            _ = guests.join_next(), if guests.len() >= MAX_CONNECTIONS => continue,
            accepted = listener.accept(), if guests.len() < MAX_CONNECTIONS => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let desk = Rc::clone(&desk);
                // A client that goes away or is too slow is no news.
                guests.spawn_local(async move { desk.converse(stream).await.ok() });
            }
            Err(_) => sleep_until(Instant::now() + ACCEPT_PAUSE).await,
        }
    }
    drop(listener);
    // Whoever is left after that is cut off.
    let _ = timeout(FAREWELL, async { while guests.join_next().await.is_some() {} }).await;
}

impl<S: Source> Desk<S> {
    /// One connection, request by request.
    async fn converse(&self, mut stream: UnixStream) -> io::Result<()> {
        let asks = stream.peer_cred()?.uid();
        if asks != 0 && asks != self.user {
            tracing::warn!(user = asks, "refused at the control socket");
            let refusal = format!("only root and user {} may use this socket", self.user);
            return say::<()>(&mut stream, &Reply::Error(refusal), &[]).await;
        }
        let mut stopped = self.stopped.clone();
        let mut unread = Vec::new();
        loop {
            let line = tokio::select! {
                _ = stopped.changed() => return Ok(()),
                line = timeout(PATIENCE, read_line(&mut stream, &mut unread)) => line??,
            };
            match serde_json::from_slice(&line) {
                Ok(Request::Status) => say(&mut stream, &Reply::Ok(self.source.status()), &[]).await?,
                Ok(Request::Progress { after }) => {
                    tokio::select! {
                        _ = stopped.changed() => return Ok(()),
                        () = self.next_change(after) => {}
                    }
                    say(&mut stream, &Reply::Ok(self.source.progress()), &[]).await?;
                }
                Ok(Request::Listeners) => self.lend(&mut stream).await?,
                Ok(Request::Logs { slot, follow }) => {
                    let Ok(_seat) = self.followers.try_acquire() else {
                        let refusal = format!("{MAX_FOLLOWERS} others read the log already");
                        say::<()>(&mut stream, &Reply::Error(refusal), &[]).await?;
                        continue;
                    };
                    self.read_log(&mut stream, slot.map(Slot), follow, &mut stopped).await?;
                }
                Ok(request) => say(&mut stream, &self.change(request, &mut stopped).await, &[]).await?,
                Err(error) => say::<()>(&mut stream, &Reply::Error(format!("not a request: {error}")), &[]).await?,
            }
        }
    }

    /// Waits for something to change, but not for long.
    async fn next_change(&self, after: Option<u64>) {
        let deadline = Instant::now() + LONGEST_WATCH;
        while after == Some(self.source.changes()) && Instant::now() < deadline {
            sleep_until(Instant::now() + GLANCE).await;
        }
    }

    /// Tells what is remembered of the log, then what comes.
    async fn read_log(
        &self,
        stream: &mut UnixStream,
        slot: Option<Slot>,
        follow: bool,
        stopped: &mut watch::Receiver<()>,
    ) -> io::Result<()> {
        let mut newest = self.source.log().newest();
        let mut after = 0;
        loop {
            newest.mark_unchanged();
            let log::Excerpt { lines, last, skipped, more } = self.source.log().excerpt(after, slot);
            after = last;
            if !lines.is_empty() || skipped > 0 || !follow {
                say(stream, &Reply::Ok(Excerpt { lines, skipped, more }), &[]).await?;
            }
            if more {
                continue;
            }
            if !follow {
                return Ok(());
            }
            tokio::select! {
                _ = stopped.changed() => return Err(io::ErrorKind::ConnectionAborted.into()),
                () = closed(stream) => return Err(io::ErrorKind::ConnectionAborted.into()),
                _ = newest.changed() => {}
            }
        }
    }

    /// Has the main loop decide about a wish.
    async fn change(&self, request: Request, stopped: &mut watch::Receiver<()>) -> Reply<Granted> {
        let busy = || Reply::Error("the supervisor does not get round to it; try again".to_owned());
        let Some(answer) = request.wish().and_then(|wish| self.source.ask(wish)) else {
            return busy();
        };
        tracing::info!("asked at the control socket: {request}");
        let answer = tokio::select! {
            _ = stopped.changed() => return Reply::Error(event::Refusal::Stopping.to_string()),
            answer = timeout(PATIENCE, answer) => answer,
        };
        match answer {
            Ok(Ok(Ok(granted))) => Reply::Ok(granted.into()),
            Ok(Ok(Err(refusal))) => Reply::Error(refusal.to_string()),
            Ok(Err(_)) | Err(_) => busy(),
        }
    }

    /// Passes the listening sockets and waits until they are given back.
    async fn lend(&self, stream: &mut UnixStream) -> io::Result<()> {
        let Ok(_lease) = self.lease.try_acquire() else {
            let refusal = "the listening sockets are lent already: another recording runs".to_owned();
            return say::<()>(stream, &Reply::Error(refusal), &[]).await;
        };
        let all = self.source.listeners().all();
        if all.len() > pass::MAX_PASSED {
            let refusal = format!("the service has {} listening sockets; at most {} can be lent", all.len(), pass::MAX_PASSED);
            return say::<()>(stream, &Reply::Error(refusal), &[]).await;
        }
        let lent = Lent { listeners: all.iter().map(|listener| listener.address().to_string()).collect() };
        let fds: Vec<_> = all.iter().map(crate::sys::listen::Listener::fd).collect();
        let borrower = stream.peer_cred()?.pid();
        say(stream, &Reply::Ok(lent), &fds).await?;
        tracing::info!(borrower, "listening sockets lent");
        let mut stopped = self.stopped.clone();
        tokio::select! {
            () = closed(stream) => {}
            _ = stopped.changed() => recall(stream).await,
            () = self.stopping() => recall(stream).await,
        }
        tracing::info!(borrower, "listening sockets given back");
        Err(io::ErrorKind::ConnectionAborted.into())
    }

    async fn stopping(&self) {
        while !self.source.is_stopping() {
            sleep_until(Instant::now() + LOOK).await;
        }
    }
}

/// Tells the borrower to give the sockets back, and waits until it has.
async fn recall(stream: &mut UnixStream) {
    if stream.shutdown().await.is_ok() && timeout(FAREWELL, closed(stream)).await.is_err() {
        tracing::warn!("the borrower keeps the listening sockets");
    }
}

/// Waits until the other side has closed. What it says meanwhile is not heard.
async fn closed(stream: &mut UnixStream) {
    let mut ignored = [0; 64];
    while stream.read(&mut ignored).await.is_ok_and(|length| length > 0) {}
}

impl From<event::Granted> for Granted {
    fn from(granted: event::Granted) -> Self {
        match granted {
            event::Granted::Now => Self::default(),
            event::Granted::By(generation) => Self { generation: Some(generation.0), ..Self::default() },
            event::Granted::Target(target) => Self { target: Some(target), ..Self::default() },
            event::Granted::Limited(target) => Self { target: Some(target), limited: true, ..Self::default() },
        }
    }
}

/// The next line, without its end. `unread` keeps what came behind it.
async fn read_line(stream: &mut UnixStream, unread: &mut Vec<u8>) -> io::Result<Vec<u8>> {
    loop {
        if let Some(end) = memchr::memchr(b'\n', unread) {
            let rest = unread.split_off(end + 1);
            let mut line = std::mem::replace(unread, rest);
            line.truncate(end);
            return Ok(line);
        }
        if unread.len() > MAX_REQUEST {
            say::<()>(stream, &Reply::Error(format!("a request has at most {MAX_REQUEST} bytes")), &[]).await?;
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut piece = [0; 1024];
        match stream.read(&mut piece).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            length => unread.extend_from_slice(&piece[..length]),
        }
    }
}

/// One reply. Descriptors go with its first bytes.
async fn say<T: Serialize>(stream: &mut UnixStream, reply: &Reply<T>, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    let send = async {
        let sent = stream.async_io(Interest::WRITABLE, || pass::send(stream.as_fd(), &line, fds)).await?;
        stream.write_all(line.get(sent..).unwrap_or_default()).await
    };
    timeout(PATIENCE, send).await?
}
