//! Reads a configuration file and shows what is wrong with it.

use std::env;
use std::fs;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use super::CommandError;
use crate::config::{Colour, Config, Surroundings};
use crate::sys::host;

/// The longest configuration file read, bytes.
const MAX_FILE: u64 = 1024 * 1024;

/// Reads and checks `path`. Every problem is in the error.
pub(super) fn read(path: &Path) -> Result<Config, CommandError> {
    let unreadable = |source| CommandError::Unreadable { path: path.to_owned(), source };
    let about = fs::metadata(path).map_err(unreadable)?;
    if !about.is_file() {
        return Err(unreadable(io::Error::other("not a regular file")));
    }
    if about.len() > MAX_FILE {
        return Err(unreadable(io::Error::other("longer than 1 MiB: not a configuration")));
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

fn surroundings(directory: PathBuf) -> Surroundings {
    Surroundings {
        web_concurrency: env::var("WEB_CONCURRENCY").ok(),
        virtual_env: env::var_os("VIRTUAL_ENV").map(PathBuf::from),
        cores: host::cores().usable,
        directory,
    }
}
