//! The width and the colours of what is written on.

use std::io::IsTerminal;

use comfy_table::Table;

/// Where a report is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paper {
    /// Columns.
    pub width: u16,
    /// Whether escape sequences for bold and colour are understood.
    pub colour: bool,
}

/// Wider lines are hard to read.
const WIDEST: u16 = 100;
const NARROWEST: u16 = 60;

impl Paper {
    /// Standard output: its terminal's width, or 100 columns elsewhere. Plain elsewhere, and where `no_color` (the variable NO_COLOR) is set and
    /// not empty (no-color.org).
    #[must_use]
    pub fn of_stdout(no_color: Option<&str>) -> Self {
        let colour = std::io::stdout().is_terminal() && no_color.is_none_or(str::is_empty);
        let width = Table::new().width().unwrap_or(WIDEST).clamp(NARROWEST, WIDEST);
        Self { width, colour }
    }

    /// `text`, wrapped and bold if the paper can.
    #[must_use]
    pub fn strong(self, text: &str) -> String {
        let text = self.wrap(text);
        if self.colour { format!("\u{1b}[1m{text}\u{1b}[0m") } else { text }
    }

    /// `text` in lines that fit.
    #[must_use]
    pub fn wrap(self, text: &str) -> String {
        let mut wrapped = String::new();
        let mut column = 0;
        for word in text.split(' ') {
            let length = word.chars().count();
            if column > 0 && column + 1 + length > usize::from(self.width) {
                wrapped.push('\n');
                column = 0;
            } else if column > 0 {
                wrapped.push(' ');
                column += 1;
            }
            wrapped.push_str(word);
            column += length;
        }
        wrapped
    }
}
