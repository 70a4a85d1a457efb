//! The files that a replay writes. They are made before it and filled after it.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::{Options, ReplayError, bodies};
use crate::commands::CommandError;
use crate::commands::record::files::{Draft, Packing, is_same, is_standard};
use crate::commands::replay_output::{Replayed, hdr, html, summary};
use crate::replay::Plan;

/// Files to be written.
pub(super) struct Outputs {
    json: Option<Output>,
    html: Option<Output>,
    hdr: Option<Output>,
    bodies: Option<Output>,
}

/// One of them.
struct Output {
    path: PathBuf,
    draft: Draft,
}

impl Outputs {
    /// Refuses what cannot be written before anything is sent.
    pub(super) fn prepare(options: &Options) -> Result<Self, CommandError> {
        refuse_overwriting(options)?;
        let output = |path: &Option<PathBuf>| path.as_deref().map(Output::new).transpose();
        Ok(Self {
            json: output(&options.json)?,
            html: output(&options.html)?,
            hdr: output(&options.hdr)?,
            bodies: output(&options.save_bodies)?,
        })
    }

    /// Whether one of them is standard output, which then has no place for the report as text.
    pub(super) fn use_stdout(&self) -> bool {
        [&self.json, &self.html, &self.hdr, &self.bodies].into_iter().flatten().any(|output| is_standard(&output.path))
    }

    /// Fills them all.
    pub(super) fn write(self, replayed: &Replayed, plan: &Plan) -> Result<(), CommandError> {
        if let Some(json) = self.json {
            json.fill(|output| {
                serde_json::to_writer_pretty(&mut *output, &summary(replayed))?;
                output.write_all(b"\n")
            })?;
        }
        if let Some(page) = self.html {
            page.fill(|output| output.write_all(html(replayed).as_bytes()))?;
        }
        if let Some(log) = self.hdr {
            log.fill(|output| hdr(replayed, output))?;
        }
        if let Some(saved) = self.bodies {
            let hashes = bodies::of(&replayed.played.bodies, plan);
            saved.fill(|output| Ok(serde_json::to_writer(output, &hashes)?))?;
        }
        Ok(())
    }
}

/// No output may be what is read, or another output.
fn refuse_overwriting(options: &Options) -> Result<(), ReplayError> {
    let outputs = [&options.json, &options.html, &options.hdr, &options.save_bodies];
    let mut taken: Vec<&PathBuf> = [&options.recording].into_iter().chain(&options.baseline).collect();
    for output in outputs.into_iter().flatten() {
        if taken.iter().any(|other| *other == output || is_same(other, output)) {
            return Err(ReplayError::Overwrites(output.clone()));
        }
        taken.push(output);
    }
    Ok(())
}

impl Output {
    fn new(path: &Path) -> Result<Self, CommandError> {
        let draft = Draft::new(path, Packing::Plain).map_err(cannot_create(path))?;
        Ok(Self { path: path.to_owned(), draft })
    }

    fn fill(self, fill: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> Result<(), CommandError> {
        let Self { path, mut draft } = self;
        fill(&mut draft).and_then(|()| draft.finish()).map_err(cannot_create(&path))
    }
}

fn cannot_create(path: &Path) -> impl FnOnce(io::Error) -> CommandError {
    move |source| CommandError::CannotCreate { path: path.to_owned(), source }
}
