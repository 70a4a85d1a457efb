//! Serves the metrics page and the probes over HTTP, on one thread of its own. Refuses to bind (the listener is handed in),
//! to wait for slow clients, and to let any number of them take memory or the supervisor's time.

mod answer;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::{Future, ready};
use std::io::{self, ErrorKind};
use std::net;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net as unix;
use std::pin::pin;
use std::rc::Rc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::{Request, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use rustix::process::{Resource, getrlimit};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{oneshot, watch};
use tokio::task::{AbortHandle, JoinSet, LocalSet};
use tokio::time::{Instant, sleep_until, timeout};

use super::{Exposition, Source};
use answer::Desk;

/// The thread's name in `ps -L` and its stack.
const THREAD: &str = "metrics";
const STACK_BYTES: usize = 1 << 20;
/// A request's head may be this long; hyper's least. Prometheus sends about 400 bytes.
const HEAD_BYTES: usize = 8 << 10;
/// How long accepting pauses when the process or the system has run out of something.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Descriptors that clients leave to the supervisor: to start a worker it needs about ten, and the control socket has some.
const SPARE_DESCRIPTORS: u64 = 32;

/// How much clients may take.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Connections at a time; one more closes the oldest.
    connections: usize,
    /// Pages being written at a time; one more gets 503.
    in_flight: usize,
    /// From the first look for a request to the end of its head.
    head: Duration,
    /// A connection is asked to end after this, whatever it does.
    age: Duration,
    /// What it may take to end.
    farewell: Duration,
    /// A page is shown again for this long before it is made anew.
    fresh: Duration,
}

impl Limits {
    const STANDARD: Self = Self {
        connections: 256,
        in_flight: 8,
        head: Duration::from_secs(10),
        age: Duration::from_secs(30),
        farewell: Duration::from_secs(1),
        fresh: Duration::from_millis(250),
    };
}

/// Where the endpoint listens.
#[derive(Debug)]
pub enum Listener {
    /// On TCP.
    Tcp(net::TcpListener),
    /// On a unix socket.
    Unix(unix::UnixListener),
}

/// Why the endpoint does not start.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// The event loop could not be made, or does not take the listener.
    #[error("cannot serve metrics")]
    Loop(#[source] io::Error),
    /// The thread could not be made.
    #[error("cannot start the metrics thread")]
    Thread(#[source] io::Error),
}

/// The endpoint's thread. Dropping it ends it.
#[derive(Debug)]
pub struct Endpoint {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Endpoint {
    /// Serves `exposition` on `listener`. Block the signals the main thread waits for before: threads inherit the mask.
    pub fn start<S: Source>(listener: Listener, exposition: Exposition<S>) -> Result<Self, EndpointError> {
        Self::start_within(Limits::STANDARD, listener, exposition)
    }

    fn start_within<S: Source>(limits: Limits, listener: Listener, exposition: Exposition<S>) -> Result<Self, EndpointError> {
        let runtime = Builder::new_current_thread().enable_io().enable_time().build().map_err(EndpointError::Loop)?;
        let door = Door::open(&runtime, listener).map_err(EndpointError::Loop)?;
        let (stop, stopped) = oneshot::channel();
        let serve = move || {
            let desk = Rc::new(RefCell::new(Desk::new(exposition, limits.in_flight, limits.fresh)));
            LocalSet::new().block_on(&runtime, serve(limits, door, desk, stopped));
        };
        let thread = thread::Builder::new().name(THREAD.to_owned()).stack_size(STACK_BYTES);
        let thread = thread.spawn(serve).map_err(EndpointError::Thread)?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }

    /// Closes the listener, lets answers that have begun end, and returns when the thread is gone: within a second or so.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic was reported when it happened; there is nothing to add.
            let _ = thread.join();
        }
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.end();
    }
}

/// A listener in the event loop's hands.
enum Door {
    Tcp(tokio::net::TcpListener),
    Unix(tokio::net::UnixListener),
}

trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> Stream for T {}

impl Door {
    fn open(runtime: &Runtime, listener: Listener) -> io::Result<Self> {
        let _entered = runtime.enter();
        match listener {
            Listener::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                tokio::net::TcpListener::from_std(listener).map(Self::Tcp)
            }
            Listener::Unix(listener) => {
                listener.set_nonblocking(true)?;
                tokio::net::UnixListener::from_std(listener).map(Self::Unix)
            }
        }
    }

    /// The next client, and whether it got one of the last descriptors.
    async fn accept(&self) -> io::Result<(Box<dyn Stream>, bool)> {
        Ok(match self {
            Self::Tcp(listener) => {
                let client = listener.accept().await?.0;
                let scarce = is_scarce(client.as_fd());
                (Box::new(client), scarce)
            }
            Self::Unix(listener) => {
                let client = listener.accept().await?.0;
                let scarce = is_scarce(client.as_fd());
                (Box::new(client), scarce)
            }
        })
    }
}

/// Whether this is one of the last descriptors the process may open: each new one has the lowest free number.
fn is_scarce(newest: BorrowedFd<'_>) -> bool {
    let number = u64::try_from(newest.as_raw_fd()).unwrap_or(0);
    getrlimit(Resource::Nofile).current.is_some_and(|most| number + SPARE_DESCRIPTORS >= most)
}

async fn serve<S: Source>(limits: Limits, door: Door, desk: Rc<RefCell<Desk<S>>>, stopped: oneshot::Receiver<()>) {
    let mut guests = Guests::default();
    let (closing, _) = watch::channel(false);
    let mut stopped = pin!(stopped);
    loop {
        let accepted = tokio::select! {
            biased;
            _ = &mut stopped => break,
            accepted = door.accept() => accepted,
        };
        match accepted {
            Ok((stream, scarce)) => {
                let most = if scarce { 0 } else { limits.connections };
                guests.admit(most, converse(limits, stream, Rc::clone(&desk), closing.subscribe()));
            }
            // The client was gone before it was let in.
            Err(error) if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::Interrupted) => {}
            Err(_) => sleep_until(Instant::now() + ACCEPT_PAUSE).await,
        }
    }
    drop(door);
    closing.send_replace(true);
    let all_gone = async { while guests.tasks.join_next().await.is_some() {} };
    // Whoever is left is cut off when `guests` is dropped.
    let _ = timeout(limits.farewell, all_gone).await;
}

/// The connections, oldest first.
#[derive(Default)]
struct Guests {
    tasks: JoinSet<()>,
    by_age: VecDeque<AbortHandle>,
}

impl Guests {
    /// A request is answered as soon as it is read, so the oldest connection is idle or slow: it makes room where there are `most`.
    /// Where there is no room and nobody to make any, the newest is closed.
    fn admit(&mut self, most: usize, conversation: impl Future<Output = ()> + 'static) {
        while self.tasks.try_join_next().is_some() {}
        if self.by_age.len() >= most {
            self.by_age.retain(|task| !task.is_finished());
        }
        if self.by_age.len() >= most {
            match self.by_age.pop_front() {
                Some(oldest) => oldest.abort(),
                None => return,
            }
        }
        self.by_age.push_back(self.tasks.spawn_local(conversation));
    }
}

/// One connection, until it ends, the endpoint stops, or it has lived long enough.
async fn converse<S: Source>(
    limits: Limits,
    stream: Box<dyn Stream>,
    desk: Rc<RefCell<Desk<S>>>,
    mut closing: watch::Receiver<bool>,
) {
    let service = service_fn(move |request: Request<Incoming>| {
        // No await while borrowed, so never borrowed twice.
        ready(Ok::<_, Infallible>(desk.borrow_mut().answer(request.method(), request.uri().path())))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // A client that has said all it will ask still waits for the answers.
        .half_close(true)
        .header_read_timeout(limits.head)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = closing.wait_for(|closing| *closing) => {}
        () = sleep_until(Instant::now() + limits.age) => {}
    }
    connection.as_mut().graceful_shutdown();
    // Neither a client that fails nor one that never ends is news.
    let _ = timeout(limits.farewell, connection).await;
}

#[cfg(test)]
mod tests;
