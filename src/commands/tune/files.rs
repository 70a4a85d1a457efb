//! The files of a study: its journal, what its workers wrote, and the JSON result.

use std::env;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use crate::commands::CommandError;
use crate::commands::say::say;
use crate::study::Report;

/// How much of the workers' output is shown when nothing started.
const SHOWN: u64 = 4096;

/// Where a study is written down.
pub(super) struct Places {
    pub(super) journal: PathBuf,
    pub(super) log: PathBuf,
}

impl Places {
    /// The journal the user named, or a new one in the state directory; what workers write goes beside it.
    pub(super) fn choose(named: Option<&Path>) -> Result<Self, CommandError> {
        let journal = match named {
            Some(path) => path.to_owned(),
            None => state_directory()?.join(format!("tune-{}-{}.jsonl", stamp(), std::process::id())),
        };
        let mut log = journal.clone().into_os_string();
        log.push(".workers.log");
        let log = PathBuf::from(log);
        Ok(Self { journal, log })
    }

    /// The file that takes what workers write.
    pub(super) fn worker_log(&self) -> Result<OwnedFd, CommandError> {
        let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&self.log);
        file.map(OwnedFd::from).map_err(|source| CommandError::CannotCreate { path: self.log.clone(), source })
    }

    /// Shows the end of what the workers wrote.
    pub(super) fn show_worker_log(&self) {
        let tail = tail(&self.log).unwrap_or_default();
        if !tail.trim().is_empty() {
            say(&format!("\nThe end of {}:\n{}", self.log.display(), tail.trim_end()));
        }
    }
}

fn tail(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(SHOWN)))?;
    let mut bytes = Vec::new();
    file.take(SHOWN).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// systemd's, the user's (XDG base directory specification), or the directory for temporary files.
fn state_directory() -> Result<PathBuf, CommandError> {
    let variable = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let directory = variable("STATE_DIRECTORY")
        .or_else(|| variable("XDG_STATE_HOME").map(|state| state.join("tuningfork")))
        .or_else(|| variable("HOME").map(|home| home.join(".local/state/tuningfork")))
        .unwrap_or_else(|| env::temp_dir().join("tuningfork"));
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory);
    made.map(|()| directory.clone()).map_err(|source| CommandError::CannotCreate { path: directory, source })
}

fn stamp() -> String {
    Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string()
}

/// A result file that appears whole or not at all. Made before the study, so that a wrong path costs no trial.
pub(super) struct Draft {
    path: PathBuf,
    part: PathBuf,
    file: Option<File>,
}

impl Draft {
    pub(super) fn of(path: &Path) -> Result<Self, CommandError> {
        if path.is_dir() {
            return Err(CommandError::CannotCreate { path: path.to_owned(), source: io::ErrorKind::IsADirectory.into() });
        }
        let mut name = path.as_os_str().to_owned();
        name.push(".part");
        let draft = PathBuf::from(name);
        let file = File::create(&draft).map_err(|source| CommandError::CannotCreate { path: draft.clone(), source })?;
        Ok(Self { path: path.to_owned(), part: draft, file: Some(file) })
    }

    pub(super) fn write(mut self, report: &Report) -> Result<(), CommandError> {
        let Some(file) = self.file.take() else { return Ok(()) };
        let write = || -> io::Result<()> {
            let mut writer = BufWriter::new(&file);
            serde_json::to_writer_pretty(&mut writer, &report.summary())?;
            writer.write_all(b"\n")?;
            writer.flush()?;
            fs::rename(&self.part, &self.path)
        };
        write().map_err(|source| CommandError::CannotCreate { path: self.path.clone(), source })
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Gone already if the result was written.
        fs::remove_file(&self.part).ok();
    }
}
