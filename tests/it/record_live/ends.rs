//! How a recording ends: nobody is cut off before somebody says so, and what is told is what is in the file.

use std::process::Command;

use rustix::process::Signal;

use super::{Clients, await_recorded, demo, recorded, tap};
use crate::support::hammer::{Hammer, Reuse};
use crate::support::journal::Journal;
use crate::support::process::{End, Watched};
use crate::support::service::Service;

/// How many requests it says are in the file.
fn told(said: &str) -> usize {
    let number = said.lines().find_map(|line| line.split(" requests recorded").next()?.rsplit(' ').next()?.parse().ok());
    number.unwrap_or_else(|| panic!("nothing is told: {said}"))
}

fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count)
}

#[test]
fn connections_go_on_until_a_second_signal_cuts_them() {
    // With two workers of one connection each, most wait in the queue, where the tap takes them.
    let mut running = Service::with_config(&demo(1).replace("workers = 2", "workers = 2\ngraceful-timeout = 1")).ready();
    let mut tap = tap(&running, "--share 1");
    let idle = descriptors(tap.pid());
    let hammer = Hammer {
        address: running.address().clone(),
        path: "/sleep/300000".to_owned(),
        clients: 6,
        requests: 6,
        reuse: Reuse::Never,
    };
    let load = hammer.start();
    let pid = tap.pid();
    tap.wait("a connection through the tap", |_| (descriptors(pid) > idle).then_some(()));
    tap.signal(Signal::INT);
    tap.wait("what goes on", |lines| lines.iter().any(|line| line.contains("Ctrl-C cuts them")).then_some(()));
    tap.signal(Signal::INT);
    assert_eq!(tap.await_end(), End::Code(0), "{}", tap.said());
    assert!(tap.said().contains("were cut"), "{}", tap.said());
    assert_eq!(running.stop(), End::Code(0));
    load.finish();
}

#[test]
fn a_file_that_may_not_grow_holds_what_is_told() {
    let mut running = Service::with_config(&demo(20)).ready();
    let clients = Clients::start(running.address(), "/ok", 2);
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -f 40 && exec \"$@\"", "sh", env!("CARGO_BIN_EXE_tuningfork"), "record", "live", "--share", "1"]);
    command.arg("-c").arg(running.directory().join("tuningfork.toml")).arg("-o").arg(running.directory().join("live.jsonl"));
    let mut tap = Watched::start(command, Journal::default());
    await_recorded(&mut tap, &running, 1);
    // Means nothing to it.
    tap.signal(Signal::USR1);
    assert_eq!(tap.await_end(), End::Code(73), "{}", tap.said());
    let recording = recorded(&running);
    assert_eq!((recording.requests.len(), recording.broken.torn), (told(&tap.said()), false), "{}", tap.said());
    assert!(!tap.said().contains("limit of the recording"), "{}", tap.said());
    clients.finish();
    assert_eq!(running.stop(), End::Code(0));
}

#[test]
fn a_recording_that_was_removed_is_a_failure() {
    let mut running = Service::with_config(&demo(20)).ready();
    let clients = Clients::start(running.address(), "/ok", 2);
    let mut tap = tap(&running, "--share 1");
    await_recorded(&mut tap, &running, 1);
    std::fs::remove_file(running.directory().join("live.jsonl")).expect("remove the recording");
    tap.signal(Signal::INT);
    assert_eq!(tap.await_end(), End::Code(73), "{}", tap.said());
    assert!(tap.said().contains("the recording is lost"), "{}", tap.said());
    clients.finish();
    assert_eq!(running.stop(), End::Code(0));
}

#[test]
fn a_supervisor_that_was_killed_did_not_ask_for_its_sockets() {
    let mut running = Service::with_config(&demo(20)).ready();
    let mut tap = tap(&running, "--share 1");
    running.signal(Signal::KILL);
    assert_eq!(running.await_end(), End::Signal(9));
    assert_eq!(tap.await_end(), End::Code(1), "{}", tap.said());
    assert!(tap.said().contains("was it killed?") && !tap.said().contains("takes its sockets back"), "{}", tap.said());
}
