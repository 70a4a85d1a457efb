//! The metrics endpoint and the control socket: what is no request, and who may not ask.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::process::Uid;
use rustix::thread::set_thread_res_uid;

use super::live::Live;
use super::probe::verdict;
use super::reloads::Dice;
use super::subject::{Kind, Subject};
use crate::support::PATIENCE;
use crate::support::http::{self, Address};
use crate::support::root;
use crate::support::size;

/// What a client of the metrics endpoint could have meant.
const SCRAPES: [&[u8]; 4] = [
    b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    b"POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
    b"GET /readyz HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nAccept-Encoding: gzip\r\n\r\n1\r\na\r\n0\r\n\r\n",
    b"GET http://a/healthz?x=1#y HTTP/1.0\r\nUpgrade: websocket\r\n\r\n",
];
/// What a client of the control socket could have meant. Nothing in here changes anything, and no few damages make it so.
const ORDERS: [&[u8]; 4] = [
    br#"{"do":"status"}"#,
    br#"{"do":"progress","after":7}"#,
    br#"{"do":"scale","workers":"0"}"#,
    br#"[{"do":null,"do":1e999,"\ud800":[[[[[[[[{}]]]]]]]]}]"#,
];
const DAMAGES: u64 = 6;
const LONGEST: u64 = 6_000;
/// Debian's user who owns nothing.
const NOBODY: u32 = 65_534;

/// One of them with some bytes changed, missing, doubled or strange, or only strange bytes.
fn damaged(dice: &mut Dice, meant: &[&[u8]]) -> Vec<u8> {
    let byte = |dice: &mut Dice| u8::try_from(dice.roll(256)).expect("below 256");
    if dice.roll(10) == 0 {
        return (0..dice.roll(LONGEST)).map(|_| byte(dice)).collect();
    }
    let mut input = meant[usize::try_from(dice.roll(meant.len() as u64)).expect("few")].to_vec();
    for _ in 0..=dice.roll(DAMAGES) {
        let at = usize::try_from(dice.roll(input.len() as u64 + 1)).expect("small");
        match dice.roll(4) {
            0 if at < input.len() => input[at] = byte(dice),
            1 if at < input.len() => drop(input.remove(at)),
            2 => input.insert(at, byte(dice)),
            _ => input.extend_from_within(at..),
        }
    }
    input
}

fn connect(socket: &Path) -> UnixStream {
    let stream = UnixStream::connect(socket).expect("connect");
    stream.set_read_timeout(Some(PATIENCE)).expect("set a time limit");
    stream.set_write_timeout(Some(PATIENCE)).expect("set a time limit");
    stream
}

/// One connection: whatever comes back, it comes to an end.
fn scrape(socket: &Path, input: &[u8]) {
    let mut stream = connect(socket);
    // Who is refused early does not read the rest.
    let _ = stream.write_all(input).and_then(|()| stream.shutdown(Shutdown::Write));
    let mut answer = Vec::new();
    if let Err(error) = stream.read_to_end(&mut answer) {
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{}", input.escape_ascii());
    }
}

/// One line after the other on a connection, until it is closed.
fn order(socket: &Path, dice: &mut Dice, count: u64) {
    let mut stream = BufReader::new(connect(socket));
    for _ in 0..count {
        let mut input = damaged(dice, &ORDERS);
        input.retain(|byte| *byte != b'\n');
        input.push(b'\n');
        let mut reply = String::new();
        let sent = stream.get_mut().write_all(&input);
        if sent.and_then(|()| stream.read_line(&mut reply)).unwrap_or(0) == 0 {
            stream = BufReader::new(connect(socket));
        } else {
            assert!(reply.starts_with("{\"ok\":") || reply.starts_with("{\"error\":"), "{}: {reply}", input.escape_ascii());
        }
    }
}

#[test]
fn f51_malformed_requests() {
    let (scrapes, orders) = (size(3_000, 500_000), size(3_000, 500_000));
    let sections = "[metrics]\nlisten = \"unix:@DIR@/metrics.sock\"\n[control]\nsocket = \"@DIR@/control.sock\"\n";
    let mut live = Subject::of(Kind::Command).sections(sections).ready();
    let workers = live.serving();
    let [metrics, control]: [PathBuf; 2] = ["metrics.sock", "control.sock"].map(|name| live.directory().join(name));
    let mut dice = Dice::of(51);
    (0..scrapes).for_each(|_| scrape(&metrics, &damaged(&mut dice, &SCRAPES)));
    order(&control, &mut dice, orders);
    let page = http::get(&Address::Unix(metrics), "/metrics").expect("a page");
    assert_eq!(page.status, 200);
    let (same, said) = (live.serving() == workers && live.children() == workers, live.said());
    let touched = ["panicked", "asked at the control socket", "reload begins", "number of workers changed"];
    let touched: Vec<_> = touched.into_iter().filter(|part| said.contains(part)).collect();
    let found = format!(
        "{scrapes} inputs to metrics and {orders} to control: {}, workers {}",
        if touched.is_empty() { "nothing was done" } else { "something was done" },
        if same { "the same" } else { "replaced" }
    );
    verdict("F51", same && touched.is_empty() && live.is_alive(), &found);
    live.audit();
}

/// How many of so many orders another user got accepted.
fn accepted(control: &Path, attempts: u64) -> u64 {
    let control = control.to_owned();
    let stranger = thread::spawn(move || {
        let nobody = Uid::from_raw(NOBODY);
        // This thread's alone: the others stay root.
        set_thread_res_uid(nobody, nobody, nobody).expect("become somebody else");
        let order = |_| {
            let mut stream = UnixStream::connect(&control).ok()?;
            stream.set_read_timeout(Some(PATIENCE)).ok()?;
            stream.write_all(b"{\"do\":\"reload\"}\n").ok()?;
            let mut reply = String::new();
            BufReader::new(stream).read_line(&mut reply).ok().filter(|_| !reply.starts_with("{\"error\":\"only root"))
        };
        (0..attempts).filter_map(order).count() as u64
    });
    stranger.join().expect("the stranger")
}

/// Kept out by the socket's mode, and where somebody opened it by who they are.
#[test]
fn f55_strangers_at_the_control_socket() {
    if root::is_missing() {
        return;
    }
    let attempts = size(50, 500);
    let (subject, _) = Subject::of(Kind::Command).with_doors();
    let live = subject.ready();
    let control = live.directory().join("control.sock");
    let open = |path: &Path, mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("set a mode");
    open(live.directory(), 0o755);
    let by_mode = accepted(&control, attempts);
    open(&control, 0o666);
    let by_name = accepted(&control, attempts);
    open(&control, 0o600);
    let untouched = !live.said().contains("reload");
    let found = format!(
        "{by_mode} of {attempts} orders accepted at a socket of mode 0600, {by_name} of {attempts} at one that everybody may open"
    );
    verdict("F55", by_mode + by_name == 0 && untouched && told_once_in_a_while(&live), &found);
    live.audit();
}

/// It was said that somebody was refused.
fn told_once_in_a_while(live: &Live) -> bool {
    live.journal
        .wait(Duration::from_secs(5), |lines| lines.iter().any(|line| line.contains("refused at the control")).then_some(()))
        .is_some()
}
