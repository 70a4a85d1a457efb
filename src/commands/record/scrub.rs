//! `tuningfork record scrub`: a recording in, the same without secrets out.

use std::fs::{self, OpenOptions};
use std::io::{self, BufRead, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use clap::Args;

use super::files::{self, is_same, open};
use super::import::random_key;
use crate::commands::CommandError;
use crate::recording::{BodyPolicy, Broken, Reader, RecordingError, Request, Scrub, ScrubKey, Writer};

/// Hexadecimal digits of a key.
const DIGITS: usize = 32;

/// What is replaced and what is not, for `--help`.
pub(super) const REPLACED: &str = "\
What is replaced: client addresses; every header that is not on a list of harmless ones; values of fields in queries, forms and JSON \
whose name (token, email, …) or look (card, IBAN, …) gives them away; names of fields and cookies with such a look; users and \
passwords in URLs; keys of well-known services (AKIA…, ghp_…, xoxb-…, …) anywhere. A secret that neither gives away stays: look with `tuningfork \
record audit` and with your own eyes before you give a recording away.";

/// What to scrub, and with which key.
#[derive(Debug, Args)]
#[command(after_help = REPLACED)]
pub struct Options {
    /// The recording
    #[arg(value_name = "FILE")]
    input: PathBuf,
    /// The recording to write
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    output: PathBuf,
    /// Write the key to a new file, to scrub other recordings with it: equal then stays equal between them
    ///
    /// Who has the key can test a guess, so it is readable by you only. Delete it when it has done its work.
    #[arg(long, value_name = "FILE", conflicts_with = "key")]
    keep_key: Option<PathBuf>,
    /// Use the key of an earlier scrub
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Keep bodies: forms and JSON without their secrets, of others the length only
    #[arg(long)]
    bodies: bool,
}

/// Scrubs, and returns what to tell the user.
pub(super) fn scrub(options: &Options) -> Result<String, CommandError> {
    if is_same(&options.input, &options.output) {
        let source = io::Error::new(io::ErrorKind::AlreadyExists, "is the recording itself: name another output");
        return Err(CommandError::CannotCreate { path: options.output.clone(), source });
    }
    let input = open(&options.input).map_err(unreadable(&options.input))?;
    let bodies = if options.bodies { BodyPolicy::Scrubbed } else { BodyPolicy::Dropped };
    let mut reader = Reader::new(input).map_err(unusable(&options.input))?;
    let Some(first) = reader.next().map_err(unusable(&options.input))? else {
        // There is an error for every way of being empty.
        return reader.finish().map(|_| report(0, &Broken::default())).map_err(unusable(&options.input));
    };
    let scrub = Scrub::new(key(options)?).with_bodies(bodies);
    let copied = copy(first, &mut reader, &scrub, &options.output)
        .and_then(|requests| reader.finish().map(|(_, broken)| report(requests, &broken)).map_err(Failure::Input));
    copied.map_err(|failure| {
        // A key to nothing.
        if let Some(kept) = &options.keep_key {
            let _ = fs::remove_file(kept);
        }
        match failure {
            Failure::Input(source) => unusable(&options.input)(source),
            Failure::Output(source) => CommandError::CannotCreate { path: options.output.clone(), source },
        }
    })
}

/// Which end of the copy failed.
enum Failure {
    Input(RecordingError),
    Output(io::Error),
}

/// Copies every request, scrubbed, in constant memory.
fn copy(first: Request, reader: &mut Reader<impl BufRead>, scrub: &Scrub, output: &Path) -> Result<u64, Failure> {
    let (mut requests, mut unreadable) = (0, None);
    let written = files::write(output, |file| {
        let mut writer = Writer::new(file, &scrub.meta(reader.meta().clone()))?;
        let mut next = Some(first);
        while let Some(mut request) = next {
            scrub.request(&mut request);
            request.connection = request.connection.map(|name| scrub.client(name.as_bytes()));
            writer.write(&request)?;
            requests += 1;
            next = match reader.next() {
                Ok(next) => next,
                Err(error) => {
                    unreadable = Some(error);
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            };
        }
        writer.finish().map(|_| ())
    });
    match (unreadable, written) {
        (Some(error), _) => Err(Failure::Input(error)),
        (None, Err(error)) => Err(Failure::Output(error)),
        (None, Ok(())) => Ok(requests),
    }
}

fn report(requests: u64, broken: &Broken) -> String {
    let lines = if broken.count > 0 { format!(", {} broken lines left out", broken.count) } else { String::new() };
    let torn = if broken.torn { ", the last line is cut off and left out" } else { "" };
    format!("{requests} requests scrubbed{lines}{torn}")
}

fn key(options: &Options) -> Result<ScrubKey, CommandError> {
    if let Some(path) = &options.key {
        return read_key(path).map_err(unreadable(path));
    }
    let key = random_key().map_err(CommandError::system("no random key from the system"))?;
    if let Some(path) = &options.keep_key {
        keep_key(path, key).map_err(|source| CommandError::CannotCreate { path: path.clone(), source })?;
    }
    Ok(key)
}

/// Never takes the place of another file: it could be a key in use.
fn keep_key(path: &Path, ScrubKey(key): ScrubKey) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{:032x}", u128::from_be_bytes(key))?;
    file.sync_all()
}

fn read_key(path: &Path) -> io::Result<ScrubKey> {
    let refuse = |why| Err(io::Error::new(io::ErrorKind::InvalidData, why));
    let file = OpenOptions::new().read(true).open(path)?;
    if file.metadata()?.mode() & 0o077 != 0 {
        return refuse("others may read this key: `chmod 600` it");
    }
    let mut text = String::new();
    file.take(DIGITS as u64 + 2).read_to_string(&mut text)?;
    let digits = text.trim_end();
    match u128::from_str_radix(digits, 16) {
        Ok(key) if digits.len() == DIGITS && !digits.starts_with('+') => Ok(ScrubKey(key.to_be_bytes())),
        Ok(_) | Err(_) => refuse("not a key that --keep-key wrote"),
    }
}

fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> CommandError {
    move |source| CommandError::Unreadable { path: path.to_owned(), source }
}

fn unusable(path: &Path) -> impl FnOnce(RecordingError) -> CommandError {
    move |source| CommandError::Recording { name: path.display().to_string(), source }
}
