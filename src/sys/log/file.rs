//! Log files. As root it refuses to follow links that others may have laid: workers may write where their log is.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{self, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, ResolveFlags, Uid, fchown, unlinkat};
use rustix::io::Errno;

use crate::sys::pass::own_user;

/// Who may read a log file that is made, beside its owner: its group.
const MODE: u32 = 0o640;
/// The same of a worker's, before the umask: what Python makes files with.
const MODE_FOR_WORKERS: u32 = 0o666;

/// Opens a file to append to it. A FIFO that nobody reads is refused instead of waited for.
pub(super) fn append(path: &Path) -> io::Result<File> {
    open(path, OFlags::APPEND, MODE).map_err(|errno| match errno {
        Errno::NXIO if path.metadata().is_ok_and(|about| about.file_type().is_fifo()) => {
            io::Error::other("it is a FIFO that nobody reads: start its reader first")
        }
        other => in_words(other),
    })
}

/// Makes a file that workers are to write, who may not be able to where it is, and gives it to them. One that is there stays as it is.
pub(in crate::sys) fn make_for(path: &Path, uid: u32, gid: u32) -> io::Result<()> {
    match open(path, OFlags::EXCL, MODE_FOR_WORKERS) {
        // As ours it would keep them out, and be taken for theirs the next time.
        Ok(file) => fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))).map_err(|errno| {
            remove(path).ok();
            errno.into()
        }),
        Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(in_words(errno)),
    }
}

fn open(path: &Path, more: OFlags, permissions: u32) -> Result<File, Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NONBLOCK | OFlags::CLOEXEC | more;
    let path = absolute(path)?;
    rustix::fs::openat2(CWD, &path, flags, Mode::from_raw_mode(permissions), links(&path)).map(File::from)
}

/// Where others may lay links, one that was laid meanwhile leads nowhere.
fn remove(path: &Path) -> Result<(), Errno> {
    let path = absolute(path)?;
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return Err(Errno::INVAL) };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = rustix::fs::openat2(CWD, folder, flags, Mode::empty(), links(&path))?;
    unlinkat(folder, name, AtFlags::empty())
}

fn absolute(path: &Path) -> Result<PathBuf, Errno> {
    path::absolute(path).map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::INVAL))
}

fn links(path: &Path) -> ResolveFlags {
    if own_user() == 0 && others_may_link(path) { ResolveFlags::NO_SYMLINKS } else { ResolveFlags::empty() }
}

fn in_words(errno: Errno) -> io::Error {
    if errno == Errno::LOOP {
        return io::Error::other(
            "it, or a folder above it, is a symbolic link where others than root may write: name the file itself, or make the folders root's",
        );
    }
    errno.into()
}

/// Whether others than root may change what a path leads to: as it is written, or as it is without links.
fn others_may_link(path: &Path) -> bool {
    let is_roots = |folder: &Path| folder.metadata().is_ok_and(|about| about.uid() == 0 && about.mode() & 0o022 == 0);
    let real = path.parent().and_then(|folder| folder.canonicalize().ok());
    let written = path.ancestors().skip(1);
    !written.chain(real.iter().flat_map(|folder| folder.ancestors())).all(is_roots)
}

#[cfg(test)]
mod tests {
    use std::{fs, thread};

    use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

    use super::*;

    #[test]
    fn root_follows_no_link_that_others_may_have_laid() {
        let folder = tempfile::tempdir().unwrap();
        let [target, path] = ["precious", "a.log"].map(|name| folder.path().join(name));
        fs::write(&target, "").unwrap();
        std::os::unix::fs::symlink(&target, &path).unwrap();
        // Others may write to /tmp, so that they could have.
        assert!(others_may_link(&path) && !others_may_link(Path::new("/dev/stderr")));
        let is_root = own_user() == 0;
        let opened = append(&path);
        assert_eq!(opened.is_err(), is_root, "{opened:?}");
        if is_root {
            assert!(opened.unwrap_err().to_string().contains("symbolic link"));
        }
        // A link that leads nowhere yet is not followed either.
        fs::remove_file(&target).unwrap();
        make_for(&path, own_user(), 0).ok();
        assert!(!target.exists());
    }

    #[test]
    fn a_fifo_that_nobody_reads_is_told_to_be_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("fifo");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
        assert!(append(&path).unwrap_err().to_string().contains("a FIFO that nobody reads"));
    }

    #[test]
    fn a_file_that_is_there_stays_whose_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("error.log");
        fs::write(&path, "old\n").unwrap();
        let (us, ours) = (own_user(), path.metadata().unwrap().gid());
        make_for(&path, us + 1, ours).unwrap();
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), path.metadata().unwrap().uid()), ("old\n", us));
        fs::remove_file(&path).unwrap();
        let other = if us == 0 { 65_534 } else { us };
        make_for(&path, other, ours).unwrap();
        assert_eq!(path.metadata().unwrap().uid(), other);
        assert!(make_for(&folder.path().join("no/error.log"), us, ours).is_err());
    }

    #[test]
    fn a_file_that_cannot_be_given_is_not_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("error.log");
        let (us, ours) = (own_user(), folder.path().metadata().unwrap().gid());
        // As in a user namespace that does not have the user: even root may not give files away. Of this thread only (capabilities(7)).
        let given = thread::scope(|scope| {
            let attempt = scope.spawn(|| {
                let mut may = capabilities(None).unwrap();
                may.effective.remove(CapabilitySet::CHOWN);
                set_capabilities(None, may).unwrap();
                make_for(&path, us + 1, ours)
            });
            attempt.join().unwrap()
        });
        assert!(given.is_err() && !path.exists(), "{given:?}");
    }
}
