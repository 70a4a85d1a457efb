//! Reads one address. Refuses what could not be bound whatever the host, and says how it is written.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use super::Address;
use super::keys;
use super::problem::quote;

/// sockaddr_un holds 108 bytes, one of them the NUL at the end (unix(7)).
const LONGEST_SOCKET_PATH: usize = 107;
/// Descriptors 0 to 2 are the standard streams.
const FIRST_FD: i32 = 3;

/// Why a text is not an address, to be read after it, and what would be one.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct AddressError(pub(super) &'static str, pub(super) String);

impl AddressError {
    pub(super) fn new(message: &'static str, hint: impl Into<String>) -> Self {
        Self(message, hint.into())
    }
}

/// `host:port`, `[v6]:port`, `unix:/path` or `fd:N`; a relative path starts at `directory`.
pub(super) fn parse(text: &str, directory: &Path) -> Result<Address, AddressError> {
    if let Some(path) = text.strip_prefix("unix:") {
        // Gunicorn's form with two slashes means the same.
        return parse_socket_path(path.strip_prefix("//").unwrap_or(path), directory);
    }
    if let Some(number) = text.strip_prefix("fd:") {
        return parse_fd(number);
    }
    if text.starts_with('/') {
        return Err(AddressError::new("is a path without unix:", format!("write {}", quote(&format!("unix:{text}")))));
    }
    if let Some((_, rest)) = text.split_once("://") {
        let rest = rest.trim_end_matches('/');
        return Err(AddressError::new("is a URL", format!("write {}", quote(rest))));
    }
    parse_tcp(text)
}

fn parse_socket_path(path: &str, directory: &Path) -> Result<Address, AddressError> {
    if path.is_empty() || path.ends_with('/') {
        return Err(AddressError::new("names no socket file", r#"write "unix:/run/name.sock""#));
    }
    if path.starts_with('~') {
        return Err(AddressError::new("begins with ~, which only shells understand", "write the path in full"));
    }
    let path: PathBuf = directory.join(path).components().collect();
    let length = path.as_os_str().len();
    if length > LONGEST_SOCKET_PATH {
        let hint = format!("write one that is shorter by {}", length - LONGEST_SOCKET_PATH);
        return Err(AddressError::new("is longer than the kernel's limit of 107 bytes", hint));
    }
    Ok(Address::Unix(path))
}

fn parse_fd(number: &str) -> Result<Address, AddressError> {
    // Gunicorn writes fd://3.
    match number.trim_start_matches('/').parse() {
        Ok(fd) if fd >= FIRST_FD => Ok(Address::Fd(fd)),
        Ok(_) | Err(_) => {
            Err(AddressError::new("is not the number of an inherited socket", r#"write "fd:3" or a higher number"#))
        }
    }
}

/// `host:port`; IPv6 addresses stand in brackets.
fn parse_tcp(text: &str) -> Result<Address, AddressError> {
    let (host, port) = text.rsplit_once(':').filter(|_| !text.ends_with(']')).ok_or_else(|| without_port(text))?;
    let is_number = port.bytes().all(|digit| digit.is_ascii_digit());
    let Some(port) = port.parse().ok().filter(|_| is_number) else {
        let hint = format!("write {}", quote(&format!("{host}:8000")));
        return Err(AddressError::new("has a port that is not a number from 0 to 65535", hint));
    };
    if host.is_empty() {
        return Err(AddressError::new("has no host", every_interface(port)));
    }
    if let Some(v6) = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        return match canonical_v6(v6) {
            Some(host) => Ok(Address::Tcp { host, port }),
            None => Err(AddressError::new("has no IPv6 address between the brackets", r#"write "[::1]:8000""#)),
        };
    }
    if is_host(host) {
        return Ok(Address::Tcp { host: host.to_lowercase(), port });
    }
    Err(match (canonical_v6(host), canonical_v6(text)) {
        (Some(host), _) => AddressError::new("has no brackets around the IPv6 address", format!(r#"write "[{host}]:{port}""#)),
        (None, Some(host)) => AddressError::new("has no brackets and no port", format!(r#"write "[{host}]:8000""#)),
        (None, None) => AddressError::new("has a host that is neither a name nor an address", keys::ADDRESS.hint()),
    })
}

fn without_port(text: &str) -> AddressError {
    match text.parse() {
        Ok(port) => AddressError::new("is only a port", every_interface(port)),
        Err(_) if is_host(text) || text.starts_with('[') => {
            AddressError::new("has no port", format!("write {}", quote(&format!("{text}:8000"))))
        }
        Err(_) => AddressError::new("is not an address", keys::ADDRESS.hint()),
    }
}

fn every_interface(port: u16) -> String {
    format!(r#"write "127.0.0.1:{port}", or "0.0.0.0:{port}" for every interface"#)
}

/// One spelling for an address, and its zone as it is.
fn canonical_v6(text: &str) -> Option<String> {
    let (address, zone) = text.split_once('%').map_or((text, None), |(address, zone)| (address, Some(zone)));
    let address: Ipv6Addr = address.parse().ok()?;
    match zone {
        Some(zone) if is_host(zone) => Some(format!("{address}%{zone}")),
        Some(_) => None,
        None => Some(address.to_string()),
    }
}

fn is_host(text: &str) -> bool {
    let is_dotted_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if is_dotted_number {
        return text.parse::<Ipv4Addr>().is_ok();
    }
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse_here(text: &str) -> Result<Address, AddressError> {
        parse(text, Path::new("/srv/shop"))
    }

    #[test]
    fn addresses_have_one_spelling() {
        let table = [
            ("127.0.0.1:8000", "127.0.0.1:8000"),
            ("LocalHost:0", "localhost:0"),
            ("my_app.example-1:65535", "my_app.example-1:65535"),
            ("[::1]:8000", "[::1]:8000"),
            ("[0:0::0001]:80", "[::1]:80"),
            ("[fe80::1%eth0]:80", "[fe80::1%eth0]:80"),
            ("unix:/run/a.sock", "unix:/run/a.sock"),
            ("unix:///run//./a.sock", "unix:/run/a.sock"),
            ("unix:run/a.sock", "unix:/srv/shop/run/a.sock"),
            ("fd:3", "fd:3"),
            ("fd://12", "fd:12"),
        ];
        for (text, expected) in table {
            let address = parse_here(text).unwrap();
            assert_eq!(address.to_string(), expected);
            assert_eq!(parse_here(expected), Ok(address), "its own spelling is read again");
        }
    }

    #[test]
    fn a_refusal_says_what_would_be_right() {
        let table = [
            ("", "is not an address", r#"write "host:port", "[v6]:port", "unix:/path" or "fd:N", or an array of them"#),
            ("8000", "is only a port", r#"write "127.0.0.1:8000", or "0.0.0.0:8000" for every interface"#),
            (":80", "has no host", r#"write "127.0.0.1:80", or "0.0.0.0:80" for every interface"#),
            ("localhost", "has no port", r#"write "localhost:8000""#),
            ("[::1]", "has no port", r#"write "[::1]:8000""#),
            ("::1", "has no brackets and no port", r#"write "[::1]:8000""#),
            ("::1:80", "has no brackets around the IPv6 address", r#"write "[::1]:80""#),
            ("[::g]:80", "has no IPv6 address between the brackets", r#"write "[::1]:8000""#),
            ("a:+80", "has a port that is not a number from 0 to 65535", r#"write "a:8000""#),
            ("a:65536", "has a port that is not a number from 0 to 65535", r#"write "a:8000""#),
            ("a:", "has a port that is not a number from 0 to 65535", r#"write "a:8000""#),
            ("http://a:80/", "is a URL", r#"write "a:80""#),
            ("/run/a.sock", "is a path without unix:", r#"write "unix:/run/a.sock""#),
            ("unix:", "names no socket file", r#"write "unix:/run/name.sock""#),
            ("unix:/run/", "names no socket file", r#"write "unix:/run/name.sock""#),
            ("unix:~/a.sock", "begins with ~, which only shells understand", "write the path in full"),
            ("fd:2", "is not the number of an inherited socket", r#"write "fd:3" or a higher number"#),
            ("fd:x", "is not the number of an inherited socket", r#"write "fd:3" or a higher number"#),
        ];
        for (text, message, hint) in table {
            assert_eq!(parse_here(text), Err(AddressError::new(message, hint)), "{text}");
        }
        for host in ["1.2.3.4.5:80", "256.0.0.1:80", "a b:80", "ä:80"] {
            assert_eq!(parse_here(host).unwrap_err().0, "has a host that is neither a name nor an address", "{host}");
        }
    }

    #[test]
    fn a_socket_path_fits_the_kernel() {
        let longest = format!("unix:/{}", "a".repeat(LONGEST_SOCKET_PATH - 1));
        assert!(parse_here(&longest).is_ok());
        assert_eq!(parse_here(&format!("{longest}aa")).unwrap_err().1, "write one that is shorter by 2");
    }

    proptest! {
        #[test]
        fn any_text_is_an_address_or_a_refusal(text in "(unix:|fd:|\\[)?.{0,20}(:[0-9]{0,6})?") {
            if let Ok(address) = parse_here(&text) {
                prop_assert_eq!(parse_here(&address.to_string()), Ok(address));
            }
        }
    }
}
