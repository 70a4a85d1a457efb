//! Programs that run when something happens to a worker: started, listened to, and ended when they take too long. Nobody waits for them
//! but the worker that is not made before its hook has ended. Those that cannot all run at the same time wait for their turn.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, kill_process_group};
use thiserror::Error;

use super::clock;
use super::sleep::sleep;
use super::spawn::{Output, Process, Program, SpawnError, spawn};
use super::standing::Standing;
use crate::config::Config;
use crate::units::{Generation, Moment, Slot, WorkerId, Workers};

/// How long a hook may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Hooks that run at the same time; more wait.
const MAX_RUNNING: usize = 64;
/// Hooks that wait; of those for which no worker waits, more are not run. Workers that wait are as many as the supervisor orders.
const MAX_WAITING: usize = 2 * Workers::MAX as usize;
/// What the last hooks may take beside their time: to end when they are killed.
const LAST_BREATH: Duration = Duration::from_secs(1);
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
    /// Says which program it is.
    pub(super) config: Arc<Config>,
}

impl Occasion {
    /// The hook's program and arguments; empty if there is none.
    pub(super) fn argv(&self) -> &[String] {
        let hooks = &self.config.hooks;
        match self.hook {
            HookKind::BeforeFork => &hooks.before_fork,
            HookKind::AfterReady => &hooks.after_ready,
            HookKind::OnExit => &hooks.on_exit,
        }
    }
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
    #[error("the hook {hook} is not run: {MAX_WAITING} hooks are waiting already")]
    TooMany { hook: &'static str },
    #[error("the hook {hook} is not run: the time for the last hooks is over")]
    NoTime { hook: &'static str },
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

/// All hooks that run now, and those that wait for their turn.
#[derive(Default)]
pub(super) struct Hooks {
    running: Vec<Running>,
    /// Not empty only while as many run as may.
    waiting: VecDeque<Occasion>,
}

impl Hooks {
    /// Runs the hook for `occasion`, now or when others have ended, with `env` beside what tells it of the occasion.
    pub(super) fn run(&mut self, occasion: Occasion, env: &[(OsString, OsString)]) -> Result<(), HookError> {
        if self.running.len() < MAX_RUNNING {
            self.running.push(Running::start(occasion, env).map_err(|(_, error)| error)?);
        } else if occasion.hook == HookKind::BeforeFork {
            // Before those for which nobody waits.
            let place = self.waiting.iter().take_while(|other| other.hook == HookKind::BeforeFork).count();
            self.waiting.insert(place, occasion);
        } else if self.waiting.len() < MAX_WAITING {
            self.waiting.push_back(occasion);
        } else {
            return Err(HookError::TooMany { hook: occasion.hook.name() });
        }
        Ok(())
    }

    /// Logs what hooks write, ends those that take too long, tells which have ended, and starts those whose turn has come.
    pub(super) fn look(&mut self, env: &[(OsString, OsString)]) -> Vec<Finished> {
        let now = clock::now();
        let mut finished = Vec::new();
        for place in (0..self.running.len()).rev() {
            let running = &mut self.running[place];
            if !running.killed && running.kill_at <= now {
                running.kill();
            }
            // Asked first: what it wrote before it ended is there then.
            let ended = running.ended();
            running.output.listen();
            running.log(ended.is_some());
            if let Some(result) = ended {
                finished.push((self.running.swap_remove(place).occasion, result));
            }
        }
        while self.running.len() < MAX_RUNNING
            && let Some(occasion) = self.waiting.pop_front()
        {
            match Running::start(occasion, env) {
                Ok(running) => self.running.push(running),
                Err((occasion, error)) => finished.push((occasion, Err(error))),
            }
        }
        finished
    }

    /// Whether the worker waits for a hook whose turn has not come. It waits no more.
    pub(super) fn withdraw(&mut self, worker: WorkerId) -> bool {
        let before = self.waiting.len();
        self.waiting.retain(|occasion| occasion.worker != worker || occasion.hook != HookKind::BeforeFork);
        self.waiting.len() < before
    }

    /// Nobody waits any more for the hook before this worker.
    pub(super) fn abandon(&mut self, worker: WorkerId) {
        self.withdraw(worker);
        let waits = |running: &&mut Running| running.occasion.worker == worker && running.occasion.hook == HookKind::BeforeFork;
        for running in self.running.iter_mut().filter(waits) {
            running.kill();
        }
    }

    /// How long all take at most that run or wait.
    pub(super) fn longest(&self) -> Duration {
        let rounds = (self.running.len() + self.waiting.len()).div_ceil(MAX_RUNNING);
        PATIENCE.saturating_mul(u32::try_from(rounds).unwrap_or(u32::MAX)).saturating_add(LAST_BREATH)
    }

    /// Waits for all, until then at most. Nobody hears signals any more, and one that even outlives SIGKILL would be waited for for ever.
    pub(super) fn finish(&mut self, until: Moment, env: &[(OsString, OsString)]) -> Vec<Finished> {
        let mut finished = Vec::new();
        while !self.running.is_empty() && clock::now() < until {
            sleep(&self.fds().collect::<Vec<_>>(), self.next_timer().into_iter().chain([until]).min());
            finished.extend(self.look(env));
        }
        for mut running in self.running.drain(..) {
            running.kill();
            let hook = running.occasion.hook.name();
            finished.push((running.occasion, Err(HookError::Late { hook })));
        }
        let unheard = self.waiting.drain(..).map(|occasion| (occasion.hook.name(), occasion));
        finished.extend(unheard.map(|(hook, occasion)| (occasion, Err(HookError::NoTime { hook }))));
        finished
    }

    /// What to wake up for: words, ends and the next one's patience.
    pub(super) fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let words = self.running.iter().filter_map(|running| running.output.fd.as_ref());
        words.map(OwnedFd::as_fd).chain(self.running.iter().map(|running| running.process.pidfd.as_fd()))
    }

    pub(super) fn next_timer(&self) -> Option<Moment> {
        self.running.iter().filter(|running| !running.killed).map(|running| running.kill_at).min()
    }

    /// Their processes, which are children of ours and no workers.
    pub(super) fn pids(&self) -> Vec<Pid> {
        self.running.iter().map(|running| running.process.pid).collect()
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
    /// Starts the hook for `occasion`, which comes back if that fails.
    fn start(occasion: Occasion, env: &[(OsString, OsString)]) -> Result<Self, (Occasion, HookError)> {
        match begin(&occasion, env) {
            Ok((process, output)) => {
                let kill_at = clock::now().after(PATIENCE);
                Ok(Self { occasion, process, output: Words::from(output), kill_at, killed: false })
            }
            Err(source) => {
                let hook = occasion.hook.name();
                Err((occasion, HookError::Start { hook, source }))
            }
        }
    }

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

/// The process of a hook, and what it writes.
fn begin(occasion: &Occasion, env: &[(OsString, OsString)]) -> Result<(Process, OwnedFd), SpawnError> {
    let pipe = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK);
    let (output, theirs) = pipe.map_err(|errno| SpawnError::Step { step: "pipe", source: errno.into() })?;
    // Its own writes may wait for us.
    rustix::io::ioctl_fionbio(&theirs, false).ok();
    let theirs = Output::To(theirs);
    let process = spawn(&Program {
        argv: occasion.argv().to_vec(),
        env: env.iter().cloned().chain(variables(occasion)).collect(),
        directory: occasion.config.app.directory(),
        fds: Vec::new(),
        streams: theirs.streams(None),
        standing: Standing::ours(),
        listen_pid: false,
    })?;
    Ok((process, output))
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
    use std::num::NonZeroU16;
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::config::{Machine, Surroundings};

    /// Of a worker whose hooks run this shell command.
    fn occasion(worker: u64, hook: HookKind, command: &str) -> Occasion {
        let hooks = ["before-fork", "on-exit"].map(|name| format!("{name} = [\"/bin/sh\", \"-c\", \"{command}\"]\n")).concat();
        let text = format!("[app]\nkind = \"command\"\ncommand = [\"true\"]\n[hooks]\n{hooks}");
        let machine = Machine::of_cores(NonZeroU16::MIN);
        let surroundings = Surroundings { web_concurrency: None, virtual_env: None, machine, directory: PathBuf::from("/") };
        let config = Arc::new(Config::parse(&text, Path::new("t"), &surroundings).unwrap());
        let generation = Generation::FIRST;
        Occasion { hook, worker: WorkerId(worker), slot: Slot(0), generation, pid: None, exit: None, config }
    }

    /// As many as may run, of the workers from 0 on. One process is all of them, but that of worker 0: each fork holds what other tests
    /// have open for a moment. None is ever late: a busy machine may need long for a test.
    fn full(hook: HookKind) -> Hooks {
        let never = Moment::from_nanos(u64::MAX);
        let start = |worker| {
            let started = Running::start(occasion(worker, hook, "exec sleep 1000"), &[]).map_err(|(_, error)| error);
            Running { kill_at: never, ..started.unwrap() }
        };
        let (first, other) = (start(0), start(1));
        let again = |worker| Running {
            occasion: Occasion { worker: WorkerId(worker), ..other.occasion.clone() },
            process: Process { pid: other.process.pid, pidfd: other.process.pidfd.try_clone().unwrap() },
            output: Words { fd: None, unlogged: Vec::new(), heard: 0 },
            ..other
        };
        let others = (2..MAX_RUNNING as u64).map(again).collect::<Vec<_>>();
        Hooks { running: [first, other].into_iter().chain(others).collect(), waiting: VecDeque::new() }
    }

    #[test]
    fn more_hooks_than_may_run_wait_for_their_turn_those_first_for_which_a_worker_waits() {
        let mut hooks = full(HookKind::BeforeFork);
        for (worker, hook) in [(101, HookKind::OnExit), (102, HookKind::BeforeFork), (103, HookKind::BeforeFork)] {
            hooks.run(occasion(worker, hook, "exit 7"), &[]).unwrap();
        }
        let waiting = |hooks: &Hooks| hooks.waiting.iter().map(|occasion| occasion.worker.0).collect::<Vec<_>>();
        assert_eq!((hooks.running.len(), waiting(&hooks)), (MAX_RUNNING, vec![102, 103, 101]));
        assert!(hooks.withdraw(WorkerId(103)) && !hooks.withdraw(WorkerId(103)) && !hooks.withdraw(WorkerId(101)));
        hooks.abandon(WorkerId(0));
        let mut ended = Vec::new();
        while ended.len() < 3 {
            sleep(&hooks.fds().collect::<Vec<_>>(), None);
            let news = hooks.look(&[]).into_iter();
            ended.extend(news.map(|(occasion, result)| (occasion.worker.0, result.unwrap_err().to_string())));
        }
        let (late, failed) = ("the hook before-fork took longer than 10 s", "ended with exit code 7");
        assert_eq!(ended[0], (0, late.to_owned()));
        assert_eq!(ended[1], (102, format!("the hook before-fork {failed}")));
        assert_eq!(ended[2], (101, format!("the hook on-exit {failed}")));
        hooks.finish(Moment::default(), &[]);
    }

    #[test]
    fn of_those_for_which_nobody_waits_only_so_many_wait() {
        let mut hooks = full(HookKind::OnExit);
        let one = occasion(1, HookKind::OnExit, "true");
        let mut run = |hook| hooks.run(Occasion { hook, ..one.clone() }, &[]);
        for _ in 0..MAX_WAITING {
            run(HookKind::OnExit).unwrap();
        }
        assert!(matches!(run(HookKind::OnExit), Err(HookError::TooMany { .. })));
        run(HookKind::BeforeFork).unwrap();
        assert_eq!(hooks.longest(), PATIENCE * 34 + LAST_BREATH);
        hooks.finish(Moment::default(), &[]);
    }

    #[test]
    fn a_hook_that_outlives_its_kill_is_not_waited_for_for_ever() {
        let mut hooks = full(HookKind::OnExit);
        hooks.run(occasion(100, HookKind::OnExit, "true"), &[]).unwrap();
        for running in &mut hooks.running {
            // As if it had been: a process that the kernel holds looks like this.
            running.killed = true;
        }
        assert_eq!(hooks.next_timer(), None);
        let ended = hooks.finish(clock::now().after(Duration::from_millis(50)), &[]);
        let late = ended.iter().filter(|(_, result)| matches!(result, Err(HookError::Late { .. }))).count();
        assert_eq!((late, ended.len()), (MAX_RUNNING, MAX_RUNNING + 1));
        assert!(matches!(ended[MAX_RUNNING].1, Err(HookError::NoTime { .. })));
    }

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
