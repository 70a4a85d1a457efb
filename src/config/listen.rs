//! Checks `[listen]` and `[metrics]`: addresses, permission bits and owners of sockets. Resolves no names and binds nothing.

use super::address::{AddressError, parse};
use super::keys;
use super::problem::{Problems, quote};
use super::raw::{RawListen, RawMetrics};
use super::reader::Text;
use super::{Address, Listen, Metrics, Surroundings};

const DEFAULT_BACKLOG: u32 = 2048;
/// Gunicorn binds with umask 0, which gives 0777; a socket has no use for the executable bits (unix(7): connecting needs to write).
const DEFAULT_MODE: u32 = 0o666;

/// The sockets, or `None` with the reasons in `problems`.
pub(super) fn check(raw: &RawListen, surroundings: &Surroundings, problems: &mut Problems<'_>) -> Option<Listen> {
    let addresses = addresses(raw, surroundings, problems);
    let backlog = backlog(raw, problems);
    let mode = mode(raw.mode.as_ref(), problems);
    if let Some(owner) = &raw.owner {
        check_owner(owner, problems);
    }
    Some(Listen {
        addresses: addresses?,
        backlog: backlog?,
        mode: mode?,
        owner: raw.owner.as_ref().map(|owner| owner.get_ref().clone()),
    })
}

/// The metrics endpoint, or `None` with the reasons in `problems`.
pub(super) fn check_metrics(
    raw: &RawMetrics,
    listen: Option<&Listen>,
    surroundings: &Surroundings,
    problems: &mut Problems<'_>,
) -> Option<Metrics> {
    let Some(written) = &raw.listen else {
        return Some(Metrics { listen: tcp("127.0.0.1", 9150) });
    };
    let key = &keys::METRICS_LISTEN;
    let refusal = match parse(written.get_ref(), &surroundings.directory) {
        Ok(Address::Fd(_)) => AddressError("cannot be inherited", key.hint()),
        Ok(address) if listen.is_some_and(|listen| clashes(&listen.addresses, &address)) => {
            AddressError("is in listen.address too", "write another port or path".to_owned())
        }
        Ok(listen) => return Some(Metrics { listen }),
        Err(error) => error,
    };
    problems.at(written.span(), key, format!("{} {}", quote(written.get_ref()), refusal.0), refusal.1);
    None
}

fn tcp(host: &str, port: u16) -> Address {
    Address::Tcp { host: host.to_owned(), port }
}

fn addresses(raw: &RawListen, surroundings: &Surroundings, problems: &mut Problems<'_>) -> Option<Vec<Address>> {
    let Some(written) = &raw.address else {
        return Some(vec![tcp("127.0.0.1", 8000)]);
    };
    if written.get_ref().is_empty() {
        problems.at(written.span(), &keys::ADDRESS, "is an empty array", keys::ADDRESS.hint());
        return None;
    }
    let mut addresses = Vec::new();
    for text in written.get_ref() {
        let refusal = match parse(text.get_ref(), &surroundings.directory) {
            Ok(address) if clashes(&addresses, &address) => AddressError("is listed twice", "remove one".to_owned()),
            Ok(address) => {
                addresses.push(address);
                continue;
            }
            Err(error) => error,
        };
        problems.at(text.span(), &keys::ADDRESS, format!("{} {}", quote(text.get_ref()), refusal.0), refusal.1);
    }
    (addresses.len() == written.get_ref().len()).then_some(addresses)
}

/// Port 0 is another port every time.
fn clashes(addresses: &[Address], address: &Address) -> bool {
    !matches!(address, Address::Tcp { port: 0, .. }) && addresses.contains(address)
}

fn backlog(raw: &RawListen, problems: &mut Problems<'_>) -> Option<u32> {
    let Some(written) = &raw.backlog else {
        return Some(DEFAULT_BACKLOG);
    };
    let number = *written.get_ref();
    let backlog = i32::try_from(number).ok().and_then(|number| u32::try_from(number).ok()).filter(|backlog| *backlog > 0);
    if backlog.is_none() {
        problems.at(written.span(), &keys::BACKLOG, format!("{number} is out of range"), keys::BACKLOG.hint());
    }
    backlog
}

fn mode(raw: Option<&Text>, problems: &mut Problems<'_>) -> Option<u32> {
    let Some(written) = raw else { return Some(DEFAULT_MODE) };
    let is_octal =
        (3..=4).contains(&written.get_ref().len()) && written.get_ref().bytes().all(|digit| matches!(digit, b'0'..=b'7'));
    let mode = u32::from_str_radix(written.get_ref(), 8).ok().filter(|mode| is_octal && *mode <= 0o777);
    if mode.is_none() {
        let message = format!("{} is not a permission mode", quote(written.get_ref()));
        problems.at(written.span(), &keys::MODE, message, keys::MODE.hint());
    }
    mode
}

/// Whether the names exist, only the host can say.
fn check_owner(written: &Text, problems: &mut Problems<'_>) {
    let is_name = |name: &str| !name.contains([':', '/']) && !name.contains(char::is_whitespace);
    let is_right = match written.get_ref().split_once(':') {
        Some((user, group)) => is_name(user) && is_name(group) && !group.is_empty(),
        None => is_name(written.get_ref()) && !written.get_ref().is_empty(),
    };
    if !is_right {
        let message = format!("{} names no owner", quote(written.get_ref()));
        problems.at(written.span(), &keys::OWNER, message, keys::OWNER.hint());
    }
}
