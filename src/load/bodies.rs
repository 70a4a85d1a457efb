//! What each request of a plan was answered with, as hashes, so that runs can be compared. Takes 8 bytes a request of the plan, and
//! nothing if contents are not compared.

use super::outcome::VARIED;

/// No answer yet.
const NONE: u64 = 0;

/// Hashes of contents, by request.
#[derive(Debug, Default)]
pub(super) struct Bodies(Vec<u64>);

impl Bodies {
    pub(super) fn new(requests: usize) -> Self {
        Self(vec![NONE; requests])
    }

    /// The request was answered with content of this hash.
    pub(super) fn note(&mut self, index: usize, hash: u64) {
        // The two values with a meaning of their own give way.
        let hash = hash.clamp(NONE + 1, VARIED - 1);
        if let Some(body) = self.0.get_mut(index) {
            *body = if *body == NONE || *body == hash { hash } else { VARIED };
        }
    }

    pub(super) fn into_hashes(self) -> Vec<u64> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_answer_is_kept_and_several_are_noise() {
        let mut bodies = Bodies::new(4);
        for (index, hash) in [(1, 7), (2, 7), (1, 7), (2, 8), (2, 7), (3, 0), (9, 1)] {
            bodies.note(index, hash);
        }
        assert_eq!(bodies.into_hashes(), [0, 7, VARIED, 1]);
    }
}
