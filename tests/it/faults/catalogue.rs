//! The contents of the suite, read from `catalogue.toml`, and the tests that cause each fault, found by their names.

use std::collections::{BTreeMap, BTreeSet};
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
    /// Tests that cause it and have another name.
    #[serde(default)]
    also: Vec<String>,
    /// The test that can be run against Gunicorn.
    gunicorn: Option<String>,
}

fn catalogue() -> Vec<Fault> {
    let catalogue: Catalogue = toml::from_str(include_str!("catalogue.toml")).expect("a catalogue");
    catalogue.fault
}

/// Every test of this crate by its whole name.
fn tests() -> BTreeSet<String> {
    let mut list = Command::new(std::env::current_exe().expect("this program"));
    let listed = parts::output(list.args(["--list", "--format", "terse"])).unwrap_or_else(|error| panic!("{error}"));
    listed.lines().filter_map(|line| line.strip_suffix(": test").map(str::to_owned)).collect()
}

/// The faults that a test is named after.
fn numbers(test: &str) -> Vec<String> {
    let name = test.rsplit("::").next().unwrap_or(test);
    let number = |part: &str| {
        let digits = part.strip_prefix('f')?.trim_end_matches(['z', 'g']);
        (digits.len() == 2 && digits.parse::<u8>().is_ok()).then(|| format!("F{digits}"))
    };
    name.split('_').map_while(number).collect()
}

#[test]
fn catalogue_is_complete_and_names_tests_that_exist() {
    let (faults, tests) = (catalogue(), tests());
    let ids: Vec<&str> = faults.iter().map(|fault| fault.id.as_str()).collect();
    assert_eq!(ids, (1..=60).map(|number| format!("F{number:02}")).collect::<Vec<_>>());
    let mut by_fault: BTreeMap<String, usize> = BTreeMap::new();
    for number in tests.iter().flat_map(|test| numbers(test)) {
        assert!(ids.contains(&number.as_str()), "there is no fault {number}");
        *by_fault.entry(number).or_default() += 1;
    }
    for fault in &faults {
        assert!(!fault.what.is_empty(), "{}", fault.id);
        for test in fault.also.iter().chain(&fault.gunicorn) {
            assert!(tests.contains(test), "{}: there is no test {test}", fault.id);
        }
        assert!(by_fault.contains_key(&fault.id) || !fault.also.is_empty(), "{}: there is no test", fault.id);
    }
}

#[test]
fn catalogue_reads_numbers_in_names() {
    assert_eq!(numbers("faults::leaks::f32z_f33z_reloads"), ["F32", "F33"]);
    assert_eq!(numbers("run_logs::f10_f11_the_last_words"), ["F10", "F11"]);
    assert_eq!(numbers("faults::soak::soak").len() + numbers("a::fifty_f07_x").len() + numbers("a::f7_x").len(), 0);
}
