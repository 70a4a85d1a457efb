//! The operational laws that turn demands into bounds, and the soft minimum that turns bounds into a prediction.
//!
//! Source: Menascé, Dowdy, Almeida, Performance by Design (2004), chapter 3: utilisation law U = X·D, Little's law N = X·R,
//! bound X ≤ min(1/D_max, N/(D + Z)).

use crate::study::Candidate;

/// What one request needs, and what the host offers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Demand {
    /// CPU time of the workers for one request, seconds.
    pub cpu: f64,
    /// CPU time of everything else on the host for one request, the load generator's above all, seconds.
    pub beside: f64,
    /// How long a request is inside a worker when nothing queues, seconds.
    pub time_in_worker: f64,
    /// The most cores that one worker can keep busy: 1, or infinite.
    pub cores_a_worker: f64,
}

/// A bound from a light probe counts with this margin: saturated cores need less CPU a request than lightly used ones (8 % less
/// seen with gevent), so what is measured lightly is no bound by itself.
pub const LIGHT_MARGIN: f64 = 1.25;

/// The three bounds on throughput, requests a second. Infinite where nothing was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    /// All cores busy.
    pub cores: f64,
    /// Every worker keeps as many cores busy as one can.
    pub workers: f64,
    /// Every slot taken.
    pub slots: f64,
}

impl Bounds {
    /// The bounds of `candidate` on `cores` cores.
    #[must_use]
    pub fn new(candidate: Candidate, cores: f64, demand: Demand) -> Self {
        let over = |amount: f64, each: f64| if each > 0.0 { amount / each } else { f64::INFINITY };
        Self {
            // What the generator burns per request is not there for the application: c_eff/D with c_eff = c − X·beside, solved for X.
            cores: over(cores, demand.cpu + demand.beside),
            workers: over(f64::from(candidate.workers.get()) * demand.cores_a_worker, demand.cpu),
            slots: over(candidate.slots() as f64, demand.time_in_worker),
        }
    }

    /// The tightest.
    #[must_use]
    pub fn tightest(&self) -> f64 {
        self.cores.min(self.workers).min(self.slots)
    }
}

/// A minimum that is rounded where two bounds meet, as capacity is: the power mean with exponent −`sharpness`. Zero if a value is not
/// above zero.
#[must_use]
pub fn soft_minimum(values: &[f64], sharpness: i32) -> f64 {
    let least = values.iter().copied().fold(f64::INFINITY, f64::min);
    if least <= 0.0 || least.is_infinite() {
        return least.max(0.0);
    }
    let sum: f64 = values.iter().map(|value| (least / value).powi(sharpness)).sum();
    least * sum.powf(-1.0 / f64::from(sharpness))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{Connections, Workers};

    #[test]
    fn the_missions_example_is_bound_by_its_slots() {
        let candidate = Candidate::new(Workers::new(33).unwrap(), Connections::new(10).unwrap());
        let demand = Demand { cpu: 0.010, beside: 0.0, time_in_worker: 0.410, cores_a_worker: 1.0 };
        let bounds = Bounds::new(candidate, 16.0, demand);
        assert!((bounds.tightest() - 804.9).abs() < 0.1);
        assert!((bounds.cores - 1600.0).abs() < 1e-9 && (bounds.workers - 3300.0).abs() < 1e-9);
    }

    #[test]
    fn the_soft_minimum_is_near_the_least_and_below_it() {
        assert!((soft_minimum(&[100.0, 1e9], 8) - 100.0).abs() < 1e-6);
        let even = soft_minimum(&[100.0, 100.0], 8);
        assert!(even < 92.0 && even > 91.0);
        assert!(soft_minimum(&[1.0, 0.0], 8) < 1e-12);
        assert!((soft_minimum(&[5.0, f64::INFINITY], 8) - 5.0).abs() < 1e-12);
    }
}
