//! `tuningfork record merge`: several recordings as one, in order of time.

use std::fmt::Write;
use std::path::PathBuf;

use clap::Args;

use super::super::CommandError;
use super::files::Draft;
use super::input::{lost, name, out_of_order, reader, unusable};
use super::output::Output;
use crate::recording::{self, Given, MergeError, Placing, Writer};

/// The arguments of `record merge`.
#[derive(Debug, Args)]
pub struct Options {
    /// The recordings; the connections of each keep apart from those of the others
    #[arg(required = true, value_name = "RECORDING")]
    inputs: Vec<PathBuf>,
    /// Move them to the time of the first one, as if their traffic came together
    #[arg(long)]
    shift: bool,
    #[command(flatten)]
    output: Output,
}

/// Writes them, and tells what each gave.
pub(super) fn merge(options: &Options) -> Result<String, CommandError> {
    let Options { inputs, shift, output } = options;
    let readers = inputs.iter().map(|path| reader(path)).collect::<Result<Vec<_>, _>>()?;
    let named = |error: MergeError| unusable(&inputs[error.input])(error.source);
    let placing = if *shift { Placing::Together } else { Placing::AsRecorded };
    let mut merged = recording::Merge::new(readers, placing).map_err(named)?;
    let draft = output.draft(inputs.iter().map(PathBuf::as_path))?;
    let mut writer = Writer::new(draft, &merged.meta()).map_err(|source| output.failed(source))?;
    while let Some(request) = merged.next().map_err(named)? {
        writer.write(&request).map_err(|source| output.failed(source))?;
    }
    let given = merged.finish().map_err(named)?;
    writer.finish().and_then(Draft::finish).map_err(|source| output.failed(source))?;
    Ok(report(inputs, &given))
}

fn report(inputs: &[PathBuf], given: &[Given]) -> String {
    let mut text = format!("{} requests", given.iter().map(|given| given.requests).sum::<u64>());
    for ((path, given), number) in inputs.iter().zip(given).zip(1..) {
        let notes: String = [lost(&given.broken), out_of_order(given.disorder)]
            .into_iter()
            .flatten()
            .fold(String::new(), |notes, note| notes + ", " + &note);
        write!(text, "\n  {number}: {}: {} requests{notes}", name(path), given.requests)
            .expect("invariant: writing to a string succeeds");
    }
    text
}
