//! Lines of a reader, numbered, in one reused buffer. A line beyond [`MAX_LINE`] is passed over without being kept.

use std::io::{self, BufRead};

/// The longest line that is read, bytes; a longer one counts as broken.
pub const MAX_LINE: usize = 1 << 20;

/// How a line ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::recording) enum Ending {
    /// With a line feed.
    Whole,
    /// With the input: if it cannot be used, the writer was interrupted.
    Torn,
}

/// One line of the input.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::recording) struct Line<'a> {
    /// Counts from 1.
    pub(in crate::recording) number: u64,
    /// Without its line feed and carriage return; `None` if it is longer than [`MAX_LINE`].
    pub(in crate::recording) text: Option<&'a [u8]>,
    /// How it ends.
    pub(in crate::recording) ending: Ending,
}

/// The lines of `input`.
#[derive(Debug)]
pub(in crate::recording) struct Lines<R> {
    input: R,
    buffer: Vec<u8>,
    number: u64,
}

impl<R: BufRead> Lines<R> {
    pub(in crate::recording) fn new(input: R) -> Self {
        Self { input, buffer: Vec::new(), number: 0 }
    }

    /// How many lines were read.
    pub(in crate::recording) fn read(&self) -> u64 {
        self.number
    }

    /// The next line, or `None` at the end. Every call consumes input or ends.
    pub(in crate::recording) fn next(&mut self) -> io::Result<Option<Line<'_>>> {
        self.buffer.clear();
        let mut seen = 0_usize;
        loop {
            let chunk = match self.input.fill_buf() {
                Ok(chunk) => chunk,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if chunk.is_empty() {
                if seen == 0 {
                    return Ok(None);
                }
                return Ok(Some(self.line(seen, Ending::Torn)));
            }
            let feed = memchr::memchr(b'\n', chunk);
            let taken = feed.unwrap_or(chunk.len());
            seen = seen.saturating_add(taken);
            if seen <= MAX_LINE {
                self.buffer.extend_from_slice(&chunk[..taken]);
            }
            let consumed = taken + usize::from(feed.is_some());
            self.input.consume(consumed);
            if feed.is_some() {
                return Ok(Some(self.line(seen, Ending::Whole)));
            }
        }
    }

    fn line(&mut self, seen: usize, ending: Ending) -> Line<'_> {
        self.number += 1;
        let text = self.buffer.strip_suffix(b"\r").unwrap_or(&self.buffer);
        Line { number: self.number, text: (seen <= MAX_LINE).then_some(text), ending }
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    fn all(input: &[u8], buffer: usize) -> Vec<(u64, Option<Vec<u8>>, Ending)> {
        let mut lines = Lines::new(BufReader::with_capacity(buffer, input));
        let mut all = Vec::new();
        while let Some(line) = lines.next().unwrap() {
            all.push((line.number, line.text.map(<[u8]>::to_vec), line.ending));
        }
        all
    }

    #[test]
    fn lines_do_not_depend_on_the_readers_buffer() {
        for buffer in [1, 2, 3, 100] {
            assert_eq!(
                all(b"one\r\n\ntwo", buffer),
                [
                    (1, Some(b"one".to_vec()), Ending::Whole),
                    (2, Some(Vec::new()), Ending::Whole),
                    (3, Some(b"two".to_vec()), Ending::Torn),
                ]
            );
        }
    }

    #[test]
    fn an_endless_line_is_passed_over_in_bounded_memory() {
        let mut input = vec![b'x'; MAX_LINE + 1];
        input.extend_from_slice(b"\nnext\n");
        let mut lines = Lines::new(BufReader::new(input.as_slice()));
        assert_eq!(lines.next().unwrap(), Some(Line { number: 1, text: None, ending: Ending::Whole }));
        assert_eq!(lines.next().unwrap(), Some(Line { number: 2, text: Some(b"next"), ending: Ending::Whole }));
        assert!(lines.buffer.capacity() <= 2 * MAX_LINE);
    }
}
