//! The configuration file that does what a Gunicorn command line asks for. `tuningfork gunicorn` runs by it, and `--print-config` prints it.

use std::fmt::Write as _;

use super::{CommandLine, Resolved};
use crate::config::WorkerClass;
use crate::units::Connections;

/// A day: the longest that a configuration waits for anything.
const LONGEST_SECONDS: u64 = 24 * 60 * 60;
/// Two heartbeats of a Python worker.
const SHORTEST_TIMEOUT: u64 = 2;
/// Gunicorn knows no time for booting but `timeout`, which a master that preloads does not keep to.
const BOOT_SECONDS: u64 = 60;
/// Where nothing bounds a worker's silence.
const PATIENT_BOOT_SECONDS: u64 = 600;
/// A socket's permissions before Gunicorn's umask.
const SOCKET_MODE: u64 = 0o666;

/// A number that cannot stay as it is.
struct Adjusted {
    name: &'static str,
    from: u64,
    to: u64,
    why: &'static str,
}

/// The configuration file.
#[must_use]
pub fn equivalent(resolved: &Resolved, command: &CommandLine) -> String {
    let mut file = String::new();
    let mut line = |key: &str, value: String| {
        writeln!(file, "{key} = {value}").expect("invariant: a String takes everything");
    };
    line("workers", resolved.number("workers").unwrap_or(1).to_string());
    if let Some((_, connections)) = connections(resolved) {
        line("connections", connections.min(u64::from(Connections::MAX)).to_string());
    }
    line("graceful-timeout", graceful_timeout(resolved).to_string());
    line("timeout", timeout(resolved).to_string());
    line("boot-timeout", boot_timeout(resolved).to_string());
    line("max-requests", resolved.number("max_requests").unwrap_or(0).to_string());
    line("max-requests-jitter", resolved.number("max_requests_jitter").unwrap_or(0).to_string());
    if let Some(pidfile) = &resolved.pidfile {
        line("pidfile", quoted(pidfile));
    }
    file += &app(resolved, command);
    file += &listen(resolved);
    if let Some(address) = &command.metrics {
        write!(file, "\n[metrics]\nlisten = {}\n", quoted(address)).expect("invariant: a String takes everything");
    }
    if let Some(path) = &command.control {
        write!(file, "\n[control]\nsocket = {}\n", quoted(path)).expect("invariant: a String takes everything");
    }
    file
}

fn app(resolved: &Resolved, command: &CommandLine) -> String {
    let mut lines = vec![
        "\n[app]".to_owned(),
        "kind = \"python\"".to_owned(),
        format!("app = {}", quoted(&resolved.app)),
        format!("worker-class = {}", quoted(resolved.family().name())),
        format!("interpreter = {}", quoted(&command.interpreter.to_string_lossy())),
        format!("directory = {}", quoted(&command.directory.to_string_lossy())),
        format!("preload = {}", resolved.is_set("preload_app")),
        format!("gunicorn = [{}]", command.arguments.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(", ")),
    ];
    if let Some(arguments) = &command.from_environment {
        lines.push(format!("env = {{ GUNICORN_CMD_ARGS = {} }}", quoted(arguments)));
    }
    lines.extend(resolved.user.iter().map(|user| format!("user = {}", quoted(user))));
    lines.extend(resolved.group.iter().map(|group| format!("group = {}", quoted(group))));
    lines.join("\n") + "\n"
}

fn listen(resolved: &Resolved) -> String {
    let addresses: Vec<String> = resolved.addresses.iter().map(|address| quoted(address)).collect();
    let mode = SOCKET_MODE & !resolved.number("umask").unwrap_or(0);
    let mut lines = vec![
        "\n[listen]".to_owned(),
        format!("address = [{}]", addresses.join(", ")),
        format!("backlog = {}", resolved.number("backlog").unwrap_or(2048)),
        format!("mode = \"{mode:04o}\""),
    ];
    let group = resolved.group.as_ref().map(|group| format!(":{group}")).unwrap_or_default();
    let owner = resolved.user.clone().unwrap_or_default() + &group;
    if !owner.is_empty() {
        lines.push(format!("owner = {}", quoted(&owner)));
    }
    lines.join("\n") + "\n"
}

/// The setting that `connections` takes its number from; none for workers that serve one request at a time.
fn connections(resolved: &Resolved) -> Option<(&'static str, u64)> {
    let name = match resolved.family() {
        WorkerClass::Sync => return None,
        WorkerClass::Gthread => "threads",
        WorkerClass::Gevent | WorkerClass::Asgi => "worker_connections",
    };
    resolved.number(name).map(|number| (name, number))
}

fn graceful_timeout(resolved: &Resolved) -> u64 {
    resolved.number("graceful_timeout").unwrap_or(30).clamp(1, LONGEST_SECONDS)
}

fn timeout(resolved: &Resolved) -> u64 {
    match resolved.number("timeout").unwrap_or(30) {
        0 => 0,
        seconds => seconds.clamp(SHORTEST_TIMEOUT, LONGEST_SECONDS),
    }
}

fn boot_timeout(resolved: &Resolved) -> u64 {
    match timeout(resolved) {
        0 => PATIENT_BOOT_SECONDS,
        seconds => seconds.max(BOOT_SECONDS),
    }
}

/// A line for each number that becomes another one.
pub(super) fn adjustments(resolved: &Resolved) -> Vec<String> {
    let timing = |name, to, why| resolved.number(name).map(|from| Adjusted { name, from, to, why });
    let limit = u64::from(Connections::MAX);
    let connections = connections(resolved).map(|(name, from)| Adjusted {
        name,
        from,
        to: from.min(limit),
        why: "that is the most that is counted",
    });
    let all = [
        timing(
            "timeout",
            timeout(resolved),
            "workers show that they live once a second, and nothing waits for longer than a day",
        ),
        timing("graceful_timeout", graceful_timeout(resolved), "a worker that stops has a second at least and a day at most"),
        connections,
    ];
    let changed = all.into_iter().flatten().filter(|adjusted| adjusted.from != adjusted.to);
    changed.map(|Adjusted { name, from, to, why }| format!("{name} = {from} becomes {to}: {why}")).collect()
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}
