//! `tuningfork man`: the manual pages, made of the same descriptions as `--help`, so that the two cannot disagree.

use std::fs;
use std::path::PathBuf;

use clap::{Args, Command};

use super::CommandError;

/// Where the pages go.
#[derive(Args, Debug)]
pub struct Options {
    /// The folder to write tuningfork.1, tuningfork-run.1 and so on into; made if it does not exist
    #[arg(value_name = "FOLDER")]
    folder: PathBuf,
}

/// Writes a page for `program` and one for each of its subcommands.
pub fn man(options: &Options, program: Command) -> Result<(), CommandError> {
    let written = fs::create_dir_all(&options.folder).and_then(|()| clap_mangen::generate_to(program, &options.folder));
    written.map_err(|source| CommandError::CannotCreate { path: options.folder.clone(), source })
}
