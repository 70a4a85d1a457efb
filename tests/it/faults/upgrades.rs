//! Upgrades under load: to programs that are good, and to programs that are not.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use tuningfork::control::Client;

use super::live::Live;
use super::load::{Load, Mode};
use super::probe::{pause, verdict};
use super::subject::{Kind, PROGRAM, Subject};
use crate::support::PATIENCE;
use crate::support::http::{self, Address};
use crate::support::size;

/// Requests a second, and the time between upgrades.
const RATE: f64 = 300.0;
const MANY_RATE: f64 = 2_000.0;
const EVERY: Duration = Duration::from_millis(200);

/// Puts something in the place of the program.
type Spoil = fn(&Path);

/// Programs that are no good.
const BAD: [(&str, Spoil); 8] = [
    ("ends at once", |program| script(program, "exit 9")),
    ("crashes", |program| script(program, "kill -SEGV $$")),
    ("hangs", |program| script(program, "exec sleep 1000")),
    ("hangs and ignores SIGTERM", |program| script(program, "trap '' TERM; while :; do sleep 1; done")),
    ("is no program", |program| put(program, b"no program at all", 0o755)),
    ("is the beginning of a program", |program| {
        let whole = fs::read(env!("CARGO_BIN_EXE_tuningfork")).expect("read the program");
        put(program, &whole[..64 << 10], 0o755);
    }),
    ("may not be executed", |program| put(program, b"#!/bin/sh\n", 0o644)),
    ("is gone", |program| fs::remove_file(program).expect("remove the program")),
];

pub(super) fn script(program: &Path, line: &str) {
    put(program, format!("#!/bin/sh\n{line}\n").as_bytes(), 0o755);
}

/// Where the old program was there is the new one at once: who executes it never finds half of it.
fn put(program: &Path, content: &[u8], mode: u32) {
    let new = program.with_extension("new");
    fs::write(&new, content).expect("write a program");
    fs::set_permissions(&new, fs::Permissions::from_mode(mode)).expect("set its mode");
    fs::rename(new, program).expect("replace the program");
}

/// A link to the program under test, or a newer file with the same content, by turns.
pub(super) fn put_good(program: &Path, number: usize) {
    if number % 2 == 1 {
        put(program, &fs::read(env!("CARGO_BIN_EXE_tuningfork")).expect("read the program"), 0o755);
        return;
    }
    let new = program.with_extension("new");
    symlink(env!("CARGO_BIN_EXE_tuningfork"), &new).expect("link the program");
    fs::rename(new, program).expect("replace the program");
}

/// Metrics and control are this supervisor's.
fn assert_doors_are_of(live: &Live, metrics: &Address) {
    assert_eq!(http::get(metrics, "/metrics").expect("a page").status, 200);
    let mut client = Client::connect(&live.directory().join("control.sock")).expect("the control socket");
    assert_eq!(client.status().expect("the status").pid, live.pid(), "{}", live.said());
}

/// Whether nothing was lost, and what there is to tell.
fn upgrades_under_load(mode: Mode, on_tcp: bool) -> (bool, String) {
    let subject = Subject::of(Kind::Command).workers(3).boot_timeout(1).graceful_timeout(5).linked().file("ledger", "");
    let (subject, metrics) = if on_tcp { subject.on_tcp() } else { subject }.with_doors();
    let mut live = subject.ready();
    let program = live.directory().join(PROGRAM);
    let load = Load { clients: size(16, 64), ..Load::new(live.address(), mode, size(RATE, MANY_RATE)) }.start();
    let good = size(2, 20);
    for number in 1..=good {
        pause(EVERY);
        put_good(&program, number);
        assert_eq!(live.upgrade(PATIENCE), Ok(()), "{}", live.said());
        assert_doors_are_of(&live, &metrics);
    }
    let (main, workers) = (live.pid(), live.serving());
    let mut refused = 0;
    for (what, spoil) in BAD {
        spoil(&program);
        let reason = live.upgrade(PATIENCE).expect_err(what);
        assert!(reason.contains("upgrade failed"), "{what}: {reason}");
        assert_eq!((live.pid(), live.serving()), (main, workers.clone()), "{what}");
        refused += 1;
    }
    // The old one still knows how.
    put_good(&program, 0);
    assert_eq!(live.upgrade(PATIENCE), Ok(()), "{}", live.said());
    assert_doors_are_of(&live, &metrics);
    let report = load.finish();
    assert!(report.places(&live.text("ledger"), &[]).twice.is_empty(), "a request was read twice");
    let found = format!(
        "{} of {} requests lost over {} upgrades ({}), {refused} of {} bad programs refused, {}",
        report.lost.len(),
        report.sent,
        good + 1,
        report.classes(),
        BAD.len(),
        report.spans()
    );
    live.audit();
    (report.lost.is_empty(), found)
}

#[test]
fn f44_upgrade_under_load() {
    let (good, found) = upgrades_under_load(Mode::New, true);
    let (kept_good, kept) = upgrades_under_load(Mode::KeepAlive, false);
    verdict("F44", good && kept_good, &format!("{found}; on kept connections and a unix socket {kept}"));
}
