//! Programs that run when something happens to a worker: started, listened to, and ended when they take too long. Nobody waits for them
//! but the worker that is not made before its hook has ended.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, kill_process_group};
use thiserror::Error;

use super::clock;
use super::spawn::{Output, Process, Program, SpawnError, spawn};
use super::standing::Standing;
use crate::units::{Generation, Moment, Slot, WorkerId};

/// How long a hook may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Hooks that run at the same time; more are not started.
const MAX_RUNNING: usize = 64;
/// How much of what one hook writes is logged, bytes; the rest is dropped.
const MAX_OUTPUT: usize = 16 * 1024;
const PIECE: usize = 4096;
/// Pieces read of one hook in one look, together what a pipe holds (pipe(7)): a flood must not keep the main loop.
const MAX_PIECES: usize = 16;

/// What a hook is about.
#[derive(Clone, Debug)]
pub(super) struct Occasion {
    pub(super) hook: HookKind,
    pub(super) worker: WorkerId,
    pub(super) slot: Slot,
    pub(super) generation: Generation,
    pub(super) pid: Option<u32>,
    /// How the worker ended, if it has.
    pub(super) exit: Option<String>,
}

/// When a hook runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HookKind {
    BeforeFork,
    AfterReady,
    OnExit,
}

impl HookKind {
    const fn name(self) -> &'static str {
        match self {
            Self::BeforeFork => "before-fork",
            Self::AfterReady => "after-ready",
            Self::OnExit => "on-exit",
        }
    }
}

/// Why a hook did not run, or not well.
#[derive(Debug, Error)]
pub(super) enum HookError {
    #[error("{MAX_RUNNING} hooks are running already")]
    TooMany,
    #[error("the hook {hook} cannot be started: {source}")]
    Start { hook: &'static str, source: SpawnError },
    #[error("the hook {hook} ended with {end}")]
    Failed { hook: &'static str, end: String },
    #[error("the hook {hook} took longer than {} s", PATIENCE.as_secs())]
    Late { hook: &'static str },
}

/// Who asked for it, and how it ended.
pub(super) type Finished = (Occasion, Result<(), HookError>);

struct Running {
    occasion: Occasion,
    process: Process,
    output: Words,
    kill_at: Moment,
    killed: bool,
}

/// What a hook writes.
#[derive(Debug)]
struct Words {
    /// Until nobody can write any more: an end that is polled still would wake us for ever.
    fd: Option<OwnedFd>,
    unlogged: Vec<u8>,
    heard: usize,
}

/// All hooks that run now.
#[derive(Default)]
pub(super) struct Hooks(Vec<Running>);

impl Hooks {
    /// Starts `argv` for `occasion`, with `env` beside what tells it of the occasion.
    pub(super) fn start(
        &mut self,
        occasion: Occasion,
        argv: &[String],
        directory: &Path,
        env: &[(OsString, OsString)],
    ) -> Result<(), HookError> {
        if self.0.len() >= MAX_RUNNING {
            return Err(HookError::TooMany);
        }
        let hook = occasion.hook.name();
        let start = |source| HookError::Start { hook, source };
        let pipe = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK);
        let (output, theirs) = pipe.map_err(|errno| start(SpawnError::Step { step: "pipe", source: errno.into() }))?;
        // Its own writes may wait for us.
        rustix::io::ioctl_fionbio(&theirs, false).ok();
        let theirs = Output::To(theirs);
        let process = spawn(&Program {
            argv: argv.to_vec(),
            env: env.iter().cloned().chain(variables(&occasion)).collect(),
            directory,
            fds: Vec::new(),
            streams: theirs.streams(None),
            standing: Standing::ours(),
            listen_pid: false,
        })
        .map_err(start)?;
        let kill_at = clock::now().after(PATIENCE);
        self.0.push(Running { occasion, process, output: Words::from(output), kill_at, killed: false });
        Ok(())
    }

    /// Logs what hooks write, ends those that take too long, and tells which have ended.
    pub(super) fn look(&mut self) -> Vec<Finished> {
        let now = clock::now();
        let mut finished = Vec::new();
        for place in (0..self.0.len()).rev() {
            let running = &mut self.0[place];
            if !running.killed && running.kill_at <= now {
                running.kill();
            }
            // Asked first: what it wrote before it ended is there then.
            let ended = running.ended();
            running.output.listen();
            running.log(ended.is_some());
            if let Some(result) = ended {
                finished.push((self.0.swap_remove(place).occasion, result));
            }
        }
        finished
    }

    /// Whether the worker waits for its hook. It waits no more.
    pub(super) fn abandon(&mut self, worker: WorkerId) {
        let waits = |running: &&mut Running| running.occasion.worker == worker && running.occasion.hook == HookKind::BeforeFork;
        for running in self.0.iter_mut().filter(waits) {
            running.kill();
        }
    }

    /// What to wake up for: words, ends and the next one's patience.
    pub(super) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let words = self.0.iter().filter_map(|running| running.output.fd.as_ref());
        words.map(OwnedFd::as_fd).chain(self.0.iter().map(|running| running.process.pidfd.as_fd()))
    }

    pub(super) fn next_timer(&self) -> Option<Moment> {
        self.0.iter().filter(|running| !running.killed).map(|running| running.kill_at).min()
    }

    /// Their processes, which are children of ours and no workers.
    pub(super) fn pids(&self) -> Vec<Pid> {
        self.0.iter().map(|running| running.process.pid).collect()
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<OwnedFd> for Words {
    fn from(fd: OwnedFd) -> Self {
        Self { fd: Some(fd), unlogged: Vec::new(), heard: 0 }
    }
}

impl Words {
    fn listen(&mut self) {
        let mut piece = [0_u8; PIECE];
        for _ in 0..MAX_PIECES {
            let Some(fd) = &self.fd else { return };
            match rustix::io::retry_on_intr(|| rustix::io::read(fd, &mut piece)) {
                Ok(length @ 1..) => {
                    let room = MAX_OUTPUT.saturating_sub(self.heard).min(length);
                    self.heard += length;
                    self.unlogged.extend_from_slice(piece.get(..room).unwrap_or_default());
                }
                Err(Errno::AGAIN) => return,
                Ok(0) | Err(_) => self.fd = None,
            }
        }
    }

    /// Takes whole lines; at the end also what is no whole line.
    fn take(&mut self, at_end: bool) -> Vec<u8> {
        let whole = match memchr::memrchr(b'\n', &self.unlogged) {
            _ if at_end => self.unlogged.len(),
            Some(last) => last + 1,
            None => 0,
        };
        self.unlogged.drain(..whole).collect()
    }
}

impl Running {
    /// Logs whole lines; at the end also what is no whole line.
    fn log(&mut self, at_end: bool) {
        let hook = self.occasion.hook.name();
        for line in self.output.take(at_end).split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            tracing::info!(hook, worker = %self.occasion.slot, said = ?String::from_utf8_lossy(line), "hook");
        }
        let heard = self.output.heard;
        if at_end && heard > MAX_OUTPUT {
            tracing::warn!(hook, worker = %self.occasion.slot, dropped_bytes = heard - MAX_OUTPUT, "the hook wrote too much");
        }
    }

    fn kill(&mut self) {
        self.killed = true;
        // It is not reaped, so the number of its group is not another's.
        kill_process_group(self.process.pid, Signal::KILL).ok();
    }

    fn ended(&self) -> Option<Result<(), HookError>> {
        let hook = self.occasion.hook.name();
        let end = match waitid(Id::PIDFd(self.process.pidfd.as_fd()), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG) {
            Ok(WaitStatus::Exited(_, 0)) => return Some(Ok(())),
            Ok(WaitStatus::Exited(_, code)) => format!("exit code {code}"),
            Ok(WaitStatus::Signaled(..)) if self.killed => return Some(Err(HookError::Late { hook })),
            Ok(WaitStatus::Signaled(_, signal, _)) => format!("signal {}", signal as i32),
            Ok(_) => return None,
            Err(errno) => io::Error::from(errno).to_string(),
        };
        Some(Err(HookError::Failed { hook, end }))
    }
}

fn variables(occasion: &Occasion) -> impl Iterator<Item = (OsString, OsString)> {
    let mut told = vec![
        ("TUNINGFORK_HOOK", occasion.hook.name().to_owned()),
        ("TUNINGFORK_WORKER", occasion.slot.to_string()),
        ("TUNINGFORK_WORKER_ID", occasion.worker.to_string()),
        ("TUNINGFORK_GENERATION", occasion.generation.to_string()),
    ];
    told.extend(occasion.pid.map(|pid| ("TUNINGFORK_WORKER_PID", pid.to_string())));
    told.extend(occasion.exit.clone().map(|exit| ("TUNINGFORK_EXIT", exit)));
    told.into_iter().map(|(name, value)| (name.into(), value.into()))
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;

    #[test]
    fn a_hook_that_never_stops_writing_is_heard_a_piece_at_a_time() {
        let mut words = Words::from(OwnedFd::from(File::open("/dev/zero").unwrap()));
        words.listen();
        assert_eq!((words.heard, words.unlogged.len()), (MAX_PIECES * PIECE, MAX_OUTPUT));
        words.listen();
        assert_eq!((words.heard, words.unlogged.len()), (2 * MAX_PIECES * PIECE, MAX_OUTPUT));
        assert_eq!((words.take(false).len(), words.take(true).len()), (0, MAX_OUTPUT));
    }

    #[test]
    fn a_hook_that_has_closed_its_output_wakes_nobody() {
        let (output, theirs) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap();
        let mut words = Words::from(output);
        words.listen();
        assert!(words.fd.is_some());
        rustix::io::write(&theirs, b"one\ntwo").unwrap();
        drop(theirs);
        words.listen();
        assert!(words.fd.is_none());
        assert_eq!((words.take(false), words.take(true)), (b"one\n".to_vec(), b"two".to_vec()));
    }
}
