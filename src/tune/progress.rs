//! What a waiting user sees: a line that moves on a terminal, a line a trial elsewhere.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::study::{Outcome, Suggestion, Trial};
use crate::tune::Step;

/// Watches a study.
pub trait Progress: Send {
    /// Trial `number` (from 1) of about `about` starts.
    fn started(&mut self, number: usize, about: usize, suggestion: &Suggestion);

    /// The trial goes on to its next step.
    fn step(&mut self, step: Step);

    /// Trial `number` is over, and in the journal.
    fn finished(&mut self, number: usize, trial: &Trial);
}

/// Watches nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn started(&mut self, _number: usize, _about: usize, _suggestion: &Suggestion) {}
    fn step(&mut self, _step: Step) {}
    fn finished(&mut self, _number: usize, _trial: &Trial) {}
}

/// Shows a study on standard error.
#[derive(Debug)]
pub struct Shown {
    bar: ProgressBar,
    label: String,
    moves: bool,
}

const TICK: Duration = Duration::from_millis(200);

impl Shown {
    /// A bar if standard error is a terminal, plain lines otherwise.
    #[must_use]
    pub fn on_stderr() -> Self {
        let moves = std::io::stderr().is_terminal();
        let bar = ProgressBar::with_draw_target(
            Some(1),
            if moves { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() },
        );
        let style = ProgressStyle::with_template("{bar:20} {pos}/{len} {elapsed:>4} {wide_msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style.progress_chars("█▌ "));
        Self { bar, label: String::new(), moves }
    }
}

impl Progress for Shown {
    fn started(&mut self, number: usize, about: usize, suggestion: &Suggestion) {
        let candidate = suggestion.candidate;
        self.label = format!(
            "trial {number} of about {about}: {} × {}{} ({})",
            candidate.workers,
            candidate.connections,
            candidate.affinity.map_or_else(String::new, |affinity| format!(", cpu-affinity {}", affinity.name())),
            suggestion.purpose.word()
        );
        self.bar.set_length(about as u64);
        self.bar.set_position(number.saturating_sub(1) as u64);
        self.bar.enable_steady_tick(TICK);
        self.step(Step::Starting);
    }

    fn step(&mut self, step: Step) {
        let doing = match step {
            Step::Starting => "starting".to_owned(),
            Step::WarmingUp => "warming up".to_owned(),
            Step::Light => "light load".to_owned(),
            Step::Outside => "your program measures".to_owned(),
            Step::Probing(rate) => format!("{rate:.0} req/s"),
        };
        self.bar.set_message(format!("{}, {doing}", self.label));
    }

    fn finished(&mut self, number: usize, trial: &Trial) {
        self.bar.set_position(number as u64);
        if !self.moves {
            // Nobody to tell if standard error is gone.
            let _ = writeln!(std::io::stderr(), "{}: {}", self.label, result(trial));
        }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn result(trial: &Trial) -> String {
    match &trial.outcome {
        Outcome::Measured(measured) if measured.capacity > 0.0 => {
            format!("{:.1} req/s within the objective, {:.0} s", measured.capacity, measured.seconds)
        }
        Outcome::Measured(measured) => format!("{}, {:.0} s", measured.ending.words(), measured.seconds),
        Outcome::Challenged(found) => {
            format!("{}, {:.0} s", if found.holds { "held" } else { "not held" }, found.seconds)
        }
        Outcome::Failed { .. } => format!("failed: {}", trial.failure().unwrap_or_default()),
    }
}
