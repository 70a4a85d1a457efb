//! The control socket of a running service: one JSON line a request, `{"do":"status"}`, and one a reply, `{"ok":…}` or `{"error":"…"}`.
//! Refuses everybody but root and the supervisor's own user, long lines, and to wait for slow clients.
//!
//! What changes something is a wish: the reply says what will be done, and who wants to see it done watches the status.
//!
//! `listeners` passes the listening sockets themselves. They are lent: to one client at a time, until either side closes the
//! connection. Who borrows them closes them before it closes the connection, or the address could not be bound again.

mod client;
mod server;
mod status;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::supervisor::event::{Haste, Scale, Wish};
use crate::units::{WorkerId, Workers};

pub use client::{Client, ControlError, Lease};
pub use server::{Server, Source};
pub use status::{LogStatus, MAX_RELOADS, Reload, Status, Worker};

/// The longest line of a request, bytes.
pub const MAX_REQUEST: usize = 4 << 10;
/// The longest line of a reply, bytes: 1,024 workers take about 400 each.
pub const MAX_REPLY: usize = 1 << 20;

/// What can be asked for. A supervisor that does not know a word says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Request {
    /// How the service is, with CPU time and memory: [`Status`]. Changes nothing.
    Status,
    /// The same without CPU time and memory, which take time to read: [`Status`]. Changes nothing.
    Progress {
        /// Answer when [`Status::changes`] is another number than this, or after a second.
        #[serde(default)]
        after: Option<u64>,
    },
    /// The listening sockets, lent: [`Lent`], with one descriptor for each address.
    Listeners,
    /// Load configuration and code anew: [`Granted`] with the generation that will be made.
    Reload,
    /// Another number of workers: [`Granted`] with the number.
    Scale {
        /// How many.
        workers: Count,
    },
    /// Open log files anew.
    ReopenLogs,
    /// What was logged: one [`Excerpt`], or one after the other until either side closes. Changes nothing.
    Logs {
        /// Only lines of workers in this slot.
        #[serde(default)]
        slot: Option<u16>,
        /// Go on with what will be logged.
        #[serde(default)]
        follow: bool,
    },
    /// Go on as a newer version of the program.
    Upgrade,
    /// Replace one worker.
    KillWorker {
        /// Its `id`, as the status tells it.
        worker: u64,
    },
    /// End the service.
    Stop {
        /// Without answering the requests in flight.
        #[serde(default)]
        quick: bool,
    },
}

impl Request {
    /// What it wants changed, if anything.
    #[must_use]
    pub const fn wish(self) -> Option<Wish> {
        match self {
            Self::Status | Self::Progress { .. } | Self::Listeners | Self::Logs { .. } => None,
            Self::Reload => Some(Wish::Reload),
            Self::Scale { workers } => Some(Wish::Scale(workers.0)),
            Self::ReopenLogs => Some(Wish::ReopenLogs),
            Self::Upgrade => Some(Wish::Upgrade),
            Self::KillWorker { worker } => Some(Wish::Replace(WorkerId(worker))),
            Self::Stop { quick: false } => Some(Wish::Stop(Haste::Graceful)),
            Self::Stop { quick: true } => Some(Wish::Stop(Haste::Quick)),
        }
    }
}

impl fmt::Display for Request {
    /// As `tuningfork ctl` takes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status | Self::Progress { .. } => f.write_str("status"),
            Self::Listeners => f.write_str("listeners"),
            Self::Reload => f.write_str("reload"),
            Self::Scale { workers } => write!(f, "scale {workers}"),
            Self::ReopenLogs => f.write_str("reopen-logs"),
            Self::Logs { .. } => f.write_str("logs"),
            Self::Upgrade => f.write_str("upgrade"),
            Self::KillWorker { worker } => write!(f, "worker kill {worker}"),
            Self::Stop { quick: false } => f.write_str("stop"),
            Self::Stop { quick: true } => f.write_str("stop --quick"),
        }
    }
}

/// A number of workers as people write it: "4", "+1", "-1".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Count(Scale);

/// A number of workers that is none.
#[derive(Debug, thiserror::Error)]
#[error("write a number of workers from 1 to {max}, or how many more or fewer: +1, -1", max = Workers::MAX)]
pub struct NotACount;

impl Count {
    /// So many.
    #[must_use]
    pub const fn of(workers: Workers) -> Self {
        Self(Scale::To(workers))
    }
}

impl FromStr for Count {
    type Err = NotACount;

    fn from_str(text: &str) -> Result<Self, NotACount> {
        let is_number = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
        let some =
            |digits: &str| digits.parse().ok().filter(|_| is_number(digits)).filter(|count| (1..=Workers::MAX).contains(count));
        let scale = match (text.strip_prefix('+'), text.strip_prefix('-')) {
            (Some(more), _) => some(more).map(Scale::More),
            (None, Some(fewer)) => some(fewer).map(Scale::Fewer),
            (None, None) => some(text).and_then(|count| Workers::new(u32::from(count))).map(Scale::To),
        };
        scale.map(Self).ok_or(NotACount)
    }
}

impl TryFrom<String> for Count {
    type Error = NotACount;

    fn try_from(text: String) -> Result<Self, NotACount> {
        text.parse()
    }
}

impl From<Count> for String {
    fn from(count: Count) -> Self {
        count.to_string()
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Scale::To(workers) => workers.fmt(f),
            Scale::More(count) => write!(f, "+{count}"),
            Scale::Fewer(count) => write!(f, "-{count}"),
        }
    }
}

/// What comes back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reply<T> {
    /// It was done.
    Ok(T),
    /// It was not, and why.
    Error(String),
}

/// What will be done about a wish.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Granted {
    /// The generation that a reload will make. Its end is told in [`Status::reloads`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u32>,
    /// How many workers there should be from now on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<u16>,
    /// That number is not what was asked for: there are to be one at least, and at most [`Workers::MAX`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub limited: bool,
}

/// Lines that were logged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Excerpt {
    /// The lines.
    pub lines: Vec<String>,
    /// How many lines before them are forgotten already.
    pub skipped: u64,
    /// Whether another excerpt follows at once.
    pub more: bool,
}

/// The listening sockets that came with the reply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lent {
    /// Their addresses, in the order of the descriptors.
    pub listeners: Vec<String>,
}

#[cfg(test)]
mod tests;
