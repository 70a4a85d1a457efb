//! What README, `--help`, the sample configurations and the systemd units say is what the program does.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::num::NonZeroU16;
use std::path::{Path, PathBuf};
use std::process::Command;

use tuningfork::commands::Ending;
use tuningfork::config::{Config, Machine, Surroundings};

use crate::support::folder::Folder;
use crate::support::keys;
use crate::support::parts;
use crate::support::simulator::simulator;

/// The highest exposure of the unit that `systemd-analyze security` may find, in tenths.
const EXPOSURE: &str = "--threshold=16";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn readme() -> String {
    fs::read_to_string(root().join("README.md")).expect("read README.md")
}

fn help(subcommands: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tuningfork"));
    parts::output(command.args(subcommands).arg("--help")).unwrap_or_else(|error| panic!("{error}"))
}

/// The fenced blocks of a Markdown text in this language.
fn blocks<'a>(text: &'a str, language: &str) -> Vec<&'a str> {
    let opening = format!("```{language}\n");
    text.split(&opening).skip(1).map(|rest| rest.split("```").next().unwrap_or(rest)).collect()
}

/// Command lines of tuningfork in blocks and in running text, each from its first subcommand on.
fn command_lines(text: &str) -> Vec<&str> {
    let prompts = blocks(text, "console").into_iter().flat_map(str::lines).filter_map(|line| line.strip_prefix("$ "));
    let inline = text.lines().filter(|line| !line.starts_with("```")).flat_map(|line| line.split('`').skip(1).step_by(2));
    let uncommented = prompts.chain(inline).map(|line| line.split(" #").next().unwrap_or(line));
    uncommented
        .filter_map(|line| {
            line.strip_prefix("tuningfork ").or_else(|| line.split_once("cargo run --release -- ").map(|(_, rest)| rest))
        })
        .collect()
}

/// The words before the first option or operand.
fn subcommands(line: &str) -> Vec<&str> {
    let is_name = |word: &&str| word.starts_with(|first: char| first.is_ascii_lowercase()) && !word.contains(['/', '.']);
    line.split_whitespace().take_while(is_name).collect()
}

#[test]
fn docs_exit_codes_are_those_of_the_program() {
    let told: BTreeMap<u8, String> = readme()
        .lines()
        .skip_while(|line| !line.starts_with("| code | meaning |"))
        .skip(2)
        .map_while(|row| row.strip_prefix("| ")?.strip_suffix(" |")?.split_once(" | "))
        .map(|(code, meaning)| (code.parse().expect("a code"), meaning.to_owned()))
        .collect();
    let help = help(&[]);
    let shown: BTreeMap<u8, String> = help
        .lines()
        .skip_while(|line| *line != "Exit codes:")
        .skip(1)
        .filter_map(|line| line.trim().split_once("  "))
        .map(|(code, meaning)| (code.parse().expect("a code"), meaning.to_owned()))
        .collect();
    let used: BTreeSet<u8> = Ending::ALL.iter().map(|ending| ending.code()).collect();
    assert_eq!(told, shown, "README.md and --help");
    assert_eq!(shown.into_keys().collect::<BTreeSet<_>>(), used, "--help and the program");
}

#[test]
fn docs_command_lines_of_the_readme_are_understood() {
    let readme = readme();
    let lines = command_lines(&readme);
    assert!(lines.iter().any(|line| line.starts_with("tune --demo")), "{lines:?}");
    for line in lines {
        let subcommands = subcommands(line);
        let help = help(&subcommands);
        let known: BTreeSet<&str> = help.split([' ', ',', '\n', '=']).collect();
        for option in line.split_whitespace().filter(|word| word.starts_with('-') && word.len() > 1) {
            assert!(known.contains(option), "README.md: `tuningfork {line}`: no {option} in\n{help}");
        }
    }
}

#[test]
fn docs_every_subcommand_has_a_manual_page_with_its_options() {
    let folder = Folder::new();
    folder.run("man pages").assert_code(0);
    for (page, subcommands) in [("", &[][..]), ("-run", &["run"]), ("-record-import", &["record", "import"])] {
        // In roff a hyphen is escaped.
        let page = folder.text(&format!("pages/tuningfork{page}.1")).replace("\\-", "-");
        let help = help(subcommands);
        let options: Vec<&str> = help.split([' ', ',', '\n']).filter(|word| word.starts_with("--")).collect();
        assert!(!options.is_empty(), "{help}");
        for option in options {
            assert!(page.contains(option), "{option} is missing in\n{page}");
        }
    }
    folder.run("man /dev/null/pages").assert_code(73);
}

#[test]
fn docs_links_lead_somewhere() {
    for name in ["README.md", "docs/wagtail.md", "docs/tune-json.md", "benches/README.md", "samples/README.md"] {
        let page = root().join(name);
        let text = fs::read_to_string(&page).expect("read a page");
        let targets = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for target in targets.filter(|target| !target.contains("://") && !target.starts_with('#')) {
            assert!(page.with_file_name(target).exists(), "{name}: {target} does not exist");
        }
    }
}

/// The unit tests of what `--json` writes know every key that there can be; this is a result as it was really written.
#[test]
fn docs_keys_of_a_result_are_told() {
    let page = fs::read_to_string(root().join("docs/tune-json.md")).expect("read the page about --json");
    let told = keys::documented(&page);
    let folder = simulator("--fault error");
    folder.run("tune --trial-command ./command --quick --cores 4 --json result.json").assert_code(0);
    let result = serde_json::from_str(&folder.text("result.json")).expect("a result");
    let found = keys::paths(&result);
    for known in
        ["recommended.workers", "certificate.reason", "trials[].holds", "trials[].error", "trials[].cpu_seconds_per_request"]
    {
        assert!(found.contains(known), "{known} is not in {result:#}");
    }
    let untold: Vec<&String> = found.iter().filter(|path| !told.iter().any(|key| keys::is(path, key))).collect();
    assert!(untold.is_empty(), "docs/tune-json.md does not tell {untold:?}");
}

#[test]
fn docs_configurations_are_valid() {
    let surroundings = Surroundings {
        web_concurrency: None,
        virtual_env: None,
        machine: Machine::of_cores(NonZeroU16::MIN),
        directory: PathBuf::from("/srv"),
    };
    let readme = readme();
    let shown = blocks(&readme, "toml").into_iter().filter(|block| block.contains("[app]"));
    let mut all: Vec<(PathBuf, String)> = shown.map(|block| ("README.md".into(), block.to_owned())).collect();
    assert!(!all.is_empty(), "README.md shows no configuration");
    for entry in fs::read_dir(root().join("config")).expect("list config").flatten() {
        all.push((entry.path(), fs::read_to_string(entry.path()).expect("read a configuration")));
    }
    for (path, text) in all {
        Config::parse(&text, &path, &surroundings).unwrap_or_else(|errors| panic!("{errors}"));
    }
}

#[test]
fn docs_systemd_units_are_valid_and_confined() {
    let folder = tempfile::tempdir().expect("make a directory");
    for name in ["tuningfork@.service", "tuningfork@.socket"] {
        let text = fs::read_to_string(root().join("systemd").join(name)).expect("read a unit");
        // Whatever else is wrong would not be seen behind a program that is not there.
        let text = text.replace("/usr/local/bin/tuningfork", env!("CARGO_BIN_EXE_tuningfork"));
        fs::write(folder.path().join(name), text).expect("write a unit");
        let mut verify = Command::new(parts::systemd_analyze());
        let verified = verify.arg("verify").arg(folder.path().join(name)).output().expect("run systemd-analyze");
        let said = String::from_utf8_lossy(&verified.stderr).into_owned();
        // This host's own units may have faults.
        assert!(!said.contains("tuningfork"), "{name}: {said}");
    }
    let mut security = Command::new(parts::systemd_analyze());
    security.args(["security", "--offline=true", EXPOSURE]).arg(folder.path().join("tuningfork@.service"));
    parts::output(&mut security).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn docs_command_lines_are_found() {
    let text = "Run `tuningfork run` or\n```console\n$ tuningfork record import a.log -o b   # now\n$ cargo run --release -- tune --demo\n```\n";
    assert_eq!(command_lines(text), ["record import a.log -o b  ", "tune --demo", "run"]);
    assert_eq!(subcommands("record import a.log -o b"), ["record", "import"]);
}
