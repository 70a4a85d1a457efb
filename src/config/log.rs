//! Checks `[log]`: how the log looks, where it goes, and whether workers write through it. Opens nothing.

use std::path::Path;

use super::keys;
use super::problem::{Problems, quote};
use super::raw::RawLog;
use super::{Log, LogFormat, Surroundings};

/// The log's settings, or `None` with the reasons in `problems`.
pub(super) fn check(raw: &RawLog, surroundings: &Surroundings, problems: &mut Problems<'_>) -> Option<Log> {
    let format = match &raw.format {
        None => Some(LogFormat::Plain),
        Some(written) => {
            let known = LogFormat::ALL.into_iter().find(|format| format.name() == written.get_ref());
            if known.is_none() {
                let key = &keys::LOG_FORMAT;
                problems.at(written.span(), key, format!("{} is no format", quote(written.get_ref())), key.hint());
            }
            known
        }
    };
    let file = match &raw.file {
        None => Some(None),
        Some(written) if written.get_ref().is_empty() => {
            let key = &keys::LOG_FILE;
            problems.at(written.span(), key, format!("{} is no path", quote(written.get_ref())), key.hint());
            None
        }
        Some(written) => Some(Some(surroundings.directory.join(Path::new(written.get_ref().as_str())))),
    };
    let capture = match &raw.capture {
        None => true,
        Some(written) => *written.get_ref(),
    };
    Some(Log { format: format?, file: file?, capture })
}
