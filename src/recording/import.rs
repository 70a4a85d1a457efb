//! Makes a recording of logs and captures of any format, in constant memory: finds out what an input is, scrubs every request, rebuilds
//! the times of arrival, and writes each request as soon as no earlier one is to be expected. Refuses inputs without any request.

mod absolute;
mod alb;
mod arrival;
mod detect;
mod gor;
mod har;
mod log_format;
mod log_line;
mod nginx_json;
mod outlet;
mod provenance;
mod reorder;
mod seconds;
mod sessions;

use std::io::{self, BufRead, Write};

use super::scrub::Scrub;
use super::text::lines::{Ending, Lines};
use super::{Broken, Meta, Reader, RecordingError};
use arrival::{Arrival, Found};
use detect::Kind;
pub use detect::{Input, InputFormat};
pub use gor::MAX_RECORD;
use gor::{Gor, Records};
pub use har::MAX_HAR;
pub use log_format::{LogFormat, LogFormatError};
pub use nginx_json::NGINX_LOG_FORMAT;
use outlet::Outlet;

/// What the spread of whole seconds depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JitterSeed(pub u64);

/// Why an import failed.
#[derive(Debug, thiserror::Error)]
pub enum ImportFailure {
    /// An input cannot be read.
    #[error(transparent)]
    Input(#[from] RecordingError),
    /// The recording cannot be written.
    #[error("{0}")]
    Output(io::Error),
    /// A HAR document is beyond [`MAX_HAR`].
    #[error("more than {} MiB: HAR documents are read whole; split it", har::MAX_HAR >> 20)]
    LargeHar,
    /// A HAR document is none.
    #[error("not a HAR document: {0}")]
    Har(String),
    /// There was no request in any input.
    #[error("no usable request in {0} lines: if the format is not the one that was seen, name it with --format or --log-format")]
    Nothing(u64),
}

/// What became of one input.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InputReport {
    /// What it was: [`Meta::source`].
    pub source: String,
    /// Requests it gave.
    pub requests: u64,
    /// Lines (records, entries) that tell of a connection without a request.
    pub without_request: u64,
    /// Those that could not be used.
    pub broken: Broken,
}

/// What an import made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported<W> {
    /// Where it was written to.
    pub output: W,
    /// Requests in the recording.
    pub requests: u64,
    /// How many of them stand behind later ones, since they came too late to find their place.
    pub out_of_order: u64,
}

/// Writes the requests of one input after another as one recording.
pub struct Importer<W: Write> {
    scrub: Scrub,
    meta: Meta,
    outlet: Outlet<W>,
    requests: u64,
    lines: u64,
}

/// Imports one input: everything that [`Importer`] does, for callers with only one.
pub fn import<W: Write>(
    input: impl BufRead,
    format: &InputFormat,
    output: W,
    scrub: Scrub,
    seed: JitterSeed,
) -> Result<(InputReport, Imported<W>), ImportFailure> {
    let input = Input::new(input, format)?;
    let mut importer = Importer::new(output, input.meta(), scrub, seed);
    let report = importer.read(input)?;
    Ok((report, importer.finish()?))
}

impl<R> Input<R> {
    /// What it knows of its requests, before they are scrubbed.
    pub fn meta(&self) -> Meta {
        provenance::of(&self.kind)
    }
}

impl<W: Write> Importer<W> {
    /// An importer that writes to `output`, where the first line will be what becomes of the inputs' `meta` by the scrub.
    #[must_use]
    pub fn new(output: W, meta: Meta, scrub: Scrub, seed: JitterSeed) -> Self {
        let meta = scrub.meta(meta);
        Self { scrub, meta: meta.clone(), outlet: Outlet::new(output, meta, seed), requests: 0, lines: 0 }
    }

    /// What the recording says about itself.
    pub const fn meta(&self) -> &Meta {
        &self.meta
    }

    /// Reads one input to its end.
    pub fn read<R: BufRead>(&mut self, input: Input<R>) -> Result<InputReport, ImportFailure> {
        self.outlet.begin_input();
        let source = self.scrub.meta(input.meta()).source.unwrap_or_default();
        let mut report = InputReport { source, ..InputReport::default() };
        let lines = match input.kind {
            Kind::Log(mut lines) => self.read_lines(input.reader, &mut report, |line, scrub| lines.read(line, scrub))?,
            Kind::NginxJson => self.read_lines(input.reader, &mut report, nginx_json::read)?,
            Kind::Alb => self.read_lines(input.reader, &mut report, alb::read)?,
            Kind::Har => self.read_har(input.reader, &mut report)?,
            Kind::Gor(identity) => self.read_gor(input.reader, Gor::new(identity), &mut report)?,
            Kind::JsonLines(_) => self.read_recording(input.reader, &mut report)?,
        };
        self.requests += report.requests;
        self.lines += lines;
        Ok(report)
    }

    /// Writes what still waits for earlier requests.
    pub fn finish(self) -> Result<Imported<W>, ImportFailure> {
        match (self.requests, self.lines) {
            (0, 0) => return Err(RecordingError::Empty.into()),
            (0, lines) => return Err(ImportFailure::Nothing(lines)),
            (1.., _) => {}
        }
        let (output, requests, out_of_order) = self.outlet.finish().map_err(ImportFailure::Output)?;
        Ok(Imported { output, requests, out_of_order })
    }

    fn read_lines(
        &mut self,
        reader: impl BufRead,
        report: &mut InputReport,
        mut read: impl FnMut(&[u8], &Scrub) -> Found,
    ) -> Result<u64, ImportFailure> {
        let mut lines = Lines::new(reader);
        loop {
            let number = lines.read() + 1;
            let Some(line) = lines.next().map_err(|source| RecordingError::Read { line: number, source })? else {
                return Ok(lines.read());
            };
            match line.text.map(|text| if text.trim_ascii().is_empty() { None } else { Some(read(text, &self.scrub)) }) {
                Some(None) => {}
                Some(Some(Found::Request(arrival))) => self.take(arrival, report)?,
                Some(Some(Found::NoRequest)) => report.without_request += 1,
                Some(Some(Found::Broken)) | None => report.broken.add(line.number, line.ending),
            }
        }
    }

    fn read_gor(&mut self, reader: impl BufRead, mut gor: Gor, report: &mut InputReport) -> Result<u64, ImportFailure> {
        let mut records = Records::new(reader);
        loop {
            let number = records.read() + 1;
            let Some(record) = records.next().map_err(|source| RecordingError::Read { line: number, source })? else { break };
            let ending = if record.is_last { Ending::Torn } else { Ending::Whole };
            match record.bytes.and_then(|bytes| gor.take(bytes, &self.scrub)) {
                Some(strays) => (0..strays).for_each(|_| report.broken.add(number, Ending::Whole)),
                None => report.broken.add(number, ending),
            }
            while let Some(arrival) = gor.next() {
                self.take(arrival, report)?;
            }
        }
        while let Some(arrival) = gor.next_at_end() {
            self.take(arrival, report)?;
        }
        Ok(records.read())
    }

    fn read_har(&mut self, reader: impl BufRead, report: &mut InputReport) -> Result<u64, ImportFailure> {
        let mut number = 0;
        let mut arrivals: Vec<Arrival> = Vec::new();
        let end = har::read(reader, har::MAX_HAR, |entry| {
            number += 1;
            match har::entry(entry, &self.scrub) {
                Found::Request(arrival) => arrivals.push(arrival),
                Found::NoRequest => report.without_request += 1,
                Found::Broken => report.broken.add(number, Ending::Whole),
            }
        });
        match end.map_err(|source| RecordingError::Read { line: 1, source })? {
            har::End::Whole => {}
            har::End::Torn if number == 0 => return Err(ImportFailure::Har("it ends before its first entry".to_owned())),
            har::End::Torn => report.broken.torn = true,
            har::End::Wrong(reason) => return Err(ImportFailure::Har(reason)),
            har::End::TooLarge => return Err(ImportFailure::LargeHar),
        }
        arrivals.sort_by_key(|arrival| arrival.request.at);
        for arrival in arrivals {
            self.take(arrival, report)?;
        }
        // Without entries it is a document still, and no empty file.
        Ok(number.max(1))
    }

    fn read_recording(&mut self, reader: impl BufRead, report: &mut InputReport) -> Result<u64, ImportFailure> {
        let mut reader = Reader::new(reader)?;
        let mut lines = 0;
        while let Some(mut request) = reader.next()? {
            // Whatever wrote it: digits may be the number of a telephone or an account.
            request.connection = request.connection.map(|name| self.scrub.client(name.as_bytes()));
            self.take(arrival::recorded(request), report)?;
            lines += 1;
        }
        match reader.finish() {
            Ok((_, broken)) => report.broken = broken,
            Err(RecordingError::Empty | RecordingError::NothingUsable { .. } | RecordingError::NotJsonLines) => lines += 1,
            Err(error) => return Err(error.into()),
        }
        Ok(lines)
    }

    fn take(&mut self, mut arrival: Arrival, report: &mut InputReport) -> Result<(), ImportFailure> {
        self.scrub.request(&mut arrival.request);
        report.requests += 1;
        self.outlet.take(arrival).map_err(ImportFailure::Output)
    }
}

#[cfg(test)]
mod tests;
