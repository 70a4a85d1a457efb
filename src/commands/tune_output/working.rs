//! The formulas behind a report with this study's numbers put in, and what the search left out.

use std::collections::BTreeMap;

use super::sentences::{recommended_side, short};
use crate::commands::figures::{latency, memory, rate};
use crate::study::report::{Known, Limit};
use crate::study::{Ending, Flag, Label, Measurement, Objective, Outcome, Report, Trial};

/// The certificate's formula, and what was put into it.
pub(super) fn certificate(report: &Report) -> Vec<(&'static str, String)> {
    let certificate = &report.certificate;
    let mut rows = Vec::new();
    if let Some(bound) = certificate.bound {
        let crowded = certificate.crowded.unwrap_or(1.0);
        let demand = report.space.cpu() / bound * crowded;
        rows.push(("Law", "B = c / D: the cores' limit by the utilisation law, D = U × c / X".to_owned()));
        rows.push((
            "D",
            format!(
                "{}: CPU time of the whole host for one request, load generator included, by trials that kept the cores busy",
                latency(demand)
            ),
        ));
        let raised = match certificate.crowded {
            Some(factor) => format!(" × {factor:.2}, as workers that share cores need more"),
            None => String::new(),
        };
        rows.push(("B", format!("{} cores / {}{raised} = {} req/s", report.space.cpu(), latency(demand), rate(bound))));
        if let Some(share) = certificate.share {
            let reached = format!("{} / {} = {:.1} %", rate(share * bound), rate(bound), share * 100.0);
            rows.push(("Reached", format!("{reached} of B by the recommended configuration, in all its trials")));
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
    let Some(Parts { found, workers, generator, supervisor, beside, others, left }) = found.and_then(Parts::of) else {
        return Vec::new();
    };
    let all = report.space.cpu();
    let (c, what) = if report.space.quota.is_some() { (format!("{all:.2}"), " (CPU quota)") } else { (format!("{all:.0}"), "") };
    // Under a quota, what others do costs the application nothing of its own.
    let others_cost = (all - left - generator - supervisor).clamp(0.0, others);
    let for_requests = if beside > 0.0 { format!("{beside:.2} by other programs for the requests, ") } else { String::new() };
    let mut rows = vec![
        (
            "Used",
            format!(
                "{workers:.2} cores by the workers, {generator:.2} by the load generator, {supervisor:.2} by the supervisor, \
                 {for_requests}{others:.2} by other programs"
            ),
        ),
        (
            "Left",
            format!(
                "c_eff = c − generator − supervisor − others = {c}{what} − {generator:.2} − {supervisor:.2} − {others_cost:.2} = {left:.2} \
                 cores"
            ),
        ),
    ];
    // A server needs its supervisor wherever the load comes from.
    let alone = left + generator;
    if found.label() == Label::Cpu && left > 0.0 && generator > 0.0 && report.objective == Objective::Capacity {
        rows.push((
            "Elsewhere",
            format!(
                "X × (c_eff + generator) / c_eff = {} × {alone:.2} / {left:.2} = {} req/s, if the load came from another host",
                rate(found.capacity),
                rate(found.capacity * alone / left)
            ),
        ));
    }
    rows
}

/// Who used what of the cores in the window described, cores' worth.
struct Parts<'a> {
    found: &'a Measurement,
    workers: f64,
    generator: f64,
    supervisor: f64,
    /// By programs that the requests needed; none in journals of programs that did not look.
    beside: f64,
    others: f64,
    left: f64,
}

impl<'a> Parts<'a> {
    /// `None` of a trial that did not look at all of them.
    fn of(found: &'a Measurement) -> Option<Self> {
        Some(Self {
            found,
            workers: found.workers_cpu?,
            generator: found.generator_cpu?,
            supervisor: found.supervisor_cpu?,
            beside: found.beside_cpu.unwrap_or(0.0),
            others: found.other_cpu?,
            left: found.effective_cores?,
        })
    }
}

/// What was left out, and why: limits, then trials that count for little or nothing.
pub(super) fn excluded(report: &Report) -> Vec<(String, String)> {
    let count = |limit| report.map.cells().filter(|cell| cell.known == Known::Excluded(limit)).count();
    let configurations = |count: usize| {
        let plural = if count == 1 { "" } else { "s" };
        (count > 0).then(|| format!("{count} configuration{plural} of the map"))
    };
    let mut rows = Vec::new();
    if let Some(most) = report.space.max_slots {
        let why = format!("workers × connections may be {most} at most (--max-total-connections)");
        rows.extend(configurations(count(Limit::Slots)).map(|which| (which, why)));
    }
    if let Some(most) = report.space.max_memory {
        let why =
            format!("would need more memory than {} less a reserve of a tenth, by what the measured ones took", memory(most));
        rows.extend(configurations(count(Limit::Memory)).map(|which| (which, why)));
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
        Ending::Held => aside(found),
        Ending::Outclassed(_) => {
            Some((2, "not pursued: light load showed that the best of then could not be reached".to_owned()))
        }
        Ending::NothingHeld | Ending::TooSlow | Ending::Errors | Ending::OnlyErrors => Some((2, found.ending.words())),
    }
}

/// Why a trial that held a rate in peace does not count, by what the study as a whole shows.
fn aside(found: &Measurement) -> Option<(u8, String)> {
    if found.flags.contains(&Flag::Accident) {
        Some((3, "far below the other trials of the same: does not count".to_owned()))
    } else if found.flags.contains(&Flag::HostChanged) {
        Some((
            3,
            "the host was another than in the other pairs of best and baseline: up to two such pairs are run again".to_owned(),
        ))
    } else {
        None
    }
}

fn voids(flags: &[Flag]) -> String {
    flags.iter().filter(|flag| flag.voids()).map(|flag| flag.words()).collect::<Vec<_>>().join(", ")
}
