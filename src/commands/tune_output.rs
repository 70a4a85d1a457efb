//! What a study tells when it is over: on the terminal the trials, baseline and best side by side, and what to paste; the same as
//! Markdown, as an HTML page and as tables for other programs. Decides nothing: the [`Report`] has.

mod comparison;
mod csv;
mod goal;
mod html;
mod limits;
mod markdown;
mod noise;
mod optuna;
mod paper;
mod sentences;
mod table;
mod working;

pub(in crate::commands) use comparison::ratio;
pub use csv::csv;
pub(in crate::commands) use goal::{interval, name as goal_name};
pub use html::html;
pub use markdown::markdown;
pub use optuna::optuna;
pub use paper::Paper;
pub use sentences::hosts;
pub(in crate::commands) use sentences::{configuration, short};
pub(in crate::commands) use table::{plain_table, trimmed};

use crate::study::Report;
use crate::tune::{About, Coverage};
use sentences::CARE;

/// What is said of a study that was interrupted, and of one that still runs while its journal is read.
const PARTIAL: &str = "PARTIAL: the study is not finished.";

/// The report for a terminal, ending in a newline.
#[must_use]
pub fn report(report: &Report, paper: Paper) -> String {
    let mut text = String::new();
    let mut part = |part: String| {
        if !part.is_empty() {
            text.push_str(part.trim_end());
            text.push_str("\n\n");
        }
    };
    if report.is_partial() {
        part(paper.strong(PARTIAL));
    }
    part(table::trials(report, paper));
    part(comparison::sides(report, paper));
    part(verdict(report, paper));
    part(fragment(report));
    text.trim_end().to_owned() + "\n"
}

/// The lines to paste into the configuration file; empty if nothing is recommended.
#[must_use]
pub fn fragment(report: &Report) -> String {
    report.recommended.map_or_else(String::new, |chosen| {
        let cores =
            chosen.affinity.map_or_else(String::new, |affinity| format!("\n[app]\ncpu-affinity = \"{}\"\n", affinity.name()));
        format!("# tuningfork.toml\nworkers = {}\nconnections = {}\n{cores}", chosen.workers, chosen.connections)
    })
}

/// What the traffic does not show of the application, where something is recommended by it: a sentence that begins as [`doubts`] do.
pub(in crate::commands) fn gap(report: &Report, about: &About) -> Option<String> {
    let gap = about.coverage.as_ref().and_then(Coverage::gap).filter(|_| report.recommended.is_some())?;
    Some(format!("{CARE}: {gap}."))
}

/// What makes the numbers of the study that is called `name` doubtful, a sentence each.
pub(in crate::commands) fn doubts(name: &str, report: &Report, about: &About) -> Vec<String> {
    let mut doubts = Vec::new();
    if report.is_partial() {
        doubts.push(format!("{name} is not finished."));
    }
    if report.spoilt {
        doubts.push(format!("Disturbances left nothing of the repetitions of what {name} recommends: take it as a hint."));
    } else if !report.confirmed && report.recommended.is_some_and(|chosen| chosen != report.baseline.candidate) {
        doubts.push(format!("What {name} recommends was not repeated: take it as a hint."));
    }
    let told = sentences::after_the_verdict(report).into_iter().chain(gap(report, about));
    let cares = told.filter_map(|sentence| Some(format!("Take {name}'s numbers with care{}", sentence.strip_prefix(CARE)?)));
    doubts.extend(cares);
    doubts
}

/// What was found, in sentences.
fn verdict(report: &Report, paper: Paper) -> String {
    let sentences = sentences::after_the_verdict(report);
    let lines = sentences.iter().map(|sentence| paper.wrap(sentence));
    [paper.strong(&sentences::headline(report))].into_iter().chain(lines).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests;
