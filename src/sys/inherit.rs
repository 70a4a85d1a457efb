//! The sockets that were passed to this process (LISTEN_FDS, sd_listen_fds(3)): by a socket unit, from the service manager's store, or by
//! the supervisor whose place it takes. Decides which of them serve; closes the others, and says which names the store can forget.

use std::fmt::Write as _;
use std::os::fd::{OwnedFd, RawFd};

use rustix::stdio::dup2_stderr;

use super::listen::{ListenError, Listener, Listeners, Origin, bind_address, own, own_file, private};
use crate::config::{Address, Listen};

/// The first descriptor systemd passes (SD_LISTEN_FDS_START).
const FIRST: RawFd = 3;
/// The most inherited descriptors taken.
const MAX_INHERITED: RawFd = 128;
/// How the names of our own begin, in the store and between supervisors. Every other name is a socket unit's.
const OURS: &str = "tuningfork-";

/// The name of the service's sockets.
pub const HTTP: &str = "tuningfork-http";
/// The name of the socket of `[metrics]`.
pub const METRICS: &str = "tuningfork-metrics";
/// The name of the socket of `[control]`.
pub const CONTROL: &str = "tuningfork-control";
/// The name of the connection to the supervisor whose place is taken.
pub const PREDECESSOR: &str = "tuningfork-predecessor";
/// The name of the standard error that a successor is to have: until it says that it is one of us, its words are its
/// predecessor's to tell.
pub const STDERR: &str = "tuningfork-stderr";
/// How the name of an inherited descriptor begins, before its number.
const DESCRIPTOR: &str = "tuningfork-fd-";

/// What LISTEN_PID, LISTEN_FDS and LISTEN_FDNAMES say. They are not handed on to any program that we start.
#[derive(Clone, Debug, Default)]
pub struct Variables {
    /// The process that was meant.
    pub pid: Option<String>,
    /// How many descriptors.
    pub fds: Option<String>,
    /// Their names, with `:` between them.
    pub names: Option<String>,
}

impl Variables {
    /// Reads them by `variable`.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Self {
        Self { pid: variable("LISTEN_PID"), fds: variable("LISTEN_FDS"), names: variable("LISTEN_FDNAMES") }
    }
}

/// What was passed and is not used yet.
#[derive(Debug, Default)]
pub struct Inherited {
    sockets: Vec<Listener>,
    /// The names beside them.
    names: Vec<String>,
    predecessor: Option<OwnedFd>,
    /// The sockets come from a predecessor.
    succeeds: bool,
    lapsed: Vec<String>,
}

impl Inherited {
    /// Takes over what was passed to this process; a standard error takes the place of ours. Refuses what a socket unit passes
    /// and is no listening stream socket. The same socket passed twice, by a socket unit and from the store, counts once.
    pub fn take(variables: &Variables) -> Result<Self, ListenError> {
        let mut inherited = Self::default();
        let meant = variables.pid.as_deref().and_then(|pid| pid.parse::<u32>().ok());
        let count = variables.fds.as_deref().and_then(|count| count.parse::<RawFd>().ok()).unwrap_or(0);
        if meant != Some(std::process::id()) || count <= 0 {
            return Ok(inherited);
        }
        let mut names = variables.names.as_deref().unwrap_or_default().split(':');
        for fd in FIRST..FIRST + count.min(MAX_INHERITED) {
            inherited.sort_in(fd, names.next().unwrap_or_default().to_owned())?;
        }
        inherited.drop_copies();
        Ok(inherited)
    }

    fn sort_in(&mut self, number: RawFd, name: String) -> Result<(), ListenError> {
        if name == PREDECESSOR {
            self.predecessor = own(number).ok();
            self.succeeds = true;
            return Ok(());
        }
        if name == STDERR {
            // Without it we would speak to whoever leaves.
            own_file(number).ok().and_then(|fd| dup2_stderr(fd).ok());
            return Ok(());
        }
        let descriptor = name.strip_prefix(DESCRIPTOR).and_then(|number| number.parse().ok());
        let origin = match (name.as_str(), descriptor) {
            (_, Some(number)) => Origin::Descriptor(number),
            (HTTP | METRICS | CONTROL, None) => Origin::Stored,
            _ => Origin::Theirs(name.clone()),
        };
        let known = !name.starts_with(OURS) || !matches!(origin, Origin::Theirs(_));
        match own(number).and_then(|fd| Listener::received(fd, origin)) {
            Ok(listener) if known => {
                self.sockets.push(listener);
                self.names.push(name);
            }
            Err(error) if !name.starts_with(OURS) => return Err(error),
            // What another version put into the store.
            Ok(_) | Err(_) => self.lapsed.push(name),
        }
        Ok(())
    }

    /// A socket unit's come first: its copies from the store go.
    fn drop_copies(&mut self) {
        let (theirs, ours) = (0..self.sockets.len()).partition::<Vec<_>, _>(|at| self.is_theirs(*at));
        let mut seen = Vec::new();
        let mut dropped = Vec::new();
        for at in theirs.into_iter().chain(ours) {
            let inode = self.sockets[at].inode();
            if seen.contains(&inode) { dropped.push(at) } else { seen.push(inode) }
        }
        dropped.sort_unstable_by(|one, other| other.cmp(one));
        for at in dropped {
            self.drop_one(at);
        }
    }

    fn is_theirs(&self, at: usize) -> bool {
        matches!(self.sockets[at].origin(), Origin::Theirs(_))
    }

    fn drop_one(&mut self, at: usize) {
        self.sockets.remove(at);
        let name = self.names.remove(at);
        if name.starts_with(OURS) && !self.lapsed.contains(&name) {
            self.lapsed.push(name);
        }
    }

    /// The sockets of the service. Those of a socket unit take the place of all configured ones; else each address gets the socket that
    /// was kept for it, or is bound. Either all succeed, or none stays bound.
    pub fn listeners(&mut self, listen: &Listen) -> Result<Listeners, ListenError> {
        let mut listeners = self.none_yet(listen);
        if (0..self.sockets.len()).any(|at| self.is_theirs(at)) {
            while let Some(at) = (0..self.sockets.len()).find(|at| self.is_theirs(*at)) {
                self.names.remove(at);
                listeners.add(self.sockets.remove(at));
            }
        } else {
            for address in &listen.addresses {
                listeners.add(self.listener(address, listen, |name| name == HTTP || name.starts_with(DESCRIPTOR))?);
            }
        }
        self.forget(|name| name == HTTP || name.starts_with(DESCRIPTOR));
        Ok(listeners)
    }

    /// The socket of `[metrics]` or `[control]`, by its name: kept, or bound as `listen` says.
    pub fn one(&mut self, name: &str, listen: &Listen) -> Result<Listeners, ListenError> {
        let mut listeners = self.none_yet(listen);
        for address in &listen.addresses {
            listeners.add(self.listener(address, listen, |other| other == name)?);
        }
        self.forget(|other| other == name);
        Ok(listeners)
    }

    /// The same for an address of our own.
    pub fn private(&mut self, name: &str, address: &Address) -> Result<Listeners, ListenError> {
        self.one(name, &private(address))
    }

    /// Whether a predecessor has a socket of this name, not used yet: then it has what we would lack.
    #[must_use]
    pub fn succeeds_to(&self, name: &str) -> bool {
        self.succeeds && self.names.iter().any(|other| other == name)
    }

    fn none_yet(&self, listen: &Listen) -> Listeners {
        let listeners = Listeners::made_as(listen);
        if self.succeeds {
            listeners.lend();
        }
        listeners
    }

    fn listener(&mut self, address: &Address, listen: &Listen, fits: impl Fn(&str) -> bool) -> Result<Listener, ListenError> {
        let kept = (0..self.sockets.len()).find(|at| fits(&self.names[*at]) && self.sockets[*at].serves(address));
        match kept {
            Some(at) => {
                self.names.remove(at);
                Ok(self.sockets.remove(at))
            }
            // The numbers that the configuration means are others' in a successor.
            None if matches!(address, Address::Fd(_)) && self.succeeds => {
                let source = std::io::Error::other("a new fd:N needs a restart, an upgrade cannot pass it");
                Err(ListenError::Other { address: address.to_string(), source })
            }
            None => bind_address(address, listen),
        }
    }

    /// Closes what no address wants any more.
    fn forget(&mut self, wants: impl Fn(&str) -> bool) {
        while let Some(at) = (0..self.sockets.len()).find(|at| wants(&self.names[*at])) {
            self.drop_one(at);
        }
    }

    /// All of them, whatever their names: what a worker does with what its supervisor passes.
    #[must_use]
    pub fn into_listeners(mut self) -> Listeners {
        let mut listeners = Listeners::default();
        self.sockets.drain(..).for_each(|listener| listeners.add(listener));
        listeners
    }

    /// The connection to the supervisor whose place is to be taken, if there is one.
    pub fn predecessor(&mut self) -> Option<OwnedFd> {
        self.predecessor.take()
    }

    /// Closes what is left. Gives the names under which the store keeps what nobody needs: what is used of the same name has to be
    /// stored again.
    #[must_use]
    pub fn into_lapsed(mut self) -> Vec<String> {
        self.forget(|_| true);
        self.lapsed
    }
}

/// The name that a socket has for a successor.
#[must_use]
pub fn name_of(listener: &Listener) -> String {
    match listener.origin() {
        Origin::Ours | Origin::Stored => HTTP.to_owned(),
        Origin::Descriptor(number) => {
            let mut name = DESCRIPTOR.to_owned();
            write!(name, "{number}").expect("invariant: a String takes everything");
            name
        }
        Origin::Theirs(name) => name.clone(),
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};
    use std::os::fd::IntoRawFd;
    use std::os::unix::net::UnixListener;
    use std::path::Path;

    use super::*;

    fn passed(sockets: Vec<(&str, OwnedFd)>) -> Result<Inherited, ListenError> {
        let mut inherited = Inherited::default();
        for (name, fd) in sockets {
            inherited.sort_in(fd.into_raw_fd(), name.to_owned())?;
        }
        inherited.drop_copies();
        Ok(inherited)
    }

    fn listen(addresses: &[Address]) -> Listen {
        Listen { addresses: addresses.to_vec(), backlog: 16, mode: 0o600, owner: None }
    }

    fn tcp() -> (TcpListener, Address) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, Address::Tcp { host: "localhost".into(), port })
    }

    fn unix(path: &Path) -> (UnixListener, Address) {
        (UnixListener::bind(path).unwrap(), Address::Unix(path.to_owned()))
    }

    fn copy(socket: &TcpListener) -> OwnedFd {
        socket.try_clone().unwrap().into()
    }

    #[test]
    fn what_was_stored_is_matched_by_address_and_the_rest_is_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let ((kept, address), (unwanted, _)) = (tcp(), tcp());
        let (file, path) = unix(&folder.path().join("web.sock"));
        let mut inherited =
            passed(vec![(HTTP, unwanted.into()), (HTTP, copy(&kept)), (HTTP, file.into()), ("tuningfork-shop", kept.into())])
                .unwrap();
        let listeners = inherited.listeners(&listen(&[path.clone(), address])).unwrap();
        assert_eq!(listeners.all().len(), 2);
        assert!(listeners.all().iter().all(|listener| *listener.origin() == Origin::Stored));
        assert_eq!(listeners.all()[0].address(), &path);
        assert_eq!(inherited.into_lapsed(), ["tuningfork-shop", HTTP]);
        drop(listeners);
        assert!(!folder.path().join("web.sock").exists(), "a socket file of ours is removed at the end");
    }

    #[test]
    fn a_successor_removes_a_file_of_its_predecessor_only_once_the_service_is_its() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("web.sock");
        let (socket, address) = unix(&path);
        let (listen, bound) = (listen(&[address, Address::Unix(folder.path().join("new.sock"))]), folder.path().join("new.sock"));
        for (takes_over, stays) in [(false, true), (true, false)] {
            let mut inherited = passed(vec![(HTTP, socket.try_clone().unwrap().into())]).unwrap();
            inherited.succeeds = true;
            let listeners = inherited.listeners(&listen).unwrap();
            assert!(bound.exists());
            if takes_over {
                listeners.own_files();
            }
            drop(listeners);
            assert_eq!((path.exists(), bound.exists()), (stays, false));
        }
    }

    #[test]
    fn a_stored_socket_whose_file_is_gone_is_bound_anew() {
        let folder = tempfile::tempdir().unwrap();
        let (file, path) = unix(&folder.path().join("web.sock"));
        std::fs::remove_file(folder.path().join("web.sock")).unwrap();
        let mut inherited = passed(vec![(HTTP, file.into())]).unwrap();
        let listeners = inherited.listeners(&listen(&[path])).unwrap();
        assert_eq!(listeners.all()[0].origin(), &Origin::Ours);
        assert_eq!(inherited.into_lapsed(), [HTTP]);
    }

    #[test]
    fn sockets_of_a_unit_take_the_place_of_all_and_count_once() {
        let ((unit, _), (_, configured)) = (tcp(), tcp());
        let metrics = tcp();
        let mut inherited =
            passed(vec![(HTTP, copy(&unit)), ("http", copy(&unit)), ("http", copy(&unit)), (METRICS, metrics.0.into())]).unwrap();
        let listeners = inherited.listeners(&listen(&[configured])).unwrap();
        assert_eq!(listeners.all().len(), 1);
        assert_eq!(listeners.all()[0].origin(), &Origin::Theirs("http".to_owned()));
        assert_eq!(name_of(&listeners.all()[0]), "http");
        assert_eq!(inherited.private(METRICS, &metrics.1).unwrap().all()[0].origin(), &Origin::Stored);
        assert_eq!(inherited.into_lapsed(), [HTTP]);
    }

    #[test]
    fn what_does_not_listen_is_refused_from_a_unit_and_forgotten_from_the_store() {
        let datagram = || UdpSocket::bind("127.0.0.1:0").unwrap().into();
        assert!(matches!(passed(vec![("http", datagram())]), Err(ListenError::NotListening { .. })));
        assert_eq!(passed(vec![(HTTP, datagram())]).unwrap().into_lapsed(), [HTTP]);
    }

    #[test]
    fn an_inherited_descriptor_is_found_again_by_its_number() {
        let (socket, _) = tcp();
        let mut inherited = passed(vec![("tuningfork-fd-7", socket.into())]).unwrap();
        let listeners = inherited.listeners(&listen(&[Address::Fd(7)])).unwrap();
        assert_eq!(name_of(&listeners.all()[0]), "tuningfork-fd-7");
    }

    #[test]
    fn what_was_meant_for_another_process_is_left_alone() {
        let variables = |pid: u32| Variables { pid: Some(pid.to_string()), fds: Some("1".into()), names: None };
        assert!(Inherited::take(&variables(1)).unwrap().into_listeners().all().is_empty());
        let none = Variables { fds: Some("0".into()), ..variables(std::process::id()) };
        assert!(Inherited::take(&none).unwrap().into_listeners().all().is_empty());
    }
}
