//! The whole behaviour as one table: what each event does in each state of a supervisor with two workers.

use std::fmt::Write;
use std::num::NonZeroU16;
use std::time::Duration;

use super::Supervisor;
use super::event::{Command, Event, Exit, Haste, Reason, Scale, Settings, Wish};
use crate::config::{Care, Timing};
use crate::units::{Generation, Moment, WorkerId, Workers};

const SETTINGS: fn(u32) -> Settings = |workers| Settings {
    workers: Workers::new(workers).expect("invariant: small"),
    care: Care { settle: Duration::ZERO, ..CARE },
    timing: Timing {
        graceful_timeout: Duration::from_secs(30),
        timeout: Duration::from_secs(30),
        boot_timeout: Duration::from_mins(1),
    },
};

const CARE: Care = Care {
    settle: Duration::from_secs(5),
    max_unavailable: NonZeroU16::MIN,
    max_requests: None,
    max_requests_jitter: 0,
    max_age: None,
    max_memory: None,
    fail_after: None,
};

fn at(millis: u64) -> Moment {
    Moment::from_nanos(millis * 1_000_000)
}

fn prepared(generation: u32) -> Event {
    Event::Prepared { generation: Generation(generation), settings: SETTINGS(2) }
}

fn prepared_on_trial(generation: u32) -> Event {
    Event::Prepared { generation: Generation(generation), settings: Settings { care: CARE, ..SETTINGS(2) } }
}

fn ready(worker: u64) -> Event {
    Event::BecameReady { worker: WorkerId(worker) }
}

fn worn(worker: u64) -> Event {
    Event::Worn { worker: WorkerId(worker), reason: Reason::MaxRequests }
}

fn exited(worker: u64, code: i32) -> Event {
    Event::Exited { worker: WorkerId(worker), exit: Exit::Code(code) }
}

/// Every state, by the events (at 1 s) that lead there.
fn states() -> Vec<(&'static str, Vec<Event>)> {
    let up = || vec![prepared(1), ready(1), ready(2)];
    let then = |more: Vec<Event>| up().into_iter().chain(more).collect::<Vec<_>>();
    let reload = Event::Asked(Wish::Reload);
    vec![
        ("loading", vec![]),
        ("starting", vec![prepared(1)]),
        ("ready", up()),
        ("ready, beating", then(vec![Event::Beat { worker: WorkerId(1) }, Event::Beat { worker: WorkerId(2) }])),
        ("one slot waits", then(vec![exited(1, 1), exited(3, 1)])),
        ("reload: loading", then(vec![reload.clone()])),
        ("reload: canary", then(vec![reload.clone(), prepared(2)])),
        ("reload: on trial", then(vec![reload.clone(), prepared_on_trial(2), ready(3)])),
        ("reload: rolling", then(vec![reload.clone(), prepared(2), ready(3)])),
        ("reload: wished again", then(vec![reload.clone(), prepared(2), reload])),
        ("1 is worn", then(vec![worn(1), Event::Woke])),
        ("1 has left", then(vec![Event::Leaving { worker: WorkerId(1) }])),
        ("nobody serves", then(vec![exited(1, 1), exited(2, 1), exited(3, 1), exited(4, 1)])),
        ("resting", then(vec![Event::Asked(Wish::Rest)])),
        ("stopping", then(vec![Event::Asked(Wish::Stop(Haste::Graceful))])),
        ("quitting", then(vec![Event::Asked(Wish::Stop(Haste::Quick))])),
    ]
}

/// Every event, and the millisecond at which it comes: soon, so that what waits still waits.
fn events() -> Vec<(&'static str, u64, Event)> {
    vec![
        ("woke", 1_050, Event::Woke),
        ("woke at +31 s", 32_000, Event::Woke),
        ("loaded", 1_050, prepared(2)),
        ("not loaded", 1_050, Event::PrepareFailed { generation: Generation(2), reason: "reason".to_owned() }),
        ("1 not made", 1_050, Event::SpawnFailed { worker: WorkerId(1), reason: "EAGAIN".to_owned() }),
        ("3 ready", 1_050, ready(3)),
        ("1 beats", 1_050, Event::Beat { worker: WorkerId(1) }),
        ("1 exits 0", 1_050, exited(1, 0)),
        ("1 worn", 1_050, worn(1)),
        ("1 leaves", 1_050, Event::Leaving { worker: WorkerId(1) }),
        ("1 out of memory", 1_050, Event::Exited { worker: WorkerId(1), exit: Exit::OutOfMemory }),
        ("woke at +1.5 s", 2_500, Event::Woke),
        ("3 exits 4", 1_050, exited(3, 4)),
        ("HUP", 1_050, Event::Asked(Wish::Reload)),
        ("TTIN", 1_050, Event::Asked(Wish::Scale(Scale::More(1)))),
        ("TTOU", 1_050, Event::Asked(Wish::Scale(Scale::Fewer(1)))),
        ("WINCH", 1_050, Event::Asked(Wish::Rest)),
        ("USR1", 1_050, Event::Asked(Wish::ReopenLogs)),
        ("scale 3", 1_050, Event::Asked(Wish::Scale(Scale::To(Workers::new(3).expect("invariant: small"))))),
        ("replace 1", 1_050, Event::Asked(Wish::Replace(WorkerId(1)))),
        ("TERM", 1_050, Event::Asked(Wish::Stop(Haste::Graceful))),
        ("QUIT", 1_050, Event::Asked(Wish::Stop(Haste::Quick))),
    ]
}

fn short(command: &Command) -> String {
    match command {
        Command::Prepare { generation } => format!("load g{generation}"),
        Command::Retire { generation } => format!("retire g{generation}"),
        Command::ReopenLogs => "reopen logs".to_owned(),
        Command::TellTarget(workers) => format!("tell {workers} wanted"),
        Command::Spawn { worker, slot, generation } => format!("spawn {worker}(slot {slot}, g{generation})"),
        Command::Terminate { worker } => format!("TERM {worker}"),
        Command::Quit { worker } => format!("QUIT {worker}"),
        Command::Abort { worker } => format!("ABRT {worker}"),
        Command::Kill { worker } => format!("KILL {worker}"),
        Command::StartSuccessor => "start successor".to_owned(),
        Command::HandOver { then_reload } => format!("hand over, then reload: {then_reload}"),
        Command::EndSuccessor { haste } => format!("end successor, {haste:?}"),
        Command::KillSuccessor => "KILL successor".to_owned(),
    }
}

#[test]
fn state_by_event() {
    let mut table = String::new();
    for (state, path) in states() {
        let (mut supervisor, _) = Supervisor::start(at(1_000), SETTINGS(2));
        for event in path {
            supervisor.handle(at(1_000), event);
        }
        for (name, millis, event) in events() {
            let mut after = supervisor.clone();
            let commands = after.handle(at(millis), event);
            let orders = commands.iter().map(short).collect::<Vec<_>>().join(", ");
            let end = after.outcome().map_or(String::new(), |outcome| format!("  => {outcome:?}"));
            let line = format!("{state:<22}{name:<16}{}{end}", if orders.is_empty() { "-" } else { &orders });
            writeln!(table, "{}", line.trim_end()).expect("invariant: a string takes everything");
        }
    }
    insta::assert_snapshot!(table);
}
