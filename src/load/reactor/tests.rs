//! When this thread may sleep although answers are awaited, what it reads after that, and what counts as a wait.

use std::io::Write;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::num::NonZeroU32;
use std::os::unix::net::{UnixListener, UnixStream};

use rustix::event::{PollFd, PollFlags, poll};

use super::super::pool::{Attempt, State};
use super::super::sessions::Admission;
use super::*;
use crate::load::{Basis, Check, Cookies, Reach, Target, USUAL_BATCH, server};
use crate::recording;
use crate::replay::{Arrivals as Spacing, Load, Plan, PlanOptions, Reuse, SessionId, Turns};
use crate::units::Rate;

/// Answers without a stamp after which there will be none.
const MOST_EXCHANGES: usize = 100_000;

fn plan() -> Plan {
    let recording = recording::read(br#"{"t":1,"m":"GET","u":"/","s":200}"#.as_slice()).unwrap();
    Plan::compile(&recording, &PlanOptions::new("test", Reuse::KeepAlive)).unwrap()
}

fn listener() -> (TcpListener, Target) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let target = Target::Tcp(listener.local_addr().unwrap());
    (listener, target)
}

fn run(plan: &Plan, target: Target) -> Run<'_> {
    Run {
        plan,
        target,
        reach: Reach::ThisHost,
        load: Load::Open { rate: Rate::new(1_000.0).unwrap(), arrivals: Spacing::Even },
        from: 0,
        turns: Turns::Endless,
        settle: Duration::ZERO,
        duration: Duration::from_mins(1),
        drain: Duration::from_secs(5),
        timeout: Duration::from_mins(1),
        max_connections: NonZeroU32::new(2).unwrap(),
        max_body: 1 << 20,
        slow_after: Duration::from_secs(1),
        batch: USUAL_BATCH,
        cookies: Cookies::Recorded,
        check: Check::Status,
        tls: None,
        basis: Basis::EverySecond,
    }
}

fn next(reactor: &mut Reactor<'_>, now: Moment) -> Flight {
    let due = reactor.pace.wakes_at(reactor.end).unwrap();
    let due = reactor.pace.take(due, reactor.end, 0).unwrap();
    Flight { due, session: None, since: now, attempt: Attempt::First }
}

fn send_one(reactor: &mut Reactor<'_>) {
    let now = clock::now();
    let flight = next(reactor, now);
    reactor.launch(flight, now);
}

fn hear(reactor: &mut Reactor<'_>) {
    reactor.wait(clock::now().after(Duration::from_mins(1))).unwrap();
    reactor.handle_events();
}

fn hear_all(reactor: &mut Reactor<'_>) {
    while reactor.pool.busy() > 0 {
        hear(reactor);
    }
}

fn may_rest(reactor: &Reactor<'_>) -> bool {
    let now = clock::now();
    reactor.may_rest_until(now.after(READ_WITHIN / 2), now)
}

/// Sends a request, and has it answered on a connection that stays open.
fn open(reactor: &mut Reactor<'_>, listener: &TcpListener) -> TcpStream {
    send_one(reactor);
    let (mut peer, _) = listener.accept().unwrap();
    while reactor.pool.moving() > 0 {
        hear(reactor);
    }
    server::request(&mut peer).unwrap();
    peer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfirs").unwrap();
    hear_all(reactor);
    peer
}

/// Exchanges requests and answers until answers have stamps: the kernel begins to stamp a moment after it is first asked to.
fn await_stamps(reactor: &mut Reactor<'_>, peer: &mut TcpStream) {
    for _ in 0..MOST_EXCHANGES {
        if reactor.arrivals.as_ref().is_some_and(Arrivals::are_stamped) {
            return;
        }
        send_one(reactor);
        server::request(peer).unwrap();
        peer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nmore").unwrap();
        hear_all(reactor);
    }
    panic!("no answer has a stamp");
}

/// Waits until the answer to the request on its way can be read, and reads nothing.
fn await_answer(reactor: &mut Reactor<'_>) {
    let (place, _) = reactor.pool.earliest().unwrap();
    let State::Busy(transport, _) = &reactor.pool.get(place).state else { panic!("a request is on its way") };
    let mut awaited = [PollFd::new(transport.socket(), PollFlags::IN)];
    poll(&mut awaited, None).unwrap();
}

#[test]
fn an_answer_that_has_begun_is_read_as_it_comes() {
    let (plan, (listener, target)) = (plan(), listener());
    let run = run(&plan, target);
    let mut reactor = Reactor::new(&run).unwrap();
    send_one(&mut reactor);
    let (mut peer, _) = listener.accept().unwrap();
    while reactor.pool.moving() > 0 {
        hear(&mut reactor);
    }
    assert!(!may_rest(&reactor), "whether answers have stamps is not known yet");
    server::request(&mut peer).unwrap();
    peer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfirs").unwrap();
    hear_all(&mut reactor);
    await_stamps(&mut reactor, &mut peer);
    send_one(&mut reactor);
    server::request(&mut peer).unwrap();
    assert!(may_rest(&reactor), "nothing of the second answer is here");
    peer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nse").unwrap();
    let (place, _) = reactor.pool.earliest().unwrap();
    while !matches!(&reactor.pool.get(place).state, State::Busy(_, busy) if busy.answered_at.is_some()) {
        hear(&mut reactor);
    }
    assert!(!may_rest(&reactor), "it has begun");
    peer.write_all(b"co").unwrap();
    hear_all(&mut reactor);
    assert!(!may_rest(&reactor), "nothing is awaited");
}

#[test]
fn answers_that_end_with_their_connection_are_read_as_they_come() {
    let (plan, (listener, target)) = (plan(), listener());
    let run = run(&plan, target);
    let mut reactor = Reactor::new(&run).unwrap();
    let mut kept = open(&mut reactor, &listener);
    await_stamps(&mut reactor, &mut kept);
    let before = reactor.batch(clock::now()).completed;
    send_one(&mut reactor);
    server::request(&mut kept).unwrap();
    assert!(may_rest(&reactor));
    kept.write_all(b"HTTP/1.1 200 OK\r\n\r\nto the end").unwrap();
    drop(kept);
    hear_all(&mut reactor);
    assert_eq!(reactor.batch(clock::now()).completed, before + 1, "it was an answer");
    let mut peer = open(&mut reactor, &listener);
    send_one(&mut reactor);
    server::request(&mut peer).unwrap();
    assert!(!may_rest(&reactor), "the end of such an answer has no stamp");
}

#[test]
fn nobody_rests_while_the_next_request_has_no_connection() {
    let (plan, (listener, target)) = (plan(), listener());
    let run = Run { max_connections: NonZeroU32::MIN, ..run(&plan, target) };
    let mut reactor = Reactor::new(&run).unwrap();
    let mut peer = open(&mut reactor, &listener);
    await_stamps(&mut reactor, &mut peer);
    send_one(&mut reactor);
    server::request(&mut peer).unwrap();
    assert!(!may_rest(&reactor));
}

#[test]
fn after_a_rest_answers_are_read_before_their_requests_are_given_up() {
    let (plan, (listener, target)) = (plan(), listener());
    let run = run(&plan, target);
    let mut reactor = Reactor::new(&run).unwrap();
    let mut peer = open(&mut reactor, &listener);
    send_one(&mut reactor);
    server::request(&mut peer).unwrap();
    peer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecond").unwrap();
    let (_, due) = reactor.pool.earliest().unwrap();
    await_answer(&mut reactor);
    reactor.catch_up(due).unwrap();
    assert_eq!(reactor.pool.busy(), 1, "there is time");
    reactor.catch_up(due.after(run.timeout)).unwrap();
    assert_eq!(reactor.pool.busy(), 0);
}

#[test]
fn after_a_rest_answers_are_read_before_sessions_go_on() {
    let (plan, (listener, target)) = (plan(), listener());
    let run = run(&plan, target);
    let mut reactor = Reactor::new(&run).unwrap();
    let _first = open(&mut reactor, &listener);
    let now = clock::now();
    let flight = next(&mut reactor, now);
    let Admission::Go(key) = reactor.sessions.admit(SessionId(1), flight, false) else { panic!("nothing before it") };
    reactor.launch(Flight { session: Some(key), ..flight }, now);
    let (mut own, _) = listener.accept().unwrap();
    while reactor.pool.moving() > 0 {
        hear(&mut reactor);
    }
    server::request(&mut own).unwrap();
    own.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecond").unwrap();
    await_answer(&mut reactor);
    reactor.catch_up(now).unwrap();
    assert_eq!(reactor.pool.busy(), 0);
}

#[test]
fn a_request_that_is_sent_again_has_not_waited_while_it_was_on_its_way() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let listener = UnixListener::bind(&path).unwrap();
    // One connection may wait.
    rustix::net::listen(&listener, 0).unwrap();
    let plan = plan();
    let run = run(&plan, Target::Unix(path.clone()));
    let mut reactor = Reactor::new(&run).unwrap();
    send_one(&mut reactor);
    let (mut peer, _) = listener.accept().unwrap();
    while reactor.pool.moving() > 0 {
        hear(&mut reactor);
    }
    server::request(&mut peer).unwrap();
    peer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").unwrap();
    hear_all(&mut reactor);
    let _waits = UnixStream::connect(&path).unwrap();
    send_one(&mut reactor);
    server::request(&mut peer).unwrap();
    let broken_off = clock::now();
    drop(peer);
    hear_all(&mut reactor);
    let queued = reactor.queue.front().expect("the target takes no more connections");
    assert!(queued.attempt != Attempt::First && queued.since >= broken_off);
}
