//! A small histogram that is emptied every second: two digits from a microsecond to an hour, 7 KiB, so that it stays in the cache.

use std::time::Duration;

/// Values below this have a cell each; above, every power of two has half as many cells.
const EXACT: u32 = 128;
/// The highest value, µs; it ends in the last cell.
const LONGEST: u32 = u32::MAX;
const CELLS: usize = 26 * 64 + 64;

/// How long things took within a second.
#[derive(Debug)]
pub(super) struct Spread {
    cells: Box<[u32; CELLS]>,
    count: u32,
    longest: u32,
}

impl Spread {
    pub(super) fn new() -> Self {
        Self { cells: Box::new([0; CELLS]), count: 0, longest: 0 }
    }

    pub(super) fn record(&mut self, span: Duration) {
        let micros = u32::try_from(span.as_micros()).unwrap_or(LONGEST);
        let cell = &mut self.cells[cell(micros)];
        *cell = cell.saturating_add(1);
        self.count = self.count.saturating_add(1);
        self.longest = self.longest.max(micros);
    }

    pub(super) fn clear(&mut self) {
        if self.count > 0 {
            self.cells.fill(0);
            (self.count, self.longest) = (0, 0);
        }
    }

    /// What these shares did not exceed, seconds; 0 of nothing. `shares` rise.
    pub(super) fn quantiles<const N: usize>(&self, shares: [f64; N]) -> [f64; N] {
        let mut found = [0.0; N];
        let mut below = 0;
        let mut next = 0;
        for (index, cell) in self.cells.iter().enumerate().filter(|(_, cell)| **cell > 0) {
            below += u64::from(*cell);
            while let Some(share) = shares.get(next).filter(|share| below as f64 >= **share * f64::from(self.count)) {
                debug_assert!((0.0..=1.0).contains(share));
                found[next] = f64::from(highest(index).min(self.longest)) / 1e6;
                next += 1;
            }
        }
        found
    }

    /// The longest, seconds.
    pub(super) fn longest(&self) -> f64 {
        f64::from(self.longest) / 1e6
    }
}

fn cell(micros: u32) -> usize {
    let shift = (u32::BITS - micros.leading_zeros()).saturating_sub(EXACT.trailing_zeros());
    (shift * (EXACT / 2) + (micros >> shift)) as usize
}

/// The highest value of a cell.
fn highest(cell: usize) -> u32 {
    let cell = u32::try_from(cell).unwrap_or(0);
    let shift = (cell / (EXACT / 2)).saturating_sub(1);
    let lowest = u64::from(cell - shift * (EXACT / 2)) << shift;
    u32::try_from(lowest + (1 << shift) - 1).unwrap_or(LONGEST)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_cell_holds_its_values_to_two_digits(micros: u32) {
            let highest = highest(cell(micros));
            prop_assert!(highest >= micros && f64::from(highest - micros) <= f64::from(micros) / 64.0);
            prop_assert!(cell(highest) == cell(micros) && cell(highest.saturating_add(1)) >= cell(micros));
        }
    }

    #[test]
    fn quantiles_of_a_second_are_right_and_forgotten() {
        let mut spread = Spread::new();
        for millis in 1..=1000 {
            spread.record(Duration::from_millis(millis));
        }
        let [median, high] = spread.quantiles([0.5, 0.99]);
        assert!((median - 0.5).abs() < 0.01 && (high - 0.99).abs() < 0.02, "{median} {high}");
        assert!((spread.longest() - 1.0).abs() < 1e-9);
        spread.record(Duration::from_secs(1_000_000));
        assert!(spread.longest() > 4_000.0);
        spread.clear();
        assert_eq!((spread.quantiles([0.0, 1.0]), spread.longest().to_bits()), ([0.0; 2], 0));
    }
}
