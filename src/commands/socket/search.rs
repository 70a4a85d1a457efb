//! Looks for the control socket of a service: where its configuration says, where a service without `[control]` puts it, where
//! units have it. Refuses to choose among services of which any may be meant, and says which sockets there are instead.

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

/// Connects to the service of the configuration file `config`, or of the socket `named`.
pub(in crate::commands) fn connect(config: &Path, named: Option<&Path>) -> Result<Client, ControlError> {
    if let Some(named) = named {
        return Client::connect(named);
    }
    let stages = stages(config);
    let mut refusal = None;
    for stage in &stages {
        match only_one(stage) {
            Ok(Some(client)) => return Ok(client),
            Ok(None) => {}
            Err(error) => refusal = refusal.or(Some(error)),
        }
    }
    Err(refusal.unwrap_or_else(|| not_found(config, stages.into_iter().flatten().collect())))
}

/// Where the service may be, best first; what is equally good together.
fn stages(config: &Path) -> Vec<Vec<PathBuf>> {
    let configured = configured(config);
    // [control] may be new in the file, and the service older. But $RUNTIME_DIRECTORY is not the service's then: it is that of a unit which
    // asks about this one.
    let variable = |name: &str| env::var_os(name).filter(|_| configured.is_none() || name != "RUNTIME_DIRECTORY");
    let [file, given] = paths(config);
    let alias = Some(&given).filter(|given| **given != file);
    let folders = [&file].into_iter().chain(alias).flat_map(|path| folders(path, variable, pass::own_user()));
    let mut stages: Vec<Vec<PathBuf>> = configured.iter().map(|socket| vec![socket.clone()]).collect();
    for folder in folders {
        stages.push(vec![folder.join(NAME)]);
        stages.push(of_command_lines(&folder));
    }
    stages.push(of_units(config, Path::new(ETC)));
    stages
}

/// The one of these sockets that somebody listens on. One that nobody does was left behind.
fn only_one(places: &[PathBuf]) -> Result<Option<Client>, ControlError> {
    let mut alive = Vec::new();
    for place in places {
        match Client::connect(place) {
            Ok(client) => alive.push((place, client)),
            Err(ControlError::Unreachable { source, .. }) if source.kind() != ErrorKind::PermissionDenied => {}
            Err(error) => return Err(error),
        }
    }
    if alive.len() > 1 {
        return Err(ControlError::Several { sockets: alive.into_iter().map(|(place, _)| place.clone()).collect() });
    }
    Ok(alive.pop().map(|(_, client)| client))
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
        let Err(ControlError::Several { mut sockets }) = only_one(&of_command_lines(folder.path())) else {
            panic!("it chose one")
        };
        sockets.sort();
        assert_eq!(sockets, [left, right]);
        drop(first);
        assert!(only_one(&of_command_lines(folder.path())).unwrap().is_some());
        assert!(only_one(&[dead]).unwrap().is_none());
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
