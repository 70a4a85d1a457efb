//! `tuningfork ctl` against a running service: what it shows, what it has done, and how it tells that it was not.

use std::fs::Permissions;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::control::{ctl, done, said, status};
use crate::support::parts;
use crate::support::process::{End, lives, send};
use crate::support::root;
use crate::support::service::Service;
use crate::support::turn::Turn;

#[test]
fn run_ctl_works_out_of_the_box_and_shows_every_worker() {
    let mut running = Service::of_demo_workers(2, 10).ready();
    let shown = done(&running, "status");
    assert!(shown.starts_with("running: 2 of 2 workers ready, generation 1, up "), "{shown}");
    for pid in running.children() {
        assert!(shown.lines().any(|line| line.contains(&pid.to_string()) && line.contains("ready")), "{shown}");
    }
    let status = status(&running);
    assert_eq!(status["workers"].as_array().expect("workers").len(), 2);
    assert!(status["workers"][0]["memory_bytes"].as_u64().expect("PSS") > 100_000, "{status}");
    assert!(status["workers"][0]["cpu_seconds"].is_f64() && status["workers"][0]["restarts"] == 0, "{status}");
    assert_eq!(done(&running, "status --ready"), "");
    assert_eq!(running.stop(), End::Code(0));
    let gone = ctl(&running, "status --ready");
    assert_eq!(gone.status.code(), Some(69), "{}", said(&gone));
    assert!(said(&gone).contains("no running service of"), "{}", said(&gone));
}

#[test]
fn run_ctl_reload_waits_for_the_new_workers() {
    let mut running = Service::of_demo_workers(3, 10).ready();
    let before = running.children();
    let told = done(&running, "reload --wait");
    assert!(told.contains("reloaded: generation 2 serves"), "{told}");
    let after = status(&running);
    assert_eq!((&after["generation"], &after["ready"]), (&Value::from(2), &Value::from(3)));
    assert!(running.await_children("three new ones", |now| now.len() == 3).iter().all(|pid| !before.contains(pid)));
    let ended: Value = serde_json::from_str(&done(&running, "--json reload --wait")).expect("JSON");
    assert_eq!((&ended["generation"], &ended["failure"]), (&Value::from(3), &Value::Null));
    assert_eq!(running.stop(), End::Code(0));
}

#[test]
fn run_ctl_reload_that_fails_tells_why_and_harms_nobody_f11() {
    let mut running = Service::of_demo_workers(2, 10).ready();
    let before = running.children();
    std::fs::write(running.directory().join("boot_fail"), "").expect("write a file");
    let failed = ctl(&running, "reload --wait");
    assert_eq!(failed.status.code(), Some(1), "{}", said(&failed));
    assert!(said(&failed).contains("the reload failed, the old workers keep serving"), "{}", said(&failed));
    assert_eq!(running.children(), before);
    assert_eq!(running.get("/ok").status, 200);
    let shown = done(&running, "status");
    assert!(shown.contains("last reload: generation 2, FAILED"), "{shown}");

    // The configuration is broken too: the service is found all the same.
    running.reconfigure("workers = \"many\"\n");
    let failed = ctl(&running, "reload --wait");
    assert_eq!(failed.status.code(), Some(1), "{}", said(&failed));
    assert!(said(&failed).contains("tuningfork.toml:1: workers"), "{}", said(&failed));
    assert_eq!(running.stop(), End::Code(0));
}

#[test]
fn run_ctl_reloads_asked_for_together_all_hear_how_it_ended_f26() {
    let mut running = Service::of_demo_workers(2, 10).ready();
    let outputs: Vec<Output> = std::thread::scope(|scope| {
        let askers: Vec<_> = (0..6).map(|_| scope.spawn(|| ctl(&running, "reload --wait --json"))).collect();
        askers.into_iter().map(|asker| asker.join().expect("no panic")).collect()
    });
    let mut generations: Vec<u64> = Vec::new();
    for output in &outputs {
        assert_eq!(output.status.code(), Some(0), "{}", said(output));
        let ended: Value = serde_json::from_str(&said(output)).expect("JSON");
        generations.push(ended["generation"].as_u64().expect("a generation"));
    }
    let newest = status(&running)["generation"].as_u64().expect("a generation");
    assert!(generations.iter().all(|generation| (2..=newest).contains(generation)), "{generations:?}, {newest}");
    assert!(newest < 8, "each wish became a reload of its own");
    assert_eq!(running.stop(), End::Code(0));
}

#[test]
fn run_ctl_scales() {
    let mut running = Service::of_demo_workers(2, 10).ready();
    for (wish, expected) in [("4", 4), ("-1", 3), ("+2", 5), ("1", 1), ("-5", 1)] {
        let told: Value = serde_json::from_str(&done(&running, &format!("scale {wish} --wait --json"))).expect("JSON");
        assert_eq!(told["target"], expected, "scale {wish}");
        assert_eq!(running.children().len(), expected, "scale {wish}");
    }
    let refused = ctl(&running, "scale 0");
    assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
    assert_eq!(running.stop(), End::Code(0));
}

#[test]
fn run_ctl_replaces_one_worker() {
    let mut running = Service::of_demo_workers(2, 10).ready();
    let before = status(&running);
    let (id, pid) = (before["workers"][0]["id"].as_u64().expect("an id"), before["workers"][0]["pid"].as_u64().expect("a pid"));
    let other = before["workers"][1]["pid"].clone();
    done(&running, &format!("worker kill {id} --wait"));
    assert!(!lives(u32::try_from(pid).expect("a pid")));
    let after = status(&running);
    assert_eq!((&after["ready"], &after["workers"][1]["pid"]), (&Value::from(2), &other));
    let refused = ctl(&running, &format!("worker kill {id}"));
    assert_eq!(refused.status.code(), Some(1));
    assert!(said(&refused).contains(&format!("there is no worker {id}")), "{}", said(&refused));
    assert_eq!(running.stop(), End::Code(0));
}

#[test]
fn run_ctl_stop_waits_for_the_end_and_a_second_one_is_harmless_f28() {
    let mut running = Service::of_demo_workers(2, 10).ready();
    let pid = running.pid();
    done(&running, "stop");
    // It may be gone by now; if not, this changes nothing.
    ctl(&running, "stop");
    send(pid, Signal::TERM);
    assert_eq!(running.await_end(), End::Code(0));

    let mut running = Service::of_demo_workers(2, 10).ready();
    let told = done(&running, "stop --wait");
    assert!(told.contains("stopped"), "{told}");
    assert!(!lives(running.pid()), "it returned before the end");
    assert_eq!(running.await_end(), End::Code(0));
}

#[test]
fn run_ctl_status_tells_why_a_slot_waits() {
    let mut running = Service::of_demo_workers(2, 10).ready();
    std::fs::write(running.directory().join("boot_fail"), "").expect("write a file");
    send(running.children()[0], Signal::KILL);
    running.await_log("worker keeps failing");
    assert_eq!(ctl(&running, "status --ready").status.code(), Some(1));
    let status = status(&running);
    let waiting = status["workers"].as_array().expect("workers").iter().find(|worker| worker["state"] == "waiting");
    if let Some(waiting) = waiting {
        assert!(waiting["last_exit"].as_str().expect("why").contains("exit code"), "{status}");
        assert!(waiting["restarts"].as_u64().expect("a number") >= 2, "{status}");
    }
    assert_eq!(running.stop(), End::Code(0));
}

#[test]
fn run_ctl_socket_that_cannot_be_made_does_not_fail_the_start_f55() {
    let _turn = Turn::beside_others();
    let config = Service::of_demo_workers(1, 5);
    let directory = config.directory().to_owned();
    std::os::unix::fs::symlink("/dev/null", directory.join("taken.sock")).expect("make a link");
    let mut running = config.extend("[control]\nsocket = \"@DIR@/taken.sock\"\n").ready();
    running.await_log("no control socket");
    assert_eq!(running.get("/ok").status, 200);
    assert_eq!(running.stop(), End::Code(0));
    assert!(directory.join("taken.sock").is_symlink() || !directory.exists(), "what was in the way stays");
}

#[test]
fn run_ctl_does_not_believe_a_stranger() {
    if root::is_missing() {
        return;
    }
    let folder = tempfile::tempdir().expect("make a folder");
    std::fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).expect("open the folder");
    let path = folder.path().join("control.sock");
    let listens = "import os, socket, sys; os.setuid(65534); s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1]); s.listen(); print(flush=True); sys.stdin.read()";
    let mut stranger = Command::new(parts::python());
    stranger.args(["-c", listens]).arg(&path).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut stranger = stranger.spawn().expect("start Python");
    let mut line = String::new();
    BufReader::new(stranger.stdout.take().expect("its output")).read_line(&mut line).expect("hear Python");
    let asked = Command::new(env!("CARGO_BIN_EXE_tuningfork")).args(["ctl", "status", "--socket"]).arg(&path).output();
    let asked = asked.expect("run ctl");
    drop(stranger.stdin.take());
    stranger.wait().expect("wait for Python");
    assert_eq!(asked.status.code(), Some(69), "{}", said(&asked));
    assert!(said(&asked).contains("user 65534 listens there"), "{}", said(&asked));
}
