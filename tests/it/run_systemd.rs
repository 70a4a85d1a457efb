//! The units under a real systemd, as root: start, reload, death, hang, restart, stop, upgrade, each without a lost request.

use std::fs;
use std::io::Write;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::support::hammer::{Hammer, Outcome, Reuse, Running, Tally};
use crate::support::http::{self, Address};
use crate::support::systemd_box::SystemdBox;

const TCP: &str = "127.0.0.1:8000";
const UNIX: &str = "/run/tuningfork/shop/web.sock";
const START: &str = "systemctl start tuningfork@shop";

fn config(listen: &str, extra: &str) -> String {
    format!(
        r#"
workers = 2
connections = 20
{extra}
[app]
kind = "command"
command = ["/usr/local/bin/tuningfork", "demo-worker", "--connections", "{{connections}}", "--faults", "--steer", "/var/lib/tuningfork/shop"]
[listen]
address = "{listen}"
"#
    )
}

fn booted(drop_in: &str) -> Option<SystemdBox> {
    SystemdBox::boot(&config(TCP, "graceful-timeout = 20"), drop_in)
}

fn hammer(address: &Address) -> Hammer {
    Hammer {
        address: address.clone(),
        path: "/work?cpu_us=200&wait_ms=2".to_owned(),
        clients: 4,
        requests: usize::MAX,
        reuse: Reuse::Never,
    }
}

fn tcp() -> Address {
    Address::Tcp(TCP.to_owned())
}

fn load(boxed: &SystemdBox) -> Running {
    boxed.inside(|| hammer(&tcp()).start())
}

/// A request that is answered after some time, and has been accepted when this returns.
fn slow(boxed: &SystemdBox) -> JoinHandle<u16> {
    let (accepted, is_accepted) = std::sync::mpsc::channel();
    let waiting = boxed.inside(|| {
        thread::spawn(move || {
            let mut client = http::Client::connect(&tcp(), Duration::from_secs(30)).expect("connect");
            // The answer to the first request shows that a worker has the connection.
            let first = client.get("/ok").expect("an answer");
            assert_eq!(first.status, 200);
            client.send(b"GET /sleep/1500 HTTP/1.1\r\nHost: test\r\n\r\n").expect("send");
            accepted.send(()).expect("somebody waits");
            client.receive().expect("an answer").status
        })
    });
    is_accepted.recv().expect("accepted");
    waiting
}

fn assert_all_ok(boxed: &SystemdBox, tally: &Tally) {
    let ok = tally.keys().all(|outcome| *outcome == Outcome::Ok) && tally.contains_key(&Outcome::Ok);
    assert!(ok, "{tally:?}\n{}", boxed.told());
}

fn get(boxed: &SystemdBox, path: &str) -> u16 {
    boxed.inside(|| http::get(&tcp(), path)).expect("an answer").status
}

/// The living workers.
fn workers(boxed: &SystemdBox) -> String {
    // The shell that looks is not to be found.
    boxed.must("pgrep -f '[d]emo-worker' | sort -n")
}

#[test]
fn systemd_starts_reloads_restarts_and_stops_it() {
    let Some(boxed) = booted("") else { return };
    boxed.must(START);
    assert_eq!(boxed.property("ActiveState"), "active");
    boxed.await_property("StatusText", |text| text == "2 of 2 workers ready");
    let (main, old) = (boxed.main_pid(), workers(&boxed));
    let traffic = load(&boxed);
    boxed.must("systemctl reload tuningfork@shop");
    let new = workers(&boxed);
    assert!(old.lines().all(|pid| !new.contains(pid)), "{old} {new}");
    boxed.must("cp /etc/tuningfork/shop.toml /tmp/good; echo 'workers = 0' >/etc/tuningfork/shop.toml");
    assert!(!boxed.sh("systemctl reload tuningfork@shop").status.success(), "a failed reload looks well");
    boxed.await_journal("shop.toml:1: workers");
    assert_eq!((boxed.property("ActiveState").as_str(), boxed.main_pid()), ("active", main));
    boxed.await_property("StatusText", |text| text.contains("the last reload failed"));
    assert_eq!(workers(&boxed), new);
    boxed.must("cp /tmp/good /etc/tuningfork/shop.toml; systemctl reload tuningfork@shop");
    // The sockets are in the store meanwhile.
    boxed.must("systemctl restart tuningfork@shop");
    assert_ne!(boxed.main_pid(), main);
    assert_eq!(boxed.property("NFileDescriptorStore"), "1");
    assert_all_ok(&boxed, &traffic.finish());
    let answer = slow(&boxed);
    boxed.must("systemctl stop tuningfork@shop");
    assert_eq!(answer.join().expect("the client"), 200);
    assert_eq!((boxed.property("Result").as_str(), boxed.property("NRestarts").as_str()), ("success", "0"));
    assert_eq!(boxed.sh("pgrep tuningfork").status.code(), Some(1), "somebody is left");
}

#[test]
fn a_service_manager_that_reloads_by_itself_waits_for_the_end() {
    // Nothing but the signal and what is said about it.
    let Some(boxed) = booted("[Service]\nType=notify-reload\nExecReload=\n") else { return };
    boxed.must(START);
    if boxed.property("Type") != "notify-reload" {
        let version = boxed.must("systemctl --version | head -1");
        let _ = writeln!(std::io::stderr(), "LEFT OUT: notify-reload needs systemd 253, this is {}", version.trim());
        return;
    }
    let (main, old, traffic) = (boxed.main_pid(), workers(&boxed), load(&boxed));
    boxed.must("systemctl reload tuningfork@shop");
    let new = workers(&boxed);
    assert!(old.lines().all(|pid| !new.contains(pid)), "{old} {new}");
    // What fails is over as well: the manager hears of the end, and of the reason in the status.
    boxed.must("cp /etc/tuningfork/shop.toml /tmp/good; echo 'workers = 0' >/etc/tuningfork/shop.toml");
    boxed.must("systemctl reload tuningfork@shop");
    boxed.await_property("StatusText", |text| text.contains("the last reload failed"));
    assert_eq!((boxed.property("ActiveState").as_str(), boxed.main_pid()), ("active", main));
    assert_eq!(workers(&boxed), new);
    boxed.must("cp /tmp/good /etc/tuningfork/shop.toml; systemctl reload tuningfork@shop");
    assert_all_ok(&boxed, &traffic.finish());
    boxed.must("systemctl stop tuningfork@shop");
    assert_eq!(boxed.property("Result"), "success");
}

#[test]
fn a_killed_supervisor_comes_back_and_no_request_is_lost() {
    let Some(boxed) = booted("") else { return };
    boxed.must(START);
    let (main, answer, traffic) = (boxed.main_pid(), slow(&boxed), load(&boxed));
    boxed.kill("KILL", main);
    boxed.await_property("NRestarts", |count| count == "1");
    boxed.await_property("ActiveState", |state| state == "active");
    assert_eq!(answer.join().expect("the client"), 200, "what was in flight is lost");
    assert_all_ok(&boxed, &traffic.finish());
    assert_ne!(boxed.main_pid(), main);
    assert_eq!(boxed.property("NFileDescriptorStore"), "1");
    boxed.must("systemctl stop tuningfork@shop");
}

#[test]
fn a_service_that_cannot_load_its_application_yet_is_tried_until_it_can() {
    // Exit code 4, each time, as of an import that asks a database that is not up.
    let unloadable = r#"
[app]
kind = "python"
app = "late:application"
interpreter = "/usr/bin/python3"
"#;
    let Some(boxed) = SystemdBox::boot(unloadable, "[Service]\nRestartSec=100ms\n") else { return };
    boxed.sh(START);
    // More often than systemd's own limit lets it, 5 times in 10 s.
    boxed.await_property("NRestarts", |count| count.parse().is_ok_and(|count: u32| count > 7));
    boxed.await_property("ExecMainStatus", |code| code == "4");
    fs::write(boxed.path("/etc/tuningfork/shop.toml"), config(TCP, "")).expect("write the configuration");
    boxed.await_property("ActiveState", |state| state == "active");
    assert_eq!(get(&boxed, "/ok"), 200);
    // What cannot become right by waiting.
    boxed.must("systemctl stop tuningfork@shop; echo 'workers = 0' >/etc/tuningfork/shop.toml");
    boxed.sh(START);
    assert_eq!((boxed.property("ActiveState").as_str(), boxed.property("NRestarts").as_str()), ("failed", "0"));
}

#[test]
fn a_unix_socket_survives_the_supervisor() {
    let Some(boxed) = SystemdBox::boot(&config(&format!("unix:{UNIX}"), "graceful-timeout = 20"), "") else { return };
    boxed.must(START);
    let traffic = hammer(&Address::Unix(boxed.path(UNIX))).start();
    boxed.kill("KILL", boxed.main_pid());
    boxed.await_property("NRestarts", |count| count == "1");
    boxed.await_property("ActiveState", |state| state == "active");
    boxed.must("systemctl restart tuningfork@shop");
    assert_all_ok(&boxed, &traffic.finish());
    boxed.must("systemctl stop tuningfork@shop");
    assert!(!boxed.path(UNIX).exists(), "the socket file is left");
}

#[test]
fn a_supervisor_that_hangs_is_replaced_and_its_workers_answer() {
    let Some(boxed) = booted("[Service]\nWatchdogSec=2\n") else { return };
    boxed.must(START);
    let (main, answer, traffic) = (boxed.main_pid(), slow(&boxed), load(&boxed));
    boxed.kill("STOP", main);
    boxed.await_property("NRestarts", |count| count == "1");
    boxed.await_property("ActiveState", |state| state == "active");
    assert_eq!(answer.join().expect("the client"), 200, "what was in flight is lost");
    assert_all_ok(&boxed, &traffic.finish());
    assert_ne!(boxed.main_pid(), main);
    // The new one gives its signs of life.
    let told = || boxed.property("WatchdogTimestampMonotonic");
    for _ in 0..2 {
        let before = told();
        boxed.await_property("WatchdogTimestampMonotonic", |now| now != before);
    }
    assert_eq!(boxed.property("NRestarts"), "1");
}

#[test]
fn a_connection_to_the_socket_unit_starts_the_service() {
    let Some(boxed) = booted("") else { return };
    boxed.must("systemctl start tuningfork@shop.socket");
    assert_eq!(boxed.property("ActiveState"), "inactive");
    assert_eq!(get(&boxed, "/ok"), 200);
    let (main, answer, traffic) = (boxed.main_pid(), slow(&boxed), load(&boxed));
    // systemd keeps the socket; putting it into the store as well would give it twice.
    assert_eq!(boxed.property("NFileDescriptorStore"), "0");
    boxed.kill("KILL", main);
    boxed.await_property("NRestarts", |count| count == "1");
    assert_eq!(answer.join().expect("the client"), 200);
    boxed.must("systemctl restart tuningfork@shop");
    assert_all_ok(&boxed, &traffic.finish());
    boxed.must("systemctl stop tuningfork@shop.socket tuningfork@shop");
}

#[test]
fn an_upgrade_moves_the_main_process_and_is_no_restart() {
    let Some(boxed) = booted("[Service]\nWatchdogSec=2\n") else { return };
    boxed.must(START);
    let traffic = load(&boxed);
    let mut main = boxed.main_pid();
    let upgrade = "tuningfork ctl --config /etc/tuningfork/shop.toml upgrade --wait";
    for _ in 0..2 {
        boxed.must(upgrade);
        let before = main.to_string();
        main = boxed.await_property("MainPID", |pid| pid != before).parse().expect("a pid");
    }
    boxed.must("printf '#!/bin/sh\\nexit 9\\n' >/usr/local/bin/bad; chmod +x /usr/local/bin/bad");
    boxed.must("ln -sf bad /usr/local/bin/tuningfork");
    assert!(!boxed.sh(&upgrade.replace("tuningfork ctl", "/opt/tuningfork-program ctl")).status.success());
    boxed.must("ln -sf /opt/tuningfork-program /usr/local/bin/tuningfork");
    assert_eq!(boxed.main_pid(), main);
    let told = || boxed.property("WatchdogTimestampMonotonic");
    for _ in 0..3 {
        let before = told();
        boxed.await_property("WatchdogTimestampMonotonic", |now| now != before);
    }
    boxed.must("systemctl reload tuningfork@shop");
    boxed.must("systemctl restart tuningfork@shop");
    assert_all_ok(&boxed, &traffic.finish());
    assert_eq!(boxed.property("NRestarts"), "0");
    assert_eq!(boxed.property("NFileDescriptorStore"), "1");
    boxed.must("systemctl stop tuningfork@shop");
    assert_eq!(boxed.sh("pgrep tuningfork").status.code(), Some(1), "somebody is left");
}

#[test]
fn a_slow_start_and_a_slow_stop_get_the_time_of_the_configuration() {
    let Some(boxed) = booted("[Service]\nTimeoutStartSec=2\nTimeoutStopSec=1\n") else { return };
    boxed.must("mkdir -p /var/lib/tuningfork/shop; echo 4000 >/var/lib/tuningfork/shop/boot_sleep");
    boxed.must(START);
    let answer = slow(&boxed);
    boxed.must("systemctl stop tuningfork@shop");
    assert_eq!(answer.join().expect("the client"), 200);
    assert_eq!(boxed.property("Result"), "success");
}

#[test]
fn what_a_killed_supervisor_left_in_its_group_is_ended() {
    let config = config(TCP, "graceful-timeout = 1");
    let Some(boxed) = SystemdBox::boot(&config, "[Service]\nKillMode=process\n") else { return };
    boxed.must("mkdir -p /var/lib/tuningfork/shop; touch /var/lib/tuningfork/shop/no_term");
    boxed.must(START);
    let old = workers(&boxed);
    boxed.must("rm /var/lib/tuningfork/shop/no_term");
    boxed.kill("KILL", boxed.main_pid());
    boxed.await_property("NRestarts", |count| count == "1");
    boxed.await_property("ActiveState", |state| state == "active");
    let new = workers(&boxed);
    assert!(old.lines().all(|pid| !new.contains(pid)), "{old} {new}\n{}", boxed.told());
    boxed.await_journal("it did not leave in time and is killed");
    assert_eq!(get(&boxed, "/ok"), 200);
    boxed.must("systemctl stop tuningfork@shop");
}

#[test]
fn a_stalled_journal_holds_nobody_up() {
    let Some(boxed) = booted("") else { return };
    boxed.must(START);
    let traffic = load(&boxed);
    let journal: u32 = boxed.must("systemctl show --value -p MainPID systemd-journald").trim().parse().expect("a pid");
    boxed.kill("STOP", journal);
    // 30 MB: more than the buffer of a stream to the journal holds, which systemd makes 8 MiB (double of it in the kernel's count).
    for _ in 0..100 {
        assert_eq!(get(&boxed, "/spew/300000"), 200);
    }
    let old = workers(&boxed);
    boxed.must("tuningfork ctl --config /etc/tuningfork/shop.toml reload --wait --timeout 30s");
    let new = workers(&boxed);
    boxed.kill("CONT", journal);
    assert!(old.lines().all(|pid| !new.contains(pid)), "{old} {new}");
    assert_all_ok(&boxed, &traffic.finish());
    boxed.must("systemctl stop tuningfork@shop");
}
