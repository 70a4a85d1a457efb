//! Looks for secrets in a recording as the scrub does, and believes only what it sees: not that the recording calls itself
//! scrubbed, but the seal that replacements carry. What is too short for a seal it counts, and does not judge. Never shows a
//! secret. Refuses what is no recording.

use std::collections::BTreeMap;
use std::io::BufRead;

use super::jsonl::Reader;
use super::scrub::{self, Content, Found, Seal, Secret, merge, seal_of};
use super::{Broken, RecordingError, Request};

/// How many lines are named for each kind of secret.
const LINES: usize = 3;

/// What a recording holds that it should not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Audit {
    /// How the recording says it was scrubbed.
    pub policy: Option<String>,
    /// How many requests were looked at.
    pub requests: u64,
    /// The secrets, by kind; a kind that was not found is not in it.
    pub secrets: BTreeMap<Secret, Sightings>,
    /// Values where secrets are, with so few letters and digits that replaced and unreplaced ones look alike.
    pub too_short_to_tell: Sightings,
    /// The lines that could not be looked at.
    pub broken: Broken,
}

/// How often, and where, one kind of secret was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sightings {
    /// How often.
    pub count: u64,
    /// The first lines it is on, at most three; lines count from 1.
    pub lines: Vec<u64>,
}

impl Sightings {
    fn add(&mut self, line: u64) {
        self.count += 1;
        if self.lines.len() < LINES && self.lines.last() != Some(&line) {
            self.lines.push(line);
        }
    }
}

impl Audit {
    /// Whether every line could be read, and no secret was found among what can be told.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.secrets.is_empty() && self.broken == Broken::default()
    }

    fn look_at(&mut self, request: &Request, line: u64) {
        self.requests += 1;
        let content = Content::of(request);
        self.look(line, request.target.as_str().as_bytes(), scrub::target);
        for header in &request.headers {
            self.look(line, header.value().as_bytes(), |value, found| scrub::header(header.name(), value, found));
        }
        self.look(line, &request.body, |text, found| scrub::body(text, content, found));
        self.look(line, request.connection.as_deref().unwrap_or_default().as_bytes(), scrub::connection);
    }

    fn look(&mut self, line: u64, text: &[u8], find: impl Fn(&[u8], &mut Vec<Found>)) {
        let mut found = Vec::new();
        find(text, &mut found);
        merge(&mut found);
        for one in found {
            match seal_of(&text[one.range], one.coding) {
                Seal::Carried => {}
                Seal::Missing => self.secrets.entry(one.secret).or_default().add(line),
                Seal::TooShort => self.too_short_to_tell.add(line),
            }
        }
    }
}

/// Looks through a recording, in constant memory.
pub fn audit(input: impl BufRead) -> Result<Audit, RecordingError> {
    let mut reader = Reader::new(input)?;
    let mut audit = Audit::default();
    for said in reader.meta().clone().texts() {
        audit.look(reader.line(), said.as_bytes(), scrub::words);
    }
    while let Some(request) = reader.next()? {
        audit.look_at(&request, reader.line());
    }
    let (meta, broken) = reader.finish()?;
    Ok(Audit { policy: meta.scrub, broken, ..audit })
}
