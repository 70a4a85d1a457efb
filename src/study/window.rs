//! The counters at both ends of a probe: what the workers, the generator, the supervisor and others used of the host, or of the slice of it that a
//! quota leaves.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::stats::Latencies;

/// What happened in the measured part of a probe, as counters at both of its ends tell.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Window {
    /// Its length.
    pub seconds: f64,
    /// Requests answered without error while it lasted.
    pub completed: u64,
    /// Latency of every request of it, from the moment it was due; of one that was not answered in the time allowed, that time.
    pub latencies: Latencies,
    /// Requests that failed, by kind.
    pub errors: BTreeMap<String, u64>,
    /// Utilisation of every core the application may use.
    pub cores: Vec<CoreShare>,
    /// CPU time of the workers, seconds.
    pub workers_cpu: f64,
    /// CPU time of the load generator, seconds.
    pub generator_cpu: f64,
    /// CPU time of the rest of this process, seconds: the supervisor.
    pub supervisor_cpu: f64,
    /// CPU time of other programs that the requests needed, seconds: a database on the same host, for example.
    pub beside_cpu: f64,
    /// Cores' worth of CPU that a quota allows this process and the workers together.
    pub quota: Option<f64>,
    /// How long the quota held this process and the workers back, seconds.
    pub throttled: f64,
    /// How late the generator sent, 99th percentile, seconds.
    pub lateness_p99: f64,
    /// Workers that ended without being asked to, since the window before.
    pub crashes: u32,
    /// Requests that were still not answered, or not even sent, when the load had been stopped for as long as the probe allows.
    pub unanswered: u64,
    /// The generator ran out of descriptors or ports.
    pub generator_short: bool,
    /// Different requests of the recording that were sent.
    pub distinct_requests: u64,
}

impl Window {
    /// Cores' worth of CPU time that can be had: a quota's, or all cores.
    #[must_use]
    pub fn supply(&self) -> f64 {
        let cores = self.cores.len() as f64;
        self.quota.map_or(cores, |quota| quota.min(cores))
    }

    /// Cores' worth of CPU time that programs used which are neither the workers, the generator, the supervisor nor needed by the requests, less what
    /// stands beside a quota: as long as cores are idle, programs outside take nothing from it.
    #[must_use]
    pub fn others(&self) -> f64 {
        let busy: f64 = self.cores.iter().map(CoreShare::busy).sum();
        let others = (busy - self.ours()).max(0.0);
        let others = if self.quota.is_some() { others - (self.cores.len() as f64 - self.supply()) } else { others };
        (others - self.beside()).max(0.0)
    }

    /// Mean share in which what can be had was used: 1 too where a window that ends within a quota's period holds more of it. `None` if the
    /// cores were not measured.
    #[must_use]
    pub fn utilisation(&self) -> Option<f64> {
        let busy = crate::stats::mean(&self.cores.iter().map(CoreShare::busy).collect::<Vec<_>>())?;
        let of_quota = || ((self.ours() + self.beside() + self.others()) / self.supply()).min(1.0);
        Some(if self.quota.is_some() { of_quota() } else { busy })
    }

    /// Mean share of the cores' time in which they were idle while a disk had not answered somebody; 0 if they were not measured.
    #[must_use]
    pub fn iowait(&self) -> f64 {
        iowait(&self.cores)
    }

    /// Cores' worth of CPU time left for the requests, in the workers and in what these need: c_eff = c − U_generator − U_supervisor − U_other, with c
    /// the cores or the quota.
    #[must_use]
    pub fn effective_cores(&self) -> f64 {
        let load = (self.generator_cpu + self.supervisor_cpu) / self.seconds.max(1e-3);
        (self.supply() - load - self.others()).max(0.0)
    }

    /// Requests answered a second.
    #[must_use]
    pub fn throughput(&self) -> f64 {
        self.completed as f64 / self.seconds.max(1e-3)
    }

    /// Cores' worth of [`Self::beside_cpu`].
    #[must_use]
    pub fn beside(&self) -> f64 {
        self.beside_cpu / self.seconds.max(1e-3)
    }

    fn ours(&self) -> f64 {
        (self.workers_cpu + self.generator_cpu + self.supervisor_cpu) / self.seconds.max(1e-3)
    }
}

/// Mean share of the time in which `cores` were idle while a disk had not answered somebody; 0 without cores.
pub(super) fn iowait(cores: &[CoreShare]) -> f64 {
    crate::stats::mean(&cores.iter().map(|core| core.iowait).collect::<Vec<_>>()).unwrap_or_default()
}

/// Shares of one core's time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CoreShare {
    /// The number in `cpuN`.
    pub cpu: u16,
    /// Ordinary code.
    pub user: f64,
    /// The kernel, interrupts included.
    pub system: f64,
    /// Idle while a disk read is outstanding.
    pub iowait: f64,
    /// Taken by another guest.
    pub steal: f64,
}

impl CoreShare {
    /// The share in which the core worked for this host.
    #[must_use]
    pub fn busy(&self) -> f64 {
        self.user + self.system
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window() -> Window {
        let core = |cpu, user| CoreShare { cpu, user, ..CoreShare::default() };
        Window { seconds: 10.0, cores: vec![core(0, 0.9), core(1, 0.5)], ..Window::default() }
    }

    #[test]
    fn what_can_be_had_is_the_cores_less_what_stands_beside_the_workers() {
        let window = Window { workers_cpu: 10.0, generator_cpu: 1.5, supervisor_cpu: 0.5, ..window() };
        assert!((window.others() - 0.2).abs() < 1e-9 && (window.effective_cores() - 1.6).abs() < 1e-9);
        assert!((window.utilisation().unwrap() - 0.7).abs() < 1e-9);
        assert_eq!(Window { cores: Vec::new(), ..window }.utilisation(), None);
    }

    #[test]
    fn what_requests_need_beside_the_workers_is_not_taken_from_them() {
        let window = Window { workers_cpu: 10.0, generator_cpu: 1.5, supervisor_cpu: 0.5, beside_cpu: 1.5, ..window() };
        assert!((window.others() - 0.05).abs() < 1e-9 && (window.effective_cores() - 1.75).abs() < 1e-9);
        assert!((window.utilisation().unwrap() - 0.7).abs() < 1e-9);
        let slice = Window { quota: Some(1.9), workers_cpu: 9.0, ..window };
        // 0.3 cores are used by others, 0.1 of which the quota left to them.
        assert!((slice.others() - 0.05).abs() < 1e-9 && (slice.utilisation().unwrap() - 1.3 / 1.9).abs() < 1e-9);
    }

    #[test]
    fn a_slice_is_measured_by_its_quota() {
        let mut slice = Window { workers_cpu: 4.0, generator_cpu: 0.5, supervisor_cpu: 0.5, quota: Some(0.5), ..window() };
        // Others use 0.9 of 2 cores: enough is left for half a core.
        assert_eq!((slice.others(), slice.utilisation()), (0.0, Some(1.0)));
        slice.workers_cpu = 4.5;
        assert_eq!(slice.utilisation(), Some(1.0), "a period's quota more in the window");
        slice.workers_cpu = 4.0;
        assert!((slice.effective_cores() - 0.4).abs() < 1e-9);
        slice.cores.iter_mut().for_each(|core| core.user = 0.9);
        slice.workers_cpu = 1.0;
        // All but 0.2 of a core is busy, 0.2 of it with us.
        assert!((slice.others() - 0.1).abs() < 1e-9, "{}", slice.others());
    }
}
