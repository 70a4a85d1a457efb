//! `tuningfork record info`: what a recording holds, as text or as JSON.

mod page;
mod plot;

use std::env;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::super::CommandError;
use super::super::tune_output::Paper;
use super::input::{name, reader, unusable};
use crate::recording::{Broken, Disorder, InOrder, Meta, Report, Summary};

/// The arguments of `record info`.
#[derive(Debug, Args)]
pub struct Options {
    /// The recordings
    #[arg(required = true, value_name = "RECORDING")]
    inputs: Vec<PathBuf>,
    /// As JSON, a line a recording
    #[arg(long)]
    json: bool,
}

/// What is known of one recording.
#[derive(Debug)]
struct Known {
    name: String,
    meta: Meta,
    report: Report,
    broken: Broken,
    disorder: Disorder,
}

#[derive(Serialize)]
struct Line<'a> {
    name: &'a str,
    meta: &'a Meta,
    #[serde(flatten)]
    report: &'a Report,
    broken_lines: u64,
    torn: bool,
    out_of_order: u64,
}

/// Prints what each recording holds.
pub(super) fn info(options: &Options) -> Result<(), CommandError> {
    let no_color = env::var("NO_COLOR").ok();
    let paper = Paper::of_stdout(no_color.as_deref());
    for (number, path) in options.inputs.iter().enumerate() {
        let known = look(path)?;
        let text = match (options.json, number) {
            (true, _) => json(&known),
            (false, 0) => page::page(&known, paper),
            (false, _) => format!("\n{}", page::page(&known, paper)),
        };
        // A pager that was closed wants no more.
        match io::stdout().write_all(text.as_bytes()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(()),
            written => written.map_err(CommandError::system("cannot write to standard output"))?,
        }
    }
    Ok(())
}

fn look(path: &Path) -> Result<Known, CommandError> {
    let mut requests = InOrder::new(reader(path)?);
    let mut summary = Summary::default();
    while let Some(request) = requests.next().map_err(unusable(path))? {
        summary.add(&request);
    }
    let (meta, broken, disorder) = requests.finish().map_err(unusable(path))?;
    let report = summary.report().expect("invariant: a recording without requests is refused");
    Ok(Known { name: name(path), meta, report, broken, disorder })
}

fn json(known: &Known) -> String {
    let line = Line {
        name: &known.name,
        meta: &known.meta,
        report: &known.report,
        broken_lines: known.broken.count,
        torn: known.broken.torn,
        out_of_order: known.disorder.moved,
    };
    serde_json::to_string(&line).expect("invariant: numbers and texts are JSON") + "\n"
}
