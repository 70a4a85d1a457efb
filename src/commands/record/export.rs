//! `tuningfork record export`: a recording in the formats of other load generators.

use std::fmt::Write;
use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::super::CommandError;
use super::files::Draft;
use super::input::{lost, name, out_of_order, reader, unusable};
use super::output::Output;
use crate::recording::{Base, ExportError, Exporter, Format, InOrder};

/// The arguments of `record export`.
#[derive(Debug, Args)]
pub struct Options {
    /// The recording
    #[arg(value_name = "RECORDING")]
    input: PathBuf,
    /// For which program
    #[arg(long, value_name = "FORMAT")]
    to: To,
    /// Where requests go, like http://127.0.0.1:8000: replaces the host of URLs, and is the Host where none was recorded
    #[arg(long, value_name = "URL")]
    target: Option<Base>,
    #[command(flatten)]
    output: Output,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum To {
    /// GoReplay
    Gor,
    /// vegeta attack -format=json
    Vegeta,
    /// h2load --timing-script-file
    H2load,
    /// tuningfork itself
    Jsonl,
}

impl To {
    const fn format(self) -> Format {
        match self {
            Self::Gor => Format::Gor,
            Self::Vegeta => Format::Vegeta,
            Self::H2load => Format::H2load,
            Self::Jsonl => Format::JsonLines,
        }
    }
}

/// Writes it, and tells what the format cannot.
pub(super) fn export(options: &Options) -> Result<String, CommandError> {
    let Options { input, to, target, output } = options;
    let format = to.format();
    let mut requests = InOrder::new(reader(input)?);
    let mut exporter = Exporter::new(output.draft([input.as_path()])?, format, target.clone(), requests.meta())
        .map_err(|source| output.failed(source))?;
    while let Some(request) = requests.next().map_err(unusable(input))? {
        exporter.write(&request).map_err(|error| match error {
            ExportError::Output(source) => output.failed(source),
            error @ ExportError::NoHost { .. } => {
                CommandError::Unreadable { path: name(input).into(), source: std::io::Error::other(error) }
            }
        })?;
    }
    let (_, broken, disorder) = requests.finish().map_err(unusable(input))?;
    let (draft, done) = exporter.finish().map_err(|source| output.failed(source))?;
    Draft::finish(draft).map_err(|source| output.failed(source))?;

    let mut report = format!("{} requests exported", done.written);
    if done.left_out > 0 {
        write!(report, ", {} left out that the format cannot tell", done.left_out)
            .expect("invariant: writing to a string succeeds");
    }
    let notes = [lost(&broken), out_of_order(disorder)].into_iter().flatten();
    for line in notes.chain(format.limits().iter().map(|limit| (*limit).to_owned())) {
        report.push_str("\n  ");
        report.push_str(&line);
    }
    Ok(report)
}
