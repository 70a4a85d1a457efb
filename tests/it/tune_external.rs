//! `tuningfork tune` when another program runs the trials: the protocol in both forms, everything such a program may do wrong, and the
//! study that goes on.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::folder::{Folder, Said, Working};
use crate::support::process::End;
use crate::support::simulator::simulator;

const SPACE: &str = "--cores 16 --max-workers 64 --max-connections 200 --slo p90<700ms,errors<0.1% --json result.json";

fn result(folder: &Folder) -> Value {
    serde_json::from_str(&folder.text("result.json")).unwrap_or_else(|error| panic!("{error}\n{}", folder.text("result.json")))
}

fn trials(report: &Value) -> &[Value] {
    report["trials"].as_array().expect("trials")
}

fn study(folder: &Folder, form: &str, more: &str) -> (Said, Value) {
    let said = folder.run(&format!("tune --trial-{form} ./{form} {SPACE}{more}"));
    let report = result(folder);
    (said, report)
}

/// What the simulator computes, without its noise.
fn true_capacity(candidate: &Value) -> f64 {
    let number = |key: &str| candidate[key].as_f64().expect("a number");
    let (workers, slots) = (number("workers"), number("workers") * number("connections"));
    let cores = 0.97 * 16.0 / (0.01 * (1.0 + 0.02 * (workers / 16.0 - 1.0).max(0.0)));
    let limits = [cores, 0.96 * workers / 0.01, 0.98 * slots / 0.41];
    limits.iter().map(|limit: &f64| limit.powi(-8)).sum::<f64>().powf(-0.125)
}

#[test]
fn both_forms_find_the_best_configuration_of_a_simulated_host() {
    let (said, by_command) = study(&simulator(""), "command", "");
    said.assert_code(0);
    said.assert_err(&["Tuning what ./command measures on 16 cores", "baseline 33 workers × 10 connections"]);
    said.assert_out(&["Recommended: ", "workers = ", "connections = "]);
    let best = true_capacity(&json!({"workers": 22, "connections": 200}));
    let found = true_capacity(&by_command["recommended"]);
    assert!(found > 0.94 * best, "{found} of {best}\n{said}");
    assert_eq!((&by_command["cores"], &by_command["slo"]), (&json!(16), &json!("p90<700ms,errors<0.1%")));
    assert!(by_command["ratio"]["low"].as_f64().is_some_and(|ratio| ratio > 1.2), "{said}");
    let first = &trials(&by_command)[0];
    assert_eq!((&first["purpose"], &first["seconds"], &first["valid"]), (&json!("measure"), &json!(45.0), &json!(true)));

    let (said, by_server) = study(&simulator(""), "server", "");
    said.assert_code(0);
    assert_eq!(by_server, by_command, "the same trials, whoever asks");
}

#[test]
fn answers_without_details_are_enough() {
    let (said, report) = study(&simulator("--terse"), "server", "");
    said.assert_code(0);
    assert!(true_capacity(&report["recommended"]) > true_capacity(&report["baseline"]), "{said}");
    assert_eq!((&trials(&report)[0]["label"], &report["certificate"]["given"]), (&json!("unknown"), &json!(false)));
}

#[test]
fn reported_seconds_are_spent_and_not_waited_for() {
    let (said, report) = study(&simulator(""), "server", " --budget 3m");
    said.assert_code(0);
    assert_eq!(report["stopped_because"], "the budget was used up", "{said}");
    let seconds: f64 = trials(&report).iter().filter_map(|trial| trial["seconds"].as_f64()).sum();
    assert!((135.0..=189.0).contains(&seconds), "{seconds}\n{said}");
    assert!(true_capacity(&report["recommended"]) > 1.2 * true_capacity(&report["baseline"]), "{said}");
    said.assert_out(&["It had no room for 2 of the pairs"]);
}

#[test]
fn whatever_a_program_does_wrong_is_a_failed_trial_and_the_study_goes_on() {
    let faults = [
        ("exit", "exit status: 3", "ended without an answer"),
        ("close", "`a log line before the answer` cannot be read", "ended without an answer"),
        ("hang", "gave no answer in time (--trial-timeout)", "gave no answer in time (--trial-timeout)"),
        ("garbage", "`Listening on 127.0.0.1:8000` cannot be read", "`Listening on 127.0.0.1:8000` cannot be read"),
        ("nothing", "the answer `{}` has n", "the answer `{}` has n"),
        ("error", "the rig is being repaired", "the rig is being repaired"),
        ("flood", "does not stop writing", "does not stop writing"),
    ];
    for (fault, of_command, of_server) in faults {
        for (form, reason) in [("command", of_command), ("server", of_server)] {
            let (said, report) = study(&simulator(&format!("--fault {fault}")), form, " --trial-timeout 2s --budget 8m");
            said.assert_code(0);
            let third = &trials(&report)[2];
            assert_eq!((&third["valid"], &third["capacity"]), (&json!(false), &Value::Null), "{fault}, {form}: {third}\n{said}");
            let told = third["error"].as_str().unwrap_or_default();
            assert!(told.contains(reason), "{fault}, {form}: {told}");
            assert!(trials(&report).iter().skip(3).all(|trial| trial.get("error").is_none()), "{fault}, {form}\n{said}");
            assert!(!report["recommended"].is_null(), "{fault}, {form}\n{said}");
        }
    }
}

#[test]
fn whoever_is_left_behind_by_a_trial_is_not_waited_for_and_does_not_stay() {
    let (said, report) = study(&simulator("--fault child"), "command", " --budget 8m");
    said.assert_code(0);
    assert!(trials(&report).iter().all(|trial| trial["valid"] == true), "{said}");
}

#[test]
fn a_second_line_for_one_question_is_nobodys_answer_and_blank_lines_are_none() {
    let (said, report) = study(&simulator("--fault twice"), "server", " --budget 8m");
    said.assert_code(0);
    let told: Vec<&str> = trials(&report).iter().filter_map(|trial| trial["error"].as_str()).collect();
    assert_eq!(told, ["the trial server wrote more than one line for a question: it is started anew"], "{said}");
    assert!(trials(&report)[3]["error"].is_string(), "the question after it is not asked: {said}");
    let (said, report) = study(&simulator("--fault blank"), "server", " --budget 8m");
    said.assert_code(0);
    assert!(trials(&report).iter().all(|trial| trial.get("error").is_none()), "{said}");
}

#[test]
fn a_program_that_never_answers_ends_the_study_without_advice() {
    let folder =
        Folder::new().program("command", "#!/bin/sh\necho broken rig >&2; exit 7").program("server", "#!/bin/sh\nexit 0");
    for (form, reason) in [("command", "exit status: 7"), ("server", "ended without an answer")] {
        let (said, report) = study(&folder, form, "");
        said.assert_code(3);
        said.assert_out(&["No configuration could be started. Nothing is recommended.", reason]);
        assert_eq!(report["recommended"], Value::Null);
    }
    let (said, _) = study(&folder, "command", "");
    said.assert_err(&["broken rig"]);
}

/// A study of a server that hangs in its fifth trial, in that trial.
fn hanging(folder: &Folder) -> Working {
    let arguments = format!("tune --trial-server ./server {SPACE} --journal journal.jsonl --trial-timeout 10m");
    let mut study = folder.start(&arguments);
    study.wait("four trials", |_| (folder.text("journal.jsonl").matches('\n').count() >= 5).then_some(()));
    study
}

#[test]
fn a_killed_study_goes_on_as_if_nothing_had_been() {
    let (_, undisturbed) = study(&simulator(""), "server", "");
    let folder = simulator("--fault hang --at 5");
    let mut study = hanging(&folder);
    study.signal(Signal::KILL);
    assert_eq!(study.await_end(), End::Signal(9));
    let healthy = simulator("");
    std::fs::copy(folder.path("journal.jsonl"), healthy.path("journal.jsonl")).expect("copy the journal");
    let said = healthy.run(&format!("tune --trial-server ./server {SPACE} --journal journal.jsonl --resume"));
    said.assert_code(0);
    said.assert_err(&["trials taken up: 4"]);
    assert_eq!(result(&healthy), undisturbed);
}

/// What follows the header of a journal: a trial a line, then why it ended. What was cut off is no line.
fn lines(folder: &Folder) -> Vec<String> {
    let text = folder.text("journal.jsonl");
    let whole = text.rfind('\n').unwrap_or(0);
    text[..whole].lines().skip(1).map(str::to_owned).collect()
}

/// Five of the kills of `benches/kills.py`: so many lines of the journal, then so many looks at it. However late they come, the study is
/// still at work, as its last trial hangs.
#[test]
fn a_study_killed_at_any_moment_has_all_finished_trials_and_ends_as_if_nothing_had_been() {
    let start = |form| format!("tune --trial-{form} ./{form} {SPACE} --journal journal.jsonl");
    let undisturbed = simulator("");
    undisturbed.run(&start("server")).assert_code(0);
    let last = lines(&undisturbed).len() - 1;
    for (form, known, mut looks) in
        [("server", 0, 1), ("command", 1, 1), ("server", 5, 3), ("command", 9, 2), ("server", last, 1)]
    {
        let folder = simulator(&format!("--thinks 0.02 --fault hang --at {last}"));
        let mut study = folder.start(&format!("{} --trial-timeout 10m", start(form)));
        study.wait("some trials", |_| (folder.text("journal.jsonl").matches('\n').count() >= known).then_some(()));
        study.wait("the moment", |_| {
            looks -= 1;
            (looks == 0).then_some(())
        });
        study.signal(Signal::KILL);
        let said = study.finish();
        assert_eq!(said.end, End::Signal(9), "{form}, {known} lines: {said}");
        let (found, told) = (lines(&folder), said.err.matches("\ntrial ").count());
        assert!(lines(&undisturbed).starts_with(&found) && found.len() >= told, "{form}: {} of {told} trials", found.len());
        let healthy = simulator("");
        let begun = std::fs::copy(folder.path("journal.jsonl"), healthy.path("journal.jsonl")).is_ok();
        let resume = if begun { " --resume" } else { "" };
        healthy.run(&format!("{}{resume}", start(form))).assert_code(0);
        assert_eq!((lines(&healthy), result(&healthy)), (lines(&undisturbed), result(&undisturbed)), "{form}, {known} lines");
    }
}

#[test]
fn what_cannot_be_printed_is_written_all_the_same() {
    let folder = simulator("");
    let tune = format!("tune --trial-command ./command {SPACE} --journal journal.jsonl");
    let said = folder.start_after("exec >/dev/full", &tune).finish();
    said.assert_code(73);
    said.assert_err(&["standard output"]);
    assert!(trials(&result(&folder)).len() > 5, "{said}");
    // Nobody can be told anything.
    folder.start_after("exec 2>/dev/full", "report journal.jsonl --json again.json").finish().assert_code(0);
    assert_eq!(folder.text("again.json"), folder.text("result.json"));
}

#[test]
fn nobody_of_a_trial_outlives_a_killed_study() {
    let script = "#!/bin/sh\nsleep 1000 & touch loading\ncd /tmp && sleep 1000; true\n";
    let folder = Folder::new().program("command", script);
    let mut study = folder.start("tune --trial-command ./command --quick --journal journal.jsonl");
    study.wait("a program that loads", |_| folder.path("loading").exists().then_some(()));
    study.signal(Signal::KILL);
    assert_eq!(study.await_end(), End::Signal(9), "and nobody goes on loading");
}

#[test]
fn a_study_goes_on_under_its_own_memory_limit_and_against_its_own_target_alone() {
    let folder = Folder::new().program("command", "#!/bin/sh\necho '{\"capacity\": 100}'");
    let tune = |more: &str| {
        let whole =
            "tune --trial-command ./command --quick --budget 1m --journal journal.jsonl --cores 4 --target-anyway --target-host";
        folder.run(&format!("{whole} {more}"))
    };
    tune("http://one --max-memory 4G").assert_code(0);
    tune("http://one --resume").assert_code(0);
    let said = tune("http://one --max-memory 5G --resume");
    said.assert_err(&["belongs to another study: different search space"]);
    let said = tune("http://two --resume");
    said.assert_err(&["belongs to another study: different application"]);
}

#[test]
fn a_journal_with_a_bad_line_is_told_up_to_it_and_left_as_it_is() {
    let folder = Folder::new().program("command", "#!/bin/sh\necho '{\"capacity\": 100}'");
    let tune = "tune --trial-command ./command --quick --budget 1m --journal journal.jsonl";
    folder.run(tune).assert_code(0);
    let good = folder.text("journal.jsonl");
    let broken: String =
        good.split_inclusive('\n').take(2).chain(["garbage\n"]).chain(good.split_inclusive('\n').skip(3)).collect();
    std::fs::write(folder.path("journal.jsonl"), &broken).expect("spoil the journal");
    let said = folder.run("report journal.jsonl");
    said.assert_code(0);
    said.assert_err(&["journal.jsonl:3: expected value (column 1): that line is left out, with what follows it ("]);
    said.assert_out(&["PARTIAL", "baseline"]);
    let said = folder.run(&format!("{tune} --resume"));
    said.assert_code(66);
    said.assert_err(&[
        "journal.jsonl:3: expected value (column 1). The file is left as it is.",
        "`head -n 2 journal.jsonl > COPY`",
    ]);
    assert_eq!(folder.text("journal.jsonl"), broken);
}

#[test]
fn a_baseline_that_takes_too_much_memory_is_told_and_not_recommended() {
    // 33 workers of 60 MB each.
    let (said, report) = study(&simulator(""), "server", " --max-memory 1500M");
    said.assert_code(0);
    said.assert_out(&["33 × 10, the baseline, took 1.8G of memory, and 1.5G may be used (--max-memory)"]);
    assert_eq!(report["too_large"], json!([{"workers": 33, "connections": 10, "memory_bytes": 1_980_000_000}]), "{said}");
    assert!(report["recommended"]["workers"].as_u64().is_some_and(|workers| workers * 60_000_000 <= 1500 << 20), "{said}");
    assert_eq!(trials(&report).iter().filter(|trial| trial["workers"] == 33).count(), 1, "{said}");
}

#[test]
fn a_budget_of_nothing_is_the_baseline_alone_and_told() {
    let folder = Folder::new().program("command", "#!/bin/sh\necho '{\"capacity\": 0, \"p90\": 3}'");
    let said = folder.run("tune --trial-command ./command --quick --budget 0s --json result.json");
    said.assert_code(99);
    said.assert_out(&["No configuration that was tried meets ", "The budget was used up before every promising configuration"]);
    let report = result(&folder);
    assert_eq!((trials(&report).len(), &report["stopped_because"]), (1, &json!("the budget was used up")), "{said}");
}

#[test]
fn an_interrupt_ends_the_program_too_and_leaves_a_partial_report() {
    let folder = simulator("--fault hang --at 5");
    let study = hanging(&folder);
    study.signal(Signal::INT);
    let said = study.finish();
    said.assert_code(130);
    assert_eq!((&result(&folder)["partial"], trials(&result(&folder)).len()), (&json!(true), 4), "{said}");
}

#[test]
fn a_host_that_may_be_loaded_is_named_to_the_program() {
    let folder = Folder::new().program("command", "#!/bin/sh\necho \"$TUNINGFORK_TARGET\" > target; echo '{\"capacity\": 100}'");
    let said =
        folder.run("tune --trial-command ./command --quick --budget 1m --target-host http://web1:8000 --target-anyway --cores 4");
    said.assert_code(0);
    assert_eq!(folder.text("target"), "http://web1:8000\n", "{said}");
}

#[test]
fn what_can_be_written_is_written_beside_what_cannot() {
    let folder = Folder::new().program("command", "#!/bin/sh\necho '{\"capacity\": 100}'");
    let outputs = "--json /dev/full --html page.html --journal journal.jsonl";
    let said = folder.run(&format!("tune --trial-command ./command --quick --budget 1m {outputs}"));
    said.assert_code(73);
    said.assert_err(&["/dev/full: No space left on device"]);
    assert!(folder.text("page.html").trim_end().ends_with("</html>"));
    for name in ["page.html", "journal.jsonl"] {
        let mode = fs::metadata(folder.path(name)).expect("look at it").permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}

#[test]
fn questions_that_contradict_themselves_are_refused() {
    let folder = simulator("").file("traffic.jsonl", "");
    let refusals = [
        ("--trial-command ./command --traffic traffic.jsonl", 2, "cannot be used with"),
        ("--trial-command ./command --trial-server ./server", 2, "cannot be used with"),
        ("--trial-command ./command --demo", 2, "cannot be used with"),
        ("--trial-command ./command --cores 0", 2, "a whole number from 1 to 65535"),
        ("--trial-command ./command --max-memory 3X", 2, "a whole number of bytes above 0, or one with K, M, G or T"),
        ("--trial-command ./command --max-total-connections 0", 2, "a whole number from 1"),
        ("--demo --peak 0", 2, "above 0"),
        ("--trial-command ./command --trial-timeout soon", 2, "--trial-timeout"),
        ("--demo --cores 4", 2, "--cores is about --trial-command or --trial-server"),
        ("--demo --trial-timeout 4s", 2, "--trial-timeout is about --trial-command or --trial-server"),
        ("--trial-command ./command --objective latency --at 5", 2, "trial programs"),
        ("--demo --objective cost", 2, "--objective cost needs --at RATE"),
        ("--demo --at 100", 2, "--at is about --objective latency and --objective cost"),
        ("--demo --objective latency --at 0", 2, "above 0, at most 1000000"),
        ("--demo --objective cost --at 1e308", 2, "above 0, at most 1000000"),
        ("--demo --objective cost --at inf", 2, "above 0, at most 1000000"),
        ("--demo --also threads", 2, "a command has no threads"),
        ("--demo --objective latency", 2, "--objective latency needs --at RATE"),
        (
            "--demo --also affinity --objective cost --at 5",
            2,
            "cores and memory, which --objective cost counts, do not depend on it",
        ),
        ("--demo --also dispatch", 2, "[possible values: threads, affinity]"),
        ("--trial-command ./command --also affinity", 2, "--also is not for trial programs"),
        ("--trial-command ./command --target-host http://web1", 2, "http://web1 is another host"),
        ("--target-host http://web1", 2, "http://web1 is another host"),
        (
            "--trial-command ./command --target-host http://web1 --target-anyway",
            2,
            "how many cores has http://web1? Say it with --cores",
        ),
        ("--trial-command ./command --host shop.example", 2, "cannot be used with"),
        ("--demo --target-host http://web1 --target-anyway", 2, "--target-host is about --trial-command or --trial-server"),
        ("--trial-command ./command --target-anyway", 2, "--target-host"),
        ("--demo --write", 2, "cannot be used with"),
    ];
    for (arguments, code, message) in refusals {
        let said = folder.run(&format!("tune {arguments}"));
        said.assert_code(code);
        said.assert_err(&[message]);
        assert!(!said.err.contains("trial 1"), "{said}");
    }
}
