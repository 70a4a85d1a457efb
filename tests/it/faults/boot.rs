//! Workers, code and configurations that do not come up.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::process::Signal;

use super::live::Live;
use super::load::{Load, Mode, Offered};
use super::probe::{allowed, cpu, now, pause, since, verdict};
use super::subject::{Kind, Subject};
use crate::support::PATIENCE;
use crate::support::http::Client;
use crate::support::process::{End, send};
use crate::support::size;

/// `boot-timeout` where code boots too slowly, and the goal for the end of its reload after it.
const BOOT_TIMEOUT: Duration = Duration::from_secs(2);
const GIVEN_UP: Duration = Duration::from_millis(300);
/// Requests during each of the reloads of a bad configuration, each of which takes less than a millisecond.
const REQUESTS_A_RELOAD: u64 = 10;

fn crash_loop_of_one_slot(fault: &str, kind: Kind) {
    let live = Subject::of(kind).file("ledger", "").file("boots", "").ready();
    live.put("crash_on_boot", "");
    let before = live.boots();
    let victim = live.serving()[0];
    let load = Load::new(live.address(), Mode::New, 20.0).start();
    send(victim, Signal::KILL);
    pause(Duration::from_mins(1));
    let forks = live.boots() - before;
    let report = load.finish();
    let places = report.places(&live.text("ledger"), &[victim]);
    let found = format!(
        "{forks} forks in 60 s; {} of {} requests lost beside the killed one's",
        places.with_the_living.len(),
        report.sent
    );
    verdict(fault, forks <= 12 && places.with_the_living.is_empty(), &found);
    live.audit();
}

#[test]
fn f07_crash_loop_of_one_slot() {
    crash_loop_of_one_slot("F07", Kind::under_test());
}

#[test]
fn f07z_crash_loop_of_one_slot() {
    crash_loop_of_one_slot("F07z", Kind::Python);
}

/// No worker serves any more, and none comes up.
fn crash_loop_of_all_slots(fault: &str, kind: Kind) {
    const SLOTS: u16 = 32;
    let span = size(Duration::from_secs(20), Duration::from_mins(1));
    let mut live = Subject::of(kind).workers(SLOTS).file("boots", "").ready();
    live.put("crash_on_boot", "");
    let (before, used, begun) = (live.boots(), cpu(live.pid()), now());
    live.serving().into_iter().for_each(|pid| send(pid, Signal::KILL));
    pause(Duration::from_secs(2));
    let at_once = live.boots() - before;
    pause(span.saturating_sub(since(begun)));
    let forks = live.boots() - before - at_once;
    let share = cpu(live.pid()).saturating_sub(used).as_secs_f64() / span.as_secs_f64();
    let alive = live.is_alive();
    live.take("crash_on_boot");
    let healed =
        live.reload(PATIENCE).is_ok() && live.see_ready_workers(PATIENCE, |now| now.len() == usize::from(SLOTS)).is_some();
    let found = format!(
        "{SLOTS} slots: {at_once} forks within 2 s, {forks} more until {} s, {:.1} % of a core; the supervisor {}, {} by a reload",
        span.as_secs(),
        share * 100.0,
        if alive { "lives" } else { "has ended" },
        if healed { "healed" } else { "not healed" }
    );
    let good = at_once + forks <= 20 && share < 0.05 && alive && healed;
    if !good {
        live.clear();
    }
    verdict(fault, good, &found);
    live.audit();
}

#[test]
fn f08_crash_loop_of_all_slots() {
    crash_loop_of_all_slots("F08", Kind::under_test());
}

#[test]
fn f08z_crash_loop_of_all_slots() {
    crash_loop_of_all_slots("F08z", Kind::Python);
}

fn does_not_boot_at_first(fault: &str, kind: Kind) {
    let mut live = Subject::of(kind).file("boot_fail", "").start();
    let end = live.ended();
    live.journal.wait_for_the_rest(PATIENCE);
    let (said, left) = (live.said(), live.left().len());
    let refused = Client::connect(live.address(), PATIENCE).is_err();
    let good = matches!(end, End::Code(3 | 4)) && refused && left == 0 && said.contains("told to fail at boot");
    verdict(fault, good, &format!("{end}, the reason is told, {left} processes left"));
}

#[test]
fn f10_does_not_boot_at_first() {
    does_not_boot_at_first("F10", Kind::under_test());
}

#[test]
fn f10z_does_not_boot_at_first() {
    does_not_boot_at_first("F10z", Kind::Python);
}

fn broken_deploy(fault: &str, kind: Kind) {
    let mut live = Subject::of(kind).workers(4).on_tcp().file("ledger", "").ready();
    let before = live.serving();
    let load = Load { clients: 32, ..Load::new(live.address(), Mode::New, 500.0) }.start_up_to(10_000);
    live.put("boot_fail", "");
    let reload = live.reload(Duration::from_secs(15));
    let report = load.join();
    let stayed = live.serving() == before;
    let good = report.lost.is_empty() && reload.is_err() && stayed;
    let found =
        format!("{} of {} requests lost ({}); old workers {}", report.lost.len(), report.sent, report.classes(), kept(stayed));
    verdict(fault, good, &found);
    live.take("boot_fail");
    assert_eq!(live.reload(PATIENCE), Ok(()), "the repaired deploy");
    live.audit();
}

fn kept(stayed: bool) -> &'static str {
    if stayed { "kept" } else { "gone" }
}

#[test]
fn f11_broken_deploy() {
    broken_deploy("F11", Kind::under_test());
}

#[test]
fn f11z_broken_deploy() {
    broken_deploy("F11z", Kind::Python);
}

fn boots_too_slowly_on_reload(fault: &str, kind: Kind) {
    let mut live = Subject::of(kind).boot_timeout(2).on_tcp().file("ledger", "").ready();
    let (before, children) = (live.serving(), live.children());
    let load = Load { patience: Duration::from_secs(5), ..Load::new(live.address(), Mode::New, 100.0) }.start();
    live.put("boot_sleep", "60000");
    let begun = now();
    let reload = live.reload(Duration::from_secs(10));
    let took = since(begun);
    let stayed = live.serving() == before;
    let report = load.finish();
    let found = format!(
        "{} of {} requests lost ({}); old workers {}; the reload ended after {:.2} s at boot-timeout 2 s",
        report.lost.len(),
        report.sent,
        report.classes(),
        kept(stayed),
        took.as_secs_f64()
    );
    let in_time = (BOOT_TIMEOUT..=BOOT_TIMEOUT + allowed(GIVEN_UP)).contains(&took);
    verdict(fault, report.lost.is_empty() && reload.is_err() && stayed && in_time, &found);
    live.await_children("the slow ones are gone", |now| now == children);
    live.audit();
}

#[test]
fn f12_boots_too_slowly_on_reload() {
    boots_too_slowly_on_reload("F12", Kind::under_test());
}

#[test]
fn f12z_boots_too_slowly_on_reload() {
    boots_too_slowly_on_reload("F12z", Kind::Python);
}

/// Puts one thing that is no valid configuration in the place of `file`.
type Spoil = Box<dyn Fn(&Path, &str)>;

fn text(spoilt: impl Fn(&str) -> String + 'static) -> Spoil {
    Box::new(move |file, good| fs::write(file, spoilt(good)).expect("write a configuration"))
}

/// 120 ways to spoil a configuration.
fn spoils() -> Vec<Spoil> {
    let added = [
        "= 1",
        "[app",
        "workers = 5",
        "x = ",
        "x = \"",
        "x = [1,",
        "x = {",
        "]",
        "[[listen]]",
        "[app]\n[app]",
        "x = 1 2",
        "\"",
        "'''",
        "x = 1979-13-45",
        "x = 0x",
        "x = +",
        "x.y.z",
        "[a]\n[a]",
        "x = 1\nx = 2",
        "[listen.address]",
        "[ ]",
        "x = nan nan",
        "x = tru",
        "\u{0}",
        "x = \"\\q\"",
    ];
    let keys = ["workers", "connections", "timeout", "graceful-timeout", "boot-timeout"];
    let values = [
        "-1",
        "1.5",
        "\"\"",
        "\"many\"",
        "[]",
        "{}",
        "true",
        "99999999999999999999",
        "1e400",
        "\"-3\"",
        "\"5 apples\"",
        "\"auto auto\"",
    ];
    let sections = ["app", "listen", "metrics", "control", "wrokers", "a.b.c"];
    let mut all: Vec<Spoil> = Vec::new();
    all.extend(added.map(|line| text(move |good| format!("{good}\n{line}\n"))));
    for key in keys {
        all.extend(values.map(|value| {
            text(move |good| {
                let others: Vec<&str> = good.lines().filter(|line| !line.starts_with(key)).collect();
                format!("{key} = {value}\n{}\n", others.join("\n"))
            })
        }));
    }
    all.extend(sections.map(|section| text(move |good| format!("{good}\n[{section}]\nunknown = 1\n"))));
    all.extend((1..=20).map(|part| text(move |good| good[..good.len() * part / 40].to_owned())));
    all.push(text(|_| String::new()));
    all.push(text(|_| "kind = \"command\"\n".to_owned()));
    all.push(text(|good| good.replace("kind = \"command\"", "kind = \"other\"")));
    all.push(Box::new(|file, _| fs::write(file, b"workers = 1\n\xff\xfe\n").expect("write a configuration")));
    all.push(Box::new(|file, _| fs::create_dir(file).expect("make a folder")));
    all.push(Box::new(|file, _| fs::File::create(file).and_then(|file| file.set_len(1 << 30)).expect("make a large file")));
    all.push(Box::new(|file, _| std::os::unix::fs::symlink(file, file).expect("make a loop")));
    all.push(Box::new(|file, _| {
        rustix::fs::mknodat(rustix::fs::CWD, file, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).expect("make a FIFO");
    }));
    all.push(Box::new(|_, _| ()));
    all
}

/// Waits until so many more requests have been made, whatever became of them.
fn await_requests(live: &Live, load: &Offered) {
    let wanted = load.sent() + REQUESTS_A_RELOAD;
    live.journal.wait(PATIENCE, |_| (load.sent() >= wanted).then_some(()));
}

#[test]
fn f52_bad_configuration_on_reload() {
    let mut live = Subject::of(Kind::Command).on_tcp().ready();
    let (file, good, before) = (live.directory().join("tuningfork.toml"), live.config(), live.serving());
    let load = Load::new(live.address(), Mode::New, 500.0).start();
    let spoils = spoils();
    let mut refused = 0;
    for (number, spoil) in spoils.iter().enumerate() {
        fs::remove_file(&file).or_else(|_| fs::remove_dir(&file)).expect("remove the configuration");
        spoil(&file, &good);
        let reload = live.reload(PATIENCE);
        let shown = fs::metadata(&file).ok().filter(|about| about.is_file() && about.len() < 4096);
        let reason = reload.expect_err(&format!(
            "{number}: {:?}",
            shown.map(|_| fs::read(&file).map(|text| String::from_utf8_lossy(&text).into_owned()))
        ));
        assert!(reason.contains("reload failed"), "{number}: {reason}");
        refused += 1;
        await_requests(&live, &load);
        if file.symlink_metadata().is_err() {
            fs::write(&file, &good).expect("write the configuration");
        }
    }
    let report = load.finish();
    let found = format!("{refused} of {} refused, {} of {} requests lost", spoils.len(), report.lost.len(), report.sent);
    let enough = report.sent as u64 >= spoils.len() as u64 * REQUESTS_A_RELOAD;
    verdict("F52", live.serving() == before && report.lost.is_empty() && refused >= 120 && enough, &found);
    fs::remove_file(&file).expect("remove the configuration");
    fs::write(&file, good).expect("write the configuration");
    assert_eq!(live.reload(PATIENCE), Ok(()), "the repaired configuration");
    live.audit();
}

#[test]
fn f52g_bad_configuration_on_reload() {
    let kind = Kind::under_test();
    let mut live = Subject::of(kind).on_tcp().ready();
    let before = live.serving();
    let load = Load::new(live.address(), Mode::New, 100.0).start();
    let file = if kind == Kind::Gunicorn { "gunicorn.conf.py" } else { "tuningfork.toml" };
    live.put(file, "workers = = 2\n");
    let reload = live.reload(Duration::from_secs(5));
    await_requests(&live, &load);
    let report = load.finish();
    let stayed = live.serving() == before;
    let ended = if live.is_alive() { "lives" } else { "has ended" };
    let found =
        format!("the supervisor {ended}; {} of {} requests lost; old workers {}", report.lost.len(), report.sent, kept(stayed));
    let good = reload.is_err() && report.lost.is_empty() && stayed && report.sent as u64 >= REQUESTS_A_RELOAD;
    if !good {
        live.clear();
    }
    verdict("F52", good, &found);
    live.audit();
}
