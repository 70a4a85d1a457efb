//! Draws lines over two axes as inline SVG. Text is the caller's and escaped here; colours are the style sheet's.

use std::fmt::{self, Write as _};
use std::ops::Range;

use super::axis::Axis;
use super::escape;

const WIDTH: f64 = 520.0;
const HEIGHT: f64 = 240.0;
const LEFT: f64 = 54.0;
const RIGHT: f64 = 10.0;
const TOP: f64 = 8.0;
const BOTTOM: f64 = 26.0;
/// Above so many points a line's dots are seen only when pointed at.
const FEW: usize = 32;

/// A picture with its words.
pub(in crate::commands) struct Chart<'a> {
    pub(in crate::commands) title: &'a str,
    pub(in crate::commands) caption: &'a str,
    pub(in crate::commands) x: Axis,
    pub(in crate::commands) y: Axis,
    pub(in crate::commands) lines: Vec<Line<'a>>,
    /// Spans of `x` that are not to be trusted.
    pub(in crate::commands) shaded: Vec<Range<f64>>,
    /// Values with a name, drawn across.
    pub(in crate::commands) marks: Vec<Mark>,
}

/// A value with a name.
pub(in crate::commands) enum Mark {
    /// Of `y`: a bound.
    Level(f64, String),
    /// Of `x`: where something happens.
    At(f64, String),
}

/// One line of it.
pub(in crate::commands) struct Line<'a> {
    pub(in crate::commands) name: &'a str,
    /// The style sheet's class: first, second, third or quiet.
    pub(in crate::commands) class: &'static str,
    /// Where it passes, with what is told about a point; a point without a value interrupts it.
    pub(in crate::commands) points: Vec<(f64, Option<f64>, String)>,
}

impl fmt::Display for Chart<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<section><h2>{}</h2><p>{}</p><ul class=legend>", escape(self.title), escape(self.caption))?;
        for line in &self.lines {
            write!(f, "<li><i class={}></i>{}</li>", line.class, escape(line.name))?;
        }
        if !self.shaded.is_empty() {
            f.write_str("<li><i class=shade></i>not to be trusted</li>")?;
        }
        write!(f, "</ul><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=img aria-label=\"{}\">", escape(self.title))?;
        for span in &self.shaded {
            let (from, to) = (self.across(span.start), self.across(span.end));
            let (width, height) = (to - from, HEIGHT - TOP - BOTTOM);
            write!(f, "<rect class=shade x={from:.1} y={TOP} width={width:.1} height={height} />")?;
        }
        self.draw_axes(f)?;
        for line in &self.lines {
            self.draw(f, line)?;
        }
        // Above the lines, so that their names can be read.
        self.marks.iter().try_for_each(|mark| self.draw_mark(f, mark))?;
        f.write_str("</svg></section>")
    }
}

impl Chart<'_> {
    fn across(&self, value: f64) -> f64 {
        LEFT + self.x.place(value) * (WIDTH - LEFT - RIGHT)
    }

    fn down(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - self.y.place(value) * (HEIGHT - TOP - BOTTOM)
    }

    fn draw_axes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        for (value, label) in &self.y.ticks {
            let (down, text) = (self.down(*value), self.down(*value) + 4.0);
            write!(f, "<line class=grid x1={LEFT} x2={right} y1={down:.1} y2={down:.1} />")?;
            write!(f, "<text x={} y={text:.1} text-anchor=end>{}</text>", LEFT - 8.0, escape(label))?;
        }
        for (value, label) in &self.x.ticks {
            let across = self.across(*value);
            write!(f, "<line class=base x1={across:.1} x2={across:.1} y1={bottom} y2={} />", bottom + 4.0)?;
            write!(f, "<text x={across:.1} y={} text-anchor=middle>{}</text>", bottom + 18.0, escape(label))?;
        }
        write!(f, "<line class=base x1={LEFT} x2={right} y1={bottom} y2={bottom} />")
    }

    fn draw_mark(&self, f: &mut fmt::Formatter<'_>, mark: &Mark) -> fmt::Result {
        let (right, bottom) = (WIDTH - RIGHT, HEIGHT - BOTTOM);
        match mark {
            Mark::Level(value, name) => {
                let down = self.down(*value);
                write!(f, "<line class=mark x1={LEFT} x2={right} y1={down:.1} y2={down:.1} />")?;
                write!(f, "<text class=mark x={} y={:.1}>{}</text>", LEFT + 6.0, down - 5.0, escape(name))
            }
            Mark::At(value, name) => {
                let across = self.across(*value);
                // The name stands on the side that has room for it.
                let (at, anchor) = if across > WIDTH / 2.0 { (across - 6.0, "end") } else { (across + 6.0, "start") };
                write!(f, "<line class=mark x1={across:.1} x2={across:.1} y1={TOP} y2={bottom} />")?;
                write!(f, "<text class=mark x={at:.1} y={} text-anchor={anchor}>{}</text>", bottom - 8.0, escape(name))
            }
        }
    }

    fn draw(&self, f: &mut fmt::Formatter<'_>, line: &Line<'_>) -> fmt::Result {
        for run in line.points.split(|(_, value, _)| value.is_none()).filter(|run| run.len() > 1) {
            let mut path = String::new();
            for (x, y) in run.iter().filter_map(|(x, y, _)| Some((*x, (*y)?))) {
                write!(path, "{:.1},{:.1} ", self.across(x), self.down(y))?;
            }
            write!(f, "<polyline class={} points=\"{}\" />", line.class, path.trim_end())?;
        }
        f.write_str(if line.points.len() > FEW { "<g>" } else { "<g class=few>" })?;
        for (x, y, about) in line.points.iter().filter_map(|(x, y, about)| Some((*x, (*y)?, about))) {
            let (x, y) = (self.across(x), self.down(y));
            write!(f, "<circle class={} cx={x:.1} cy={y:.1} r=3><title>{}</title></circle>", line.class, escape(about))?;
        }
        f.write_str("</g>")
    }
}
