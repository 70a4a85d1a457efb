//! Where lines go: standard error, journald or a file. Every call may hang; only the writer's thread makes them.

use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::stdio::stderr;

use super::{Level, file, journal};
use crate::sys::clock;
use crate::units::Moment;

/// How long it is waited between two attempts to reach what is gone.
const PAUSE: Duration = Duration::from_millis(500);

/// Where the log goes.
#[derive(Debug)]
pub(super) struct Sink {
    target: Target,
    /// A line was written in part, so that the next would continue it.
    torn: bool,
    /// When it was last tried to reach what is gone.
    tried: Moment,
}

#[derive(Debug)]
enum Target {
    Stderr,
    /// journald: standard error at first, then a stream of our own.
    Journal(Option<UnixStream>),
    File {
        path: PathBuf,
        file: File,
    },
}

impl Sink {
    /// Opens the file, or finds out what standard error is.
    pub(super) fn open(file: Option<&Path>) -> io::Result<Self> {
        let target = match file {
            Some(path) => Target::File { path: path.to_owned(), file: file::append(path)? },
            None if journal::is_stderr() => Target::Journal(None),
            None => Target::Stderr,
        };
        Ok(Self { target, torn: false, tried: Moment::default() })
    }

    /// Whether lines carry the time of their own.
    pub(super) const fn stamps_itself(&self) -> bool {
        matches!(self.target, Target::Journal(_))
    }

    /// What stands before a line: for journald its level, as syslog numbers it (RFC 5424).
    pub(super) const fn prefix(&self, level: Level) -> &'static str {
        match (&self.target, level) {
            (Target::Stderr | Target::File { .. }, _) => "",
            (Target::Journal(_), Level::Error) => "<3>",
            (Target::Journal(_), Level::Warning) => "<4>",
            (Target::Journal(_), Level::Info) => "<6>",
            (Target::Journal(_), Level::Debug) => "<7>",
        }
    }

    /// Writes whole lines. On failure, how many bytes went.
    pub(super) fn write(&mut self, lines: &[u8]) -> Result<(), (usize, io::Error)> {
        self.heal();
        if std::mem::take(&mut self.torn) {
            // What follows is lost too if this is.
            self.write_all(b"\n").map_err(|(_, error)| (0, error))?;
        }
        match self.write_all(lines) {
            Err((written, _)) if self.reconnect() => {
                let whole = end_of_last_line(lines, written);
                self.write_all(&lines[whole..]).map_err(|(more, error)| (whole + more, error))
            }
            Err((written, error)) => {
                self.torn = written > end_of_last_line(lines, written);
                Err((written, error))
            }
            Ok(()) => Ok(()),
        }
    }

    /// Opens the file under its name again. Keeps the old one where that fails.
    pub(super) fn reopen(&mut self) -> io::Result<()> {
        if let Target::File { path, file } = &mut self.target {
            *file = file::append(path)?;
            self.torn = false;
        }
        Ok(())
    }

    /// A file that was removed takes lines that nobody will read: one of its name is made, as soon as its folder is back.
    fn heal(&mut self) {
        let Target::File { file, .. } = &self.target else { return };
        if file.metadata().is_ok_and(|about| about.nlink() == 0) && self.may_try() {
            // If it fails, it is tried again; the lines meanwhile are where they would have gone.
            self.reopen().ok();
        }
    }

    /// Whether the file that is written can be found by a name.
    pub(super) fn is_lost(&self) -> bool {
        matches!(&self.target, Target::File { file, .. } if file.metadata().is_ok_and(|about| about.nlink() == 0))
    }

    /// Reaches journald anew, if it is that.
    fn reconnect(&mut self) -> bool {
        if !matches!(self.target, Target::Journal(_)) || !self.may_try() {
            return false;
        }
        let stream = journal::connect(Path::new(journal::SOCKET)).ok();
        let reached = stream.is_some();
        if reached {
            self.target = Target::Journal(stream);
        }
        reached
    }

    fn may_try(&mut self) -> bool {
        let now = clock::now();
        let may = self.tried == Moment::default() || now.since(self.tried) >= PAUSE;
        if may {
            self.tried = now;
        }
        may
    }

    fn write_all(&self, bytes: &[u8]) -> Result<(), (usize, io::Error)> {
        let mut written = 0;
        while let Some(rest) = bytes.get(written..).filter(|rest| !rest.is_empty()) {
            match self.write_some(rest) {
                Ok(0) => return Err((written, ErrorKind::WriteZero.into())),
                Ok(count) => written += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Somebody else has made the descriptor non-blocking.
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    poll(&mut [PollFd::from_borrowed_fd(self.fd(), PollFlags::OUT)], None).ok();
                }
                Err(error) => return Err((written, error)),
            }
        }
        Ok(())
    }

    fn write_some(&self, bytes: &[u8]) -> io::Result<usize> {
        match &self.target {
            Target::Stderr | Target::Journal(None) => Ok(rustix::io::write(stderr(), bytes)?),
            Target::Journal(Some(stream)) => { stream }.write(bytes),
            Target::File { file, .. } => { file }.write(bytes),
        }
    }

    fn fd(&self) -> BorrowedFd<'_> {
        match &self.target {
            Target::Stderr | Target::Journal(None) => stderr(),
            Target::Journal(Some(stream)) => stream.as_fd(),
            Target::File { file, .. } => file.as_fd(),
        }
    }
}

impl fmt::Display for Sink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.target {
            Target::Stderr => f.write_str("standard error"),
            Target::Journal(_) => f.write_str("the journal"),
            Target::File { path, .. } => path.display().fmt(f),
        }
    }
}

/// Where the last line ends that was written whole.
fn end_of_last_line(lines: &[u8], written: usize) -> usize {
    memchr::memrchr(b'\n', lines.get(..written).unwrap_or(lines)).map_or(0, |at| at + 1)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::sys::pass::own_user;

    fn file(path: &Path) -> Sink {
        Sink::open(Some(path)).unwrap()
    }

    #[test]
    fn f38_a_log_whose_folder_was_removed_is_made_again_when_the_folder_is_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("logs").join("a.log");
        assert!(Sink::open(Some(&path)).is_err());
        fs::create_dir(folder.path().join("logs")).unwrap();
        let mut sink = file(&path);
        sink.write(b"one\n").unwrap();
        fs::remove_dir_all(folder.path().join("logs")).unwrap();
        sink.write(b"two\n").unwrap();
        assert!(sink.is_lost() && sink.reopen().is_err());
        fs::create_dir(folder.path().join("logs")).unwrap();
        sink.reopen().unwrap();
        sink.write(b"three\n").unwrap();
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), sink.is_lost()), ("three\n", false));
    }

    #[test]
    fn what_root_may_not_follow_is_not_healed_either() {
        if own_user() != 0 {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let [target, path] = ["precious", "a.log"].map(|name| folder.path().join(name));
        fs::write(&target, "").unwrap();
        let mut sink = file(&path);
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(&target, &path).unwrap();
        sink.write(b"one\n").unwrap();
        assert!(sink.is_lost() && sink.reopen().is_err());
        assert_eq!(fs::read_to_string(&target).unwrap(), "");
    }

    #[test]
    fn f37_a_full_disk_is_told_and_leaves_no_broken_line() {
        let full = Path::new("/dev/full");
        let mut sink = file(full);
        let (written, error) = sink.write(b"one\ntwo\n").unwrap_err();
        assert_eq!((written, error.kind()), (0, ErrorKind::StorageFull));
        assert_eq!([0, 3, 4, 6, 8].map(|written| end_of_last_line(b"one\ntwo\n", written)), [0, 0, 4, 4, 8]);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        let mut sink = Sink { torn: true, ..file(&path) };
        sink.write(b"next\n").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "\nnext\n");
    }
}
