//! Where the control socket of a service is: as its configuration says, or where a service without `[control]` puts it. The service and
//! who looks for it go through the same list. Refuses folders that others could have made.

use std::env;
use std::ffi::OsString;
use std::fs::{self, DirBuilder};
use std::hash::Hasher;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{self, Path, PathBuf};

use siphasher::sip::SipHasher13;

use crate::config;
use crate::control::{Client, ControlError};
use crate::sys::pass;

/// The socket's file name.
const NAME: &str = "control.sock";
/// Folders above the socket: those of services of root, and of units with `RuntimeDirectory=tuningfork/%i`.
const RUN: &str = "/run/tuningfork";
/// Where the units look for configurations.
const ETC: &str = "/etc/tuningfork";
/// The largest configuration file that is searched for its control socket, bytes.
const MAX_CONFIG: u64 = config::MAX_BYTES as u64;

/// Connects to the service of the configuration file `config`, or of the socket `named`.
pub(super) fn connect(config: &Path, named: Option<&Path>) -> Result<Client, ControlError> {
    if let Some(named) = named {
        return Client::connect(named);
    }
    if let Some(configured) = configured(config) {
        return Client::connect(&configured);
    }
    let places = places(config, |name| env::var_os(name), pass::own_user());
    let service_of_a_unit = unit_folder(config).map(|folder| folder.join(NAME));
    let places: Vec<_> = places.into_iter().map(|folder| folder.join(NAME)).chain(service_of_a_unit).collect();
    // A socket that nobody listens on was left behind: the next may be alive.
    let connected = places.iter().filter(|place| place.exists()).find_map(|place| Client::connect(place).ok());
    connected.ok_or_else(|| ControlError::NotFound { config: config.to_owned(), places })
}

/// Where a service without `[control]` makes its socket: the first of these that can be made. Makes the folder.
pub(super) fn default_place(config: &Path) -> Option<PathBuf> {
    let places = places(config, |name| env::var_os(name), pass::own_user());
    places.into_iter().find(|folder| make(folder)).map(|folder| folder.join(NAME))
}

/// Takes away the folder that was made for the socket, if nothing else is in it.
pub(super) fn leave(config: &Path) {
    let systemds = env::var_os("RUNTIME_DIRECTORY").is_some();
    let own = places(config, |name| env::var_os(name), pass::own_user()).into_iter().skip(usize::from(systemds));
    for folder in own {
        // Most are not there.
        fs::remove_dir(folder).ok();
    }
}

/// What the configuration says, however wrong the rest of it may be: a service whose new configuration is broken still runs.
fn configured(config: &Path) -> Option<PathBuf> {
    let about = fs::metadata(config).ok().filter(|about| about.is_file() && about.len() <= MAX_CONFIG)?;
    let text = fs::read_to_string(config).ok().filter(|_| about.is_file())?;
    let directory = config.canonicalize().ok()?.parent()?.to_owned();
    config::control_socket(&text, &directory)
}

/// The folders a socket may be in, best first, by the environment and the user.
fn places(config: &Path, variable: impl Fn(&str) -> Option<OsString>, user: u32) -> Vec<PathBuf> {
    let name = name(config);
    let runtime = variable("RUNTIME_DIRECTORY").and_then(|folders| env::split_paths(&folders).next());
    let session = variable("XDG_RUNTIME_DIR").map(|folder| PathBuf::from(folder).join("tuningfork").join(&name));
    let own = if user == 0 { PathBuf::from(RUN) } else { env::temp_dir().join(format!("tuningfork-{user}")) };
    let all = runtime.into_iter().chain(session).chain([own.join(&name)]);
    all.filter(|folder| folder.is_absolute()).collect()
}

/// The configuration's name, for people, and a hash of its path, which tells it from others of that name.
fn name(config: &Path) -> String {
    // The service of a Gunicorn command line has no file; it is found as if it had one where it was started.
    let path = config.canonicalize().or_else(|_| path::absolute(config)).unwrap_or_else(|_| config.to_owned());
    let mut hasher = SipHasher13::new();
    hasher.write(path.as_os_str().as_bytes());
    let stem: String = path.file_stem().unwrap_or_default().to_string_lossy().chars().take(32).collect();
    format!("{stem}-{:08x}", hasher.finish() & 0xffff_ffff)
}

/// The runtime directory of the unit that runs a configuration, if it is where units look.
fn unit_folder(config: &Path) -> Option<PathBuf> {
    let path = config.canonicalize().ok()?;
    (path.parent() == Some(Path::new(ETC))).then(|| path.file_stem().map(|stem| Path::new(RUN).join(stem)))?
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
        let found = places(&config, variable, 1000);
        assert_eq!(found.len(), 2);
        assert!(found[0].starts_with(folder.path().join("tuningfork")), "{found:?}");
        assert!(found[0].file_name().unwrap().to_string_lossy().starts_with("shop-"), "{found:?}");
        assert!(found[1].starts_with(env::temp_dir().join("tuningfork-1000")), "{found:?}");
        assert!(places(&config, |_| None, 0)[0].starts_with(RUN));
        let other = folder.path().join("other");
        fs::create_dir(&other).unwrap();
        fs::write(other.join("shop.toml"), "").unwrap();
        assert_ne!(name(&config), name(&other.join("shop.toml")));
        assert!(make(&found[0]) && make(&found[0]));
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

    #[test]
    fn a_broken_configuration_still_tells_its_socket() {
        let directory = Path::new("/srv");
        let told = |text: &str| config::control_socket(text, directory);
        assert_eq!(told("workers = \"many\"\n[control]\nsocket = \"c.sock\"\n"), Some("/srv/c.sock".into()));
        assert_eq!(told("[app\n[control]\nsocket = \"unix:/run/c.sock\"\n"), Some("/run/c.sock".into()));
        assert_eq!(told("[control]\nsocket = 1\n"), None);
        assert_eq!(told("[control]\n"), None);
    }
}
