//! The report as text, for a terminal of any width.

use std::fmt::Write as _;

use super::{Comparison, Invalid, Kind, Objective, Priority, Replayed, Verdict, kept, kinds};
use crate::commands::figures::{count, counted, latency, percent, rate};
use crate::commands::tune_output::Paper;
use crate::load::Doubt;
use crate::stats::Latencies;
use crate::usage::CoreUse;

/// Columns of a row's name, and of each number.
const NAME: usize = 12;
const NUMBER: usize = 7;
/// Cores named one by one.
const NAMED_CORES: usize = 8;
/// Spans of invalid seconds that are named; more are only counted.
const NAMED_SPANS: usize = 8;

/// The whole report, ending in a newline.
#[must_use]
pub fn terminal(replayed: &Replayed, paper: Paper) -> String {
    let mut text = String::new();
    let mut part = |part: String| {
        if !part.is_empty() {
            text.push_str(part.trim_end());
            text.push_str("\n\n");
        }
    };
    part(replayed.partial().map_or_else(String::new, |partial| paper.strong(partial)));
    part(summary(replayed, paper));
    part(times(replayed, paper));
    part(losses(replayed, paper));
    part(machine(replayed, paper));
    part(paper.wrap(&validity(replayed)));
    part(replayed.comparison.as_ref().map_or_else(String::new, |comparison| paper.wrap(&contents(comparison))));
    part(replayed.verdict.as_ref().map_or_else(String::new, |verdict| paper.strong(&objective(verdict))));
    text.trim_end().to_owned() + "\n"
}

fn summary(replayed: &Replayed, paper: Paper) -> String {
    let (setting, played) = (&replayed.setting, &replayed.played);
    let mut text = String::new();
    let mut say = |line: &str| writeln!(text, "{}", paper.wrap(line)).expect("invariant: writing to a string succeeds");
    say(&format!("{} to {}", setting.recording, setting.target));
    say(&format!("{}.", setting.load));
    for choice in &setting.choices {
        say(&format!("{choice}."));
    }
    text.push('\n');
    let kept = match played.left_out.seconds {
        0 => String::new(),
        _ => format!(" (of {:.1} kept s)", kept(played).as_secs_f64()),
    };
    let line = format!(
        "offered {} req/s, achieved {} req/s{kept}: {} in {:.1} s, {} answered, errors {}",
        rate(played.offered.per_second()),
        rate(played.achieved.per_second()),
        counted(played.scheduled, "request"),
        replayed.sending_seconds(),
        count(played.completed),
        percent(replayed.error_share())
    );
    text + &paper.strong(&line)
}

/// The table of latencies and, for loads with a schedule, of lateness by cause.
fn times(replayed: &Replayed, paper: Paper) -> String {
    let played = &replayed.played;
    let since = if replayed.is_closed() { "from when its client was free" } else { "from when due to the whole answer" };
    let mut text = format!("{:NAME$}", "");
    for head in ["p50", "p90", "p99", "max"] {
        write!(text, "{head:>NUMBER$}").expect("invariant: writing to a string succeeds");
    }
    text.push('\n');
    text += &row("latency", &played.latency, since, paper);
    text += &row("service", &played.service, "from when sent to the whole answer", paper);
    text += &row("first byte", &played.first_byte, "from when sent to its first byte", paper);
    if played.left_out.seconds > 0 {
        text += &row("left out", &played.left_out.latency, &format!("latency of {}", left_out(replayed)), paper);
    }
    if replayed.is_closed() {
        return text + "\n" + &paper.wrap(CLOSED);
    }
    text.push('\n');
    let lateness = &played.lateness;
    text += &row("sent late", &lateness.total, "from when due to when sent", paper);
    text += &row("  generator", &lateness.scheduler, "by this program", paper);
    let waits = [
        ("  answer", &lateness.dependency, "for the answer before"),
        ("  connect", &lateness.connect, "for a new connection"),
        ("  backlog", &lateness.backlog, "for a free connection"),
    ];
    if lateness.merged.count() > 0 {
        text +=
            &row("  merged", &lateness.merged, &format!("{} moved, to be sent together", count(lateness.merged.count())), paper);
    }
    for (name, waited, why) in waits {
        text += &row(name, waited, &format!("{} waited {why}", count(waited.count())), paper);
    }
    text
}

/// What a closed load cannot say.
pub(super) const CLOSED: &str =
    "Closed loop: coordinated omission does not apply; latencies are what clients saw, not what users would have.";

fn row(name: &str, latencies: &Latencies, meaning: &str, paper: Paper) -> String {
    let mut text = format!("{name:NAME$}");
    for seconds in [latencies.quantile(0.5), latencies.quantile(0.9), latencies.quantile(0.99), latencies.max()] {
        write!(text, "{:>NUMBER$}", latency(seconds)).expect("invariant: writing to a string succeeds");
    }
    let left = usize::from(paper.width).saturating_sub(NAME + 4 * NUMBER + 2);
    if meaning.chars().count() <= left {
        write!(text, "  {meaning}").expect("invariant: writing to a string succeeds");
    }
    text.push('\n');
    text
}

/// How requests were answered, what became of the others, and how connections were used.
fn losses(replayed: &Replayed, paper: Paper) -> String {
    let played = &replayed.played;
    let statuses = [2, 3, 4, 5].map(|class| format!("{class}xx {}", count(played.statuses.class(class)))).join(", ");
    let connections = counted(played.connections, "connection");
    let mut lines =
        vec![format!("Answers: {statuses}. {connections}, {} sent again on a fresh one.", counted(played.retried, "request"))];
    let failures = failures(replayed);
    if !failures.is_empty() {
        let failures: Vec<String> = failures.iter().map(|(words, number)| format!("{} {words}", count(*number))).collect();
        lines.push(format!("Of all requests {}.", failures.join("; ")));
    }
    if let Some(cause) = &played.first_connect_failure {
        lines.push(format!("The first that found no connection: {cause}."));
    }
    if played.lateness.backlog.count() > 0 {
        lines.push("Requests waited for a free connection: --max-conns allows more.".to_owned());
    }
    let dropped = dropped(replayed);
    if !dropped.is_empty() {
        lines.push(format!("Not replayed: {dropped}."));
    }
    lines.iter().map(|line| paper.wrap(line) + "\n").collect()
}

/// What went wrong, in words, with how often.
pub(super) fn failures(replayed: &Replayed) -> Vec<(&'static str, u64)> {
    let unfinished = replayed.played.unfinished;
    let open = [
        ("were sent and not answered by the end", unfinished.outstanding),
        ("were still waiting for a connection at the end", unfinished.unsent),
    ];
    let kinds = kinds(&replayed.played.errors).into_iter().map(|Kind { words, count, .. }| (words, count));
    kinds.chain(open).filter(|(_, count)| *count > 0).collect()
}

/// What of the recording was left out and why; empty if nothing was.
pub(super) fn dropped(replayed: &Replayed) -> String {
    let dropped = replayed.setting.dropped.iter().filter(|dropped| dropped.count > 0);
    dropped.map(|dropped| format!("{} {}", count(dropped.count), dropped.words)).collect::<Vec<_>>().join(", ")
}

fn machine(replayed: &Replayed, paper: Paper) -> String {
    let played = &replayed.played;
    let each = replayed.cpu_per_request().map_or_else(String::new, |each| format!(", {:.1} µs a request", each * 1e6));
    let generator = format!(
        "Generator: {:.2} s of CPU{each}, {} of one core, {}.",
        played.cpu.as_secs_f64(),
        percent(replayed.generator_busy()),
        priority(replayed.setting.priority)
    );
    paper.wrap(&generator) + "\n" + &paper.wrap(&cores(replayed))
}

/// The generator's right to a processor, in words.
pub(super) const fn priority(priority: Priority) -> &'static str {
    match priority {
        Priority::RealTime => "real-time priority",
        Priority::Ordinary => "ordinary priority: with CAP_SYS_NICE it would be late less often",
    }
}

/// What the host's cores did, in a sentence.
pub(super) fn cores(replayed: &Replayed) -> String {
    let Some(steal) = replayed.steal() else {
        return "Host: its processor times could not be read, so nobody knows whether it was disturbed.".to_owned();
    };
    // Whose work it was cannot be told from here: the target may be on this host or on another.
    let full = replayed.host.cores.iter().all(|core| core.busy() > FULL);
    let note =
        if full { " No core had time to spare: the target used it, or programs that disturb this measurement." } else { "" };
    format!("Host: steal {}; {}.{note}", percent(steal), busy(&replayed.host.cores))
}

/// A core busier than this is full.
const FULL: f64 = 0.95;

/// How busy cores were: each of a few, the extremes of many.
pub(super) fn busy(cores: &[CoreUse]) -> String {
    let one = |core: &CoreUse| format!("cpu{} {:.0}%", core.cpu, core.busy() * 100.0);
    if cores.len() <= NAMED_CORES {
        return format!("busy: {}", cores.iter().map(one).collect::<Vec<_>>().join(", "));
    }
    let order = |a: &&CoreUse, b: &&CoreUse| a.busy().total_cmp(&b.busy());
    let ends = [cores.iter().max_by(order), cores.iter().min_by(order)].into_iter().flatten().map(one);
    let mean = cores.iter().map(CoreUse::busy).sum::<f64>() / cores.len() as f64;
    format!("{} cores {:.0}% busy, from {}", cores.len(), mean * 100.0, ends.collect::<Vec<_>>().join(" to "))
}

/// Seconds that do not count, with reasons.
pub(super) fn validity(replayed: &Replayed) -> String {
    let (all, invalid) = (replayed.played.seconds.len(), replayed.invalid());
    if invalid.is_empty() {
        let unknown = replayed.unwitnessed();
        return match all {
            1.. if unknown > 0 => {
                format!("Validity: unknown. No check failed, but steal could not be read in {unknown} of {all} seconds.")
            }
            0 => "No whole second was measured: nothing says whether the numbers can be trusted.".to_owned(),
            1 => "Validity: the one second passed every check.".to_owned(),
            all => format!("Validity: all {all} seconds passed every check."),
        };
    }
    let spans: Vec<&[Invalid]> = invalid.chunk_by(|a, b| a.second + 1 == b.second && a.doubts == b.doubts).collect();
    let mut named: Vec<String> = spans.iter().take(NAMED_SPANS).map(|span| reasons(span)).collect();
    let more: usize = spans.iter().skip(NAMED_SPANS).map(|span| span.len()).sum();
    if more > 0 {
        named.push(format!("and {more} more"));
    }
    let counted = if replayed.played.left_out.seconds == 0 { ", and are counted in all numbers" } else { "" };
    let (number, named) = (invalid.len(), named.join("; "));
    format!("INVALID: {number} of {all} seconds cannot be trusted{counted}: {named}.{}", missing(replayed, number))
}

/// What latencies and rates do not contain, and what they do although it is doubtful.
fn missing(replayed: &Replayed, invalid: usize) -> String {
    let seconds = replayed.played.left_out.seconds;
    if seconds == 0 {
        return String::new();
    }
    let others = match invalid.saturating_sub(seconds) {
        0 => "",
        _ => " Where the target may be to blame, seconds count.",
    };
    format!(
        " Times and rates leave out {} that the generator or its host spoiled, with {}; errors, lateness and counts are of all seconds.{others}",
        counted(seconds as u64, "second"),
        left_out(replayed)
    )
}

/// How many requests are left out.
pub(super) fn left_out(replayed: &Replayed) -> String {
    counted(replayed.played.left_out.latency.count(), "request")
}

/// Seconds in a row with the same doubts.
fn reasons(span: &[Invalid]) -> String {
    match span {
        [] => String::new(),
        [one] => format!("second {}: {}", one.second + 1, doubts(one)),
        [first, .., last] => format!("seconds {} to {}: {}", first.second + 1, last.second + 1, doubts(first)),
    }
}

fn doubts(invalid: &Invalid) -> String {
    invalid.doubts.iter().map(Doubt::to_string).collect::<Vec<_>>().join(", ")
}

/// How contents compare, in words.
pub(super) fn contents(comparison: &Comparison) -> String {
    let examples: Vec<String> = comparison.examples.iter().map(|index| format!("{}", index + 1)).collect();
    let examples =
        if examples.is_empty() { String::new() } else { format!(" First such requests: number {}.", examples.join(", ")) };
    let result = if comparison.different > 0 { " CONTENT DIFFERS: the replay has failed." } else { "" };
    format!(
        "Content, against {}: {} the same, {} different, {} not compared because they vary by themselves, {} without an answer to compare.{examples}{result}",
        counted(comparison.baselines as u64, "earlier run"),
        count(comparison.same),
        count(comparison.different),
        count(comparison.noise),
        count(comparison.unanswered)
    )
}

/// Whether the objective was met, in words.
pub(super) fn objective(verdict: &Verdict) -> String {
    let result = match verdict.met {
        Some(true) => "met",
        Some(false) => "MISSED",
        None => "NOT JUDGED, which counts as missed: too little of the time can be trusted",
    };
    let measured = match (verdict.objective, verdict.measured) {
        (Objective::Both(slo), Some(measured)) => format!("{} {}, ", slo.quantile().name(), latency(measured)),
        (Objective::Both(_) | Objective::Errors(_), _) => String::new(),
    };
    format!("{}: {result} ({measured}errors {}).", verdict.objective, percent(verdict.errors))
}
