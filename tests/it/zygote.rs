//! The zygote's own tests, which speak its protocol in Python, on the pinned packages.

use std::path::Path;
use std::process::Command;

use crate::support::parts;
use crate::support::turn::Turn;

#[test]
fn zygote_keeps_its_protocol_and_its_workers_their_promises() {
    let _turn = Turn::beside_others();
    let mut command = Command::new(parts::system_python());
    command.args(["-m", "unittest", "discover", "-s", "tests/python"]).current_dir(Path::new(env!("CARGO_MANIFEST_DIR")));
    command.env("ZYGOTE_PYTHON", parts::python()).env("PYTHONDONTWRITEBYTECODE", "1");
    let said = parts::output(&mut command).unwrap_or_else(|error| panic!("{error}"));
    assert!(ran(&said) > 0, "no test ran:\n{said}");
}

/// How many tests unittest says it ran.
fn ran(said: &str) -> u32 {
    let line = said.lines().find_map(|line| line.strip_prefix("Ran ")?.split(' ').next());
    line.and_then(|count| count.parse().ok()).unwrap_or(0)
}
