//! `tuningfork report`: tells again what a study found, from its journal, in any form; or compares two studies. Reads journals and changes
//! nothing in them, even while they grow.

mod compare;
pub mod outputs;

use std::path::{Path, PathBuf};

use clap::Args;

use super::arguments::rate;
use super::figures::counted;
use super::say::{print, say};
use super::{CommandError, Ending, tune_output};
use crate::tune::{Gap, Journal, Recorded};
use crate::units::Rate;
use outputs::{Outputs, Paths};

/// What to do where there is no journal.
const INSTEAD: &str = "`tuningfork tune` makes one, and names it at the end (--journal FILE, or a default)";

/// The arguments of `report`.
#[derive(Debug, Args)]
pub struct Options {
    /// The journal of a study
    #[arg(value_name = "JOURNAL", required_unless_present = "compare")]
    journal: Option<PathBuf>,
    #[command(flatten)]
    paths: Paths,
    /// Write the report as Markdown, to paste into a pull request; `-` is standard output
    #[arg(long, value_name = "FILE")]
    markdown: Option<PathBuf>,
    /// Write the trials as comma-separated values; `-` is standard output
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,
    /// Write the trials as a journal that Optuna opens (`JournalFileBackend`); of --objective cost, cores and memory are two goals there
    #[arg(long, value_name = "FILE")]
    optuna: Option<PathBuf>,
    /// Say how many hosts this many requests a second need: in the report on standard output, in --html and --markdown
    #[arg(long, value_name = "RATE", value_parser = rate)]
    peak: Option<Rate>,
    /// Compare two studies of the same recording, --slo and --objective: what both measured, and what each recommends
    #[arg(long, num_args = 2, value_names = ["A", "B"], conflicts_with_all = ["journal", "html", "json", "markdown", "csv", "optuna", "peak"])]
    compare: Option<Vec<PathBuf>>,
}

/// Tells what a study found, or how two compare.
pub fn report(options: &Options) -> Result<Ending, CommandError> {
    if let Some([one, other]) = options.compare.as_deref() {
        return compare::compare(one, other).map(|()| Ending::Success);
    }
    let Some(journal) = &options.journal else { return Ok(Ending::Success) };
    let recorded = read(journal)?;
    let more = [&options.markdown, &options.csv, &options.optuna];
    let outputs = Outputs::prepare(&options.paths, more, &[journal.as_path()])?;
    outputs.check_peak(options.peak)?;
    let report = recorded.report();
    // First what was asked for in files: standard output may be full.
    let use_stdout = outputs.use_stdout();
    outputs.write(&report, &recorded.header.about, options.peak)?;
    if !use_stdout {
        let shown = outputs::shown(&report, &recorded.header.about, options.peak);
        print(&format!("{shown}\nEvery trial: {}\n", journal.display()))?;
    }
    Ok(Ending::Success)
}

/// A journal that exists and can be read, as far as it can.
fn read(path: &Path) -> Result<Recorded, CommandError> {
    let recorded = Journal::read(path).map_err(|error| CommandError::of_a_journal_read(error, INSTEAD))?;
    if recorded.torn {
        say(&format!("{}: its last line was cut off and is left out", path.display()));
    }
    if let Some(Gap { line, reason, after }) = &recorded.gap {
        let rest =
            if *after == 0 { String::new() } else { format!(", with what follows it ({})", counted(*after as u64, "line")) };
        say(&format!("{}:{line}: {reason}: that line is left out{rest}", path.display()));
    }
    Ok(recorded)
}

/// The report on standard output's paper.
fn paper() -> tune_output::Paper {
    tune_output::Paper::of_stdout(std::env::var("NO_COLOR").ok().as_deref())
}
