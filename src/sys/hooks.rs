//! Programs that run when something happens to a worker: started, listened to, and ended when they take too long. Nobody waits for them
//! but the worker that is not made before its hook has ended.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
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
    output: OwnedFd,
    unlogged: Vec<u8>,
    heard: usize,
    kill_at: Moment,
    killed: bool,
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
        self.0.push(Running { occasion, process, output, unlogged: Vec::new(), heard: 0, kill_at, killed: false });
        Ok(())
    }

    /// Logs what hooks write, ends those that take too long, and tells which have ended.
    pub(super) fn look(&mut self) -> Vec<Finished> {
        let now = clock::now();
        let mut finished = Vec::new();
        for place in (0..self.0.len()).rev() {
            let running = &mut self.0[place];
            running.listen();
            if !running.killed && running.kill_at <= now {
                running.kill();
            }
            if let Some(result) = running.ended() {
                running.listen();
                running.log(true);
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
        self.0.iter().flat_map(|running| [running.output.as_fd(), running.process.pidfd.as_fd()])
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

impl Running {
    fn listen(&mut self) {
        let mut piece = [0_u8; PIECE];
        while let Ok(length @ 1..) = rustix::io::retry_on_intr(|| rustix::io::read(&self.output, &mut piece)) {
            let room = MAX_OUTPUT.saturating_sub(self.heard).min(length);
            self.heard += length;
            self.unlogged.extend_from_slice(piece.get(..room).unwrap_or_default());
            self.log(false);
        }
    }

    /// Logs whole lines; at the end also what is no whole line.
    fn log(&mut self, at_end: bool) {
        let whole = match memchr::memrchr(b'\n', &self.unlogged) {
            Some(last) if !at_end => last + 1,
            None if !at_end => return,
            Some(_) | None => self.unlogged.len(),
        };
        let hook = self.occasion.hook.name();
        for line in self.unlogged.drain(..whole).collect::<Vec<u8>>().split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
        {
            tracing::info!(hook, worker = %self.occasion.slot, said = ?String::from_utf8_lossy(line), "hook");
        }
        if at_end && self.heard > MAX_OUTPUT {
            tracing::warn!(hook, worker = %self.occasion.slot, dropped_bytes = self.heard - MAX_OUTPUT, "the hook wrote too much");
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
