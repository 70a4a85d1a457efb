//! The files of recordings: `-` is standard input or output. An output appears whole or not at all, readable by its owner only, since
//! even a scrubbed recording tells what people asked for.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Stands for standard input or output in place of a file's name.
const STANDARD: &str = "-";
/// Bytes read or written at once.
const BUFFER: usize = 256 << 10;

/// Whether an output would take the place of an input.
pub(crate) fn is_same(input: &Path, output: &Path) -> bool {
    let place = |path: &Path| path.canonicalize().ok();
    output != Path::new(STANDARD) && place(input).is_some_and(|input| place(output) == Some(input))
}

/// Opens an input.
pub(crate) fn open(path: &Path) -> io::Result<Box<dyn BufRead>> {
    if path == Path::new(STANDARD) {
        return Ok(Box::new(io::stdin().lock()));
    }
    let file = File::open(path)?;
    // Opening a directory succeeds; only reading it fails, with a line number that would puzzle.
    if file.metadata()?.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    Ok(Box::new(BufReader::with_capacity(BUFFER, file)))
}

/// Makes an output of what `fill` writes; if that fails, there is none.
pub(crate) fn write(output: &Path, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    if output == Path::new(STANDARD) {
        return fill(&mut BufWriter::new(io::stdout().lock()));
    }
    if output.exists() && !output.is_file() {
        // A pipe or a device cannot be replaced; it is written to.
        return fill(&mut BufWriter::new(OpenOptions::new().write(true).open(output)?));
    }
    let name = output.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
    let mut draft = name.to_owned();
    draft.push(format!(".{}.part", std::process::id()));
    let draft = output.with_file_name(draft);
    let written = write_draft(&draft, fill).and_then(|()| fs::rename(&draft, output));
    if written.is_err() {
        // What is left of a draft is of no use, and the first error is the one to tell.
        let _ = fs::remove_file(&draft);
    }
    written
}

fn write_draft(draft: &Path, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
    let draft = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(draft)?;
    let mut writer = BufWriter::with_capacity(BUFFER, draft);
    fill(&mut writer)?;
    writer.flush()?;
    writer.get_ref().sync_all()
}
