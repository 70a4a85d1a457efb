//! A directory in which commands of tuningfork run to their end. In files it writes, `@DIR@` is the directory and `@PROGRAM@` the binary.

use std::fs::{self, File};
use std::ops::{Deref, DerefMut};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::journal::Journal;
use super::process::{End, Watched};
use super::turn::Turn;

/// How long a study may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(400);

/// Files, and a place for commands to work in.
pub(crate) struct Folder(TempDir);

/// A command at work.
pub(crate) struct Working {
    watched: Watched,
    out: PathBuf,
}

/// What a command said, and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    /// How it ended.
    pub(crate) end: End,
    /// Its standard output.
    pub(crate) out: String,
    /// Its standard error.
    pub(crate) err: String,
}

impl Folder {
    /// An empty one.
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().expect("make a directory"))
    }

    /// Writes a file.
    pub(crate) fn file(self, name: &str, content: &str) -> Self {
        let directory = self.0.path().display().to_string();
        let content = content.replace("@DIR@", &directory).replace("@PROGRAM@", env!("CARGO_BIN_EXE_tuningfork"));
        fs::write(self.path(name), content).expect("write a file");
        self
    }

    /// Writes a program.
    pub(crate) fn program(self, name: &str, content: &str) -> Self {
        let folder = self.file(name, content);
        fs::set_permissions(folder.path(name), fs::Permissions::from_mode(0o755)).expect("make it a program");
        folder
    }

    /// Where a file of it is.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// A file's text; empty if there is none.
    pub(crate) fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    /// Its directory.
    pub(crate) fn directory(&self) -> &Path {
        self.0.path()
    }

    /// Starts `tuningfork` with arguments separated by blanks, here, where it finds files by their names.
    pub(crate) fn start(&self, arguments: &str) -> Working {
        self.start_in(Turn::beside_others(), arguments)
    }

    /// Starts it and waits for its end.
    pub(crate) fn run(&self, arguments: &str) -> Said {
        self.start(arguments).finish()
    }

    /// The same while no other test runs anything.
    pub(crate) fn run_alone(&self, arguments: &str) -> Said {
        self.start_alone(arguments).finish()
    }

    /// Starts it while no other test runs anything.
    pub(crate) fn start_alone(&self, arguments: &str) -> Working {
        self.start_in(Turn::alone(), arguments)
    }

    /// Starts it by a shell that does `first` before it becomes tuningfork.
    pub(crate) fn start_after(&self, first: &str, arguments: &str) -> Working {
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("{first} && exec \"$@\""), "sh", env!("CARGO_BIN_EXE_tuningfork")]);
        self.start_command(Turn::beside_others(), shell, arguments)
    }

    /// The same in a turn that was waited for.
    pub(crate) fn start_in(&self, turn: Turn, arguments: &str) -> Working {
        self.start_command(turn, Command::new(env!("CARGO_BIN_EXE_tuningfork")), arguments)
    }

    fn start_command(&self, turn: Turn, mut command: Command, arguments: &str) -> Working {
        let out = self.path("stdout");
        command.args(arguments.split(' ')).current_dir(self.0.path()).env("XDG_STATE_HOME", self.0.path());
        command.stdout(Stdio::from(File::create(&out).expect("make a file")));
        let mut watched = Watched::start_in(turn, command, Journal::default());
        watched.patience = PATIENCE;
        Working { watched, out }
    }
}

impl Working {
    /// Waits for its end, and checks that it left no process behind.
    pub(crate) fn finish(mut self) -> Said {
        let end = self.watched.await_end();
        Said { end, out: fs::read_to_string(&self.out).expect("read its output"), err: self.watched.said() }
    }
}

impl Said {
    /// Checks the exit code.
    pub(crate) fn assert_code(&self, code: i32) {
        assert_eq!(self.end, End::Code(code), "{self}");
    }

    /// Checks that standard error holds all of `parts`.
    pub(crate) fn assert_err(&self, parts: &[&str]) {
        for part in parts {
            assert!(self.err.contains(part), "{part:?} is missing in:\n{self}");
        }
    }

    /// Checks that standard output holds all of `parts`. Its lines are wrapped, so each blank may be a line's end.
    pub(crate) fn assert_out(&self, parts: &[&str]) {
        let flat = self.out.split_whitespace().collect::<Vec<_>>().join(" ");
        for part in parts {
            assert!(flat.contains(part), "{part:?} is missing in:\n{self}");
        }
    }
}

impl std::fmt::Display for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}\n--- standard output\n{}\n--- standard error\n{}", self.end, self.out, self.err)
    }
}

impl Deref for Working {
    type Target = Watched;

    fn deref(&self) -> &Watched {
        &self.watched
    }
}

impl DerefMut for Working {
    fn deref_mut(&mut self) -> &mut Watched {
        &mut self.watched
    }
}
