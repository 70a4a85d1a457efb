//! Whether requests were answered with the same content as in earlier runs. Where earlier runs of one configuration differ among
//! themselves, content is noise and says nothing (Diffy compares its primary with a secondary for the same reason).

use serde::{Deserialize, Serialize};

use crate::load::VARIED;

/// Requests shown as examples of a difference.
const EXAMPLES: usize = 5;

/// Hashes of contents by request, as a file keeps them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bodies {
    /// The version of this file's format.
    pub tuningfork_bodies: u32,
    /// What plan the requests are from: hashes of different plans do not compare.
    pub plan: String,
    /// The hash for each request of the plan, in its order: 0 without an answer, the largest number where answers varied.
    pub hashes: Vec<u64>,
}

impl Bodies {
    /// The format written today.
    pub const VERSION: u32 = 1;
}

/// How one run's contents compare with those of earlier runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// The earlier runs.
    pub baselines: usize,
    /// Requests answered as in the earlier runs.
    pub same: u64,
    /// Requests answered otherwise.
    pub different: u64,
    /// Requests whose contents varied within an earlier run or among them: not compared.
    pub noise: u64,
    /// Requests that were not answered now, or never before.
    pub unanswered: u64,
    /// The first few requests answered otherwise, by their index in the plan.
    pub examples: Vec<usize>,
}

impl Comparison {
    /// Compares `hashes` with those of `baselines`, all of one plan.
    #[must_use]
    pub fn new(hashes: &[u64], baselines: &[Bodies]) -> Self {
        let mut comparison = Self { baselines: baselines.len(), ..Self::default() };
        for (index, hash) in hashes.iter().enumerate() {
            let before = baselines.iter().filter_map(|run| run.hashes.get(index).copied()).filter(|hash| *hash != 0);
            match Expected::of(before) {
                _ if *hash == 0 => comparison.unanswered += 1,
                Expected::Unknown => comparison.unanswered += 1,
                Expected::Noise => comparison.noise += 1,
                Expected::Content(expected) if expected == *hash => comparison.same += 1,
                Expected::Content(_) => {
                    comparison.different += 1;
                    if comparison.examples.len() < EXAMPLES {
                        comparison.examples.push(index);
                    }
                }
            }
        }
        comparison
    }
}

enum Expected {
    Unknown,
    Noise,
    Content(u64),
}

impl Expected {
    fn of(before: impl Iterator<Item = u64>) -> Self {
        before.fold(Self::Unknown, |expected, hash| match expected {
            _ if hash == VARIED => Self::Noise,
            Self::Unknown => Self::Content(hash),
            Self::Content(known) if known == hash => Self::Content(known),
            Self::Noise | Self::Content(_) => Self::Noise,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(hashes: &[u64]) -> Bodies {
        Bodies { tuningfork_bodies: Bodies::VERSION, plan: "p".to_owned(), hashes: hashes.to_vec() }
    }

    #[test]
    fn noise_is_learned_from_runs_that_disagree() {
        let baselines = [run(&[1, 2, 3, 4, 0, 6]), run(&[1, 9, 3, 4, 0, VARIED])];
        let found = Comparison::new(&[1, 7, 8, 0, 5, 6], &baselines);
        let expected = Comparison { baselines: 2, same: 1, different: 1, noise: 2, unanswered: 2, examples: vec![2] };
        assert_eq!(found, expected);
    }

    #[test]
    fn content_that_varied_only_now_is_a_difference() {
        assert_eq!(Comparison::new(&[VARIED], &[run(&[1])]).different, 1);
    }

    #[test]
    fn a_longer_plan_is_unanswered_beyond_the_baseline() {
        assert_eq!(Comparison::new(&[1, 2], &[run(&[1])]).unanswered, 1);
    }
}
