//! Processes as /proc shows them, and a child of the test that leaves nothing behind.

use std::fmt;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::PATIENCE;
use super::journal::Journal;
use super::turn::Turn;

/// Set in the environment of everything a test starts: a process is ours however often it was forked and whoever adopted it.
const MARK: &str = "TUNINGFORK_TEST_MARK";
/// How long the end of what a program wrote may take to arrive when the program has ended.
const LAST_WORDS: Duration = Duration::from_secs(5);
/// Some milliseconds, and only for processes without any environment.
const LOOKS_AT_A_NEW_PROCESS: usize = 500;
static NEXT_MARK: AtomicU32 = AtomicU32::new(0);

/// How a program under test ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// exit(3) with this code.
    Code(i32),
    /// Killed by this signal.
    Signal(i32),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(number) => write!(f, "signal {number}"),
        }
    }
}

/// A program under test, its descendants, and what it says.
pub(crate) struct Watched {
    child: Child,
    /// Who took the service over from it, and is no child of ours.
    successor: Option<u32>,
    mark: String,
    /// What it says.
    pub(crate) journal: Journal,
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
        journal.follow(child.stderr.take().expect("invariant: stderr is a pipe"));
        Self { child, successor: None, mark, journal, patience: PATIENCE, _turn: turn }
    }

    /// Its process id.
    pub(crate) fn pid(&self) -> u32 {
        self.successor.unwrap_or_else(|| self.child.id())
    }

    /// The service is another process's from now on (USR2): what is asked for and waited for is that one's.
    pub(crate) fn follow(&mut self, successor: u32) {
        self.successor = Some(successor);
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
        let (child, successor) = (&mut self.child, self.successor);
        let outcome = self.journal.wait(self.patience, |lines| {
            let ended = match successor {
                Some(pid) => (!lives(pid)).then(|| format!("process {pid}")),
                None => child.try_wait().expect("wait for the program").map(|status| status.to_string()),
            };
            found(lines).map(Ok).or_else(|| ended.map(Err))
        });
        match outcome {
            Some(Ok(found)) => found,
            Some(Err(end)) => {
                // Its last words may still be in the pipe.
                self.journal.wait_for_the_rest(LAST_WORDS);
                let found = found(&self.journal.lines());
                found.unwrap_or_else(|| panic!("it ended ({end}) before: {what}\n{}", self.said()))
            }
            None => panic!("not within {:?}: {what}\n{}", self.patience, self.said()),
        }
    }

    /// Waits for its end, and checks that it left no process behind.
    pub(crate) fn await_end(&mut self) -> End {
        let end = self.ended();
        // Who is killed cannot tidy up; the kernel does it for him (PR_SET_PDEATHSIG), in a moment.
        let patience = if matches!(end, End::Signal(_)) { self.patience } else { Duration::ZERO };
        let gone = self.journal.wait(patience, |_| self.left().is_empty().then_some(()));
        assert!(gone.is_some(), "it left processes behind: {:?}\n{}", self.left(), self.said());
        self.journal.wait_for_the_rest(LAST_WORDS);
        end
    }

    /// Waits for its end; what it left behind is the caller's to judge. How a successor ended only its own parent could tell:
    /// then it is the end of the one that was started.
    pub(crate) fn ended(&mut self) -> End {
        if let Some(successor) = self.successor {
            let gone = self.journal.wait(self.patience, |_| (!lives(successor)).then_some(()));
            assert!(gone.is_some(), "it did not end within {:?}\n{}", self.patience, self.said());
        }
        let child = &mut self.child;
        let ended = self.journal.wait(self.patience, |_| child.try_wait().expect("wait for the program"));
        let status = ended.unwrap_or_else(|| panic!("it did not end within {:?}\n{}", self.patience, self.said()));
        match (status.code(), status.signal()) {
            (Some(code), _) => End::Code(code),
            (None, signal) => End::Signal(signal.unwrap_or(0)),
        }
    }

    /// Whether it lives.
    pub(crate) fn is_alive(&mut self) -> bool {
        self.successor.map_or_else(|| matches!(self.child.try_wait(), Ok(None)), lives)
    }

    /// It and its descendants, as far as they live.
    pub(crate) fn left(&self) -> Vec<u32> {
        marked(&self.mark)
    }

    /// Kills what is left of it: the verdict on that was given.
    pub(crate) fn clear(&self) {
        self.journal.wait(PATIENCE, |_| {
            let left = self.left();
            for pid in &left {
                send(*pid, Signal::KILL);
            }
            left.is_empty().then_some(())
        });
    }

    /// Everything it said, for a message.
    pub(crate) fn said(&self) -> String {
        self.journal.lines().join("\n")
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        let ended = !self.is_alive();
        let left = marked(&self.mark);
        // nginx writes its title over its environment, mark and all; but it stays our child, and its workers its own.
        let program = self.child.id();
        self.journal.wait(PATIENCE, |_| {
            let mut still = marked(&self.mark);
            still.extend([program].into_iter().filter(|pid| lives(*pid)).chain(children(program)));
            for pid in &still {
                send(*pid, Signal::KILL);
            }
            still.is_empty().then_some(())
        });
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

/// Whether a process lives. Zombies, and who is on the way there, have no program any more.
pub(crate) fn lives(pid: u32) -> bool {
    fs::read_link(format!("/proc/{pid}/exe")).is_ok()
}

/// The living children of a process, adopted ones included, in the order of their ids.
pub(crate) fn children(of: u32) -> Vec<u32> {
    let mut found: Vec<u32> = all().filter(|pid| parent(*pid) == Some(of) && lives(*pid)).collect();
    found.sort_unstable();
    found
}

/// Living processes with a mark.
fn marked(mark: &str) -> Vec<u32> {
    let wanted = format!("{MARK}={mark}");
    let is_marked = |pid: &u32| environment(*pid).split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes());
    all().filter(is_marked).collect()
}

/// A process's environment; empty for the dead and the kernel's threads. In the middle of execve(2) it is empty too: then it is
/// read again.
fn environment(pid: u32) -> Vec<u8> {
    for _ in 0..LOOKS_AT_A_NEW_PROCESS {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        if !environment.is_empty() || !lives(pid) {
            return environment;
        }
        std::thread::yield_now();
    }
    Vec::new()
}

fn all() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").expect("read /proc");
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold spaces and parentheses itself; state and parent follow it.
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}
