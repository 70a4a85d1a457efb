//! What the supervisor hears (facts, in the past tense, and wishes), what it orders, and what it tells.

mod wish;

use std::time::Duration;

use crate::config::{Care, Config, Timing};
use crate::units::{Generation, Slot, WorkerId, Workers};
pub use wish::{Answer, Granted, Haste, Refusal, Scale, Wish};

/// A fact, or a wish of the person who runs the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Nothing happened until [`deadline`](super::Supervisor::deadline).
    Woke,
    /// A generation's configuration was read; its code is being loaded.
    ConfigurationRead {
        /// Which one.
        generation: Generation,
        /// How long the code may take, from now on.
        boot_timeout: Duration,
    },
    /// A generation's configuration and code are loaded; workers can be forked from it.
    Prepared {
        /// Which one.
        generation: Generation,
        /// What its configuration asks for.
        settings: Settings,
    },
    /// A generation cannot be used.
    PrepareFailed {
        /// Which one.
        generation: Generation,
        /// What the user reads: the configuration's problems, or the traceback's last lines.
        reason: String,
    },
    /// A worker process could not be made.
    SpawnFailed {
        /// The worker that never was.
        worker: WorkerId,
        /// The system's reason.
        reason: String,
    },
    /// A worker can serve.
    BecameReady {
        /// Which one.
        worker: WorkerId,
    },
    /// A worker showed that it is alive.
    Beat {
        /// Which one.
        worker: WorkerId,
    },
    /// A worker serves, and asks to be renewed, or has to be: it has used up what it may.
    Worn {
        /// Which one.
        worker: WorkerId,
        /// What it has used up.
        reason: Reason,
    },
    /// A worker leaves without having been asked to.
    Leaving {
        /// Which one.
        worker: WorkerId,
    },
    /// The end of what a worker wrote to its standard error; comes before its `Exited`.
    LastWords {
        /// Which one.
        worker: WorkerId,
        /// At most some KiB.
        words: String,
    },
    /// A worker's process has ended and was reaped.
    Exited {
        /// Which one.
        worker: WorkerId,
        /// How it ended.
        exit: Exit,
    },
    /// Somebody asked for something, by a signal.
    Asked(Wish),
    /// The supervisor that is to take our place has read its configuration, and begins.
    SuccessorBegan {
        /// How long its code, and then each worker, may take.
        boot_timeout: Duration,
    },
    /// The supervisor that is to take our place says that all its workers serve.
    SuccessorReady,
    /// The supervisor that was to take our place has ended, or could not be started.
    SuccessorEnded {
        /// What the user reads.
        reason: String,
    },
    /// The supervisor that is to take our place was told that it has the service.
    HandedOver,
    /// The supervisor whose place we are to take is there.
    Preceded,
    /// It has given us the service, and has left.
    PredecessorLeft,
    /// It is gone, and has given us nothing.
    Orphaned,
    /// Somebody asked for something and waits to hear what becomes of it: [`Transition::Answered`].
    Requested {
        /// Under which number the answer is awaited.
        request: RequestId,
        /// What was asked for.
        wish: Wish,
    },
}

/// The number of a request that awaits an answer. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// What a generation's configuration asks of the supervisor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How many workers.
    pub workers: Workers,
    /// How long to wait for what.
    pub timing: Timing,
    /// When workers that serve are renewed.
    pub care: Care,
}

impl Settings {
    /// Those of `config`.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        Self { workers: config.workers, timing: config.timing, care: config.care }
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// exit(3) with this code.
    Code(i32),
    /// Killed by this signal.
    Signal(i32),
    /// Killed by the kernel because a control group was out of memory (SIGKILL).
    OutOfMemory,
}

/// An order to the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Load configuration and code; answered by `Prepared` or `PrepareFailed`.
    Prepare {
        /// The name the generation will have.
        generation: Generation,
    },
    /// Forget a generation: no worker of it lives and none will be asked for.
    Retire {
        /// Which one.
        generation: Generation,
    },
    /// Open log files anew: the supervisor's own, and those of workers that can be told to.
    ReopenLogs,
    /// So many workers are wanted now, none while the service rests: tell whose code that concerns (Gunicorn's server hooks).
    TellTarget(u16),
    /// Make a worker process; answered by `BecameReady`, `Exited` or `SpawnFailed`.
    Spawn {
        /// The name the worker will have.
        worker: WorkerId,
        /// The place it fills.
        slot: Slot,
        /// What it is forked from.
        generation: Generation,
    },
    /// Ask a worker to answer what it has and leave (SIGTERM).
    Terminate {
        /// Which one.
        worker: WorkerId,
    },
    /// Ask a worker to leave at once (SIGQUIT).
    Quit {
        /// Which one.
        worker: WorkerId,
    },
    /// End a hung worker so that it can leave a trace (SIGABRT).
    Abort {
        /// Which one.
        worker: WorkerId,
    },
    /// End a worker (SIGKILL).
    Kill {
        /// Which one.
        worker: WorkerId,
    },
    /// Start a supervisor that is to take our place; answered by `SuccessorReady` or `SuccessorEnded`.
    StartSuccessor,
    /// The service is to be the successor's: tell whoever has to know, and it; answered by `HandedOver` or `SuccessorEnded`.
    HandOver {
        /// It is to load configuration and code once more: somebody wished for that after it had begun.
        then_reload: bool,
    },
    /// Ask the successor to leave; answered by `SuccessorEnded`.
    EndSuccessor {
        /// How it treats requests in flight.
        haste: Haste,
    },
    /// End the successor (SIGKILL).
    KillSuccessor,
}

/// Where a worker's life stands, as metrics and status name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WorkerState {
    /// The process was ordered and has not said that it is ready.
    Starting,
    /// It serves.
    Ready,
    /// It was told to leave.
    Stopping,
    /// It was killed and does not end: the kernel holds it.
    Stuck,
    /// Its slot is empty and waits before the next attempt.
    Waiting,
}

impl WorkerState {
    /// Every state, in the order of a worker's life.
    pub const ALL: [Self; 5] = [Self::Starting, Self::Ready, Self::Stopping, Self::Stuck, Self::Waiting];

    /// The value of the label `state`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Stopping => "stopping",
            Self::Stuck => "stuck",
            Self::Waiting => "waiting",
        }
    }
}

/// Why a worker was, or has to be, replaced or stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// It ended by itself.
    Crash,
    /// The kernel killed it because memory was short.
    OutOfMemory,
    /// It said that it leaves, without having been asked to.
    Left,
    /// It ended, or could not be made, before it was ready.
    BootFailure,
    /// It was not ready in time.
    BootTimeout,
    /// It was silent for longer than `timeout`.
    Timeout,
    /// It has answered as many requests as it may.
    MaxRequests,
    /// It has served as long as it may.
    MaxAge,
    /// It has more memory than it may.
    MaxMemory,
    /// A newer generation takes its place.
    Reload,
    /// Fewer workers are wanted.
    Scale,
    /// Somebody asked for another in its place.
    Replace,
    /// The supervisor stops.
    Stop,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 13] = [
        Self::Crash,
        Self::OutOfMemory,
        Self::Left,
        Self::BootFailure,
        Self::BootTimeout,
        Self::Timeout,
        Self::MaxRequests,
        Self::MaxAge,
        Self::MaxMemory,
        Self::Reload,
        Self::Scale,
        Self::Replace,
        Self::Stop,
    ];

    /// The value of the label `reason`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Crash => "crash",
            Self::OutOfMemory => "oom",
            Self::Left => "left",
            Self::BootFailure => "boot_failure",
            Self::BootTimeout => "boot_timeout",
            Self::Timeout => "timeout",
            Self::MaxRequests => "max_requests",
            Self::MaxAge => "max_age",
            Self::MaxMemory => "max_memory",
            Self::Reload => "reload",
            Self::Scale => "scale",
            Self::Replace => "replace",
            Self::Stop => "stop",
        }
    }
}

impl Reason {
    /// What a person is told.
    #[must_use]
    pub const fn in_words(self) -> &'static str {
        match self {
            Self::Crash => "crashed",
            Self::OutOfMemory => "killed by the kernel, out of memory",
            Self::Left => "left by itself",
            Self::BootFailure => "did not start",
            Self::BootTimeout => "not ready in time",
            Self::Timeout => "hung",
            Self::MaxRequests => "max-requests answered",
            Self::MaxAge => "max-age reached",
            Self::MaxMemory => "more than max-memory",
            Self::Reload => "reloaded",
            Self::Scale => "not wanted",
            Self::Replace => "replaced",
            Self::Stop => "stopped",
        }
    }
}

/// Something that changed and that people want to know: the one source of log lines, metrics and systemd's STATUS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transition {
    /// A worker was ordered.
    WorkerStarted {
        /// Which one.
        worker: WorkerId,
        /// The place it fills.
        slot: Slot,
        /// What it is forked from.
        generation: Generation,
    },
    /// A worker serves.
    WorkerReady {
        /// Which one.
        worker: WorkerId,
        /// The place it fills.
        slot: Slot,
        /// Time from the order to readiness.
        took: Duration,
    },
    /// A worker was told to leave.
    WorkerStopping {
        /// Which one.
        worker: WorkerId,
        /// The place it filled.
        slot: Slot,
        /// Why.
        reason: Reason,
    },
    /// A worker did not leave in time and is killed.
    WorkerKilled {
        /// Which one.
        worker: WorkerId,
        /// The place it filled.
        slot: Slot,
    },
    /// A worker was killed and has not ended; another takes its place.
    WorkerStuck {
        /// Which one.
        worker: WorkerId,
        /// The place it filled.
        slot: Slot,
    },
    /// Nobody serves any more, and an attempt to change that has failed: one worker at a time is tried.
    NobodyServes,
    /// A worker's process is gone.
    WorkerExited {
        /// Which one.
        worker: WorkerId,
        /// The place it filled.
        slot: Slot,
        /// How; `None` if it could not be made.
        exit: Option<Exit>,
        /// Why it had to go.
        reason: Reason,
        /// The system's words if it could not be made.
        detail: Option<String>,
    },
    /// An empty slot waits before the next attempt.
    SlotWaits {
        /// Which one.
        slot: Slot,
        /// How long.
        wait: Duration,
        /// Failures in a row.
        failures: u32,
    },
    /// A reload began.
    ReloadStarted {
        /// The new generation.
        generation: Generation,
    },
    /// Every worker is of the new generation.
    ReloadFinished {
        /// The new generation.
        generation: Generation,
    },
    /// The new generation is dropped; the old workers were never stopped, or are back.
    ReloadFailed {
        /// The generation that is dropped.
        generation: Generation,
        /// What the user reads.
        reason: String,
    },
    /// Another number of workers is wanted.
    TargetChanged {
        /// The new number; 0 while the service rests.
        target: u16,
    },
    /// Log files are opened anew.
    LogsReopened,
    /// What becomes of a request.
    Answered {
        /// Which one.
        request: RequestId,
        /// What it is told.
        answer: Answer,
    },
    /// All wanted workers of the first generation are ready for the first time.
    BecameReady,
    /// A successor was ordered.
    UpgradeStarted,
    /// There will be no successor, or it leaves; nothing else has changed.
    UpgradeFailed {
        /// What the user reads.
        reason: String,
    },
    /// The successor has the service.
    HandedOver,
    /// The supervisor whose place we were to take is gone, and with it the service: we stop.
    Orphaned,
    /// A stop began.
    Stopping {
        /// Whether requests in flight are answered.
        haste: Haste,
    },
}
