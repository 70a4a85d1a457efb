//! Where configurations come from: a file, with what is wrong in it shown, or a Gunicorn command line.

use std::borrow::Borrow;
use std::env;
use std::fs;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{CommandError, gunicorn};
use crate::config::gunicorn::CommandLine;
use crate::config::{Bytes, Colour, Config, Machine, Surroundings};
use crate::sys::host;
use crate::sys::linux::Loading;

/// Where the configuration of a service comes from, at its start and at each reload.
#[derive(Clone, Debug)]
pub enum Source {
    /// A file.
    File(PathBuf),
    /// What Gunicorn makes of its command line.
    Gunicorn {
        /// The command line.
        command: CommandLine,
        /// What it was when the service was started.
        first: Box<Config>,
        /// What the user should know of it.
        remarks: Vec<String>,
    },
}

impl Source {
    /// What a service is found by: the file, or for a command line the file that it has not got where it was given.
    pub(super) fn path(&self) -> PathBuf {
        match self {
            Self::File(path) => path.clone(),
            Self::Gunicorn { command, .. } => command.directory.join("tuningfork.toml"),
        }
    }

    /// What the user should know before the service starts.
    pub(super) fn remarks(&self) -> &[String] {
        match self {
            Self::File(_) => &[],
            Self::Gunicorn { remarks, .. } => remarks,
        }
    }

    /// The first configuration.
    pub(super) fn read(&self) -> Result<Config, CommandError> {
        match self {
            Self::File(path) => read(path),
            Self::Gunicorn { first, .. } => Ok((**first).clone()),
        }
    }

    /// The configuration of a reload. `first` is the one the service was started with: what it bound stays bound.
    pub(super) fn load_again(&self, first: &Arc<Config>) -> Loading {
        match self {
            Self::File(path) => Loading::Done(
                read(path).map_err(|error| error.to_string()).map(Arc::new).inspect(|config| compare(config, first)),
            ),
            Self::Gunicorn { command, .. } => match gunicorn::again(command) {
                Ok((inquiry, meaning)) => {
                    let first = Arc::clone(first);
                    let compared = move |answer: &str| meaning(answer).inspect(|config| compare(config, &first));
                    Loading::Asking(inquiry, Box::new(compared))
                }
                Err(reason) => Loading::Done(Err(reason)),
            },
        }
    }
}

/// Sockets and files stay as they are: all generations share them.
fn compare(config: &Config, first: &Config) {
    let changed = first.fixed_until_restart(config);
    if !changed.is_empty() {
        tracing::warn!("{}", awaits_restart(&changed));
    }
}

/// What to say of parts of the configuration that do not hold yet.
pub(super) fn awaits_restart(parts: &[impl Borrow<str>]) -> String {
    format!("changed, but takes effect only at the next restart or `tuningfork ctl upgrade`: {}", parts.join(", "))
}

/// The longest configuration file read, bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// What to do where there is no configuration file.
const INSTEAD: &str = "name yours with --config, or make one of Gunicorn's arguments: \
                       `tuningfork gunicorn --print-config ARGUMENTS > FILE` (`tune --demo` needs none)";

/// Reads and checks `path`. Every problem is in the error.
pub(super) fn read(path: &Path) -> Result<Config, CommandError> {
    let unreadable = |source| CommandError::Unreadable { path: path.to_owned(), source };
    let about = fs::metadata(path).map_err(|source| CommandError::unread(path, source, INSTEAD))?;
    if !about.is_file() {
        return Err(unreadable(io::Error::other("not a regular file")));
    }
    if about.len() > MAX_FILE {
        return Err(unreadable(io::Error::other("longer than 1 MiB: not a configuration")));
    }
    if path.extension().is_some_and(|extension| extension == "py") {
        let instead = format!("`tuningfork gunicorn -c {0} APP`, `tuningfork check -- -c {0} APP`", path.display());
        return Err(CommandError::Config(format!("{} is a configuration of Gunicorn: {instead}", path.display())));
    }
    let text = fs::read_to_string(path).map_err(unreadable)?;
    let absolute = path.canonicalize().map_err(unreadable)?;
    let directory = absolute.parent().map_or_else(|| PathBuf::from("/"), Path::to_owned);
    Config::parse(&text, path, &surroundings(directory)).map_err(|errors| {
        let colours = io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none();
        CommandError::Config(if io::stderr().is_terminal() {
            errors.render(&text, if colours { Colour::Ansi } else { Colour::Plain })
        } else {
            errors.to_string()
        })
    })
}

/// What a configuration depends on beside its text.
pub(super) fn surroundings(directory: PathBuf) -> Surroundings {
    Surroundings {
        web_concurrency: env::var("WEB_CONCURRENCY").ok(),
        virtual_env: env::var_os("VIRTUAL_ENV").map(PathBuf::from),
        machine: machine(),
        directory,
    }
}

/// What of this host may be used.
fn machine() -> Machine {
    let host::Facts { memory_limit, cores, .. } = host::facts();
    Machine {
        cores: cores.usable,
        online: cores.online,
        quota_percent: cores.quota.map(percent),
        memory: Some(Bytes(memory_limit)).filter(|bytes| bytes.0 > 0),
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a quota is positive, and a cast saturates")]
fn percent(quota: f64) -> u32 {
    (quota * 100.0).round() as u32
}
