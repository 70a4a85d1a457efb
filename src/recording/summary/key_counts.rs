//! Counts of distinct things, a bounded number of them.

use std::collections::BTreeMap;

/// How many of each.
#[derive(Debug)]
pub(super) struct KeyCounts<K> {
    counts: BTreeMap<K, u64>,
    other: u64,
}

impl<K> Default for KeyCounts<K> {
    fn default() -> Self {
        Self { counts: BTreeMap::new(), other: 0 }
    }
}

impl<K: Ord> KeyCounts<K> {
    /// Counts one more `key`; as one of the others if it is new and `bound` are known.
    pub(super) fn add(&mut self, key: K, bound: usize) {
        if let Some(count) = self.counts.get_mut(&key) {
            *count += 1;
        } else if self.counts.len() < bound {
            self.counts.insert(key, 1);
        } else {
            self.other += 1;
        }
    }

    /// Whether it is counted on its own.
    pub(super) fn has(&self, key: &K) -> bool {
        self.counts.contains_key(key)
    }

    /// Counts those that are `part` of it as `whole`.
    pub(super) fn join(&mut self, whole: &K, is_part: impl Fn(&K) -> bool)
    where
        K: Clone,
    {
        let mut sum = 0;
        self.counts.retain(|key, count| {
            let stays = !is_part(key);
            sum += if stays { 0 } else { *count };
            stays
        });
        *self.counts.entry(whole.clone()).or_default() += sum;
    }

    /// Each, and how many.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, u64)> {
        self.counts.iter().map(|(key, count)| (key, *count))
    }

    /// How many came of those that are not told apart.
    pub(super) const fn other(&self) -> u64 {
        self.other
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_the_bound_new_ones_are_counted_together() {
        let mut counts = KeyCounts::default();
        for key in ["a", "b", "c", "a", "d"] {
            counts.add(key, 2);
        }
        assert_eq!(counts.iter().collect::<Vec<_>>(), [(&"a", 2), (&"b", 1)]);
        assert_eq!(counts.other(), 2);
    }
}
