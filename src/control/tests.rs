use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tokio::sync::oneshot;

use super::*;
use crate::config::{Address, Listen, LogFormat};
use crate::supervisor::event::{self, Answer, Refusal};
use crate::sys::listen::{Listeners, bind_one};
use crate::sys::log::{Level, Log, Settings};

struct Service {
    listeners: Listeners,
    stopping: Arc<AtomicBool>,
    asked: Arc<Mutex<Vec<Wish>>>,
    looks: Arc<AtomicU64>,
    log: Log,
}

fn worker() -> Worker {
    Worker { id: Some(5), slot: 0, pid: Some(8), state: "ready".into(), generation: Some(1), ..Worker::default() }
}

impl Source for Service {
    fn status(&self) -> Status {
        Status { workers: vec![Worker { cpu_seconds: Some(0.5), ..worker() }], ..self.progress() }
    }

    fn progress(&self) -> Status {
        Status {
            version: "1".into(),
            pid: 7,
            target: 2,
            ready: 1,
            stopping: self.stopping.load(Ordering::Relaxed),
            phase: "running".into(),
            generation: 1,
            next_generation: None,
            changes: self.changes(),
            uptime_seconds: 2.5,
            reloads: Vec::new(),
            awaits_restart: vec!["[listen]".into()],
            log: LogStatus::default(),
            successor: None,
            failed_upgrades: 0,
            last_upgrade_failure: None,
            workers: vec![worker()],
        }
    }

    fn changes(&self) -> u64 {
        self.looks.fetch_add(1, Ordering::Relaxed);
        self.asked.lock().unwrap().len() as u64
    }

    fn ask(&self, wish: Wish) -> Option<oneshot::Receiver<Answer>> {
        let (sender, receiver) = oneshot::channel();
        let answer = match wish {
            Wish::Upgrade => Err(Refusal::Stopping),
            Wish::Reload => Ok(event::Granted::By(crate::units::Generation(3))),
            Wish::Scale(_) => Ok(event::Granted::Target(4)),
            Wish::Replace(_) => return None,
            Wish::Rest | Wish::ReopenLogs | Wish::Stop(_) => Ok(event::Granted::Now),
        };
        sender.send(answer).unwrap();
        self.asked.lock().unwrap().push(wish);
        Some(receiver)
    }

    fn log(&self) -> &Log {
        &self.log
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
    asked: Arc<Mutex<Vec<Wish>>>,
    /// How often it was looked for a change.
    looks: Arc<AtomicU64>,
    log: Log,
    _folder: tempfile::TempDir,
}

fn stage() -> Stage {
    stage_with(bind_one(&Address::Tcp { host: "127.0.0.1".into(), port: 0 }).unwrap())
}

fn stage_with(listeners: Listeners) -> Stage {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("control.sock");
    let stopping = Arc::new(AtomicBool::new(false));
    let asked = Arc::new(Mutex::default());
    let log = Log::start(&Settings { format: LogFormat::Plain, file: Some(folder.path().join("a.log")) }).unwrap();
    let looks = Arc::default();
    let service = Service {
        listeners,
        stopping: Arc::clone(&stopping),
        asked: Arc::clone(&asked),
        looks: Arc::clone(&looks),
        log: log.clone(),
    };
    let socket = Arc::new(Listeners::bind(&Server::listen(&path)).unwrap());
    let server = Server::start(socket, service).unwrap();
    Stage { server: Some(server), path, stopping, asked, looks, log, _folder: folder }
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
    let first = lines.next().unwrap();
    assert!(
        first.starts_with(r#"{"ok":{"version":"1","pid":7,"target":2,"ready":1,"stopping":false,"phase":"running""#),
        "{first}"
    );
    assert!(first.contains(r#""workers":[{"id":5,"slot":0,"pid":8,"state":"ready","generation":1,"#), "{first}");
    assert!(first.contains(r#""cpu_seconds":0.5"#), "{first}");
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

#[test]
fn a_wish_is_passed_on_and_its_answer_comes_back() {
    let stage = stage();
    let mut client = Client::connect(&stage.path).unwrap();
    assert_eq!(client.change(Request::Reload).unwrap(), Granted { generation: Some(3), ..Granted::default() });
    let workers = "+2".parse().unwrap();
    assert_eq!(client.change(Request::Scale { workers }).unwrap(), Granted { target: Some(4), ..Granted::default() });
    assert_eq!(client.change(Request::Stop { quick: false }).unwrap(), Granted::default());
    let refusal = client.change(Request::Upgrade).unwrap_err();
    assert!(matches!(refusal, ControlError::Refused(why) if why.contains("the service is stopping")));
    let busy = client.change(Request::KillWorker { worker: 5 }).unwrap_err();
    assert!(matches!(busy, ControlError::Refused(why) if why.contains("try again")));
    let asked = stage.asked.lock().unwrap().clone();
    assert_eq!(asked, [Wish::Reload, Wish::Scale(Scale::More(2)), Wish::Stop(Haste::Graceful), Wish::Upgrade]);
}

#[test]
fn who_watches_hears_of_a_change_and_is_not_kept_for_ever_without_one() {
    let stage = stage();
    let mut watcher = Client::connect(&stage.path).unwrap();
    assert_eq!(watcher.progress(None).unwrap().changes, 0);
    assert_eq!(watcher.progress(Some(0)).unwrap().changes, 0, "after a second");
    let watching = std::thread::spawn(move || watcher.progress(Some(0)).unwrap().changes);
    Client::connect(&stage.path).unwrap().change(Request::Reload).unwrap();
    assert!(watching.join().unwrap() <= 1);
    assert_eq!(Client::connect(&stage.path).unwrap().progress(Some(0)).unwrap().changes, 1);
}

/// How often a server looks for a change for who watches, before and after it is told to end.
fn looks_of_a_server_that_ends() -> u64 {
    let mut stage = stage();
    let mut watcher = Client::connect(&stage.path).unwrap();
    let watching = std::thread::spawn(move || watcher.progress(Some(0)));
    while stage.looks.load(Ordering::Relaxed) == 0 {
        std::thread::yield_now();
    }
    drop(stage.server.take());
    assert!(matches!(watching.join().unwrap(), Err(ControlError::Broken(_))));
    stage.looks.load(Ordering::Relaxed)
}

#[test]
fn who_watches_does_not_keep_the_server_from_its_end() {
    // Else it looks fifty times, every time. A slow machine may be slow to tell it.
    let looks: Vec<u64> = (0..5).map(|_| looks_of_a_server_that_ends()).collect();
    assert!(looks.iter().any(|looks| *looks < 10), "{looks:?}");
}

#[test]
fn numbers_of_workers_are_read_as_people_write_them() {
    for (text, expected) in [("4", Scale::To(Workers::new(4).unwrap())), ("+1", Scale::More(1)), ("-3", Scale::Fewer(3))] {
        let count: Count = text.parse().unwrap();
        assert_eq!((count.0, count.to_string().as_str()), (expected, text));
    }
    for wrong in ["", "0", "+0", "-", "1025", "-+1", "two", "99999999999", " 1", "1.5"] {
        assert!(wrong.parse::<Count>().is_err(), "{wrong}");
    }
    let request: Request = serde_json::from_str(r#"{"do":"scale","workers":"-1"}"#).unwrap();
    assert_eq!(request.wish(), Some(Wish::Scale(Scale::Fewer(1))));
    assert!(serde_json::from_str::<Request>(r#"{"do":"scale","workers":"0"}"#).is_err());
    assert_eq!(serde_json::from_str::<Request>(r#"{"do":"stop"}"#).unwrap(), Request::Stop { quick: false });
}

#[test]
fn the_log_is_read_and_followed_by_a_few() {
    let stage = stage();
    stage.log.say(Level::Info, b"one\n");
    let mut reader = Client::connect(&stage.path).unwrap();
    reader.read_log(None, false).unwrap();
    assert_eq!(reader.excerpt().unwrap(), Excerpt { lines: vec!["one".into()], skipped: 0, more: false });
    reader.read_log(Some(3), false).unwrap();
    assert_eq!(reader.excerpt().unwrap(), Excerpt::default());
    let mut followers: Vec<_> = (0..4).map(|_| Client::connect(&stage.path).unwrap()).collect();
    for follower in &mut followers {
        follower.read_log(None, true).unwrap();
        assert_eq!(follower.excerpt().unwrap().lines, ["one"]);
    }
    reader.read_log(None, false).unwrap();
    assert!(matches!(reader.excerpt(), Err(ControlError::Refused(why)) if why.contains("others read the log")));
    stage.log.say(Level::Info, b"two\n");
    for follower in &mut followers {
        assert_eq!(follower.excerpt().unwrap().lines, ["two"]);
    }
    drop(followers);
    assert_eq!(reader.progress(None).unwrap().target, 2);
}

#[test]
fn only_root_the_own_user_and_for_root_who_owns_the_folder_are_believed() {
    let [me, other] = [1000, 1001];
    assert!(client::is_trusted(0, me, None) && client::is_trusted(me, me, Some(0)) && client::is_trusted(other, 0, Some(other)));
    assert!(
        !client::is_trusted(other, me, Some(other))
            && !client::is_trusted(other, 0, Some(0))
            && !client::is_trusted(other, 0, None)
    );
}

#[test]
fn a_request_is_logged_as_it_is_typed() {
    for typed in ["reload", "scale +2", "scale 7", "reopen-logs", "upgrade", "worker kill 12", "stop", "stop --quick"] {
        let word = |at: usize| typed.split(' ').nth(at).unwrap_or_default();
        let request = match word(0) {
            "reload" => Request::Reload,
            "scale" => Request::Scale { workers: word(1).parse().unwrap() },
            "reopen-logs" => Request::ReopenLogs,
            "upgrade" => Request::Upgrade,
            "worker" => Request::KillWorker { worker: word(2).parse().unwrap() },
            _ => Request::Stop { quick: word(1) == "--quick" },
        };
        assert_eq!(request.to_string(), typed);
    }
}
