//! Baseline and best side by side, and what each core did under both.

use comfy_table::CellAlignment;

use crate::commands::figures::{latency, memory, percent, share};
use crate::commands::tune_output::sentences::short;
use crate::commands::tune_output::table::{heading, plain_table, trimmed};
use crate::commands::tune_output::{Paper, goal};
use crate::stats::Interval;
use crate::study::report::Side;
use crate::study::{Measurement, Report};

/// The comparison; empty if there is nothing to compare.
pub(super) fn sides(report: &Report, paper: Paper) -> String {
    let Some(best) = report.best.as_ref().filter(|best| best.candidate != report.baseline.candidate) else {
        return strips(&[("baseline", &report.baseline)], paper);
    };
    let mut table = plain_table(paper);
    let mut rows = rows(report).into_iter();
    table.set_header(rows.next().unwrap_or_default().iter().map(|name| heading(name, paper)));
    rows.for_each(|row| {
        table.add_row(row);
    });
    if let Some(names) = table.column_mut(0) {
        names.set_padding((0, 1));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    format!("{}\n\n{}", trimmed(&table), strips(&[("baseline", &report.baseline), (challenger(report), best)], paper))
}

/// What the best found is called: it is one only where it is recommended.
pub(super) fn challenger(report: &Report) -> &'static str {
    let is_chosen = report.best.as_ref().is_some_and(|best| report.recommended == Some(best.candidate));
    if is_chosen { "best" } else { "challenger" }
}

/// Baseline and best side by side, below a row of headings; the baseline alone if nothing else was measured.
pub(super) fn rows(report: &Report) -> Vec<Vec<String>> {
    let best = report.best.as_ref().filter(|best| best.candidate != report.baseline.candidate);
    let baseline = &report.baseline;
    let row = |name: &str, of: &dyn Fn(&Side) -> String, ratio: Option<String>| {
        let sides = [Some(baseline), best].into_iter().flatten().map(of);
        let ratio = best.map(|_| ratio.unwrap_or_default());
        [name.to_owned()].into_iter().chain(sides).chain(ratio).collect()
    };
    let headings = ["", "baseline", challenger(report), "ratio"].map(str::to_owned);
    let shown = if best.is_some() { headings.len() } else { 2 };
    vec![
        headings[..shown].to_vec(),
        row("configuration", &|side| short(side.candidate), None),
        row(
            &format!("{} (interval)", goal::name(report.objective, &report.slo)),
            &|side| side.amount.map_or_else(|| "–".to_owned(), |amount| goal::interval(report.objective, amount)),
            report.ratio.map(ratio),
        ),
        row(report.slo.quantile().name(), &|side| known(side, |found| found.bounded.map(latency)), None),
        row("errors", &|side| known(side, |found| found.errors.map(percent)), None),
        row(
            "CPU mean, lowest",
            &|side| of(side, |found| format!("{}, {}", share(found.cpu_mean()), share(found.cpu_lowest()))),
            None,
        ),
        row("CPU per request", &|side| known(side, |found| found.cpu_seconds_per_request.map(latency)), None),
        row("memory", &|side| known(side, |found| found.memory_bytes.map(memory)), None),
        row("generator's CPU", &|side| known(side, |found| found.generator_cpu.map(|cores| format!("{cores:.2} cores"))), None),
    ]
}

fn of(side: &Side, show: impl Fn(&Measurement) -> String) -> String {
    side.measurement.as_ref().map_or_else(|| "–".to_owned(), show)
}

fn known(side: &Side, show: impl Fn(&Measurement) -> Option<String>) -> String {
    side.measurement.as_ref().and_then(show).unwrap_or_else(|| "–".to_owned())
}

pub(in crate::commands) fn ratio(ratio: Interval) -> String {
    format!("{:.2} ({:.2} to {:.2})", ratio.value, ratio.low, ratio.high)
}

/// Cores shown one by one; on larger hosts, neighbours share a bar.
const MOST_BARS: usize = 16;

/// How busy each core was, as a bar a core and a column a side.
fn strips(sides: &[(&str, &Side)], paper: Paper) -> String {
    let measured: Vec<(&str, Vec<Bar>)> = sides
        .iter()
        .filter_map(|(name, side)| Some((*name, bars(side.measurement.as_ref()?))))
        .filter(|(_, bars)| !bars.is_empty())
        .collect();
    let Some(rows) = measured.iter().map(|(_, bars)| bars.len()).max() else {
        return String::new();
    };
    let width = (usize::from(paper.width) / measured.len()).saturating_sub(22).clamp(10, 24);
    let titles: Vec<String> = measured.iter().map(|(name, _)| format!("{:<1$}", format!("cores, {name}"), width + 20)).collect();
    let mut lines = vec![titles.concat()];
    for row in 0..rows {
        let cells =
            measured.iter().map(|(_, bars)| bars.get(row).map_or_else(|| " ".repeat(width + 20), |bar| bar.draw(width, paper)));
        lines.push(cells.collect());
    }
    lines.push("█ applications, ▓ kernel, · idle, waiting or stolen".to_owned());
    lines.iter().map(|line| line.trim_end()).collect::<Vec<_>>().join("\n")
}

/// One core, or the mean of several.
struct Bar {
    name: String,
    user: f64,
    system: f64,
}

fn bars(found: &Measurement) -> Vec<Bar> {
    let each = found.cores.len().div_ceil(MOST_BARS).max(1);
    let bar = |cores: &[crate::study::CoreShare]| {
        let count = cores.len() as f64;
        let (first, last) = (cores[0].cpu, cores[cores.len() - 1].cpu);
        let name = if first == last { format!("cpu{first}") } else { format!("cpu{first}-{last}") };
        let mean = |part: fn(&crate::study::CoreShare) -> f64| cores.iter().map(part).sum::<f64>() / count;
        Bar { name, user: mean(|core| core.user), system: mean(|core| core.system) }
    };
    found.cores.chunks(each).map(bar).collect()
}

impl Bar {
    fn draw(&self, width: usize, paper: Paper) -> String {
        let (user, both) = (cells(self.user, width), cells(self.user + self.system, width));
        let (dark, light, rest) = ("█".repeat(user), "▓".repeat(both - user), "·".repeat(width - both));
        let bar = if paper.colour {
            format!("\u{1b}[36m{dark}{light}\u{1b}[2m{rest}\u{1b}[0m")
        } else {
            format!("{dark}{light}{rest}")
        };
        let text = format!("{:.0} %", (self.user + self.system) * 100.0);
        format!("{:<9}{bar} {text:>5}     ", self.name)
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to 0..=width first")]
fn cells(share: f64, width: usize) -> usize {
    (share.clamp(0.0, 1.0) * width as f64).round() as usize
}
