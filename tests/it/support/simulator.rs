//! A trial program that is only arithmetic (tests/simulator.py).

use std::path::Path;

use super::folder::Folder;
use super::parts;

/// A folder with programs `command` and `server` that are the simulator with these options.
pub(crate) fn simulator(options: &str) -> Folder {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/simulator.py");
    let program = format!("#!/bin/sh\nexec {} {} {options}", parts::system_python().display(), script.display());
    Folder::new().program("command", &program).program("server", &format!("{program} --server"))
}
