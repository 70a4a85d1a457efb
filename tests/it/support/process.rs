//! Processes as /proc shows them, and a child of the test that leaves nothing behind.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::PATIENCE;
use super::journal::Journal;
use super::turn::Turn;

/// Set in the environment of everything a test starts: a process is ours however often it was forked and whoever adopted it.
const MARK: &str = "TUNINGFORK_TEST_MARK";
static NEXT_MARK: AtomicU32 = AtomicU32::new(0);

/// How a program under test ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// exit(3) with this code.
    Code(i32),
    /// Killed by this signal.
    Signal(i32),
}

/// A program under test, its descendants, and what it says.
pub(crate) struct Watched {
    child: Child,
    mark: String,
    /// What it says.
    pub(crate) journal: Journal,
    stderr: Option<JoinHandle<()>>,
    /// How long anything is waited for.
    pub(crate) patience: Duration,
    _turn: Turn,
}

impl Watched {
    /// Starts `command` with its stderr in a journal. `journal` may already hear notifications.
    pub(crate) fn start(command: Command, journal: Journal) -> Self {
        Self::start_in(Turn::beside_others(), command, journal)
    }

    /// The same in a turn that was waited for.
    pub(crate) fn start_in(turn: Turn, mut command: Command, journal: Journal) -> Self {
        let mark = format!("{}-{}", std::process::id(), NEXT_MARK.fetch_add(1, Ordering::Relaxed));
        command.env(MARK, &mark).stdin(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let stderr = Some(journal.follow(child.stderr.take().expect("invariant: stderr is a pipe")));
        Self { child, mark, journal, stderr, patience: PATIENCE, _turn: turn }
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its children, adopted ones included.
    pub(crate) fn children(&self) -> Vec<u32> {
        children(self.pid())
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        send(self.pid(), signal);
    }

    /// Waits until `found` finds something; panics with everything the program said when it does not, or when the program ended.
    pub(crate) fn wait<T>(&mut self, what: &str, mut found: impl FnMut(&[String]) -> Option<T>) -> T {
        let child = &mut self.child;
        let outcome = self.journal.wait(self.patience, |lines| {
            let ended = child.try_wait().expect("wait for the program");
            found(lines).map(Ok).or_else(|| ended.map(Err))
        });
        match outcome {
            Some(Ok(found)) => found,
            Some(Err(status)) => panic!("it ended ({status}) before: {what}\n{}", self.said()),
            None => panic!("not within {:?}: {what}\n{}", self.patience, self.said()),
        }
    }

    /// Waits for its end, and checks that it left no process behind.
    pub(crate) fn await_end(&mut self) -> End {
        let child = &mut self.child;
        let ended = self.journal.wait(self.patience, |_| child.try_wait().expect("wait for the program"));
        let status = ended.unwrap_or_else(|| panic!("it did not end within {:?}\n{}", self.patience, self.said()));
        let end = match (status.code(), status.signal()) {
            (Some(code), _) => End::Code(code),
            (None, signal) => End::Signal(signal.unwrap_or(0)),
        };
        // Who is killed cannot tidy up; the kernel does it for him (PR_SET_PDEATHSIG), in a moment.
        let patience = if matches!(end, End::Signal(_)) { self.patience } else { Duration::ZERO };
        let gone = self.journal.wait(patience, |_| marked(&self.mark).is_empty().then_some(()));
        assert!(gone.is_some(), "it left processes behind: {:?}\n{}", marked(&self.mark), self.said());
        // Nobody writes any more; what was written is in the journal when its reader has ended.
        if let Some(stderr) = self.stderr.take() {
            stderr.join().expect("the reader of stderr panicked");
        }
        end
    }

    /// Everything it said, for a message.
    pub(crate) fn said(&self) -> String {
        self.journal.lines().join("\n")
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let ended = matches!(self.child.try_wait(), Ok(Some(_)));
        let left = marked(&self.mark);
        for pid in &left {
            send(*pid, Signal::KILL);
        }
        // Reaps it; a child that is gone is no error here.
        let _ = self.child.wait();
        if !std::thread::panicking() && ended {
            assert!(left.is_empty(), "processes outlived the program: {left:?}\n{}", self.said());
        }
    }
}

/// Sends a signal; a process that is gone is not missed.
pub(crate) fn send(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("invariant: a pid is positive");
    let _ = kill_process(pid, signal);
}

/// Whether a process lives. A zombie does not.
pub(crate) fn lives(pid: u32) -> bool {
    state_and_parent(pid).is_some_and(|(state, _)| state != "Z")
}

/// The living children of a process, adopted ones included, in the order of their ids.
pub(crate) fn children(parent: u32) -> Vec<u32> {
    let mut found: Vec<u32> =
        all().filter(|pid| state_and_parent(*pid).is_some_and(|(state, of)| state != "Z" && of == parent)).collect();
    found.sort_unstable();
    found
}

fn marked(mark: &str) -> Vec<u32> {
    let wanted = format!("{MARK}={mark}");
    all()
        .filter(|pid| {
            // A zombie's environment is empty.
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes())
        })
        .collect()
}

fn all() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").expect("read /proc");
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn state_and_parent(pid: u32) -> Option<(String, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold spaces and parentheses itself.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.to_owned(), fields.next()?.parse().ok()?))
}
