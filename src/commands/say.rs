//! What is said beside the report: on standard error, where progress is shown too.

/// Tells the user something.
#[expect(clippy::print_stderr, reason = "standard output is for the report")]
pub(super) fn say(line: &str) {
    eprintln!("{line}");
}
