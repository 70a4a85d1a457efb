//! Clients that are too many, too slow or gone, at the service and at the metrics endpoint.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use rustix::net::sockopt::set_socket_linger;
use rustix::process::Signal;

use super::live::Live;
use super::probe::{allowed, cpu, now, since, verdict};
use super::subject::{Kind, Subject};
use crate::support::PATIENCE;
use crate::support::http::{self, Address, Client};
use crate::support::process::send;
use crate::support::service::free_port;

/// Goals: for an answer once a load is over, for a page beside slow clients, for the end of who says half a head, whose limit is 10 s,
/// and for another worker in a flood.
const AS_BEFORE: Duration = Duration::from_secs(1);
const PAGE: Duration = Duration::from_millis(100);
const HEAD: Duration = Duration::from_secs(10);
const CLOSED: Duration = Duration::from_secs(1);
const NEXT_WORKER: Duration = Duration::from_millis(100);

fn with_metrics(subject: Subject) -> (Live, String) {
    let metrics = format!("127.0.0.1:{}", free_port());
    let live = subject.on_tcp().sections(&format!("[metrics]\nlisten = \"{metrics}\"\n")).ready();
    (live, metrics)
}

fn scrape(metrics: &str) -> String {
    http::get(&Address::Tcp(metrics.to_owned()), "/metrics").expect("a page").text()
}

fn value(page: &str, series: &str) -> f64 {
    let line = page.lines().find_map(|line| line.strip_prefix(series));
    line.and_then(|rest| rest.split_whitespace().last()?.parse().ok()).unwrap_or_else(|| panic!("no {series} in\n{page}"))
}

fn tcp(address: &Address) -> &str {
    let Address::Tcp(address) = address else { panic!("invariant: on TCP") };
    address
}

/// 200 connections at a queue of 16 before workers that are busy.
#[test]
fn f46_listen_queue_overflows() {
    let metrics = format!("127.0.0.1:{}", free_port());
    // What stands below [listen] belongs to it.
    let sections = format!("backlog = 16\n[metrics]\nlisten = \"{metrics}\"\n");
    let mut live = Subject::of(Kind::Command).workers(1).connections(1).on_tcp().file("ledger", "").sections(&sections).ready();
    let before = value(&scrape(&metrics), "tuningfork_listen_overflows_total ");
    let (address, ledger) = (live.address().clone(), live.directory().join("ledger"));
    let busy = std::thread::spawn(move || http::get(&address, "/sleep/1500?id=1").map(|reply| reply.status));
    live.wait("a busy worker", |_| std::fs::read_to_string(&ledger).is_ok_and(|text| !text.is_empty()).then_some(()));
    let open = |_| {
        let (address, wait) = (tcp(live.address()).parse().expect("an address"), Duration::from_millis(100));
        std::thread::spawn(move || TcpStream::connect_timeout(&address, wait).is_ok())
    };
    let opened: Vec<_> = (0..200).map(open).collect();
    let connected = opened.into_iter().map(|client| client.join().expect("a client")).filter(|done| *done).count();
    // A page may be as old as 250 ms.
    let lost = live.wait("counted overflows", |_| {
        let lost = value(&scrape(&metrics), "tuningfork_listen_overflows_total ") - before;
        (lost > 0.0).then_some(lost)
    });
    assert_eq!(busy.join().expect("the client").expect("an answer"), 200);
    let ended = now();
    assert_eq!(live.get("/ok").status, 200, "as before once the load has ended");
    let again = since(ended);
    let found = format!(
        "{connected} of 200 connections fitted, {lost} overflows were counted, {} ms after the load it answers",
        again.as_millis()
    );
    verdict("F46", connected < 200 && lost > 0.0 && again <= allowed(AS_BEFORE), &found);
    live.audit();
}

/// Whether the other side closes by then: with an end or with a reset, after whatever it says.
fn is_closed(client: &mut TcpStream, by: Duration) -> bool {
    let mut answer = [0; 512];
    loop {
        // No limit at all would be 0.
        let left = by.saturating_sub(now()).max(Duration::from_millis(1));
        client.set_read_timeout(Some(left)).expect("set a timeout");
        match client.read(&mut answer) {
            Ok(0) => return true,
            Ok(_) if now() < by => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Ok(_) => return false,
            Err(error) => return error.kind() == ErrorKind::ConnectionReset,
        }
    }
}

/// Nobody who is slow keeps anybody else from a page.
#[test]
fn f47_slow_clients_of_metrics() {
    const SLOW: usize = 400;
    let (live, metrics) = with_metrics(Subject::of(Kind::Command));
    let begun = now();
    let mut slow: Vec<TcpStream> = (0..SLOW)
        .map(|_| {
            let mut client = TcpStream::connect(&metrics).expect("connect");
            client.write_all(b"GET /metrics HTTP/1.1\r\nHost: ").expect("send");
            client
        })
        .collect();
    let all_there = now();
    let page = || {
        let asked = now();
        assert!(scrape(&metrics).contains("tuningfork_workers"));
        since(asked)
    };
    let slowest = (0..20).map(|_| page()).max().unwrap_or_default();
    let by = all_there + HEAD + allowed(CLOSED);
    let closed = slow.iter_mut().filter_map(|client| is_closed(client, by).then_some(())).count();
    let found = format!(
        "{closed} of {SLOW} slow ones closed within {:.1} s; 20 pages meanwhile, the slowest after {} ms",
        since(begun).as_secs_f64(),
        slowest.as_millis()
    );
    verdict("F47", closed == SLOW && slowest <= allowed(PAGE), &found);
    live.audit();
}

/// Connects and resets at once.
fn reset(address: &str) {
    // The queue may be full of those that were reset before.
    if let Ok(client) = TcpStream::connect(address) {
        set_socket_linger(&client, Some(Duration::ZERO)).expect("set linger");
    }
}

fn resets(fault: &str, kind: Kind) {
    const RESETS: usize = 5_000;
    let (mut live, metrics) = if kind == Kind::Gunicorn {
        (Subject::of(kind).on_tcp().ready(), None)
    } else {
        let (live, metrics) = with_metrics(Subject::of(kind));
        (live, Some(metrics))
    };
    let workers = live.serving();
    for address in [Some(tcp(live.address()).to_owned()), metrics.clone()].into_iter().flatten() {
        (0..RESETS).for_each(|_| reset(&address));
    }
    assert_eq!(live.get("/ok").status, 200);
    if let Some(metrics) = &metrics {
        assert!(scrape(metrics).contains("tuningfork_workers"));
    }
    let same = live.await_ready_workers("two workers", |now| now.len() == 2) == workers;
    verdict(fault, same, &format!("{RESETS} resets at each socket, workers {}", if same { "the same" } else { "replaced" }));
    live.audit();
}

#[test]
fn f48_reset_flood() {
    resets("F48", Kind::under_test());
}

#[test]
fn f48z_reset_flood() {
    resets("F48z", Kind::Python);
}

/// 200 clients ask for pages as fast as they get them, and a worker dies meanwhile.
#[test]
fn f50_scrape_flood() {
    const CLIENTS: usize = 200;
    let (mut live, metrics) = with_metrics(Subject::of(Kind::Command));
    let (begun, used) = (now(), cpu(live.pid()));
    let flood = |_| {
        let address = Address::Tcp(metrics.clone());
        std::thread::spawn(move || {
            let mut statuses = Vec::new();
            let until = now() + Duration::from_secs(3);
            while now() < until {
                // The oldest connection is closed where there are too many.
                let reply = Client::connect(&address, PATIENCE).and_then(|mut client| client.get("/metrics"));
                statuses.extend(reply.map(|reply| reply.status));
            }
            statuses
        })
    };
    let clients: Vec<_> = (0..CLIENTS).map(flood).collect();
    let victim = live.serving()[0];
    let killed = now();
    send(victim, Signal::KILL);
    live.await_ready_workers("a replacement", |now| now.len() == 2 && !now.contains(&victim));
    let replaced = since(killed);
    let statuses: Vec<u16> = clients.into_iter().flat_map(|client| client.join().expect("a client")).collect();
    let share = cpu(live.pid()).saturating_sub(used).as_secs_f64() / since(begun).as_secs_f64();
    let pages = statuses.iter().filter(|status| **status == 200).count();
    let known = statuses.iter().all(|status| [200, 503].contains(status));
    let found = format!(
        "{pages} pages and {} times 503 in 3 s, {:.0} % of a core; a killed worker was replaced after {} ms",
        statuses.len() - pages,
        share * 100.0,
        replaced.as_millis()
    );
    verdict("F50", pages > 0 && known && replaced <= allowed(NEXT_WORKER), &found);
    live.audit();
}
