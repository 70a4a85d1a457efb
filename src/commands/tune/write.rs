//! Writes the recommended numbers into the configuration file: after a backup, at once or not at all, with mode and owner as before.
//! Refuses a file that is not as it was when the study began.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, fchown};
use std::path::{Path, PathBuf};

use clap::Args;

use crate::commands::Ending;
use crate::config::edit::{self, EditError};
use crate::config::{Affinity, MAX_BYTES};
use crate::study::confirm::Outcome;
use crate::study::{Candidate, Report, Stop};

/// Why nothing is written where nothing would change.
pub(super) const SAYS_SO: &str = "it comes to these numbers already";

/// Backups of one file; more are a mistake.
const MOST_BACKUPS: u32 = 999;

/// The arguments about it.
#[derive(Debug, Args)]
#[group(skip)]
pub(super) struct Options {
    /// Write the recommended numbers into the configuration file; what it said goes to FILE.bak
    #[arg(long, conflicts_with = "demo")]
    write: bool,
    /// Write them also when the study was interrupted, or did not repeat them undisturbed
    #[arg(long, requires = "write")]
    write_partial: bool,
}

impl Options {
    /// Whether the file is to be written.
    pub(super) const fn is_given(&self) -> bool {
        self.write
    }

    /// What a study found, if it is to be written, or why not.
    pub(super) fn worth_writing(&self, report: &Report) -> Result<Candidate, String> {
        let chosen = report.recommended.ok_or("nothing is recommended")?;
        match report.stop {
            Stop::Converged | Stop::Certified | Stop::Budget | Stop::Trials => {}
            Stop::Interrupted if self.write_partial => {}
            Stop::Interrupted => {
                return Err("the study was interrupted; go on with --resume, or write this with --write-partial".to_owned());
            }
            Stop::OnlyErrors | Stop::NothingMeetsSlo | Stop::NothingStarts | Stop::NeverQuiet => {
                return Err(report.stopped_because());
            }
        }
        if chosen == report.space.configured() {
            return Err(SAYS_SO.to_owned());
        }
        let is_compared = report.confirmed || (report.outcome == Some(Outcome::BaselineIsBest) && report.candidates > 1);
        if !is_compared && !self.write_partial {
            let why = "it was not repeated undisturbed; give it more time (--resume with a longer --budget) on a quiet host, or write this \
                       with --write-partial";
            return Err(why.to_owned());
        }
        Ok(chosen)
    }
}

/// A configuration file as it was when the study began.
#[derive(Debug)]
pub(super) struct Manuscript {
    /// The file itself, symbolic links followed.
    path: PathBuf,
    text: String,
    /// Whether its kind of worker has a number of connections.
    has_connections: bool,
}

/// What was done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Written {
    /// The file comes to these numbers already, as they are or as what it leaves to us makes on this host.
    AsItWas,
    /// It was changed, and what it said before is in this file.
    Changed(PathBuf),
}

/// Why a configuration file is not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// It may not be written to.
    #[error("{} cannot be changed by --write: {source}", path.display())]
    NotWritable {
        /// The file.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// Its mode lets nobody write.
    #[error("{} is read-only (mode {mode:04o}): `chmod u+w` it, or leave out --write and paste what is recommended", path.display())]
    ReadOnly {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The numbers cannot be changed in it.
    #[error("{}: {source}", path.display())]
    Edit {
        /// The file.
        path: PathBuf,
        /// Why.
        source: EditError,
    },
    /// Somebody else wrote to it.
    #[error("{} was changed while the study ran and is left as it is: paste what is recommended", .0.display())]
    Changed(PathBuf),
    /// There are too many backups.
    #[error("{} has {MOST_BACKUPS} backups beside it: remove some", .0.display())]
    Backups(PathBuf),
    /// The new file could not be made beside it.
    #[error("{} could not be {what} and is left as it is: {source}", path.display())]
    Failed {
        /// The file.
        path: PathBuf,
        /// What was tried.
        what: &'static str,
        /// The system's words.
        source: io::Error,
    },
}

impl WriteError {
    /// How the program ends for it.
    pub const fn ending(&self) -> Ending {
        match self {
            Self::Edit { .. } => Ending::Config,
            Self::NotWritable { .. } | Self::ReadOnly { .. } | Self::Changed(_) | Self::Backups(_) | Self::Failed { .. } => {
                Ending::CannotCreate
            }
        }
    }
}

impl Manuscript {
    /// Takes the file up before the study, and finds out by an `example` what would stand against changing it after hours of measuring.
    pub(super) fn open(named: &Path, has_connections: bool, example: Candidate) -> Result<Self, WriteError> {
        let unusable = |source| WriteError::NotWritable { path: named.to_owned(), source };
        let path = named.canonicalize().map_err(unusable)?;
        let mode = fs::metadata(&path).map_err(unusable)?.mode() & 0o7777;
        if mode & 0o222 == 0 {
            return Err(WriteError::ReadOnly { path, mode });
        }
        OpenOptions::new().append(true).open(&path).map_err(unusable)?;
        let manuscript = Self { text: read(&path).map_err(unusable)?, path, has_connections };
        manuscript.edited(example)?;
        // Which word a study finds is not known yet, and one that goes without saying needs no place.
        if example.affinity.is_some() {
            for affinity in Affinity::ALL {
                manuscript.edited(Candidate { affinity: Some(affinity), ..example })?;
            }
        }
        drop(manuscript.draft("")?);
        Ok(manuscript)
    }

    /// Writes `recommended` into the file.
    pub(super) fn write(&self, recommended: Candidate) -> Result<Written, WriteError> {
        let text = self.edited(recommended)?;
        if text == self.text {
            return Ok(Written::AsItWas);
        }
        let draft = self.draft(&text)?;
        // As late as can be.
        if read(&self.path).ok().as_ref() != Some(&self.text) {
            return Err(WriteError::Changed(self.path.clone()));
        }
        let backup = self.back_up()?;
        if let Err(source) = fs::rename(&draft.path, &self.path) {
            fs::remove_file(&backup).ok();
            return Err(self.failed("replaced")(source));
        }
        self.folder().and_then(|folder| File::open(folder)?.sync_all()).map_err(self.failed("made safe"))?;
        Ok(Written::Changed(backup))
    }

    fn edited(&self, candidate: Candidate) -> Result<String, WriteError> {
        let connections = self.has_connections.then_some(candidate.connections);
        edit::with_counts(&self.text, candidate.workers, connections)
            .and_then(|text| candidate.affinity.map_or(Ok(text.clone()), |affinity| edit::with_affinity(&text, affinity)))
            .map_err(|source| WriteError::Edit { path: self.path.clone(), source })
    }

    /// A new file with `text` in the same folder, with the mode and the owner of the old one.
    fn draft(&self, text: &str) -> Result<Draft, WriteError> {
        let draft = Draft { path: self.beside(&format!(".{}.part", std::process::id())) };
        // Whoever had our number and this file was killed.
        fs::remove_file(&draft.path).ok();
        self.copy_to(&draft.path, text).map_err(self.failed("prepared"))?;
        Ok(draft)
    }

    /// What the file said goes to the first free one of `FILE.bak`, `FILE.bak.1`, `FILE.bak.2` and so on.
    fn back_up(&self) -> Result<PathBuf, WriteError> {
        let names = std::iter::once(".bak".to_owned()).chain((1..MOST_BACKUPS).map(|number| format!(".bak.{number}")));
        for name in names {
            let backup = self.beside(&name);
            match self.copy_to(&backup, &self.text) {
                Ok(()) => return Ok(backup),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(source) => return Err(self.failed("backed up")(source)),
            }
        }
        Err(WriteError::Backups(self.path.clone()))
    }

    fn copy_to(&self, path: &Path, text: &str) -> io::Result<()> {
        let old = fs::metadata(&self.path)?;
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        let complete = || {
            (&file).write_all(text.as_bytes())?;
            let new = file.metadata()?;
            if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
                fchown(&file, Some(old.uid()), Some(old.gid()))?;
            }
            file.set_permissions(old.permissions())?;
            file.sync_all()
        };
        complete().inspect_err(|_| {
            fs::remove_file(path).ok();
        })
    }

    fn beside(&self, ending: &str) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(ending);
        name.into()
    }

    fn folder(&self) -> io::Result<&Path> {
        self.path.parent().ok_or_else(|| io::ErrorKind::NotADirectory.into())
    }

    fn failed(&self, what: &'static str) -> impl Fn(io::Error) -> WriteError {
        let path = self.path.clone();
        move |source| WriteError::Failed { path: path.clone(), what, source }
    }
}

/// A file that goes when it was not renamed.
struct Draft {
    path: PathBuf,
}

impl Drop for Draft {
    fn drop(&mut self) {
        fs::remove_file(&self.path).ok();
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MAX_BYTES as u64 + 1).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests;
