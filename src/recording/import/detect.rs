//! Finds out what an input is from its beginning, and says in a recording's words what can be known from such a source.

use std::io::{self, BufRead, Chain, Cursor, Read};

use super::gor::{self, Identity};
use super::log_format::{Field, LogFormat};
use super::log_line::LogLines;
use super::{alb, nginx_json};
use crate::recording::jsonl::{self, Entry};
use crate::recording::{Position, RecordingError, refuse_compressed};

/// How much of an input is looked at, bytes.
const BEGINNING: usize = 64 << 10;
/// How many lines are enough.
const LINES: usize = 200;

/// What an input is said to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum InputFormat {
    /// What its beginning looks like.
    #[default]
    Auto,
    /// Common or combined of nginx, Apache or Gunicorn, perhaps with `%(D)s` behind it.
    Combined,
    /// [`NGINX_LOG_FORMAT`](super::NGINX_LOG_FORMAT).
    NginxJson,
    /// AWS Application Load Balancer.
    Alb,
    /// HTTP Archive.
    Har,
    /// GoReplay's files.
    Gor,
    /// A recording.
    JsonLines,
    /// Lines of this format.
    Log(LogFormat),
}

impl InputFormat {
    /// Those that have a name, with what a user should know of each.
    pub const NAMED: [(&'static str, Self, &'static str); 7] = [
        ("auto", Self::Auto, "What its beginning looks like"),
        ("combined", Self::Combined, "Common or combined of nginx, Apache or Gunicorn, perhaps with Gunicorn's %(D)s behind it"),
        ("nginx-json", Self::NginxJson, "What --print-nginx-format prints"),
        ("alb", Self::Alb, "AWS Application Load Balancer"),
        ("har", Self::Har, "HTTP Archive of a browser or proxy"),
        ("gor", Self::Gor, "GoReplay"),
        ("jsonl", Self::JsonLines, "JSON Lines: a recording"),
    ];

    /// The one of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::NAMED.into_iter().find_map(|(known, format, _)| (known == name).then_some(format))
    }
}

/// An input of which is known what it is.
#[derive(Debug)]
pub struct Input<R> {
    pub(super) reader: Chain<Cursor<Vec<u8>>, R>,
    pub(super) kind: Kind,
}

/// What an input is, and what is needed to read it.
#[derive(Debug)]
pub(super) enum Kind {
    Log(LogLines),
    NginxJson,
    Alb,
    Har,
    Gor(Identity),
    /// With its first line, if that says where the recording comes from.
    JsonLines(Option<super::Meta>),
}

impl<R: BufRead> Input<R> {
    /// Looks at the beginning of `reader`.
    pub fn new(mut reader: R, format: &InputFormat) -> Result<Self, RecordingError> {
        let beginning = beginning(&mut reader).map_err(|source| RecordingError::Read { line: 1, source })?;
        let kind = kind(&beginning, format);
        let mut reader = Cursor::new(beginning).chain(reader);
        refuse_compressed(&mut reader)?;
        Ok(Self { reader, kind })
    }
}

/// Takes the first bytes of `reader`, ending after a line if possible.
fn beginning(reader: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    while bytes.len() < BEGINNING && memchr::memchr_iter(b'\n', &bytes).count() < LINES {
        let chunk = match reader.fill_buf() {
            Ok([]) => break,
            Ok(chunk) => &chunk[..chunk.len().min(BEGINNING)],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let length = chunk.len();
        bytes.extend_from_slice(chunk);
        reader.consume(length);
    }
    Ok(bytes)
}

fn kind(beginning: &[u8], format: &InputFormat) -> Kind {
    match format {
        InputFormat::Auto => guess(beginning),
        InputFormat::Combined => Kind::Log(combined(beginning)),
        InputFormat::NginxJson => Kind::NginxJson,
        InputFormat::Alb => Kind::Alb,
        InputFormat::Har => Kind::Har,
        InputFormat::Gor => Kind::Gor(gor::identity(beginning)),
        InputFormat::JsonLines => json_lines(beginning),
        InputFormat::Log(format) => Kind::Log(LogLines::new(format.clone())),
    }
}

fn guess(beginning: &[u8]) -> Kind {
    if gor::head(beginning).is_some() {
        return Kind::Gor(gor::identity(beginning));
    }
    for line in lines(beginning) {
        if nginx_json::is_one(line) {
            return Kind::NginxJson;
        }
        if alb::is_one(line) {
            return Kind::Alb;
        }
        if jsonl::is_json(line) && jsonl::parse(line, Position::First).is_some() {
            return json_lines(beginning);
        }
    }
    let text = beginning.strip_prefix("\u{feff}".as_bytes()).unwrap_or(beginning);
    match jsonl::is_json(text) {
        true if memchr::memmem::find(text, b"\"log\"").is_some() => Kind::Har,
        true => json_lines(beginning),
        false => Kind::Log(combined(beginning)),
    }
}

fn lines(beginning: &[u8]) -> impl Iterator<Item = &[u8]> {
    let lines = beginning.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    lines.filter(|line| !line.is_empty())
}

fn json_lines(beginning: &[u8]) -> Kind {
    let first = lines(beginning).next().and_then(|line| jsonl::parse(line, Position::First));
    Kind::JsonLines(match first {
        Some(Entry::Meta(meta)) => Some(meta),
        Some(Entry::Request(_)) | None => None,
    })
}

/// Common, combined, or combined with durations, as the first lines are. One that is cut or odd does not decide.
fn combined(beginning: &[u8]) -> LogLines {
    let mut format = LogFormat::combined();
    let (mut agents, mut timed) = (0_usize, 0_usize);
    for line in lines(beginning).take(LINES) {
        let mut seen = 0;
        let mut is_timed = false;
        let read = format.values(line, |field, value| {
            seen += 1;
            is_timed |= matches!(field, Field::Took(_)) && value.iter().all(u8::is_ascii_digit) && !value.is_empty();
            Some(())
        });
        agents += usize::from(read.is_some() && seen >= LogFormat::COMBINED);
        timed += usize::from(read.is_some() && is_timed);
    }
    match (agents, timed) {
        (0, _) => format.truncate(LogFormat::COMMON),
        // The last line of the beginning may be cut.
        (_, timed) if timed == 0 || timed + 1 < agents => format.truncate(LogFormat::COMBINED),
        _ => {}
    }
    LogLines::new(format)
}
