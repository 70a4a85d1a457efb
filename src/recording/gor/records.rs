//! Cuts a GoReplay file at its separators, in memory for one record, and joins what a separator inside of a body cut apart.

use std::io::{self, BufRead};

use memchr::memmem::Finder;

use super::{HEAD_MAX, head};

/// Stands between two records.
pub(in crate::recording) const SEPARATOR: &[u8] = "\n🐵🙈🙉\n".as_bytes();
/// The largest record, bytes. A larger one counts as broken.
pub const MAX_RECORD: usize = 16 << 20;

/// One record of the file.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::recording) struct Record<'a> {
    /// Counts from 1.
    pub(in crate::recording) number: u64,
    /// `None` if it is longer than [`MAX_RECORD`] or begins with no header.
    pub(in crate::recording) bytes: Option<&'a [u8]>,
    /// Whether the file ends before a separator.
    pub(in crate::recording) is_last: bool,
}

/// The records of `input`.
#[derive(Debug)]
pub(in crate::recording) struct Records<R> {
    input: R,
    separator: Finder<'static>,
    /// What was read and not yet given; begins where the next record does.
    buffer: Vec<u8>,
    /// Where in it the next record begins.
    start: usize,
    /// How much behind that is known to hold no separator that ends the record.
    searched: usize,
    /// Whether the record is too long, so that its beginning is gone.
    is_too_long: bool,
    is_at_end: bool,
    number: u64,
}

/// What stands at the start of the buffer.
enum Next {
    /// A record of so many bytes, and so many of a separator.
    Record(usize, usize),
    /// More must be read.
    Unknown,
}

impl<R: BufRead> Records<R> {
    pub(in crate::recording) fn new(input: R) -> Self {
        Self {
            input,
            separator: Finder::new(SEPARATOR),
            buffer: Vec::new(),
            start: 0,
            searched: 0,
            is_too_long: false,
            is_at_end: false,
            number: 0,
        }
    }

    /// How many were read.
    pub(in crate::recording) fn read(&self) -> u64 {
        self.number
    }

    /// The next record, or `None` at the end.
    pub(in crate::recording) fn next(&mut self) -> io::Result<Option<Record<'_>>> {
        loop {
            match self.look() {
                Next::Record(0, 0) => return Ok(None),
                Next::Record(length, separator) => {
                    let from = self.start;
                    self.start += length + separator;
                    self.searched = 0;
                    self.number += 1;
                    let bytes = &self.buffer[from..from + length];
                    let usable = !std::mem::take(&mut self.is_too_long) && head(bytes).is_some();
                    let is_last = separator == 0;
                    return Ok(Some(Record { number: self.number, bytes: usable.then_some(bytes), is_last }));
                }
                Next::Unknown => self.fill()?,
            }
        }
    }

    fn look(&mut self) -> Next {
        loop {
            let held = &self.buffer[self.start..];
            let Some(at) = self.separator.find(&held[self.searched..]).map(|at| at + self.searched) else {
                self.searched = self.searched.max(held.len().saturating_sub(SEPARATOR.len() - 1));
                let is_blank = self.is_at_end && held.trim_ascii().is_empty();
                let length = if is_blank { 0 } else { held.len() };
                return if self.is_at_end { Next::Record(length, 0) } else { Next::Unknown };
            };
            let behind = &held[at + SEPARATOR.len()..];
            let is_line = memchr::memchr(b'\n', &behind[..behind.len().min(HEAD_MAX)]).is_some();
            if head(behind).is_some() || (self.is_at_end && !is_line) {
                return Next::Record(at, SEPARATOR.len());
            }
            // Whether another record begins here can be told once its first line is there.
            if !self.is_at_end && !is_line && behind.len() < HEAD_MAX {
                self.searched = at;
                return Next::Unknown;
            }
            self.searched = at + SEPARATOR.len();
        }
    }

    /// Reads more, and lets go of what is not needed.
    fn fill(&mut self) -> io::Result<()> {
        if self.buffer.len() - self.start > MAX_RECORD {
            self.is_too_long = true;
            self.start += self.searched;
            self.searched = 0;
        }
        self.buffer.drain(..self.start);
        self.start = 0;
        let chunk = loop {
            match self.input.fill_buf() {
                Ok(chunk) => break chunk,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        };
        let length = chunk.len();
        self.is_at_end = length == 0;
        self.buffer.extend_from_slice(chunk);
        self.input.consume(length);
        Ok(())
    }
}
