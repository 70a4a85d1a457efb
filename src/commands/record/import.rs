//! `tuningfork record import`: logs in, a recording out.

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::files::{self, is_same, open};

use crate::recording::{Broken, Importer, JitterSeed, RecordingError, ScrubKey, write};

/// Why an import failed.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A file cannot be opened or written.
    #[error("{path}: {source}")]
    File {
        /// Which one.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The output cannot be written.
    #[error("{path}: {source}")]
    Output {
        /// Which one.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The recording would take the place of a log.
    #[error("{0} is both a log and the output: name another output")]
    Overwrites(PathBuf),
    /// A file cannot be used.
    #[error("{path}: {source}")]
    Input {
        /// Which one.
        path: PathBuf,
        /// What is wrong with it.
        source: RecordingError,
    },
    /// The files hold nothing to record.
    #[error(transparent)]
    Nothing(#[from] RecordingError),
    /// The system gave no random key to scrub with.
    #[error("no random key from the system: {0}")]
    Key(io::Error),
}

/// What an import made, for the user to read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ImportReport {
    /// Requests in the recording.
    pub(super) requests: usize,
    /// Every input: requests it gave, and the lines that could not be used.
    pub(super) inputs: Vec<(PathBuf, usize, Broken)>,
    /// What the recorded times mean, as in [`Meta`](crate::recording::Meta).
    pub(super) ts_meaning: String,
}

impl fmt::Display for ImportReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} requests recorded", self.requests)?;
        for (path, requests, broken) in &self.inputs {
            write!(f, "\n  {}: {requests} requests", path.display())?;
            if broken.count > 0 {
                let first: Vec<_> = broken.first.iter().map(u64::to_string).collect();
                let more = if broken.count > broken.first.len() as u64 { ", …" } else { "" };
                write!(f, ", {} broken lines passed over (line {}{more})", broken.count, first.join(", "))?;
            }
            if broken.torn {
                write!(f, ", the last line is cut off")?;
            }
        }
        match self.ts_meaning.as_str() {
            "logged" => write!(f, "\ntimes: the log's whole seconds, spread within each"),
            other => write!(f, "\ntimes: {other}"),
        }
    }
}

/// Makes one recording of `inputs` (`-` is standard input) and writes it to `output` (`-` is standard output). `seed` decides how whole
/// seconds are spread: the same logs and seed give the same times. The key that hides addresses and secrets is drawn anew and forgotten.
pub(super) fn import(inputs: &[PathBuf], output: &Path, seed: JitterSeed) -> Result<ImportReport, ImportError> {
    if let Some(log) = inputs.iter().find(|log| is_same(log, output)) {
        return Err(ImportError::Overwrites(log.clone()));
    }
    let mut importer = Importer::new(random_key().map_err(ImportError::Key)?, seed);
    let mut read = Vec::with_capacity(inputs.len());
    for path in inputs {
        let input = open(path).map_err(|source| file(path, source))?;
        let (requests, broken) = importer.read(input).map_err(|source| ImportError::Input { path: path.clone(), source })?;
        read.push((path.clone(), requests, broken));
    }
    let recording = importer.finish()?;
    files::write(output, |file| write(&recording, file))
        .map_err(|source| ImportError::Output { path: output.to_owned(), source })?;
    Ok(ImportReport {
        requests: recording.requests.len(),
        inputs: read,
        ts_meaning: recording.meta.ts_meaning.unwrap_or_else(|| "as recorded".into()),
    })
}

fn file(path: &Path, source: io::Error) -> ImportError {
    ImportError::File { path: path.to_owned(), source }
}

fn random_key() -> io::Result<ScrubKey> {
    let mut key = [0; 16];
    File::open("/dev/urandom")?.read_exact(&mut key)?;
    Ok(ScrubKey(key))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::BufReader;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::recording;

    const LINE: &str = "10.0.0.1 - - [17/May/2015:10:05:03 +0000] \"GET /a HTTP/1.1\" 200 5 \"-\" \"agent\"\n";

    #[test]
    fn logs_become_a_private_recording_and_a_report() {
        let folder = tempfile::tempdir().unwrap();
        let (log, torn, output) = (folder.path().join("a.log"), folder.path().join("b.log"), folder.path().join("out.jsonl"));
        fs::write(&log, [LINE, "broken\n", LINE].concat()).unwrap();
        fs::write(&torn, [LINE, &LINE[..30]].concat()).unwrap();
        let report = import(&[log.clone(), torn], &output, JitterSeed(1)).unwrap();
        let text = report.to_string().replace(&format!("{}/", folder.path().display()), "");
        assert_eq!(
            text,
            "3 requests recorded\n  a.log: 2 requests, 1 broken lines passed over (line 2)\n  b.log: 1 requests, the last line is \
             cut off\ntimes: the log's whole seconds, spread within each"
        );
        assert_eq!(fs::metadata(&output).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(recording::read(BufReader::new(File::open(&output).unwrap())).unwrap().requests.len(), 3);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 3, "no draft is left");
    }

    #[test]
    fn what_cannot_be_imported_leaves_no_output() {
        let folder = tempfile::tempdir().unwrap();
        let (empty, output) = (folder.path().join("empty.log"), folder.path().join("out.jsonl"));
        fs::write(&empty, "").unwrap();
        let refusal = |input: &Path| import(&[input.to_owned()], &output, JitterSeed(1)).unwrap_err().to_string();
        assert_eq!(refusal(&empty), "the file is empty");
        assert!(refusal(folder.path()).ends_with("is a directory"));
        assert!(refusal(&folder.path().join("none")).contains("No such file"));
        fs::write(&empty, "BZh9").unwrap();
        assert!(refusal(&empty).ends_with("the file is compressed with bzip2; decompress it first"));
        assert!(!output.exists());
        fs::write(&empty, LINE).unwrap();
        let nowhere = folder.path().join("none/out.jsonl");
        assert!(import(&[empty], &nowhere, JitterSeed(1)).unwrap_err().to_string().contains("none/out.jsonl"));
    }
}
