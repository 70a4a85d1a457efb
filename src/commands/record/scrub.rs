//! `tuningfork record scrub`: a recording in, the same without secrets out.

use std::fs::{self, OpenOptions};
use std::io::{self, BufRead, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use clap::Args;

use super::files::Draft;
use super::import::random_key;
use super::input::{lost, reader, unusable};
use super::output::Output;
use crate::commands::CommandError;
use crate::recording::{BodyPolicy, Reader, Request, Scrub, ScrubKey, Writer};

/// Hexadecimal digits of a key.
const DIGITS: usize = 32;

/// What is replaced and what is not, for `--help`.
pub(super) const REPLACED: &str = "\
What is replaced: client addresses; every header that is not on a list of harmless ones; values of fields in queries, forms and JSON \
whose name (token, email, …) or look (card, IBAN, …) gives them away; names of fields and cookies with such a look; users and \
passwords in URLs; keys of well-known services (AKIA…, ghp_…, xoxb-…, …) anywhere. A secret that neither gives away stays, and so does \
a token of less than 20 letters and digits in a path: look with `tuningfork \
record audit` and with your own eyes before you give a recording away.";

/// What to scrub, and with which key.
#[derive(Debug, Args)]
#[command(after_help = REPLACED)]
pub struct Options {
    /// The recording
    #[arg(value_name = "FILE")]
    input: PathBuf,
    #[command(flatten)]
    output: Output,
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
    let mut requests = reader(&options.input)?;
    let Some(first) = requests.next().map_err(unusable(&options.input))? else {
        // There is an error for every way of being empty.
        return requests.finish().map(|_| String::new()).map_err(unusable(&options.input));
    };
    let bodies = if options.bodies { BodyPolicy::Scrubbed } else { BodyPolicy::Dropped };
    let scrub = Scrub::new(key(options)?).with_bodies(bodies);
    let scrubbed = copy(first, requests, &scrub, options);
    if let (Err(_), Some(kept)) = (&scrubbed, &options.keep_key) {
        // A key to nothing.
        let _ = fs::remove_file(kept);
    }
    scrubbed
}

/// Copies every request, scrubbed, in constant memory.
fn copy(first: Request, mut requests: Reader<impl BufRead>, scrub: &Scrub, options: &Options) -> Result<String, CommandError> {
    let Options { input, output, .. } = options;
    let meta = scrub.meta(requests.meta().clone());
    let mut writer = Writer::new(output.draft([input.as_path()])?, &meta).map_err(|source| output.failed(source))?;
    let (mut next, mut count) = (Some(first), 0_u64);
    while let Some(mut request) = next {
        scrub.request(&mut request);
        request.connection = request.connection.map(|name| scrub.client(name.as_bytes()));
        writer.write(&request).map_err(|source| output.failed(source))?;
        count += 1;
        next = requests.next().map_err(unusable(input))?;
    }
    let (_, broken) = requests.finish().map_err(unusable(input))?;
    writer.finish().and_then(Draft::finish).map_err(|source| output.failed(source))?;
    let lost = lost(&broken).map_or_else(String::new, |lost| format!(", {lost}"));
    Ok(format!("{count} requests scrubbed{lost}"))
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
