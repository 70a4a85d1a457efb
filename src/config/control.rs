//! Checks `[control]`: a path for a socket of its own. Makes nothing.

use std::path::{Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::address::{AddressError, parse};
use super::keys::{self, Section};
use super::problem::{Problems, quote};
use super::raw::RawControl;
use super::{Address, Control, Listen, Surroundings};

/// The control socket, or `None` with the reasons in `problems`.
pub(super) fn check(
    raw: &RawControl,
    listen: Option<&Listen>,
    metrics: Option<&Address>,
    surroundings: &Surroundings,
    problems: &mut Problems<'_>,
) -> Option<Control> {
    let key = &keys::CONTROL_SOCKET;
    let Some(written) = &raw.socket else {
        if !raw.has_socket {
            problems.at(raw.header.clone(), key, "is missing", key.hint());
        }
        return None;
    };
    let refusal = match path(written.get_ref(), &surroundings.directory) {
        Ok(address) if listen.is_some_and(|listen| listen.addresses.contains(&address)) => {
            AddressError("is in listen.address too", "write another path".to_owned())
        }
        Ok(address) if metrics == Some(&address) => AddressError("is metrics.listen too", "write another path".to_owned()),
        Ok(Address::Unix(socket)) => return Some(Control { socket }),
        Ok(Address::Tcp { .. } | Address::Fd(_)) => AddressError("is no path", key.hint()),
        Err(error) => error,
    };
    problems.at(written.span(), key, format!("{} {}", quote(written.get_ref()), refusal.0), refusal.1);
    None
}

/// The control socket that `text`, the content of a configuration file in `directory`, names, whatever else is wrong with it.
#[must_use]
pub fn socket_in(text: &str, directory: &Path) -> Option<PathBuf> {
    let (document, _) = DeTable::parse_recoverable(text);
    let section = document.get_ref().get(Section::Control.name())?;
    let DeValue::Table(section) = section.get_ref() else { return None };
    let DeValue::String(written) = section.get(keys::CONTROL_SOCKET.name)?.get_ref() else { return None };
    match path(written, directory) {
        Ok(Address::Unix(socket)) => Some(socket),
        Ok(Address::Tcp { .. } | Address::Fd(_)) | Err(_) => None,
    }
}

/// A path as it is, or as addresses are written.
fn path(text: &str, directory: &Path) -> Result<Address, AddressError> {
    if text.starts_with("unix:") { parse(text, directory) } else { parse(&format!("unix:{text}"), directory) }
}
