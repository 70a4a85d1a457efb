//! The formulas behind a report with this study's numbers put in, and what the search left out.

use std::collections::BTreeMap;

use super::sentences::{recommended_side, short};
use crate::commands::figures::{latency, memory, rate};
use crate::study::report::{Known, Limit};
use crate::study::{Ending, Label, Measurement, Outcome, Report, Trial};

/// The certificate's formula, and what was put into it.
pub(super) fn certificate(report: &Report) -> Vec<(&'static str, String)> {
    let certificate = &report.certificate;
    let mut rows = Vec::new();
    if let Some(bound) = certificate.bound {
        let demand = f64::from(report.cores) / bound;
        rows.push(("Law", "B = c / D: the cores' limit by the utilisation law, D = U × c / X".to_owned()));
        rows.push((
            "D",
            format!(
                "{}: CPU time of the whole host for one request, load generator included, by trials that kept the cores busy",
                latency(demand)
            ),
        ));
        rows.push(("B", format!("{} cores / {} = {} req/s", report.cores, latency(demand), rate(bound))));
        if let Some(share) = certificate.share {
            let reached = format!("{} / {} = {:.1} %", rate(share * bound), rate(bound), share * 100.0);
            rows.push(("Reached", format!("{reached} of B by the recommended configuration")));
        }
    }
    rows.push(("Certified", if certificate.given { "yes".to_owned() } else { format!("no: {}", reason(report)) }));
    rows
}

fn reason(report: &Report) -> &str {
    report.certificate.reason.as_deref().unwrap_or("no bound was found")
}

/// What of the host's CPU was not there for the application, because the load was made on the same host.
pub(super) fn generator(report: &Report) -> Vec<(&'static str, String)> {
    let found = recommended_side(report).unwrap_or(&report.baseline).measurement.as_ref();
    let Some((found, busy, workers, generator)) =
        found.and_then(|found| Some((found, found.cpu_mean()?, found.workers_cpu?, found.generator_cpu?)))
    else {
        return Vec::new();
    };
    let cores = f64::from(report.cores);
    let others = (busy * cores - workers - generator).max(0.0);
    let left = cores - generator - others;
    let mut rows = vec![
        ("Used", format!("{workers:.2} cores by the workers, {generator:.2} by the load generator, {others:.2} by all else")),
        ("Left", format!("c_eff = c − generator − others = {cores:.0} − {generator:.2} − {others:.2} = {left:.2} cores")),
    ];
    if found.label() == Label::Cpu && left > 0.0 && generator > 0.0 {
        let alone = found.capacity * (cores - others) / left;
        rows.push((
            "Elsewhere",
            format!(
                "X × (c − others) / c_eff = {} × {:.2} / {left:.2} = {} req/s, if the load came from another host",
                rate(found.capacity),
                cores - others,
                rate(alone)
            ),
        ));
    }
    rows
}

/// What was left out, and why: limits, then trials that count for little or nothing.
pub(super) fn excluded(report: &Report) -> Vec<(String, String)> {
    let count = |limit| report.map.cells().filter(|cell| cell.known == Known::Excluded(limit)).count();
    let configurations = |count: usize| if count == 1 { "1 configuration".to_owned() } else { format!("{count} configurations") };
    let mut rows = Vec::new();
    if let Some(most) = report.space.max_slots {
        let why = format!("workers × connections may be {most} at most (--max-total-connections)");
        rows.push((format!("{} of the map", configurations(count(Limit::Slots))), why));
    }
    if let Some(most) = report.space.max_memory {
        let why = format!("would need more memory than {}, by what the measured ones took", memory(most));
        rows.push((format!("{} of the map", configurations(count(Limit::Memory))), why));
    }
    let mut by_reason: BTreeMap<(u8, String), Vec<String>> = BTreeMap::new();
    for (trial, number) in report.trials.iter().zip(1..) {
        if let Some(reason) = doubt(trial) {
            let name = format!("{number} ({})", short(trial.suggestion.candidate));
            by_reason.entry(reason).or_default().push(name);
        }
    }
    rows.extend(by_reason.into_iter().map(|((_, why), trials)| {
        let plural = if trials.len() == 1 { "" } else { "s" };
        (format!("trial{plural} {}", trials.join(", ")), why)
    }));
    rows
}

/// Why a trial counts for little or nothing, if it does; the number orders kinds of reasons.
fn doubt(trial: &Trial) -> Option<(u8, String)> {
    match &trial.outcome {
        Outcome::Failed { .. } => Some((0, format!("failed: {}", trial.failure().unwrap_or_default()))),
        Outcome::Measured(found) if !found.is_valid() => Some((1, format!("disturbed: {}", voids(&found.flags)))),
        Outcome::Challenged(found) if !trial.is_valid() => Some((1, format!("disturbed: {}", voids(&found.flags)))),
        Outcome::Measured(found) => hopeless(found),
        Outcome::Challenged(_) => None,
    }
}

fn hopeless(found: &Measurement) -> Option<(u8, String)> {
    match found.ending {
        Ending::Held if found.has_crashed() => Some((2, "a worker crashed".to_owned())),
        Ending::Held => None,
        Ending::Outclassed(_) => Some((2, "not pursued: light load showed that the best so far could not be reached".to_owned())),
        Ending::NothingHeld | Ending::TooSlow | Ending::Errors | Ending::OnlyErrors => Some((2, found.ending.words())),
    }
}

fn voids(flags: &[crate::study::Flag]) -> String {
    flags.iter().filter(|flag| flag.voids()).map(|flag| flag.words()).collect::<Vec<_>>().join(", ")
}
