//! Reads recorded traffic that is to be played, straight into a plan: no recording is held in memory.

use std::io::BufRead;
use std::path::Path;

use super::CommandError;
use super::record::files;
use super::record::input::lost;
use super::say::say;
use crate::recording::{Meta, Reader, RecordingError, Request};
use crate::replay::{PlanDraft, PlanOptions};

/// What to do where there is no recording.
const INSTEAD: &str =
    "make one of an access log: `tuningfork record import ACCESS_LOG -o FILE`, or record live: `tuningfork record live -o FILE`";

/// What was read.
pub(super) struct Traffic {
    pub(super) draft: PlanDraft,
    /// What the recording says of itself.
    pub(super) meta: Meta,
    /// Requests that were not wanted.
    pub(super) left_out: u64,
}

/// Takes of the recording at `path` what is `wanted`.
pub(super) fn read(path: &Path, options: PlanOptions, wanted: impl Fn(&Request) -> bool) -> Result<Traffic, CommandError> {
    let input = files::open(path).map_err(|source| CommandError::unread(path, source, INSTEAD))?;
    recorded(&path.display().to_string(), input, options, wanted)
}

/// Takes of a recording what is `wanted`, and says what of it cannot be used.
pub(super) fn recorded(
    name: &str,
    input: impl BufRead,
    options: PlanOptions,
    wanted: impl Fn(&Request) -> bool,
) -> Result<Traffic, CommandError> {
    let unusable = |source: RecordingError| CommandError::Recording { name: name.to_owned(), source };
    let mut reader = Reader::new(input).map_err(unusable)?;
    let mut draft = PlanDraft::new(options, reader.meta())?;
    let mut left_out = 0;
    while let Some(request) = reader.next().map_err(unusable)? {
        if wanted(&request) {
            draft.take(&request)?;
        } else {
            left_out += 1;
        }
    }
    let (meta, broken) = reader.finish().map_err(unusable)?;
    if let Some(lost) = lost(&broken) {
        say(&format!("{name}: {lost}"));
    }
    Ok(Traffic { draft, meta, left_out })
}
