//! Who listens at an address: for the message that it is in use, so that what a killed supervisor left behind is named.

use std::fs;
use std::path::Path;

use procfs::net::{TcpState, tcp, tcp6, unix};

use crate::config::Address;

/// The most processes that are named.
const MAX_NAMED: usize = 8;

/// The processes that listen at `address`, as `pid 7 (node), pid 8 (node)`; "another process" where none can be seen.
pub(super) fn in_words(address: &Address) -> String {
    let inodes = inodes(address);
    let found: Vec<String> = processes().filter(|pid| inodes.iter().any(|inode| has_open(*pid, *inode))).map(name).collect();
    match found.len() {
        0 => "another process".to_owned(),
        many if many > MAX_NAMED => format!("{} and {} more", found[..MAX_NAMED].join(", "), many - MAX_NAMED),
        _ => found.join(", "),
    }
}

/// The listening sockets at this address.
fn inodes(address: &Address) -> Vec<u64> {
    match address {
        Address::Unix(path) => {
            let all = unix().unwrap_or_default().into_iter();
            all.filter(|entry| entry.path.as_deref() == Some(path.as_path())).map(|entry| entry.inode).collect()
        }
        Address::Tcp { port, .. } => {
            let all = [tcp(), tcp6()].into_iter().filter_map(Result::ok).flatten();
            let listening = all.filter(|entry| entry.state == TcpState::Listen && entry.local_address.port() == *port);
            listening.map(|entry| entry.inode).collect()
        }
        Address::Fd(_) => Vec::new(),
    }
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(|pid| *pid != std::process::id())
}

fn has_open(pid: u32, inode: u64) -> bool {
    let wanted = format!("socket:[{inode}]");
    let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    open.filter_map(|fd| fs::read_link(fd.path()).ok()).any(|link| link == Path::new(&wanted))
}

fn name(pid: u32) -> String {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    format!("pid {pid} ({})", name.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listening_socket_is_found_by_its_address() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("web.sock");
        let _unix = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = tcp.local_addr().unwrap().port();
        let us = std::process::id();
        for address in [Address::Unix(path), Address::Tcp { host: "127.0.0.1".into(), port }] {
            let found = inodes(&address);
            assert_eq!(found.len(), 1, "{address}");
            assert!(has_open(us, found[0]) && !has_open(us, 1));
            // Whoever asks is not to blame.
            assert_eq!(in_words(&address), "another process");
        }
        assert!(name(us).starts_with(&format!("pid {us} (")));
    }
}
