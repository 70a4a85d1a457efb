//! Real sockets, and clients of the worst kind.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::*;
use crate::metrics::tests::{Fixed, WELL, assert_lint_clean, exposition, observation, row};
use crate::metrics::{Counters, Observation, Pulse};
use crate::supervisor::event::WorkerState;

/// So long a client waits before the test counts as failed.
const PATIENCE: Duration = Duration::from_secs(20);
const SOON: Duration = Duration::from_millis(100);

fn serve_on_tcp<S: Source>(limits: Limits, exposition: Exposition<S>) -> (Endpoint, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (Endpoint::start_within(limits, Listener::Tcp(listener), exposition).unwrap(), address)
}

fn well() -> Exposition<Fixed> {
    exposition(Fixed(observation(), WELL))
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Status line and headers, and the body, of one request on a connection of its own.
fn ask(address: SocketAddr, request_line: &str) -> (String, String) {
    let mut stream = connect(address);
    write!(stream, "{request_line} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.to_lowercase(), body.to_owned())
}

fn status(address: SocketAddr, request_line: &str) -> String {
    ask(address, request_line).0.split(' ').nth(1).unwrap().to_owned()
}

/// Whether the other side closed without a word, in time.
fn is_closed(stream: &mut impl Read) -> bool {
    match stream.read_to_end(&mut Vec::new()) {
        Ok(_) => true,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

#[test]
fn a_scrape_gets_a_page_that_passes_promtool() {
    let (endpoint, address) = serve_on_tcp(Limits::STANDARD, well());
    let (head, page) = ask(address, "GET /metrics");
    assert!(head.starts_with("http/1.1 200 "), "{head}");
    assert!(head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{head}");
    assert_lint_clean(&page);
    let (head, body) = ask(address, "HEAD /metrics");
    assert!(head.contains(&format!("content-length: {}", page.len())) && body.is_empty(), "{head}");
    endpoint.stop();
    assert_eq!(TcpStream::connect(address).unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn paths_and_methods_we_do_not_know_are_refused() {
    let (_endpoint, address) = serve_on_tcp(Limits::STANDARD, well());
    for line in ["GET /", "GET /metrics/", "POST /x", "OPTIONS *", "GET /../metrics"] {
        assert_eq!(status(address, line), "404", "{line}");
    }
    for line in ["POST /metrics", "DELETE /healthz", "BREW /readyz"] {
        let (head, _) = ask(address, line);
        assert!(head.starts_with("http/1.1 405") && head.contains("allow: get, head"), "{line}: {head}");
    }
    assert_eq!(status(address, "GET /metrics?name=x"), "200");
}

#[test]
fn probes_follow_the_pulse() {
    let pulse = |seconds, ready, stopping| Pulse { since_turn: Duration::from_secs(seconds), ready, stopping };
    let cases = [
        (pulse(0, 3, false), ("200", "alive\n"), ("200", "ready\n")),
        (pulse(10, 0, false), ("200", "alive\n"), ("503", "no worker is ready\n")),
        (pulse(0, 3, true), ("200", "alive\n"), ("503", "the service is stopping\n")),
        (pulse(11, 3, false), ("503", "the supervisor's loop has not turned for 11 seconds\n"), ("200", "ready\n")),
    ];
    for (pulse, health, readiness) in cases {
        let (_endpoint, address) = serve_on_tcp(Limits::STANDARD, exposition(Fixed(observation(), pulse)));
        for (path, (code, line)) in [("GET /healthz", health), ("GET /readyz", readiness)] {
            let (head, body) = ask(address, path);
            assert_eq!((head.split(' ').nth(1), body.as_str()), (Some(code), line), "{pulse:?}");
        }
    }
}

/// Counts how often it is asked.
struct Counting(Arc<AtomicUsize>);

impl Source for Counting {
    fn observe(&mut self) -> Observation {
        self.0.fetch_add(1, Relaxed);
        observation()
    }

    fn pulse(&mut self) -> Pulse {
        WELL
    }
}

#[test]
fn a_flood_of_scrapes_costs_one() {
    for (fresh, expected) in [(PATIENCE, 1), (Duration::ZERO, 50)] {
        let asked = Arc::new(AtomicUsize::new(0));
        let counters = Arc::new(Counters::new(std::time::UNIX_EPOCH).unwrap());
        let exposition = Exposition::new(counters, Counting(Arc::clone(&asked)));
        let (endpoint, address) = serve_on_tcp(Limits { fresh, ..Limits::STANDARD }, exposition);
        for _ in 0..50 {
            assert_eq!(status(address, "GET /metrics"), "200");
        }
        endpoint.stop();
        let count = asked.load(Relaxed);
        assert!(count == expected || fresh.is_zero() && (1..=expected).contains(&count), "{count}");
    }
}

#[test]
fn readers_who_do_not_read_take_eight_pages_and_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics.sock");
    let mut seen = observation();
    // More than a unix socket holds, so that writing has to wait.
    seen.workers = (0..4096).map(|slot| row(slot, WorkerState::Ready, 1)).collect();
    let limits = Limits { age: Duration::from_secs(2), ..Limits::STANDARD };
    let listener = Listener::Unix(UnixListener::bind(&path).unwrap());
    let _endpoint = Endpoint::start_within(limits, listener, exposition(Fixed(seen, WELL))).unwrap();
    let first_bytes = |request: &[u8]| {
        let mut stream = UnixStream::connect(&path).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(request).unwrap();
        let mut bytes = [0; 12];
        stream.read_exact(&mut bytes).unwrap();
        (String::from_utf8_lossy(&bytes).into_owned(), stream)
    };
    let scrape = || first_bytes(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n");
    let mut slow: Vec<_> = (0..8).map(|_| scrape()).collect();
    assert!(slow.iter().all(|(status, _)| status == "HTTP/1.1 200"));
    assert_eq!(scrape().0, "HTTP/1.1 503");
    assert_eq!(first_bytes(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n").0, "HTTP/1.1 200");
    // They are cut off with the page unfinished, and their permits come back.
    let mut rest = Vec::new();
    let (_, first) = slow.first_mut().unwrap();
    while slow_is_alive(first) {}
    first.read_to_end(&mut rest).unwrap();
    assert!(rest.len() < 1 << 20, "{}", rest.len());
    assert_eq!(scrape().0, "HTTP/1.1 200");
}

/// Waits for the other side's end without reading what it wrote.
fn slow_is_alive(stream: &UnixStream) -> bool {
    use rustix::event::{PollFd, PollFlags, poll};
    let mut fds = [PollFd::new(stream, PollFlags::RDHUP)];
    let patience = rustix::event::Timespec::try_from(PATIENCE).unwrap();
    assert_eq!(poll(&mut fds, Some(&patience)).unwrap(), 1, "nobody cut the slow reader off");
    !fds[0].revents().intersects(PollFlags::RDHUP | PollFlags::HUP)
}

#[test]
fn a_slow_head_is_cut_off() {
    let (_endpoint, address) = serve_on_tcp(Limits { head: SOON, ..Limits::STANDARD }, well());
    let mut slow: Vec<_> = (0..10)
        .map(|_| {
            let mut stream = connect(address);
            stream.write_all(b"GET /metrics HT").unwrap();
            stream
        })
        .collect();
    assert!(slow.iter_mut().all(is_closed));
}

#[test]
fn a_connection_ends_with_age_and_with_the_endpoint() {
    let (_endpoint, address) = serve_on_tcp(Limits { age: SOON, ..Limits::STANDARD }, well());
    assert!(is_closed(&mut connect(address)));
    let (endpoint, address) = serve_on_tcp(Limits { farewell: SOON, ..Limits::STANDARD }, well());
    let (mut idle, mut halfway) = (connect(address), connect(address));
    halfway.write_all(b"GET /metr").unwrap();
    assert_eq!(status(address, "GET /healthz"), "200");
    drop(endpoint);
    assert!(is_closed(&mut idle) && is_closed(&mut halfway));
}

#[test]
fn a_hundred_idle_connections_keep_nobody_out() {
    let (_endpoint, address) = serve_on_tcp(Limits { connections: 16, ..Limits::STANDARD }, well());
    let mut crowd: Vec<_> = (0..100).map(|_| connect(address)).collect();
    for _ in 0..20 {
        assert_eq!(status(address, "GET /metrics"), "200");
    }
    // At most 16 of them can still be open, and those that made room were the oldest.
    assert!(crowd.iter_mut().take(84).all(is_closed));
}

#[test]
fn one_connection_serves_many_requests_and_a_client_may_close_its_half() {
    let (_endpoint, address) = serve_on_tcp(Limits::STANDARD, well());
    let mut stream = connect(address);
    stream.write_all("GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n".repeat(100).as_bytes()).unwrap();
    stream.shutdown(net::Shutdown::Write).unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).unwrap();
    assert_eq!(answers.matches("HTTP/1.1 200").count(), 100);
}

#[test]
fn bytes_of_any_kind_are_survived() {
    let (endpoint, address) = serve_on_tcp(Limits { head: SOON, ..Limits::STANDARD }, well());
    let noise = prop::collection::vec(any::<u8>(), 0..2000);
    let almost =
        "(GET|POST|HEAD|\\PC{0,9}) /(metrics|\\PC{0,9}) HTTP/[0-9.]{1,4}\r\n([A-Za-z-]{1,20}: ?\\PC{0,30}\r\n){0,5}(\r\n)?"
            .prop_map(String::into_bytes);
    let sizes = "(Content-Length: -?[0-9]{1,30}|Transfer-Encoding: (chunked|x))".prop_map(|header| {
        let body = "f".repeat(400);
        format!("POST /metrics HTTP/1.1\r\n{header}\r\n\r\n{body}").into_bytes()
    });
    let long = (1usize..40_000).prop_map(|length| format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(length)).into_bytes());
    let mut runner = TestRunner::new(Config { cases: 200, failure_persistence: None, ..Config::default() });
    let check = |bytes: Vec<u8>| {
        let mut stream = connect(address);
        // The endpoint may have hung up before it read everything.
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(net::Shutdown::Write);
        prop_assert!(is_closed(&mut stream));
        Ok(())
    };
    runner.run(&prop_oneof![noise, almost, sizes, long], check).unwrap();
    assert_eq!(status(address, "GET /metrics"), "200");
    endpoint.stop();
}
