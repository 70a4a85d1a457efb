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
        let us = std::process::id();
        let mut draft = path.as_os_str().to_owned();
        draft.push(format!(".{us}"));
        let put = || -> io::Result<()> {
            let mut file = OpenOptions::new().write(true).create_new(true).open(&draft)?;
            writeln!(file, "{us}")?;
            fs::rename(&draft, path)
        };
        // One of ours is there if an earlier process of the same number could not write it, as in a container.
        fs::remove_file(&draft).ok();
        put().map_err(|source| {
            fs::remove_file(&draft).ok();
            CommandError::CannotCreate { path: path.to_owned(), source }
        })?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for Pidfile {
    /// A successor's stays.
    fn drop(&mut self) {
        let names_us = |path: &Path| fs::read_to_string(path).is_ok_and(|text| text.trim() == std::process::id().to_string());
        let mut aside = self.0.as_os_str().to_owned();
        aside.push(format!(".{}", std::process::id()));
        if !names_us(&self.0) || fs::rename(&self.0, &aside).is_err() {
            return;
        }
        if !names_us(Path::new(&aside)) {
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
}
