//! What a test reads to know where a request was lost: a line for each boot, and two for each request with a number (`?id=7`), one when it
//! was read and one when its answer was made. Written only to files that the test has put into the steering directory.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::Path;

use super::Error;

/// The worker's own copies of those files. Each line is one write at the end, so that workers do not mix theirs.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    requests: Option<File>,
}

impl Ledger {
    /// Opens `ledger`, and writes this process into `boots`, where they exist.
    pub(super) fn open(directory: &Path) -> Result<Self, Error> {
        if let Some(mut boots) = existing(&directory.join("boots"))? {
            writeln!(boots, "{}", std::process::id()).map_err(Error::io("write into boots"))?;
        }
        Ok(Self { requests: existing(&directory.join("ledger"))? })
    }

    /// A request was read.
    pub(super) fn read(&mut self, id: Option<u64>) {
        self.write("read", id);
    }

    /// Its answer is on the way.
    pub(super) fn answered(&mut self, id: Option<u64>) {
        self.write("answered", id);
    }

    fn write(&mut self, what: &str, id: Option<u64>) {
        if let (Some(file), Some(id)) = (&mut self.requests, id) {
            // A disk that is full must not change what the worker does; the test misses the line.
            let _ = file.write_all(format!("{what} {id} {}\n", std::process::id()).as_bytes());
        }
    }
}

fn existing(file: &Path) -> Result<Option<File>, Error> {
    match OpenOptions::new().append(true).open(file) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Steering { file: file.to_owned(), reason: source.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbered_requests_and_only_existing_files_are_written() {
        let directory = tempfile::tempdir().unwrap();
        Ledger::open(directory.path()).unwrap().read(Some(1));
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
        std::fs::write(directory.path().join("ledger"), "").unwrap();
        let mut ledger = Ledger::open(directory.path()).unwrap();
        ledger.read(Some(7));
        ledger.read(None);
        ledger.answered(Some(7));
        let pid = std::process::id();
        let written = std::fs::read_to_string(directory.path().join("ledger")).unwrap();
        assert_eq!(written, format!("read 7 {pid}\nanswered 7 {pid}\n"));
    }
}
