//! Trials of `tuningfork tune` in bad company: beside other programs, in a slice of the host, of an application that leaks, and
//! killed at any moment.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::folder::{Folder, Said};
use crate::support::journal::Journal;
use crate::support::process::{End, Watched, children};
use crate::support::recording::recording;

const CONFIG: &str = r#"
connections = 10
[app]
kind = "command"
command = ["@PROGRAM@", "demo-worker", "--connections", "{connections}", "--faults", "--steer", "@DIR@"]
[listen]
address = "unix:@DIR@/web.sock"
"#;

const TUNE: &str = "tune --traffic traffic.jsonl --quick --json result.json --journal journal.jsonl";

/// Demo workers, and a recording that asks for `targets`, one every ten milliseconds.
fn folder<'a>(targets: impl IntoIterator<Item = &'a str>) -> Folder {
    Folder::new().file("tuningfork.toml", CONFIG).file("traffic.jsonl", &recording(targets))
}

/// The lines of the journal: the header, and a trial each.
fn journal(folder: &Folder) -> Vec<Value> {
    let text = folder.text("journal.jsonl");
    let whole = text.rfind('\n').map_or(0, |end| end + 1);
    text[..whole].lines().map(|line| serde_json::from_str(line).expect("a line of the journal")).collect()
}

fn measured(folder: &Folder) -> Vec<Value> {
    journal(folder).iter().skip(1).map(|trial| trial["outcome"]["measured"].clone()).filter(|found| !found.is_null()).collect()
}

fn has_flag(trial: &Value, flag: &str) -> bool {
    trial["flags"].as_array().is_some_and(|flags| flags.iter().any(|found| found == flag))
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

#[test]
fn trials_beside_a_program_that_uses_the_cores_are_flagged_and_void() {
    let folder = folder(["/work?cpu_us=2000"; 200]);
    let mut shells = Command::new("sh");
    let spin = "while :; do :; done &".repeat(cores());
    shells.args(["-c", &format!("{spin} wait")]);
    let _spinning = Watched::start(shells, Journal::default());
    let said = folder.run(&format!("{TUNE} --budget 15s"));
    assert!(matches!(said.end, End::Code(_)), "{said}");
    said.assert_out(&["other programs used the cores"]);
    let report: Value = serde_json::from_str(&folder.text("result.json")).expect("the result");
    let trials = report["trials"].as_array().expect("trials");
    let spoilt = |trial: &&Value| trial["valid"] == false && (has_flag(trial, "other-programs") || trial["error"].is_string());
    assert!(trials.iter().any(|trial| spoilt(&trial)), "{said}");
}

#[test]
fn an_application_that_keeps_what_it_allocates_is_flagged() {
    let targets = (0..300).map(|number| if number % 100 == 50 { "/alloc/1" } else { "/work?cpu_us=2000" });
    let folder = folder(targets);
    let said = folder.run(&format!("{TUNE} --budget 10s"));
    assert!(matches!(said.end, End::Code(_)), "{said}");
    let leaking = measured(&folder).into_iter().find(|found| has_flag(found, "leaking"));
    let leaking = leaking.unwrap_or_else(|| panic!("{said}\n{:#?}", measured(&folder)));
    assert!(leaking["memory_growth"].as_f64().is_some_and(|growth| growth > 100_000.0), "{leaking}");
    said.assert_out(&["memory keeps growing"]);
}

#[test]
fn one_core_of_several_is_the_whole_host() {
    let folder = folder(["/work?cpu_us=1000&wait_ms=5"; 200]);
    let said = folder.start_after("taskset -cp 0 $$ >/dev/null", &format!("{TUNE} --budget 12s")).finish();
    said.assert_code(0);
    assert_eq!(journal(&folder)[0]["space"]["cores"], 1, "{said}");
    for found in measured(&folder) {
        assert_eq!(found["cores"].as_array().map(Vec::len), Some(1), "{found}");
        assert!(found["workers_cpu"].as_f64().is_some_and(|used| used < 1.05), "{found}");
    }
}

/// A control group of the test's own with half a core.
struct HalfACore(PathBuf);

impl HalfACore {
    /// Says why where it cannot be made.
    fn make() -> Result<Self, String> {
        let name = format!("tuningfork-it-{}", std::process::id());
        let first = Path::new("/sys/fs/cgroup/cpu");
        let (place, files) = if first.join("cpu.cfs_quota_us").exists() {
            (first.join(name), [("cpu.cfs_period_us", "100000"), ("cpu.cfs_quota_us", "50000")])
        } else {
            (Path::new("/sys/fs/cgroup").join(name), [("cpu.max", "50000 100000"), ("cgroup.max.depth", "0")])
        };
        fs::create_dir(&place).map_err(|error| format!("{}: {error}", place.display()))?;
        let group = Self(place);
        for (file, content) in files {
            fs::write(group.0.join(file), content).map_err(|error| format!("{file}: {error}"))?;
        }
        Ok(group)
    }
}

impl Drop for HalfACore {
    fn drop(&mut self) {
        // Empty by now, or the next boot removes it.
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
#[expect(clippy::print_stderr, reason = "a test that cannot run says so")]
fn a_quota_of_half_a_core_is_tuned_as_half_a_core() {
    let group = match HalfACore::make() {
        Ok(group) => group,
        Err(why) => {
            eprintln!("SKIPPED: no control group with a quota can be made here: {why}");
            return;
        }
    };
    let folder = folder(["/work?cpu_us=2000&wait_ms=5"; 200]);
    let enter = format!("echo $$ > {}/cgroup.procs", group.0.display());
    let said = folder.start_after(&enter, &format!("{TUNE} --budget 20s")).finish();
    assert!(matches!(said.end, End::Code(_)), "{said}");
    said.assert_err(&["Tuning ", " on 0.5 of "]);
    let header = &journal(&folder)[0];
    assert_eq!((&header["space"]["quota"], &header["space"]["cores"]), (&0.5.into(), &1.into()), "{header}");
    let found = measured(&folder);
    assert!(!found.is_empty(), "{said}");
    for found in &found {
        assert!(found["workers_cpu"].as_f64().is_some_and(|used| used < 0.6), "{found}");
    }
    // What used up the slice is told as such, though half the host is idle.
    let full = |found: &Value| found["utilisation"].as_f64().is_some_and(|used| (0.6..=1.0).contains(&used));
    assert!(found.iter().any(full), "{said}\n{found:#?}");
    assert!(found.iter().any(|found| found["throttled"].as_f64().is_some_and(|share| share > 0.0)), "{found:#?}");
}

/// Kills the study once its journal has more than `after` lines and it is in the middle of the next trial.
fn kill(folder: &Folder, arguments: &str, after: usize) -> Said {
    let mut study = folder.start(arguments);
    let pid = study.pid();
    study.wait("trials in the journal, and workers of the next", |_| {
        let lines = folder.text("journal.jsonl").matches('\n').count();
        (lines > after && !children(pid).is_empty()).then_some(())
    });
    study.signal(Signal::KILL);
    // Waits until no worker is left.
    study.finish()
}

#[test]
fn a_study_killed_again_and_again_goes_on_to_its_end_and_leaves_no_worker() {
    let folder = folder(["/work?cpu_us=200&wait_ms=20"; 200]);
    let mut before = Vec::new();
    // A study may be at its end after three trials.
    for kills in 1..=2 {
        let arguments = format!("{TUNE} --budget 300s{}", if kills == 1 { "" } else { " --resume" });
        let said = kill(&folder, &arguments, kills);
        assert_eq!(said.end, End::Signal(9), "{said}");
        let now = journal(&folder);
        assert!(now.starts_with(&before) && now.len() > kills, "{said}");
        before = now;
    }
    let said = folder.run(&format!("{TUNE} --budget 20s --resume"));
    said.assert_code(0);
    said.assert_err(&[&format!("trials taken up: {}", before.len() - 1)]);
    assert!(journal(&folder).starts_with(&before));
    let report: Value = serde_json::from_str(&folder.text("result.json")).expect("the result");
    assert_eq!(report["partial"], false, "{said}");
}
