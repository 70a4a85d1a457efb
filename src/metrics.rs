//! What Prometheus and probes are told. Counters come from the supervisor's transitions, everything else from a [`Source`]
//! that is asked when somebody scrapes. Refuses unbounded labels: a worker is named by its slot, and only
//! `tuningfork_worker_info` carries a pid.
//!
//! # The thread and fork
//!
//! The supervisor forks from its main thread while the endpoint's thread runs. That is safe because the main thread never
//! waits for a lock the endpoint's thread may hold: [`Counters::record`] only adds to atomics, and a [`Board`] is
//! locked for the copy of one pointer. A forked child must exec before it touches either.

mod board;
mod counters;
mod endpoint;
mod ledger;
mod observation;
mod page;

use std::sync::Arc;

use prometheus::TextEncoder;

pub use board::Board;
pub use counters::Counters;
pub use endpoint::{Endpoint, EndpointError, Listener};
pub use observation::{ListenerRow, Observation, Pulse, Source, WorkerProcess, WorkerRow};

/// Media type of [`Exposition::render`]: Prometheus' classic text format.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The metrics page: counters, and the source of the rest.
#[derive(Debug)]
pub struct Exposition<S> {
    counters: Arc<Counters>,
    source: S,
    ledger: ledger::Ledger,
}

impl<S: Source> Exposition<S> {
    /// A page of `counters` and of what `source` will observe.
    #[must_use]
    pub fn new(counters: Arc<Counters>, source: S) -> Self {
        Self { counters, source, ledger: ledger::Ledger::default() }
    }

    /// Asks the source and writes the page. Fails only if two metrics share a name, which no input can bring about.
    pub fn render(&mut self) -> prometheus::Result<String> {
        let observation = self.source.observe();
        let mut families = page::families(&observation, &mut self.ledger)?;
        families.extend(self.counters.gather());
        families.sort_by(|a, b| a.name().cmp(b.name()));
        TextEncoder::new().encode_to_string(&families)
    }

    /// Asks the source whether the supervisor is well.
    fn pulse(&mut self) -> Pulse {
        self.source.pulse()
    }
}

#[cfg(test)]
mod tests;
