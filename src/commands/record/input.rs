//! Recordings that a command reads: opened, named in every error, and what of them was broken told at the end.

use std::io::BufRead;
use std::path::Path;

use super::super::CommandError;
use super::files::{is_standard, open};
use crate::commands::figures::counted;
use crate::recording::{Broken, Disorder, Reader, RecordingError};

/// Opens a recording.
pub(super) fn reader(path: &Path) -> Result<Reader<Box<dyn BufRead>>, CommandError> {
    let input = open(path).map_err(|source| CommandError::Unreadable { path: path.to_owned(), source })?;
    Reader::new(input).map_err(unusable(path))
}

/// What a user calls this input.
pub(super) fn name(path: &Path) -> String {
    if is_standard(path) { "standard input".to_owned() } else { path.display().to_string() }
}

/// An error in the recording at `path`.
pub(super) fn unusable(path: &Path) -> impl Fn(RecordingError) -> CommandError {
    |source| CommandError::Recording { name: name(path), source }
}

/// What was lost on the way, if anything was.
pub(in crate::commands) fn lost(broken: &Broken) -> Option<String> {
    let first: Vec<_> = broken.first.iter().map(u64::to_string).collect();
    let more = if broken.count > broken.first.len() as u64 { ", …" } else { "" };
    let lines = || format!("{} passed over (line {}{more})", counted(broken.count, "broken line"), first.join(", "));
    let torn = || "the last line is cut off and passed over".to_owned();
    let lost: Vec<String> = [(broken.count > 0).then(lines), broken.torn.then(torn)].into_iter().flatten().collect();
    (!lost.is_empty()).then(|| lost.join(", and "))
}

/// How far it is from being in order, if it is not.
pub(super) fn out_of_order(disorder: Disorder) -> Option<String> {
    match disorder {
        Disorder { moved: 0, .. } => None,
        Disorder { moved, late: 0 } => Some(format!("{moved} requests are earlier than one before them")),
        Disorder { moved, late } => {
            Some(format!("{moved} requests are earlier than one before them, {late} of them too far to be sorted"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_are_told_if_there_are_any() {
        let said = |count, first: &[u64], torn| lost(&Broken { count, first: first.to_vec(), torn }).unwrap_or_default();
        assert_eq!(said(0, &[], false), "");
        assert_eq!(said(0, &[], true), "the last line is cut off and passed over");
        assert_eq!(said(4, &[1, 2, 3], false), "4 broken lines passed over (line 1, 2, 3, …)");
        assert_eq!(said(1, &[7], true), "1 broken line passed over (line 7), and the last line is cut off and passed over");
    }
}
