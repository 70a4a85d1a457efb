//! Reads recorded traffic that is to be played.

use std::io::BufRead;
use std::path::Path;

use super::CommandError;
use super::record::files;
use super::say::say;
use crate::recording::{self, Recording, RecordingError};

pub(super) fn read(path: &Path) -> Result<Recording, CommandError> {
    let input = files::open(path).map_err(|source| CommandError::Unreadable { path: path.to_owned(), source })?;
    recorded(&path.display().to_string(), input)
}

/// Reads a recording and says what of it cannot be used.
pub(super) fn recorded(name: &str, input: impl BufRead) -> Result<Recording, CommandError> {
    let unusable = |source: RecordingError| CommandError::Recording { name: name.to_owned(), source };
    let recording = recording::read(input).map_err(unusable)?;
    let broken = &recording.broken;
    if broken.count > 0 {
        let lines: Vec<_> = broken.first.iter().map(u64::to_string).collect();
        let more = if broken.count > broken.first.len() as u64 { ", …" } else { "" };
        say(&format!("{name}: {} broken lines passed over (line {}{more})", broken.count, lines.join(", ")));
    }
    if broken.torn {
        say(&format!("{name}: the last line is cut off and passed over"));
    }
    Ok(recording)
}
