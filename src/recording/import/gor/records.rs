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
            // Whether another record begins here can be told once its first line is there; a blank end is none.
            let line = &behind[..behind.len().min(HEAD_MAX)];
            let is_open = memchr::memchr(b'\n', line).is_none() || line.trim_ascii().is_empty();
            if head(behind).is_some() || (self.is_at_end && is_open) {
                return Next::Record(at, SEPARATOR.len());
            }
            if !self.is_at_end && is_open && behind.len() < HEAD_MAX {
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

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use proptest::prelude::*;

    use super::*;

    fn all(input: &[u8], buffer: usize) -> Vec<(Option<String>, bool)> {
        let mut records = Records::new(BufReader::with_capacity(buffer, input));
        let mut all = Vec::new();
        while let Some(record) = records.next().unwrap() {
            all.push((record.bytes.map(|bytes| String::from_utf8_lossy(bytes).into_owned()), record.is_last));
        }
        assert_eq!(records.read(), all.len() as u64);
        all
    }

    fn joined(parts: &[&str]) -> Vec<u8> {
        parts.join(str::from_utf8(SEPARATOR).unwrap()).into_bytes()
    }

    #[test]
    fn a_separator_inside_of_a_body_is_no_end() {
        let input = joined(&["1 ab 1 0\nPOST", "x\ny", "1 zz 1\nno", "2 ab 2 0\nHTTP", ""]);
        let first = String::from_utf8(joined(&["1 ab 1 0\nPOST", "x\ny", "1 zz 1\nno"])).unwrap();
        for buffer in [1, 3, 7, 1_000] {
            assert_eq!(all(&input, buffer), [(Some(first.clone()), false), (Some("2 ab 2 0\nHTTP".into()), false)], "{buffer}");
        }
    }

    #[test]
    fn the_last_record_needs_no_separator() {
        let last = |input: &[u8]| all(input, 4).pop();
        assert_eq!(last(&joined(&["1 ab 1\nA", "1 cd 2\nB"])), Some((Some("1 cd 2\nB".into()), true)));
        assert_eq!(last(&joined(&["1 ab 1\nA", "1 cd"])), Some((None, true)));
        assert_eq!(last(&joined(&["1 ab 1\nA", "\n \n"])), Some((Some("1 ab 1\nA".into()), false)));
        assert_eq!(last(b""), None);
        assert_eq!(last(b"anything"), Some((None, true)));
    }

    #[test]
    fn a_record_without_end_is_passed_over_in_bounded_memory() {
        let mut input = b"1 ab 1 0\n".to_vec();
        input.resize(MAX_RECORD + (1 << 20), b'x');
        input.extend_from_slice(&joined(&["", "1 cd 2 0\nGET", ""]));
        let mut records = Records::new(BufReader::with_capacity(64 << 10, input.as_slice()));
        assert_eq!(records.next().unwrap().map(|record| (record.number, record.bytes)), Some((1, None)));
        assert_eq!(records.next().unwrap().and_then(|record| record.bytes), Some(b"1 cd 2 0\nGET".as_slice()));
        assert_eq!(records.next().unwrap(), None);
        assert!(records.buffer.capacity() <= 2 * MAX_RECORD + (128 << 10));
    }

    proptest! {
        #[test]
        fn every_way_of_reading_gives_the_same(
            parts in prop::collection::vec(prop::sample::select(vec!["1 ab 1 0\nA", "2 ab 1\n", "\n🐵🙈🙉\n", "x", "\n", "1 ab", "🐵", ""]), 0..12),
            buffer in 1..40_usize,
        ) {
            let input = parts.concat().into_bytes();
            prop_assert_eq!(all(&input, buffer), all(&input, 1 << 16));
        }
    }
}
