//! One demo worker without a supervisor. A few lines of Python hand it its socket, as systemd would.

use std::ops::{Deref, DerefMut};
use std::process::Command;

use tempfile::TempDir;

use super::PATIENCE;
use super::http::{self, Address, Client, Reply};
use super::journal::Journal;
use super::parts;
use super::process::Watched;

/// Binds the unix socket argv[1] or a free port of 127.0.0.1, says where on stderr, becomes argv[2:].
const HAND_OVER: &str = r#"
import os, socket, sys
if sys.argv[1]:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(sys.argv[1])
else:
    listener = socket.create_server(("127.0.0.1", 0))
listener.listen(64)
name = listener.getsockname()
print("listening", name if isinstance(name, str) else "%s:%d" % name, file=sys.stderr, flush=True)
os.dup2(os.dup(listener.fileno()), 3)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(sys.argv[2], sys.argv[2:])
"#;

/// A worker to be started.
pub(crate) struct LoneWorker {
    directory: TempDir,
    arguments: Vec<String>,
    env: Vec<(&'static str, String)>,
    unix: bool,
}

/// A worker that was started.
pub(crate) struct Started {
    watched: Watched,
    address: Address,
    _directory: TempDir,
}

impl LoneWorker {
    /// A worker with fault paths and `connections` connections.
    pub(crate) fn with_connections(connections: u32) -> Self {
        let directory = tempfile::tempdir().expect("make a directory");
        let steer = directory.path().display().to_string();
        let arguments = ["demo-worker", "--faults", "--connections", &connections.to_string(), "--steer", &steer];
        Self { arguments: arguments.map(str::to_owned).to_vec(), directory, env: Vec::new(), unix: false }
    }

    /// Writes a file that steers the boot.
    pub(crate) fn steer(self, name: &str, content: &str) -> Self {
        std::fs::write(self.directory.path().join(name), content).expect("write a file that steers");
        self
    }

    /// Sets a variable.
    pub(crate) fn env(mut self, name: &'static str, value: &str) -> Self {
        self.env.push((name, value.to_owned()));
        self
    }

    /// Adds an argument.
    pub(crate) fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// On a unix socket instead of TCP.
    pub(crate) fn on_unix_socket(mut self) -> Self {
        self.unix = true;
        self
    }

    /// Starts it; what it says goes to the journal.
    pub(crate) fn start(self) -> Started {
        let journal = Journal::default();
        let notify = self.directory.path().join("notify");
        journal.hear(&notify);
        let socket = self.unix.then(|| self.directory.path().join("socket"));
        let mut command = Command::new(parts::system_python());
        command.args(["-c", HAND_OVER]).arg(socket.as_deref().unwrap_or("".as_ref()));
        command.arg(env!("CARGO_BIN_EXE_tuningfork")).args(&self.arguments).env("NOTIFY_SOCKET", notify).envs(self.env);
        let mut watched = Watched::start(command, journal);
        let place = watched
            .wait("where it listens", |lines| lines.iter().find_map(|line| line.strip_prefix("listening ").map(str::to_owned)));
        let address = socket.map_or(Address::Tcp(place), Address::Unix);
        Started { watched, address, _directory: self.directory }
    }

    /// Starts it and waits until it is ready.
    pub(crate) fn ready(self) -> Started {
        let mut started = self.start();
        started.await_notice("READY=1");
        started
    }
}

impl Started {
    /// Waits until it has sent this assignment.
    pub(crate) fn await_notice(&mut self, assignment: &str) {
        let wanted = format!("notify: {assignment}");
        self.watched.wait(assignment, |lines| lines.contains(&wanted).then_some(()));
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    /// A GET that has to be answered.
    pub(crate) fn get(&self, path: &str) -> Reply {
        http::get(&self.address, path).unwrap_or_else(|error| panic!("GET {path}: {error}\n{}", self.watched.said()))
    }

    /// A connection to it.
    pub(crate) fn connect(&self) -> Client {
        Client::connect(&self.address, PATIENCE).expect("connect to the worker")
    }
}

impl Deref for Started {
    type Target = Watched;

    fn deref(&self) -> &Watched {
        &self.watched
    }
}

impl DerefMut for Started {
    fn deref_mut(&mut self) -> &mut Watched {
        &mut self.watched
    }
}
