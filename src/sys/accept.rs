//! Takes connections off a listening socket that other processes accept on too. Never changes the socket: whether it blocks is
//! shared with them. So it is waited on in a thread, and a wait that blocks nevertheless (somebody else was faster) can be ended.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::thread::JoinHandleExt;
use std::ptr;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};

use super::clock;
use crate::units::Moment;

/// The thread's name in `ps -L`.
const THREAD: &str = "accept";
/// The longest wait without a look at whether it should end.
const LOOK: Duration = Duration::from_millis(100);
/// How often an end is asked for.
const NUDGE: Duration = Duration::from_millis(1);
/// Ends a blocked accept(2). Ignored by default and free of meaning for stream sockets without urgent data.
const SIGNAL: i32 = libc::SIGURG;

/// What came of waiting: a connection, non-blocking, or none within the time.
pub type Accepted = io::Result<Option<OwnedFd>>;

/// A thread that accepts when it is asked to, one connection at a time.
#[derive(Debug)]
pub struct Acceptor {
    asks: Option<mpsc::Sender<Moment>>,
    hurry: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Acceptor {
    /// A thread on `listener`. Every call of [`accept`](Self::accept) is followed by one call of `answer`, on the thread.
    pub fn start(listener: OwnedFd, mut answer: impl FnMut(Accepted) + Send + 'static) -> io::Result<Self> {
        catch_signal();
        let (asks, asked) = mpsc::channel();
        let hurry = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&hurry);
        let work = move || {
            for until in asked {
                answer(accept_until(&listener, until, &seen));
            }
        };
        let thread = thread::Builder::new().name(THREAD.to_owned()).spawn(work)?;
        Ok(Self { asks: Some(asks), hurry, thread: Some(thread) })
    }

    /// Asks for one connection until then. Its answer has to be awaited before the next.
    pub fn accept(&self, until: Moment) {
        self.hurry.store(false, Ordering::Relaxed);
        if let Some(asks) = &self.asks {
            // The thread ends after this value only.
            let _ = asks.send(until);
        }
    }

    /// Asks for the answer now. To be repeated until it is there: a nudge that comes just before accept(2) blocks is lost.
    #[expect(unsafe_code, reason = "no safe crate here signals a thread")]
    pub fn nudge(&self) {
        self.hurry.store(true, Ordering::Relaxed);
        if let Some(thread) = &self.thread {
            // SAFETY: the thread is not joined, so its id is valid; the signal has a handler that does nothing.
            unsafe { libc::pthread_kill(thread.as_pthread_t(), SIGNAL) };
        }
    }
}

impl Drop for Acceptor {
    /// Returns when the thread is gone and with it its copy of the socket.
    fn drop(&mut self) {
        self.asks = None;
        while self.thread.as_ref().is_some_and(|thread| !thread.is_finished()) {
            self.nudge();
            thread::park_timeout(NUDGE);
        }
        if let Some(thread) = self.thread.take() {
            // A panic was reported when it happened.
            let _ = thread.join();
        }
    }
}

fn accept_until(listener: &OwnedFd, until: Moment, hurry: &AtomicBool) -> Accepted {
    loop {
        let left = until.since(clock::now());
        if left.is_zero() || hurry.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let wait = Timespec::try_from(left.min(LOOK)).unwrap_or(Timespec { tv_sec: 0, tv_nsec: 0 });
        match poll(&mut [PollFd::new(listener, PollFlags::IN)], Some(&wait)) {
            Ok(0) | Err(Errno::INTR) => continue,
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        match accept_with(listener, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK) {
            Ok(connection) => return Ok(Some(connection)),
            // Somebody else took it, or its client has gone.
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

extern "C" fn ignore(_: libc::c_int) {}

/// Gives the signal a handler, without SA_RESTART: with one it ends a system call.
#[expect(unsafe_code, reason = "signal-hook's handlers restart system calls")]
fn catch_signal() {
    static CAUGHT: Once = Once::new();
    CAUGHT.call_once(|| {
        // SAFETY: sigaction is plain data, for which all bits zero is a value: no flags, no signals blocked.
        let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
        action.sa_sigaction = ignore as extern "C" fn(libc::c_int) as usize;
        // SAFETY: the handler does nothing, so it is async-signal-safe; `action` outlives the call; no old action is asked for.
        unsafe { libc::sigaction(SIGNAL, &raw const action, ptr::null_mut()) };
    });
}

/// TCP connections that were accepted in this network namespace since it was made, by anybody (RFC 4022, tcpPassiveOpens).
#[must_use]
pub fn tcp_accepted() -> Option<u64> {
    procfs::net::snmp().ok().map(|counters| counters.tcp_passive_opens)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    const LONG: Duration = Duration::from_mins(1);

    fn start(listener: &TcpListener) -> (Acceptor, mpsc::Receiver<Accepted>) {
        let (answer, answers) = mpsc::channel();
        let acceptor = Acceptor::start(listener.try_clone().unwrap().into(), move |accepted| answer.send(accepted).unwrap());
        (acceptor.unwrap(), answers)
    }

    #[test]
    fn connections_are_taken_within_the_time() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (acceptor, answers) = start(&listener);
        acceptor.accept(clock::now());
        assert!(matches!(answers.recv().unwrap(), Ok(None)));
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        acceptor.accept(clock::now().after(LONG));
        let mut taken = TcpStream::from(answers.recv().unwrap().unwrap().unwrap());
        taken.set_nonblocking(false).unwrap();
        drop(client);
        assert_eq!(taken.read(&mut [0]).unwrap(), 0);
    }

    #[test]
    fn an_accept_that_blocks_can_be_ended() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        // As if somebody else had taken the connection after poll(2): accept_with blocks at once.
        catch_signal();
        let (say, said) = mpsc::channel();
        let copy = listener.try_clone().unwrap();
        let blocked = thread::spawn(move || {
            say.send(()).unwrap();
            accept_with(&copy, SocketFlags::CLOEXEC).map(drop)
        });
        said.recv().unwrap();
        while !blocked.is_finished() {
            #[expect(unsafe_code, reason = "as in nudge")]
            // SAFETY: the thread is not joined.
            unsafe {
                libc::pthread_kill(blocked.as_pthread_t(), SIGNAL)
            };
            thread::park_timeout(NUDGE);
        }
        assert_eq!(blocked.join().unwrap(), Err(Errno::INTR));
        let (acceptor, answers) = start(&listener);
        acceptor.accept(clock::now().after(LONG));
        drop(acceptor);
        assert!(matches!(answers.recv().unwrap(), Ok(None)));
    }
}
