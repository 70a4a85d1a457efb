//! The files of recordings: `-` is standard input or output. Inputs are decompressed if their first bytes tell that they must be,
//! whatever their names. An output appears whole or not at all, readable by its owner only, since even a scrubbed recording tells
//! what people asked for; it is compressed if its name ends in `.zst`.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Cursor, IsTerminal, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

use super::super::say::say;
use super::progress::{self, Watched};
use crate::sys::unnamed_file;

/// Stands for standard input or output in place of a file's name.
const STANDARD: &str = "-";
/// Bytes read or written at once.
const BUFFER: usize = 256 << 10;
/// How far back, as a power of two in bytes, a compressed file may refer: what is held in memory while it is read. The zstd program
/// does not read more either unless it is told to.
const MAX_WINDOW_LOG: u32 = 27;
/// zstd's own middle way between speed and size.
const ZSTD_LEVEL: i32 = 3;

/// Whether this is the name of standard input or output.
pub(crate) fn is_standard(path: &Path) -> bool {
    path == Path::new(STANDARD)
}

/// Whether an output would take the place of an input, or of another output.
pub(crate) fn is_same(input: &Path, output: &Path) -> bool {
    !is_standard(output) && place(input).is_some_and(|input| place(output) == Some(input))
}

/// Where a file is, or will be.
fn place(path: &Path) -> Option<PathBuf> {
    path.canonicalize().ok().or_else(|| Some(folder(path).canonicalize().ok()?.join(path.file_name()?)))
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."))
}

/// Opens an input, and shows how its reading goes.
pub(crate) fn open(path: &Path) -> io::Result<Box<dyn BufRead>> {
    if is_standard(path) {
        return decompressed(io::stdin(), "standard input");
    }
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    // Opening a directory succeeds; only reading it fails, with a line number that would puzzle.
    if metadata.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    // Not a file: its length says nothing.
    let length = if metadata.is_file() { metadata.len() } else { 0 };
    let name = path.display().to_string();
    decompressed(Watched::new(file, length, &name), &name)
}

fn decompressed(mut input: impl Read + 'static, name: &str) -> io::Result<Box<dyn BufRead>> {
    let mut magic = Vec::with_capacity(4);
    input.by_ref().take(4).read_to_end(&mut magic)?;
    let whole = BufReader::with_capacity(BUFFER, Cursor::new(magic.clone()).chain(input));
    Ok(match magic.as_slice() {
        [0x1f, 0x8b, ..] => Box::new(BufReader::with_capacity(BUFFER, CutOff::new(MultiGzDecoder::new(whole), name))),
        [0x28, 0xb5, 0x2f, 0xfd] => {
            let mut decoder = zstd::Decoder::with_buffer(whole)?;
            decoder.window_log_max(MAX_WINDOW_LOG)?;
            Box::new(BufReader::with_capacity(BUFFER, CutOff::new(decoder, name)))
        }
        _ => Box::new(whole),
    })
}

/// A compressed file that may end too early, as it does if its writer was killed. What is before that is read, and it is told.
struct CutOff<R> {
    input: R,
    name: String,
    progress: Cut,
}

/// How far its reading has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cut {
    NothingRead,
    NotSeen,
    Told,
}

impl<R> CutOff<R> {
    fn new(input: R, name: &str) -> Self {
        Self { input, name: name.to_owned(), progress: Cut::NothingRead }
    }
}

impl<R: Read> Read for CutOff<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match (self.input.read(buffer), self.progress) {
            (Ok(count), Cut::NothingRead) if count > 0 => {
                self.progress = Cut::NotSeen;
                Ok(count)
            }
            (Err(error), Cut::NotSeen | Cut::Told) if error.kind() == io::ErrorKind::UnexpectedEof => {
                if self.progress == Cut::NotSeen {
                    self.progress = Cut::Told;
                    say(&format!("{}: the compressed file is cut off: what is left of it is read", self.name));
                }
                Ok(0)
            }
            (read, _) => read,
        }
    }
}

/// How an output is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packing {
    /// As it is.
    Plain,
    /// Compressed with zstd.
    Zstd,
}

impl Packing {
    /// What the name asks for.
    pub(crate) fn of(output: &Path) -> Self {
        if output.extension().is_some_and(|extension| extension == "zst") { Self::Zstd } else { Self::Plain }
    }
}

/// An output that is not there before it is finished. Dropped unfinished, it leaves nothing behind; nor does a program that is killed,
/// but on file systems where every file needs a name.
pub(crate) struct Draft {
    writer: Packed,
    place: Place,
}

/// Where a draft is written.
enum Place {
    /// Where it belongs.
    There,
    /// Without a name, and where it belongs.
    Unnamed(PathBuf),
    /// Under another name, and where it belongs.
    Named(PathBuf, PathBuf),
}

/// A file that grows, packed.
pub(super) enum Packed {
    Plain(BufWriter<Sink>),
    Zstd(zstd::Encoder<'static, BufWriter<Sink>>),
}

/// Where packed bytes go.
pub(super) enum Sink {
    File(File),
    Standard(io::Stdout),
}

impl Draft {
    /// A draft of `output`.
    pub(crate) fn new(output: &Path, packing: Packing) -> io::Result<Self> {
        if is_standard(output) {
            if io::stdout().is_terminal() {
                progress::hide();
            }
            return Ok(Self { writer: Packed::new(Sink::Standard(io::stdout()), packing)?, place: Place::There });
        }
        if output.exists() && !output.is_file() {
            // A pipe or a device cannot be replaced; it is written to.
            let file = OpenOptions::new().write(true).open(output)?;
            return Ok(Self { writer: Packed::new(Sink::File(file), packing)?, place: Place::There });
        }
        let (file, place) = unnamed(output).or_else(|_| named(output))?;
        Ok(Self { writer: Packed::new(Sink::File(file), packing)?, place })
    }

    /// Lets whoever may read the file whose place it takes read this one. Nobody else writes to it, whoever could.
    pub(crate) fn keep_readers_of(&self, output: &Path) -> io::Result<()> {
        match (self.writer.sink(), fs::symlink_metadata(output)) {
            (Sink::File(file), Ok(old)) if old.is_file() => {
                file.set_permissions(PermissionsExt::from_mode(0o600 | (old.permissions().mode() & 0o444)))
            }
            (Sink::File(_) | Sink::Standard(_), Ok(_) | Err(_)) => Ok(()),
        }
    }

    /// Puts it where it belongs.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.writer.finish()?;
        let Sink::File(file) = self.writer.sink() else { return Ok(()) };
        if !matches!(self.place, Place::There) {
            file.sync_all()?;
        }
        if let Place::Unnamed(output) = &self.place {
            // A new name cannot take the place of a file that is there, a rename can.
            let draft = new_name(output)?;
            unnamed_file::name(file, &draft)?;
            self.place = Place::Named(draft, output.clone());
        }
        if let Place::Named(draft, output) = &self.place {
            fs::rename(draft, output)?;
            self.place = Place::There;
        }
        Ok(())
    }
}

fn unnamed(output: &Path) -> io::Result<(File, Place)> {
    draft_of(output, 0)?;
    Ok((unnamed_file::create(folder(output))?, Place::Unnamed(output.to_owned())))
}

fn named(output: &Path) -> io::Result<(File, Place)> {
    let draft = new_name(output)?;
    Ok((create_new(&draft)?, Place::Named(draft, output.to_owned())))
}

fn new_name(output: &Path) -> io::Result<PathBuf> {
    let mut suffix = [0; 8];
    File::open("/dev/urandom")?.read_exact(&mut suffix)?;
    draft_of(output, u64::from_ne_bytes(suffix))
}

/// Where an output is before it is finished. In a folder that others write too, nobody may know it beforehand.
fn draft_of(output: &Path, suffix: u64) -> io::Result<PathBuf> {
    let mut name = output.file_name().ok_or(io::ErrorKind::InvalidFilename)?.to_owned();
    name.push(format!(".{suffix:016x}.part"));
    Ok(output.with_file_name(name))
}

/// A file that was not there, readable by its owner only. What somebody put in its place is never written to, nor where it leads.
pub(super) fn create_new(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Place::Named(draft, _) = &self.place {
            // What is left of a draft is of no use, and the first error is the one to tell.
            let _ = fs::remove_file(draft);
        }
    }
}

impl Write for Draft {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.writer.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.writer.flush()
    }
}

impl Write for Packed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(writer) => writer.write(bytes),
            Self::Zstd(encoder) => encoder.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(writer) => writer.flush(),
            Self::Zstd(encoder) => encoder.flush(),
        }
    }
}

impl Packed {
    fn new(sink: Sink, packing: Packing) -> io::Result<Self> {
        let writer = BufWriter::with_capacity(BUFFER, sink);
        Ok(match packing {
            Packing::Plain => Self::Plain(writer),
            Packing::Zstd => {
                let mut encoder = zstd::Encoder::new(writer, ZSTD_LEVEL)?;
                encoder.include_checksum(true)?;
                Self::Zstd(encoder)
            }
        })
    }

    /// A new file, packed as its name asks for.
    pub(super) fn create(path: &Path) -> io::Result<Self> {
        Self::new(Sink::File(create_new(path)?), Packing::of(path))
    }

    /// Writes what a packed file has at its end.
    pub(super) fn finish(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(writer) => writer.flush(),
            Self::Zstd(encoder) => {
                encoder.do_finish()?;
                encoder.get_mut().flush()
            }
        }
    }

    fn sink(&self) -> &Sink {
        match self {
            Self::Plain(writer) => writer.get_ref(),
            Self::Zstd(encoder) => encoder.get_ref().get_ref(),
        }
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.write(bytes),
            Self::Standard(stdout) => stdout.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::File(file) => file.flush(),
            Self::Standard(stdout) => stdout.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn text(path: &Path) -> io::Result<String> {
        let mut text = String::new();
        open(path)?.read_to_string(&mut text).map(|_| text)
    }

    #[test]
    fn inputs_are_told_by_their_first_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("no-telling-name");
        let zstd = |text: &[u8]| zstd::encode_all(text, 1).unwrap();
        let whole = b"one\ntwo\n".as_slice();
        for content in
            [whole.to_vec(), [gzip(b"one\n"), gzip(b"two\n")].concat(), zstd(whole), [zstd(b"one\n"), zstd(b"two\n")].concat()]
        {
            fs::write(&path, content).unwrap();
            assert_eq!(text(&path).unwrap(), "one\ntwo\n");
        }
        for short in ["", "a", "\u{1f}", "abc"] {
            fs::write(&path, short).unwrap();
            assert_eq!(text(&path).unwrap(), short);
        }
    }

    #[test]
    fn what_is_left_of_a_compressed_file_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cut");
        let lines: Vec<_> = (0..100_000_u32).map(|n| n.wrapping_mul(2_654_435_761).to_string()).collect();
        let long = lines.join("\n");
        for packed in [gzip(long.as_bytes()), zstd::encode_all(long.as_bytes(), 1).unwrap()] {
            fs::write(&path, &packed[..packed.len() / 2]).unwrap();
            let left = text(&path).unwrap();
            assert!(left.len() > 1_000 && left.len() < long.len() && long.starts_with(&left));
            fs::write(&path, &packed[..12]).unwrap();
            assert!(text(&path).is_err(), "nothing is left");
        }
    }

    #[test]
    fn a_bomb_is_read_bit_by_bit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bomb");
        // 64 MiB of zeros in a few kilobytes.
        let zeros = io::repeat(0).take(64 << 20);
        fs::write(&path, zstd::encode_all(zeros, 1).unwrap()).unwrap();
        let mut input = open(&path).unwrap();
        let mut total = 0_usize;
        loop {
            let count = input.fill_buf().unwrap().len();
            if count == 0 {
                break;
            }
            assert!(count <= BUFFER);
            input.consume(count);
            total += count;
        }
        assert_eq!(total, 64 << 20);
    }

    #[test]
    fn an_output_is_packed_by_its_name_private_and_whole() {
        let folder = tempfile::tempdir().unwrap();
        for (name, magic) in [("a.jsonl", b"hell"), ("a.jsonl.zst", &[0x28, 0xb5, 0x2f, 0xfd])] {
            let path = folder.path().join(name);
            let mut draft = Draft::new(&path, Packing::of(&path)).unwrap();
            draft.write_all(b"hello").unwrap();
            draft.finish().unwrap();
            assert_eq!(text(&path).unwrap(), "hello");
            assert_eq!(&fs::read(&path).unwrap()[..4], magic);
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "no draft is left");
    }

    #[test]
    fn a_file_that_is_to_be_is_known_by_all_its_names() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        assert!(is_same(&at("a.json"), &at("./a.json")) && !is_same(&at("a.json"), &at("b.json")));
        assert!(is_same(Path::new("not-there.json"), Path::new("./not-there.json")) && !is_same(&at("-"), Path::new("-")));
    }

    #[test]
    fn who_could_read_what_is_replaced_can_read_what_takes_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("page.html");
        for (old, new) in [(None, 0o600), (Some(0o666), 0o644)] {
            if let Some(mode) = old {
                fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            }
            let draft = Draft::new(&path, Packing::Plain).unwrap();
            draft.keep_readers_of(&path).unwrap();
            draft.finish().unwrap();
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, new);
        }
    }

    #[test]
    fn of_a_program_that_is_killed_nothing_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let mut draft = Draft::new(&folder.path().join("a"), Packing::Plain).unwrap();
        draft.write_all(&vec![b'x'; 2 * BUFFER]).unwrap();
        // As if it were: nothing is dropped.
        std::mem::forget(draft);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn where_every_file_needs_a_name_it_is_replaced_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        for text in ["before", "behind"] {
            let (file, place) = named(&path).unwrap();
            let mut draft = Draft { writer: Packed::new(Sink::File(file), Packing::Plain).unwrap(), place };
            draft.write_all(text.as_bytes()).unwrap();
            draft.finish().unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        let (file, place) = named(&path).unwrap();
        drop(Draft { writer: Packed::new(Sink::File(file), Packing::Plain).unwrap(), place });
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_was_planted_is_not_written_to() {
        let folder = tempfile::tempdir().unwrap();
        let place = |name: &str| folder.path().join(name);
        let draft = draft_of(&place("a"), 7).unwrap();
        assert_eq!(draft, place("a.0000000000000007.part"));
        fs::write(place("precious"), "before").unwrap();
        for target in ["precious", "missing"] {
            std::os::unix::fs::symlink(place(target), &draft).unwrap();
            assert_eq!(create_new(&draft).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
            fs::remove_file(&draft).unwrap();
        }
        fs::write(&draft, "readable by all").unwrap();
        assert_eq!(create_new(&draft).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read_to_string(place("precious")).unwrap(), "before");
        assert!(!place("missing").exists());
    }

    #[test]
    fn an_output_that_fails_leaves_what_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.zst");
        fs::write(&path, "before").unwrap();
        drop(Draft::new(&path, Packing::Zstd).unwrap());
        assert_eq!(fs::read_to_string(&path).unwrap(), "before");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(Draft::new(&folder.path().join("none/a"), Packing::Plain).is_err());
    }
}
