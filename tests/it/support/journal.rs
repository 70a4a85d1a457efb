//! What a program under test says, on stderr and by sd_notify(3), in one list that tests wait on.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

/// How often a condition that nobody announces is looked at.
const LOOK: Duration = Duration::from_millis(10);
/// Lines kept: a test that makes a program say more than this looks at the last ones.
const LINES_MAX: usize = 100_000;

/// Sent to the notification socket by the journal itself: what was sent before has been heard when this is.
const UP_TO_HERE: &[u8] = b"up to here";

/// The list. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Journal {
    shared: Arc<(Mutex<Said>, Condvar)>,
}

#[derive(Default)]
struct Said {
    lines: Vec<String>,
    /// Pipes that are still followed.
    open: usize,
    /// Where notifications are heard.
    notifications: Option<PathBuf>,
    /// How often `UP_TO_HERE` was heard.
    heard_up_to: usize,
    /// Pipes are not read for now.
    held: bool,
}

impl Journal {
    /// Adds the lines of `stderr` until it ends.
    pub(crate) fn follow(&self, stderr: impl Read + Send + 'static) {
        let journal = self.clone();
        self.said().open += 1;
        std::thread::spawn(move || {
            let mut reader = BufReader::new(stderr);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
                journal.await_release();
                journal.add(String::from_utf8_lossy(&line).trim_end().to_owned());
                line.clear();
            }
            journal.said().open -= 1;
            journal.shared.1.notify_all();
        });
    }

    /// Binds a notification socket; each assignment that arrives becomes a line `notify: READY=1`.
    pub(crate) fn hear(&self, socket: &Path) {
        let receiver = UnixDatagram::bind(socket).expect("bind the notification socket");
        self.said().notifications = Some(socket.to_owned());
        let journal = self.clone();
        std::thread::spawn(move || {
            let mut datagram = vec![0; 8 << 10];
            while let Ok(count) = receiver.recv(&mut datagram) {
                if datagram[..count] == *UP_TO_HERE {
                    journal.said().heard_up_to += 1;
                    journal.shared.1.notify_all();
                    continue;
                }
                for assignment in String::from_utf8_lossy(&datagram[..count]).lines() {
                    journal.add(format!("notify: {assignment}"));
                }
            }
        });
    }

    /// Reads no pipe until [`Journal::release`]: who writes there finds it full some time.
    pub(crate) fn hold(&self) {
        self.said().held = true;
    }

    /// Reads on.
    pub(crate) fn release(&self) {
        self.said().held = false;
        self.shared.1.notify_all();
    }

    fn await_release(&self) {
        drop(self.shared.1.wait_while(self.said(), |said| said.held).unwrap_or_else(PoisonError::into_inner));
    }

    fn add(&self, line: String) {
        let mut said = self.said();
        if said.lines.len() < LINES_MAX {
            said.lines.push(line);
        }
        self.shared.1.notify_all();
    }

    fn said(&self) -> MutexGuard<'_, Said> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything said so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.said().lines.clone()
    }

    /// For a program that has ended: waits until all that it wrote and sent is here.
    pub(crate) fn wait_for_the_rest(&self, patience: Duration) {
        let said = self.said();
        let mut heard_up_to = said.heard_up_to;
        let sent = said.notifications.as_ref().map(|socket| UnixDatagram::unbound()?.send_to(UP_TO_HERE, socket));
        heard_up_to += usize::from(sent.is_some_and(|sent| sent.is_ok()));
        let rest = |said: &mut Said| said.open > 0 || said.heard_up_to < heard_up_to;
        drop(self.shared.1.wait_timeout_while(said, patience, rest).unwrap_or_else(PoisonError::into_inner));
    }

    /// Waits until `found` finds something in what was said, or `patience` is over. `found` is asked after every line, and now and then
    /// besides, so it may look at other things too.
    pub(crate) fn wait<T>(&self, patience: Duration, mut found: impl FnMut(&[String]) -> Option<T>) -> Option<T> {
        let deadline = SystemTime::now() + patience;
        let mut said = self.said();
        loop {
            if let Some(found) = found(&said.lines) {
                return Some(found);
            }
            if SystemTime::now() >= deadline {
                return None;
            }
            said = self.shared.1.wait_timeout(said, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
