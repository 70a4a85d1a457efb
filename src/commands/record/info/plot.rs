//! A plot of a rate over time in block characters.

/// Rows of a plot.
const ROWS: usize = 4;
/// From empty to full.
const BLOCKS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The lines of a plot of `rates`, a column each, from 0 to the highest, which is written before its line. Empty if all are 0.
pub(super) fn plot(rates: &[f64], margin: usize) -> Vec<String> {
    let top = rates.iter().copied().fold(0.0, f64::max);
    if top <= 0.0 {
        return Vec::new();
    }
    let full = ROWS * (BLOCKS.len() - 1);
    let heights: Vec<usize> = rates.iter().map(|rate| height(rate / top, full)).collect();
    let row = |row: usize| {
        let below = (ROWS - 1 - row) * (BLOCKS.len() - 1);
        let label = match row {
            0 => super::page::rate(top),
            row if row == ROWS - 1 => "0".to_owned(),
            _ => String::new(),
        };
        let blocks: String = heights.iter().map(|height| BLOCKS[height.saturating_sub(below).min(BLOCKS.len() - 1)]).collect();
        format!("{label:>margin$} ┤{}", blocks.trim_end())
    };
    (0..ROWS).map(row).collect()
}

/// What is not 0 is seen.
fn height(share: f64, full: usize) -> usize {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a small number")]
    let height = (share * full as f64).round() as usize;
    height.clamp(usize::from(share > 0.0), full)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_high_as_their_rates() {
        let lines = plot(&[0.0, 1.0, 16.0, 24.5, 32.0], 4);
        assert_eq!(lines, ["  32 ┤   ▁█", "     ┤   ██", "     ┤  ███", "   0 ┤ ▁███"].map(str::to_owned));
        assert_eq!(plot(&[0.0, 0.0], 4), Vec::<String>::new());
        assert_eq!(plot(&[1e-9, 1e9], 4)[3], "   0 ┤▁█");
    }
}
