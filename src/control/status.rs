//! How a service is, as the control socket tells it. New fields may come; what is there keeps its name and meaning.

use serde::{Deserialize, Serialize};

/// How many finished reloads a service remembers: whoever waits for one looks at least every second.
pub const MAX_RELOADS: usize = 8;

/// How a service is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The version of the supervisor's program.
    pub version: String,
    /// The supervisor's process id.
    pub pid: u32,
    /// How many workers there should be; 0 while the service rests.
    pub target: u16,
    /// How many are ready.
    pub ready: u16,
    /// Whether the service is about to end.
    pub stopping: bool,
    /// What it does: "starting", "running", "loading" (a reload's application), "rolling" (to a reload's workers), "resting", "stopping".
    pub phase: String,
    /// The generation of code and configuration that is wanted.
    pub generation: u32,
    /// The generation that is loaded or rolled out, while one is.
    pub next_generation: Option<u32>,
    /// How often something has changed; for [`super::Request::Progress`].
    pub changes: u64,
    /// Seconds since the supervisor started.
    pub uptime_seconds: f64,
    /// The last reloads that came to an end, oldest first.
    pub reloads: Vec<Reload>,
    /// What the configuration of the newest workers says otherwise than that of the start, and a reload does not change:
    /// `"[listen]"`, `"pidfile"`.
    #[serde(default)]
    pub awaits_restart: Vec<String>,
    /// How the log fares.
    #[serde(default)]
    pub log: LogStatus,
    /// The process of the new program, while one starts to take this one's place.
    #[serde(default)]
    pub successor: Option<u32>,
    /// How many upgrades of this supervisor came to nothing.
    #[serde(default)]
    pub failed_upgrades: u64,
    /// Why the last of them did.
    #[serde(default)]
    pub last_upgrade_failure: Option<String>,
    /// Every worker.
    pub workers: Vec<Worker>,
}

impl Status {
    /// Whether the service is up and has all the workers that are wanted, and nothing is being changed.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        !self.stopping && self.phase != "starting" && self.ready > 0 && self.ready >= self.target
    }
}

/// How the log fares.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct LogStatus {
    /// Where it goes.
    pub destination: String,
    /// How often it was to be opened anew.
    pub reopened: u64,
    /// Why that failed the last time, if it did.
    pub open_failure: Option<String>,
    /// Why it could not be written the last time, if it could not.
    pub write_failure: Option<String>,
    /// How many lines were dropped.
    pub dropped_lines: u64,
}

/// A reload that came to an end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reload {
    /// The generation it made.
    pub generation: u32,
    /// Why the old workers keep serving; nothing if the new ones serve.
    pub failure: Option<String>,
    /// How long it took, seconds.
    pub took_seconds: f64,
    /// How long ago it ended, seconds.
    pub ago_seconds: f64,
}

/// One worker, or a slot that waits for one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Worker {
    /// Its name, which no other worker of this supervisor ever has; nothing where there is none.
    pub id: Option<u64>,
    /// The place it fills.
    pub slot: u16,
    /// Its process id, while it has one.
    pub pid: Option<u32>,
    /// "starting", "ready", "stopping", "stuck" if SIGKILL does not end it, or "waiting" where there is none before the next attempt.
    pub state: String,
    /// Of which loading of code and configuration it is; nothing where there is none.
    pub generation: Option<u32>,
    /// Seconds since it was started.
    pub age_seconds: Option<f64>,
    /// User and system time it used, seconds; only where figures were asked for.
    pub cpu_seconds: Option<f64>,
    /// Its memory, shared pages divided among their users (PSS), bytes; only where figures were asked for.
    pub memory_bytes: Option<u64>,
    /// The cores it may use; only where figures were asked for.
    #[serde(default)]
    pub cores: Option<Vec<u16>>,
    /// How many workers of this slot went without being asked to.
    pub restarts: u64,
    /// How the last of them went.
    pub last_exit: Option<String>,
    /// In how many seconds the next attempt is made, where there is no worker.
    pub retry_seconds: Option<f64>,
}
