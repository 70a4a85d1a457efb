//! `tuningfork record import`: logs in, a recording out.

use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::{self, BufRead, Read, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};

use super::super::CommandError;
use super::files::open;
use super::input::{lost, name};
use super::output::Output;
use crate::recording::{
    BodyPolicy, ImportFailure, Imported, Importer, Input, InputFormat, InputReport, JitterSeed, LogFormat, Meta,
    NGINX_LOG_FORMAT, Scrub, ScrubKey,
};

/// What to import, and how.
#[derive(Args, Debug)]
#[command(after_help = super::scrub::REPLACED)]
pub struct Arguments {
    /// The logs
    #[arg(required_unless_present = "print_nginx_format", value_name = "LOG")]
    logs: Vec<PathBuf>,
    #[command(flatten)]
    output: Output,
    /// What the logs are
    #[arg(long, value_name = "NAME", value_parser = named_formats(), default_value = "auto")]
    format: InputFormat,
    /// The server's own format: nginx's log_format, Apache's LogFormat or Gunicorn's access_log_format, as in its configuration
    #[arg(long, value_name = "STRING", value_parser = LogFormat::parse, conflicts_with = "format")]
    log_format: Option<LogFormat>,
    /// How requests of one second are spread within it: the same seed gives the same times
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Keep request bodies, where the logs have them: forms and JSON without their secrets, of others the length only
    #[arg(long)]
    bodies: bool,
    /// Print the log_format that gives the best recordings, for nginx's configuration, and end. It writes cookies and bodies as they
    /// are: let only root read that log, and delete it after the import
    #[arg(long, exclusive = true)]
    print_nginx_format: bool,
}

/// The names of formats, each with its description.
fn named_formats() -> impl TypedValueParser<Value = InputFormat> {
    let values = InputFormat::NAMED.map(|(name, _, what)| PossibleValue::new(name).help(what));
    PossibleValuesParser::new(values).map(|name| InputFormat::named(&name).expect("invariant: it is one of the possible values"))
}

/// Why an import failed.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A file cannot be opened.
    #[error("{path}: {source}")]
    File {
        /// Which one.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// A file cannot be used.
    #[error("{path}: {source}")]
    Input {
        /// Which one.
        path: PathBuf,
        /// What is wrong with it.
        source: ImportFailure,
    },
    /// The files hold nothing to record.
    #[error("{names}: {source}")]
    Nothing {
        /// What they are called.
        names: String,
        /// What is wrong with them.
        source: ImportFailure,
    },
    /// The recording cannot be written.
    #[error("{0}")]
    Output(io::Error),
    /// The system gave no random key to scrub with.
    #[error("no random key from the system: {0}")]
    Key(io::Error),
}

/// What an import made, for the user to read.
#[derive(Debug, PartialEq, Eq)]
struct ImportReport {
    requests: u64,
    out_of_order: u64,
    inputs: Vec<(PathBuf, InputReport)>,
    meta: Meta,
}

impl fmt::Display for ImportReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} requests recorded", self.requests)?;
        if self.out_of_order > 0 {
            write!(f, ", {} of them out of order: they came too late in the log to be sorted in", self.out_of_order)?;
        }
        for (path, report) in &self.inputs {
            write!(f, "\n  {}: {} requests", path.display(), report.requests)?;
            if !report.source.is_empty() {
                write!(f, " ({})", report.source)?;
            }
            if report.without_request > 0 {
                write!(f, ", {} lines without a request", report.without_request)?;
            }
            if let Some(lost) = lost(&report.broken) {
                write!(f, ", {lost}")?;
            }
        }
        write!(f, "\ntimes: {}", times(&self.meta))?;
        self.meta.notes.iter().try_for_each(|note| write!(f, "\nnote: {note}"))
    }
}

/// What the recorded times mean.
fn times(meta: &Meta) -> String {
    let step = meta.ts_resolution_ns.unwrap_or_default();
    let whole = step >= 1_000_000_000;
    let mut words = match meta.ts_meaning.as_deref() {
        Some("logged") => return "the log's whole seconds, spread within each".into(),
        Some("end") => "when a response was done".to_owned(),
        Some(other) => other.to_owned(),
        None => "as recorded".to_owned(),
    };
    let told = match step {
        0 => Ok(()),
        _ if whole => write!(words, ", in whole seconds, spread within each"),
        1_000_000.. => write!(words, ", to {} ms", step / 1_000_000),
        1_000.. => write!(words, ", to {} µs", step / 1_000),
        _ => write!(words, ", to {step} ns"),
    };
    told.expect("invariant: a string takes every write");
    words
}

/// An input of which is known what it is: open if it cannot be opened twice.
enum Source {
    Open(Box<Input<Box<dyn BufRead>>>),
    Again,
}

/// Makes one recording of the logs (`-` is standard input) and writes it to the output. The key that hides addresses and secrets is
/// drawn anew and forgotten. Returns what to tell the user, if that is not on standard output yet.
pub(super) fn import(arguments: &Arguments) -> Result<Option<String>, CommandError> {
    if arguments.print_nginx_format {
        return print(NGINX_LOG_FORMAT).map(|()| None);
    }
    let Arguments { logs, output, .. } = arguments;
    let format = arguments.log_format.clone().map_or_else(|| arguments.format.clone(), InputFormat::Log);
    // The recording's first line depends on all inputs.
    let mut sources = Vec::with_capacity(logs.len());
    let mut metas = Vec::with_capacity(logs.len());
    for path in logs {
        let input = input(path, &format)?;
        metas.push(input.meta());
        sources.push(if logs.len() > 1 && path.is_file() { Source::Again } else { Source::Open(Box::new(input)) });
    }
    let meta = Meta::join(metas).unwrap_or_default();
    let bodies = if arguments.bodies { BodyPolicy::Scrubbed } else { BodyPolicy::Dropped };
    let scrub = Scrub::new(random_key().map_err(ImportError::Key)?).with_bodies(bodies);
    let draft = output.draft(logs.iter().map(PathBuf::as_path))?;
    let importer = Importer::new(draft, meta, scrub, JitterSeed(arguments.seed));
    let (report, draft) = read_all(importer, logs.iter().zip(sources), &format).map_err(|error| match error {
        ImportError::Output(source) => output.failed(source),
        error @ (ImportError::File { .. } | ImportError::Input { .. } | ImportError::Nothing { .. } | ImportError::Key(_)) => {
            error.into()
        }
    })?;
    draft.finish().map_err(|source| output.failed(source))?;
    Ok(Some(report.to_string()))
}

/// Imports every source. An output that cannot be written is told as it comes.
fn read_all<'a, W: Write>(
    mut importer: Importer<W>,
    sources: impl Iterator<Item = (&'a PathBuf, Source)>,
    format: &InputFormat,
) -> Result<(ImportReport, W), ImportError> {
    let meta = importer.meta().clone();
    let mut inputs = Vec::new();
    for (path, source) in sources {
        let input = match source {
            Source::Open(input) => *input,
            Source::Again => input(path, format)?,
        };
        let read = importer.read(input).map_err(failed(|source| ImportError::Input { path: path.clone(), source }))?;
        inputs.push((path.clone(), read));
    }
    let names = || inputs.iter().map(|(path, _)| name(path)).collect::<Vec<_>>().join(", ");
    let made = importer.finish().map_err(failed(|source| ImportError::Nothing { names: names(), source }))?;
    let Imported { output, requests, out_of_order } = made;
    Ok((ImportReport { requests, out_of_order, inputs, meta }, output))
}

/// An output that cannot be written is told apart from what `wrong` says of the inputs.
fn failed(wrong: impl FnOnce(ImportFailure) -> ImportError) -> impl FnOnce(ImportFailure) -> ImportError {
    |failure| match failure {
        ImportFailure::Output(source) => ImportError::Output(source),
        ImportFailure::Input(_) | ImportFailure::LargeHar | ImportFailure::Har(_) | ImportFailure::Nothing(_) => wrong(failure),
    }
}

fn input(path: &Path, format: &InputFormat) -> Result<Input<Box<dyn BufRead>>, ImportError> {
    let reader = open(path).map_err(|source| ImportError::File { path: path.to_owned(), source })?;
    Input::new(reader, format).map_err(|source| ImportError::Input { path: path.to_owned(), source: source.into() })
}

pub(super) fn random_key() -> io::Result<ScrubKey> {
    let mut key = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut key)?;
    Ok(ScrubKey(key))
}

fn print(text: &str) -> Result<(), CommandError> {
    writeln!(io::stdout(), "{text}").map_err(|source| CommandError::CannotCreate { path: "-".into(), source })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::BufReader;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::recording;

    const LINE: &str = "10.0.0.1 - - [17/May/2015:10:05:03 +0000] \"GET /a HTTP/1.1\" 200 5 \"-\" \"agent\"\n";

    fn arguments(logs: &[&Path], output: &Path) -> Arguments {
        Arguments {
            logs: logs.iter().map(|log| log.to_path_buf()).collect(),
            output: Output { path: output.to_owned(), zstd: false },
            format: InputFormat::Auto,
            log_format: None,
            seed: 1,
            bodies: false,
            print_nginx_format: false,
        }
    }

    #[test]
    fn logs_become_a_private_recording_and_a_report() {
        let folder = tempfile::tempdir().unwrap();
        let (log, torn, output) = (folder.path().join("a.log"), folder.path().join("b.log"), folder.path().join("out.jsonl"));
        fs::write(&log, [LINE, "broken\n", LINE].concat()).unwrap();
        fs::write(&torn, [LINE, &LINE[..30]].concat()).unwrap();
        let report = import(&arguments(&[&log, &torn], &output)).unwrap().unwrap();
        let text = report.replace(&format!("{}/", folder.path().display()), "");
        let (told, note) = text.split_once("\nnote: ").unwrap();
        assert_eq!(
            told,
            "3 requests recorded\n  a.log: 2 requests (access-log-combined), 1 broken line passed over (line 2)\n  b.log: 1 \
             requests (access-log-combined), the last line is cut off and passed over\ntimes: the log's whole seconds, spread within each"
        );
        assert!(note.starts_with("the log does not say"));
        assert_eq!(fs::metadata(&output).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(recording::read(BufReader::new(File::open(&output).unwrap())).unwrap().requests.len(), 3);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3, "no draft is left");
    }

    #[test]
    fn what_cannot_be_imported_leaves_no_output() {
        let folder = tempfile::tempdir().unwrap();
        let (empty, output) = (folder.path().join("empty.log"), folder.path().join("out.jsonl"));
        fs::write(&empty, "").unwrap();
        let refusal = |input: &Path| import(&arguments(&[input], &output)).unwrap_err().to_string();
        assert_eq!(refusal(&empty), format!("{}: the file is empty", empty.display()));
        fs::write(&empty, r#"{"log":{"entries":[{"started"#).unwrap();
        assert_eq!(refusal(&empty), format!("{}: not a HAR document: it ends before its first entry", empty.display()));
        fs::write(&empty, r#"{"log":{"entries":[]}}"#).unwrap();
        assert!(refusal(&empty).contains("empty.log: no usable request in 1 lines"));
        assert!(refusal(folder.path()).ends_with("is a directory"));
        assert!(refusal(&folder.path().join("none")).contains("No such file"));
        fs::write(&empty, "BZh9").unwrap();
        assert!(refusal(&empty).ends_with("the file is compressed with bzip2; decompress it first"));
        assert!(!output.exists());
        fs::write(&empty, LINE).unwrap();
        let nowhere = folder.path().join("none/out.jsonl");
        assert!(import(&arguments(&[&empty], &nowhere)).unwrap_err().to_string().contains("none/out.jsonl"));
    }
}
