//! What a recording is: requests somebody really made, with the moment each arrived. Reads and writes JSON Lines, imports logs and
//! captures, and replaces what must not be kept. Refuses input in which nothing is usable; a broken line only costs itself.
//! Pure: readers, keys and seeds are passed in.

mod audit;
mod chance;
mod cut;
mod export;
mod import;
mod jsonl;
mod merge;
mod meta;
mod order;
mod request;
mod scrub;
mod selection;
mod summary;
mod text;

use std::io::BufRead;

pub use audit::{Audit, Sightings, audit};
pub use chance::uniform;
pub use cut::{Choice, Cut, Edge, EdgeError};
pub use export::{Base, BaseError, ExportError, Exported, Exporter, Format};
pub use import::{
    ImportFailure, Imported, Importer, Input, InputFormat, InputReport, JitterSeed, LogFormat, LogFormatError, MAX_HAR,
    MAX_RECORD, NGINX_LOG_FORMAT, import,
};
pub use jsonl::{Reader, Writer, read, write};
pub use merge::{Given, Merge, MergeError, Placing};
pub use meta::{Fidelity, Meta};
pub use order::{Disorder, InOrder};
pub use request::{Header, Method, Request, Target, UnixNanos};
pub use scrub::{BodyPolicy, Scrub, ScrubKey, Secret};
pub use selection::{Sample, Selection, SelectionError, Share, Statuses};
pub use summary::{Burstiness, Connections, Counts, Quantiles, Rates, Report, Summary, route};
pub use text::lines::MAX_LINE;

/// The most requests one recording holds in memory.
pub const MAX_REQUESTS: usize = 2_000_000;
/// The most bytes of usable lines one recording holds in memory.
pub const MAX_BYTES: u64 = 512 << 20;
/// How many broken lines are remembered by number.
pub const BROKEN_NUMBERS: usize = 3;

/// Requests in order of arrival, and what was lost on the way to them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recording {
    /// What is known about where the requests come from.
    pub meta: Meta,
    /// The requests.
    pub requests: Vec<Request>,
    /// The lines that were not usable.
    pub broken: Broken,
}

/// Lines that could not be used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Broken {
    /// How many, without the torn one.
    pub count: u64,
    /// The numbers of the first [`BROKEN_NUMBERS`] of them; lines count from 1.
    pub first: Vec<u64>,
    /// Whether the last line ends in the middle, as it does when the writer was killed.
    pub torn: bool,
}

impl Broken {
    fn add(&mut self, line: u64, ending: text::lines::Ending) {
        if ending == text::lines::Ending::Torn {
            self.torn = true;
            return;
        }
        self.count += 1;
        if self.first.len() < BROKEN_NUMBERS {
            self.first.push(line);
        }
    }
}

/// Why input is no recording.
#[derive(Debug, thiserror::Error)]
pub enum RecordingError {
    /// There is not one line.
    #[error("the file is empty")]
    Empty,
    /// There are lines, and none can be used.
    #[error("no usable request in {lines} lines")]
    NothingUsable {
        /// How many were read.
        lines: u64,
    },
    /// The reader wants JSON Lines and this begins otherwise.
    #[error("not a recording in JSON Lines; `tuningfork record import` makes one from an access log")]
    NotJsonLines,
    /// The bytes begin like those of a compressed file.
    #[error("the file is compressed with {with}; decompress it first")]
    Compressed {
        /// The program that made it.
        with: &'static str,
    },
    /// A bound in memory is reached.
    #[error("more than {limit} {what}; cut it into smaller files")]
    TooLarge {
        /// The bound.
        limit: u64,
        /// What is counted.
        what: &'static str,
    },
    /// Reading failed.
    #[error("line {line}: {source}")]
    Read {
        /// The line that was being read.
        line: u64,
        /// The reader's reason.
        source: std::io::Error,
    },
}

/// Counts what is kept and refuses the line that would exceed a bound.
#[derive(Debug, Default)]
struct Allowance {
    requests: usize,
    bytes: u64,
}

impl Allowance {
    fn take(&mut self, line: usize) -> Result<(), RecordingError> {
        self.requests += 1;
        self.bytes = self.bytes.saturating_add(line as u64);
        if self.requests > MAX_REQUESTS {
            return Err(RecordingError::TooLarge { limit: MAX_REQUESTS as u64, what: "requests" });
        }
        if self.bytes > MAX_BYTES {
            return Err(RecordingError::TooLarge { limit: MAX_BYTES, what: "bytes" });
        }
        Ok(())
    }
}

/// Where a line stands among those that are not blank.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Position {
    First,
    Later,
}

/// Looks at the first bytes without taking them. What the program can decompress, it has before this.
fn refuse_compressed(input: &mut impl BufRead) -> Result<(), RecordingError> {
    match input.fill_buf() {
        Ok([b'B', b'Z', b'h', ..]) => Err(RecordingError::Compressed { with: "bzip2" }),
        Ok([0xfd, b'7', b'z', b'X', b'Z', ..]) => Err(RecordingError::Compressed { with: "xz" }),
        // A reader that fails now fails again, and is then reported with its line.
        Ok(_) | Err(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_allowance_ends_at_its_bounds() {
        let mut allowance = Allowance { requests: MAX_REQUESTS - 1, bytes: 0 };
        assert!(allowance.take(1).is_ok());
        assert!(matches!(allowance.take(1), Err(RecordingError::TooLarge { what: "requests", .. })));

        let mut allowance = Allowance { requests: 0, bytes: MAX_BYTES - 1 };
        assert!(allowance.take(1).is_ok());
        assert!(matches!(allowance.take(1), Err(RecordingError::TooLarge { what: "bytes", .. })));
    }
}
