//! `tuningfork record audit`: says what a recording holds that it should not, and never what the secret is.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::files::open;
use crate::commands::figures::counted;
use crate::commands::{CommandError, Ending};
use crate::recording::{Audit, Sightings, audit as look};

/// What to look through.
#[derive(Debug, Args)]
pub struct Options {
    /// The recording
    #[arg(value_name = "FILE")]
    input: PathBuf,
    /// Report as JSON
    #[arg(long)]
    json: bool,
}

/// The report as JSON.
#[derive(Serialize)]
struct Report<'a> {
    clean: bool,
    policy: Option<&'a str>,
    requests: u64,
    secrets: BTreeMap<&'static str, Seen<'a>>,
    too_short_to_tell: Seen<'a>,
    broken_lines: u64,
    torn: bool,
}

#[derive(Serialize)]
struct Seen<'a> {
    count: u64,
    lines: &'a [u64],
}

impl<'a> Seen<'a> {
    fn of(Sightings { count, lines }: &'a Sightings) -> Self {
        Self { count: *count, lines }
    }
}

/// Looks, and prints what it found on standard output.
pub(super) fn audit(options: &Options) -> Result<Ending, CommandError> {
    let input = open(&options.input).map_err(|source| CommandError::Unreadable { path: options.input.clone(), source })?;
    let name = || options.input.display().to_string();
    let audit = look(input).map_err(|source| CommandError::Recording { name: name(), source })?;
    let text = if options.json { json(&audit) } else { text(&audit) };
    io::stdout().write_all(text.as_bytes()).map_err(CommandError::system("standard output"))?;
    Ok(if audit.is_clean() { Ending::Success } else { Ending::Failure })
}

fn json(audit: &Audit) -> String {
    let report = Report {
        clean: audit.is_clean(),
        policy: audit.policy.as_deref(),
        requests: audit.requests,
        secrets: audit.secrets.iter().map(|(secret, seen)| (secret.name(), Seen::of(seen))).collect(),
        too_short_to_tell: Seen::of(&audit.too_short_to_tell),
        broken_lines: audit.broken.count,
        torn: audit.broken.torn,
    };
    serde_json::to_string_pretty(&report).expect("invariant: numbers and names are JSON") + "\n"
}

fn text(audit: &Audit) -> String {
    let mut text = match &audit.policy {
        Some(policy) => format!("{} requests, scrubbed by policy \"{policy}\" as the recording says\n", audit.requests),
        None => format!("{} requests\nwarning: the recording does not say that it was scrubbed\n", audit.requests),
    };
    for (secret, seen) in &audit.secrets {
        text.extend([format!("  {:<12} {:>7}  {}\n", secret.name(), seen.count, lines(seen))]);
    }
    text += &too_short(&audit.too_short_to_tell);
    if audit.broken.count > 0 {
        let first: Vec<_> = audit.broken.first.iter().map(u64::to_string).collect();
        text.extend([format!("{} could not be looked at: {}\n", counted(audit.broken.count, "broken line"), first.join(", "))]);
    }
    if audit.broken.torn {
        text += "the last line is cut off and could not be looked at\n";
    }
    text += if audit.is_clean() {
        "clean: no secrets found among what can be told; others, and names that nobody knows, only your own eyes find\n"
    } else {
        "not clean: `tuningfork record scrub` replaces secrets and leaves out what is broken\n"
    };
    text
}

/// What the seal cannot tell.
fn too_short(seen: &Sightings) -> String {
    if seen.count == 0 {
        return String::new();
    }
    format!(
        "{} values where secrets are have fewer than 4 letters and digits: too short to tell whether they were replaced ({}); of those \
         with 4 to 7, about one in ten passes that was not\n",
        seen.count,
        lines(seen)
    )
}

fn lines(seen: &Sightings) -> String {
    let lines: Vec<_> = seen.lines.iter().map(u64::to_string).collect();
    // One line may hold several.
    let more = if seen.count > seen.lines.len() as u64 { ", …" } else { "" };
    format!("line {}{more}", lines.join(", "))
}
