//! Where a command writes, and copying a part of a recording there.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use clap::Args;

use super::super::CommandError;
use super::files::{Draft, Packing, is_same, is_standard};
use super::input::{lost, name, reader, unusable};
use crate::recording::{Choice, Request, Writer};

/// Whether a command ended because whoever reads its standard output wants no more of it, as `head` does: no failure.
pub(super) fn is_unread(error: &CommandError) -> bool {
    matches!(error, CommandError::CannotCreate { path, source } if is_standard(path) && source.kind() == ErrorKind::BrokenPipe)
}

/// Where to write.
#[derive(Clone, Debug, Args)]
pub(super) struct Output {
    /// The file to write; one whose name ends in .zst is compressed
    #[arg(short = 'o', long = "output", value_name = "FILE", default_value = "-")]
    pub(super) path: PathBuf,
    /// Compress it with zstd whatever its name
    #[arg(long)]
    pub(super) zstd: bool,
}

impl Output {
    /// A draft of it. None may take the place of an input.
    pub(super) fn draft<'a>(&self, inputs: impl IntoIterator<Item = &'a Path>) -> Result<Draft, CommandError> {
        if inputs.into_iter().any(|input| is_same(input, &self.path)) {
            let source = std::io::Error::other("it is an input too: name another output");
            return Err(CommandError::CannotCreate { path: self.path.clone(), source });
        }
        let packing = if self.zstd { Packing::Zstd } else { Packing::of(&self.path) };
        Draft::new(&self.path, packing).map_err(|source| self.failed(source))
    }

    /// An error in writing it.
    pub(super) fn failed(&self, source: std::io::Error) -> CommandError {
        CommandError::CannotCreate { path: self.path.clone(), source }
    }

    /// Copies the requests that `judge` keeps, in the order of the file, and tells how many they are. There is no output if there are
    /// none.
    pub(super) fn copy(&self, input: &Path, mut judge: impl FnMut(&Request) -> Choice) -> Result<String, CommandError> {
        let mut requests = reader(input)?;
        let mut writer = Writer::new(self.draft([input])?, requests.meta()).map_err(|source| self.failed(source))?;
        let (mut kept, mut read) = (0_u64, 0_u64);
        while let Some(request) = requests.next().map_err(unusable(input))? {
            match judge(&request) {
                Choice::Keep => {
                    writer.write(&request).map_err(|source| self.failed(source))?;
                    kept += 1;
                }
                Choice::Drop => {}
                Choice::Stop => break,
            }
            read += 1;
        }
        let (_, broken) = requests.finish().map_err(unusable(input))?;
        if kept == 0 {
            let source = std::io::Error::other(format!("none of its {read} requests is meant; nothing is written"));
            return Err(CommandError::Unreadable { path: name(input).into(), source });
        }
        writer.finish().and_then(Draft::finish).map_err(|source| self.failed(source))?;
        let lost = lost(&broken).map_or_else(String::new, |lost| format!("\n{}: {lost}", name(input)));
        Ok(format!("kept {kept} of {read} requests{lost}"))
    }
}
