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
    /// Makes it in the service's or the user's runtime directory, or where temporary files go.
    pub fn make() -> io::Result<Self> {
        let directory = |name| env::var_os(name).map(PathBuf::from).filter(|directory| directory.is_dir());
        let parent = directory("RUNTIME_DIRECTORY").or_else(|| directory("XDG_RUNTIME_DIR")).unwrap_or_else(env::temp_dir);
        Ok(Self(mkdtemp(&parent.join("tuningfork-XXXXXX"))?))
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
