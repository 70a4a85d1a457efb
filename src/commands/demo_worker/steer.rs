//! How a test steers a worker that boots: files in a directory. Refuses a file whose content is not a number where one is needed.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Error;

/// What boot and life are to be like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Steering {
    /// How the boot ends.
    pub(super) boot: Boot,
    /// `die_after_ready`: milliseconds from readiness to an end with code 1.
    pub(super) life: Option<Duration>,
    /// `never_ready`: accept, and never say so.
    pub(super) never_ready: bool,
    /// `no_term`: take no notice of SIGTERM.
    pub(super) no_term: bool,
}

/// How a boot ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Boot {
    /// `boot_fail`: with an error.
    Fail,
    /// `crash_on_boot`: by SIGABRT.
    Crash,
    /// Accepting connections, after `boot_sleep` milliseconds.
    Serve(Duration),
}

impl Default for Boot {
    fn default() -> Self {
        Self::Serve(Duration::ZERO)
    }
}

impl Steering {
    /// Reads the directory.
    pub(super) fn read(directory: &Path) -> Result<Self, Error> {
        let is_there = |name: &str| directory.join(name).exists();
        let boot = if is_there("boot_fail") {
            Boot::Fail
        } else if is_there("crash_on_boot") {
            Boot::Crash
        } else {
            Boot::Serve(millis(directory.join("boot_sleep"))?.unwrap_or_default())
        };
        let life = millis(directory.join("die_after_ready"))?;
        Ok(Self { boot, life, never_ready: is_there("never_ready"), no_term: is_there("no_term") })
    }
}

fn millis(file: PathBuf) -> Result<Option<Duration>, Error> {
    let content = match std::fs::read_to_string(&file) {
        Ok(content) => content,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(Error::Steering { file, reason: source.to_string() });
        }
    };
    match content.trim().parse() {
        Ok(millis) => Ok(Some(Duration::from_millis(millis))),
        Err(_) => Err(Error::Steering { file, reason: format!("{content:?} is not a number of milliseconds") }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_steer() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(Steering::read(directory.path()).unwrap(), Steering::default());
        std::fs::write(directory.path().join("boot_sleep"), "20\n").unwrap();
        std::fs::write(directory.path().join("no_term"), "").unwrap();
        let expected = Steering { boot: Boot::Serve(Duration::from_millis(20)), no_term: true, ..Steering::default() };
        assert_eq!(Steering::read(directory.path()).unwrap(), expected);
        std::fs::write(directory.path().join("die_after_ready"), "soon").unwrap();
        assert!(Steering::read(directory.path()).unwrap_err().to_string().contains("\"soon\""));
    }
}
