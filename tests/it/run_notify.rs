//! What `tuningfork run` tells a service manager, and who gets an address when many want it.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use crate::support::process::{End, send};
use crate::support::service::{Running, Service, free_port};

const RACERS: usize = 50;
/// Five milliseconds apart: how often it is looked who of them has ended.
const LOOKS: usize = 12_000;

/// The lines that came with this one in a datagram, and after it.
fn after<'a>(lines: &'a [String], beginning: &str, count: usize) -> Vec<&'a str> {
    let told = lines.iter().filter_map(|line| line.strip_prefix("notify: "));
    told.skip_while(|line| !line.starts_with(beginning)).skip(1).take(count).collect()
}

/// Whether a mask of /proc/PID/status, such as SigCgt, has a signal.
fn has(pid: u32, mask: &str, signal: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("read its status");
    let bits = status.lines().find_map(|line| line.strip_prefix(mask)?.strip_prefix(":\t")).expect("a mask");
    u64::from_str_radix(bits, 16).expect("hexadecimal digits") >> (signal - 1) & 1 == 1
}

fn told(running: &Running, beginning: &str) -> usize {
    let wanted = format!("notify: {beginning}");
    running.journal.lines().iter().filter(|line| line.starts_with(&wanted)).count()
}

#[test]
fn a_service_manager_is_told_everything() {
    let mut running = Service::of_demo_workers(2, 10).env("WATCHDOG_USEC", "200000").ready();
    let lines = running.journal.lines();
    assert_eq!(after(&lines, "FDSTORE=1", 2), ["FDNAME=tuningfork-http", "FDPOLL=0"]);
    assert_eq!(told(&running, "FDSTORE=1"), 1);
    assert!(told(&running, "EXTEND_TIMEOUT_USEC=") > 0, "{lines:?}");
    // Not once by the way: from the loop, again and again.
    running.wait("signs of life", |lines| (lines.iter().filter(|line| *line == "notify: WATCHDOG=1").count() >= 3).then_some(()));
    assert!(has(running.pid(), "SigCgt", Signal::HUP.as_raw()), "systemd refuses notify-reload without a handler");
    for worker in running.children() {
        assert!(has(worker, "SigIgn", Signal::STKFLT.as_raw()), "the watchdog's signal would end a worker");
    }
    assert!(!has(running.pid(), "SigIgn", Signal::STKFLT.as_raw()));
    running.signal(Signal::HUP);
    running.await_notice("RELOADING=1");
    running.await_log("reload finished");
    running.wait("a second READY=1", |lines| (lines.iter().filter(|line| *line == "notify: READY=1").count() == 2).then_some(()));
    let lines = running.journal.lines();
    assert!(after(&lines, "RELOADING=1", 1)[0].starts_with("MONOTONIC_USEC="), "{lines:?}");
    running.reconfigure("workers = 0\n");
    running.signal(Signal::HUP);
    running.wait("a third READY=1", |lines| (lines.iter().filter(|line| *line == "notify: READY=1").count() == 3).then_some(()));
    running.await_notice("STATUS=2 of 2 workers ready; the last reload failed");
    assert_eq!(running.stop(), End::Code(0));
    assert_eq!(told(&running, "STOPPING=1"), 1);
}

#[test]
fn a_watchdog_that_means_another_process_is_not_fed() {
    let mut running = Service::of_demo_workers(1, 10).env("WATCHDOG_USEC", "1000").env("WATCHDOG_PID", "1").ready();
    assert_eq!(running.get("/sleep/100").status, 200);
    assert_eq!(running.stop(), End::Code(0));
    assert_eq!(told(&running, "WATCHDOG=1"), 0, "{}", running.said());
}

/// Starts a supervisor without a harness that looks after it.
fn racer(config: &std::path::Path) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tuningfork"));
    command.args(["run", "-c"]).arg(config).env_remove("NOTIFY_SOCKET").stdin(Stdio::null()).stderr(Stdio::piped());
    command.spawn().expect("run tuningfork")
}

#[test]
fn of_fifty_supervisors_that_start_at_once_one_gets_the_address() {
    let folder = tempfile::tempdir().expect("make a directory");
    let socket = folder.path().join("web.sock");
    for listen in [format!("unix:{}", socket.display()), format!("127.0.0.1:{}", free_port())] {
        // A file that a killed one left: all of them find it stale.
        fs::remove_file(&socket).ok();
        drop(std::os::unix::net::UnixListener::bind(&socket).expect("bind"));
        let config = folder.path().join("tuningfork.toml");
        let text = format!(
            "workers = 1\n[app]\nkind = \"command\"\ncommand = [\"{}\", \"demo-worker\", \"--connections\", \"9\"]\n[listen]\naddress = \"{listen}\"\n[control]\nsocket = \"{}\"\n",
            env!("CARGO_BIN_EXE_tuningfork"),
            folder.path().join("control.sock").display()
        );
        fs::write(&config, text).expect("write the configuration");
        let mut racers: Vec<Child> = (0..RACERS).map(|_| racer(&config)).collect();
        let mut codes = Vec::new();
        for _ in 0..LOOKS {
            if racers.len() <= 1 {
                break;
            }
            racers.retain_mut(|racer| match racer.try_wait().expect("wait for it") {
                Some(status) => {
                    codes.push(status.code());
                    false
                }
                None => true,
            });
            let pause = (std::sync::Mutex::new(()), std::sync::Condvar::new());
            drop(pause.1.wait_timeout(pause.0.lock().expect("our own"), Duration::from_millis(5)));
        }
        assert_eq!(racers.len(), 1, "{listen}: {codes:?}");
        assert!(codes.iter().all(|code| *code == Some(75)), "{listen}: {codes:?}");
        let winner = racers.pop().expect("nobody got the address");
        send(winner.id(), Signal::TERM);
        let end = winner.wait_with_output().expect("wait for it");
        assert_eq!(end.status.code(), Some(0), "{}", String::from_utf8_lossy(&end.stderr));
    }
    assert!(socket.exists(), "the stale file of a TCP service is nobody's");
}
