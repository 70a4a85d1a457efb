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
        put().map_err(|source| CommandError::CannotCreate { path: path.to_owned(), source })?;
        Ok(Self(path.to_owned()))
    }
}

impl Drop for Pidfile {
    /// A successor's stays.
    fn drop(&mut self) {
        let names_us = fs::read_to_string(&self.0).is_ok_and(|text| text.trim() == std::process::id().to_string());
        if names_us {
            fs::remove_file(&self.0).ok();
        }
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
        let ours = Pidfile::write(&path).unwrap();
        fs::write(&path, "1\n").unwrap();
        drop(ours);
        assert_eq!(fs::read_to_string(&path).unwrap(), "1\n");
        assert!(Pidfile::write(&folder.path().join("no/such/folder")).is_err());
    }
}
