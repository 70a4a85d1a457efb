//! `tuningfork ctl` against a running service: what it shows, what it has done, and how it tells that it was not.

use std::fs::Permissions;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
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
    let failed = ctl(&running, "reload --wait --json");
    let told: Value = serde_json::from_slice(&failed.stdout).expect("one JSON object");
    assert_eq!((&told["generation"], &told["code"]), (&Value::from(3), &Value::from(1)), "{told}");
    assert!(told["error"].as_str().is_some_and(|error| error.starts_with("the reload failed")), "{told}");
    assert!(told["failure"].is_string() && told["took_seconds"].is_f64(), "{told}");
    assert!(!failed.stderr.is_empty());

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
    symlink("/dev/null", directory.join("taken.sock")).expect("make a link");
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

/// `tuningfork ctl` in a folder, with an environment in which nobody's service is found.
fn ctl_in(folder: &Path, arguments: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tuningfork"));
    command.env_remove("RUNTIME_DIRECTORY").env("XDG_RUNTIME_DIR", folder).current_dir(folder);
    command.arg("ctl").args(arguments.split_whitespace()).stdin(Stdio::null()).output().expect("run ctl")
}

#[test]
fn run_ctl_tells_programs_too_that_it_failed() {
    let folder = tempfile::tempdir().expect("make a folder");
    std::fs::write(folder.path().join("tuningfork.toml"), "").expect("write a configuration");
    for action in [
        "status",
        "status --ready",
        "reload --wait",
        "scale 2",
        "upgrade",
        "reopen-logs",
        "logs",
        "logs --follow",
        "worker kill 1",
        "stop",
    ] {
        let failed = ctl_in(folder.path(), &format!("--json {action}"));
        assert_eq!(failed.status.code(), Some(69), "{action}: {}", said(&failed));
        let told: Value = serde_json::from_slice(&failed.stdout).unwrap_or_else(|error| panic!("{action}: {error}"));
        assert_eq!(told["code"], 69, "{action}: {told}");
        assert!(told["error"].as_str().is_some_and(|error| error.contains("no running service of")), "{action}: {told}");
        assert!(String::from_utf8_lossy(&failed.stderr).contains("no running service of"), "{action}");
    }
    let missing = ctl_in(folder.path(), "-c nothere.toml status");
    assert_eq!(missing.status.code(), Some(66), "{}", said(&missing));
    assert!(said(&missing).contains("nothere.toml: No such file"), "{}", said(&missing));
    let unlimited = ctl_in(folder.path(), "reload --wait --timeout 1");
    assert_eq!(unlimited.status.code(), Some(69), "a bare number is seconds: {}", said(&unlimited));
}

#[test]
fn run_ctl_names_the_sockets_that_it_cannot_find_by_itself() {
    let service = Service::of_demo_workers(1, 10);
    let place = service.directory().join("runtime");
    let service = service.env("RUNTIME_DIRECTORY", &place.display().to_string());
    std::fs::create_dir(&place).expect("make a folder");
    let folder = tempfile::tempdir().expect("make a folder");
    std::fs::write(folder.path().join("tuningfork.toml"), "").expect("write a configuration");
    let mut running = service.ready();
    let lost = ctl_in(folder.path(), "status");
    assert_eq!(lost.status.code(), Some(69), "{}", said(&lost));
    let option = format!("--socket {}", place.join("control.sock").display());
    assert!(said(&lost).contains(&option), "{}", said(&lost));
    let found = ctl_in(folder.path(), &format!("{option} status"));
    assert_eq!(found.status.code(), Some(0), "{}", said(&found));
    assert_eq!(running.stop(), End::Code(0));
}

#[test]
fn run_ctl_tells_what_of_a_reload_waits_for_a_restart() {
    let mut running = Service::of_demo_workers(1, 10).ready();
    let before = running.config();
    let changed = before.replace("web.sock", "other.sock") + "[control]\nsocket = \"@DIR@/control.sock\"\n";
    running.reconfigure(&changed);
    let waits = "only at the next restart or `tuningfork ctl upgrade`: [listen], [control]";
    let told = done(&running, "reload --wait");
    assert!(told.contains("generation 2 serves") && told.contains(waits), "{told}");
    assert!(done(&running, "status").contains(waits));
    assert_eq!(status(&running)["awaits_restart"], serde_json::json!(["[listen]", "[control]"]));
    running.reconfigure(&before);
    let told: Value = serde_json::from_str(&done(&running, "reload --wait --json")).expect("JSON");
    assert_eq!((&told["generation"], &told["awaits_restart"]), (&Value::from(3), &serde_json::json!([])));
    assert!(!done(&running, "status").contains("takes effect"));
    assert_eq!(running.stop(), End::Code(0));
}

#[test]
fn run_ctl_finds_a_service_whose_configuration_was_replaced_by_turning_a_link() {
    let config = Service::of_demo_workers(1, 10);
    let directory = config.directory().to_owned();
    let text = format!(
        "workers = 1\n[app]\nkind = \"command\"\ncommand = [\"{}\", \"demo-worker\", \"--connections\", \"5\"]\n[listen]\naddress = \"@LISTEN@\"\n",
        env!("CARGO_BIN_EXE_tuningfork")
    );
    for release in ["one", "two"] {
        std::fs::create_dir(directory.join(release)).expect("make a folder");
    }
    let config = config.filled_file("one/web.toml", &text).filled_file("two/web.toml", &text);
    let current = directory.join("current");
    symlink(directory.join("one"), &current).expect("make a link");
    let mut command = Command::new(env!("CARGO_BIN_EXE_tuningfork"));
    command.arg("run").arg("-c").arg(current.join("web.toml"));
    let mut running = config.launch(command);
    running.await_log("service ready");
    for file in ["one/web.toml", "current/web.toml"] {
        let found = ctl_in(&directory, &format!("-c {file} status --ready"));
        assert_eq!(found.status.code(), Some(0), "{file}: {}", said(&found));
    }
    std::fs::remove_file(&current).expect("remove the link");
    symlink(directory.join("two"), &current).expect("make a link");
    let found = ctl_in(&directory, "-c current/web.toml reload --wait");
    assert_eq!(found.status.code(), Some(0), "{}", said(&found));
    assert_eq!(running.stop(), End::Code(0));
    let left: Vec<_> = std::fs::read_dir(directory.join("tuningfork")).expect("list the folder").flatten().collect();
    assert!(left.is_empty(), "{left:?}");
}
