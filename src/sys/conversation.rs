//! A program that is asked by lines on its standard input and answers by lines on its standard output. Bounds how much it may say
//! and how long it may take. It leads a process group of its own, of which nobody is left when the conversation is over, or when
//! we are killed.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use memchr::memchr;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use super::clock;
use super::departure;
use super::signals::Signals;
use crate::units::Moment;

/// The longest line that is read, bytes.
const LONGEST_LINE: usize = 1 << 20;
/// The most that is read after one question, bytes.
const MOST_OUTPUT: usize = 16 << 20;
const PIECE: usize = 8192;
/// How long it may take to end when its input is closed, and when it is told to.
const TO_FINISH: Duration = Duration::from_secs(1);
const TO_LEAVE: Duration = Duration::from_secs(5);

/// A running program.
#[derive(Debug)]
pub struct Conversation {
    child: Child,
    guardian: Guardian,
    pidfd: OwnedFd,
    input: Option<ChildStdin>,
    output: Option<ChildStdout>,
    /// What was read; from `given` on, nobody has got it yet.
    pending: Vec<u8>,
    given: usize,
    /// Bytes read since the last question.
    read: usize,
    /// Its exit was waited for: its number may be another's by now.
    reaped: bool,
}

/// What came.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// A line, without its end. The last one may have had none.
    Line(Vec<u8>),
    /// Nothing more: it closed its output or ended.
    End,
    /// It does not stop, or not within a line.
    TooMuch,
    /// Nothing in time.
    Late,
    /// Somebody wants us to stop.
    Interrupted,
}

impl Conversation {
    /// Starts `command` by the shell, with these variables beside ours. What it writes on standard error goes to `errors`.
    #[expect(unsafe_code, reason = "PR_SET_PDEATHSIG is set between fork and exec")]
    pub fn start<'a>(
        command: &str,
        variables: impl IntoIterator<Item = (&'a str, &'a str)>,
        errors: BorrowedFd<'_>,
    ) -> io::Result<Self> {
        let mut shell = Command::new("/bin/sh");
        shell.arg("-c").arg(command).envs(variables).process_group(0);
        shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors.try_clone_to_owned()?);
        // SAFETY: prctl is a plain system call, which allocates nothing and takes no lock.
        unsafe {
            shell.pre_exec(|| match libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM) {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            });
        }
        let mut child = shell.spawn()?;
        let pidfd = pidfd_open(group(&child), PidfdFlags::empty()).inspect_err(|_| {
            child.kill().ok();
            child.wait().ok();
        })?;
        let guardian = Guardian::over(&child).inspect_err(|_| {
            kill_process_group(group(&child), Signal::KILL).ok();
            child.wait().ok();
        })?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        Ok(Self { child, guardian, pidfd, input, output, pending: Vec::new(), given: 0, read: 0, reaped: false })
    }

    /// Writes a line. Fails if the program reads no more. A line must be short enough for a pipe that holds nothing else
    /// (pipe(7), 4 KiB).
    pub fn ask(&mut self, line: &[u8]) -> io::Result<()> {
        self.read = 0;
        let input = self.input.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        input.write_all(&[line, b"\n"].concat())
    }

    /// Whether it has said more than was heard, blank lines apart. What it says a moment later is not seen.
    pub fn has_unheard(&mut self) -> io::Result<bool> {
        while self.read <= MOST_OUTPUT {
            let Some(output) = &self.output else { break };
            let [said] = ready([output.as_fd()], Duration::ZERO)?;
            if !said {
                break;
            }
            self.take_in()?;
        }
        Ok(!self.pending[self.given..].trim_ascii().is_empty())
    }

    /// Tells the program that there are no more questions.
    pub fn close(&mut self) {
        self.input = None;
    }

    /// Whether it has ended.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.await_exit(Duration::ZERO)
    }

    /// The next line, if it comes before `deadline`.
    pub fn hear(&mut self, signals: &mut Signals, deadline: Moment) -> io::Result<Heard> {
        loop {
            if self.pending.len() - self.given > LONGEST_LINE || self.read > MOST_OUTPUT {
                return Ok(Heard::TooMuch);
            }
            let rest = &self.pending[self.given..];
            if let Some(length) = memchr(b'\n', rest) {
                let line = rest[..length].to_vec();
                self.given += length + 1;
                return Ok(Heard::Line(line));
            }
            let Some(output) = &self.output else {
                let rest = self.pending.split_off(self.given);
                return Ok(if rest.is_empty() { Heard::End } else { Heard::Line(rest) });
            };
            let [said, over, signal] = ready([output.as_fd(), self.pidfd.as_fd(), signals.fd()], remaining(deadline))?;
            if signal && signals.asked_to_stop() {
                return Ok(Heard::Interrupted);
            }
            if said {
                self.take_in()?;
            } else if over {
                // Somebody it left behind may hold its output open.
                self.output = None;
            } else if !signal && remaining(deadline).is_zero() {
                return Ok(Heard::Late);
            }
        }
    }

    /// Reads a piece of what it says.
    fn take_in(&mut self) -> io::Result<()> {
        let Some(output) = &mut self.output else { return Ok(()) };
        let mut piece = [0_u8; PIECE];
        match output.read(&mut piece) {
            Ok(0) => self.output = None,
            Ok(length) => {
                self.read += length;
                self.pending.drain(..self.given);
                self.given = 0;
                self.pending.extend_from_slice(&piece[..length]);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// How it ended, if it does so before `deadline`. Whoever it left behind is told to leave, and killed if that takes too long.
    pub fn end(mut self, signals: &mut Signals, deadline: Moment) -> io::Result<Option<ExitStatus>> {
        self.close();
        loop {
            let [over, signal] = ready([self.pidfd.as_fd(), signals.fd()], remaining(deadline))?;
            if over {
                return self.reap().map(Some);
            }
            if (signal && signals.asked_to_stop()) || (!signal && remaining(deadline).is_zero()) {
                return Ok(None);
            }
        }
    }

    /// Ends whoever is left of its group, then waits for it: as long as it is not waited for, nobody else has its number.
    fn reap(&mut self) -> io::Result<ExitStatus> {
        departure::end_group(group(&self.child), TO_LEAVE);
        self.reaped = true;
        self.guardian.dismiss();
        self.child.wait()
    }

    fn await_exit(&self, at_most: Duration) -> bool {
        let deadline = clock::now().after(at_most);
        loop {
            match ready([self.pidfd.as_fd()], remaining(deadline)) {
                Ok([true]) => return true,
                Ok([false]) if remaining(deadline).is_zero() => return false,
                Ok([false]) => {}
                Err(_) => return false,
            }
        }
    }
}

impl Drop for Conversation {
    /// It may finish if it was listening; then whoever lives of its group is told to leave, and killed if that takes too long. A
    /// shell dies of SIGTERM at once, and what it ran may have something to put in order.
    fn drop(&mut self) {
        if self.reaped {
            return;
        }
        self.output = None;
        if self.input.take().is_some() {
            self.await_exit(TO_FINISH);
        }
        self.reap().ok();
    }
}

/// A process that ends a group should we be killed: it holds the reading end of a pipe of which we alone have the other.
#[derive(Debug)]
struct Guardian {
    process: Child,
}

/// What its shell runs, `$0` being the group, `$1` and `$2` the time it gives it: nobody writes, so `read` ends when we do.
const WATCH: &str = r#"read -r _; sleep "$1"; kill -s TERM -- "-$0" && sleep "$2" && kill -s KILL -- "-$0""#;

impl Guardian {
    fn over(child: &Child) -> io::Result<Self> {
        let mut shell = Command::new("/bin/sh");
        // In a group of its own, the terminal's Ctrl-C does not reach it.
        shell.arg("-c").arg(WATCH).arg(child.id().to_string()).process_group(0);
        shell.args([TO_FINISH, TO_LEAVE].map(|span| span.as_secs().to_string()));
        let process = shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        Ok(Self { process })
    }

    /// Ends it, while the group's number is still nobody else's.
    fn dismiss(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

fn group(child: &Child) -> Pid {
    Pid::from_child(child)
}

fn remaining(deadline: Moment) -> Duration {
    deadline.since(clock::now())
}

/// Waits until at least one of `fds` can be read or is at its end, and says which. A signal's arrival ends the wait too.
fn ready<const N: usize>(fds: [BorrowedFd<'_>; N], at_most: Duration) -> io::Result<[bool; N]> {
    let mut polled = fds.each_ref().map(|fd| PollFd::new(fd, PollFlags::IN));
    let timeout = Timespec::try_from(at_most).map_err(io::Error::other)?;
    match poll(&mut polled, Some(&timeout)) {
        Ok(_) => Ok(polled.map(|fd| !fd.revents().is_empty())),
        Err(rustix::io::Errno::INTR) => Ok([false; N]),
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn start(command: &str) -> (Conversation, Signals) {
        let errors = File::options().write(true).open("/dev/null").unwrap();
        (Conversation::start(command, [], errors.as_fd()).unwrap(), Signals::of_a_study().unwrap())
    }

    fn hear(talk: &mut Conversation, signals: &mut Signals) -> Heard {
        talk.hear(signals, clock::now().after(PATIENCE)).unwrap()
    }

    #[test]
    fn whoever_a_program_that_ended_has_left_behind_is_killed() {
        let (mut talk, mut signals) = start("sleep 1000 & echo $!");
        let Heard::Line(line) = hear(&mut talk, &mut signals) else { panic!("no number of a process") };
        let number: i32 = String::from_utf8(line).unwrap().parse().unwrap();
        let left = pidfd_open(Pid::from_raw(number).unwrap(), PidfdFlags::empty()).unwrap();
        assert!(talk.await_exit(PATIENCE), "the shell ends");
        assert_eq!(ready([left.as_fd()], Duration::ZERO).unwrap(), [false], "its child does not");
        drop(talk);
        assert_eq!(ready([left.as_fd()], PATIENCE).unwrap(), [true]);
    }

    #[test]
    fn whoever_a_shell_leaves_behind_may_put_things_in_order() {
        let folder = tempfile::tempdir().unwrap();
        // The shell dies of SIGTERM, or has ended by itself before.
        for (end, rest) in [("told", "wait"), ("by-itself", "read q")] {
            let goodbye = folder.path().join(end);
            let child = format!("trap 'sleep 0.2; touch {}; exit' TERM; echo; while :; do sleep 1; done", goodbye.display());
            let (mut talk, mut signals) = start(&format!("({child}) & {rest}"));
            assert_eq!(hear(&mut talk, &mut signals), Heard::Line(Vec::new()));
            talk.close();
            assert!(end == "told" || talk.await_exit(PATIENCE), "the shell ends");
            drop(talk);
            assert!(goodbye.exists(), "{end}");
        }
    }

    #[test]
    fn nobody_of_the_group_outlives_whoever_asked() {
        let (mut talk, mut signals) = start("sleep 1000 & echo $!; wait");
        let Heard::Line(line) = hear(&mut talk, &mut signals) else { panic!("no number of a process") };
        let number: i32 = String::from_utf8(line).unwrap().parse().unwrap();
        let left = pidfd_open(Pid::from_raw(number).unwrap(), PidfdFlags::empty()).unwrap();
        // As a kill of this process would.
        drop(talk.guardian.process.stdin.take());
        let deadline = clock::now().after(PATIENCE);
        while ready([left.as_fd()], remaining(deadline)).unwrap() == [false] {
            assert!(!remaining(deadline).is_zero(), "it lives on");
        }
    }

    #[test]
    fn what_was_said_beside_the_answer_is_seen_before_the_next_question() {
        let (mut talk, mut signals) = start("read q; printf '1\\n2\\n'; read q; printf '3\\n\\n \\n'; read q");
        assert!(!talk.has_unheard().unwrap());
        talk.ask(b"first").unwrap();
        assert_eq!(hear(&mut talk, &mut signals), Heard::Line(b"1".to_vec()));
        assert!(talk.has_unheard().unwrap());
        assert_eq!(hear(&mut talk, &mut signals), Heard::Line(b"2".to_vec()));
        talk.ask(b"second").unwrap();
        assert_eq!(hear(&mut talk, &mut signals), Heard::Line(b"3".to_vec()));
        assert!(!talk.has_unheard().unwrap(), "blank lines say nothing");
    }
}
