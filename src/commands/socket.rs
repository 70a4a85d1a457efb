//! Where a service without `[control]` puts its control socket. Who looks for it (`search`) goes through the same list. Refuses
//! folders that others could have made.

mod search;

use std::env;
use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::hash::Hasher;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, symlink};
use std::path::{self, Path, PathBuf};

use siphasher::sip::SipHasher13;

use super::Source;
use crate::sys::pass;

pub(super) use search::connect;

/// The file name of the socket of a service that has a configuration file.
const NAME: &str = "control.sock";
/// What the file names of others begin and end with: services of command lines have no file, but each an address of its own.
const PREFIX: &str = "control-";
const SUFFIX: &str = ".sock";
/// How much of the address is in the name: what fits into a socket's path (unix(7): 108 bytes) below any of the folders.
const ADDRESS_BYTES: usize = 32;
/// How many entries of a folder are looked at.
const MAX_ENTRIES: usize = 1024;
/// Folders above the socket: those of services of root, and of units with `RuntimeDirectory=tuningfork/%i`.
const RUN: &str = "/run/tuningfork";

/// What `ctl --help` says of the places.
pub(super) const PLACES: &str = "\
Control socket:
  The service logs where it is when it starts (\"control\"). Without [control] in its configuration it is in the first
  of these folders that is there for it:
    $RUNTIME_DIRECTORY                     made by systemd for a unit with RuntimeDirectory=
    $XDG_RUNTIME_DIR/tuningfork/NAME-HASH  where a user is logged in
    /run/tuningfork/NAME-HASH              of root
    /tmp/tuningfork-UID/NAME-HASH          of everybody else; $TMPDIR, if set, takes the place of /tmp
  NAME-HASH is the name of the configuration file, and a hash of its path. By this, ctl finds the service again.
  A unit tuningfork@NAME is found by /etc/tuningfork/NAME.toml, and by the file that this is a link to. One with
  another RuntimeDirectory= is not: write --socket /run/FOLDER/control.sock.
  A service of `tuningfork gunicorn` is found in the folder where it was started, without -c, if there is no
  tuningfork.toml. What -c names is never another service. If there are two in the folder, say which by --socket,
  or give them sockets of your own with --control when they are started.";

/// Where a service without `[control]` makes its socket, in the first folder that can be made. Makes the folder. `address` is where the
/// service listens.
pub(super) fn default_place(source: &Source, address: &str) -> Option<PathBuf> {
    let [own, alias] = paths(&source.path());
    let first = |path: &Path| own_folders(path).into_iter().find(|folder| make(folder));
    let place = first(&own)?.join(file_name(source, address));
    // A new release turns a link on the way to the file: then only the path as it was given still leads here.
    if let Some(folder) = Some(alias).filter(|alias| *alias != own).and_then(|alias| first(&alias)) {
        point(&folder.join(file_name(source, address)), &place);
    }
    Some(place)
}

/// Makes a link, also in the place of one that was left behind.
fn point(alias: &Path, place: &Path) {
    if alias == place {
        return;
    }
    if alias.is_symlink() {
        fs::remove_file(alias).ok();
    }
    symlink(place, alias).ok();
}

/// The socket's file name.
fn file_name(source: &Source, address: &str) -> String {
    match source {
        Source::File(_) => NAME.to_owned(),
        Source::Gunicorn { .. } => name_of_address(address),
    }
}

fn name_of_address(address: &str) -> String {
    let address = address.strip_prefix("unix:").unwrap_or(address);
    let address = address.strip_suffix(SUFFIX).unwrap_or(address);
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-".contains(&byte);
    let plain: String = address.bytes().map(|byte| if is_plain(byte) { char::from(byte) } else { '_' }).collect();
    let begin = plain.len().saturating_sub(ADDRESS_BYTES);
    format!("{PREFIX}{}{SUFFIX}", plain[begin..].trim_start_matches('_'))
}

/// The folders that may be made for the socket of a service that starts now; systemd's own is not among them.
pub(super) fn to_leave(config: &Path) -> Vec<PathBuf> {
    let systemds = env::var_os("RUNTIME_DIRECTORY").is_some();
    paths(config).into_iter().flat_map(|path| own_folders(&path).into_iter().skip(usize::from(systemds))).collect()
}

/// Takes away folders that were made for the socket, if nothing else is in them.
pub(super) fn leave(folders: &[PathBuf]) {
    for folder in folders {
        // Most are not there.
        entries(folder).filter(|entry| entry.is_symlink() && !entry.exists()).for_each(|link| drop(fs::remove_file(link)));
        fs::remove_dir(folder).ok();
    }
}

fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().take(MAX_ENTRIES).map(|entry| entry.path())
}

/// The file that a configuration is, and its path as it was given. The service of a Gunicorn command line has no file; it is
/// found as if it had one where it was started.
fn paths(config: &Path) -> [PathBuf; 2] {
    let given = path::absolute(config).unwrap_or_else(|_| config.to_owned());
    [config.canonicalize().unwrap_or_else(|_| given.clone()), given]
}

fn own_folders(path: &Path) -> Vec<PathBuf> {
    folders(path, |name| env::var_os(name), pass::own_user())
}

/// The folders that the socket of the configuration of this path may be in, best first, by the environment and the user.
fn folders(path: &Path, variable: impl Fn(&str) -> Option<OsString>, user: u32) -> Vec<PathBuf> {
    let name = name(path);
    let runtime = variable("RUNTIME_DIRECTORY").and_then(|folders| env::split_paths(&folders).next());
    let session = variable("XDG_RUNTIME_DIR").map(|folder| PathBuf::from(folder).join("tuningfork").join(&name));
    let own = if user == 0 { PathBuf::from(RUN) } else { env::temp_dir().join(format!("tuningfork-{user}")) };
    let all = runtime.into_iter().chain(session).chain([own.join(&name)]);
    all.filter(|folder| folder.is_absolute()).collect()
}

/// The configuration's name, for people, and a hash of its path, which tells it from others of that name.
fn name(path: &Path) -> String {
    let mut hasher = SipHasher13::new();
    hasher.write(path.as_os_str().as_bytes());
    let stem: String = path.file_stem().unwrap_or_default().to_string_lossy().chars().take(32).collect();
    format!("{stem}-{:08x}", hasher.finish() & 0xffff_ffff)
}

/// Makes a folder that only we can enter, unless it is there. Whether it can be trusted.
fn make(folder: &Path) -> bool {
    let parent = folder.parent().unwrap_or(folder);
    // Others' services have theirs in /run/tuningfork too.
    let mode = if parent == Path::new(RUN) { 0o755 } else { 0o700 };
    DirBuilder::new().mode(mode).create(parent).ok();
    DirBuilder::new().mode(0o700).create(folder).ok();
    let ours = |path: &Path| {
        let about = fs::symlink_metadata(path).ok();
        about.is_some_and(|about| about.is_dir() && [0, pass::own_user()].contains(&about.uid()) && about.mode() & 0o022 == 0)
    };
    ours(folder) && (ours(parent) || env::var_os("RUNTIME_DIRECTORY").is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_and_who_looks_for_it_agree() {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("shop.toml");
        fs::write(&config, "").unwrap();
        let variable = |name: &str| (name == "XDG_RUNTIME_DIR").then(|| folder.path().as_os_str().to_owned());
        let found = folders(&config, variable, 1000);
        assert_eq!(found.len(), 2);
        assert!(found[0].starts_with(folder.path().join("tuningfork")), "{found:?}");
        assert!(found[0].file_name().unwrap().to_string_lossy().starts_with("shop-"), "{found:?}");
        assert!(found[1].starts_with(env::temp_dir().join("tuningfork-1000")), "{found:?}");
        assert!(folders(&config, |_| None, 0)[0].starts_with(RUN));
        assert_ne!(name(&config), name(&folder.path().join("other").join("shop.toml")));
        assert!(make(&found[0]) && make(&found[0]));
    }

    #[test]
    fn a_link_takes_the_place_of_a_link_and_of_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let [alias, left, right] = ["alias", "left", "right"].map(|name| folder.path().join(name));
        point(&alias, &left);
        point(&alias, &right);
        assert_eq!(fs::read_link(&alias).unwrap(), right);
        fs::write(&left, "").unwrap();
        point(&left, &right);
        point(&left, &left);
        assert!(!left.is_symlink());
    }

    #[test]
    fn services_of_command_lines_are_told_apart_by_their_addresses() {
        assert_eq!(name_of_address("127.0.0.1:8000"), "control-127.0.0.1_8000.sock");
        assert_eq!(name_of_address("[::1]:80"), "control-1__80.sock");
        assert_eq!(name_of_address("unix:/run/shop.sock"), "control-run_shop.sock");
        let [left, right] =
            ["blog", "shop"].map(|name| name_of_address(&format!("unix:/{}/é/{name}.sock", "folder/".repeat(20))));
        assert_ne!(left, right);
        assert!(left.len() <= PREFIX.len() + ADDRESS_BYTES + SUFFIX.len(), "{left}");
    }

    #[test]
    fn a_folder_that_others_can_write_is_not_trusted() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let squatted = folder.path().join("a").join("b");
        fs::create_dir_all(&squatted).unwrap();
        fs::set_permissions(&squatted, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(!make(&squatted));
        std::os::unix::fs::symlink(folder.path(), folder.path().join("link")).unwrap();
        assert!(!make(&folder.path().join("link")));
    }
}
