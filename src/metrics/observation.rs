//! What the page needs to know at the moment of a scrape, and from whom.

use std::time::Duration;

use crate::supervisor::event::WorkerState;
use crate::units::{Connections, Generation, Slot, WorkerId};
use crate::usage::{CoreTime, DroppedLines, ListenLosses, ListenQueue, OwnProcess, ProcessReading};

/// Whom the endpoint asks, on its own thread. Neither method may wait for the supervisor's loop.
pub trait Source: Send + 'static {
    /// Everything. Asked four times a second at most.
    fn observe(&mut self) -> Observation;

    /// Whether the supervisor is well. Asked for every probe, so cheap.
    fn pulse(&mut self) -> Pulse;
}

/// The state of the service at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// One row a worker. A slot has two while a replacement starts, and one without a process while it waits.
    pub workers: Vec<WorkerRow>,
    /// How many workers are wanted; none while the service rests.
    pub target: u16,
    /// How many connections each is configured to serve.
    pub connections: Connections,
    /// The listening sockets.
    pub listeners: Vec<ListenerRow>,
    /// Connections lost at any listening socket, if the kernel counts them.
    pub losses: Option<ListenLosses>,
    /// The machine's cores.
    pub cores: Vec<CoreTime>,
    /// Lines that the log dropped.
    pub dropped: DroppedLines,
    /// The supervisor's process, if it can be read.
    pub own: Option<OwnProcess>,
}

/// One worker, or a slot that waits for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerRow {
    /// The place it fills.
    pub slot: Slot,
    /// Where its life stands.
    pub state: WorkerState,
    /// Its process, if there is one.
    pub process: Option<WorkerProcess>,
}

/// A worker's process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerProcess {
    /// Who it is: tells it from its predecessor in the same slot.
    pub worker: WorkerId,
    /// Its process id.
    pub pid: u32,
    /// What it was forked from.
    pub generation: Generation,
    /// Its counters; `None` if it went away before they were read.
    pub reading: Option<ProcessReading>,
}

/// One listening socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerRow {
    /// Its address as the configuration writes it; no two alike.
    pub name: String,
    /// Its accept queue, if the kernel tells.
    pub queue: Option<ListenQueue>,
}

/// Whether the supervisor is alive and its service can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pulse {
    /// Time since the supervisor's loop last turned. It has to turn every few seconds, also when nothing happens.
    pub since_turn: Duration,
    /// Workers that serve.
    pub ready: u16,
    /// A stop has begun.
    pub stopping: bool,
}
