//! `tuningfork tune --write`, and what else a study does or does not do to a service that runs.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::process::Signal;

use crate::support::folder::Folder;
use crate::support::parts;

/// What a simulated study writes into: a configuration with comments, of a program that is never started.
const CONFIG: &str = "# The shop's.\nworkers = \"auto\"   # by the rule of thumb\nconnections = 10\n\n[app] # ours\nkind = \"command\"\ncommand = [\"true\"]\n\n[listen]\naddress = \"unix:@DIR@/web.sock\"\n";

const STUDY: &str = "tune --trial-command ./command --cores 16 --json result.json --write";

fn simulator(options: &str) -> Folder {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/simulator.py");
    let program = format!("#!/bin/sh\nexec {} {} {options}", parts::system_python().display(), script.display());
    Folder::new().program("command", &program).file("tuningfork.toml", CONFIG)
}

fn recommended(folder: &Folder) -> (u64, u64) {
    let report: serde_json::Value = serde_json::from_str(&folder.text("result.json")).expect("a result");
    let number = |key: &str| report["recommended"][key].as_u64().expect("a recommendation");
    (number("workers"), number("connections"))
}

#[test]
fn what_is_recommended_is_written_with_a_backup_and_every_comment() {
    let folder = simulator("");
    let before = folder.text("tuningfork.toml");
    let said = folder.run(STUDY);
    said.assert_code(0);
    said.assert_out(&["Written to tuningfork.toml; what it said: ", "tuningfork.toml.bak"]);
    let (workers, connections) = recommended(&folder);
    let expected = before.replace(
        "workers = \"auto\"   # by the rule of thumb\nconnections = 10\n",
        &format!("workers = {workers}   # by the rule of thumb\nconnections = {connections}\n"),
    );
    assert_eq!(folder.text("tuningfork.toml"), expected);
    assert_eq!(folder.text("tuningfork.toml.bak"), before);
}

/// Every configuration does the same, so that the baseline is recommended: what the file says of this service, and not the rule of thumb.
#[test]
fn what_the_file_says_is_the_baseline_and_is_not_written_again() {
    let folder = simulator("").program("command", "#!/bin/sh\necho '{\"capacity\": 100}'");
    for (says, baseline) in [("4", "4 workers × 20 connections"), ("\"auto\"", "33 workers × 20 connections")] {
        let config =
            CONFIG.replace("workers = \"auto\"", &format!("workers = {says}")).replace("connections = 10", "connections = 20");
        fs::write(folder.path("tuningfork.toml"), &config).expect("write the configuration");
        let said = folder.run(STUDY);
        said.assert_code(0);
        said.assert_err(&[format!("baseline {baseline}").as_str()]);
        said.assert_out(&["tuningfork.toml is left as it is: it comes to these numbers already."]);
        assert_eq!(folder.text("tuningfork.toml"), config, "{said}");
    }
    assert!(!folder.path("tuningfork.toml.bak").exists());
}

#[test]
fn what_was_written_is_no_part_of_a_result_on_standard_output() {
    let folder = simulator("");
    let said = folder.run("tune --trial-command ./command --cores 16 --json - --write");
    said.assert_code(0);
    said.assert_err(&["Written to tuningfork.toml; what it said: "]);
    let result: serde_json::Value = serde_json::from_str(&said.out).expect("one JSON object");
    assert!(result["recommended"]["workers"].is_u64(), "{said}");
}

#[test]
fn a_study_that_meets_the_objective_nowhere_writes_nothing() {
    for answer in ["\"capacity\": 0", "\"capacity\": 100, \"errors\": 1.0"] {
        let folder = simulator("").program("command", &format!("#!/bin/sh\necho '{{{answer}}}'"));
        let said = folder.run(STUDY);
        said.assert_code(99);
        said.assert_out(&["tuningfork.toml is left as it is: "]);
        assert_eq!(folder.text("tuningfork.toml.bak"), "", "{said}");
    }
}

#[test]
fn an_interrupted_study_writes_only_when_told_twice() {
    for (more, writes) in [("", false), (" --write-partial", true)] {
        let folder = simulator("--fault hang --at 4");
        let mut study = folder.start(&format!("{STUDY} --journal journal.jsonl{more}"));
        study.wait("three trials", |_| (folder.text("journal.jsonl").matches('\n').count() >= 4).then_some(()));
        study.signal(Signal::INT);
        let said = study.finish();
        said.assert_code(130);
        said.assert_out(&[if writes { "Written to tuningfork.toml" } else { "is left as it is: the study was interrupted" }]);
        assert_eq!(folder.path("tuningfork.toml.bak").exists(), writes, "{said}");
    }
}

#[test]
fn a_file_that_somebody_changed_meanwhile_is_left_alone() {
    let folder = simulator("");
    let program = folder.text("command").replace("exec ", "echo '# mine' >> tuningfork.toml; exec ");
    let folder = folder.program("command", &program);
    let said = folder.run(STUDY);
    said.assert_code(73);
    said.assert_err(&["tuningfork.toml was changed while the study ran and is left as it is"]);
    said.assert_out(&["Recommended: "]);
    assert!(folder.text("tuningfork.toml").ends_with("# mine\n"), "{said}");
}

#[test]
fn what_stands_against_writing_is_told_before_any_trial() {
    let folder = simulator("");
    fs::set_permissions(folder.path("tuningfork.toml"), fs::Permissions::from_mode(0o444)).expect("make it read-only");
    let said = folder.run(STUDY);
    said.assert_code(73);
    said.assert_err(&["tuningfork.toml is read-only (mode 0444): `chmod u+w` it"]);
    let said = folder.run(&format!("{STUDY} --config nowhere.toml"));
    said.assert_code(66);
    let said = folder.run("tune --trial-command ./command --write-partial");
    said.assert_code(2);
    assert!(!folder.path("result.json").exists());
}
