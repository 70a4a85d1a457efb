//! A program that is asked by lines on its standard input and answers by lines on its standard output. Bounds how much it may say and how long
//! it may take. It leads a process group of its own, of which nobody is left when the conversation is over.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use memchr::memchr;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use super::clock;
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
    pidfd: OwnedFd,
    input: Option<ChildStdin>,
    output: Option<ChildStdout>,
    /// What was read; from `given` on, nobody has got it yet.
    pending: Vec<u8>,
    given: usize,
    /// Bytes read since the last question.
    read: usize,
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
        let (input, output) = (child.stdin.take(), child.stdout.take());
        Ok(Self { child, pidfd, input, output, pending: Vec::new(), given: 0, read: 0 })
    }

    /// Writes a line. Fails if the program reads no more. A line must be short enough for a pipe that holds nothing else (pipe(7), 4 KiB).
    pub fn ask(&mut self, line: &[u8]) -> io::Result<()> {
        self.read = 0;
        let input = self.input.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        input.write_all(&[line, b"\n"].concat())
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
            let Some(output) = &mut self.output else {
                let rest = self.pending.split_off(self.given);
                return Ok(if rest.is_empty() { Heard::End } else { Heard::Line(rest) });
            };
            let [said, over, signal] = ready([output.as_fd(), self.pidfd.as_fd(), signals.fd()], remaining(deadline))?;
            if signal && signals.asked_to_stop() {
                return Ok(Heard::Interrupted);
            }
            if said {
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
            } else if over {
                // Somebody it left behind may hold its output open.
                self.output = None;
            } else if !signal && remaining(deadline).is_zero() {
                return Ok(Heard::Late);
            }
        }
    }

    /// How it ended, if it does so before `deadline`. Whoever it left behind is killed.
    pub fn end(mut self, signals: &mut Signals, deadline: Moment) -> io::Result<Option<ExitStatus>> {
        self.close();
        loop {
            let [over, signal] = ready([self.pidfd.as_fd(), signals.fd()], remaining(deadline))?;
            if over {
                // Before the wait: as long as it is not waited for, nobody else has its number.
                kill_process_group(group(&self.child), Signal::KILL).ok();
                return self.child.wait().map(Some);
            }
            if (signal && signals.asked_to_stop()) || (!signal && remaining(deadline).is_zero()) {
                return Ok(None);
            }
        }
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
    /// It may finish if it was listening, is told to leave, and is killed with its whole group.
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_)) | Err(_)) {
            return;
        }
        self.output = None;
        let group = group(&self.child);
        if self.input.take().is_none() || !self.await_exit(TO_FINISH) {
            kill_process_group(group, Signal::TERM).ok();
            self.await_exit(TO_LEAVE);
        }
        kill_process_group(group, Signal::KILL).ok();
        self.child.wait().ok();
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
