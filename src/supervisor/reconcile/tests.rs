//! Which workers are started when others fail: at once, few, or one by one after a pause; and how long a reload may take.

use std::time::Duration;

use super::*;
use crate::config::{Care, Timing};
use crate::supervisor::event::{Event, Exit, Settings, Wish};
use crate::units::Workers;

fn at(millis: u64) -> Moment {
    Moment::from_nanos(millis * 1_000_000)
}

fn settings() -> Settings {
    let timing =
        Timing { graceful_timeout: Duration::from_secs(30), timeout: Duration::ZERO, boot_timeout: Duration::from_secs(10) };
    Settings { workers: Workers::new(2).unwrap(), timing, care: Care { settle: Duration::ZERO, ..Care::default() } }
}

fn not_made(worker: u64) -> Event {
    Event::SpawnFailed { worker: WorkerId(worker), reason: "EAGAIN".to_owned() }
}

#[test]
fn a_reload_may_take_as_long_as_its_own_configuration_says() {
    for (seconds, given_up_at) in [(60, 63_000), (2, 5_000)] {
        let (mut supervisor, _) = Supervisor::start(at(0), settings());
        let first = Event::Prepared { generation: Generation(1), settings: settings() };
        for event in [first, Event::BecameReady { worker: WorkerId(1) }, Event::BecameReady { worker: WorkerId(2) }] {
            supervisor.handle(at(1), event);
        }
        supervisor.handle(at(2_000), Event::Asked(Wish::Reload));
        let boot_timeout = Duration::from_secs(seconds);
        supervisor.handle(at(3_000), Event::ConfigurationRead { generation: Generation(2), boot_timeout });
        assert_eq!(supervisor.deadline(), Some(at(given_up_at)));
        assert_eq!(supervisor.handle(at(given_up_at - 1), Event::Woke), []);
        let given_up = [Command::Retire { generation: Generation(2) }];
        assert_eq!(supervisor.handle(at(given_up_at), Event::Woke), given_up);
        // What is said of a generation that is given up helps it no more.
        supervisor.handle(at(given_up_at), Event::ConfigurationRead { generation: Generation(2), boot_timeout });
        assert_eq!(supervisor.deadline(), None);
    }
}

#[test]
fn after_a_reload_that_failed_half_way_the_old_generation_comes_back_with_pauses() {
    let (mut supervisor, _) = Supervisor::start(at(0), settings());
    let prepared = |generation| Event::Prepared { generation: Generation(generation), settings: settings() };
    let ready = |worker| Event::BecameReady { worker: WorkerId(worker) };
    let half_way = [prepared(1), ready(1), ready(2), Event::Asked(Wish::Reload), prepared(2), ready(3)];
    for event in half_way {
        supervisor.handle(at(1), event);
    }
    supervisor.handle(at(1), Event::Exited { worker: WorkerId(1), exit: Exit::Code(0) });
    // Slot 0 is served by the new generation, of which slot 1 gets nobody. Now slot 0 should be the old generation's again.
    let mut forks = 0;
    let mut orders = supervisor.handle(at(2), not_made(4));
    let spawned = |order: &Command| if let Command::Spawn { worker, .. } = order { Some(*worker) } else { None };
    while let Some(worker) = orders.iter().find_map(spawned) {
        forks += 1;
        assert!(forks < 10, "forked without a pause");
        orders = supervisor.handle(at(2), not_made(worker.0));
    }
    assert_eq!(forks, 2, "the first failure waits for nothing");
    let due = supervisor.deadline().expect("a second attempt");
    assert!(due > at(50), "{due:?}");
    assert!(matches!(supervisor.decide(due)[..], [Command::Spawn { slot: Slot(0), .. }]));
}

fn many(workers: u32) -> Settings {
    Settings { workers: Workers::new(workers).unwrap(), ..settings() }
}

/// A service whose workers serve.
fn serving(workers: u32) -> Supervisor {
    let (mut supervisor, _) = Supervisor::start(at(0), many(workers));
    supervisor.handle(at(0), Event::Prepared { generation: Generation(1), settings: many(workers) });
    for worker in 1..=u64::from(workers) {
        supervisor.handle(at(1), Event::BecameReady { worker: WorkerId(worker) });
    }
    assert_eq!(supervisor.ready(), workers as usize);
    supervisor
}

fn spawned(orders: &[Command]) -> Vec<WorkerId> {
    orders.iter().filter_map(|order| if let Command::Spawn { worker, .. } = order { Some(*worker) } else { None }).collect()
}

const LONG_AFTER: u64 = 100_000;

/// When forks are made within a minute, if the workers that serve are killed one after the other, `gap` nanoseconds apart, and every
/// other dies after five milliseconds.
fn forks_after_a_massacre(workers: u32, gap: u64) -> Vec<Moment> {
    let mut supervisor = serving(workers);
    let begun = at(LONG_AFTER);
    let mut deaths: BTreeSet<(Moment, WorkerId)> =
        (1..=u64::from(workers)).map(|worker| (begun.after(Duration::from_nanos(gap * worker)), WorkerId(worker))).collect();
    let mut forks = Vec::new();
    loop {
        let death = deaths.first().copied();
        let now = supervisor.deadline().into_iter().chain(death.map(|(when, _)| when)).min().expect("something is to come");
        if now > begun.after(Duration::from_mins(1)) {
            return forks;
        }
        while let Some((when, worker)) = deaths.pop_first() {
            if when > now {
                deaths.insert((when, worker));
                break;
            }
            supervisor.note(now, Event::Exited { worker, exit: Exit::Signal(9) });
        }
        for worker in spawned(&supervisor.handle(now, Event::Woke)) {
            forks.push(now);
            deaths.insert((now.after(Duration::from_millis(5)), worker));
        }
    }
}

#[test]
fn f08_when_all_workers_fail_twenty_forks_are_made_in_a_minute_whether_they_fail_together_or_one_by_one() {
    for gap in [0, 1, 1_000, 20_000] {
        for workers in [7, 32, 200] {
            let forks = forks_after_a_massacre(workers, gap);
            assert!((10..=20).contains(&forks.len()), "{workers} workers, {gap} ns apart: {} forks", forks.len());
            assert_eq!(forks.first(), Some(&at(LONG_AFTER).after(Duration::from_nanos(gap))), "the first is replaced at once");
        }
    }
}

#[test]
fn of_many_that_fail_at_once_all_are_replaced_as_soon_as_one_replacement_serves() {
    let mut supervisor = serving(32);
    let mut begun = Vec::new();
    for worker in 1..=20 {
        begun.extend(spawned(
            &supervisor.handle(at(LONG_AFTER), Event::Exited { worker: WorkerId(worker), exit: Exit::Signal(9) }),
        ));
    }
    assert_eq!(begun.len(), MAX_FIRST_ATTEMPTS);
    let orders = supervisor.handle(at(LONG_AFTER + 10), Event::BecameReady { worker: begun[3] });
    assert_eq!(spawned(&orders).len(), 20 - MAX_FIRST_ATTEMPTS);
}
