//! Sets of bytes. To ask one costs the same whatever is in it, and most bytes of a text are only asked for.

/// Which bytes belong.
pub(super) struct Set([bool; 256]);

impl Set {
    pub(super) const EMPTY: Self = Self([false; 256]);
    pub(super) const DIGITS: Self = Self::EMPTY.with(b"0123456789");
    pub(super) const HEX: Self = Self::DIGITS.with(b"abcdefABCDEF");
    pub(super) const LETTERS_AND_DIGITS: Self = Self::HEX.with(b"ghijklmnopqrstuvwxyzGHIJKLMNOPQRSTUVWXYZ");

    /// These too.
    pub(super) const fn with(mut self, bytes: &[u8]) -> Self {
        let mut at = 0;
        while at < bytes.len() {
            self.0[bytes[at] as usize] = true;
            at += 1;
        }
        self
    }

    pub(super) fn has(&self, byte: u8) -> bool {
        self.0[usize::from(byte)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_in_its_sets() {
        for byte in 0..=u8::MAX {
            assert_eq!(Set::DIGITS.has(byte), byte.is_ascii_digit());
            assert_eq!(Set::HEX.has(byte), byte.is_ascii_hexdigit());
            assert_eq!(Set::LETTERS_AND_DIGITS.has(byte), byte.is_ascii_alphanumeric());
            assert_eq!(Set::DIGITS.with(b"-").has(byte), byte.is_ascii_digit() || byte == b'-');
        }
    }
}
