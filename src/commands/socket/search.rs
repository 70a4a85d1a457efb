//! Looks for the control socket of a service: where its configuration says, where a service without `[control]` puts it, where
//! units have it. Refuses to choose among services of which any may be meant, and says which sockets there are instead.

use std::collections::BTreeSet;
use std::env;
use std::fs::{self, File};
use std::io::{ErrorKind, Read};
use std::path::{self, Path, PathBuf};

use super::{NAME, PREFIX, RUN, SUFFIX, entries, folders, paths};
use crate::config;
use crate::control::{Client, ControlError};
use crate::sys::pass;

/// Where the units look for configurations.
const ETC: &str = "/etc/tuningfork";
/// The largest configuration file that is searched for its control socket, bytes.
const MAX_CONFIG: u64 = config::MAX_BYTES as u64;
/// The kernel's list of unix sockets (proc(5)), and how much of it is read, bytes.
const OPEN_SOCKETS: &str = "/proc/net/unix";
const MAX_LIST: u64 = 16 << 20;
/// How many of them are tried to be named in a message.
const MAX_NAMED: usize = 16;

/// The configuration of who names none.
const DEFAULT: &str = "tuningfork.toml";

/// Connects to the service of the socket `named`, or of the configuration file `config`, and then to no other. Without both to that of
/// the default file, or, where there is no such file, to the one that `tuningfork gunicorn` started in this folder.
pub(in crate::commands) fn connect(config: Option<&Path>, named: Option<&Path>) -> Result<Client, ControlError> {
    if let Some(named) = named {
        return Client::connect(named);
    }
    let path = config.unwrap_or(Path::new(DEFAULT));
    let folders = folders_of(path);
    let stages = stages(path, &folders);
    let of_the_file = first_of(&stages)?;
    let beside = if config.is_none() { beside(&folders) } else { Ok(Vec::new()) };
    // Whom we may not ask is not meant, if there is one whom we may.
    let beside = if of_the_file.is_some() { beside.unwrap_or_default() } else { beside? };
    match choose(of_the_file, beside, path.exists())? {
        Some(client) => Ok(client),
        None => Err(not_found(path, stages.into_iter().flatten().collect())),
    }
}

/// The service of the file or, if there is no file, the only one beside it. Whoever names nothing would not know which one it stops.
fn choose(of_the_file: Option<Found>, beside: Vec<Found>, is_file: bool) -> Result<Option<Client>, ControlError> {
    let is_beside = of_the_file.is_none();
    let mut meant: Vec<Found> = of_the_file.into_iter().chain(beside).collect();
    if meant.len() > 1 {
        return Err(ControlError::Several { sockets: meant.into_iter().map(|found| found.place).collect() });
    }
    Ok(meant.pop().filter(|_| !(is_beside && is_file)).map(|found| found.client))
}

/// Services of command lines in these folders, each once: a folder may hold a link to what is in another.
fn beside(folders: &[PathBuf]) -> Result<Vec<Found>, ControlError> {
    let places = folders.iter().flat_map(|folder| of_command_lines(folder));
    let distinct: BTreeSet<_> = places.filter_map(|place| place.canonicalize().ok()).collect();
    living(distinct.into_iter())
}

/// Folders that the sockets of a configuration's service may be in, best first.
fn folders_of(config: &Path) -> Vec<PathBuf> {
    // [control] may be new in the file, and the service older. But $RUNTIME_DIRECTORY is not the service's then: it is that of a
    // unit which asks about this one.
    let is_configured = configured(config).is_some();
    let variable = |name: &str| env::var_os(name).filter(|_| !is_configured || name != "RUNTIME_DIRECTORY");
    let [file, given] = paths(config);
    let alias = Some(&given).filter(|given| **given != file);
    let all = [&file].into_iter().chain(alias).flat_map(|path| folders(path, variable, pass::own_user()));
    let mut distinct = Vec::new();
    for folder in all {
        if !distinct.contains(&folder) {
            distinct.push(folder);
        }
    }
    distinct
}

/// Where the file's service may be, best first; what is equally good together.
fn stages(config: &Path, folders: &[PathBuf]) -> Vec<Vec<PathBuf>> {
    let configured = configured(config).into_iter();
    let mut stages: Vec<_> =
        configured.chain(folders.iter().map(|folder| folder.join(NAME))).map(|socket| vec![socket]).collect();
    stages.push(of_units(config, Path::new(ETC)));
    stages
}

/// Somebody who listens, and where.
struct Found {
    place: PathBuf,
    client: Client,
}

/// The one of the first stage that has one. A refusal counts if no later stage has any.
fn first_of(stages: &[Vec<PathBuf>]) -> Result<Option<Found>, ControlError> {
    let mut refusal = None;
    for stage in stages {
        match only_one(stage) {
            Ok(Some(found)) => return Ok(Some(found)),
            Ok(None) => {}
            Err(error) => refusal = refusal.or(Some(error)),
        }
    }
    refusal.map_or(Ok(None), Err)
}

/// The one of these sockets that somebody listens on.
fn only_one(places: &[PathBuf]) -> Result<Option<Found>, ControlError> {
    let mut alive = living(places.iter().cloned())?;
    if alive.len() > 1 {
        return Err(ControlError::Several { sockets: alive.into_iter().map(|found| found.place).collect() });
    }
    Ok(alive.pop())
}

/// Those that somebody listens on. One that nobody does was left behind.
fn living(places: impl Iterator<Item = PathBuf>) -> Result<Vec<Found>, ControlError> {
    let mut alive = Vec::new();
    for place in places {
        match Client::connect(&place) {
            Ok(client) => alive.push(Found { place, client }),
            Err(ControlError::Unreachable { source, .. }) if source.kind() != ErrorKind::PermissionDenied => {}
            Err(error) => return Err(error),
        }
    }
    Ok(alive)
}

/// Why there is none, with what could have been meant.
fn not_found(config: &Path, places: Vec<PathBuf>) -> ControlError {
    let others = open_sockets().into_iter().filter(|socket| Client::connect(socket).is_ok()).collect();
    match File::open(config) {
        Ok(_) => ControlError::NotFound { config: config.to_owned(), places, others },
        Err(source) => ControlError::NoConfig { config: config.to_owned(), source, others },
    }
}

/// What the configuration says, however wrong the rest of it may be: a service whose new configuration is broken still runs.
fn configured(config: &Path) -> Option<PathBuf> {
    let about = fs::metadata(config).ok().filter(|about| about.is_file() && about.len() <= MAX_CONFIG)?;
    let text = fs::read_to_string(config).ok().filter(|_| about.is_file())?;
    let directory = config.canonicalize().ok()?.parent()?.to_owned();
    config::control_socket(&text, &directory)
}

/// Sockets of services that were started by a command line, and put theirs into `folder`.
fn of_command_lines(folder: &Path) -> Vec<PathBuf> {
    entries(folder).filter(|path| is_of_a_command_line(path)).collect()
}

fn is_of_a_command_line(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(PREFIX) && name.ends_with(SUFFIX))
}

/// Sockets of the units that run a configuration: `tuningfork@NAME` reads NAME.toml in the folder `etc`, which may be a link.
fn of_units(config: &Path, etc: &Path) -> Vec<PathBuf> {
    let file = config.canonicalize().ok();
    let is_meant = |entry: &PathBuf| file.is_some() && entry.canonicalize().ok() == file;
    let named = path::absolute(config).ok().filter(|path| path.parent() == Some(etc));
    let mut units: Vec<PathBuf> = entries(etc).filter(is_meant).chain(named).collect();
    units.sort();
    units.dedup();
    units.retain(|unit| unit.extension().is_some_and(|extension| extension == "toml"));
    units.iter().filter_map(|unit| unit.file_stem()).map(|name| Path::new(RUN).join(name).join(NAME)).collect()
}

/// Sockets with the names of ours that somebody listens on.
fn open_sockets() -> Vec<PathBuf> {
    let mut list = String::new();
    if let Ok(file) = File::open(OPEN_SOCKETS) {
        // Names are bytes: where one is no text, those before it are enough.
        file.take(MAX_LIST).read_to_string(&mut list).ok();
    }
    let mut found: Vec<PathBuf> = listened_on(&list).map(PathBuf::from).collect();
    found.retain(|path| path.is_absolute() && (path.file_name().is_some_and(|name| name == NAME) || is_of_a_command_line(path)));
    found.sort();
    found.dedup();
    found.truncate(MAX_NAMED);
    found
}

/// The paths in the kernel's list that connections are accepted at: number, references, protocol, flags, type, state, inode, path.
fn listened_on(list: &str) -> impl Iterator<Item = &str> {
    const ACCEPTS: &str = "00010000";
    list.lines().filter_map(|line| {
        let path = line.split_whitespace().nth(7)?;
        let accepts = line.split_whitespace().nth(3) == Some(ACCEPTS);
        // A path may hold spaces.
        accepts.then(|| line.get(line.find(path)?..)).flatten()
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_broken_configuration_still_tells_its_socket() {
        let directory = Path::new("/srv");
        let told = |text: &str| config::control_socket(text, directory);
        assert_eq!(told("workers = \"many\"\n[control]\nsocket = \"c.sock\"\n"), Some("/srv/c.sock".into()));
        assert_eq!(told("[app\n[control]\nsocket = \"unix:/run/c.sock\"\n"), Some("/run/c.sock".into()));
        assert_eq!(told("[control]\nsocket = 1\n"), None);
        assert_eq!(told("[control]\n"), None);
    }

    #[test]
    fn a_unit_is_found_by_its_file_and_by_what_that_is_a_link_to() {
        let folder = tempfile::tempdir().unwrap();
        let (etc, srv) = (folder.path().join("etc"), folder.path().join("srv"));
        fs::create_dir(&etc).unwrap();
        fs::create_dir(&srv).unwrap();
        fs::write(srv.join("tuningfork.toml"), "").unwrap();
        fs::write(etc.join("blog.toml"), "").unwrap();
        fs::write(etc.join("blog.toml~"), "").unwrap();
        symlink(srv.join("tuningfork.toml"), etc.join("shop.toml")).unwrap();
        let shop = [PathBuf::from("/run/tuningfork/shop/control.sock")];
        assert_eq!(of_units(&etc.join("shop.toml"), &etc), shop);
        assert_eq!(of_units(&srv.join("tuningfork.toml"), &etc), shop);
        assert_eq!(of_units(&etc.join("blog.toml"), &etc), [PathBuf::from("/run/tuningfork/blog/control.sock")]);
        // The file is gone, the unit runs.
        assert_eq!(of_units(&etc.join("gone.toml"), &etc), [PathBuf::from("/run/tuningfork/gone/control.sock")]);
        assert!(of_units(&srv.join("gone.toml"), &etc).is_empty());
    }

    #[test]
    fn two_services_that_may_be_meant_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let [left, right, dead] = ["control-a.sock", "control-b.sock", "control-c.sock"].map(|name| folder.path().join(name));
        let first = UnixListener::bind(&left).unwrap();
        drop(UnixListener::bind(&dead).unwrap());
        assert!(only_one(&of_command_lines(folder.path())).unwrap().is_some());
        let _second = UnixListener::bind(&right).unwrap();
        let Err(ControlError::Several { mut sockets }) = only_one(&of_command_lines(folder.path())).map(|_| ()) else {
            panic!("it chose one")
        };
        sockets.sort();
        assert_eq!(sockets, [left.clone(), right]);
        drop(first);
        assert!(only_one(&of_command_lines(folder.path())).unwrap().is_some());
        assert!(only_one(&[dead]).unwrap().is_none());
    }

    #[test]
    fn the_service_beside_a_file_is_never_taken_for_that_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let (file, beside) = (folder.path().join(NAME), folder.path().join("control-a.sock"));
        let _listeners = [&file, &beside].map(|path| UnixListener::bind(path).unwrap());
        symlink(&beside, folder.path().join("control-link.sock")).unwrap();
        let of_the_file = || only_one(std::slice::from_ref(&file)).unwrap();
        let beside = || super::beside(&[folder.path().to_owned(), folder.path().to_owned()]).unwrap();
        assert_eq!(beside().len(), 1);
        assert!(choose(None, beside(), false).unwrap().is_some());
        assert!(choose(None, beside(), true).unwrap().is_none());
        assert!(choose(of_the_file(), Vec::new(), true).unwrap().is_some());
        assert!(matches!(choose(of_the_file(), beside(), true), Err(ControlError::Several { .. })));
    }

    #[test]
    fn only_sockets_that_accept_are_in_the_list() {
        let list = "Num       RefCount Protocol Flags    Type St Inode Path\n\
            ffff: 00000002 00000000 00010000 0001 01 1001 /run/a folder/control.sock\n\
            ffff: 00000003 00000000 00000000 0001 03 1002 /run/b/control.sock\n\
            ffff: 00000002 00000000 00010000 0001 01 1003\n\
            ffff: 00000002 00000000 00010000 0001 01 1004 @abstract\n";
        assert_eq!(listened_on(list).collect::<Vec<_>>(), ["/run/a folder/control.sock", "@abstract"]);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        let _listener = UnixListener::bind(&path).unwrap();
        let kernels = fs::read_to_string(OPEN_SOCKETS).unwrap();
        assert!(listened_on(&kernels).any(|listed| Path::new(listed) == path));
    }
}
