//! What a waiting user sees: a line that moves on a terminal, a line every ten seconds elsewhere.

use std::io::{self, IsTerminal};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::commands::figures::{count, latency, rate};
use crate::commands::say::say;
use crate::load::Batch;

/// The time between two lines where nothing can move.
const BETWEEN_LINES: Duration = Duration::from_secs(10);

/// Shows a run on standard error.
pub(super) struct Screen {
    bar: ProgressBar,
    expected: Option<Duration>,
    moves: bool,
    next_line: Duration,
}

impl Screen {
    pub(super) fn on_stderr(expected: Option<Duration>) -> Self {
        let moves = io::stderr().is_terminal();
        let target = if moves { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(expected.map(millis), target);
        let template = if expected.is_some() { "{bar:12} {msg}" } else { "{spinner} {msg}" };
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style.progress_chars("█▌ "));
        Self { bar, expected, moves, next_line: BETWEEN_LINES }
    }

    pub(super) fn show(&mut self, batch: &Batch, settle: Duration) {
        let line = line(batch, self.expected, settle);
        self.bar.set_position(millis(batch.elapsed));
        self.bar.set_message(line.clone());
        if !self.moves && batch.elapsed >= self.next_line {
            self.next_line = batch.elapsed.saturating_add(BETWEEN_LINES);
            say(&line);
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// How a run stands, in less than 80 columns with the bar before it: rates, latencies and lateness are those of the last second.
fn line(batch: &Batch, expected: Option<Duration>, settle: Duration) -> String {
    let elapsed = batch.elapsed.as_secs();
    let time = expected.map_or_else(|| format!("{elapsed}s"), |expected| format!("{elapsed}/{:.0}s", expected.as_secs_f64()));
    if expected.is_some_and(|expected| batch.elapsed > expected) {
        return format!("{time}  waiting for {} answers", count(batch.outstanding + batch.queued));
    }
    if batch.elapsed < settle {
        return format!("{time}  warming up");
    }
    let second = batch.recent;
    let [p50, _, p99, _] = second.latency;
    format!(
        "{time}  {} of {} req/s  p50 {} p99 {}  {} failed  late {}",
        rate(second.completed as f64),
        rate(second.offered as f64),
        latency(p50),
        latency(p99),
        count(batch.failed),
        latency(second.lateness_p99)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::Second;

    #[test]
    fn a_line_tells_the_last_second_and_fits_a_terminal() {
        let recent = Second {
            offered: 12_345,
            completed: 12_300,
            latency: [0.001_2, 0.01, 0.45, 1.0],
            lateness_p99: 0.000_08,
            ..Second::default()
        };
        let batch = Batch { elapsed: Duration::from_secs(59), failed: 12_345, recent, ..Batch::default() };
        let told = line(&batch, Some(Duration::from_hours(1)), Duration::ZERO);
        assert_eq!(told, "59/3600s  12300 of 12345 req/s  p50 1.2ms p99 450ms  12,345 failed  late 80µs");
        assert!(told.chars().count() + 13 <= 96, "{told}");
        assert_eq!(line(&batch, None, Duration::from_mins(1)), "59s  warming up");
        let late = Batch { outstanding: 7, ..batch };
        assert_eq!(line(&late, Some(Duration::from_secs(58)), Duration::ZERO), "59/58s  waiting for 7 answers");
    }
}
