//! The table of `ctl status`.

use std::time::Duration;

use comfy_table::CellAlignment;

use crate::commands::configuration;
use crate::commands::figures::{counted, memory};
use crate::commands::tune_output::{Paper, plain_table};
use crate::control::{LogStatus, Reload, Status, Worker};

const HEADERS: [&str; 9] = ["id", "slot", "pid", "state", "gen", "age", "CPU time", "memory", "restarts"];

/// Everything, for a person.
pub(super) fn status(status: &Status, paper: Paper) -> String {
    let mut text = summary(status);
    if let Some(reload) = status.reloads.last() {
        text.push_str(&reload_line(reload));
    }
    text.push_str(&awaits_restart(&status.awaits_restart));
    text.push_str(&log_line(&status.log));
    text.push('\n');
    let mut table = plain_table(paper);
    table.set_header(HEADERS.iter().chain(&["last exit"]));
    for worker in &status.workers {
        table.add_row(row(worker));
    }
    for column in table.column_iter_mut().take(HEADERS.len()) {
        column.set_padding((0, 2)).set_cell_alignment(CellAlignment::Right);
    }
    for line in table.to_string().lines() {
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

fn summary(status: &Status) -> String {
    let Status { version, pid, target, ready, phase, generation, .. } = status;
    let phase = match status.next_generation {
        Some(next) => format!("{phase} generation {next}"),
        None => phase.clone(),
    };
    let uptime = span(status.uptime_seconds);
    let memory_bytes = status.workers.iter().filter_map(|worker| worker.memory_bytes).sum();
    let workers = if ready > target {
        // While they are exchanged.
        format!("{} ready, {target} wanted", counted(u64::from(*ready), "worker"))
    } else {
        format!("{ready} of {} ready", counted(u64::from(*target), "worker"))
    };
    format!(
        "{phase}: {workers}, generation {generation}, up {uptime}, workers' memory {}\n\
         supervisor: pid {pid}, tuningfork {version}\n",
        memory(memory_bytes)
    )
}

fn reload_line(reload: &Reload) -> String {
    let Reload { generation, failure, took_seconds, ago_seconds } = reload;
    let (took, ago) = (span(*took_seconds), span(*ago_seconds));
    match failure {
        None => format!("last reload: generation {generation}, succeeded {ago} ago, took {took}\n"),
        Some(reason) => {
            let reason = reason.lines().collect::<Vec<_>>().join("\n    ");
            format!("last reload: generation {generation}, FAILED {ago} ago, the old workers keep serving:\n    {reason}\n")
        }
    }
}

/// What of the configuration does not hold yet; nothing where all of it does.
pub(super) fn awaits_restart(parts: &[String]) -> String {
    if parts.is_empty() {
        return String::new();
    }
    configuration::awaits_restart(parts) + "\n"
}

/// Nothing while all is well.
fn log_line(log: &LogStatus) -> String {
    let LogStatus { destination, open_failure, write_failure, dropped_lines, .. } = log;
    let failures = open_failure.iter().chain(write_failure);
    let failure: String = failures.map(|failure| [" ", failure.as_str(), ";"].concat()).collect();
    if failure.is_empty() && *dropped_lines == 0 {
        return String::new();
    }
    format!("log to {destination}:{failure} {} dropped\n", counted(*dropped_lines, "line"))
}

fn row(worker: &Worker) -> Vec<String> {
    let shown = |value: Option<String>| value.unwrap_or_else(|| "–".to_owned());
    let mut last = worker.last_exit.clone().unwrap_or_default();
    if let Some(seconds) = worker.retry_seconds {
        last = format!("{last}; next attempt in {}", span(seconds));
    }
    vec![
        shown(worker.id.map(|id| id.to_string())),
        worker.slot.to_string(),
        shown(worker.pid.map(|pid| pid.to_string())),
        worker.state.clone(),
        shown(worker.generation.map(|generation| generation.to_string())),
        shown(worker.age_seconds.map(span)),
        shown(worker.cpu_seconds.map(|seconds| format!("{seconds:.1}s"))),
        shown(worker.memory_bytes.map(memory)),
        worker.restarts.to_string(),
        last,
    ]
}

/// A time in its two largest units.
pub(super) fn span(seconds: f64) -> String {
    let whole = Duration::from_secs(Duration::try_from_secs_f64(seconds).unwrap_or_default().as_secs());
    if whole.is_zero() {
        return format!("{:.1}s", seconds.max(0.0));
    }
    let text = humantime::format_duration(whole).to_string();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}
