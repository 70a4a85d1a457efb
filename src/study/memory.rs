//! Predicts the memory of candidates that were not tried from those that were. Knows nothing of rates: a trial program may tell memory alone.

use crate::study::{Candidate, Space, Study};

/// What a worker takes, and what each of its connections does, bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Memory {
    a_worker: f64,
    a_slot: f64,
}

/// Limits keep this reserve: what a worker holds grows with time.
const RESERVE: f64 = 1.1;

impl Memory {
    /// That of the candidates of `study`, by least squares without a constant. Nothing, where no trial told any.
    #[must_use]
    pub fn fit(study: &Study) -> Self {
        fitted(study.memories())
    }

    /// What `candidate` is expected to take, bytes.
    #[must_use]
    pub fn of(self, candidate: Candidate) -> f64 {
        f64::from(candidate.workers.get()) * self.a_worker + candidate.slots() as f64 * self.a_slot
    }

    /// Whether `candidate` can be expected to stay below what `space` allows, with a reserve of a tenth.
    #[must_use]
    pub fn fits(self, space: &Space, candidate: Candidate) -> bool {
        space.max_memory.is_none_or(|most| self.of(candidate) * RESERVE <= most as f64)
    }
}

/// A negative part is taken as none, and the other fitted alone.
fn fitted(told: impl Iterator<Item = (Candidate, u64)>) -> Memory {
    let (mut ww, mut ws, mut ss, mut wm, mut sm) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for (candidate, bytes) in told {
        let (workers, slots, bytes) = (f64::from(candidate.workers.get()), candidate.slots() as f64, bytes as f64);
        ww += workers * workers;
        ws += workers * slots;
        ss += slots * slots;
        wm += workers * bytes;
        sm += slots * bytes;
    }
    if ww <= 0.0 {
        return Memory { a_worker: 0.0, a_slot: 0.0 };
    }
    let determinant = ww * ss - ws * ws;
    if determinant > 1e-6 * ww * ss {
        let (a_worker, a_slot) = ((wm * ss - sm * ws) / determinant, (sm * ww - wm * ws) / determinant);
        if a_worker < 0.0 {
            return Memory { a_worker: 0.0, a_slot: sm / ss };
        }
        if a_slot >= 0.0 {
            return Memory { a_worker, a_slot };
        }
    }
    Memory { a_worker: wm / ww, a_slot: 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{Connections, Workers};

    #[test]
    fn what_connections_take_is_not_taken_for_that_of_workers() {
        let of = |workers, connections| Candidate::new(Workers::new(workers).unwrap(), Connections::new(connections).unwrap());
        let found = fitted([(of(5, 10), 300), (of(2, 100), 1400)].into_iter());
        assert!(found.a_worker.abs() < 1e-9 && (6.5..7.5).contains(&found.a_slot), "{found:?}");
        let found = fitted([(of(1, 100), 100), (of(5, 10), 500)].into_iter());
        assert!((95.0..105.0).contains(&found.a_worker) && found.a_slot.abs() < 0.1, "{found:?}");
        let found = fitted([(of(5, 10), 600), (of(2, 100), 400)].into_iter());
        assert!((found.of(of(5, 10)) - 600.0).abs() < 1e-6 && (found.of(of(2, 100)) - 400.0).abs() < 1e-6, "{found:?}");
    }
}
