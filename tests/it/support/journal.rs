//! What a program under test says, on stderr and by sd_notify(3), in one list that tests wait on.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

/// How often a condition that nobody announces is looked at.
const LOOK: Duration = Duration::from_millis(10);
/// Lines kept: a test that makes a program say more than this looks at the last ones.
const LINES_MAX: usize = 100_000;

/// The list. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Journal {
    shared: Arc<(Mutex<Vec<String>>, Condvar)>,
}

impl Journal {
    /// Adds the lines of `stderr` until it ends; the thread that does it can be joined then.
    pub(crate) fn follow(&self, stderr: impl Read + Send + 'static) -> JoinHandle<()> {
        let journal = self.clone();
        std::thread::spawn(move || {
            let mut reader = BufReader::new(stderr);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
                journal.add(String::from_utf8_lossy(&line).trim_end().to_owned());
                line.clear();
            }
        })
    }

    /// Binds a notification socket; each assignment that arrives becomes a line `notify: READY=1`.
    pub(crate) fn hear(&self, socket: &Path) {
        let receiver = UnixDatagram::bind(socket).expect("bind the notification socket");
        let journal = self.clone();
        std::thread::spawn(move || {
            let mut datagram = vec![0; 8 << 10];
            while let Ok(count) = receiver.recv(&mut datagram) {
                for assignment in String::from_utf8_lossy(&datagram[..count]).lines() {
                    journal.add(format!("notify: {assignment}"));
                }
            }
        });
    }

    fn add(&self, line: String) {
        let mut lines = self.shared.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() < LINES_MAX {
            lines.push(line);
        }
        self.shared.1.notify_all();
    }

    /// Everything said so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until `found` finds something in what was said, or `patience` is over. `found` is asked after every line, and now and then
    /// besides, so it may look at other things too.
    pub(crate) fn wait<T>(&self, patience: Duration, mut found: impl FnMut(&[String]) -> Option<T>) -> Option<T> {
        let deadline = SystemTime::now() + patience;
        let mut lines = self.shared.0.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(found) = found(&lines) {
                return Some(found);
            }
            if SystemTime::now() >= deadline {
                return None;
            }
            lines = self.shared.1.wait_timeout(lines, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
