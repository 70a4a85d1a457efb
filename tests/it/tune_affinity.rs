//! `tuningfork tune --also affinity`: workers of both kinds really keep to cores while a trial says so, and what is found can be written.

use std::fs;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::folder::{Folder, Working};
use crate::support::process::children;
use crate::support::recording::recording;
use crate::support::shop;

const CONFIG: &str = r#"
workers = "auto"
connections = 1
[app]
kind = "command"
command = ["@PROGRAM@", "demo-worker", "--connections", "{connections}"]
[listen]
address = "unix:@DIR@/web.sock"
"#;

const TUNE: &str = "tune --traffic traffic.jsonl --quick --also affinity --max-workers 4 --budget 300s --json result.json";

/// What mostly waits is held however busy the cores are, so that there is something to find.
const WAITS: &str = "/work?wait_ms=20";

/// The cores that a process may use, as the kernel writes them; empty if it is gone.
fn cores_of(pid: u32) -> String {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap_or_default().trim().to_owned()
}

/// Waits until the study runs workers that keep to different parts of the cores that we may use.
fn await_bound_workers(study: &mut Working) {
    let (pid, all) = (study.pid(), cores_of(std::process::id()));
    study.wait("workers on cores of their own", |_| {
        let mut parts: Vec<String> = children(pid).into_iter().map(cores_of).collect();
        parts.retain(|cores| !cores.is_empty() && *cores != all);
        parts.sort();
        parts.dedup();
        (parts.len() > 1).then_some(())
    });
}

#[expect(clippy::print_stderr, reason = "a test that cannot run says so")]
fn is_on_one_core() -> bool {
    let one = std::thread::available_parallelism().is_ok_and(|cores| cores.get() == 1);
    if one {
        eprintln!("SKIPPED: there is one core here");
    }
    one
}

#[test]
fn commands_are_tried_on_cores_of_their_own_and_the_word_is_written() {
    if is_on_one_core() {
        return;
    }
    let folder = Folder::new().file("tuningfork.toml", CONFIG).file("traffic.jsonl", &recording([WAITS; 200]));
    let mut study = folder.start_alone(&format!("{TUNE} --max-connections 2 --write"));
    await_bound_workers(&mut study);
    let said = study.finish();
    said.assert_code(0);
    let report: Value = serde_json::from_str(&folder.text("result.json")).expect("the result");
    let trials = report["trials"].as_array().expect("trials");
    let ways: Vec<&str> = trials.iter().map(|trial| trial["cpu_affinity"].as_str().expect("a way")).collect();
    assert!(ways[0] == "none" && ways.iter().any(|way| *way != "none"), "{ways:?}\n{said}");
    said.assert_out(&[&format!("[app] cpu-affinity = {}", report["recommended"]["cpu_affinity"])]);
    // What goes without saying is not written.
    let written = folder.text("tuningfork.toml").contains("cpu-affinity = ");
    assert_eq!(written, report["recommended"]["cpu_affinity"] != "none", "{said}");
    folder.run("check -c tuningfork.toml").assert_code(0);
}

#[test]
fn python_workers_are_tried_on_cores_of_their_own() {
    if is_on_one_core() {
        return;
    }
    let config = shop::config("sync").replace("workers = 2", "workers = \"auto\"").replace("@LISTEN@", "127.0.0.1:0");
    let folder = Folder::new().file("tuningfork.toml", &config).file("traffic.jsonl", &recording(["/"; 200]));
    shop::seed(folder.directory());
    let mut study = folder.start_alone(TUNE);
    await_bound_workers(&mut study);
    study.signal(Signal::INT);
    study.finish().assert_code(130);
}

#[test]
fn threads_of_gthread_workers_add_nothing_and_one_core_nothing_to_choose() {
    let config = shop::config("gthread").replace("@LISTEN@", "127.0.0.1:0");
    let folder = Folder::new().file("tuningfork.toml", &config).file("traffic.jsonl", &recording(["/"; 200]));
    let mut study = folder.start("tune --traffic traffic.jsonl --quick --also threads");
    study.wait("what it says of threads", |said| {
        said.iter().any(|line| line.contains("--also threads adds nothing")).then_some(())
    });
    study.signal(Signal::INT);
    study.finish().assert_code(130);
    let said = folder.start_after("taskset -cp 0 $$ >/dev/null", "tune --demo --also affinity").finish();
    said.assert_code(2);
    said.assert_err(&["--also affinity: there is one core here"]);
}
