//! What `tuningfork run` does about workers that die, hang or refuse to leave, and about signals.

use std::time::Duration;

use rustix::process::Signal;

use crate::support::hammer::{Hammer, Outcome, Reuse, Tally};
use crate::support::http::Client;
use crate::support::process::{End, lives, send};
use crate::support::service::{Running, Service};

fn all_ok(tally: &Tally) -> bool {
    tally.keys().all(|outcome| *outcome == Outcome::Ok) && tally.contains_key(&Outcome::Ok)
}

fn hammer(running: &Running, reuse: Reuse) -> Hammer {
    let address = running.address().clone();
    Hammer { address, path: "/work?cpu_us=200&wait_ms=2".to_owned(), clients: 8, requests: usize::MAX, reuse }
}

fn demo_config(extra: &str) -> String {
    format!(
        r#"
workers = 3
connections = 20
settle = 0
{extra}
[app]
kind = "command"
command = ["@PROGRAM@", "demo-worker", "--connections", "{{connections}}", "--faults", "--steer", "@DIR@"]
[listen]
address = "@LISTEN@"
"#
    )
}

#[test]
fn a_worker_that_dies_is_replaced_however_it_dies() {
    let mut running = Service::of_demo_workers(2, 10).ready();
    for (count, path) in ["/segv", "/abort", "/exit/0", "/exit/1"].into_iter().enumerate() {
        let before = running.children();
        // Nobody answers: the worker is gone.
        let mut client = Client::connect(running.address(), Duration::from_secs(10)).expect("connect");
        assert!(client.get(path).is_err(), "{path} was answered");
        running.await_log_times("reason=\"crash\"", count + 1);
        running.await_children("two workers, one of them new", |now| now.len() == 2 && now != before);
        assert_eq!(running.get("/ok").status, 200);
    }
    let before = running.children();
    send(before[0], Signal::KILL);
    running.await_children("a replacement", |now| now.len() == 2 && !now.contains(&before[0]));
    assert_eq!(running.stop(), End::Code(0));
}

#[test]
fn many_workers_that_start_at_once_are_all_heard() {
    let mut running = Service::of_demo_workers(40, 10).ready();
    running.await_log_times("worker ready", 40);
    assert_eq!(running.children().len(), 40);
    assert_eq!(running.stop(), End::Code(0));
}

#[test]
fn a_hung_worker_is_aborted_and_replaced() {
    let mut running = Service::with_config(&demo_config("timeout = 1")).ready();
    let before = running.children();
    let mut client = Client::connect(running.address(), Duration::from_secs(20)).expect("connect");
    assert!(client.get("/hang").is_err(), "a hung worker answered");
    running.await_log("worker timeout");
    running.await_children("a replacement", |now| now.len() == 3 && now != before);
    assert_eq!(running.get("/ok").status, 200);
    assert_eq!(running.stop(), End::Code(0));
}

#[test]
fn a_stopped_worker_counts_as_hung_and_can_be_killed() {
    let mut running = Service::with_config(&demo_config("timeout = 1")).ready();
    let stopped = running.children()[0];
    send(stopped, Signal::STOP);
    running.await_children("a replacement", |now| now.len() == 3 && !now.contains(&stopped));
    assert_eq!(running.stop(), End::Code(0));
}

#[test]
fn ttin_and_ttou_change_the_number_of_workers_and_lose_no_request() {
    let mut running = Service::of_demo_workers(2, 20).ready();
    let load = hammer(&running, Reuse::KeepAlive).start();
    for more in [3, 4] {
        running.signal(Signal::TTIN);
        running.await_children("one more", |now| now.len() == more);
    }
    for left in [3, 2, 1] {
        running.signal(Signal::TTOU);
        running.await_children("one fewer", |now| now.len() == left);
    }
    let tally = load.finish();
    assert!(all_ok(&tally), "{tally:?}");
    running.signal(Signal::TTOU);
    running.await_log("service ready");
    assert_eq!(running.get("/ok").status, 200);
    assert_eq!(running.children().len(), 1, "the last worker is never taken away");
    assert_eq!(running.stop(), End::Code(0));
}

#[test]
fn ten_reloads_replace_every_worker_and_lose_no_request() {
    for reuse in [Reuse::Never, Reuse::KeepAlive] {
        let mut running = Service::of_demo_workers(3, 20).ready();
        let load = hammer(&running, reuse).start();
        for reload in 1..=10 {
            let before = running.children();
            running.signal(Signal::HUP);
            running.await_log_times("reload finished", reload);
            running.await_children("three new ones", |now| now.len() == 3 && now.iter().all(|pid| !before.contains(pid)));
        }
        let tally = load.finish();
        assert!(all_ok(&tally), "{reuse:?}: {tally:?}");
        assert_eq!(running.stop(), End::Code(0));
    }
}

#[test]
fn a_reload_with_a_broken_configuration_changes_nothing() {
    let mut running = Service::of_demo_workers(2, 10).ready();
    let before = running.children();
    running.reconfigure("workers = \"many\"\n");
    running.signal(Signal::HUP);
    running.await_log("reload failed, the old workers keep serving");
    running.await_log("tuningfork.toml:1: workers");
    assert_eq!(running.children(), before);
    assert_eq!(running.get("/ok").status, 200);
    assert_eq!(running.stop(), End::Code(0));
}

#[test]
fn a_reload_whose_workers_do_not_boot_keeps_the_old_ones() {
    let mut running = Service::of_demo_workers(3, 10).ready();
    let before = running.children();
    let load = hammer(&running, Reuse::KeepAlive).start();
    std::fs::write(running.directory().join("boot_fail"), "").expect("write a file");
    running.signal(Signal::HUP);
    running.await_log("reload failed, the old workers keep serving");
    assert_eq!(running.children(), before);
    let tally = load.finish();
    assert!(all_ok(&tally), "{tally:?}");
    std::fs::remove_file(running.directory().join("boot_fail")).expect("remove a file");
    running.signal(Signal::HUP);
    running.await_log("reload finished");
    assert_eq!(running.stop(), End::Code(0));
}

#[test]
fn a_reload_applies_the_new_number_of_workers() {
    let mut running = Service::with_config(&demo_config("")).ready();
    running.reconfigure(&demo_config("").replace("workers = 3", "workers = 5"));
    running.signal(Signal::HUP);
    running.await_children("five", |now| now.len() == 5);
    running.reconfigure(&demo_config("").replace("workers = 3", "workers = 1"));
    running.signal(Signal::HUP);
    running.await_children("one", |now| now.len() == 1);
    assert_eq!(running.stop(), End::Code(0));
}

#[test]
fn term_answers_what_is_in_flight() {
    let mut running = Service::of_demo_workers(2, 10).ready();
    let address = running.address().clone();
    let slow = std::thread::spawn(move || crate::support::http::get(&address, "/sleep/700"));
    running.await_busy();
    assert_eq!(running.stop(), End::Code(0));
    let reply = slow.join().expect("the client").expect("an answer");
    assert_eq!(reply.status, 200);
}

#[test]
fn int_and_quit_do_not_wait() {
    for signal in [Signal::INT, Signal::QUIT] {
        let mut running = Service::of_demo_workers(2, 10).ready();
        let address = running.address().clone();
        let slow = std::thread::spawn(move || crate::support::http::get(&address, "/sleep/25000"));
        running.await_busy();
        running.signal(signal);
        assert_eq!(running.await_end(), End::Code(0));
        assert!(slow.join().expect("the client").is_err());
    }
}

#[test]
fn a_second_term_is_harmless() {
    let mut running = Service::of_demo_workers(2, 10).ready();
    let address = running.address().clone();
    let slow = std::thread::spawn(move || crate::support::http::get(&address, "/sleep/700"));
    running.await_busy();
    running.signal(Signal::TERM);
    running.await_notice("STOPPING=1");
    running.signal(Signal::TERM);
    assert_eq!(running.await_end(), End::Code(0));
    assert_eq!(slow.join().expect("the client").expect("an answer").status, 200);
}

#[test]
fn a_worker_that_ignores_term_is_killed_after_the_graceful_timeout() {
    let mut running = Service::with_config(&demo_config("graceful-timeout = 1")).file("no_term", "").ready();
    assert_eq!(running.stop(), End::Code(0));
    assert!(running.said().contains("worker did not leave in time and is killed"), "{}", running.said());
}

#[test]
fn what_a_worker_left_behind_ends_with_the_service() {
    let mut running = Service::of_demo_workers(2, 10).ready();
    assert_eq!(running.get("/orphan").status, 200);
    running.await_children("the orphan, adopted", |now| now.len() == 3);
    assert_eq!(running.stop(), End::Code(0));
}

#[test]
fn workers_leave_when_the_supervisor_is_killed() {
    let mut running = Service::of_demo_workers(3, 10).ready();
    let workers = running.children();
    running.signal(Signal::KILL);
    assert_eq!(running.await_end(), End::Signal(9));
    assert!(workers.iter().all(|pid| !lives(*pid)));
}

#[test]
fn a_worker_gets_the_contract_of_a_socket_activated_service() {
    let mut running = Service::of_demo_workers(2, 7).env("NOTIFY_SECRET", "kept").ready();
    let said = running.get("/env").text();
    let variable = |name: &str| {
        let prefix = format!("{name}=");
        said.lines().find_map(|line| line.strip_prefix(&prefix)).map(str::to_owned)
    };
    let pids: Vec<String> = running.children().iter().map(u32::to_string).collect();
    assert!(pids.contains(&variable("LISTEN_PID").unwrap_or_default()), "{said}");
    assert_eq!(variable("LISTEN_FDS").as_deref(), Some("1"));
    assert_eq!(variable("TUNINGFORK_CONNECTIONS").as_deref(), Some("7"));
    assert!(["0", "1"].contains(&variable("TUNINGFORK_WORKER").unwrap_or_default().as_str()), "{said}");
    let notify = variable("NOTIFY_SOCKET").unwrap_or_default();
    assert!(notify.ends_with("/notify"), "workers must not reach the service manager's socket: {notify}");
    let fds = running.get("/fds").text();
    assert!(fds.lines().filter(|line| line.starts_with("3 ") || line.starts_with("3:") || *line == "3").count() <= 1, "{fds}");
    assert_eq!(running.stop(), End::Code(0));
}

#[test]
fn a_program_that_cannot_notify_is_ready_when_it_stays_alive() {
    let config = r#"
workers = 2
[app]
kind = "command"
command = ["sleep", "1000"]
readiness = "50ms"
[listen]
address = "@LISTEN@"
"#;
    let mut running = Service::with_config(config).ready();
    assert_eq!(running.children().len(), 2);
    assert_eq!(running.stop(), End::Code(0));
}

#[test]
fn a_crash_loop_backs_off_and_heals() {
    let mut running = Service::of_demo_workers(2, 10).ready();
    std::fs::write(running.directory().join("crash_on_boot"), "").expect("write a file");
    send(running.children()[0], Signal::KILL);
    running.await_log("waiting before the next attempt");
    assert_eq!(running.get("/ok").status, 200);
    std::fs::remove_file(running.directory().join("crash_on_boot")).expect("remove a file");
    running.await_children("both again", |now| now.len() == 2);
    assert_eq!(running.stop(), End::Code(0));
}
