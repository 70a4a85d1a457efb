//! A file that has no name before it is finished: of a program that is killed meanwhile nothing is left (O_TMPFILE, open(2)). Refuses
//! where the file system has no such files, as NFS, or /proc is not there.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, open};

/// A file in `folder`, readable by its owner only.
pub fn create(folder: &Path) -> io::Result<File> {
    let file = File::from(open(folder, OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR)?);
    // A name that cannot be given is not missed before the end otherwise.
    link(&file).try_exists()?.then_some(file).ok_or_else(|| io::ErrorKind::Unsupported.into())
}

/// Gives it a name that nothing has.
pub fn name(file: &File, path: &Path) -> io::Result<()> {
    Ok(linkat(CWD, link(file), CWD, path, AtFlags::SYMLINK_FOLLOW)?)
}

fn link(file: &File) -> PathBuf {
    format!("/proc/self/fd/{}", file.as_raw_fd()).into()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn it_is_not_there_before_it_has_a_name() {
        let folder = tempfile::tempdir().unwrap();
        let mut file = create(folder.path()).unwrap();
        file.write_all(b"hello").unwrap();
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        let path = folder.path().join("a");
        name(&file, &path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"hello");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(name(&create(folder.path()).unwrap(), &path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    }
}
