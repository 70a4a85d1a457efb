//! The gaps of an open load in units of their mean: when each request is due if one is due a unit of time.

use super::model::Arrivals;
use crate::recording::uniform;

/// Requests of a block of steady arrivals.
pub(super) const BLOCK: u64 = 128;

/// The moments of single requests, rising. Endless.
#[derive(Clone, Debug)]
pub(super) struct Gaps {
    arrivals: Arrivals,
    count: u64,
    /// Gaps drawn so far.
    drawn: f64,
    /// What the gaps of this block are to be stretched by.
    stretch: f64,
}

impl Gaps {
    pub(super) const fn new(arrivals: Arrivals) -> Self {
        Self { arrivals, count: 0, drawn: 0.0, stretch: 1.0 }
    }

    /// When the next request is due.
    pub(super) fn draw(&mut self) -> f64 {
        let due = match self.arrivals {
            Arrivals::Even => self.count as f64,
            Arrivals::Poisson { seed } => {
                self.drawn += exponential(seed, self.count);
                self.drawn
            }
            Arrivals::Steady { seed } => self.steady(seed),
        };
        self.count += 1;
        due
    }

    /// Gaps of a Poisson process given its count are exponential ones stretched to their sum (Devroye, Non-Uniform Random Variate
    /// Generation, V.3.1).
    fn steady(&mut self, seed: u64) -> f64 {
        let (block, place) = (self.count / BLOCK, self.count % BLOCK);
        if place == 0 {
            let sum: f64 = (0..BLOCK).map(|place| exponential(seed, block * BLOCK + place)).sum();
            self.drawn = (block * BLOCK) as f64;
            self.stretch = BLOCK as f64 / sum;
        }
        self.drawn += exponential(seed, self.count) * self.stretch;
        self.drawn
    }
}

/// Inverse transform sampling of the exponential distribution with mean 1 (Knuth, TAOCP 2, 3.4.1 D).
fn exponential(seed: u64, number: u64) -> f64 {
    -(1.0 - uniform(seed, number)).ln()
}
