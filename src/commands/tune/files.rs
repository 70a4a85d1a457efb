//! The files of a study: its journal, and what its workers wrote.

use std::env;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use jiff::Timestamp;

use super::TuneError;
use crate::commands::CommandError;
use crate::commands::say::say;
use crate::study::{Outcome, Suggestion};
use crate::sys::standing;
use crate::tune::{Step, Testbed, TrialError};

/// The most bytes of the workers' output that are kept: with more, the file is emptied and goes on.
const MOST_LOG: u64 = 16 << 20;
/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(100);
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

/// A testbed whose workers write to `log`, which stays short: an application that logs every request would fill the disk.
pub(super) struct Trimmed<'a> {
    pub(super) inner: &'a mut dyn Testbed,
    pub(super) log: &'a OwnedFd,
}

impl Testbed for Trimmed<'_> {
    fn run(&mut self, suggestion: &Suggestion, watch: &mut (dyn FnMut(Step) + Send)) -> Result<Outcome, TrialError> {
        let (log, inner) = (self.log, &mut self.inner);
        thread::scope(|scope| {
            // Over when `trial` is dropped, whatever happens in it.
            let (trial, is_over) = mpsc::channel::<()>();
            scope.spawn(move || {
                while is_over.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                    if let Err(error) = trim(log) {
                        tracing::debug!("the workers' log keeps growing: {error}");
                    }
                }
            });
            let outcome = inner.run(suggestion, watch);
            drop(trial);
            outcome
        })
    }
}

/// Those who write append, so they go on at the new end.
fn trim(log: &OwnedFd) -> io::Result<()> {
    let log = File::from(log.try_clone()?);
    if log.metadata()?.len() > MOST_LOG { log.set_len(0) } else { Ok(()) }
}

fn tail(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let from = file.metadata()?.len().saturating_sub(SHOWN);
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(SHOWN).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    // What is left of a line says little, unless there is nothing else.
    let whole = text.split_once('\n').map(|(_, whole)| whole).filter(|whole| from > 0 && !whole.is_empty());
    Ok(whole.unwrap_or(&text).to_owned())
}

/// systemd's, or the user's, who must have named whole paths (XDG base directory specification). The directory for temporary files is none:
/// others write there too.
fn state_directory() -> Result<PathBuf, CommandError> {
    let variable = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    // A transient unit of systemd's has no HOME.
    let home = || variable("HOME").or_else(standing::home);
    let directory = variable("STATE_DIRECTORY")
        .or_else(|| variable("XDG_STATE_HOME").map(|state| state.join("tuningfork")))
        .or_else(|| home().map(|home| home.join(".local/state/tuningfork")))
        .ok_or(TuneError::NoPlace)?;
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory);
    made.map(|()| directory.clone()).map_err(|source| CommandError::CannotCreate { path: directory, source })
}

fn stamp() -> String {
    Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::study::{Candidate, Purpose, Task};
    use crate::units::{Connections, Workers};

    /// A trial whose workers write too much, which goes on until that is gone.
    struct Chatty<'a>(&'a Places);

    impl Testbed for Chatty<'_> {
        fn run(&mut self, _: &Suggestion, _: &mut (dyn FnMut(Step) + Send)) -> Result<Outcome, TrialError> {
            let worker = File::options().append(true).open(&self.0.log).unwrap();
            worker.set_len(MOST_LOG + 1).unwrap();
            let is_emptied = (0..10_000).any(|_| {
                thread::park_timeout(Duration::from_millis(1));
                worker.metadata().unwrap().len() == 0
            });
            assert!(is_emptied);
            Err(TrialError::Interrupted)
        }
    }

    #[test]
    fn the_log_is_emptied_while_a_trial_runs() {
        let folder = tempfile::tempdir().unwrap();
        let places = Places::choose(Some(&folder.path().join("study.jsonl"))).unwrap();
        let log = places.worker_log().unwrap();
        let candidate = Candidate::new(Workers::new(1).unwrap(), Connections::ONE);
        let suggestion = Suggestion { candidate, purpose: Purpose::Baseline, task: Task::Measure, expected: None, rival: None };
        let found = Trimmed { inner: &mut Chatty(&places), log: &log }.run(&suggestion, &mut |_| ());
        assert_eq!(found, Err(TrialError::Interrupted));
    }

    #[test]
    fn the_log_is_emptied_when_it_is_too_long_and_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let places = Places::choose(Some(&folder.path().join("study.jsonl"))).unwrap();
        let log = places.worker_log().unwrap();
        let length = || fs::metadata(&places.log).unwrap().len();
        let mut worker = File::from(log.try_clone().unwrap());
        for (written, kept) in [(MOST_LOG, MOST_LOG), (MOST_LOG + 1, 0)] {
            worker.set_len(written).unwrap();
            trim(&log).unwrap();
            assert_eq!(length(), kept);
        }
        worker.write_all(b"goes on").unwrap();
        assert_eq!((length(), tail(&places.log).unwrap().as_str()), (7, "goes on"));
    }
}
