//! `tuningfork record live` beside a running service: clients notice nothing, and what was recorded is what they sent.

mod ends;
mod ways;

use std::collections::BTreeMap;
use std::io::{BufReader, ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::Signal;
use tuningfork::recording::{self, Recording};

use crate::support::hammer::{Hammer, Outcome, Reuse};
use crate::support::http::{Address, Client};
use crate::support::journal::Journal;
use crate::support::process::{End, Watched};
use crate::support::service::{Running, Service};
use crate::support::shop;

/// Nobody may find these in a recording.
const PLANTED: [&str; 4] = ["hunter2cookie", "hunter2bearer", "hunter2query", "hunter2key"];
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

fn with_control(config: &str) -> String {
    format!("{config}\n[control]\nsocket = \"@DIR@/control.sock\"\n")
}

fn demo(connections: u32) -> String {
    with_control(&format!(
        r#"
workers = 2
connections = {connections}
[app]
kind = "command"
command = ["@PROGRAM@", "demo-worker", "--connections", "{{connections}}", "--faults", "--steer", "@DIR@"]
[listen]
address = "@LISTEN@"
"#
    ))
}

/// A recording that has begun.
fn tap(running: &Running, arguments: &str) -> Watched {
    let mut tap = start_tap(running, arguments);
    tap.wait("the recording", |lines| lines.iter().any(|line| line.contains("Ctrl-C ends it")).then_some(()));
    tap
}

fn start_tap(running: &Running, arguments: &str) -> Watched {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tuningfork"));
    command.args(["record", "live", "-c"]).arg(running.directory().join("tuningfork.toml"));
    command.arg("-o").arg(running.directory().join("live.jsonl")).args(arguments.split_whitespace());
    Watched::start(command, Journal::default())
}

fn lines(running: &Running) -> usize {
    std::fs::read_to_string(running.directory().join("live.jsonl")).map_or(0, |text| text.lines().count())
}

/// Waits until so many requests are in the file.
fn await_recorded(tap: &mut Watched, running: &Running, requests: usize) {
    tap.wait("requests in the recording", |_| (lines(running) > requests).then_some(()));
}

fn end(tap: &mut Watched) -> String {
    tap.signal(Signal::INT);
    assert_eq!(tap.await_end(), End::Code(0), "{}", tap.said());
    tap.said()
}

fn recorded(running: &Running) -> Recording {
    let file = std::fs::File::open(running.directory().join("live.jsonl")).expect("open the recording");
    recording::read(BufReader::new(file)).expect("read the recording")
}

/// Clients that send numbered requests full of secrets until they are told to stop. Each gives the numbers of requests it sent.
struct Clients {
    done: Arc<AtomicBool>,
    clients: Vec<JoinHandle<usize>>,
}

impl Clients {
    fn start(address: &Address, path: &'static str, count: usize) -> Self {
        let done = Arc::new(AtomicBool::new(false));
        let one = |client| {
            let (address, done) = (address.clone(), Arc::clone(&done));
            std::thread::spawn(move || talk(&address, path, client, &done))
        };
        Self { clients: (0..count).map(one).collect(), done }
    }

    /// How many requests each client sent. Panics if one was not answered with 200.
    fn finish(self) -> Vec<usize> {
        self.done.store(true, Ordering::Relaxed);
        self.clients.into_iter().map(|client| client.join().expect("a client's request failed")).collect()
    }
}

/// Keeps connections for some requests each, as far as the service lets it.
fn talk(address: &Address, path: &str, client: usize, done: &AtomicBool) -> usize {
    let mut sent = 0;
    while !done.load(Ordering::Relaxed) {
        let mut connection = Client::connect(address, ANSWER_WITHIN).expect("connect");
        for place in 0..10 {
            let close = if place == 9 || done.load(Ordering::Relaxed) { "Connection: close\r\n" } else { "" };
            let head = format!(
                "GET {path}?client={client}&n={sent}&token=hunter2query HTTP/1.1\r\nHost: test\r\nCookie: sessionid=hunter2cookie\r\n\
                 Authorization: Bearer hunter2bearer\r\nX-API-Key: hunter2key\r\n{close}\r\n"
            );
            connection.send(head.as_bytes()).expect("send");
            let reply = connection.receive().unwrap_or_else(|error| panic!("client {client}, request {sent}: {error}"));
            assert_eq!(reply.status, 200, "{}", reply.text());
            sent += 1;
            if !close.is_empty() || reply.header("connection") == Some("close") {
                break;
            }
        }
    }
    sent
}

/// Checks that a recording holds what clients sent, each connection in order, and no secret.
fn check(running: &Running, path: &str, sent: &[usize]) {
    let file = running.directory().join("live.jsonl");
    assert_eq!(std::fs::metadata(&file).expect("the recording").permissions().mode() & 0o777, 0o600);
    let text = std::fs::read_to_string(&file).expect("read the recording");
    for secret in PLANTED {
        assert!(!text.contains(secret), "{secret} in the recording");
    }
    let recording = recorded(running);
    assert_eq!((recording.meta.source.as_deref(), recording.broken.count, recording.broken.torn), (Some("tap"), 0, false));
    let mut connections: BTreeMap<&str, (u64, i64, usize, usize)> = BTreeMap::new();
    let mut seen = std::collections::BTreeSet::new();
    for request in &recording.requests {
        let number = |name: &str| {
            let value = request.target.as_str().split(['?', '&']).find_map(|pair| pair.strip_prefix(name)).expect(name);
            value.parse::<usize>().expect("a number")
        };
        let (client, place) = (number("client="), number("n="));
        assert!(request.target.as_str().starts_with(&format!("{path}?client=")), "{:?}", request.target);
        assert!(place < sent[client], "client {client} sent no request {place}");
        assert!(seen.insert((client, place)), "recorded twice: {:?}", request.target);
        assert_eq!(request.status, Some(200));
        assert!(request.response_bytes.is_some_and(|bytes| bytes > 0) && request.duration.is_some());
        assert!(request.headers.iter().any(|header| header.name() == "X-API-Key" && header.value().len() == "hunter2key".len()));
        let now = (request.ordinal.expect("a position"), request.at.0, client, place);
        if let Some(before) = connections.insert(request.connection.as_deref().expect("a connection"), now) {
            assert_eq!((now.0, now.2, now.3), (before.0 + 1, before.2, before.3 + 1), "out of order");
            assert!(now.1 > before.1, "time runs backwards");
        }
    }
}

/// The whole of it: load, a recording meanwhile, no failure, and the right content. What the tap said.
fn record_under_load(service: Service, path: &'static str, wanted: usize) -> String {
    let mut running = service.ready();
    let clients = Clients::start(running.address(), path, 4);
    let mut tap = tap(&running, "--share 1");
    await_recorded(&mut tap, &running, wanted);
    let said = end(&mut tap);
    let sent = clients.finish();
    check(&running, path, &sent);
    assert_eq!(running.get(path).status, 200);
    assert_eq!(running.stop(), End::Code(0));
    said
}

fn shop_service(class: &str) -> Service {
    let service = Service::with_config(&with_control(&shop::config(class)));
    shop::seed(service.directory());
    service
}

#[test]
fn record_live_of_django_with_sync_workers_on_a_unix_socket() {
    let said = record_under_load(shop_service("sync"), "/api/products/", 30);
    assert!(said.contains("unix sockets: ") && said.contains("of how many is not known"), "{said}");
}

#[test]
fn record_live_of_django_with_gevent_workers_on_tcp() {
    let said = record_under_load(shop_service("gevent").on_tcp(), "/api/products/", 60);
    assert!(said.contains("TCP: ") && said.contains("at least "), "{said}");
}

#[test]
fn record_live_of_command_workers_on_a_unix_socket() {
    record_under_load(Service::with_config(&demo(20)), "/ok", 200);
}

#[test]
fn record_live_of_command_workers_on_tcp() {
    record_under_load(Service::with_config(&demo(20)).on_tcp(), "/ok", 200);
}

#[test]
fn record_live_does_not_run_in_circles_when_all_workers_are_busy() {
    for on_tcp in [false, true] {
        let service = Service::with_config(&demo(1));
        let mut running = if on_tcp { service.on_tcp() } else { service }.ready();
        let mut tap = tap(&running, "--share 1");
        // Two workers of one connection: requests wait for seconds in the queue, ours among them.
        let hammer = Hammer {
            address: running.address().clone(),
            path: "/sleep/300".to_owned(),
            clients: 12,
            requests: 24,
            reuse: Reuse::Never,
        };
        let tally = hammer.run();
        assert_eq!(tally.get(&Outcome::Ok), Some(&24), "{tally:?}");
        let said = end(&mut tap);
        let again = said.lines().find(|line| line.contains("came back to the tap"));
        let again = again.and_then(|line| line.trim().split(' ').next()?.parse::<u32>().ok()).unwrap_or(0);
        assert!(again < 12, "{said}");
        assert_eq!(running.stop(), End::Code(0));
    }
}

#[test]
fn record_live_passes_on_what_it_does_not_understand() {
    let mut running = Service::with_config(&demo(20)).ready();
    let Address::Unix(path) = running.address().clone() else { panic!("invariant: a unix socket") };
    let mut tap = tap(&running, "--share 1");
    let exchange = |request: &[u8]| {
        let mut stream = UnixStream::connect(&path).expect("connect");
        stream.set_read_timeout(Some(ANSWER_WITHIN)).expect("set a time-out");
        stream.write_all(request).expect("send");
        // Half-closed: the answer comes nevertheless.
        stream.shutdown(std::net::Shutdown::Write).expect("shut down");
        let mut answer = Vec::new();
        let end = stream.read_to_end(&mut answer).map_err(|error| error.kind());
        assert!(matches!(end, Ok(_) | Err(ErrorKind::ConnectionReset)), "{end:?}");
        String::from_utf8_lossy(&answer).into_owned()
    };
    // Until one has gone through the tap and was seen there.
    for _ in 0..200 {
        exchange(b"\x16\x03\x01garbage\r\n\r\n");
        let pipelined = exchange(b"GET /ok HTTP/1.1\r\nHost: a\r\n\r\nGET /ok HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        assert_eq!(pipelined.matches("200 OK").count(), 2, "{pipelined}");
        assert!(exchange(b"GET /ok HTTP/1.0\r\n\r\n").contains("200 OK"));
    }
    let said = end(&mut tap);
    for reason in ["not the HTTP/1 that is read here", "sent before the request before it was answered", "read in part"] {
        assert!(said.contains(reason), "{reason}: {said}");
    }
    // Which connections go through the tap is the kernel's choice: perhaps none of those that can be recorded.
    let written = std::fs::read_to_string(running.directory().join("live.jsonl")).unwrap_or_default();
    assert!(written.lines().skip(1).all(|line| line.contains(r#""u":"/ok""#)), "{written}");
    assert_eq!(running.stop(), End::Code(0));
}

#[test]
fn record_live_ends_with_the_service_which_can_start_again_at_once() {
    let config = demo(20);
    let mut running = Service::with_config(&config).on_tcp().ready();
    let tap = &mut tap(&running, "--share 1");
    let Address::Tcp(address) = running.address().clone() else { panic!("invariant: TCP") };
    assert_eq!(running.stop(), End::Code(0));
    // The sockets were given back before the service ended: nobody listens there.
    let listener = std::net::TcpListener::bind(&address).expect("bind the address again");
    assert_eq!(tap.await_end(), End::Code(0), "{}", tap.said());
    assert!(tap.said().contains("the service takes its sockets back"), "{}", tap.said());
    drop(listener);
    assert!(!running.directory().join("control.sock").exists());
}

#[test]
fn record_live_killed_leaves_the_service_serving() {
    let mut running = Service::with_config(&demo(20)).on_tcp().ready();
    let mut killed = tap(&running, "--share 1");
    let hammer = Hammer {
        address: running.address().clone(),
        path: "/sleep/20".to_owned(),
        clients: 4,
        requests: usize::MAX,
        reuse: Reuse::Never,
    };
    let load = hammer.clone().start();
    await_recorded(&mut killed, &running, 5);
    killed.signal(Signal::KILL);
    assert_eq!(killed.await_end(), End::Signal(9));
    // Only what went through the tap was lost.
    let tally = load.finish();
    let lost: usize = tally.iter().filter(|(outcome, _)| **outcome != Outcome::Ok).map(|(_, count)| count).sum();
    assert!(lost <= 4, "{tally:?}");
    let tally = Hammer { requests: 200, ..hammer }.run();
    assert_eq!(tally.get(&Outcome::Ok), Some(&200), "{tally:?}");
    assert!(recorded(&running).requests.len() >= 5);
    // The sockets are free to be lent again.
    std::fs::remove_file(running.directory().join("live.jsonl")).expect("remove the recording");
    end(&mut tap(&running, "--share 1"));
    assert_eq!(running.stop(), End::Code(0));
}

#[test]
fn record_live_ends_at_its_limits() {
    let mut running = Service::with_config(&demo(20)).ready();
    let clients = Clients::start(running.address(), "/ok", 2);
    let mut limited = tap(&running, "--share 1 --max-requests 7");
    assert_eq!(limited.await_end(), End::Code(0), "{}", limited.said());
    assert_eq!(recorded(&running).requests.len(), 7);
    let mut again = start_tap(&running, "");
    assert_eq!(again.await_end(), End::Code(73), "a recording is never overwritten: {}", again.said());
    std::fs::remove_file(running.directory().join("live.jsonl")).expect("remove the recording");
    let mut timed = tap(&running, "--share 0.5 --duration 300ms");
    assert_eq!(timed.await_end(), End::Code(0), "{}", timed.said());
    clients.finish();
    assert_eq!(running.stop(), End::Code(0));
}

#[test]
fn record_live_packs_as_the_name_says() {
    let mut running = Service::with_config(&demo(20)).ready();
    let clients = Clients::start(running.address(), "/ok", 2);
    let file = running.directory().join("live.jsonl.zst");
    let arguments = format!("--share 1 --max-requests 7 --output {}", file.display());
    let mut command = Command::new(env!("CARGO_BIN_EXE_tuningfork"));
    command.args(["record", "live", "-c"]).arg(running.directory().join("tuningfork.toml")).args(arguments.split(' '));
    let mut packed = Watched::start(command, Journal::default());
    assert_eq!(packed.await_end(), End::Code(0), "{}", packed.said());
    clients.finish();
    assert_eq!(std::fs::metadata(&file).expect("the recording").permissions().mode() & 0o777, 0o600);
    let plain = zstd::decode_all(std::fs::File::open(&file).expect("open")).expect("a whole file");
    assert_eq!(recording::read(plain.as_slice()).expect("a recording").requests.len(), 7);

    let mut command = Command::new(env!("CARGO_BIN_EXE_tuningfork"));
    command.args(["record", "live", "-o", "-", "-c"]).arg(running.directory().join("tuningfork.toml"));
    let mut refused = Watched::start(command, Journal::default());
    assert_eq!(refused.await_end(), End::Code(73));
    assert!(refused.said().contains("to a file only"), "{}", refused.said());
    assert_eq!(running.stop(), End::Code(0));
}

#[test]
fn record_live_loses_no_answer_to_a_request_that_nobody_reads() {
    let mut running = shop_service("sync").ready();
    let mut tap = tap(&running, "--share 1");
    let head = "POST /nowhere HTTP/1.1\r\nHost: test\r\nContent-Length: 2000000\r\n\r\n";
    let body = vec![b'x'; 2_000_000];
    for request in 0..60 {
        let mut client = Client::connect(running.address(), ANSWER_WITHIN).expect("connect");
        client.send(head.as_bytes()).expect("send");
        // The worker closes the connection before it has read this.
        let _ = client.send(&body);
        let reply = client.receive().unwrap_or_else(|error| panic!("request {request}: {error}\n{}", tap.said()));
        assert_eq!(reply.status, 404, "{}", reply.text());
    }
    let said = end(&mut tap);
    let through =
        said.lines().find_map(|line| line.trim().strip_prefix("unix sockets: ")?.split(';').next()?.parse::<u32>().ok());
    assert!(through.is_some_and(|through| through > 0), "{said}");
    assert_eq!(running.stop(), End::Code(0));
}

#[test]
fn record_live_control_socket_is_private_and_robust() {
    let service = Service::with_config(&demo(20));
    let socket = service.directory().join("control.sock");
    // One that was left behind by a killed supervisor.
    drop(std::os::unix::net::UnixListener::bind(&socket).expect("bind"));
    let mut running = service.ready();
    assert_eq!(std::fs::metadata(&socket).expect("the socket").permissions().mode() & 0o777, 0o600);
    let clients = Clients::start(running.address(), "/ok", 2);
    let garbage: [&[u8]; 5] = [b"\n", b"{\"do\":", b"\0\xff\n\n\n{}\n", &vec![b'['; 100_000], b"GET / HTTP/1.1\r\n\r\n"];
    let idle: Vec<_> = (0..30).filter_map(|_| connect_at_once(&socket)).collect();
    drop(idle);
    for bytes in garbage {
        let mut stream = UnixStream::connect(&socket).expect("connect");
        // It may be cut off in the middle.
        let _ = stream.write_all(bytes);
    }
    let said = ask(&socket, "{\"do\":\"status\"}");
    assert!(said.starts_with("{\"ok\":{") && said.contains("\"target\":2") && said.contains("\"state\":\"ready\""), "{said}");
    assert!(ask(&socket, "{\"do\":\"fly\"}").starts_with("{\"error\":"));
    if rustix::process::geteuid().is_root() {
        let [kept_out, refused] = as_nobody(&socket, running.directory());
        assert!(kept_out.contains("run this as root or as the user of the service"), "{kept_out}");
        assert!(refused.contains("the supervisor refuses: only root and user 0 may use this socket"), "{refused}");
    }
    clients.finish();
    assert_eq!(running.stop(), End::Code(0));
    assert!(!socket.exists());
}

/// A connection, unless the queue is full.
fn connect_at_once(socket: &Path) -> Option<std::os::fd::OwnedFd> {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
    let fd = socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::NONBLOCK, None).expect("make a socket");
    connect(&fd, &SocketAddrUnix::new(socket).expect("a path")).ok().map(|()| fd)
}

fn ask(socket: &Path, request: &str) -> String {
    let mut stream = UnixStream::connect(socket).expect("connect");
    stream.set_read_timeout(Some(ANSWER_WITHIN)).expect("set a time-out");
    stream.write_all(format!("{request}\n").as_bytes()).expect("ask");
    let mut said = String::new();
    std::io::BufRead::read_line(&mut BufReader::new(stream), &mut said).expect("read the reply");
    said
}

/// What user nobody is told: first as it is, then if the socket's mode did not keep him out.
fn as_nobody(socket: &Path, directory: &Path) -> [String; 2] {
    let open = |path: &Path| std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777)).expect("open");
    // Where the program was built, nobody may have no business.
    let program = directory.join("tuningfork");
    std::fs::copy(env!("CARGO_BIN_EXE_tuningfork"), &program).expect("copy the program");
    open(directory);
    let run = || {
        let mut command = Command::new(&program);
        command.args(["record", "live", "-o", "nobody.jsonl", "--control"]).arg(socket).current_dir(directory);
        let output = command.uid(65534).gid(65534).output().expect("run it");
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let kept_out = run();
    open(socket);
    [kept_out, run()]
}
