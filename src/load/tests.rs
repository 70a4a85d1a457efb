//! The engine against real servers in this process: counts, kinds of error, order, rates.

use std::net::{Ipv4Addr, TcpListener};
use std::ops::ControlFlow;
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

#[cfg(test)]
mod checks;
#[cfg(test)]
mod measures;
#[cfg(test)]
mod sessions;

use super::server::{Steps, Stream, always, answer, blurt, ok, request, serve, serve_unix, silence};
use super::*;
use crate::recording;
use crate::replay::{Arrivals, ClosedOrder, Copies, PlanOptions, Reuse, Sessions, Speed};

fn plan(reuse: Reuse) -> Plan {
    let lines: Vec<_> = (0..10).map(|n| format!(r#"{{"t":{n},"m":"GET","u":"/{n}","s":200}}"#)).collect();
    let recording = recording::read(lines.join("\n").as_bytes()).unwrap();
    Plan::compile(&recording, &PlanOptions::new("test", reuse)).unwrap()
}

fn clients(count: u32) -> Load {
    Load::Closed { clients: NonZeroU32::new(count).unwrap(), order: ClosedOrder::Requests }
}

fn even(rate: f64) -> Load {
    Load::Open { rate: Rate::new(rate).unwrap(), arrivals: Arrivals::Even }
}

fn run(plan: &Plan, target: Target, load: Load) -> Run<'_> {
    Run {
        plan,
        target,
        reach: Reach::ThisHost,
        load,
        from: 0,
        turns: Turns::Endless,
        settle: Duration::ZERO,
        duration: Duration::from_millis(200),
        drain: Duration::from_secs(5),
        timeout: Duration::from_secs(5),
        max_connections: NonZeroU32::new(64).unwrap(),
        max_body: 1 << 20,
        slow_after: Duration::from_secs(1),
        batch: Duration::from_millis(20),
        cookies: Cookies::Recorded,
        check: Check::Status,
        tls: None,
        basis: Basis::EverySecond,
    }
}

fn played(run: &Run<'_>) -> Played {
    watched(run, |_| {})
}

fn watched(run: &Run<'_>, mut watch: impl FnMut(&Batch)) -> Played {
    let mut watcher = |batch: &Batch| {
        watch(batch);
        Onward::GoOn
    };
    let played = play(run, &mut watcher).unwrap();
    let ended = played.completed + played.errors.total() + played.unfinished.outstanding + played.unfinished.unsent;
    assert_eq!(played.scheduled, ended, "every request ends in one way: {played:?}");
    played
}

/// Plays against a server that always does the same wrong thing; returns the errors and how many requests there were.
fn errors(target: Target) -> (Errors, u64) {
    errors_within(Duration::from_secs(5), target)
}

fn errors_within(timeout: Duration, target: Target) -> (Errors, u64) {
    let plan = plan(Reuse::KeepAlive);
    let run = Run { timeout, ..run(&plan, target, even(100.0)) };
    let played = played(&run);
    assert_eq!((played.scheduled, played.completed), (20, 0));
    (played.errors, played.scheduled)
}

#[test]
fn an_open_load_sends_exactly_its_rate() {
    for reuse in [Reuse::KeepAlive, Reuse::PerRequest] {
        let plan = plan(reuse);
        let run = run(&plan, serve(ok), even(500.0));
        let played = played(&run);
        assert_eq!((played.scheduled, played.completed), (100, 100));
        assert_eq!(played.errors, Errors::default());
        assert!((played.offered.per_second() - 500.0).abs() < 1e-6);
        assert_eq!((played.latency.count(), played.lateness.scheduler.count(), played.statuses.class(2)), (100, 100, 100));
        assert_eq!(played.bytes, 100 * "HTTP/1.1 200 X\r\nContent-Length: 5\r\n\r\nhello".len() as u64);
        match reuse {
            Reuse::PerRequest => assert_eq!(played.connections, 100),
            Reuse::KeepAlive => assert!(played.connections < 100),
        }
    }
}

#[test]
fn the_plan_is_played_in_order_from_the_start_position() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&seen);
    let target = serve(move |stream: &mut dyn Stream| {
        let Some(target) = request(stream) else {
            return ControlFlow::Break(());
        };
        log.lock().unwrap().push(target);
        answer(stream, 200, "")
    });
    let plan = plan(Reuse::KeepAlive);
    let played = played(&Run { from: 7, ..run(&plan, target, clients(1)) });
    let seen = seen.lock().unwrap();
    assert_eq!(seen.len() as u64, played.completed);
    assert!(seen.len() > 10, "went round");
    assert!(seen.iter().enumerate().all(|(n, target)| *target == format!("/{}", (n + 7) % 10)));
    assert_eq!(played.connections, 1);
}

#[test]
fn unix_sockets_work_too() {
    let folder = tempfile::tempdir().unwrap();
    let target = serve_unix(&folder.path().join("app.sock"));
    for reuse in [Reuse::KeepAlive, Reuse::PerRequest] {
        let plan = plan(reuse);
        let played = played(&run(&plan, target.clone(), even(500.0)));
        assert_eq!((played.completed, played.errors), (100, Errors::default()));
    }
}

#[test]
fn a_full_unix_backlog_is_waited_for_until_the_timeout() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    // Never accepts: the backlog holds some, the others are told to try again.
    let listener = UnixListener::bind(&path).unwrap();
    rustix::net::listen(&listener, 2).unwrap();
    let plan = plan(Reuse::PerRequest);
    let played = played(&Run { timeout: Duration::from_millis(100), ..run(&plan, Target::Unix(path), clients(10)) });
    assert_eq!(played.errors.total(), played.errors.timeout);
    assert!(played.errors.timeout >= 10);
}

#[test]
fn a_full_unix_backlog_is_one_wait_however_often_it_is_tried() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let listener = UnixListener::bind(&path).unwrap();
    rustix::net::listen(&listener, 2).unwrap();
    let plan = plan(Reuse::PerRequest);
    let played = played(&Run { timeout: Duration::from_millis(100), ..run(&plan, Target::Unix(path), even(100.0)) });
    assert!(played.errors.timeout > 3, "{:?}", played.errors);
    // None of those that wait gets a connection.
    assert_eq!(played.lateness.backlog.count(), 0);
}

#[test]
fn a_closed_load_never_has_more_outstanding_than_clients() {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (inside, peak) = (Arc::clone(&now), Arc::clone(&most));
    let target = serve(move |stream: &mut dyn Stream| {
        if request(stream).is_none() {
            return ControlFlow::Break(());
        }
        peak.fetch_max(inside.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        std::thread::yield_now();
        inside.fetch_sub(1, Ordering::SeqCst);
        answer(stream, 200, "")
    });
    for reuse in [Reuse::KeepAlive, Reuse::PerRequest] {
        let plan = plan(reuse);
        let mut outstanding = 0;
        let played = play(&run(&plan, target.clone(), clients(4)), &mut |batch| {
            outstanding = outstanding.max(batch.outstanding + batch.queued);
            Onward::GoOn
        })
        .unwrap();
        assert!(played.completed > 4 && outstanding <= 4);
        assert_eq!(played.errors, Errors::default());
        assert_eq!(played.lateness.scheduler.count(), 0);
    }
    assert!(most.load(Ordering::SeqCst) <= 4);
}

#[test]
fn connections_beyond_the_limit_wait_and_are_not_lost() {
    let plan = plan(Reuse::KeepAlive);
    let run = Run { max_connections: NonZeroU32::MIN, ..run(&plan, serve(ok), even(500.0)) };
    let played = played(&run);
    assert_eq!(played.connections, 1);
    assert_eq!(played.completed + played.unfinished.unsent, 100);
}

#[test]
fn waiting_counts_from_the_moment_a_request_was_due() {
    let steps = Steps::default();
    let waiting = steps.clone();
    let target = serve(move |stream: &mut dyn Stream| {
        if request(stream).is_none() {
            return ControlFlow::Break(());
        }
        waiting.await_first();
        answer(stream, 200, "")
    });
    let plan = plan(Reuse::KeepAlive);
    let run = Run { max_connections: NonZeroU32::MIN, duration: Duration::from_millis(400), ..run(&plan, target, even(100.0)) };
    let played = watched(&run, |batch| {
        if batch.scheduled > 20 {
            steps.advance();
        }
    });
    // One request waits until twenty others are due, over 200 ms. They waited 190, 180, … ms: half of all took longer than 10 ms,
    // though all but one were served at once.
    assert!(played.latency.max() >= 0.199);
    assert!(played.latency.quantile(0.75) >= 0.08, "{:?}", played.latency.quantile(0.75));
    assert!(played.service.quantile(0.75) < played.latency.quantile(0.75));
}

type Count = fn(&Errors) -> u64;

#[test]
fn every_kind_of_error_has_its_count() {
    let head = "HTTP/1.1 200 OK\r\n";
    let cases: [(&str, Target, Count); 10] = [
        ("closes at once", blurt(""), |errors| errors.closed_early),
        ("promises too much", blurt(format!("{head}Content-Length: 9\r\n\r\nshort")), |errors| errors.closed_early),
        ("promises too little", blurt(format!("{head}Content-Length: 2\r\n\r\nlonger")), |errors| errors.malformed),
        ("another protocol", blurt("SSH-2.0-OpenSSH_9.9\r\n\r\n"), |errors| errors.malformed),
        ("an endless head", blurt(format!("{head}{}", "A: b\r\n".repeat(20_000))), |errors| errors.malformed),
        ("an endless body", blurt(format!("{head}\r\n{}", "x".repeat((1 << 20) + 1))), |errors| errors.malformed),
        ("fails", serve(always(503)), |errors| errors.server_5xx),
        ("404 for a recorded 200", serve(always(404)), |errors| errors.unexpected_status),
        ("302 for a recorded 200", serve(always(302)), |errors| errors.redirected),
        ("308 for a recorded 200", serve(always(308)), |errors| errors.redirected),
    ];
    for (what, target, count) in cases {
        let (errors, all) = errors(target);
        assert_eq!((count(&errors), errors.total()), (all, all), "{what}");
    }
    let (errors, all) = errors_within(Duration::from_millis(100), serve(silence));
    assert_eq!((errors.timeout, errors.total()), (all, all));
}

#[test]
fn what_was_recorded_or_is_still_fresh_is_no_error() {
    for (recorded, answered) in [(404, 404), (302, 301), (200, 304)] {
        let line = format!(r#"{{"t":1,"m":"GET","u":"/","s":{recorded}}}"#);
        let recording = recording::read(line.as_bytes()).unwrap();
        let plan = Plan::compile(&recording, &PlanOptions::new("a", Reuse::KeepAlive)).unwrap();
        let played = played(&run(&plan, serve(always(answered)), even(100.0)));
        let class = played.statuses.class(answered / 100);
        assert_eq!((played.completed, played.errors, class), (20, Errors::default(), 20), "{answered} for {recorded}");
    }
}

#[test]
fn a_dead_target_costs_errors_and_little_else() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let dead = Target::Tcp(listener.local_addr().unwrap());
    drop(listener);
    let folder = tempfile::tempdir().unwrap();
    for target in [dead, Target::Unix(folder.path().join("none.sock"))] {
        let (found, all) = errors(target.clone());
        assert_eq!(found, Errors { connect: all, ..Errors::default() });
        let plan = plan(Reuse::KeepAlive);
        let played = played(&run(&plan, target, clients(2)));
        // Two clients that pause 10 ms after each refusal.
        assert!((2..=42).contains(&played.errors.connect), "{:?}", played.errors);
    }
}

#[test]
fn a_kept_connection_that_was_closed_costs_a_retry_not_an_error() {
    let target = serve(|stream: &mut dyn Stream| {
        let _ = ok(stream);
        ControlFlow::Break(())
    });
    let plan = plan(Reuse::KeepAlive);
    let played = played(&run(&plan, target, clients(1)));
    assert!(played.completed > 1);
    assert_eq!(played.errors, Errors::default());
    assert!(played.connections >= played.completed);
}

#[test]
fn beyond_the_queue_requests_are_shed() {
    let plan = plan(Reuse::KeepAlive);
    let run = Run { max_connections: NonZeroU32::MIN, ..run(&plan, serve(silence), even(400_000.0)) };
    let mut queued = 0;
    let played = play(&run, &mut |batch| {
        queued = queued.max(batch.queued);
        // The server never answers; once something was shed there is nothing more to see.
        if batch.failed > 0 || batch.elapsed > run.duration { Onward::BreakOff } else { Onward::GoOn }
    })
    .unwrap();
    assert!(played.errors.shed > 0 && played.errors.shed == played.errors.total(), "{:?}", played.errors);
    assert!(queued <= QUEUE_LIMIT as u64);
    assert!(played.stopped_early);
    assert_eq!(played.unfinished.outstanding, 1);
}

#[test]
fn large_answers_in_every_framing_are_read_whole() {
    let body = "x".repeat(900_000);
    let chunks = format!("{:x}\r\n{body}\r\n0\r\nT: u\r\n\r\n", body.len());
    for (text, reuse) in [
        (format!("HTTP/1.1 200 OK\r\n\r\n{body}"), Reuse::PerRequest),
        (format!("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}"), Reuse::KeepAlive),
        (format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()), Reuse::KeepAlive),
    ] {
        let plan = plan(reuse);
        let played = played(&run(&plan, blurt(text), even(50.0)));
        assert_eq!((played.completed, played.errors), (10, Errors::default()));
        assert!(played.bytes >= 9_000_000);
    }
}

#[test]
fn the_watcher_sees_counts_and_can_end_the_run() {
    let plan = plan(Reuse::KeepAlive);
    let run = Run { duration: Duration::from_mins(1), ..run(&plan, serve(ok), even(1_000.0)) };
    let mut calls = 0;
    let played = play(&run, &mut |batch| {
        calls += 1;
        assert!(batch.scheduled >= batch.completed && batch.elapsed >= run.batch);
        if calls == 3 { Onward::BreakOff } else { Onward::GoOn }
    })
    .unwrap();
    assert!(played.stopped_early && calls == 3);
    assert!(played.elapsed < Duration::from_secs(30) && played.completed > 0);
}

#[test]
fn what_cannot_be_played_is_refused() {
    let plan = plan(Reuse::KeepAlive);
    let local = Target::Tcp("127.0.0.1:1".parse().unwrap());
    let refusal = |run: Run<'_>| play(&run, &mut |_| Onward::GoOn).unwrap_err().to_string();
    let remote = Target::Tcp("192.0.2.1:80".parse().unwrap());
    assert_eq!(refusal(run(&plan, remote, even(1.0))), "refusing to load 192.0.2.1:80: not a loopback address");
    assert_eq!(refusal(run(&plan, local.clone(), even(0.0))), "a rate of 0 requests a second is not between 0 and 1000000");
    assert_eq!(refusal(Run { timeout: Duration::ZERO, ..run(&plan, local, even(1.0)) }), "the timeout must be greater than zero");
    let long = Target::Unix("x".repeat(200).into());
    assert!(refusal(run(&plan, long, even(1.0))).starts_with("unix socket xxx"));
    let mapped = Target::Tcp("[::ffff:127.0.0.1]:1".parse().unwrap());
    let empty = Run { duration: Duration::ZERO, ..run(&plan, mapped, even(1.0)) };
    assert_eq!(played(&empty).scheduled, 0);
}

#[test]
fn what_ended_while_settling_is_forgotten_and_the_rest_is_counted_at_its_rate() {
    let plan = plan(Reuse::KeepAlive);
    let (settle, duration) = (Duration::from_millis(100), Duration::from_millis(300));
    let run = Run { settle, duration, ..run(&plan, serve(ok), even(500.0)) };
    let mut first = None;
    let played = play(&run, &mut |batch| {
        if batch.elapsed >= run.settle {
            first.get_or_insert(*batch);
        }
        Onward::GoOn
    })
    .unwrap();
    let first = first.expect("the watcher is called when settling ends");
    assert_eq!((first.scheduled, first.completed), (0, 0), "counting starts there");
    assert!((1..=100).contains(&played.scheduled), "not the 50 before: {played:?}");
    assert!((played.offered.per_second() - 500.0).abs() < 50.0, "{played:?}");
}

#[test]
fn processor_time_of_settling_is_not_counted() {
    let plan = plan(Reuse::KeepAlive);
    let (settle, duration) = (Duration::from_millis(400), Duration::from_millis(401));
    let run = Run { settle, duration, ..run(&plan, serve(ok), even(2_000.0)) };
    let before = clock::thread_cpu();
    let counted = play(&run, &mut |_| Onward::GoOn).unwrap().cpu;
    let whole = clock::thread_cpu().saturating_sub(before);
    assert!(counted * 4 < whole, "{counted:?} of {whole:?} for one of 401 parts");
}

#[test]
fn requests_that_were_recorded_at_almost_one_moment_are_played() {
    let lines = [r#"{"t":1.0,"m":"GET","u":"/"}"#, r#"{"t":1.0000003,"m":"GET","u":"/"}"#];
    let recording = recording::read(lines.join("\n").as_bytes()).unwrap();
    let plan = Plan::compile(&recording, &PlanOptions::new("test", Reuse::KeepAlive)).unwrap();
    let load = Load::Recorded { speed: Speed::RECORDED, copies: Copies::ONE, sessions: Sessions::Kept };
    let once = Run { turns: Turns::Once, ..run(&plan, serve(ok), load) };
    assert_eq!(played(&once).completed, 2);
    let endless = play(&Run { turns: Turns::Endless, ..once }, &mut |_| Onward::GoOn);
    assert!(matches!(endless, Err(LoadError::Rate(_))), "{endless:?}");
}

#[test]
fn a_run_that_ends_before_it_has_settled_says_so() {
    let plan = plan(Reuse::KeepAlive);
    let (settle, duration) = (Duration::from_mins(1), Duration::from_mins(2));
    let run = Run { settle, duration, turns: Turns::Once, ..run(&plan, serve(ok), clients(1)) };
    let all = played(&run);
    assert!(all.unsettled && all.completed == plan.requests().len() as u64, "{all:?}");
    assert!(!played(&Run { settle: Duration::ZERO, ..run }).unsettled);
}

#[test]
fn more_clients_than_may_wait_do_not_keep_a_run_from_its_end() {
    let plan = plan(Reuse::KeepAlive);
    let count = u32::try_from(QUEUE_LIMIT).unwrap() + 100;
    let run = Run {
        max_connections: NonZeroU32::MIN,
        drain: Duration::ZERO,
        // All want to send within it, also on a busy machine.
        timeout: Duration::from_secs(2),
        duration: Duration::from_millis(2_500),
        ..run(&plan, serve(silence), clients(count))
    };
    let played = played(&run);
    assert!(played.errors.shed > 0 && played.errors.timeout > 0, "{:?}", played.errors);
}

#[test]
fn outstanding_requests_are_awaited_after_sending_is_stopped() {
    let steps = Steps::default();
    let waiting = steps.clone();
    let slow = move |stream: &mut dyn Stream| match request(stream) {
        Some(_) => {
            waiting.await_first();
            answer(stream, 200, "")
        }
        None => ControlFlow::Break(()),
    };
    let plan = plan(Reuse::PerRequest);
    let run =
        Run { duration: Duration::from_mins(1), slow_after: Duration::from_millis(30), ..run(&plan, serve(slow), clients(8)) };
    let mut overdue = 0;
    let played = play(&run, &mut |batch| {
        overdue = overdue.max(batch.overdue);
        if batch.overdue == 0 {
            return Onward::GoOn;
        }
        steps.advance();
        Onward::StopSending
    })
    .unwrap();
    assert!(played.stopped_early && overdue > 0);
    assert_eq!((played.completed, played.unfinished), (8, Unfinished::default()), "{played:?}");
}
