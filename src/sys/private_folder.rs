//! A folder for sockets that only we can enter, with a name nobody can guess, removed when it is dropped. Those of processes that
//! were killed are removed when another is made. Refuses to remove what may be anybody else's.

use std::env;
use std::fs::{self, DirEntry, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::unistd::mkdtemp;
use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};

use super::pass::own_user;

/// How the name begins; letters and digits follow, as many as mkdtemp(3) wants.
const PREFIX: &str = "tuningfork-";
const LETTERS: &str = "XXXXXX";
/// The file whose lock says that the folder's maker lives: whoever holds it ends with it (flock(2)).
const LOCK: &str = "tuningfork.lock";
/// What is in it: whose folder it is.
const WORDS: &[u8] = b"A private folder of tuningfork: removed when the process that holds this file's lock has ended.\n";
/// Its name until it is locked, so that nobody takes a new folder for one that was left.
const UNLOCKED: &str = "tuningfork.lock.new";
/// The most entries beside it that are looked at.
const MAX_ENTRIES: usize = 10_000;

/// The folder (mkdtemp(3): mode 0700).
#[derive(Debug)]
pub struct PrivateFolder {
    path: PathBuf,
    _lock: File,
}

impl PrivateFolder {
    /// Makes it in the service's or the user's runtime directory, or where temporary files go.
    pub fn make() -> io::Result<Self> {
        let directory = |name| env::var_os(name).map(PathBuf::from).filter(|directory| directory.is_dir());
        let parent = directory("RUNTIME_DIRECTORY").or_else(|| directory("XDG_RUNTIME_DIR")).unwrap_or_else(env::temp_dir);
        Self::make_in(&parent)
    }

    fn make_in(parent: &Path) -> io::Result<Self> {
        remove_left(parent);
        let path = mkdtemp(&parent.join([PREFIX, LETTERS].concat()))?;
        let lock = lock(&path).inspect_err(|_| {
            fs::remove_dir_all(&path).ok();
        })?;
        Ok(Self { path, _lock: lock })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for PrivateFolder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "temporary folder not removed");
        }
    }
}

fn lock(folder: &Path) -> io::Result<File> {
    let mut lock = File::create_new(folder.join(UNLOCKED))?;
    lock.write_all(WORDS)?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive)?;
    fs::rename(folder.join(UNLOCKED), folder.join(LOCK))?;
    Ok(lock)
}

/// Removes what killed processes of ours left there. What cannot be removed is no reason not to start.
fn remove_left(parent: &Path) {
    let entries = fs::read_dir(parent).into_iter().flatten().take(MAX_ENTRIES).flatten();
    for entry in entries.filter(|entry| is_our_name(&entry.file_name().to_string_lossy())) {
        let path = entry.path();
        // In a folder of somebody else a lock says nothing.
        let is_ours = fs::symlink_metadata(&path)
            .is_ok_and(|about| about.is_dir() && about.uid() == own_user() && about.mode() & 0o022 == 0);
        if is_ours && is_left(&path) {
            remove(&path).ok();
        }
    }
}

fn is_our_name(name: &str) -> bool {
    let random = name.strip_prefix(PREFIX).filter(|random| random.len() == LETTERS.len());
    random.is_some_and(|random| random.bytes().all(|byte| byte.is_ascii_alphanumeric()))
}

/// Whether nobody holds its lock. What has none is no folder of this kind, or not finished.
fn is_left(folder: &Path) -> bool {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    open(folder.join(LOCK), flags, Mode::empty())
        .is_ok_and(|lock| flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok() && has_our_words(File::from(lock)))
}

fn has_our_words(lock: File) -> bool {
    let mut words = Vec::new();
    lock.take(WORDS.len() as u64 + 1).read_to_end(&mut words).is_ok() && words == WORDS
}

/// Removes a folder in which there is nothing but sockets and the lock. The lock goes last: without it nobody would try again.
fn remove(folder: &Path) -> io::Result<()> {
    let entries: Vec<DirEntry> = fs::read_dir(folder)?.take(MAX_ENTRIES).collect::<io::Result<_>>()?;
    let (locks, others): (Vec<_>, Vec<_>) = entries.into_iter().partition(|entry| entry.file_name() == LOCK);
    if !others.iter().all(|entry| entry.file_type().is_ok_and(|kind| kind.is_socket())) {
        return Err(io::ErrorKind::DirectoryNotEmpty.into());
    }
    others.iter().chain(&locks).try_for_each(|entry| fs::remove_file(entry.path()))?;
    fs::remove_dir(folder)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::os::unix::net::UnixDatagram;

    use super::*;

    #[test]
    fn folders_of_the_dead_are_removed_and_no_others() {
        let parent = tempfile::tempdir().unwrap();
        let at = |name: &str| parent.path().join(name);
        let living = PrivateFolder::make_in(parent.path()).unwrap();
        // As SIGKILL leaves one: its file, which nobody locks, and the socket it was made for.
        let made = |name: &str, lock: Option<(&str, &[u8])>| {
            fs::create_dir(at(name)).unwrap();
            fs::set_permissions(at(name), fs::Permissions::from_mode(0o711)).unwrap();
            drop(UnixDatagram::bind(at(name).join("notify")).unwrap());
            if let Some((lock, words)) = lock {
                fs::write(at(name).join(lock), words).unwrap();
            }
        };
        made("tuningfork-Dead01", Some((LOCK, WORDS)));
        made("tuningfork-Begun1", Some((UNLOCKED, WORDS)));
        made("tuningfork-None01", None);
        made("tuningfork-others", None);
        made("tuningfork-1000", Some((LOCK, WORDS)));
        made("tuningfork-Open01", Some((LOCK, WORDS)));
        fs::set_permissions(at("tuningfork-Open01"), fs::Permissions::from_mode(0o777)).unwrap();
        // Somebody's own, by chance of such a name.
        made("tuningfork-deploy", Some(("lock", b"")));
        made("tuningfork-backup", Some((LOCK, b"")));
        made("tuningfork-Files1", Some((LOCK, WORDS)));
        fs::write(at("tuningfork-Files1").join("notes"), "precious").unwrap();
        symlink(at("tuningfork-1000"), at("tuningfork-Link01")).unwrap();
        let another = PrivateFolder::make_in(parent.path()).unwrap();
        let mut left: Vec<String> =
            fs::read_dir(parent.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        let names = ["1000", "Begun1", "Files1", "Link01", "None01", "Open01", "backup", "deploy", "others"]
            .map(|name| format!("{PREFIX}{name}"));
        let living: Vec<_> =
            [&living, &another].map(|folder| folder.path().file_name().unwrap().to_string_lossy().into_owned()).into();
        let mut expected = [&names[..], &living].concat();
        left.sort_unstable();
        expected.sort_unstable();
        assert_eq!(left, expected);
    }

    #[test]
    fn it_goes_when_it_is_dropped() {
        let parent = tempfile::tempdir().unwrap();
        let folder = PrivateFolder::make_in(parent.path()).unwrap();
        assert!(!is_left(folder.path()));
        drop(folder);
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
    }
}
