//! What is said: the report on standard output, all else on standard error, where progress is shown too.

use std::io::{self, Write};

use super::CommandError;
use crate::printable::printable_lines;

/// Tells the user something, strangers' words in it made harmless. Where nobody can be told any more, work goes on all the same.
pub(super) fn say(lines: &str) {
    writeln!(io::stderr().lock(), "{}", printable_lines(lines)).ok();
}

/// Writes a part of something that goes on. Whether anybody reads it.
pub(super) fn pour(text: &str) -> Result<bool, CommandError> {
    let mut output = io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Ok(()) => Ok(true),
        Err(source) if source.kind() == io::ErrorKind::BrokenPipe => Ok(false),
        Err(source) => Err(CommandError::CannotCreate { path: "standard output".into(), source }),
    }
}

/// Writes a report. Who reads only its beginning (`| head`) has what he wanted.
pub(super) fn print(text: &str) -> Result<(), CommandError> {
    pour(text).map(drop)
}
