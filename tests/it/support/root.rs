//! What only root can test.

use std::io::Write;

/// Whether we are not root: then the test that asks is left out, and says so where nobody can miss it.
pub(crate) fn is_missing() -> bool {
    let missing = !rustix::process::geteuid().is_root();
    if missing {
        let test = std::thread::current().name().unwrap_or("a test").to_owned();
        // Not by eprintln: the test runner would keep it to itself.
        let _ = writeln!(std::io::stderr(), "LEFT OUT: {test} needs root");
    }
    missing
}
