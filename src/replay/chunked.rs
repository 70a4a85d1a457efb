//! The chunked transfer coding (RFC 9112, 7.1), fed in pieces of any size. Strict about line ends, bounded in extensions and trailers.

use super::framing::{FramingError, Witness};

/// The most bytes of chunk extensions and trailers in one response.
const MAX_EXTRAS: u32 = 16 << 10;

/// How far a chunked body has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Chunked {
    state: State,
    extras: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In the digits of a size; the number of digits tells an absent size from zero.
    Size {
        size: u64,
        digits: u8,
    },
    /// Behind the size, before its line ends.
    Extension {
        size: u64,
    },
    /// Behind the carriage return of the size's line.
    SizeEnd {
        size: u64,
    },
    Data {
        left: u64,
    },
    DataReturn,
    DataEnd,
    /// At the start of a trailer line.
    TrailerStart,
    Trailer,
    /// Behind a trailer line's carriage return.
    TrailerEnd,
    /// Behind the carriage return of the empty line.
    LastEnd,
}

/// What a piece of input did.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fed {
    pub(super) consumed: usize,
    /// Bytes of content among them.
    pub(super) content: u64,
    pub(super) finished: bool,
}

impl Chunked {
    pub(super) const START: Self = Self { state: State::Size { size: 0, digits: 0 }, extras: 0 };

    /// Takes as much of `input` as belongs to the body.
    pub(super) fn feed(&mut self, input: &[u8], witness: &mut impl Witness) -> Result<Fed, FramingError> {
        let mut consumed = 0;
        let mut content = 0;
        while let Some(byte) = input.get(consumed) {
            if let State::Data { left } = self.state {
                let available = (input.len() - consumed) as u64;
                let taken = left.min(available);
                content += taken;
                let to = consumed + usize::try_from(taken).unwrap_or(input.len() - consumed);
                witness.content(&input[consumed..to]);
                consumed = to;
                self.state = if taken == left { State::DataReturn } else { State::Data { left: left - taken } };
                continue;
            }
            consumed += 1;
            if self.state == State::LastEnd && *byte == b'\n' {
                return Ok(Fed { consumed, content, finished: true });
            }
            self.state = self.step(*byte).ok_or(FramingError::Chunk)?;
            if self.extras > MAX_EXTRAS {
                return Err(FramingError::Chunk);
            }
        }
        Ok(Fed { consumed, content, finished: false })
    }

    fn step(&mut self, byte: u8) -> Option<State> {
        match (self.state, byte) {
            (State::Size { size, digits }, _) if byte.is_ascii_hexdigit() => {
                let digit = char::from(byte).to_digit(16)?;
                let size = size.checked_mul(16)?.checked_add(u64::from(digit))?;
                Some(State::Size { size, digits: digits.checked_add(1)? })
            }
            (State::Size { digits: 0, .. }, _) => None,
            (State::Size { size, .. } | State::Extension { size }, b'\r') => Some(State::SizeEnd { size }),
            (State::Size { size, .. }, b';' | b' ' | b'\t') => Some(State::Extension { size }),
            (State::Extension { size }, _) if byte != b'\n' => {
                self.extras += 1;
                Some(State::Extension { size })
            }
            (State::SizeEnd { size: 0 } | State::TrailerEnd, b'\n') => Some(State::TrailerStart),
            (State::SizeEnd { size }, b'\n') => Some(State::Data { left: size }),
            (State::DataReturn, b'\r') => Some(State::DataEnd),
            (State::DataEnd, b'\n') => Some(State::Size { size: 0, digits: 0 }),
            (State::TrailerStart, b'\r') => Some(State::LastEnd),
            (State::Trailer, b'\r') => Some(State::TrailerEnd),
            (State::TrailerStart | State::Trailer, _) if byte != b'\n' => {
                self.extras += 1;
                Some(State::Trailer)
            }
            (
                State::Size { .. }
                | State::Extension { .. }
                | State::SizeEnd { .. }
                | State::Data { .. }
                | State::DataReturn
                | State::DataEnd
                | State::TrailerStart
                | State::Trailer
                | State::TrailerEnd
                | State::LastEnd,
                _,
            ) => None,
        }
    }
}
