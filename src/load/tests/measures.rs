//! What a run measures: seconds, causes of lateness, first bytes, and times finer than a millisecond.

use super::*;
use crate::replay::{ClosedOrder, Copies, Sessions, Speed};

#[test]
fn seconds_add_up_and_the_watcher_sees_the_last_one() {
    let plan = plan(Reuse::KeepAlive);
    let run = Run { duration: Duration::from_millis(1_200), ..run(&plan, serve(ok), even(200.0)) };
    let mut recent = Second::default();
    let played = play(&run, &mut |batch| {
        recent = batch.recent;
        Onward::GoOn
    })
    .unwrap();
    let [first, rest @ ..] = played.seconds.as_slice() else { panic!("{:?}", played.seconds) };
    assert_eq!((first.offered, first.failed), (200, 0));
    assert!(rest.len() <= 2 && recent == *first, "{recent:?}");
    let sum = |count: fn(&Second) -> u64| played.seconds.iter().map(count).sum::<u64>();
    assert_eq!((sum(|s| s.offered), sum(|s| s.sent), sum(|s| s.completed)), (240, 240, 240));
    let [p50, p90, p99, longest] = first.latency;
    assert!(p50 > 0.0 && p50 <= p90 && p90 <= p99 && p99 <= longest && longest <= played.latency.max() + 1e-5);
    assert!(first.busy > 0.0 && first.busy < 1.0);
}

#[test]
fn a_stall_before_the_content_is_in_the_service_but_not_before_the_first_byte() {
    let steps = Steps::default();
    let waiting = steps.clone();
    let target = serve(move |stream: &mut dyn Stream| {
        if request(stream).is_none() || stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n").is_err() {
            return ControlFlow::Break(());
        }
        // The head is read after the first, and the next comes a whole batch later.
        waiting.await_next();
        waiting.await_next();
        stream.write_all(b"ok").map_or(ControlFlow::Break(()), ControlFlow::Continue)
    });
    let plan = plan(Reuse::KeepAlive);
    let played = watched(&run(&plan, target, clients(1)), |_| steps.advance());
    assert!(played.completed > 0 && played.first_byte.count() == played.completed);
    assert!(played.service.quantile(0.5) >= 0.02 && played.first_byte.quantile(0.5) < played.service.quantile(0.5) - 0.01);
}

#[test]
fn an_answer_that_is_read_late_is_reported_at_the_time_it_arrived() {
    const HELD: Duration = Duration::from_millis(100);
    let (go, written) = (Steps::default(), Steps::default());
    let (asked, told) = (go.clone(), written.clone());
    let target = serve(move |stream: &mut dyn Stream| {
        if request(stream).is_none() {
            return ControlFlow::Break(());
        }
        asked.await_first();
        let answered = answer(stream, 200, "hello");
        told.advance();
        answered
    });
    let plan = plan(Reuse::KeepAlive);
    let run = Run { duration: Duration::from_millis(100), ..run(&plan, target, even(10.0)) };
    let started = clock::now();
    let mut arrived = None;
    // The reactor cannot read while its watcher works.
    let played = watched(&run, |batch| {
        if batch.outstanding > 0 && arrived.is_none() {
            go.advance();
            written.await_first();
            let now = clock::now();
            arrived = Some(now.since(started));
            while clock::now().since(now) < HELD {
                std::hint::spin_loop();
            }
        }
    });
    let arrived = arrived.expect("the request was outstanding when the watcher was called").as_secs_f64();
    assert_eq!((played.completed, played.errors), (1, Errors::default()));
    // Noise only makes `arrived` later, and the bound wider. Timed when it was read, the answer would have come HELD after it.
    let bound = arrived + HELD.as_secs_f64() / 2.0;
    let reported = [played.latency.max(), played.service.max(), played.first_byte.max()];
    assert!(reported.iter().all(|seconds| *seconds < bound), "{reported:?}, arrived after {arrived}");
    assert!(played.elapsed > HELD);
}

#[test]
fn lateness_has_its_causes() {
    let steps = Steps::default();
    let waiting = steps.clone();
    let slow = move |stream: &mut dyn Stream| match request(stream) {
        Some(_) => {
            waiting.await_next();
            answer(stream, 200, "")
        }
        None => ControlFlow::Break(()),
    };
    let plan = plan(Reuse::KeepAlive);
    let run = Run {
        max_connections: NonZeroU32::MIN,
        batch: Duration::from_millis(10),
        drain: Duration::from_mins(1),
        ..run(&plan, serve(slow), even(200.0))
    };
    let lateness = watched(&run, |_| steps.advance()).lateness;
    assert_eq!((lateness.scheduler.count(), lateness.connect.count(), lateness.dependency.count()), (40, 1, 0));
    assert!(lateness.backlog.count() > 2 && lateness.backlog.max() >= 0.02, "{:?}", lateness.backlog.max());
    assert!(lateness.total.max() >= lateness.backlog.max());
}

#[test]
fn a_timetable_that_is_played_out_ends_the_run_when_all_is_answered() {
    let lines: Vec<_> = (0..100).map(|n| format!(r#"{{"t":{},"m":"GET","u":"/{n}"}}"#, f64::from(n) / 1_000.0)).collect();
    let recording = recording::read(lines.join("\n").as_bytes()).unwrap();
    let plan = Plan::compile(&recording, &PlanOptions::new("a", Reuse::KeepAlive)).unwrap();
    let loads = [
        Load::Recorded { speed: Speed::RECORDED, copies: Copies::ONE, sessions: Sessions::Pooled },
        Load::Open { rate: Rate::new(1_000.0).unwrap(), arrivals: Arrivals::Even },
        Load::Closed { clients: NonZeroU32::new(3).unwrap(), order: ClosedOrder::Requests },
    ];
    for load in loads {
        let scheduled = !matches!(load, Load::Closed { .. });
        let run = Run { turns: Turns::Once, duration: Duration::from_mins(10), ..run(&plan, serve(ok), load) };
        let played = played(&run);
        assert_eq!((played.completed, played.scheduled, played.unfinished), (100, 100, Unfinished::default()));
        assert!(played.elapsed < Duration::from_mins(1) && !played.stopped_early);
        if scheduled {
            assert!((played.offered.per_second() - 1_000.0).abs() < 1.0, "{:?}", played.offered);
            assert!(played.achieved <= played.offered && played.achieved.per_second() > 1.0);
        }
    }
}

#[test]
fn times_are_kept_finer_than_a_millisecond() {
    // A wait that is rounded up to milliseconds sends every third of these 0.7 ms late, and half of them 0.4 ms or more.
    let plan = plan(Reuse::KeepAlive);
    let target = serve(ok);
    let median = || played(&run(&plan, target.clone(), even(1e6 / 300.0))).lateness.scheduler.quantile(0.5);
    let best = (0..8).map(|_| median()).fold(f64::INFINITY, f64::min);
    assert!(best < 0.000_2, "half of all sends are more than {best} s late");
}
