//! The demo worker as a supervisor and its clients see it.

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, SystemTime};

use rustix::process::Signal;

use crate::support::PATIENCE;
use crate::support::hammer::{Hammer, Outcome, Reuse};
use crate::support::http::Client;
use crate::support::journal::Journal;
use crate::support::lone_worker::LoneWorker;
use crate::support::process::{End, lives};

#[test]
fn demo_worker_serves_tcp_and_unix() {
    for worker in [LoneWorker::with_connections(4), LoneWorker::with_connections(4).on_unix_socket()] {
        let mut worker = worker.ready();
        assert_eq!(worker.get("/ok").text(), "ok\n");
        assert_eq!(worker.get("/work?cpu_us=100&wait_ms=1&bytes=70000").body.len(), 70_000);
        assert_eq!(worker.get("/nowhere").status, 404);
        worker.signal(Signal::TERM);
        worker.await_notice("STOPPING=1");
        assert_eq!(worker.await_end(), End::Code(0));
    }
}

#[test]
fn demo_worker_says_that_it_is_ready_until_it_is_heard() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("busy");
    let supervisor = UnixDatagram::bind(&path).unwrap();
    supervisor.set_read_timeout(Some(PATIENCE)).unwrap();
    let others = UnixDatagram::unbound().unwrap();
    others.set_nonblocking(true).unwrap();
    while others.send_to(b"WATCHDOG=1", &path).is_ok() {}
    let worker = LoneWorker::with_connections(4).env("NOTIFY_SOCKET", path.to_str().unwrap()).start();
    // It answers once it has given up saying so for the first time.
    assert_eq!(worker.get("/ok").status, 200);
    let mut word = [0; 64];
    while supervisor.recv(&mut word).map(|length| word[..length] != *b"READY=1").expect("READY=1") {}
}

#[test]
fn demo_worker_keeps_connections_and_answers_pipelined_requests_in_order() {
    let worker = LoneWorker::with_connections(4).ready();
    let mut client = worker.connect();
    client.send(b"POST /status/201 HTTP/1.1\r\nContent-Length: 5\r\n\r\nabcdeGET /status/202 HTTP/1.1\r\n\r\nGET /ok HTTP/1.1\r\n\r\n").unwrap();
    let statuses = [(); 3].map(|()| client.receive().unwrap().status);
    assert_eq!(statuses, [201, 202, 200]);
    client.send(b"GET / HTTP/9\r\n\r\n").unwrap();
    assert_eq!(client.receive().unwrap().status, 400);
    assert!(client.receive().is_err(), "a connection that broke the rules is closed");
}

#[test]
fn demo_worker_overlaps_waits_and_not_more_connections_than_it_was_given() {
    let worker = LoneWorker::with_connections(5).ready();
    let begun = SystemTime::now();
    let hammer =
        Hammer { address: worker.address().clone(), path: "/sleep/100".into(), clients: 10, requests: 40, reuse: Reuse::Never };
    assert_eq!(hammer.run().into_iter().collect::<Vec<_>>(), [(Outcome::Ok, 40)]);
    let took = begun.elapsed().unwrap();
    // 40 waits of 0.1 s, five at a time; one after the other they would take 4 s.
    assert!(took >= Duration::from_millis(800), "more than five at a time: {took:?}");
    assert!(took < Duration::from_millis(3_900), "the waits did not overlap: {took:?}");
}

#[test]
fn demo_worker_computes_one_request_at_a_time() {
    let worker = LoneWorker::with_connections(4).ready();
    let begun = SystemTime::now();
    let path = "/work?cpu_us=50000".into();
    let hammer = Hammer { address: worker.address().clone(), path, clients: 4, requests: 8, reuse: Reuse::KeepAlive };
    assert_eq!(hammer.run().into_iter().collect::<Vec<_>>(), [(Outcome::Ok, 8)]);
    assert!(begun.elapsed().unwrap() >= Duration::from_millis(400), "8 × 50 ms of one core");
}

#[test]
fn demo_worker_answers_what_it_has_before_it_leaves() {
    let mut worker = LoneWorker::with_connections(4).ready();
    let (mut busy, mut idle) = (worker.connect(), worker.connect());
    assert_eq!(idle.get("/ok").unwrap().header("connection"), Some("keep-alive"));
    busy.send(b"GET /sleep/500 HTTP/1.1\r\n\r\n").unwrap();
    // Answered in order of arrival: the worker has read the sleeper's request when it answers this one.
    assert_eq!(idle.get("/ok").unwrap().status, 200);
    worker.signal(Signal::TERM);
    worker.await_notice("STOPPING=1");
    let last = idle.get("/ok").expect("an idle connection may be used once more");
    assert_eq!((last.status, last.header("connection")), (200, Some("close")));
    let answer = busy.receive().expect("the request in flight is answered");
    assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    assert_eq!(worker.await_end(), End::Code(0));
}

#[test]
fn demo_worker_leaves_at_once_on_quit_and_int() {
    for signal in [Signal::QUIT, Signal::INT] {
        let mut worker = LoneWorker::with_connections(4).ready();
        let mut client = worker.connect();
        client.send(b"GET /sleep/60000 HTTP/1.1\r\n\r\n").unwrap();
        worker.signal(signal);
        assert_eq!(worker.await_end(), End::Code(0));
        assert!(client.receive().is_err());
    }
}

#[test]
fn demo_worker_beats_until_it_hangs() {
    let mut worker = LoneWorker::with_connections(4).env("WATCHDOG_USEC", "100000").ready();
    worker.await_notice("WATCHDOG=1");
    let mut client = worker.connect();
    client.send(b"GET /hang HTTP/1.1\r\n\r\n").unwrap();
    let address = worker.address().clone();
    worker.wait("no answer any more", |_| {
        let answer = Client::connect(&address, Duration::from_millis(200)).and_then(|mut client| client.get("/ok"));
        answer.is_err().then_some(())
    });
    worker.signal(Signal::TERM);
    worker.signal(Signal::ABORT);
    assert_eq!(worker.await_end(), End::Signal(Signal::ABORT.as_raw()), "TERM meant nothing");
}

#[test]
fn demo_worker_suffers_what_it_is_told() {
    let ends = [("/segv", End::Signal(11)), ("/abort", End::Signal(6)), ("/exit/7", End::Code(7)), ("/exit/0", End::Code(0))];
    for (path, end) in ends {
        let mut worker = LoneWorker::with_connections(4).ready();
        let mut client: Client = worker.connect();
        client.send(format!("GET {path} HTTP/1.1\r\n\r\n").as_bytes()).unwrap();
        assert_eq!(worker.await_end(), end, "{path}");
    }
}

#[test]
fn demo_worker_tells_about_itself_and_leaks() {
    let worker = LoneWorker::with_connections(4).env("SEEN", "yes").argument("--memory=3").ready();
    assert!(worker.get("/env").text().contains("SEEN=yes\n"));
    assert!(worker.get("/ids").text().contains(&format!("pid {}\n", worker.pid())));
    let before = worker.get("/fds").text().lines().count();
    assert_eq!(worker.get("/leakfd/10").status, 200);
    assert_eq!(worker.get("/fds").text().lines().count(), before + 10);
    assert_eq!(worker.get("/alloc/5").status, 200);
    let status = std::fs::read_to_string(format!("/proc/{}/status", worker.pid())).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse::<u32>().ok());
    assert!(resident.unwrap() > 8 << 10, "{resident:?} kB");
    assert_eq!(worker.get("/spew/1000").status, 200);
}

#[test]
fn demo_worker_leaves_an_orphan_behind_and_the_harness_ends_it() {
    let worker = LoneWorker::with_connections(4).ready();
    let orphan = worker.get("/orphan").text().trim().parse().unwrap();
    assert!(lives(orphan) && !worker.children().contains(&orphan));
    drop(worker);
    let gone = Journal::default().wait(PATIENCE, |_| (!lives(orphan)).then_some(()));
    assert!(gone.is_some(), "{orphan} lives");
}

#[test]
#[should_panic(expected = "it left processes behind")]
fn demo_worker_that_leaves_an_orphan_behind_fails_a_test() {
    let mut worker = LoneWorker::with_connections(4).ready();
    worker.get("/orphan");
    worker.signal(Signal::TERM);
    worker.await_end();
}

#[test]
fn demo_worker_boots_as_it_is_steered() {
    let end = |name: &str, content: &str| LoneWorker::with_connections(4).steer(name, content).start().await_end();
    assert_eq!(end("boot_fail", ""), End::Code(1));
    assert_eq!(end("crash_on_boot", ""), End::Signal(6));
    assert_eq!(end("boot_sleep", "soon"), End::Code(1));
    assert_eq!(end("die_after_ready", "10"), End::Code(1));
    let mut late = LoneWorker::with_connections(4).steer("boot_sleep", "300").start();
    assert_eq!(late.get("/ok").status, 200);
    late.await_notice("READY=1");
    let mut silent = LoneWorker::with_connections(4).steer("never_ready", "").start();
    assert_eq!(silent.get("/ok").status, 200);
    silent.signal(Signal::TERM);
    assert_eq!(silent.await_end(), End::Code(0));
    assert!(!silent.said().contains("READY=1"));
}

#[test]
fn demo_worker_can_be_deaf_to_term() {
    for (worker, path) in
        [(LoneWorker::with_connections(4).steer("no_term", ""), "/ok"), (LoneWorker::with_connections(4), "/ignore-term")]
    {
        let mut worker = worker.ready();
        assert_eq!(worker.get(path).status, 200);
        let address = worker.address().clone();
        let hammer = Hammer { address, path: "/ok".into(), clients: 2, requests: 1_000_000, reuse: Reuse::KeepAlive }.start();
        worker.signal(Signal::TERM);
        let before = hammer.sent();
        worker.wait("answers after TERM", |_| (hammer.sent() > before + 100).then_some(()));
        assert_eq!(hammer.finish().into_keys().collect::<Vec<_>>(), [Outcome::Ok]);
        assert!(!worker.said().contains("STOPPING=1"));
        worker.signal(Signal::KILL);
        assert_eq!(worker.await_end(), End::Signal(9));
    }
}
