//! The searched space as a picture: workers across, connections upwards, both in steps of equal factors. What was measured is framed and
//! dark, what is predicted pale; lines surround what holds the baseline's rate and what is within 5 % of the best.

use std::fmt::Write as _;

use crate::commands::figures::rate;
use crate::commands::page::escape;
use crate::commands::tune_output::sentences::{configuration, short};
use crate::study::report::{Cell, Known, Limit, Map};
use crate::study::{Candidate, Report};

const WIDTH: f64 = 1040.0;
const LEFT: f64 = 64.0;
const TOP: f64 = 6.0;
const BOTTOM: f64 = 44.0;
const ROW: f64 = 32.0;
const WIDEST: f64 = 108.0;
/// How far inside of a cell its ring is, so that it is none of the lines around several cells.
const INSET: f64 = 4.0;
/// Shares of the best that lines surround.
const NEAR_BEST: f64 = 0.95;
/// How dark the best is, and how much paler a prediction.
const DARKEST: f64 = 0.85;
const PALE: f64 = 0.4;
/// From here on text is light.
const DEEP: f64 = 0.55;

/// The picture; empty if nothing was tried.
pub(super) fn map(report: &Report) -> String {
    let map = &report.map;
    if report.trials.is_empty() || map.workers.is_empty() {
        return String::new();
    }
    let picture = Picture::new(report);
    let mut drawn = String::new();
    for row in 0..map.connections.len() {
        for column in 0..map.workers.len() {
            if let Some(cell) = map.cell(column, row) {
                drawn.push_str(&picture.cell(cell, column, row));
            }
        }
    }
    let height = picture.height();
    format!(
        "<section class=wide><h2>The searched space</h2><p>Requests a second within {}{}. Across: workers; upwards: connections of each; \
         both axes logarithmic.</p><svg viewBox=\"0 0 {WIDTH} {height:.0}\" role=img aria-label=\"Capacity by workers and connections; the \
         numbers are in the table of trials\"><defs><pattern id=hatch width=6 height=6 patternUnits=userSpaceOnUse \
         patternTransform=\"rotate(45)\"><line class=hatch-line x1=0 x2=0 y1=0 y2=6 /></pattern></defs>{drawn}{}{}{}</svg>{}</section>\n",
        escape(&report.slo.to_string()),
        served(report),
        picture.contours(),
        picture.rings(),
        picture.axes(),
        picture.legend()
    )
}

/// What else numbers on the map mean where one rate was served by all.
fn served(report: &Report) -> String {
    let served = |at| {
        format!(": every trial served {} and no more, and where nothing was tried the predicted capacity is shown", rate(at))
    };
    report.objective.fixed_rate().map_or_else(String::new, served)
}

struct Picture<'a> {
    report: &'a Report,
    map: &'a Map,
    highest: f64,
    wide: f64,
}

impl<'a> Picture<'a> {
    fn new(report: &'a Report) -> Self {
        let map = &report.map;
        let wide = ((WIDTH - LEFT) / map.workers.len() as f64).min(WIDEST);
        Self { report, map, highest: map.highest().unwrap_or(0.0), wide }
    }

    fn across(&self, column: usize) -> f64 {
        LEFT + column as f64 * self.wide
    }

    /// Many connections are above few.
    fn down(&self, row: usize) -> f64 {
        TOP + (self.map.connections.len() - 1 - row) as f64 * ROW
    }

    fn height(&self) -> f64 {
        TOP + self.map.connections.len() as f64 * ROW + BOTTOM
    }

    fn cell(&self, cell: &Cell, column: usize, row: usize) -> String {
        let (x, y, wide) = (self.across(column), self.down(row), self.wide);
        let level = cell.level.filter(|_| self.highest > 0.0).map_or(0.0, |level| level / self.highest);
        let is_pale = matches!(cell.known, Known::Predicted(_));
        // The square shows differences where they matter: near the best.
        let depth = DARKEST * level.clamp(0.0, 1.0).powi(2) * if is_pale { PALE } else { 1.0 };
        let frame = match cell.known {
            Known::Held(_) | Known::NothingHeld | Known::AtMost(_) | Known::Failed => "cell measured",
            Known::Challenged { .. } => "cell challenged",
            Known::Predicted(_) | Known::Excluded(_) | Known::Unknown => "cell",
        };
        let weight = if is_pale { "guess" } else { "known" };
        let shade = if depth > DEEP { " deep" } else { "" };
        let mut drawn = format!("<g><title>{}</title>", escape(&about(cell)));
        let mut draw = |part: std::fmt::Arguments<'_>| drawn.write_fmt(part).expect("invariant: writing to a string succeeds");
        draw(format_args!(
            "<rect class=\"{frame}\" fill-opacity={depth:.2} x={:.1} y={:.1} width={:.1} height={:.1} />",
            x + 1.5,
            y + 1.5,
            wide - 3.0,
            ROW - 3.0
        ));
        if matches!(cell.known, Known::Excluded(_)) {
            draw(format_args!("<rect class=hatch x={x:.1} y={y:.1} width={wide:.1} height={ROW} />"));
        }
        draw(format_args!(
            "<text class=\"level {weight}{shade}\" x={:.1} y={:.1}>{}</text></g>",
            x + wide / 2.0,
            y + ROW / 2.0 + 4.0,
            escape(&(self.tag(cell.candidate) + &text(cell.known)))
        ));
        drawn
    }

    /// Marks baseline and recommended.
    fn tag(&self, candidate: Candidate) -> String {
        let baseline = if candidate.is_as_large_as(self.report.baseline.candidate) { "B " } else { "" };
        let chosen = if self.report.recommended.is_some_and(|chosen| candidate.is_as_large_as(chosen)) { "★ " } else { "" };
        format!("{chosen}{baseline}")
    }

    /// Lines around what holds the baseline's rate, and around what is near the best.
    fn contours(&self) -> String {
        let baseline = self.report.baseline.capacity.map(|held| held.value);
        let best = self.near_best();
        let low = baseline.filter(|level| best.is_none_or(|best| *level < best)).map(|level| self.contour("contour low", level));
        let high = best.map(|level| self.contour("contour", level));
        [low, high].into_iter().flatten().collect()
    }

    /// What is within 5 % of the best. Rates that were given, not found, say nothing of that.
    fn near_best(&self) -> Option<f64> {
        (self.highest > 0.0 && self.report.objective.fixed_rate().is_none()).then_some(NEAR_BEST * self.highest)
    }

    fn contour(&self, class: &str, level: f64) -> String {
        // A rate as high as the baseline's must surround the baseline itself.
        let inside = |column: usize, row: usize| {
            self.map.cell(column, row).and_then(|cell| cell.level).is_some_and(|found| found >= level * 0.999)
        };
        let (columns, rows) = (self.map.workers.len(), self.map.connections.len());
        let mut path = String::new();
        let mut line = |x1: f64, y1: f64, x2: f64, y2: f64| {
            write!(path, "M{x1:.1} {y1:.1}L{x2:.1} {y2:.1}").expect("invariant: writing to a string succeeds");
        };
        for row in 0..rows {
            for column in (0..columns).filter(|column| inside(*column, row)) {
                let (x, y) = (self.across(column), self.down(row));
                if column == 0 || !inside(column - 1, row) {
                    line(x, y, x, y + ROW);
                }
                if !inside(column + 1, row) {
                    line(x + self.wide, y, x + self.wide, y + ROW);
                }
                if !inside(column, row + 1) {
                    line(x, y, x + self.wide, y);
                }
                if row == 0 || !inside(column, row - 1) {
                    line(x, y + ROW, x + self.wide, y + ROW);
                }
            }
        }
        if path.is_empty() { String::new() } else { format!("<path class=\"{class}\" d=\"{path}\" />") }
    }

    /// Baseline and recommended.
    fn rings(&self) -> String {
        let ring = |candidate: Candidate, class: &str| {
            let column = self.map.workers.binary_search(&candidate.workers).ok()?;
            let row = self.map.connections.binary_search(&candidate.connections).ok()?;
            let (x, y) = (self.across(column) + INSET, self.down(row) + INSET);
            let (wide, high) = (self.wide - 2.0 * INSET, ROW - 2.0 * INSET);
            Some(format!("<rect class=\"{class}\" x={x:.1} y={y:.1} width={wide:.1} height={high:.1} rx=4 />"))
        };
        let baseline = ring(self.report.baseline.candidate, "ring base");
        let chosen = self.report.recommended.and_then(|chosen| ring(chosen, "ring"));
        [baseline, chosen].into_iter().flatten().collect()
    }

    fn axes(&self) -> String {
        let foot = TOP + self.map.connections.len() as f64 * ROW;
        let columns = self.map.workers.iter().enumerate().map(|(column, workers)| {
            format!(
                "<text x={:.1} y={:.1} text-anchor=middle>{workers}</text>",
                self.across(column) + self.wide / 2.0,
                foot + 17.0
            )
        });
        let rows = self.map.connections.iter().enumerate().map(|(row, connections)| {
            format!("<text x={:.1} y={:.1} text-anchor=end>{connections}</text>", LEFT - 8.0, self.down(row) + ROW / 2.0 + 4.0)
        });
        let names = format!("<text x={LEFT} y={:.1}>workers →</text><text x=0 y={:.1}>conns ↑</text>", foot + 36.0, foot + 17.0);
        columns.chain(rows).chain([names]).collect()
    }

    fn legend(&self) -> String {
        let swatch = |inside: &str, name: &str| {
            format!("<li><svg viewBox=\"0 0 22 14\" aria-hidden=true>{inside}</svg>{}</li>", escape(name))
        };
        let cell =
            |class: &str, depth: f64| format!("<rect class=\"cell {class}\" fill-opacity={depth} x=1 y=1 width=20 height=12 />");
        let mut keys = vec![
            swatch(&cell("measured", DARKEST), "measured"),
            swatch(&cell("", DARKEST * PALE), "predicted by the operational laws, scaled to what was measured"),
            swatch("<rect class=\"ring base\" x=2 y=2 width=18 height=10 rx=3 />", "B: baseline"),
        ];
        let has = |of: fn(&Known) -> bool| self.map.cells().any(|cell| of(&cell.known));
        if has(|known| matches!(known, Known::Challenged { .. })) {
            keys.push(swatch(&cell("challenged", 0.3), "challenged at one rate: ▲ held, ▽ not held"));
        }
        if has(|known| matches!(known, Known::Excluded(_))) {
            keys.push(swatch("<rect class=hatch x=0 y=0 width=22 height=14 />", "may not be tried: a limit"));
        }
        if self.report.recommended.is_some() {
            keys.push(swatch("<rect class=ring x=2 y=2 width=18 height=10 rx=3 />", "★: recommended"));
        }
        if let Some(level) = self.near_best() {
            keys.push(swatch(
                "<path class=contour d=\"M0 7H22\" />",
                &format!("within 5 % of the best: {} req/s and more", rate(level)),
            ));
        }
        if let Some(held) = self.report.baseline.capacity.filter(|held| held.value < NEAR_BEST * self.highest) {
            let name = format!("holds the baseline's {} req/s", rate(held.value));
            keys.push(swatch("<path class=\"contour low\" d=\"M0 7H22\" />", &name));
        }
        format!("<ul class=keys>{}</ul>", keys.concat())
    }
}

/// What stands in a cell.
fn text(known: Known) -> String {
    match known {
        Known::Held(capacity) | Known::Predicted(capacity) => rate(capacity),
        Known::NothingHeld => "0".to_owned(),
        Known::AtMost(bound) => format!("≤ {}", rate(bound)),
        Known::Challenged { rate: offered, holds: true } => format!("▲ {}", rate(offered)),
        Known::Challenged { rate: offered, holds: false } => format!("▽ {}", rate(offered)),
        Known::Failed => "✕".to_owned(),
        Known::Excluded(_) | Known::Unknown => String::new(),
    }
}

/// What is told when a cell is pointed at.
fn about(cell: &Cell) -> String {
    let what = match cell.known {
        Known::Held(capacity) => format!("held {} req/s", rate(capacity)),
        Known::NothingHeld => "held no rate".to_owned(),
        Known::AtMost(bound) => format!("at most {} req/s: not pursued", rate(bound)),
        Known::Challenged { rate: offered, holds: true } => format!("held {} req/s", rate(offered)),
        Known::Challenged { rate: offered, holds: false } => format!("did not hold {} req/s", rate(offered)),
        Known::Failed => "could not be measured".to_owned(),
        Known::Predicted(capacity) => format!("predicted: {} req/s", rate(capacity)),
        Known::Excluded(Limit::Memory) => "may not be tried: memory".to_owned(),
        Known::Excluded(Limit::Slots) => format!("may not be tried: {} connections in all", cell.candidate.slots()),
        Known::Unknown => "nothing known".to_owned(),
    };
    let trials = match cell.trials.as_slice() {
        [] => String::new(),
        [one] => format!(" (trial {one})"),
        several => format!(" (trials {})", several.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")),
    };
    format!("{}: {what}{trials}", if cell.trials.is_empty() { short(cell.candidate) } else { configuration(cell.candidate) })
}
