//! What is wrong with a configuration, and how a person reads it: a line a problem, or an excerpt of the file under each.
//! Keeps at most [`MAX_PROBLEMS`] of them.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet, normalize_untrusted_str};

/// How many problems one report holds; the rest is only counted.
pub const MAX_PROBLEMS: usize = 100;
/// The longest line an excerpt shows, in bytes.
const LONGEST_LINE: usize = 400;
/// The longest value a message repeats, in characters.
const LONGEST_QUOTE: usize = 60;

/// Every problem of a configuration, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct ConfigErrors {
    /// The configuration file, as the user named it.
    pub file: PathBuf,
    /// At least one, at most [`MAX_PROBLEMS`].
    pub problems: Vec<Problem>,
    /// How many more there were.
    pub unshown: usize,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// The key with its section, such as `app.worker-class`; empty where the text is not TOML.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What would be right.
    pub hint: String,
}

/// Where a problem lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the environment; the key is the variable's name.
    Environment,
    /// In the file as a whole: something is missing.
    File,
    /// At this part of the file.
    Text {
        /// Counted from 1.
        line: usize,
        /// Counted from 1, in characters.
        column: usize,
        /// The same place in bytes of the text.
        bytes: Range<usize>,
    },
}

/// Whether a rendering is for a terminal that shows colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// Only text.
    Plain,
    /// With ANSI escape sequences.
    Ansi,
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.file.display();
        for (count, problem) in self.problems.iter().enumerate() {
            if count > 0 {
                f.write_str("\n")?;
            }
            match problem.place {
                Place::Environment => f.write_str("environment: ")?,
                Place::File => write!(f, "{file}:1: ")?,
                Place::Text { line, .. } => write!(f, "{file}:{line}: ")?,
            }
            write!(f, "{} ({})", problem.title(), problem.hint)?;
        }
        if self.unshown > 0 {
            write!(f, "\n{file}: and {} more", self.unshown)?;
        }
        Ok(())
    }
}

impl ConfigErrors {
    /// Every problem with the line of `text` that causes it, for a terminal. `text` is what was parsed.
    #[must_use]
    pub fn render(&self, text: &str, colour: Colour) -> String {
        let renderer = match colour {
            Colour::Plain => Renderer::plain(),
            Colour::Ansi => Renderer::styled(),
        };
        let file = self.file.display().to_string();
        let excerpts: String =
            self.problems.iter().map(|problem| renderer.render(&[problem.excerpt(text, &file)]) + "\n\n").collect();
        format!("{excerpts}{}", self.count())
    }

    fn count(&self) -> String {
        match (self.problems.len(), self.unshown) {
            (1, 0) => "1 problem in the configuration".to_owned(),
            (shown, 0) => format!("{shown} problems in the configuration"),
            (shown, more) => format!("{} problems in the configuration, {shown} of them are shown", shown + more),
        }
    }
}

impl Problem {
    fn title(&self) -> String {
        if self.key.is_empty() { self.message.clone() } else { format!("{}: {}", self.key, self.message) }
    }

    fn excerpt<'t>(&'t self, text: &'t str, file: &'t str) -> Group<'t> {
        let group = Group::with_title(Level::ERROR.primary_title(self.title()));
        let group = match &self.place {
            Place::Environment => group,
            Place::File => group.element(Origin::path(file)),
            Place::Text { line, column, bytes } => match cut_line(text, bytes) {
                Some((source, span)) => group
                    .element(Snippet::source(source).line_start(*line).path(file).annotation(AnnotationKind::Primary.span(span))),
                None => group.element(Origin::path(file).line(*line).char_column(*column)),
            },
        };
        group.element(Level::HELP.message(normalize_untrusted_str(&self.hint)))
    }
}

/// The line of `text` in which `bytes` begins, and the part of `bytes` in it; nothing where a reader would not find his way in it.
fn cut_line<'t>(text: &'t str, bytes: &Range<usize>) -> Option<(&'t str, Range<usize>)> {
    let begin = text.get(..bytes.start)?.rfind('\n').map_or(0, |newline| newline + 1);
    let end = text.get(bytes.start..)?.find('\n').map_or(text.len(), |newline| bytes.start + newline);
    let end = begin + text.get(begin..end)?.trim_end_matches('\r').len();
    let line = text.get(begin..end).filter(|line| line.len() <= LONGEST_LINE)?;
    let first = bytes.start.min(end);
    let span = first - begin..bytes.end.clamp(first, end) - begin;
    line.get(span.clone()).map(|_| (line, span))
}

/// Collects problems while a text is read and checked.
#[derive(Debug)]
pub(super) struct Problems<'t> {
    text: &'t str,
    found: Vec<Problem>,
    unshown: usize,
}

impl<'t> Problems<'t> {
    /// No problem in `text` so far.
    pub(super) const fn new(text: &'t str) -> Self {
        Self { text, found: Vec::new(), unshown: 0 }
    }

    /// Something is wrong at `span`.
    pub(super) fn at(&mut self, span: Range<usize>, key: impl fmt::Display, message: impl fmt::Display, hint: impl fmt::Display) {
        let place = |text: &str| {
            let before = text.get(..span.start).unwrap_or(text);
            let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
            Place::Text {
                line: before.bytes().filter(|byte| *byte == b'\n').count() + 1,
                column: before[line_start..].chars().count() + 1,
                bytes: span,
            }
        };
        self.add(place, key, message, hint);
    }

    /// Something is missing, or wrong with the file as a whole.
    pub(super) fn in_file(&mut self, key: impl fmt::Display, message: impl fmt::Display, hint: impl fmt::Display) {
        self.add(|_| Place::File, key, message, hint);
    }

    /// The environment variable `name` is wrong.
    pub(super) fn in_environment(&mut self, name: &str, message: impl fmt::Display, hint: impl fmt::Display) {
        self.add(|_| Place::Environment, name, message, hint);
    }

    fn add(
        &mut self,
        place: impl FnOnce(&str) -> Place,
        key: impl fmt::Display,
        message: impl fmt::Display,
        hint: impl fmt::Display,
    ) {
        if self.found.len() == MAX_PROBLEMS {
            self.unshown += 1;
            return;
        }
        let place = place(self.text);
        self.found.push(Problem { place, key: key.to_string(), message: message.to_string(), hint: hint.to_string() });
    }

    /// Whether nothing is wrong so far.
    pub(super) const fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// All that was found, in the order of the file.
    pub(super) fn into_errors(mut self, file: &Path) -> ConfigErrors {
        self.found.sort_by_key(|problem| match &problem.place {
            Place::Environment | Place::File => 0,
            Place::Text { bytes, .. } => bytes.start,
        });
        ConfigErrors { file: file.to_owned(), problems: self.found, unshown: self.unshown }
    }
}

/// `value` in quotes, without control characters and not longer than a message bears.
pub(super) fn quote(value: &str) -> String {
    match value.char_indices().nth(LONGEST_QUOTE) {
        Some((cut, _)) => format!("{:?}…", &value[..cut]),
        None => format!("{value:?}"),
    }
}

/// A key as it is written: bare where that is possible, else in quotes.
pub(super) fn plain(name: &str) -> String {
    let is_bare = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
    if is_bare && (1..=LONGEST_QUOTE).contains(&name.len()) { name.to_owned() } else { quote(name) }
}
