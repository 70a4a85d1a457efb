//! Workers that die, hang, stop, refuse to leave, or leave something behind.

use std::time::Duration;

use rustix::process::Signal;
use tuningfork::supervisor::ABORT_GRACE;

use super::live::Live;
use super::load::{Load, Mode, Report};
use super::probe::{age, allowed, children_of_main_thread, now, pause, since, state, verdict};
use super::subject::{Kind, Subject};
use crate::support::PATIENCE;
use crate::support::http::{self, Client};
use crate::support::process::{End, send};
use crate::support::size;

/// Goals: from a worker's end to the next process, and what that needs beyond a boot to serve.
const NEXT_PROCESS: Duration = Duration::from_millis(20);
const BEYOND_BOOT: Duration = Duration::from_millis(50);
/// The same for all at once.
const ALL_BEYOND_BOOT: Duration = Duration::from_secs(1);
/// `timeout` where workers hang, and goals: until that is found, and until one is dead who takes no SIGABRT.
const TIMEOUT: Duration = Duration::from_secs(2);
const FOUND: Duration = Duration::from_millis(250);
const KILLED: Duration = Duration::from_millis(300);
/// `graceful-timeout` where a worker does not leave, and the goal for its end after it.
const GRACEFUL_TIMEOUT: Duration = Duration::from_secs(1);
const ENDED: Duration = Duration::from_millis(100);
/// The goal for the next answer where a worker is killed while it accepts.
const NEXT_ANSWER: Duration = Duration::from_millis(10);

/// A service whose workers write down what they read, and load on it that has begun.
fn under_load(subject: Subject, rate: f64) -> (Live, super::load::Offered) {
    let mut live = subject.file("ledger", "").file("boots", "").ready();
    let load = Load::new(live.address(), Mode::New, rate).start();
    await_answers(&mut live, 20);
    (live, load)
}

/// Waits until so many more requests were answered.
fn await_answers(live: &mut Live, more: usize) {
    let ledger = live.directory().join("ledger");
    let answers =
        || std::fs::read_to_string(&ledger).unwrap_or_default().lines().filter(|line| line.starts_with("answered")).count();
    let before = answers();
    live.wait("answers", |_| (answers() >= before + more).then_some(()));
}

/// Fails where it was not in time, a worker that lived on lost a request, or one was read twice.
fn judge(fault: &str, in_time: bool, live: &Live, report: &Report, dead: &[u32], found: &str) {
    let places = report.places(&live.text("ledger"), dead);
    let held = places.never_read + places.with_the_dead;
    let found =
        format!("{found}; {held} of {} requests lost with the worker, {} by others", report.sent, places.with_the_living.len());
    verdict(fault, in_time && places.with_the_living.is_empty() && places.twice.is_empty(), &found);
}

/// A worker ends by itself or is ended; others go on, and it is replaced.
fn dies_and_is_replaced(fault: &str, kind: Kind, kill: impl FnOnce(&Live), told: &str) {
    let (mut live, load) = under_load(Subject::of(kind).workers(4), 200.0);
    let before = live.serving();
    kill(&live);
    let died = now();
    let after = live.await_ready_workers("a replacement", |now| now.len() == 4 && now != before);
    let ready = since(died);
    let youngest = after.iter().map(|pid| age(*pid)).min().unwrap_or_default();
    let made = ready.saturating_sub(youngest);
    let dead: Vec<u32> = before.iter().copied().filter(|pid| !after.contains(pid)).collect();
    assert_eq!(dead.len(), 1, "one worker died: {before:?}, {after:?}");
    if kind != Kind::Gunicorn {
        live.await_log(told);
    }
    await_answers(&mut live, 20);
    let report = load.finish();
    let in_time = made <= allowed(NEXT_PROCESS) && ready <= live.booted + allowed(BEYOND_BOOT);
    let found = format!("another process after {} ms, serves again after {} ms", made.as_millis(), ready.as_millis());
    judge(fault, in_time, &live, &report, &dead, &found);
    live.audit();
}

/// The worker that gets this request dies of it.
fn ask(path: &'static str) -> impl FnOnce(&Live) {
    move |live| {
        let mut client = Client::connect(live.address(), PATIENCE).expect("connect");
        assert!(client.get(path).is_err(), "{path} was answered");
    }
}

#[test]
fn f01_segv() {
    dies_and_is_replaced("F01", Kind::under_test(), ask("/segv"), "signal 11");
}

#[test]
fn f01z_segv() {
    dies_and_is_replaced("F01z", Kind::Python, ask("/segv"), "signal 11");
}

#[test]
fn f02_abort() {
    dies_and_is_replaced("F02", Kind::under_test(), ask("/abort"), "signal 6");
}

#[test]
fn f02z_abort() {
    dies_and_is_replaced("F02z", Kind::Python, ask("/abort"), "signal 6");
}

#[test]
fn f03_exit_0() {
    dies_and_is_replaced("F03", Kind::under_test(), ask("/exit/0"), "exit code 0");
}

#[test]
fn f03z_exit_0() {
    dies_and_is_replaced("F03z", Kind::Python, ask("/exit/0"), "exit code 0");
}

#[test]
fn f04_exit_1() {
    dies_and_is_replaced("F04", Kind::under_test(), ask("/exit/1"), "exit code 1");
}

#[test]
fn f04z_exit_1() {
    dies_and_is_replaced("F04z", Kind::Python, ask("/exit/1"), "exit code 1");
}

fn kill_the_first(live: &Live) {
    send(live.serving()[0], Signal::KILL);
}

#[test]
fn f05_kill_of_one() {
    dies_and_is_replaced("F05", Kind::under_test(), kill_the_first, "signal 9");
}

#[test]
fn f05z_kill_of_one() {
    dies_and_is_replaced("F05z", Kind::Python, kill_the_first, "signal 9");
}

fn all_at_once(fault: &str, kind: Kind) {
    let mut live = Subject::of(kind).workers(32).ready();
    let before = live.serving();
    let begun = now();
    for pid in &before {
        send(*pid, Signal::KILL);
    }
    let after = live.await_ready_workers("32 new workers", |now| now.len() == 32 && now.iter().all(|pid| !before.contains(pid)));
    let took = since(begun);
    let zombies = || before.iter().filter(|pid| state(**pid) == Some('Z')).count();
    live.wait("no zombies", |_| (zombies() == 0).then_some(()));
    let found = format!(
        "{} of 32 serve again after {} ms where they boot in {} ms, no zombies",
        after.len(),
        took.as_millis(),
        live.booted.as_millis()
    );
    verdict(fault, took <= live.booted + allowed(ALL_BEYOND_BOOT), &found);
    live.audit();
}

#[test]
fn f06_kill_of_all_at_once() {
    all_at_once("F06", Kind::under_test());
}

#[test]
fn f06z_kill_of_all_at_once() {
    all_at_once("F06z", Kind::Python);
}

fn exits_soon_after_ready(fault: &str, kind: Kind) {
    let (live, load) = under_load(Subject::of(kind), 100.0);
    live.put("die_after_ready", "20");
    let victim = live.serving()[0];
    send(victim, Signal::KILL);
    pause(Duration::from_secs(10));
    let by_then = live.boots();
    pause(Duration::from_secs(10));
    let later = live.boots() - by_then;
    live.take("die_after_ready");
    let report = load.finish();
    let survivor = live.serving()[0];
    let dead: Vec<u32> = live.text("boots").lines().filter_map(|pid| pid.parse().ok()).filter(|pid| *pid != survivor).collect();
    let lost = report.places(&live.text("ledger"), &dead).with_the_living.len();
    let found = format!("{later} forks from second 10 to 20, the survivor lost {lost} of {} requests", report.sent);
    verdict(fault, later <= 10 && lost == 0, &found);
    live.audit();
}

#[test]
fn f09_exits_soon_after_ready() {
    exits_soon_after_ready("F09", Kind::under_test());
}

#[test]
fn f09z_exits_soon_after_ready() {
    exits_soon_after_ready("F09z", Kind::Python);
}

/// A worker stops to give signs of life.
fn hangs(fault: &str, kind: Kind, hang: impl FnOnce(&Live), dead_by: Duration) {
    let (mut live, load) = under_load(Subject::of(kind).workers(4).timeout(2), 50.0);
    let told = if kind == Kind::Gunicorn { "WORKER TIMEOUT" } else { "worker timeout" };
    let before = live.serving();
    let begun = now();
    hang(&live);
    live.await_log(told);
    let found_after = since(begun);
    let dies = |now: &[u32]| before.iter().any(|pid| !now.contains(pid));
    let after = live.await_ready_workers("the end of the hung worker", dies);
    let dead_after = since(begun);
    let dead: Vec<u32> = before.iter().copied().filter(|pid| !after.contains(pid)).collect();
    live.await_ready_workers("a replacement", |now| now.len() == 4 && !now.contains(&dead[0]));
    let report = load.finish();
    let in_time = found_after <= TIMEOUT + allowed(FOUND) && dead_after <= dead_by;
    let [found_after, dead_after] = [found_after, dead_after].map(|span| span.as_secs_f64());
    let found = format!("found after {found_after:.2} s and dead after {dead_after:.2} s of silence at timeout 2 s");
    judge(fault, in_time, &live, &report, &dead, &found);
    live.audit();
}

fn ask_to_hang(live: &Live) {
    let address = live.address().clone();
    // Nobody waits for the answer: there is none.
    std::thread::spawn(move || http::get(&address, "/hang"));
}

#[test]
fn f14_hung() {
    hangs("F14", Kind::under_test(), ask_to_hang, TIMEOUT + allowed(FOUND));
}

#[test]
fn f14z_hung() {
    hangs("F14z", Kind::Python, ask_to_hang, TIMEOUT + allowed(FOUND));
}

fn stop_the_first(live: &Live) {
    send(live.serving()[0], Signal::STOP);
}

#[test]
fn f15_stopped() {
    hangs("F15", Kind::under_test(), stop_the_first, TIMEOUT + ABORT_GRACE + allowed(KILLED));
}

#[test]
fn f15z_stopped() {
    hangs("F15z", Kind::Python, stop_the_first, TIMEOUT + ABORT_GRACE + allowed(KILLED));
}

fn ignores_term(fault: &str, kind: Kind) {
    let mut live = Subject::of(kind).graceful_timeout(1).ready();
    assert_eq!(live.get("/ignore-term").status, 200);
    let reloaded = live.reload(PATIENCE);
    let gone = live.see_ready_workers(Duration::from_secs(10), |now| now.len() == 2).is_some();
    assert_eq!(live.get("/ignore-term").status, 200);
    let begun = now();
    live.signal(Signal::TERM);
    let end = live.ended();
    let took = since(begun);
    let left = live.left().len();
    live.clear();
    let found = format!(
        "after the reload it was {}; stop: {end} after {:.2} s at graceful-timeout 1 s, {left} left",
        if gone { "gone" } else { "still there after 10 s" },
        took.as_secs_f64()
    );
    let in_time = (GRACEFUL_TIMEOUT..=GRACEFUL_TIMEOUT + allowed(ENDED)).contains(&took);
    verdict(fault, reloaded.is_ok() && gone && in_time && end == End::Code(0) && left == 0, &found);
}

#[test]
fn f16_ignores_term() {
    ignores_term("F16", Kind::under_test());
}

#[test]
fn f16z_ignores_term() {
    ignores_term("F16z", Kind::Python);
}

fn leaves_orphans(fault: &str, kind: Kind) {
    let orphans = size(100, 1_000);
    let mut live = Subject::of(kind).ready();
    let workers = live.serving();
    for number in 0..orphans {
        let orphan = live.get("/orphan").text().trim().parse().expect("a pid");
        // Some die before the service does: who adopted them reaps them.
        if number % 2 == 0 {
            send(orphan, Signal::KILL);
        }
    }
    assert_eq!(live.serving(), workers, "an orphan is no worker");
    let zombies = |pid| children_of_main_thread(pid).into_iter().filter(|pid| state(*pid) == Some('Z')).count();
    let supervisor = live.pid();
    let reaped = live.journal.wait(Duration::from_secs(10), |_| (zombies(supervisor) == 0).then_some(()));
    let (zombies, begun) = (zombies(supervisor), now());
    live.signal(Signal::TERM);
    let end = live.ended();
    let (took, left) = (since(begun), live.left().len());
    live.clear();
    let found =
        format!("{left} of {orphans} left after the stop, which took {:.2} s; {zombies} zombies before", took.as_secs_f64());
    verdict(fault, left == 0 && reaped.is_some() && end == End::Code(0), &found);
}

#[test]
fn f19_orphans() {
    leaves_orphans("F19", Kind::under_test());
}

#[test]
fn f19z_orphans() {
    leaves_orphans("F19z", Kind::Python);
}

fn dies_while_it_accepts(fault: &str, kind: Kind) {
    let (mut live, load) = under_load(Subject::of(kind).workers(4), 200.0);
    let (mut dead, mut slowest) = (Vec::new(), Duration::ZERO);
    for _ in 0..4 {
        let victim = *live.serving().iter().find(|pid| !dead.contains(*pid)).expect("a worker");
        send(victim, Signal::KILL);
        dead.push(victim);
        let begun = now();
        assert_eq!(live.get("/ok").status, 200);
        slowest = slowest.max(since(begun));
    }
    live.await_ready_workers("all replaced", |now| now.len() == 4);
    let report = load.finish();
    let found = format!("next answer after {} ms at most", slowest.as_millis());
    judge(fault, slowest <= allowed(NEXT_ANSWER), &live, &report, &dead, &found);
    live.audit();
}

#[test]
fn f49_dies_while_it_accepts() {
    dies_while_it_accepts("F49", Kind::under_test());
}

#[test]
fn f49z_dies_while_it_accepts() {
    dies_while_it_accepts("F49z", Kind::Python);
}
