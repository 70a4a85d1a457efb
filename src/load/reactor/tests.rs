//! When this thread may sleep although answers are awaited.

use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::num::NonZeroU32;

use super::super::pool::{Attempt, State};
use super::*;
use crate::load::{Basis, Check, Cookies, Reach, Target, USUAL_BATCH, USUAL_DRAIN, server};
use crate::recording;
use crate::replay::{Arrivals as Spacing, Load, Plan, PlanOptions, Reuse, Turns};
use crate::units::Rate;

#[test]
fn an_answer_that_has_begun_is_read_as_it_comes() {
    let recording = recording::read(br#"{"t":1,"m":"GET","u":"/","s":200}"#.as_slice()).unwrap();
    let plan = Plan::compile(&recording, &PlanOptions::new("test", Reuse::KeepAlive)).unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let run = Run {
        plan: &plan,
        target: Target::Tcp(listener.local_addr().unwrap()),
        reach: Reach::ThisHost,
        load: Load::Open { rate: Rate::new(1_000.0).unwrap(), arrivals: Spacing::Even },
        from: 0,
        turns: Turns::Endless,
        settle: Duration::ZERO,
        duration: Duration::from_mins(1),
        drain: USUAL_DRAIN,
        timeout: Duration::from_mins(1),
        max_connections: NonZeroU32::MIN,
        max_body: 1 << 20,
        slow_after: Duration::from_secs(1),
        batch: USUAL_BATCH,
        cookies: Cookies::Recorded,
        check: Check::Status,
        tls: None,
        basis: Basis::EverySecond,
    };
    let mut reactor = Reactor::new(&run).unwrap();
    let send_one = |reactor: &mut Reactor<'_>| {
        let due = reactor.pace.wakes_at(reactor.end).unwrap();
        let flying = reactor.pace.take(due, reactor.end, 0).unwrap();
        let now = clock::now();
        reactor.launch(Flight { due: flying, session: None, since: now, attempt: Attempt::First }, now);
    };
    let far = clock::now().after(Duration::from_mins(1));
    let hear = |reactor: &mut Reactor<'_>| {
        reactor.wait(far).unwrap();
        reactor.handle_events();
    };
    let may_rest = |reactor: &Reactor<'_>| {
        let now = clock::now();
        reactor.may_rest_until(now.after(READ_WITHIN / 2), now)
    };

    send_one(&mut reactor);
    let (mut peer, _) = listener.accept().unwrap();
    while reactor.pool.moving() > 0 {
        hear(&mut reactor);
    }
    assert!(!may_rest(&reactor), "whether answers have stamps is not known yet");
    server::request(&mut peer).unwrap();
    peer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfirs").unwrap();
    while reactor.pool.busy() > 0 {
        hear(&mut reactor);
    }
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
    while reactor.pool.busy() > 0 {
        hear(&mut reactor);
    }
    assert!(!may_rest(&reactor), "nothing is awaited");
}
