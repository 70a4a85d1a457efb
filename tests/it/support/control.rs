//! `tuningfork ctl` for a service under test, as its user would run it: with its configuration and nothing else.

use std::process::{Command, Output, Stdio};

use serde_json::Value;

use super::service::Running;

/// `tuningfork ctl` with these arguments, to be started.
pub(crate) fn command(running: &Running, arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tuningfork"));
    command.env("XDG_RUNTIME_DIR", running.directory()).arg("ctl").arg("-c").arg(running.directory().join("tuningfork.toml"));
    command.args(arguments.split_whitespace()).stdin(Stdio::null());
    command
}

/// Runs it to its end.
pub(crate) fn ctl(running: &Running, arguments: &str) -> Output {
    command(running, arguments).output().expect("run ctl")
}

/// What it said, on both outputs.
pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

/// Runs it, and it has to succeed.
pub(crate) fn done(running: &Running, arguments: &str) -> String {
    let output = ctl(running, arguments);
    assert_eq!(output.status.code(), Some(0), "ctl {arguments}: {}\n{}", said(&output), running.said());
    said(&output)
}

/// What `status --json` tells.
pub(crate) fn status(running: &Running) -> Value {
    serde_json::from_str(&done(running, "status --json")).expect("JSON")
}
