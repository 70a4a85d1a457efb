//! The study on disk: JSON Lines, a header and then a trial a line, each safe before the next trial starts. Never overwrites, never mixes studies.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::study::{Objective, Pace, Slo, Space, Trial};

/// What a journal's trials belong to. Trials under another header are not comparable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// Version of the journal's format.
    pub tuningfork_journal: u32,
    /// What had to hold.
    pub slo: Slo,
    /// What could be tried.
    pub space: Space,
    /// What was best.
    #[serde(default)]
    pub objective: Objective,
    /// How long a trial took.
    pub pace: Pace,
    /// A fingerprint of the traffic and of the application's configuration.
    pub fingerprint: String,
    /// When the study was started, for the reader.
    pub started: String,
}

impl Header {
    /// The format this program writes.
    pub const VERSION: u32 = 2;

    /// Which parts differ, in words; empty if trials of both belong together. The start is not compared.
    fn differences(&self, other: &Self) -> Vec<&'static str> {
        let parts = [
            (self.tuningfork_journal == other.tuningfork_journal, "journal version"),
            (self.slo == other.slo, "bounds (--slo)"),
            (self.space == other.space, "search space (cores, limits, or configured workers and connections)"),
            (self.objective == other.objective, "objective"),
            (self.pace == other.pace, "pace"),
            (self.fingerprint == other.fingerprint, "traffic or application"),
        ];
        parts.into_iter().filter(|(same, _)| !same).map(|(_, name)| name).collect()
    }
}

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// A new study would overwrite it.
    #[error("{0} exists: continue it with --resume, or name another with --journal")]
    Exists(PathBuf),
    /// It belongs to another study.
    #[error("{path} belongs to another study: different {}", differences.join(", "))]
    OtherStudy {
        /// The file.
        path: PathBuf,
        /// What differs.
        differences: Vec<&'static str>,
    },
    /// A line that is not the last cannot be read.
    #[error("{path}:{line}: not a journal of tuningfork: {reason}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// The file system says no.
    #[error("journal {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Its answer.
        source: io::Error,
    },
}

/// An open journal.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
}

/// A journal taken up again.
#[derive(Debug)]
pub struct Resumed {
    /// To be appended to.
    pub journal: Journal,
    /// The trials so far.
    pub trials: Vec<Trial>,
    /// Whether a last line was incomplete and is gone: the program ended while it wrote.
    pub torn: bool,
}

/// A journal larger than this is not ours: a trial is a few kilobytes.
const LARGEST: u64 = 256 * 1024 * 1024;

impl Journal {
    /// A new journal at `path`, which must not exist.
    pub fn create(path: &Path, header: &Header) -> Result<Self, JournalError> {
        let file = OpenOptions::new().append(true).create_new(true).open(path).map_err(|source| {
            let path = path.to_owned();
            if source.kind() == io::ErrorKind::AlreadyExists {
                JournalError::Exists(path)
            } else {
                JournalError::Io { path, source }
            }
        })?;
        let mut journal = Self { path: path.to_owned(), file };
        journal.write(header)?;
        journal.keep_name()?;
        Ok(journal)
    }

    /// Takes up the journal at `path`, which must have been begun under the same `header`.
    pub fn resume(path: &Path, header: &Header) -> Result<Resumed, JournalError> {
        let io = |source| JournalError::Io { path: path.to_owned(), source };
        let file = OpenOptions::new().read(true).append(true).open(path).map_err(io)?;
        if file.metadata().map_err(io)?.len() > LARGEST {
            return Err(JournalError::Damaged { path: path.to_owned(), line: 1, reason: "too large".to_owned() });
        }
        let bytes = std::fs::read(path).map_err(io)?;
        // A line counts when its end is written.
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let mut lines = bytes[..whole].split(|byte| *byte == b'\n').take_while(|line| !line.is_empty()).zip(1..);
        let mut journal = Self { path: path.to_owned(), file };
        let torn = whole < bytes.len();
        let Some((first, line)) = lines.next() else {
            return journal.restart(header);
        };
        let differences = journal.parse::<Header>(first, line)?.differences(header);
        if !differences.is_empty() {
            return Err(JournalError::OtherStudy { path: path.to_owned(), differences });
        }
        let trials = lines.map(|(text, line)| journal.parse(text, line)).collect::<Result<_, _>>()?;
        if torn {
            journal.cut(whole as u64)?;
        }
        Ok(Resumed { journal, trials, torn })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a trial. It is on disk when this returns.
    pub fn append(&mut self, trial: &Trial) -> Result<(), JournalError> {
        self.write(trial)
    }

    /// Even the header was torn: nothing is lost by starting over.
    fn restart(mut self, header: &Header) -> Result<Resumed, JournalError> {
        self.cut(0)?;
        self.write(header)?;
        Ok(Resumed { journal: self, trials: Vec::new(), torn: true })
    }

    fn cut(&mut self, length: u64) -> Result<(), JournalError> {
        self.file.set_len(length).and_then(|()| self.file.sync_data()).map_err(|source| self.io(source))
    }

    fn write<T: Serialize>(&mut self, value: &T) -> Result<(), JournalError> {
        let mut line = serde_json::to_vec(value).map_err(|error| self.io(error.into()))?;
        line.push(b'\n');
        self.file.write_all(&line).and_then(|()| self.file.sync_data()).map_err(|source| self.io(source))
    }

    /// A new file's name is safe only when its directory is (fsync(2)).
    fn keep_name(&self) -> Result<(), JournalError> {
        let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(parent).and_then(|directory| directory.sync_all()).map_err(|source| self.io(source))
    }

    fn parse<T: for<'de> Deserialize<'de>>(&self, text: &[u8], line: usize) -> Result<T, JournalError> {
        serde_json::from_slice(text).map_err(|error| JournalError::Damaged {
            path: self.path.clone(),
            line,
            reason: error.to_string(),
        })
    }

    fn io(&self, source: io::Error) -> JournalError {
        JournalError::Io { path: self.path.clone(), source }
    }
}

#[cfg(test)]
mod tests;
