//! Which candidates may be tried: two ladders, and hard limits that are never tried beyond.

use std::num::NonZeroU16;

use serde::{Deserialize, Serialize};

use crate::config::Affinity;
use crate::units::{Connections, Workers};

/// One configuration that could be recommended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Candidate {
    /// Worker processes.
    pub workers: Workers,
    /// Connections each serves at the same time.
    pub connections: Connections,
    /// Which cores a worker keeps to; absent where that does not vary.
    #[serde(default, rename = "cpu_affinity", skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
}

impl Candidate {
    /// A configuration of these two numbers.
    #[must_use]
    pub const fn new(workers: Workers, connections: Connections) -> Self {
        Self { workers, connections, affinity: None }
    }

    /// Whether it has the same two numbers.
    #[must_use]
    pub fn is_as_large_as(self, other: Self) -> bool {
        (self.workers, self.connections) == (other.workers, other.connections)
    }

    /// Requests that can be inside the workers at the same time.
    #[must_use]
    pub fn slots(self) -> u64 {
        u64::from(self.workers.get()) * u64::from(self.connections.get())
    }
}

/// Which of the two numbers make a difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dimensions {
    /// Workers and connections.
    WorkersAndConnections,
    /// A worker serves one request at a time, as `sync` does: connections are 1.
    WorkersOnly,
}

/// The candidates of a study.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Space {
    /// Cores the application may use.
    pub cores: NonZeroU16,
    /// Cores' worth of CPU time that a quota allows, where that is less than `cores`.
    #[serde(default)]
    pub quota: Option<f64>,
    /// Cores that a worker can keep to, where a quota allows CPU time of fewer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed: Option<NonZeroU16>,
    /// Which numbers vary.
    pub dimensions: Dimensions,
    /// What the configuration file says about connections; the baseline and the rule of thumb have as many.
    pub connections: Connections,
    /// What the configuration file says about workers, unless it leaves them to us.
    pub workers: Option<Workers>,
    /// What it says about the cores a worker keeps to, where that varies too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
    /// The most workers to try.
    pub max_workers: Workers,
    /// The most connections to try.
    pub max_connections: Connections,
    /// The most workers × connections, for what each connection holds elsewhere (a database's connection limit).
    pub max_slots: Option<u64>,
    /// The most memory of all workers together, bytes (proportional set size).
    pub max_memory: Option<u64>,
}

/// The ladder of connections; Gunicorn's default of 1000 is on it.
const CONNECTIONS: [u32; 10] = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000];
/// Beyond the first few, each rung of the workers' ladder is this much higher: a step that shows above the noise.
const WORKER_STEP: f64 = 1.25;

impl Space {
    /// A space of ordinary limits for `cores` cores: workers up to 4 × cores + 1 (64 × cores where each serves one request at a
    /// time, as waits can then only overlap across workers), connections up to 1000.
    #[must_use]
    pub fn ordinary(cores: NonZeroU16, dimensions: Dimensions, connections: Connections) -> Self {
        let most = match dimensions {
            Dimensions::WorkersAndConnections => u32::from(cores.get()) * 4 + 1,
            Dimensions::WorkersOnly => (u32::from(cores.get()) * 64).min(512),
        };
        Self {
            cores,
            quota: None,
            allowed: None,
            dimensions,
            connections,
            workers: None,
            affinity: None,
            max_workers: Workers::new(most.clamp(9, u32::from(Workers::MAX))).unwrap_or(Workers::folk(cores)),
            max_connections: Connections::new(1000).unwrap_or(Connections::ONE),
            max_slots: None,
            max_memory: None,
        }
    }

    /// Cores' worth of CPU time that the application can have.
    #[must_use]
    pub fn cpu(&self) -> f64 {
        let cores = f64::from(self.cores.get());
        self.quota.map_or(cores, |quota| quota.min(cores))
    }

    /// Cores that workers are bound to where they keep to some: all that may be used, though a quota allow CPU time of fewer.
    #[must_use]
    pub fn places(&self) -> u16 {
        self.allowed.unwrap_or(self.cores).get()
    }

    /// What every result is compared with: what is configured, cut to the limits.
    #[must_use]
    pub fn baseline(&self) -> Candidate {
        self.cut(self.configured())
    }

    /// What the configuration file says, or for workers that it leaves open Gunicorn's rule of thumb.
    #[must_use]
    pub fn configured(&self) -> Candidate {
        let connections = match self.dimensions {
            Dimensions::WorkersAndConnections => self.connections,
            Dimensions::WorkersOnly => Connections::ONE,
        };
        self.candidate(self.workers.unwrap_or_else(|| Workers::folk(self.cores)), connections)
    }

    /// Gunicorn's rule of thumb for workers with the configured connections, if that is something other than the baseline.
    #[must_use]
    pub fn folk(&self) -> Option<Candidate> {
        Some(self.by_rule()).filter(|candidate| *candidate != self.baseline())
    }

    /// A configuration whose workers keep to cores as the configuration file says.
    #[must_use]
    pub const fn candidate(&self, workers: Workers, connections: Connections) -> Candidate {
        Candidate { affinity: self.affinity, ..Candidate::new(workers, connections) }
    }

    fn by_rule(&self) -> Candidate {
        self.cut(self.candidate(Workers::folk(self.cores), self.connections))
    }

    /// Whether a candidate is within the limits that are known beforehand.
    #[must_use]
    pub fn allows(&self, candidate: Candidate) -> bool {
        let one_each = self.dimensions == Dimensions::WorkersOnly && candidate.connections != Connections::ONE;
        candidate.workers <= self.max_workers
            && candidate.connections <= self.max_connections
            && self.max_slots.is_none_or(|most| candidate.slots() <= most)
            && !one_each
    }

    fn cut(&self, candidate: Candidate) -> Candidate {
        let slots = self.max_slots.map_or(u32::MAX, |slots| u32::try_from(slots.max(1)).unwrap_or(u32::MAX));
        let workers = candidate.workers.min(self.max_workers);
        let workers = Workers::new(slots.min(u32::from(workers.get()))).unwrap_or(workers);
        let connections = match self.dimensions {
            Dimensions::WorkersAndConnections => candidate.connections.min(self.max_connections),
            Dimensions::WorkersOnly => Connections::ONE,
        };
        let room = self.max_slots.map_or(u64::MAX, |slots| slots / u64::from(workers.get()));
        let room = u32::try_from(room).unwrap_or(u32::MAX);
        let most = Connections::new(room.clamp(1, Connections::MAX)).unwrap_or(Connections::ONE);
        Candidate { workers, connections: connections.min(most), ..candidate }
    }

    /// Numbers of workers worth trying, ascending: geometric, with cores, cores + 1, 2 × cores + 1 and the configured number among them.
    #[must_use]
    pub fn worker_ladder(&self) -> Vec<Workers> {
        let cores = u32::from(self.cores.get());
        let mut rungs: Vec<u32> = vec![cores, cores + 1, 2 * cores + 1, u32::from(self.max_workers.get())];
        rungs.extend(self.workers.map(|workers| u32::from(workers.get())));
        let mut rung = 1_u32;
        while rung <= u32::from(self.max_workers.get()) {
            rungs.push(rung);
            rung = (rung + 1).max(stepped(rung));
        }
        rungs.sort_unstable();
        rungs.dedup();
        rungs.into_iter().filter_map(Workers::new).filter(|workers| *workers <= self.max_workers).collect()
    }

    /// Numbers of connections worth trying, ascending.
    #[must_use]
    pub fn connection_ladder(&self) -> Vec<Connections> {
        let mut rungs: Vec<Connections> = match self.dimensions {
            Dimensions::WorkersOnly => vec![Connections::ONE],
            Dimensions::WorkersAndConnections => {
                CONNECTIONS.into_iter().filter_map(Connections::new).chain([self.connections, self.max_connections]).collect()
            }
        };
        rungs.retain(|connections| *connections <= self.max_connections);
        rungs.sort_unstable();
        rungs.dedup();
        rungs
    }

    /// Every candidate within the limits, in order of workers, then connections.
    #[must_use]
    pub fn candidates(&self) -> Vec<Candidate> {
        let connections = self.connection_ladder();
        let pairs = self
            .worker_ladder()
            .into_iter()
            .flat_map(|workers| connections.iter().map(move |connections| self.candidate(workers, *connections)));
        pairs.filter(|candidate| self.max_slots.is_none_or(|most| candidate.slots() <= most)).collect()
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a worker count times 1.25 fits")]
fn stepped(rung: u32) -> u32 {
    (f64::from(rung) * WORKER_STEP) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(cores: u16, dimensions: Dimensions) -> Space {
        Space::ordinary(NonZeroU16::new(cores).unwrap(), dimensions, Connections::new(10).unwrap())
    }

    fn counts(space: &Space) -> Vec<u16> {
        space.worker_ladder().into_iter().map(Workers::get).collect()
    }

    #[test]
    fn the_workers_ladder_contains_the_rules_of_thumb() {
        assert_eq!(counts(&space(2, Dimensions::WorkersAndConnections)), [1, 2, 3, 4, 5, 6, 7, 8, 9]);
        let mut sixteen = space(16, Dimensions::WorkersAndConnections);
        sixteen.workers = Workers::new(21);
        assert_eq!(counts(&sixteen), [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 15, 16, 17, 18, 21, 22, 27, 33, 41, 51, 63, 65]);
    }

    #[test]
    fn one_request_at_a_time_leaves_one_dimension() {
        let space = space(2, Dimensions::WorkersOnly);
        assert!(space.candidates().iter().all(|candidate| candidate.connections == Connections::ONE));
        assert_eq!(space.baseline().connections, Connections::ONE);
        assert_eq!(space.max_workers.get(), 128);
    }

    #[test]
    fn limits_hold_for_every_candidate_and_for_the_baseline() {
        let mut space = space(4, Dimensions::WorkersAndConnections);
        space.max_workers = Workers::new(6).unwrap();
        space.max_slots = Some(30);
        space.workers = Workers::new(12);
        assert!(space.candidates().iter().all(|candidate| candidate.slots() <= 30 && candidate.workers.get() <= 6));
        assert_eq!((space.baseline().workers.get(), space.baseline().connections.get()), (6, 5));
        assert_eq!((space.configured().workers.get(), space.configured().connections.get()), (12, 10));
        assert_eq!(space.folk(), None);
    }

    #[test]
    fn what_is_configured_is_the_baseline_and_the_rule_of_thumb_stands_beside_it() {
        let mut space = space(4, Dimensions::WorkersAndConnections);
        assert_eq!((space.baseline().workers.get(), space.folk()), (9, None));
        space.workers = Workers::new(2);
        assert_eq!((space.baseline().workers.get(), space.folk().map(|rule| rule.workers.get())), (2, Some(9)));
    }
}
