//! Where a replay goes: a place as it is written, resolved once, and refused if it is not on this host or nothing listens there.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs, UdpSocket};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use super::{Options, ReplayError};
use crate::load::{Processors, Target, Tls, Trust, knock};
use crate::replay::HostRule;

/// How long the target, and each address of a name that has several, is tried.
const TRIED_FOR: Duration = Duration::from_secs(2);

/// Where to go, as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Unix(PathBuf),
    Url { secure: bool, host: String, port: u16 },
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return if path.is_empty() { Err("a path after unix:".to_owned()) } else { Ok(Self::Unix(path.into())) };
        }
        let wanted = || format!("`{text}` is not a target: write http://HOST:PORT, https://HOST or unix:PATH");
        let (scheme, rest) = text.split_once("://").ok_or_else(wanted)?;
        let secure = match scheme.to_ascii_lowercase().as_str() {
            "http" => false,
            "https" => true,
            _ => return Err(wanted()),
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        if authority.contains(['/', '?', '#']) {
            return Err("a target without a path: the recording has the paths".to_owned());
        }
        if authority.contains('@') {
            return Err("a target without a user: give one with --header 'Authorization: …'".to_owned());
        }
        let (host, port) = split(authority).ok_or_else(wanted)?;
        let port = match port {
            None => {
                if secure {
                    443
                } else {
                    80
                }
            }
            Some(port) => port.parse().ok().filter(|port| *port > 0).ok_or_else(|| format!("`{port}` is not a port"))?,
        };
        let fits = !host.is_empty() && !host.contains(|other: char| other.is_whitespace() || other.is_control());
        if fits { Ok(Self::Url { secure, host: host.to_owned(), port }) } else { Err(wanted()) }
    }
}

/// Host and port of `host`, `host:port`, `[v6]` or `[v6]:port`.
fn split(authority: &str) -> Option<(&str, Option<&str>)> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, rest) = rest.split_once(']')?;
        return if rest.is_empty() { Some((host, None)) } else { Some((host, Some(rest.strip_prefix(':')?))) };
    }
    match authority.split_once(':') {
        Some((_, port)) if port.contains(':') => None,
        Some((host, port)) => Some((host, Some(port))),
        None => Some((authority, None)),
    }
}

/// Where requests go, ready to be used.
#[derive(Clone, Debug)]
pub(super) struct Aim {
    pub(super) target: Target,
    pub(super) tls: Option<Tls>,
    /// For people.
    pub(super) name: String,
    /// What a Host header says of it.
    host: String,
}

impl Aim {
    /// Resolves the target's name, this once, and refuses another host unless the user said that it may be loaded.
    pub(super) fn take(options: &Options) -> Result<Self, ReplayError> {
        if !matches!(options.place, Place::Url { secure: true, .. }) {
            let idle = [(options.ca.is_some(), "--ca"), (options.insecure, "--insecure")];
            if let Some((_, name)) = idle.into_iter().find(|(given, _)| *given) {
                return Err(ReplayError::NoTls(name));
            }
        }
        let (secure, host, port) = match &options.place {
            Place::Unix(path) => {
                let name = format!("unix:{}", path.display());
                return Ok(Self { target: Target::Unix(path.clone()), tls: None, name, host: "localhost".to_owned() });
            }
            Place::Url { secure, host, port } => (*secure, host, *port),
        };
        let written = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let scheme = if secure { "https" } else { "http" };
        let name = format!("{scheme}://{written}:{port}");
        let address = resolve(host, port, &name, options.target_anyway)?;
        let trust = match (&options.ca, options.insecure) {
            (_, true) => Trust::Anyone,
            (Some(file), false) => Trust::SystemAnd(file.clone()),
            (None, false) => Trust::System,
        };
        let tls = if secure { Some(Tls::new(host, &trust)?) } else { None };
        let usual = if secure { 443 } else { 80 };
        let host = if port == usual { written } else { format!("{written}:{port}") };
        Ok(Self { target: Target::Tcp(address), tls, name, host })
    }

    /// Whether it is on this host.
    pub(super) fn is_here(&self) -> bool {
        match &self.target {
            Target::Unix(_) => true,
            Target::Tcp(address) => is_here(address),
        }
    }

    /// What it leaves to a thread that does not go before it.
    pub(super) fn processors(&self) -> Processors {
        if self.is_here() { Processors::Shared } else { Processors::Own }
    }

    /// Refuses a target that takes no connection, before anything is sent. One that is slow to take it is played against.
    pub(super) fn knock(&self) -> Result<(), ReplayError> {
        knock(&self.target, TRIED_FOR).map_err(|source| ReplayError::Deaf { name: self.name.clone(), source })
    }

    pub(super) fn host_rule(&self, options: &Options) -> HostRule {
        options.new_host.clone().map_or_else(|| HostRule::Default(self.host.clone()), HostRule::Always)
    }
}

/// Whether packets to this address stay on this host: it is a loopback address, or the unspecified one, which Linux takes for that, or
/// belongs to one of its interfaces. The kernel takes those as the source of packets to themselves; binding would not tell, as it can be
/// allowed for any address. Nothing is sent.
fn is_here(address: &SocketAddr) -> bool {
    let ip = address.ip().to_canonical();
    let any = if ip.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
    let source = || -> io::Result<IpAddr> {
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect(address)?;
        Ok(socket.local_addr()?.ip().to_canonical())
    };
    ip.is_loopback() || ip.is_unspecified() || source().is_ok_and(|source| source == ip)
}

/// The one address that is used: of several, the first that takes a connection.
fn resolve(host: &str, port: u16, name: &str, anywhere: bool) -> Result<SocketAddr, ReplayError> {
    let unresolved = |source: io::Error| ReplayError::Unresolved { name: host.to_owned(), source };
    let addresses: Vec<SocketAddr> = (host, port).to_socket_addrs().map_err(unresolved)?.collect();
    let none = || unresolved(io::Error::new(io::ErrorKind::NotFound, "no address"));
    let first = *addresses.first().ok_or_else(none)?;
    if let Some(remote) = addresses.iter().find(|address| !anywhere && !is_here(address)) {
        return Err(ReplayError::Remote { name: name.to_owned(), address: *remote });
    }
    let answers = |address: &&SocketAddr| TcpStream::connect_timeout(address, TRIED_FOR).is_ok();
    if addresses.len() == 1 { Ok(first) } else { Ok(addresses.iter().find(answers).copied().unwrap_or(first)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> (bool, String, u16) {
        match text.parse::<Place>() {
            Ok(Place::Url { secure, host, port }) => (secure, host, port),
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn places_are_read() {
        assert_eq!(url("http://127.0.0.1:8000"), (false, "127.0.0.1".into(), 8000));
        assert_eq!(url("https://shop.test/"), (true, "shop.test".into(), 443));
        assert_eq!(url("HTTP://[::1]:81"), (false, "::1".into(), 81));
        assert_eq!("unix:/run/web.sock".parse(), Ok(Place::Unix("/run/web.sock".into())));
        assert_eq!("unix:///run/web.sock".parse(), Ok(Place::Unix("/run/web.sock".into())));
    }

    #[test]
    fn only_addresses_of_this_host_are_here() {
        for here in ["127.0.0.1:1", "127.1.2.3:1", "[::1]:1", "[::ffff:127.0.0.1]:1", "0.0.0.0:1", "[::]:1"] {
            assert!(is_here(&here.parse().unwrap()), "{here}");
        }
        // For documentation (RFC 5737, RFC 3849), and everybody's.
        for elsewhere in ["198.51.100.7:1", "203.0.113.7:1", "[2001:db8::7]:1", "255.255.255.255:1"] {
            assert!(!is_here(&elsewhere.parse().unwrap()), "{elsewhere}");
        }
    }

    #[test]
    fn what_is_no_place_is_refused_with_what_would_be() {
        let wrong = [
            "",
            "127.0.0.1:8000",
            "ftp://a",
            "http://",
            "http://a/path",
            "http://user@a",
            "http://a:0",
            "http://a:x",
            "http://::1",
            "http://[::1",
            "unix:",
            "http://a b",
        ];
        let refusals: Vec<String> = wrong.iter().map(|text| text.parse::<Place>().unwrap_err()).collect();
        insta::assert_snapshot!(refusals.join("\n"));
    }

    #[test]
    fn only_this_host_is_loaded_unless_told_otherwise() {
        assert!(resolve("127.0.0.1", 1, "x", false).is_ok());
        assert!(resolve("::ffff:127.0.0.1", 1, "x", false).is_ok());
        assert!(matches!(resolve("192.0.2.1", 1, "x", false), Err(ReplayError::Remote { .. })));
        assert!(resolve("192.0.2.1", 1, "x", true).is_ok());
    }
}
