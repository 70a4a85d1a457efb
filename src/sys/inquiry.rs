//! Asks a Python interpreter's own Gunicorn what a command line means. The question is a process of its own, whose answer is
//! awaited beside everything else: a gunicorn.conf.py that hangs must not stop the supervisor. Refuses answers that are too long.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, geteuid, kill_process_group, pidfd_send_signal, waitid};
use thiserror::Error;

use super::spawn::{Output, Process, Program, spawn};
use super::standing::{self, Standing};
use super::zygote::{START, memory};
use crate::config::Config;

const SCRIPT: &str = concat!(include_str!("zygote/application.py"), "\n\n", include_str!("zygote/inquiry.py"));
/// Longest answer taken, bytes.
const MAX_ANSWER: usize = 1 << 20;

/// Why there is no answer. The message is what the user reads.
#[derive(Debug, Error)]
pub enum InquiryError {
    /// The interpreter cannot be run.
    #[error("the Python interpreter {} cannot be started by user {user}: {reason}", interpreter.display())]
    Spawn {
        /// As it was named.
        interpreter: PathBuf,
        /// Who tried.
        user: String,
        /// The system's words.
        reason: String,
    },
    /// It ended and has said nothing: it is no Python, or was killed, or the settings end the process.
    #[error("the Python interpreter {} ended before it had read Gunicorn's settings; is it a Python?", interpreter.display())]
    Silent {
        /// As it was named.
        interpreter: PathBuf,
    },
    /// The answer cannot be an answer.
    #[error("Gunicorn's answer is longer than {MAX_ANSWER} bytes")]
    TooLong,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To tell.
    Look,
    /// To serve: Gunicorn's log files are made, and given to the workers' user, as its master does.
    Serve,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The Python to ask: absolute, or a name looked up in PATH.
    pub interpreter: PathBuf,
    /// Gunicorn's command line.
    pub arguments: Vec<String>,
    /// The application, whatever the command line names.
    pub app: Option<String>,
    /// Where it is to be understood.
    pub directory: PathBuf,
    /// What for.
    pub purpose: Purpose,
}

/// What an answer makes of a generation; an error is what the user reads.
pub type Meaning = Box<dyn FnOnce(&str) -> Result<Arc<Config>, String>>;

/// A question under way.
pub struct Inquiry {
    interpreter: PathBuf,
    process: Process,
    answer: OwnedFd,
    heard: Vec<u8>,
}

impl Inquiry {
    /// Asks. `env` is what the interpreter sees; what it prints goes to `output`.
    ///
    /// # Errors
    ///
    /// The interpreter cannot be run.
    pub fn start(question: &Question, env: Vec<(OsString, OsString)>, output: &Output) -> Result<Self, InquiryError> {
        let refused = |reason: String| InquiryError::Spawn {
            interpreter: question.interpreter.clone(),
            user: standing::name_of(geteuid().as_raw()),
            reason,
        };
        let failed = |error: Errno| refused(error.to_string());
        let (answer, theirs) = pipe_with(PipeFlags::CLOEXEC).map_err(failed)?;
        let script = memory(SCRIPT).map_err(failed)?;
        let mut argv = vec![question.interpreter.to_string_lossy().into_owned(), "-c".to_owned(), START.to_owned()];
        argv.push(if question.purpose == Purpose::Serve { "serve" } else { "look" }.to_owned());
        argv.push(question.app.clone().unwrap_or_default());
        argv.extend(question.arguments.iter().cloned());
        let program = Program {
            argv,
            env,
            directory: Path::new(&question.directory),
            fds: vec![theirs.as_fd(), script.as_fd()],
            streams: output.streams(None),
            standing: Standing::ours(),
            listen_pid: false,
        };
        let process = spawn(&program).map_err(|error| refused(error.to_string()))?;
        Ok(Self { interpreter: question.interpreter.clone(), process, answer, heard: Vec::new() })
    }

    pub(super) const fn pid(&self) -> Pid {
        self.process.pid
    }

    /// Readable when there is more of the answer.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.answer.as_fd()
    }

    /// The answer, once it is complete. Never waits.
    pub(super) fn hear(&mut self) -> Option<Result<String, InquiryError>> {
        while self.has_more() {
            if let Some(answer) = self.read() {
                return Some(answer);
            }
        }
        None
    }

    fn has_more(&self) -> bool {
        let mut answer = [PollFd::new(&self.answer, PollFlags::IN)];
        poll(&mut answer, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|ready| ready > 0)
    }

    /// Waits for the answer; for a time at which nothing else is under way.
    ///
    /// # Errors
    ///
    /// There is none, or it is too long.
    pub fn wait(mut self) -> Result<String, InquiryError> {
        loop {
            if let Some(answer) = self.read() {
                self.end();
                rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(self.process.pidfd.as_fd()), WaitIdOptions::EXITED)).ok();
                return answer;
            }
        }
    }

    fn end(&self) {
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        // Once it is reaped, its number may be another group's.
        if waitid(WaitId::PidFd(self.process.pidfd.as_fd()), look).is_ok() {
            kill_process_group(self.process.pid, Signal::KILL).ok();
        }
        pidfd_send_signal(&self.process.pidfd, Signal::KILL).ok();
    }

    /// Reads on; gives the answer when it has ended.
    fn read(&mut self) -> Option<Result<String, InquiryError>> {
        let mut piece = [0_u8; 4096];
        match rustix::io::read(&self.answer, &mut piece) {
            Ok(0) if self.heard.is_empty() => Some(Err(InquiryError::Silent { interpreter: self.interpreter.clone() })),
            Ok(0) => Some(Ok(String::from_utf8_lossy(&self.heard).into_owned())),
            Ok(_) if self.heard.len() > MAX_ANSWER => Some(Err(InquiryError::TooLong)),
            Ok(length) => {
                self.heard.extend_from_slice(piece.get(..length).unwrap_or_default());
                None
            }
            Err(_) => None,
        }
    }
}

impl Drop for Inquiry {
    /// The answer has come, or nobody waits for it any more. It is reaped as a stranger: the kernel may take long to end it.
    fn drop(&mut self) {
        self.end();
    }
}
