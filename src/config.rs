//! What is true about the service to run, once the file has been read and checked. Refuses what cannot work, all of it at once.
//! Pure: reading the file and asking the host are the caller's.

mod address;
mod app;
mod auto;
mod care;
mod check;
mod confinement;
mod control;
pub mod edit;
pub mod gunicorn;
mod hooks;
mod keys;
mod listen;
mod log;
mod problem;
mod python;
mod raw;
mod reader;
mod template;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use auto::{Machine, Origin};
pub use care::Care;
pub use confinement::{Affinity, Confinement, Limit, Limits};
pub use control::socket_in as control_socket;
pub use hooks::Hooks;
pub use problem::{Colour, ConfigErrors, MAX_PROBLEMS, Place, Problem};
pub use raw::MAX_BYTES;
pub use template::expand;

use crate::units::{Connections, Workers};

/// A checked configuration. Immutable: a reload makes a new one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// What a worker is.
    pub app: App,
    /// Where clients connect.
    pub listen: Listen,
    /// How many workers.
    pub workers: Workers,
    /// Who said so.
    pub workers_from: Origin,
    /// How many connections a worker serves at the same time.
    pub connections: Connections,
    /// How long the supervisor waits for what.
    pub timing: Timing,
    /// When workers that serve are renewed.
    pub care: Care,
    /// Who workers are and what they may use.
    pub confinement: Confinement,
    /// What runs when something happens to a worker.
    pub hooks: Hooks,
    /// Where our process id stands while we run, if anywhere; absolute.
    pub pidfile: Option<PathBuf>,
    /// Where Prometheus finds us, if anywhere.
    pub metrics: Option<Metrics>,
    /// Where a running service is asked and told, if anywhere.
    pub control: Option<Control>,
    /// How the log looks, and where it goes.
    pub log: Log,
}

impl Config {
    /// Reads and checks `text`, the content of `file`; the name is only shown.
    ///
    /// # Errors
    ///
    /// Every problem of the text. Where it is not TOML at all, only the lines that are not: the rest could not be trusted.
    pub fn parse(text: &str, file: &Path, surroundings: &Surroundings) -> Result<Self, ConfigErrors> {
        let mut problems = problem::Problems::new(text);
        let config = raw::read(text, &mut problems).and_then(|raw| check::config(&raw, surroundings, &mut problems));
        match config.filter(|_| problems.is_empty()) {
            Some(config) => Ok(config),
            None => Err(problems.into_errors(file)),
        }
    }

    /// What `newer` says otherwise, and a service that was started with this configuration takes on at its next restart or
    /// upgrade, not at a reload: sections and keys, as they are written.
    #[must_use]
    pub fn fixed_until_restart(&self, newer: &Self) -> Vec<&'static str> {
        let parts = [
            ("pidfile", self.pidfile != newer.pidfile),
            ("[listen]", self.listen != newer.listen),
            ("[metrics]", self.metrics != newer.metrics),
            ("[control]", self.control != newer.control),
            ("[log]", self.log != newer.log),
        ];
        parts.into_iter().filter(|(_, is_changed)| *is_changed).map(|(name, _)| name).collect()
    }

    /// The same service with another number of workers and connections; workers that serve one request at a time keep one connection.
    #[must_use]
    pub fn with(&self, workers: Workers, connections: Connections) -> Self {
        let connections = if self.app.collapses_connections() { Connections::ONE } else { connections };
        Self { workers, connections, ..self.clone() }
    }
}

/// The lines of a configuration file that say `workers` and `connections`.
#[must_use]
pub fn fragment(workers: Workers, connections: Connections) -> String {
    format!("workers = {workers}\nconnections = {connections}\n")
}

/// The kind of worker and how to start it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum App {
    /// Any program that would run as a socket-activated systemd service.
    Command(CommandApp),
    /// A Python application, forked from a zygote and run by Gunicorn's worker classes.
    Python(PythonApp),
}

impl App {
    /// Where workers run, absolute.
    #[must_use]
    pub fn directory(&self) -> &Path {
        match self {
            Self::Command(app) => &app.directory,
            Self::Python(app) => &app.directory,
        }
    }

    /// Whether a worker serves one request at a time whatever `connections` says, so that trying other numbers is pointless.
    #[must_use]
    pub fn collapses_connections(&self) -> bool {
        match self {
            Self::Command(_) => false,
            Self::Python(app) => app.worker_class == WorkerClass::Sync,
        }
    }

    /// The most cores that one worker can keep busy: one where the interpreter has a lock, extensions that let go of it apart, and
    /// infinite where nothing is known, as of a command, which may be a program in Go or one of Node.
    #[must_use]
    pub const fn cores_a_worker(&self) -> f64 {
        match self {
            Self::Command(_) => f64::INFINITY,
            Self::Python(_) => 1.0,
        }
    }
}

/// `kind = "command"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandApp {
    /// Program and arguments; `{fd}`, `{connections}`, `{worker}` and `{workers}` are replaced in each.
    pub command: Vec<String>,
    /// Environment added to what is inherited.
    pub env: Vec<(String, String)>,
    /// Working directory, absolute.
    pub directory: PathBuf,
    /// How a worker shows that it can serve.
    pub readiness: Readiness,
}

/// How a command worker shows that it is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// It sends `READY=1` to `NOTIFY_SOCKET` (sd_notify(3)).
    Notify,
    /// It has stayed alive for this long.
    Alive(Duration),
}

/// `kind = "python"`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PythonApp {
    /// `module:callable`, as Gunicorn's `wsgi_app`.
    pub app: String,
    /// The Python to run: absolute, or a name looked up in PATH.
    pub interpreter: PathBuf,
    /// Which of Gunicorn's worker classes serves requests.
    pub worker_class: WorkerClass,
    /// Whether the application is imported once for all workers, or by each of them.
    pub preload: bool,
    /// Threads that an import may leave behind although a fork loses them: names, `*` for any ending.
    pub allow_threads: Vec<String>,
    /// Gunicorn's command line, for the settings that are its workers' own. `None`: its defaults, and no gunicorn.conf.py is read.
    pub gunicorn: Option<Vec<String>>,
    /// Gunicorn's log files, absolute, that have to be made for its workers: known where its settings were asked for.
    pub log_files: Vec<PathBuf>,
    /// Environment added to what is inherited.
    pub env: Vec<(String, String)>,
    /// Working directory and first entry of `sys.path` (Gunicorn's `chdir`), absolute.
    pub directory: PathBuf,
}

/// Gunicorn's `worker_class`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WorkerClass {
    /// One request at a time; `connections` is always 1.
    Sync,
    /// `connections` is the number of threads.
    Gthread,
    /// `connections` is `worker_connections`.
    Gevent,
    /// `connections` is `worker_connections`.
    Asgi,
}

impl WorkerClass {
    /// Every class, from the simplest on.
    pub const ALL: [Self; 4] = [Self::Sync, Self::Gthread, Self::Gevent, Self::Asgi];

    /// The name Gunicorn and the configuration use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sync => "sync",
            Self::Gthread => "gthread",
            Self::Gevent => "gevent",
            Self::Asgi => "asgi",
        }
    }
}

/// The listening sockets, shared by all workers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// At least one, in the order of the file; inherited sockets (LISTEN_FDS) take their place.
    pub addresses: Vec<Address>,
    /// listen(2)'s backlog.
    pub backlog: u32,
    /// Permission bits of unix sockets.
    pub mode: u32,
    /// Owner of unix sockets, `user`, `user:group` or `:group`, by name or number; the supervisor's own if absent.
    pub owner: Option<String>,
}

/// One address to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// `host:port` or `[v6]:port`; the host is resolved when the socket is bound.
    Tcp {
        /// Host name or address, without brackets.
        host: String,
        /// Port; 0 lets the kernel choose.
        port: u16,
    },
    /// `unix:/path`.
    Unix(PathBuf),
    /// `fd:N`, a listening socket inherited under this number.
    Fd(i32),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Fd(fd) => write!(f, "fd:{fd}"),
        }
    }
}

/// The supervisor's patience. All are greater than zero but `timeout`, where zero means "no heartbeat asked for".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How long a worker may take to finish its requests after SIGTERM (Gunicorn's `graceful_timeout`).
    pub graceful_timeout: Duration,
    /// How long a worker may be silent before it counts as hung (Gunicorn's `timeout`).
    pub timeout: Duration,
    /// How long a worker, or the import of the application, may take to become ready.
    pub boot_timeout: Duration,
}

/// An amount of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

/// `[metrics]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// Where `/metrics`, `/healthz` and `/readyz` are served.
    pub listen: Address,
}

/// `[control]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// The unix socket, which only root and the supervisor's user may use; absolute.
    pub socket: PathBuf,
}

/// `[log]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Log {
    /// How a line looks.
    pub format: LogFormat,
    /// The file that lines are appended to, absolute; standard error if there is none.
    pub file: Option<PathBuf>,
    /// Whether what workers write goes through the log.
    pub capture: bool,
}

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Plain,
    /// An object a line.
    Json,
}

impl LogFormat {
    /// Every format.
    pub const ALL: [Self; 2] = [Self::Plain, Self::Json];

    /// Its name in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Json => "json",
        }
    }
}

/// What the configuration depends on beside its file. Gathered by the caller, so that parsing stays a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Surroundings {
    /// The environment variable WEB_CONCURRENCY.
    pub web_concurrency: Option<String>,
    /// The environment variable VIRTUAL_ENV.
    pub virtual_env: Option<PathBuf>,
    /// What of the host may be used.
    pub machine: Machine,
    /// The directory that holds the configuration file, absolute: relative paths in it start here.
    pub directory: PathBuf,
}
