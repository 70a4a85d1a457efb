//! What a waiting user sees: a line that moves on a terminal, a line a trial elsewhere.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::study::{Ending, Measurement, Outcome, Slo, Suggestion, Trial};
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
    slo: Slo,
}

const TICK: Duration = Duration::from_millis(200);

impl Shown {
    /// A bar if standard error is a terminal, plain lines otherwise, of trials in which `slo` had to hold.
    #[must_use]
    pub fn on_stderr(slo: Slo) -> Self {
        let moves = std::io::stderr().is_terminal();
        let bar = ProgressBar::with_draw_target(
            Some(1),
            if moves { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() },
        );
        let style = ProgressStyle::with_template("{bar:20} {pos}/{len} {elapsed:>4} {wide_msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style.progress_chars("█▌ "));
        Self { bar, label: String::new(), moves, slo }
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
            let _ = writeln!(std::io::stderr(), "{}: {}", self.label, result(trial, &self.slo));
        }
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn result(trial: &Trial, slo: &Slo) -> String {
    match &trial.outcome {
        Outcome::Measured(measured) if measured.capacity > 0.0 => {
            let but = if measured.held_despite_errors(slo) { " but for stray errors" } else { "" };
            format!("{:.1} req/s within the objective{but}, {:.0} s", measured.capacity, measured.seconds)
        }
        Outcome::Measured(measured) => format!("{}{}, {:.0} s", measured.ending.words(), why_not(measured), measured.seconds),
        Outcome::Challenged(found) => {
            format!("{}, {:.0} s", if found.holds { "held" } else { "not held" }, found.seconds)
        }
        Outcome::Failed { .. } => format!("failed: {}", trial.failure().unwrap_or_default()),
    }
}

/// Why not even the last rate was held.
fn why_not(measured: &Measurement) -> String {
    let last = measured.probes.last().filter(|_| measured.ending == Ending::NothingHeld);
    last.and_then(|probe| probe.why.as_ref()).map_or_else(String::new, |why| format!(" ({why})"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::study::{Candidate, ProbeNote, Purpose, Task};
    use crate::units::{Connections, Workers};

    fn told(found: Measurement) -> String {
        let candidate = Candidate::new(Workers::new(5).unwrap(), Connections::ONE);
        let suggestion = Suggestion { candidate, purpose: Purpose::Baseline, task: Task::Measure, expected: None, rival: None };
        let slo = "p90<700ms,errors<0.1%".parse().unwrap();
        result(&Trial { suggestion, outcome: Outcome::Measured(Box::new(found)) }, &slo)
    }

    #[test]
    fn only_what_is_within_the_objective_is_called_so() {
        let held = |errors| Measurement { errors: Some(errors), seconds: 9.0, ..Measurement::of_capacity(86.6) };
        assert_eq!(told(held(0.001)), "86.6 req/s within the objective, 9 s");
        assert_eq!(told(held(0.005)), "86.6 req/s within the objective but for stray errors, 9 s");
        let missed = ProbeNote { rate: 10.0, held: false, why: Some("too many errors".to_owned()), latencies: None };
        let nothing = Measurement { ending: Ending::NothingHeld, probes: vec![missed], ..Measurement::of_capacity(0.0) };
        assert_eq!(told(nothing), "no rate held (too many errors), 0 s");
    }
}
