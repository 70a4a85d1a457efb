//! Percent-encoding (RFC 3986, 2.1), one octet at a time.

/// One octet of a text, and how it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::recording) enum Octet {
    /// As itself.
    Plain(u8),
    /// As `%XX`.
    Encoded(u8),
}

impl Octet {
    /// What it is.
    pub(in crate::recording) const fn byte(self) -> u8 {
        match self {
            Self::Plain(byte) | Self::Encoded(byte) => byte,
        }
    }

    /// How many bytes it is written in.
    pub(in crate::recording) const fn written(self) -> usize {
        match self {
            Self::Plain(_) => 1,
            Self::Encoded(_) => 3,
        }
    }
}

/// Whether anything is written as `%XX`.
pub(in crate::recording) fn has_encoded(text: &[u8]) -> bool {
    memchr::memchr_iter(b'%', text)
        .any(|at| matches!(text[at..], [_, a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit()))
}

/// The octets of `text`. A percent sign without two hexadecimal digits stands for itself.
pub(in crate::recording) fn octets(text: &[u8]) -> impl Iterator<Item = Octet> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let (octet, after) = match rest {
            [b'%', high, low, after @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                (Octet::Encoded(hex_byte(*high, *low)), after)
            }
            [byte, after @ ..] => (Octet::Plain(*byte), after),
            [] => return None,
        };
        rest = after;
        Some(octet)
    })
}

/// Appends `byte` as `%XX`.
pub(in crate::recording) fn push_encoded(text: &mut String, byte: u8) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    text.push('%');
    text.push(char::from(DIGITS[usize::from(byte >> 4)]));
    text.push(char::from(DIGITS[usize::from(byte & 15)]));
}

/// The byte two hexadecimal digits stand for.
pub(in crate::recording) fn hex_byte(high: u8, low: u8) -> u8 {
    hex_digit(high) << 4 | hex_digit(low)
}

fn hex_digit(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit.to_ascii_lowercase().saturating_sub(b'a') + 10) & 15,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_survives_encoding() {
        for byte in 0..=u8::MAX {
            let mut text = String::new();
            push_encoded(&mut text, byte);
            assert_eq!(octets(text.as_bytes()).collect::<Vec<_>>(), [Octet::Encoded(byte)]);
        }
    }

    #[test]
    fn a_lone_percent_sign_is_itself() {
        assert_eq!(octets(b"%4").collect::<Vec<_>>(), [Octet::Plain(b'%'), Octet::Plain(b'4')]);
        assert_eq!(octets(b"%zz%2f").last(), Some(Octet::Encoded(b'/')));
        assert!(has_encoded(b"%zz%2f") && !has_encoded(b"%zz%2"));
    }
}
