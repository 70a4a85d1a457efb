use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::config::{Address, Listen};
use crate::sys::listen::{Listeners, bind_one};

struct Service {
    listeners: Listeners,
    stopping: Arc<AtomicBool>,
}

impl Source for Service {
    fn status(&self) -> Status {
        Status {
            version: "1".into(),
            pid: 7,
            target: 2,
            ready: 1,
            stopping: self.stopping.load(Ordering::Relaxed),
            workers: vec![Worker { slot: 0, pid: Some(8), state: "ready".into(), generation: Some(1) }],
        }
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    fn listeners(&self) -> &Listeners {
        &self.listeners
    }
}

struct Stage {
    server: Option<Server>,
    path: PathBuf,
    stopping: Arc<AtomicBool>,
    _folder: tempfile::TempDir,
}

fn stage() -> Stage {
    stage_with(bind_one(&Address::Tcp { host: "127.0.0.1".into(), port: 0 }).unwrap())
}

fn stage_with(listeners: Listeners) -> Stage {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.sock");
    let stopping = Arc::new(AtomicBool::new(false));
    let socket = Arc::new(Listeners::bind(&Server::listen(&path)).unwrap());
    let server = Server::start(socket, Service { listeners, stopping: Arc::clone(&stopping) }).unwrap();
    Stage { server: Some(server), path, stopping, _folder: folder }
}

#[test]
fn more_sockets_than_can_be_passed_are_refused_in_words() {
    let addresses = vec![Address::Tcp { host: "127.0.0.1".into(), port: 0 }; crate::sys::pass::MAX_PASSED + 1];
    let listeners = Listeners::bind(&Listen { addresses, backlog: 16, mode: 0o600, owner: None }).unwrap();
    let stage = stage_with(listeners);
    let refusal = Client::connect(&stage.path).unwrap().listeners().unwrap_err().to_string();
    assert!(refusal.contains("65 listening sockets; at most 64"), "{refusal}");
}

fn recalled(lease: &Lease) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(lease.recalled()).unwrap();
}

#[test]
fn a_line_is_answered_by_a_line() {
    let stage = stage();
    assert_eq!(std::fs::metadata(&stage.path).unwrap().permissions().mode() & 0o777, 0o600);
    let mut stream = UnixStream::connect(&stage.path).unwrap();
    stream.write_all(b"{\"do\":\"status\"}\n{\"do\":\"dance\"}\n\xff\n").unwrap();
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    assert_eq!(
        lines.next().unwrap(),
        r#"{"ok":{"version":"1","pid":7,"target":2,"ready":1,"stopping":false,"workers":[{"slot":0,"pid":8,"state":"ready","generation":1}]}}"#
    );
    assert!(lines.next().unwrap().starts_with(r#"{"error":"not a request: unknown variant `dance`"#));
    assert!(lines.next().unwrap().starts_with(r#"{"error":"not a request: "#));
    assert_eq!(Client::connect(&stage.path).unwrap().status().unwrap().pid, 7);
}

#[test]
fn a_line_without_end_is_refused() {
    let stage = stage();
    let mut stream = UnixStream::connect(&stage.path).unwrap();
    stream.write_all(&[b'x'; MAX_REQUEST + 1]).unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).unwrap();
    assert_eq!(said, "{\"error\":\"a request has at most 4096 bytes\"}\n");
}

#[test]
fn listeners_are_lent_to_one_and_work() {
    let stage = stage();
    let (listeners, lease) = Client::connect(&stage.path).unwrap().listeners().unwrap();
    let address = listeners[0].address().to_string();
    let refusal = Client::connect(&stage.path).unwrap().listeners().unwrap_err();
    assert!(matches!(refusal, ControlError::Refused(why) if why.contains("lent already")));
    let client = TcpStream::connect(&address).unwrap();
    let listener = TcpListener::from(listeners[0].fd().try_clone_to_owned().unwrap());
    assert_eq!(listener.accept().unwrap().1, client.local_addr().unwrap());
    drop((listeners, listener));
    drop(lease);
    // Given back: the next may have them, as soon as the server has seen it.
    while Client::connect(&stage.path).unwrap().listeners().is_err() {}
}

#[test]
fn what_is_lent_is_recalled() {
    let mut stage = stage();
    let (listeners, lease) = Client::connect(&stage.path).unwrap().listeners().unwrap();
    stage.stopping.store(true, Ordering::Relaxed);
    recalled(&lease);
    drop((listeners, lease));

    stage.stopping.store(false, Ordering::Relaxed);
    let (listeners, lease) = loop {
        if let Ok(lent) = Client::connect(&stage.path).unwrap().listeners() {
            break lent;
        }
    };
    let server = stage.server.take().unwrap();
    let ends = std::thread::spawn(move || drop(server));
    recalled(&lease);
    drop((listeners, lease));
    ends.join().unwrap();
    assert!(!stage.path.exists(), "the socket is removed");
}

#[test]
fn a_borrower_gets_no_more_than_its_time() {
    let mut stage = stage();
    let (listeners, lease) = Client::connect(&stage.path).unwrap().listeners().unwrap();
    drop(stage.server.take());
    drop((listeners, lease));
}

#[test]
fn nobody_is_kept_out_by_others() {
    let stage = stage();
    // More than are served at a time, and none says a word.
    let silent: Vec<_> = (0..20).filter_map(|_| UnixStream::connect(&stage.path).ok()).collect();
    assert!(silent.len() > 8);
    drop(silent);
    assert_eq!(Client::connect(&stage.path).unwrap().status().unwrap().target, 2);
}

#[test]
fn who_is_not_there_is_named_with_a_hint() {
    let missing = Client::connect(Path::new("/nonexistent/control.sock")).unwrap_err().to_string();
    assert!(missing.starts_with("/nonexistent/control.sock: No such file") && missing.contains("[control]"), "{missing}");
}
