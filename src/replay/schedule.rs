//! Load models as data: which request of the plan goes out when. Open models send by the clock, whatever the server does; the closed
//! one sends when an answer has come. Every model starts at a position of the plan and goes round, so two runs can play the same
//! slice.

use std::num::NonZeroU32;
use std::time::Duration;

use super::plan::Plan;
use crate::recording::uniform;
use crate::units::Rate;

/// How requests are offered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Load {
    /// At a rate of requests a second, independent of the responses.
    Open {
        /// The mean rate over a whole turn through the plan.
        rate: Rate,
        /// How single arrivals lie around it.
        arrivals: Arrivals,
    },
    /// By clients that send their next request when the last one is answered.
    Closed {
        /// How many requests are outstanding at most.
        clients: NonZeroU32,
    },
}

/// The gaps between the requests of an open load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrivals {
    /// All equal.
    Even,
    /// Exponential: independent users.
    Poisson {
        /// What they depend on.
        seed: u64,
    },
    /// Exponential, but every 128 requests take exactly as many mean gaps: bursts as independent users make them, without the
    /// scatter of the count that would blur short comparisons (a Poisson process, given its count in each block).
    Steady {
        /// What they depend on.
        seed: u64,
    },
    /// The recorded ones, stretched to the rate. A slice of the plan may be busier or quieter than the whole.
    Recorded,
}

/// When each request of an open load is due. Endless.
#[derive(Clone, Debug)]
pub struct Schedule<'a> {
    plan: &'a Plan,
    from: usize,
    sent: u64,
    gap: f64,
    arrivals: Arrivals,
    /// Gaps drawn so far, in units of the mean gap.
    drawn: f64,
    /// What the gaps of this block are to be stretched by.
    stretch: f64,
}

/// Requests of a block of steady arrivals.
const BLOCK: u64 = 128;

impl<'a> Schedule<'a> {
    /// A schedule over `plan` from its request number `from` (taken round the plan), or `None` at a rate of zero. A plan whose
    /// requests all have one time has no gaps to stretch and is played evenly.
    #[must_use]
    pub fn new(plan: &'a Plan, from: usize, rate: Rate, arrivals: Arrivals) -> Option<Self> {
        let gap = 1e9 / rate.per_second();
        let arrivals = match arrivals {
            Arrivals::Recorded if plan.span().is_zero() => Arrivals::Even,
            Arrivals::Recorded | Arrivals::Even | Arrivals::Poisson { .. } | Arrivals::Steady { .. } => arrivals,
        };
        gap.is_finite().then_some(Self {
            plan,
            from: from % plan.requests().len(),
            sent: 0,
            gap,
            arrivals,
            drawn: 0.0,
            stretch: 1.0,
        })
    }

    /// The next request: its index in the plan, and when it is due after the start.
    pub fn advance(&mut self) -> (usize, Duration) {
        let index = self.plan.index(self.from, self.sent);
        let gaps = match self.arrivals {
            Arrivals::Even => self.sent as f64,
            Arrivals::Poisson { seed } => {
                self.drawn += exponential(seed, self.sent);
                self.drawn
            }
            Arrivals::Steady { seed } => self.steady(seed),
            Arrivals::Recorded => self.recorded(),
        };
        self.sent += 1;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "not negative, and saturates after 584 years"
        )]
        let nanos = (gaps * self.gap) as u64;
        (index, Duration::from_nanos(nanos))
    }

    /// Gaps of a Poisson process given its count are exponential ones stretched to their sum (Devroye, Non-Uniform Random Variate
    /// Generation, V.3.1).
    fn steady(&mut self, seed: u64) -> f64 {
        let (block, place) = (self.sent / BLOCK, self.sent % BLOCK);
        if place == 0 {
            let sum: f64 = (0..BLOCK).map(|place| exponential(seed, block * BLOCK + place)).sum();
            self.drawn = (block * BLOCK) as f64;
            self.stretch = BLOCK as f64 / sum;
        }
        self.drawn += exponential(seed, self.sent) * self.stretch;
        self.drawn
    }

    /// The recorded time since the start, in units of the recorded mean gap.
    fn recorded(&self) -> f64 {
        let length = self.plan.requests().len();
        let place = self.from as u64 + self.sent;
        let turns = place / length as u64;
        let at = |index: usize| self.plan.requests()[index].at().as_secs_f64();
        let period = self.plan.period().as_secs_f64();
        let elapsed = turns as f64 * period + at(self.plan.index(self.from, self.sent)) - at(self.from);
        elapsed.max(0.0) / period * length as f64
    }
}

/// Inverse transform sampling of the exponential distribution with mean 1 (Knuth, TAOCP 2, 3.4.1 D).
fn exponential(seed: u64, number: u64) -> f64 {
    -(1.0 - uniform(seed, number)).ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::read;
    use crate::replay::{PlanOptions, Reuse};

    fn plan(times: &[f64]) -> Plan {
        let lines: Vec<_> = times.iter().map(|t| format!("{{\"t\":{t},\"m\":\"GET\",\"u\":\"/{t}\"}}")).collect();
        let recording = read(lines.join("\n").as_bytes()).unwrap();
        Plan::compile(&recording, &PlanOptions { host: "a".into(), reuse: Reuse::KeepAlive }).unwrap()
    }

    fn first(plan: &Plan, from: usize, rate: f64, arrivals: Arrivals, count: usize) -> Vec<(usize, u128)> {
        let mut schedule = Schedule::new(plan, from, Rate::new(rate).unwrap(), arrivals).unwrap();
        (0..count).map(|_| schedule.advance()).map(|(index, at)| (index, at.as_micros())).collect()
    }

    #[test]
    fn even_arrivals_wrap_round_from_the_start_position() {
        let plan = plan(&[0.0, 1.0, 5.0]);
        assert_eq!(first(&plan, 2, 1000.0, Arrivals::Even, 4), [(2, 0), (0, 1_000), (1, 2_000), (2, 3_000)]);
        assert_eq!(first(&plan, 5, 1000.0, Arrivals::Even, 1), first(&plan, 2, 1000.0, Arrivals::Even, 1));
    }

    #[test]
    fn recorded_arrivals_keep_their_proportions() {
        // Gaps of 1 and 3 seconds, then a mean gap of 2: three requests in 6 s. At 1/s the factor is one half.
        let plan = plan(&[0.0, 1.0, 4.0]);
        assert_eq!(first(&plan, 0, 1.0, Arrivals::Recorded, 4), [(0, 0), (1, 500_000), (2, 2_000_000), (0, 3_000_000)]);
        assert_eq!(first(&plan, 1, 1.0, Arrivals::Recorded, 3), [(1, 0), (2, 1_500_000), (0, 2_500_000)]);
    }

    #[test]
    fn poisson_arrivals_have_the_rate_and_the_spread() {
        let plan = plan(&[0.0, 1.0]);
        let arrivals = first(&plan, 0, 1000.0, Arrivals::Poisson { seed: 3 }, 20_000);
        let mean = arrivals[19_999].1 as f64 / 20_000.0;
        assert!((970.0..1_030.0).contains(&mean), "{mean}");
        let gaps: Vec<f64> = arrivals.windows(2).map(|pair| (pair[1].1 - pair[0].1) as f64).collect();
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        // The standard deviation of exponential gaps is their mean.
        assert!((0.95..1.05).contains(&(variance.sqrt() / mean)));
        assert_eq!(arrivals, first(&plan, 0, 1000.0, Arrivals::Poisson { seed: 3 }, 20_000));
    }

    #[test]
    fn steady_arrivals_scatter_within_a_block_but_not_beyond_it() {
        let plan = plan(&[0.0, 1.0]);
        let arrivals = first(&plan, 0, 1000.0, Arrivals::Steady { seed: 3 }, 20_000);
        let blocks = arrivals.chunks(usize::try_from(BLOCK).unwrap());
        for (block, end) in blocks.map(|block| block[block.len() - 1].1).take(150).enumerate() {
            let exact = (block as u128 + 1) * u128::from(BLOCK) * 1000;
            assert!(end.abs_diff(exact) <= 1, "{end} is not {exact}");
        }
        let gaps: Vec<f64> = arrivals.windows(2).map(|pair| (pair[1].1 - pair[0].1) as f64).collect();
        let deviation = crate::stats::deviation(&gaps).unwrap();
        assert!((950.0..1_050.0).contains(&deviation), "{deviation}");
    }

    #[test]
    fn degenerate_plans_and_rates() {
        let plan = plan(&[5.0, 5.0]);
        assert_eq!(first(&plan, 0, 10.0, Arrivals::Recorded, 3), [(0, 0), (1, 100_000), (0, 200_000)]);
        assert!(Schedule::new(&plan, 0, Rate::default(), Arrivals::Even).is_none());
    }
}
