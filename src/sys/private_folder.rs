//! A folder that only we can enter, with a name nobody can guess, removed when it is dropped.

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::unistd::mkdtemp;

/// The folder (mkdtemp(3): mode 0700).
#[derive(Debug)]
pub struct PrivateFolder(PathBuf);

impl PrivateFolder {
    /// Makes it where temporary files go.
    pub fn make() -> io::Result<Self> {
        Ok(Self(mkdtemp(&env::temp_dir().join("tuningfork-XXXXXX"))?))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for PrivateFolder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            tracing::warn!(path = %self.0.display(), %error, "temporary folder not removed");
        }
    }
}
