//! The files a report is written to. They are made before what they tell is known, so that a wrong path costs no trial, and appear whole
//! or not at all.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;

use super::paper;
use crate::commands::CommandError;
use crate::commands::record::files::{Draft, Packing, is_same, is_standard};
use crate::commands::tune_output;
use crate::study::Report;
use crate::study::report::Summary;
use crate::tune::{About, Coverage};
use crate::units::Rate;

/// The share of each host that stays free in the count of hosts for a peak.
pub const HEADROOM: f64 = 0.3;

/// The files that `tune` and `report` both write.
#[derive(Debug, Default, Args)]
pub struct Paths {
    /// Write the result as JSON; `-` is standard output
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the report as one HTML page that needs nothing else. Files are for their owner alone; who could read
    /// one that is replaced still can
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

/// Files to be filled.
pub struct Outputs(Vec<Output>);

struct Output {
    form: Form,
    path: PathBuf,
    draft: Draft,
}

/// What is written into a file.
#[derive(Clone, Copy)]
enum Form {
    Json,
    Html,
    Markdown,
    Csv,
    Optuna,
}

impl Outputs {
    /// Refuses what cannot be written, and what is one of `inputs` or written twice. `more` are Markdown, CSV and Optuna's.
    pub fn prepare(paths: &Paths, more: [&Option<PathBuf>; 3], inputs: &[&Path]) -> Result<Self, CommandError> {
        let [markdown, csv, optuna] = more;
        let forms = [
            (Form::Json, &paths.json),
            (Form::Html, &paths.html),
            (Form::Markdown, markdown),
            (Form::Csv, csv),
            (Form::Optuna, optuna),
        ];
        let mut taken: Vec<&Path> = inputs.to_vec();
        let mut outputs = Vec::new();
        for (form, path) in forms.into_iter().filter_map(|(form, path)| Some((form, path.as_deref()?))) {
            if taken.iter().any(|other| *other == path || is_same(other, path)) {
                let source = io::Error::new(io::ErrorKind::AlreadyExists, "it is read, or written twice: name another file");
                return Err(CommandError::CannotCreate { path: path.to_owned(), source });
            }
            let draft = Draft::new(path, Packing::Plain).map_err(cannot_create(path))?;
            outputs.push(Output { form, path: path.to_owned(), draft });
            taken.push(path);
        }
        Ok(Self(outputs))
    }

    /// Refuses `peak` where nothing that is written or shown has a place for its hosts.
    pub fn check_peak(&self, peak: Option<Rate>) -> Result<(), CommandError> {
        let answers = |output: &Output| matches!(output.form, Form::Html | Form::Markdown);
        let is_answered = !self.use_stdout() || self.0.iter().any(answers);
        if peak.is_none() || is_answered { Ok(()) } else { Err(CommandError::PeakUnanswered) }
    }

    /// Whether one of them is standard output, which then has no place for the report as text.
    #[must_use]
    pub fn use_stdout(&self) -> bool {
        self.0.iter().any(|output| is_standard(&output.path))
    }

    /// Fills them all, and the others where one cannot be: the first of these is the error.
    pub fn write(self, report: &Report, about: &About, peak: Option<Rate>) -> Result<(), CommandError> {
        let fill = |Output { form, path, mut draft }: Output| {
            let written = text(form, report, about, peak).and_then(|text| draft.write_all(text.as_bytes()));
            let written = written.and_then(|()| draft.keep_readers_of(&path)).and_then(|()| draft.finish());
            written.map_err(cannot_create(&path))
        };
        self.0.into_iter().map(fill).fold(Ok(()), Result::and)
    }
}

fn text(form: Form, report: &Report, about: &About, peak: Option<Rate>) -> io::Result<String> {
    Ok(match form {
        Form::Json => serde_json::to_string_pretty(&Json::of(report, about))? + "\n",
        Form::Html => tune_output::html(report, about, peak, HEADROOM),
        Form::Markdown => tune_output::markdown(report, about, peak, HEADROOM),
        Form::Csv => tune_output::csv(report),
        Form::Optuna => tune_output::optuna(report, about),
    })
}

/// What `--json` writes.
#[derive(Serialize)]
struct Json<'a> {
    #[serde(flatten)]
    summary: Summary<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    coverage: Option<Covered<'a>>,
}

#[derive(Serialize)]
struct Covered<'a> {
    #[serde(flatten)]
    coverage: &'a Coverage,
    gap: Option<String>,
}

impl<'a> Json<'a> {
    fn of(report: &'a Report, about: &'a About) -> Self {
        let covered = |coverage: &'a Coverage| Covered { coverage, gap: coverage.gap() };
        Self { summary: report.summary(), coverage: about.coverage.as_ref().map(covered) }
    }
}

fn cannot_create(path: &Path) -> impl FnOnce(io::Error) -> CommandError {
    move |source| CommandError::CannotCreate { path: path.to_owned(), source }
}

/// What is printed of the report.
#[must_use]
pub fn shown(report: &Report, about: &About, peak: Option<Rate>) -> String {
    let gap = tune_output::gap(report, about).map(|gap| format!("\n{gap}\n"));
    let hosts = peak.map(|peak| format!("\n{}", tune_output::hosts(report, peak, HEADROOM)));
    let text = format!("\n{}", tune_output::report(report, paper()));
    [Some(text), gap, hosts].into_iter().flatten().collect()
}

#[cfg(test)]
mod tests;
