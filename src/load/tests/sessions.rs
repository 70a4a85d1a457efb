//! Sessions: one connection each, in order, whatever goes wrong.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use super::super::server::{head, serve_numbered};
use super::*;
use crate::replay::{ClosedOrder, Copies, Sessions, Speed, Think};

/// `sessions` connections of `each` requests that come 1 ms apart, in turns: `/session/number`.
fn recorded(sessions: usize, each: usize, reuse: Reuse) -> Plan {
    let line = |number: usize| {
        let (session, place) = (number % sessions, number / sessions);
        format!(
            r#"{{"t":0.{number:03},"c":"{session}","n":{place},"m":"GET","u":"/{session}/{place}","h":[["Cookie","id={session}; a=b"]]}}"#
        )
    };
    let lines: Vec<_> = (0..sessions * each).map(line).collect();
    let recording = recording::read(lines.join("\n").as_bytes()).unwrap();
    Plan::compile(&recording, &PlanOptions::new("test", reuse)).unwrap()
}

fn kept() -> Load {
    Load::Recorded { speed: Speed::RECORDED, copies: Copies::ONE, sessions: Sessions::Kept }
}

fn by_clients(clients: u32, think: Think) -> Load {
    Load::Closed { clients: NonZeroU32::new(clients).unwrap(), order: ClosedOrder::Sessions(think) }
}

/// Once through the plan, with time to spare.
fn once(plan: &Plan, target: Target, load: Load) -> Run<'_> {
    Run { turns: Turns::Once, duration: Duration::from_mins(1), ..run(plan, target, load) }
}

/// What a server saw: connection and target of each request, and `None` where a connection ended.
type Log = Arc<Mutex<Vec<(usize, Option<String>)>>>;

/// A server that keeps a log and answers as `reply` says.
fn logging(reply: impl Fn(&str, &mut dyn Stream) -> ControlFlow<()> + Send + Sync + 'static) -> (Target, Log) {
    let log = Log::default();
    let seen = Arc::clone(&log);
    let target = serve_numbered(move |connection, stream| {
        let target = request(stream);
        seen.lock().unwrap().push((connection, target.clone()));
        match target {
            Some(target) => reply(&target, stream),
            None => ControlFlow::Break(()),
        }
    });
    (target, log)
}

/// The places of each session's requests in the order in which they came, and the connections they came on.
fn by_session(log: &Log) -> BTreeMap<String, (Vec<usize>, BTreeSet<usize>)> {
    let mut sessions: BTreeMap<_, (Vec<_>, BTreeSet<_>)> = BTreeMap::new();
    for (connection, target) in log.lock().unwrap().iter() {
        if let Some(target) = target {
            let (session, place) = target.trim_start_matches('/').split_once('/').unwrap();
            let seen = sessions.entry(session.to_owned()).or_default();
            seen.0.push(place.parse().unwrap());
            seen.1.insert(*connection);
        }
    }
    sessions
}

/// Answers at the next step of the test.
fn slow_ok(steps: &Steps) -> impl Fn(&str, &mut dyn Stream) -> ControlFlow<()> + Send + Sync + 'static {
    let steps = steps.clone();
    move |_, stream| {
        steps.await_next();
        answer(stream, 200, "hello")
    }
}

#[test]
fn every_session_has_a_connection_and_keeps_its_order() {
    let steps = Steps::default();
    let plan = recorded(3, 6, Reuse::KeepAlive);
    let (target, log) = logging(slow_ok(&steps));
    let played = watched(&once(&plan, target, kept()), |_| steps.advance());
    assert_eq!((played.completed, played.connections, played.errors), (18, 3, Errors::default()));
    let sessions = by_session(&log);
    assert_eq!(sessions.len(), 3);
    for (places, connections) in sessions.values() {
        assert_eq!(*places, [0, 1, 2, 3, 4, 5]);
        assert_eq!(connections.len(), 1);
    }
    // Requests come every 3 ms to each session, and answers every 20: from the second on they wait, ever longer.
    let dependency = &played.lateness.dependency;
    assert!(dependency.count() >= 9 && dependency.max() >= 0.008, "{} {}", dependency.count(), dependency.max());
    assert!(played.lateness.total.max() >= dependency.max());
    assert_eq!((played.lateness.total.count(), played.lateness.connect.count()), (18, 3));
    assert!(played.elapsed < Duration::from_secs(30), "ends when it is played");
    assert_eq!(played.first_byte.count(), 18);
}

#[test]
fn a_connection_is_closed_after_the_last_request_of_its_session() {
    let plan = recorded(2, 2, Reuse::KeepAlive);
    let (target, log) = logging(|_, stream| answer(stream, 200, ""));
    // The next turn opens the sessions anew.
    let run = Run { turns: Turns::Endless, duration: Duration::from_millis(100), ..once(&plan, target, kept()) };
    let played = played(&run);
    assert!(played.completed >= 40 && played.connections >= played.completed / 2, "{played:?}");
    let mut connections: BTreeMap<usize, Vec<Option<String>>> = BTreeMap::new();
    for (connection, target) in log.lock().unwrap().iter() {
        connections.entry(*connection).or_default().push(target.clone());
    }
    for requests in connections.values().take(20) {
        let [Some(first), Some(second), None] = requests.as_slice() else { panic!("{requests:?}") };
        assert!(first.ends_with("/0") && second.ends_with("/1") && first[..2] == second[..2], "{requests:?}");
    }
}

#[test]
fn without_keep_alive_the_order_stays_and_connections_change() {
    let steps = Steps::default();
    let plan = recorded(2, 5, Reuse::PerRequest);
    let (target, log) = logging(slow_ok(&steps));
    let played = watched(&once(&plan, target, kept()), |_| steps.advance());
    assert_eq!((played.completed, played.connections), (10, 10));
    assert!(by_session(&log).values().all(|(places, _)| *places == [0, 1, 2, 3, 4]));
}

#[test]
fn more_sessions_than_connections_share_them_in_order() {
    let steps = Steps::default();
    let plan = recorded(4, 5, Reuse::KeepAlive);
    let (target, log) = logging(slow_ok(&steps));
    let run = Run { max_connections: NonZeroU32::MIN, ..once(&plan, target, kept()) };
    let played = watched(&run, |_| steps.advance());
    assert_eq!((played.completed, played.errors), (20, Errors::default()));
    assert!(played.connections >= 4 && played.lateness.backlog.count() >= 3);
    assert!(by_session(&log).values().all(|(places, _)| *places == [0, 1, 2, 3, 4]));
}

#[test]
fn the_order_survives_servers_that_break_connections() {
    let steps = Steps::default();
    let slow = slow_ok(&steps);
    let plan = recorded(2, 6, Reuse::KeepAlive);
    let (target, log) = logging(move |target, stream| match target.as_bytes().last() {
        // Nothing, and the end; garbage; an answer, and the end.
        Some(b'1') => ControlFlow::Break(()),
        Some(b'2') => stream.write_all(b"!\r\n\r\n").map_or(ControlFlow::Break(()), ControlFlow::Continue),
        Some(b'3') => {
            let _ = answer(stream, 200, "");
            ControlFlow::Break(())
        }
        _ => slow(target, stream),
    });
    let played = watched(&once(&plan, target, kept()), |_| steps.advance());
    // The first of these came on a kept connection and was tried twice; a lost race with the end of a connection is tried again.
    assert_eq!((played.completed, played.errors.closed_early, played.errors.malformed), (8, 2, 2), "{played:?}");
    assert!(played.retried >= 2);
    for (mut places, _) in by_session(&log).into_values() {
        places.dedup();
        assert_eq!(places, [0, 1, 2, 3, 4, 5]);
    }
}

#[test]
fn what_waits_behind_a_request_without_answer_goes_on_after_the_timeout() {
    let steps = Steps::default();
    let slow = slow_ok(&steps);
    let plan = recorded(1, 4, Reuse::KeepAlive);
    let (target, log) =
        logging(move |target, stream| if target == "/0/1" { ControlFlow::Continue(()) } else { slow(target, stream) });
    let run = Run { timeout: Duration::from_millis(150), ..once(&plan, target, kept()) };
    let played = watched(&run, |_| steps.advance());
    // Those behind it were due 1 and 2 ms later, and have that much less time.
    assert!(played.errors.timeout >= 1 && played.errors.timeout == played.errors.total(), "{played:?}");
    let (places, _) = &by_session(&log)["0"];
    assert_eq!(places[..2], [0, 1], "{places:?}");
    // One that was given up, too, is on a connection of its own, which the server may look at after that of the next.
    assert!(played.errors.timeout > 1 || places.is_sorted(), "{places:?}");
}

#[test]
fn a_session_whose_target_is_gone_ends_all_the_same() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let dead = Target::Tcp(listener.local_addr().unwrap());
    drop(listener);
    let plan = recorded(3, 5, Reuse::KeepAlive);
    for load in [kept(), by_clients(2, Think::None)] {
        let played = played(&once(&plan, dead.clone(), load));
        assert_eq!(played.errors, Errors { connect: 15, ..Errors::default() });
        let refused: u64 = played.seconds.iter().map(|second| second.connect_errors).sum();
        assert_eq!(refused, 15);
    }
}

#[test]
fn clients_play_whole_sessions_and_think() {
    let plan = recorded(4, 3, Reuse::KeepAlive);
    let (target, log) = logging(|_, stream| answer(stream, 200, ""));
    let pause = Duration::from_millis(15);
    let played = played(&once(&plan, target, by_clients(2, Think::Fixed(pause))));
    assert_eq!((played.completed, played.connections, played.errors), (12, 4, Errors::default()));
    assert_eq!(played.lateness.total.count(), 0, "nothing is late without a schedule");
    assert!(played.elapsed >= 5 * pause, "two sessions one after the other, with two pauses each and one between them");
    let sessions = by_session(&log);
    assert_eq!(sessions.len(), 4);
    assert!(sessions.values().all(|(places, connections)| *places == [0, 1, 2] && connections.len() == 1));
}

#[test]
fn clients_go_round_the_plan_from_where_they_begin() {
    let plan = recorded(3, 2, Reuse::KeepAlive);
    let (target, log) = logging(|_, stream| answer(stream, 200, ""));
    let played =
        played(&Run { from: 1, duration: Duration::from_millis(100), ..run(&plan, target.clone(), by_clients(1, Think::None)) });
    assert!(played.completed > 12, "{played:?}");
    let firsts: Vec<_> = log.lock().unwrap().iter().filter_map(|(_, target)| target.clone()).take(8).collect();
    assert_eq!(firsts, ["/1/0", "/1/1", "/2/0", "/2/1", "/0/0", "/0/1", "/1/0", "/1/1"]);

    log.lock().unwrap().clear();
    let run = Run { from: 1, ..once(&plan, target, by_clients(1, Think::Recorded)) };
    assert_eq!(super::played(&run).completed, 6);
}

#[test]
fn a_jar_follows_what_the_target_sets_session_by_session() {
    let cookies = Arc::new(Mutex::new(BTreeMap::new()));
    let seen = Arc::clone(&cookies);
    let target = serve_numbered(move |_, stream| {
        let Some(head) = head(stream) else { return ControlFlow::Break(()) };
        let target = head.split(' ').nth(1).unwrap().to_owned();
        let cookie = head.lines().find_map(|line| line.strip_prefix("Cookie: ")).unwrap().to_owned();
        // Only the first request of the first session is given another name.
        let set = if target == "/0/0" { "Set-Cookie: id=new; Path=/\r\n" } else { "" };
        seen.lock().unwrap().insert(target, cookie);
        match write!(stream, "HTTP/1.1 200 OK\r\n{set}Content-Length: 0\r\n\r\n") {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    });
    let plan = recorded(2, 3, Reuse::KeepAlive);
    for (jar, renamed) in [(Cookies::Jar, "id=new; a=b"), (Cookies::Recorded, "id=0; a=b")] {
        for load in [kept(), by_clients(1, Think::None)] {
            let played = played(&Run { cookies: jar, ..once(&plan, target.clone(), load) });
            assert_eq!((played.completed, played.errors), (6, Errors::default()));
            let seen = std::mem::take(&mut *cookies.lock().unwrap());
            assert_eq!((seen["/0/0"].as_str(), seen["/0/1"].as_str(), seen["/0/2"].as_str()), ("id=0; a=b", renamed, renamed));
            assert!((0..3).all(|place| seen[&format!("/1/{place}")] == "id=1; a=b"), "{seen:?}");
        }
    }
}
