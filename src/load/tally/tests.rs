//! Seconds that the generator spoiled, and those that it did not, in simulated time.

use std::sync::mpsc::{Sender, channel};

use super::super::pool::{Attempt, Flight, Phase, Source};
use super::super::steal::HostReading;
use super::super::validity::{Doubt, Processors};
use super::*;
use crate::recording;
use crate::replay::{PlanOptions, Reuse};

fn at(millis: u64) -> Moment {
    Moment::from_nanos(millis * 1_000_000)
}

fn plan() -> Plan {
    let recording = recording::read(br#"{"t":1,"m":"GET","u":"/","s":200}"#.as_slice()).unwrap();
    Plan::compile(&recording, &PlanOptions::new("test", Reuse::KeepAlive)).unwrap()
}

fn terms<'a>(plan: &'a Plan, schedule: Schedule, basis: Basis<'a>) -> Terms<'a> {
    Terms { plan, check: Check::Status, slow_after: Duration::from_secs(1), schedule, basis }
}

/// A request every 10 ms, which a reactor takes up when it is due, unless that is while it stalls; each is answered 5 ms after.
fn play(tally: &mut Tally<'_>, seconds: u64, stall: std::ops::Range<u64>, status: u16) {
    let mut answers = Vec::new();
    for due in (0..seconds * 1_000).step_by(10) {
        let taken = if stall.contains(&due) { stall.end } else { due };
        let until = |moment: u64, answers: &mut Vec<(u64, u64)>, tally: &mut Tally<'_>| {
            for (due, answered) in answers.extract_if(.., |(_, answered)| *answered < moment) {
                answer(tally, due, answered, at(seconds * 1_000), status);
            }
        };
        until(taken.min(due), &mut answers, tally);
        if at(due) >= tally.second_ends_at() {
            tally.close_second(at(taken));
        }
        tally.taken(&Due { index: 0, at: at(due), moved: Duration::ZERO, session: None }, at(taken));
        answers.push((due, taken + 5));
    }
    for (due, answered) in answers {
        answer(tally, due, answered, at(seconds * 1_000), status);
    }
}

fn answer(tally: &mut Tally<'_>, due: u64, answered: u64, end: Moment, status: u16) {
    let due = Due { index: 0, at: at(due), moved: Duration::ZERO, session: None };
    let sent = at(answered - 5);
    let busy = Busy {
        flight: Flight { due, session: None, since: due.at, attempt: Attempt::First },
        started: sent,
        sent_at: Some(sent),
        answered_at: Some(sent),
        phase: Phase::Moving,
        length: 1,
        sent: 1,
        usage: Usage::Reused,
        source: Source::Plan,
    };
    tally.sent(&busy, sent);
    tally.complete(&busy, Answer { status, content: 0, reusable: true }, at(answered), end);
}

fn result(tally: Tally<'_>, seconds: u64) -> Played {
    let span = Duration::from_secs(seconds);
    let sending = Sending { offered: span, achieved: span };
    tally.played(at(seconds * 1_000), span, sending, Duration::ZERO)
}

#[test]
fn a_second_in_which_the_generator_stalled_is_left_out_of_latencies_and_rates() {
    let (_sender, readings) = channel();
    let plan = plan();
    let mut tally = Tally::new(terms(&plan, Schedule::Given, Basis::UnspoiledSeconds(&readings, Processors::Own))).begin(at(0));
    play(&mut tally, 5, 2_300..2_800, 200);
    let played = result(tally, 5);
    let left_out: Vec<bool> = played.seconds.iter().map(|second| second.left_out).collect();
    assert_eq!(left_out, [false, false, true, false, false]);
    assert_eq!((played.scheduled, played.completed, played.left_out.seconds), (500, 500, 1));
    assert_eq!(played.left_out.sending, Duration::from_secs(1));
    assert_eq!((played.latency.count(), played.left_out.latency.count()), (400, 100));
    assert!(played.latency.max() < 0.006 && (played.left_out.latency.max() - 0.505).abs() < 0.001);
    assert_eq!((played.service.count(), played.first_byte.count()), (400, 400));
    assert!((played.offered.per_second() - 100.0).abs() < 1e-9 && (played.achieved.per_second() - 100.0).abs() < 1e-9);
    assert_eq!(played.lateness.scheduler.count(), 500, "how late the generator was is told of every second");
}

#[test]
fn a_stall_over_several_seconds_spoils_each_of_them() {
    let (_sender, readings) = channel();
    let plan = plan();
    let mut tally = Tally::new(terms(&plan, Schedule::Given, Basis::UnspoiledSeconds(&readings, Processors::Own))).begin(at(0));
    play(&mut tally, 6, 1_500..3_500, 200);
    let played = result(tally, 6);
    let left_out: Vec<bool> = played.seconds.iter().map(|second| second.left_out).collect();
    assert_eq!(left_out, [false, true, true, true, false, false]);
    assert!(played.latency.max() < 0.006, "{}", played.latency.max());
    assert!((played.offered.per_second() - 100.0).abs() < 1e-9);
}

#[test]
fn a_second_in_which_the_target_may_have_held_the_generator_up_counts() {
    let (sender, readings) = channel();
    let plan = plan();
    let mut tally =
        Tally::new(terms(&plan, Schedule::Given, Basis::UnspoiledSeconds(&readings, Processors::Shared))).begin(at(0));
    tell(&sender, 1_000, 5);
    play(&mut tally, 5, 2_300..2_800, 200);
    let played = result(tally, 5);
    let left_out: Vec<bool> = played.seconds.iter().map(|second| second.left_out).collect();
    assert_eq!(left_out, [false, true, false, false, false], "stolen time is nobody's doing here");
    assert!(doubts(&played.seconds[2]).any(|doubt| doubt == Doubt::Late), "it is told nevertheless");
    assert!((played.latency.max() - 0.505).abs() < 0.001);
}

#[test]
fn nothing_is_left_out_where_nothing_would_be_left() {
    let (_sender, readings) = channel();
    let plan = plan();
    let mut tally = Tally::new(terms(&plan, Schedule::Given, Basis::UnspoiledSeconds(&readings, Processors::Own))).begin(at(0));
    play(&mut tally, 2, 100..1_500, 200);
    let played = result(tally, 2);
    assert_eq!((played.latency.count(), played.left_out.clone()), (200, LeftOut::default()));
    assert!(
        played.seconds.iter().all(|second| !second.left_out && doubts(second).any(|doubt| doubt.is_ours(Processors::Own))),
        "{:?}",
        played.seconds
    );
}

#[test]
fn whoever_has_gates_of_their_own_sees_every_request_and_so_does_a_closed_load() {
    let (_sender, readings) = channel();
    let plan = plan();
    let cases = [(Schedule::Given, Basis::EverySecond), (Schedule::None, Basis::UnspoiledSeconds(&readings, Processors::Own))];
    for (schedule, basis) in cases {
        let mut tally = Tally::new(terms(&plan, schedule, basis)).begin(at(0));
        play(&mut tally, 5, 2_300..2_800, 200);
        let played = result(tally, 5);
        assert_eq!((played.latency.count(), played.left_out.clone()), (500, LeftOut::default()));
        assert!((played.latency.max() - 0.505).abs() < 0.001);
    }
}

/// The host's counters: all of the second from `from` on was taken by others.
fn tell(sender: &Sender<HostReading>, from: u64, seconds: u64) {
    for millis in (0..=seconds * 1_000).step_by(250) {
        let steal = Duration::from_millis(millis.clamp(from, from + 1_000) - from);
        sender.send(HostReading { at: at(millis), all: Duration::from_millis(millis), steal }).unwrap();
    }
}

#[test]
fn stolen_time_spoils_a_second_and_errors_count_in_all_of_them() {
    let (sender, readings) = channel();
    let plan = plan();
    let mut tally = Tally::new(terms(&plan, Schedule::Given, Basis::UnspoiledSeconds(&readings, Processors::Own))).begin(at(0));
    tell(&sender, 1_000, 5);
    play(&mut tally, 5, 0..0, 200);
    let played = result(tally, 5);
    let steal: Vec<Option<f64>> = played.seconds.iter().map(|second| second.steal).collect();
    assert_eq!(steal, [Some(0.0), Some(1.0), Some(0.0), Some(0.0), Some(0.0)]);
    assert_eq!((played.left_out.seconds, played.latency.count()), (1, 400));

    let mut tally = Tally::new(terms(&plan, Schedule::Given, Basis::UnspoiledSeconds(&readings, Processors::Own))).begin(at(0));
    tell(&sender, 1_000, 5);
    play(&mut tally, 5, 0..0, 500);
    let played = result(tally, 5);
    assert_eq!((played.left_out.seconds, played.errors.server_5xx, played.left_out.latency.count()), (1, 500, 0));
}

#[test]
fn a_slow_answer_stays_though_a_second_was_stolen_while_it_was_awaited() {
    let (sender, readings) = channel();
    let plan = plan();
    let mut tally = Tally::new(terms(&plan, Schedule::Given, Basis::UnspoiledSeconds(&readings, Processors::Own))).begin(at(0));
    tell(&sender, 1_000, 5);
    tally.taken(&Due { index: 0, at: at(500), moved: Duration::ZERO, session: None }, at(500));
    for second in 1..5 {
        tally.close_second(at(second * 1_000));
    }
    answer(&mut tally, 500, 4_500, at(5_000), 200);
    let played = result(tally, 5);
    assert_eq!((played.left_out.seconds, played.left_out.latency.count()), (1, 0));
    assert!((played.latency.max() - 4.0).abs() < 0.01, "{}", played.latency.max());
}

#[test]
fn a_second_that_may_be_the_targets_fault_is_never_left_out() {
    let (_sender, readings) = channel();
    let plan = plan();
    let mut tally = Tally::new(terms(&plan, Schedule::Given, Basis::UnspoiledSeconds(&readings, Processors::Own))).begin(at(0));
    for due in (0..3_000).step_by(10) {
        if at(due) >= tally.second_ends_at() {
            tally.close_second(at(due));
        }
        tally.taken(&Due { index: 0, at: at(due), moved: Duration::ZERO, session: None }, at(due));
        // Neither sent nor connected.
        tally.fail(Failure::Connect);
    }
    let played = result(tally, 3);
    assert_eq!(played.left_out, LeftOut::default());
    let found: Vec<Doubt> = doubts(&played.seconds[1]).collect();
    assert_eq!(found, [Doubt::Behind, Doubt::ConnectErrors]);
}
