//! A file that names the process of a running service, for people and their scripts. Never read to decide or to signal anything: what it
//! names may be anybody by then.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::commands::CommandError;

/// A file that is ours while it names us.
#[derive(Debug)]
pub(super) struct Pidfile(PathBuf);

impl Pidfile {
    /// Writes the file whole, in the place of an older one.
    pub(super) fn write(path: &Path) -> Result<Self, CommandError> {
        with_draft(path, |draft| fs::rename(draft, path))?;
        Ok(Self(path.to_owned()))
    }

    /// Whether it could be written, while it is somebody else's.
    pub(super) fn rehearse(path: &Path) -> Result<(), CommandError> {
        with_draft(path, |_| Ok(()))
    }
}

/// Writes the file beside its place, and lets `publish` do something with that.
fn with_draft(path: &Path, publish: impl FnOnce(&Path) -> io::Result<()>) -> Result<(), CommandError> {
    let draft = beside(path);
    let put = || -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).open(&draft)?;
        writeln!(file, "{}", std::process::id())?;
        publish(&draft)
    };
    // One of ours is there if an earlier process of the same number could not write it, as in a container.
    fs::remove_file(&draft).ok();
    let outcome = put();
    fs::remove_file(&draft).ok();
    outcome.map_err(|source| CommandError::CannotCreate { path: path.to_owned(), source })
}

/// A name that no other process uses.
fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", std::process::id()));
    PathBuf::from(name)
}

impl Drop for Pidfile {
    /// A successor's stays.
    fn drop(&mut self) {
        let names_us = |path: &Path| fs::read_to_string(path).is_ok_and(|text| text.trim() == std::process::id().to_string());
        let aside = beside(&self.0);
        if !names_us(&self.0) || fs::rename(&self.0, &aside).is_err() {
            return;
        }
        if !names_us(&aside) {
            // A successor wrote it between the look and the rename.
            fs::hard_link(&aside, &self.0).ok();
        }
        fs::remove_file(&aside).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_there_as_long_as_it_is_ours() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("web.pid");
        fs::write(&path, "1\n").unwrap();
        let ours = Pidfile::write(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", std::process::id()));
        drop(ours);
        assert!(!path.exists());
        // What a process of our number left half written.
        let draft = folder.path().join(format!("web.pid.{}", std::process::id()));
        fs::write(&draft, "").unwrap();
        let ours = Pidfile::write(&path).unwrap();
        assert!(!draft.exists());
        fs::write(&path, "1\n").unwrap();
        drop(ours);
        assert_eq!(fs::read_to_string(&path).unwrap(), "1\n");
        assert!(Pidfile::write(&folder.path().join("no/such/folder")).is_err());
    }

    #[test]
    fn a_rehearsal_leaves_the_file_of_another() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("web.pid");
        fs::write(&path, "1\n").unwrap();
        Pidfile::rehearse(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "1\n");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(Pidfile::rehearse(&folder.path().join("no/such/folder")).is_err());
    }
}
