//! What `tune` prints on standard output when a study is over: the trials, baseline and best side by side, and what to paste.
//! Decides nothing: the [`Report`] has.

mod comparison;
mod paper;
mod table;

pub use paper::Paper;

use std::fmt::Write as _;
use std::num::NonZeroU32;

use super::figures;
use crate::study::confirm::Outcome as DuelOutcome;
use crate::study::{Report, Stop, plan};
use crate::units::Rate;

/// The whole report, ending in a newline.
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
        part(paper.strong("PARTIAL: the study was interrupted."));
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
        format!("# tuningfork.toml\nworkers = {}\nconnections = {}\n", chosen.workers, chosen.connections)
    })
}

/// How many hosts a peak needs, in a sentence; empty if nothing is recommended.
#[must_use]
pub fn hosts(report: &Report, peak: Rate, headroom: f64) -> String {
    let side = report.best.as_ref().filter(|best| Some(best.candidate) == report.recommended).unwrap_or(&report.baseline);
    let capacity = side.capacity.filter(|_| report.recommended.is_some()).and_then(|capacity| Rate::new(capacity.value));
    let Some(hosts) = capacity.and_then(|capacity| plan::hosts(peak, capacity, headroom)) else {
        return String::new();
    };
    let plural = if hosts == NonZeroU32::MIN { "" } else { "s" };
    format!(
        "A peak of {:.0} req/s needs {hosts} host{plural} like this one, {:.0} % of each kept free.\n",
        peak.per_second(),
        headroom * 100.0
    )
}

/// What was found, in sentences.
fn verdict(report: &Report, paper: Paper) -> String {
    let mut text = String::new();
    let mut say = |sentence: &str| writeln!(text, "{sentence}").expect("invariant: writing to a string succeeds");
    say(&paper.strong(&headline(report)));
    if report.recommended.is_some() {
        if let Some(found) = recommended_side(report).and_then(|side| side.measurement.as_ref()) {
            say(&paper.wrap(&format!("What stops it from doing more: {}.", found.label().words())));
            let doubts: Vec<&str> = found.flags.iter().map(|flag| flag.words()).collect();
            if !doubts.is_empty() {
                say(&paper.wrap(&format!("Take its numbers with care: {}.", doubts.join(", "))));
            }
        }
        say(&paper.wrap(&certificate(report)));
    }
    match report.stop {
        Stop::Budget => say(&paper.wrap("The budget was used up before every promising configuration was tried.")),
        Stop::Converged
        | Stop::Certified
        | Stop::OnlyErrors
        | Stop::NothingMeetsSlo
        | Stop::NothingStarts
        | Stop::Interrupted => {}
    }
    text
}

fn recommended_side(report: &Report) -> Option<&crate::study::report::Side> {
    let chosen = report.recommended?;
    [report.best.as_ref(), Some(&report.baseline)].into_iter().flatten().find(|side| side.candidate == chosen)
}

fn headline(report: &Report) -> String {
    let Some(chosen) = report.recommended else {
        return refusal(report);
    };
    let counted = |count: u32, one: &str| if count == 1 { format!("1 {one}") } else { format!("{count} {one}s") };
    let chosen =
        format!("{} × {}", counted(chosen.workers.get().into(), "worker"), counted(chosen.connections.get(), "connection"));
    let ratio = report
        .ratio
        .map(|ratio| format!("{:.2} times the baseline ({:.2} to {:.2})", ratio.value, ratio.low, ratio.high))
        .unwrap_or_default();
    let verdict = match report.outcome {
        Some(DuelOutcome::Better) => format!("Recommended: {chosen}, {ratio}."),
        Some(DuelOutcome::NoDifference) if report.recommended == Some(report.baseline.candidate) => {
            format!("No difference seen between the best and the baseline. Recommended: the baseline, {chosen}.")
        }
        Some(DuelOutcome::NoDifference) => {
            format!("No difference seen between the best and the baseline. Recommended: {chosen}, which needs less memory.")
        }
        Some(DuelOutcome::Worse) => {
            format!("What looked better did not stand up to repetition. Recommended: the baseline, {chosen}.")
        }
        Some(DuelOutcome::OnlyBest) if report.baseline.measurement.is_none() => {
            format!("Recommended: {chosen}. The baseline could not be measured, so nothing is said about the gain.")
        }
        Some(DuelOutcome::OnlyBest) => format!("Recommended: {chosen}. The baseline holds no rate within the objective."),
        Some(DuelOutcome::BaselineIsBest) | None if report.candidates < 2 => {
            return format!("Only {chosen}, the baseline, was measured: nothing can be said about others.");
        }
        Some(DuelOutcome::BaselineIsBest) | None => {
            format!("No difference seen: nothing better than the baseline was found. Recommended: the baseline, {chosen}.")
        }
    };
    if report.confirmed || report.recommended == Some(report.baseline.candidate) {
        verdict
    } else {
        format!("{verdict} Not repeated: take it as a hint.")
    }
}

fn refusal(report: &Report) -> String {
    let nearest = report.nearest.and_then(|number| Some((number, report.trials.get(number - 1)?.measurement()?)));
    let nearest = nearest.map(|(number, found)| {
        format!(
            " Nearest: trial {number}, {} {} and {} of errors.",
            report.slo.quantile().name(),
            found.bounded.map_or_else(|| "–".to_owned(), figures::latency),
            found.errors.map_or_else(|| "–".to_owned(), figures::percent)
        )
    });
    let why = match report.stop {
        Stop::OnlyErrors => "The application answers only errors.".to_owned(),
        Stop::NothingStarts => "No configuration could be started.".to_owned(),
        Stop::Interrupted => "Interrupted before anything was measured.".to_owned(),
        Stop::NothingMeetsSlo | Stop::Converged | Stop::Certified | Stop::Budget => {
            format!("No configuration meets {}.{}", report.slo, nearest.unwrap_or_default())
        }
    };
    format!("{why} Nothing is recommended.")
}

fn certificate(report: &Report) -> String {
    let certificate = &report.certificate;
    match (certificate.given, certificate.share, certificate.bound, certificate.reason.as_deref()) {
        (true, Some(share), Some(bound), _) => format!(
            "It does {:.0} % of what {} cores can do for this traffic ({bound:.0} req/s by the utilisation law): no configuration can be much better.",
            share * 100.0,
            report.cores
        ),
        (_, _, _, reason) => format!("No bound can be certified: {}.", reason.unwrap_or("none was found")),
    }
}

#[cfg(test)]
mod tests;
