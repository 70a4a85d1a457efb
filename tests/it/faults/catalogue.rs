//! The contents of the suite, read from `catalogue.toml`: a test checks that what it names exists.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use serde::Deserialize;

use crate::support::parts;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Catalogue {
    fault: Vec<Fault>,
}

/// A fault and where it is tested.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fault {
    id: String,
    what: String,
    /// Tests of this crate, each by its whole name.
    #[serde(default)]
    tests: Vec<String>,
    /// Tests beside the code: `file::function`.
    #[serde(default)]
    units: Vec<String>,
    /// The test of `tests` that can be run against Gunicorn.
    gunicorn: Option<String>,
    /// Why nothing tests it.
    absent: Option<String>,
}

fn catalogue() -> Vec<Fault> {
    let catalogue: Catalogue = toml::from_str(include_str!("catalogue.toml")).expect("a catalogue");
    catalogue.fault
}

#[test]
fn catalogue_names_tests_that_exist() {
    let mut list = Command::new(std::env::current_exe().expect("this program"));
    let listed = parts::output(list.args(["--list", "--format", "terse"])).unwrap_or_else(|error| panic!("{error}"));
    let known: BTreeSet<&str> = listed.lines().filter_map(|line| line.strip_suffix(": test")).collect();
    for fault in catalogue() {
        for test in fault.tests.iter().chain(&fault.gunicorn) {
            assert!(known.contains(test.as_str()), "{}: there is no test {test}", fault.id);
        }
        for unit in &fault.units {
            let (file, function) = unit.split_once("::").expect("file::function");
            let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file));
            let found = text.unwrap_or_else(|error| panic!("{}: {file}: {error}", fault.id)).contains(&format!("fn {function}("));
            assert!(found, "{}: there is no test {function} in {file}", fault.id);
        }
        assert_ne!(fault.tests.is_empty() && fault.units.is_empty(), fault.absent.is_none(), "{}: tested, or why not", fault.id);
        assert!(fault.gunicorn.is_none_or(|test| fault.tests.contains(&test)), "{}: one of its tests", fault.id);
    }
}

#[test]
fn catalogue_is_complete_and_misses_no_test() {
    let faults = catalogue();
    let ids: Vec<&str> = faults.iter().map(|fault| fault.id.as_str()).collect();
    let wanted: Vec<String> = (1..=60).map(|number| format!("F{number:02}")).collect();
    assert_eq!(ids, wanted);
    assert!(faults.iter().all(|fault| !fault.what.is_empty()));
    let named: BTreeSet<&str> = faults.iter().flat_map(|fault| fault.tests.iter().map(String::as_str)).collect();
    let mut list = Command::new(std::env::current_exe().expect("this program"));
    let listed = parts::output(list.args(["--list", "--format", "terse", "faults::"])).unwrap_or_else(|error| panic!("{error}"));
    let ours = listed
        .lines()
        .filter_map(|line| line.strip_suffix(": test"))
        .filter(|test| !["::catalogue::", "::injected::", "::soak::"].iter().any(|part| test.contains(part)));
    let forgotten: Vec<&str> = ours.filter(|test| !named.contains(test)).collect();
    assert!(forgotten.is_empty(), "not in the catalogue: {forgotten:?}");
}
