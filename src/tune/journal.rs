//! The study on disk: JSON Lines, a header, then a trial a line, each safe before the next trial starts, and at last why it ended. Never
//! overwrites, never mixes studies, and loses no trial but one that was not finished.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Coverage;
use crate::printable::{is_harmful, pasted, printable, printable_lines};
use crate::study::{Budget, Next, Objective, Pace, Report, Slo, Space, Stop, Study, Trial, suggest};

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
    /// When the search had to conclude. A resumed study may have another: the journal's last word counts.
    pub budget: Budget,
    /// A fingerprint of the traffic.
    pub traffic: String,
    /// A fingerprint of the application's configuration.
    pub application: String,
    /// What the reader should know.
    pub about: About,
}

/// What a study was about, for people. Decides nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// When it was started.
    pub started: String,
    /// The application.
    pub app: String,
    /// The host.
    pub host: String,
    /// The traffic.
    pub traffic: String,
    /// What of an application the traffic covers, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coverage: Option<Coverage>,
    /// The program that wrote it.
    pub program: String,
}

impl Header {
    /// The format this program writes.
    pub const VERSION: u32 = 2;

    /// The study it begins, without trials.
    #[must_use]
    pub fn study(&self) -> Study {
        let mut study = Study::new(self.slo, self.space.clone(), self.pace, self.budget);
        study.objective = self.objective;
        study
    }

    /// Which parts differ, in words; empty if trials of both belong together. A study may go on with another budget.
    fn differences(&self, other: &Self) -> Vec<&'static str> {
        let parts = [
            (self.tuningfork_journal == other.tuningfork_journal, "journal version"),
            (self.slo == other.slo, "bounds (--slo)"),
            (self.space == other.space, "search space (cores, limits, or configured workers and connections)"),
            (self.objective == other.objective, "objective (--objective, --at)"),
            (self.pace == other.pace, "pace (--quick)"),
            (self.traffic == other.traffic, "traffic (the recording, --host or --header)"),
            (self.application == other.application, "application (its configuration, or the active virtual environment)"),
        ];
        parts.into_iter().filter(|(same, _)| !same).map(|(_, name)| name).collect()
    }
}

/// A line that is no trial.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Note {
    /// The study goes on with another budget: what it concludes depends on it.
    Budget(Budget),
    /// It is over, and why: another version of the program may have gone on.
    Ended(Stop),
}

/// How the line of a [`Note`] begins; a trial's begins otherwise.
const NOTES: [&[u8]; 2] = [b"{\"budget\":", b"{\"ended\":"];

/// Why a journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// A new study would overwrite it.
    #[error("{0} exists: continue it with --resume, or name another with --journal")]
    Exists(PathBuf),
    /// It belongs to another study.
    #[error("{path} belongs to another study: different {}. Give it the same arguments as then, or begin another", differences.join(", "))]
    OtherStudy {
        /// The file.
        path: PathBuf,
        /// What differs.
        differences: Vec<&'static str>,
    },
    /// Another version of the program wrote it.
    #[error(
        "{path} was written in version {version} of the format, and this program reads version {}: measure again",
        Header::VERSION
    )]
    OtherVersion {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// Another process writes to it.
    #[error("{0} is in use: another study is being written to it")]
    InUse(PathBuf),
    /// It does not begin like one.
    #[error("{path}:{line}: not a journal of tuningfork: {reason}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
    /// A line in its middle cannot be read, and trials that were written after it would not be read either.
    #[error(
        "{path}:{}: {}. The file is left as it is. To go on from the trials before that line: `head -n {} {pasted} > COPY`, and --journal COPY \
         --resume; to read those: `tuningfork report {pasted}`",
        gap.line, gap.reason, gap.line - 1, pasted = pasted(path)
    )]
    Broken {
        /// The file.
        path: PathBuf,
        /// The line.
        gap: Gap,
    },
    /// A trial, or the end, cannot be written down.
    #[error(
        "journal {path}: {source}; what was written before is whole: make room, and go on with --journal {} --resume",
        pasted(path)
    )]
    NotWritten {
        /// The file.
        path: PathBuf,
        /// The file system's answer.
        source: io::Error,
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

/// An open journal. No other process writes to it meanwhile.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    /// Its length up to the last whole line.
    length: u64,
    /// What its last line says of the end.
    ended: Option<Stop>,
}

/// A journal as it was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    /// What the trials belong to.
    pub header: Header,
    /// The trials so far.
    pub trials: Vec<Trial>,
    /// Why the study ended, if it says so.
    pub ended: Option<Stop>,
    /// Whether a last line was incomplete and is left out: the program ended while it wrote, or is writing.
    pub torn: bool,
    /// The line that cannot be read, if there is one. It is left out with all that follow: what was tried next depends on every trial
    /// before.
    pub gap: Option<Gap>,
}

/// A line in the middle of a journal that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Which, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: String,
    /// How many whole lines follow it.
    pub after: usize,
}

impl Recorded {
    /// The study so far.
    #[must_use]
    pub fn study(&self) -> Study {
        let mut study = self.header.study();
        self.trials.iter().for_each(|trial| study.record(trial.clone()));
        study
    }

    /// What it found. Without an end, as in a journal of a version that wrote none, the trials tell: one that would go on is not finished.
    #[must_use]
    pub fn report(&self) -> Report {
        let study = self.study();
        let by_trials = || match suggest(&study) {
            Next::Stop(stop) => stop,
            Next::Try(_) => Stop::Interrupted,
        };
        Report::new(&study, self.ended.unwrap_or_else(by_trials))
    }

    /// Takes what another line says, or refuses it with what is wrong there.
    fn take(&mut self, line: &[u8]) -> Result<(), String> {
        self.ended = None;
        if NOTES.iter().any(|beginning| line.starts_with(beginning)) {
            match parse::<Note>(line)? {
                Note::Budget(budget) => self.header.budget = budget,
                Note::Ended(stop) => self.ended = Some(stop),
            }
            return Ok(());
        }
        let trial: Trial = parse(line)?;
        if !trial.is_possible() {
            return Err("a number that no trial can have measured".to_owned());
        }
        self.trials.push(trial);
        Ok(())
    }
}

/// The whole lines of a journal.
struct Lines {
    recorded: Option<Recorded>,
    length: u64,
    torn: bool,
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
    /// The host of the trials so far, if it is another one.
    pub other_host: Option<String>,
}

/// How every header begins.
const BEGINNING: &[u8] = b"{\"tuningfork_journal\":";
/// A journal larger than this is not ours: a trial is a few kilobytes.
const LARGEST: u64 = 256 * 1024 * 1024;

impl Journal {
    /// A new journal at `path`, which must not exist.
    pub fn create(path: &Path, header: &Header) -> Result<Self, JournalError> {
        // For its owner alone: it has command lines, which may have secrets.
        let file = OpenOptions::new().append(true).create_new(true).mode(0o600).open(path).map_err(|source| {
            let is_taken = source.kind() == io::ErrorKind::AlreadyExists;
            if is_taken {
                Self::must_be_a_file(path).err().unwrap_or(JournalError::Exists(path.to_owned()))
            } else {
                io_at(path, source)
            }
        })?;
        let mut journal = Self { path: path.to_owned(), file, length: 0, ended: None };
        journal.lock()?;
        journal.write(header).map_err(|source| {
            // Without its first line it is of no use, and its name would be taken.
            std::fs::remove_file(path).ok();
            journal.io(source)
        })?;
        journal.keep_name()?;
        Ok(journal)
    }

    /// Takes up the journal at `path`, which must have been begun under the same `header`.
    pub fn resume(path: &Path, header: &Header) -> Result<Resumed, JournalError> {
        Self::must_be_a_file(path)?;
        let file = OpenOptions::new().read(true).append(true).open(path).map_err(|source| io_at(path, source))?;
        let mut journal = Self { path: path.to_owned(), file, length: 0, ended: None };
        journal.lock()?;
        let Lines { recorded, length, torn } = lines(path, &journal.file)?;
        let Some(recorded) = recorded else {
            return journal.restart(header);
        };
        if let Some(gap) = recorded.gap {
            return Err(JournalError::Broken { path: path.to_owned(), gap });
        }
        let differences = recorded.header.differences(header);
        if !differences.is_empty() {
            return Err(JournalError::OtherStudy { path: path.to_owned(), differences });
        }
        (journal.length, journal.ended) = (length, recorded.ended);
        if torn {
            journal.cut().map_err(|source| journal.io(source))?;
        }
        if recorded.header.budget != header.budget {
            journal.write(&Note::Budget(header.budget)).map_err(|source| journal.io(source))?;
            journal.ended = None;
        }
        let other_host = Some(recorded.header.about.host).filter(|host| *host != header.about.host);
        Ok(Resumed { journal, trials: recorded.trials, torn, other_host })
    }

    /// Refuses what is at `path` if it is no file: a pipe would be waited for.
    pub fn must_be_a_file(path: &Path) -> Result<(), JournalError> {
        let about = std::fs::metadata(path).map_err(|source| io_at(path, source))?;
        if about.is_file() {
            Ok(())
        } else {
            Err(io_at(path, io::Error::other("not a regular file: name another with --journal")))
        }
    }

    /// Reads the journal at `path` and leaves it as it is, even while a study goes on. Up to a line that cannot be read, if there is one.
    pub fn read(path: &Path) -> Result<Recorded, JournalError> {
        let file = File::open(path).map_err(|source| io_at(path, source))?;
        let Lines { recorded, torn, .. } = lines(path, &file)?;
        let empty = || damaged(path, 1, "empty, or cut off in its first line");
        recorded.map(|recorded| Recorded { torn, ..recorded }).ok_or_else(empty)
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a trial. It is on disk when this returns.
    pub fn append(&mut self, trial: &Trial) -> Result<(), JournalError> {
        self.ended = None;
        self.keep(trial)
    }

    /// Writes why the study is over, unless that is what it says already.
    pub fn end(&mut self, stop: Stop) -> Result<(), JournalError> {
        if self.ended.replace(stop) == Some(stop) { Ok(()) } else { self.keep(&Note::Ended(stop)) }
    }

    fn keep<T: Serialize>(&mut self, value: &T) -> Result<(), JournalError> {
        self.write(value).map_err(|source| {
            // Half a line would be cut off by the next resumption anyway.
            self.cut().ok();
            JournalError::NotWritten { path: self.path.clone(), source }
        })
    }

    /// Even the header was torn: nothing is lost by starting over.
    fn restart(mut self, header: &Header) -> Result<Resumed, JournalError> {
        self.cut().and_then(|()| self.write(header)).map_err(|source| self.io(source))?;
        Ok(Resumed { journal: self, trials: Vec::new(), torn: true, other_host: None })
    }

    /// Cuts off what follows the last whole line.
    fn cut(&self) -> io::Result<()> {
        self.file.set_len(self.length).and_then(|()| self.file.sync_data())
    }

    fn write<T: Serialize>(&mut self, value: &T) -> io::Result<()> {
        let mut line = serde_json::to_vec(value)?;
        line.push(b'\n');
        self.file.write_all(&line)?;
        self.file.sync_data()?;
        self.length += line.len() as u64;
        Ok(())
    }

    fn lock(&self) -> Result<(), JournalError> {
        self.file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => JournalError::InUse(self.path.clone()),
            TryLockError::Error(source) => self.io(source),
        })
    }

    /// A new file's name is safe only when its directory is (fsync(2)).
    fn keep_name(&self) -> Result<(), JournalError> {
        let parent = self.path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(parent).and_then(|directory| directory.sync_all()).map_err(|source| self.io(source))
    }

    fn io(&self, source: io::Error) -> JournalError {
        io_at(&self.path, source)
    }
}

/// Reads what is whole.
fn lines(path: &Path, file: &File) -> Result<Lines, JournalError> {
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(|source| io_at(path, source))?;
    if bytes.len() as u64 > LARGEST {
        return Err(damaged(path, 1, "too large"));
    }
    // A line counts when its end is written.
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    let torn = whole < bytes.len();
    if whole == 0 && !may_be_ours(&bytes) {
        return Err(damaged(path, 1, "it does not begin like one, and is left as it is"));
    }
    let mut lines = bytes[..whole].split_inclusive(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end);
    let recorded = match lines.next() {
        None => None,
        Some(first) => {
            let mut recorded = Recorded { header: begun(path, first)?, trials: Vec::new(), ended: None, torn, gap: None };
            let rest: Vec<&[u8]> = lines.collect();
            let unread = rest.iter().enumerate().find_map(|(read, text)| Some((read, recorded.take(text).err()?)));
            recorded.gap = unread.map(|(read, reason)| Gap { line: read + 2, reason, after: rest.len() - read - 1 });
            Some(recorded)
        }
    };
    Ok(Lines { recorded, length: whole as u64, torn })
}

/// The header, which is the first line.
fn begun(path: &Path, first: &[u8]) -> Result<Header, JournalError> {
    let refused = |reason: String| damaged(path, 1, &reason);
    let version = parse::<Version>(first).map_err(refused)?.tuningfork_journal;
    if version != Header::VERSION {
        return Err(JournalError::OtherVersion { path: path.to_owned(), version });
    }
    parse(first).map_err(refused)
}

/// Whether a file without a whole line may be a journal whose header was cut off.
fn may_be_ours(bytes: &[u8]) -> bool {
    bytes.starts_with(BEGINNING) || BEGINNING.starts_with(bytes)
}

/// What every version of a header has.
#[derive(Deserialize)]
struct Version {
    tuningfork_journal: u32,
}

/// What a line says, or what is wrong with it. Texts in it are made [`printable_lines`]: anybody may have written them.
fn parse<T: for<'de> Deserialize<'de>>(text: &[u8]) -> Result<T, String> {
    if text.is_empty() {
        return Err("an empty line, which this program does not write: take it out".to_owned());
    }
    let wrong = |error: serde_json::Error| {
        // It knows this line only, and calls it the first.
        let (whole, column) = (error.to_string(), error.column());
        let what = whole.strip_suffix(&format!(" at line {} column {column}", error.line()));
        printable(&what.map_or_else(|| whole.clone(), |what| format!("{what} (column {column})")))
    };
    let read = serde_json::from_slice(text).map_err(wrong)?;
    let is_plain = |text: &str| !text.contains('\\') && !text.contains(is_harmful);
    if str::from_utf8(text).is_ok_and(is_plain) {
        return Ok(read);
    }
    let value = serde_json::from_slice(text).map_err(wrong)?;
    serde_json::from_value(all_printable(value)).map_err(wrong)
}

/// The same with printable texts.
fn all_printable(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(printable_lines(&text)),
        Value::Array(values) => values.into_iter().map(all_printable).collect(),
        Value::Object(fields) => fields.into_iter().map(|(key, value)| (printable(&key), all_printable(value))).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => value,
    }
}

fn damaged(path: &Path, line: usize, reason: &str) -> JournalError {
    JournalError::Damaged { path: path.to_owned(), line, reason: printable(reason) }
}

fn io_at(path: &Path, source: io::Error) -> JournalError {
    JournalError::Io { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests;
