//! The control socket of a running service: one JSON line a request, `{"do":"status"}`, and one a reply, `{"ok":…}` or `{"error":"…"}`.
//! Refuses everybody but root and the supervisor's own user, long lines, and to wait for slow clients.
//!
//! `listeners` passes the listening sockets themselves. They are lent: to one client at a time, until either side closes the
//! connection. Who borrows them closes them before it closes the connection, or the address could not be bound again.

mod client;
mod server;

use serde::{Deserialize, Serialize};

pub use client::{Client, ControlError, Lease};
pub use server::{Server, Source};

/// The longest line of a request, bytes.
pub const MAX_REQUEST: usize = 4 << 10;
/// The longest line of a reply, bytes: 1,024 workers take about 80 each.
pub const MAX_REPLY: usize = 256 << 10;

/// What can be asked for. A supervisor that does not know a word says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Request {
    /// How the service is: [`Status`].
    Status,
    /// The listening sockets, lent: [`Lent`], with one descriptor for each address.
    Listeners,
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

/// How a service is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The version of the supervisor's program.
    pub version: String,
    /// The supervisor's process id.
    pub pid: u32,
    /// How many workers there should be.
    pub target: u16,
    /// How many are ready.
    pub ready: u16,
    /// Whether the service is about to end.
    pub stopping: bool,
    /// Every worker.
    pub workers: Vec<Worker>,
}

/// One worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Worker {
    /// The place it fills.
    pub slot: u16,
    /// Its process id, while it has one.
    pub pid: Option<u32>,
    /// "starting", "ready", "stopping", or "waiting" where there is none before the next attempt.
    pub state: String,
    /// Of which loading of code and configuration it is; nothing where there is none.
    pub generation: Option<u32>,
}

/// The listening sockets that came with the reply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lent {
    /// Their addresses, in the order of the descriptors.
    pub listeners: Vec<String>,
}

#[cfg(test)]
mod tests;
