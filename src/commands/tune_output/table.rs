//! The table of trials.

use std::cmp::Reverse;

use comfy_table::{Attribute, Cell, CellAlignment, ContentArrangement, LineStyle, Table, presets};

use crate::commands::figures::{counted, latency, memory, percent, rate, share};
use crate::commands::tune_output::Paper;
use crate::study::{Ending, Flag, Measurement, Outcome, Report, Slo, Trial};

pub(super) const HEADERS: [&str; 12] =
    ["#", "workers", "conns", "req/s", "p50", "p90", "p99", "errors", "CPU", "low", "memory", "note"];

/// Below this width the note goes below its trial's numbers.
const ROOMY: u16 = 96;

/// All trials in order; empty if there are none.
pub(super) fn trials(report: &Report, paper: Paper) -> String {
    if report.trials.is_empty() {
        return String::new();
    }
    let roomy = paper.width >= ROOMY;
    let shown = if roomy { HEADERS.len() } else { HEADERS.len() - 1 };
    let mut table = plain_table(paper);
    table.set_header(HEADERS[..shown].iter().map(|name| heading(name, paper)));
    let mut notes = Vec::new();
    for (trial, number) in report.trials.iter().zip(1_usize..) {
        let chosen = Some(trial.suggestion.candidate) == report.recommended;
        let note = note(trial, &report.slo);
        let cells: Vec<Cell> =
            numbers(number, trial).into_iter().map(|text| emphasised(Cell::new(text), chosen && paper.colour)).collect();
        if roomy {
            table.add_row(cells.into_iter().chain([emphasised(Cell::new(&note), chosen && paper.colour)]));
        } else {
            notes.push(format!("{number}: {note}"));
            table.add_row(cells);
        }
    }
    for column in table.column_iter_mut().take(HEADERS.len() - 1) {
        column.set_padding((0, 1)).set_cell_alignment(CellAlignment::Right);
    }
    let below = if roomy { String::new() } else { format!("\n{}", paper.wrap(&notes.join("; "))) };
    format!("{}{below}\n{}", trimmed(&table), paper.wrap(&legend(report)))
}

/// What the columns mean.
pub(super) fn legend(report: &Report) -> String {
    let rates = match report.objective.fixed_rate() {
        None => "answered at the highest rate held",
        Some(_) => "the rate that every trial served, where it was held",
    };
    let cpu = match report.space.quota {
        None => format!("mean of {}", counted(report.cores.into(), "core")),
        Some(_) => "share of the quota that was used".to_owned(),
    };
    format!("req/s: {rates} within {}; CPU: {cpu}; low: the least busy core.", report.slo)
}

/// A table without lines, in the paper's width.
pub(in crate::commands) fn plain_table(paper: Paper) -> Table {
    let mut table = Table::new();
    let style = presets::NOTHING.header_separator(LineStyle::none().fill('─').junction('─'));
    table.load_style(style).set_content_arrangement(ContentArrangement::Dynamic).set_width(paper.width);
    if paper.colour {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    table
}

pub(super) fn heading(name: &str, paper: Paper) -> Cell {
    emphasised(Cell::new(name), paper.colour)
}

fn emphasised(cell: Cell, strong: bool) -> Cell {
    if strong { cell.add_attribute(Attribute::Bold) } else { cell }
}

/// The table without the blanks around it.
pub(in crate::commands) fn trimmed(table: &Table) -> String {
    table.to_string().lines().map(str::trim_end).filter(|line| !line.is_empty()).collect::<Vec<_>>().join("\n")
}

pub(super) fn numbers(number: usize, trial: &Trial) -> Vec<String> {
    let candidate = trial.suggestion.candidate;
    let mut cells = vec![number.to_string(), candidate.workers.to_string(), candidate.connections.to_string()];
    match &trial.outcome {
        Outcome::Measured(found) => cells.extend([
            if found.capacity > 0.0 { rate(found.capacity) } else { "–".to_owned() },
            unless_unknown(found.p50, latency),
            unless_unknown(found.p90, latency),
            unless_unknown(found.p99, latency),
            unless_unknown(found.errors, percent),
            share(found.cpu_mean()),
            share(found.cpu_lowest()),
            unless_unknown(found.memory_bytes, memory),
        ]),
        Outcome::Challenged(found) => {
            let latencies = found.probes.last().and_then(|probe| Some(probe.latencies.as_ref()?.unpack()));
            let quantile = |share| unless_unknown(latencies.as_ref().map(|found| found.quantile(share)), latency);
            let unknown = || "–".to_owned();
            let memory = unless_unknown(found.memory_bytes, memory);
            cells.extend([unknown(), quantile(0.5), quantile(0.9), quantile(0.99), unknown(), unknown(), unknown(), memory]);
        }
        Outcome::Failed { .. } => cells.extend((0..8).map(|_| "–".to_owned())),
    }
    cells
}

fn unless_unknown<T>(value: Option<T>, text: impl Fn(T) -> String) -> String {
    value.map_or_else(|| "–".to_owned(), text)
}

/// A quota that held a trial back for less than this share of its time is not worth a word.
const THROTTLED: f64 = 0.02;
/// With fewer different requests than this, a trial was about those alone.
const FEW_REQUESTS: u64 = 10;

/// Numbers that matter in few trials only, where they do.
fn asides(found: &Measurement, slo: &Slo) -> Vec<String> {
    let leak = found.memory_growth.filter(|growth| *growth > 0.0 && found.flags.contains(&Flag::Leaking));
    let throttled = found.throttled.filter(|share| *share >= THROTTLED);
    let few = found.distinct_requests.filter(|count| (1..FEW_REQUESTS).contains(count));
    let stray = found.held_despite_errors(slo).then(|| with_kinds("errors above the bound", found));
    [
        stray,
        leak.map(|growth| format!("by {:.1} MiB a minute", growth * 60.0 / f64::from(1 << 20))),
        throttled.map(|part| format!("held back by the CPU quota {} of the time", share(Some(part)))),
        few.map(|count| format!("{} sent", counted(count, "different request"))),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// The words, and what kinds of errors there were, the commonest first. A trial program may not know.
pub(super) fn with_kinds(words: &str, found: &Measurement) -> String {
    let mut kinds: Vec<(&String, &u64)> = found.errors_by_kind.iter().collect();
    kinds.sort_by_key(|(_, count)| Reverse(*count));
    let kinds: Vec<String> = kinds.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
    if kinds.is_empty() { words.to_owned() } else { format!("{words}: {}", kinds.join(", ")) }
}

pub(super) fn note(trial: &Trial, slo: &Slo) -> String {
    let mut parts = vec![trial.suggestion.purpose.word().to_owned()];
    parts.extend(trial.suggestion.candidate.affinity.map(|affinity| format!("cpu-affinity {}", affinity.name())));
    match &trial.outcome {
        Outcome::Measured(found) => {
            match found.ending {
                Ending::Held => {}
                Ending::Errors | Ending::OnlyErrors => {
                    parts.push(with_kinds(&found.ending.words(), found));
                }
                Ending::NothingHeld | Ending::TooSlow | Ending::Outclassed(_) => parts.push(found.ending.words()),
            }
            parts.extend(found.flags.iter().map(|flag| flag.words().to_owned()));
            parts.extend(asides(found, slo));
        }
        Outcome::Challenged(found) => {
            parts.push(if found.holds { "held" } else { "not held" }.to_owned());
            parts.extend(found.flags.iter().map(|flag| flag.words().to_owned()));
        }
        Outcome::Failed { .. } => parts.extend(trial.failure().map(|reason| format!("failed: {reason}"))),
    }
    parts.join(", ")
}
