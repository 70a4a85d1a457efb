//! How the writers of logs hide bytes that would break a line, and what stood there before.

use std::borrow::Cow;

use super::percent::hex_byte;

/// Whose rules a log follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::recording) enum Escapes {
    /// Not known: all that cannot be mistaken.
    Any,
    /// `\xXX` (nginx's default).
    Nginx,
    /// `\"`, `\\`, `\n` and the like, `\xhh`.
    Apache,
    /// `\"` only. Its text is UTF-8, in which each character stands for one byte of the request.
    Gunicorn,
    /// Those of a JSON string (nginx's `escape=json`).
    Json,
    /// Nothing is hidden (nginx's `escape=none`).
    None,
}

impl Escapes {
    /// Whether a backslash keeps a quotation mark from ending a value.
    pub(in crate::recording) const fn guard_quotes(self) -> bool {
        !matches!(self, Self::None)
    }

    /// The value behind the escapes. What is no escape stands for itself.
    pub(in crate::recording) fn plain(self, text: &[u8]) -> Cow<'_, [u8]> {
        let unescaped = match memchr::memchr(b'\\', text) {
            Some(first) if self != Self::None => Cow::Owned(self.replace(text, first)),
            Some(_) | None => Cow::Borrowed(text),
        };
        if self == Self::Gunicorn && !unescaped.is_ascii() { Cow::Owned(from_latin_1(&unescaped)) } else { unescaped }
    }

    fn replace(self, text: &[u8], first: usize) -> Vec<u8> {
        let mut plain = text[..first].to_vec();
        let mut rest = &text[first..];
        while let [byte, after @ ..] = rest {
            rest = if let Some((escaped, length)) = self.escape(rest) {
                self.push(&mut plain, escaped);
                &rest[length..]
            } else {
                plain.push(*byte);
                after
            };
        }
        plain
    }

    /// The character an escape at the start of `text` stands for, and the escape's length.
    fn escape(self, text: &[u8]) -> Option<(u32, usize)> {
        let [b'\\', kind, after @ ..] = text else { return None };
        let (hex, quote, slash, letters) = match self {
            Self::Any | Self::Apache => (true, true, false, true),
            Self::Nginx => (true, false, false, false),
            Self::Gunicorn => (false, true, false, false),
            Self::Json => (false, true, true, true),
            Self::None => return None,
        };
        match (kind, after) {
            (b'x', [high, low, ..]) if hex && high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                Some((u32::from(hex_byte(*high, *low)), 4))
            }
            (b'u', [a, b, c, d, ..]) if slash && [a, b, c, d].iter().all(|digit| digit.is_ascii_hexdigit()) => {
                Some((u32::from(hex_byte(*a, *b)) << 8 | u32::from(hex_byte(*c, *d)), 6))
            }
            (b'"', _) if quote => Some((u32::from(b'"'), 2)),
            (b'\\', _) if quote && self != Self::Gunicorn => Some((u32::from(b'\\'), 2)),
            (b'/', _) if slash => Some((u32::from(b'/'), 2)),
            _ if letters => control(*kind).map(|byte| (u32::from(byte), 2)),
            _ => None,
        }
    }

    /// Hexadecimal escapes stand for bytes, except in JSON, where they stand for characters.
    fn push(self, plain: &mut Vec<u8>, escaped: u32) {
        match u8::try_from(escaped) {
            Ok(byte) if self != Self::Json => plain.push(byte),
            Ok(_) | Err(_) => {
                let character = char::from_u32(escaped).unwrap_or(char::REPLACEMENT_CHARACTER);
                plain.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
    }
}

fn control(letter: u8) -> Option<u8> {
    Some(match letter {
        b'b' => 0x08,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'v' => 0x0b,
        b'f' => 0x0c,
        _ => return None,
    })
}

/// The bytes that somebody took for ISO 8859-1 and wrote as UTF-8; as they are, if that cannot be.
fn from_latin_1(text: &[u8]) -> Vec<u8> {
    let bytes = str::from_utf8(text).ok().and_then(|text| text.chars().map(|letter| u8::try_from(letter).ok()).collect());
    bytes.unwrap_or_else(|| text.to_vec())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: [Escapes; 6] = [Escapes::Any, Escapes::Nginx, Escapes::Apache, Escapes::Gunicorn, Escapes::Json, Escapes::None];

    #[test]
    fn every_writer_has_its_own() {
        let text = br#"a\x22b\xE9\"\\\n\t\q\u001f\/\"#;
        assert_eq!(&*Escapes::Any.plain(text), b"a\"b\xe9\"\\\n\t\\q\\u001f\\/\\");
        assert_eq!(&*Escapes::Apache.plain(text), b"a\"b\xe9\"\\\n\t\\q\\u001f\\/\\");
        assert_eq!(&*Escapes::Nginx.plain(text), b"a\"b\xe9\\\"\\\\\\n\\t\\q\\u001f\\/\\");
        assert_eq!(&*Escapes::Gunicorn.plain(text), br#"a\x22b\xE9"\\\n\t\q\u001f\/\"#);
        assert_eq!(&*Escapes::Json.plain(text), b"a\\x22b\\xE9\"\\\n\t\\q\x1f/\\");
        assert_eq!(&*Escapes::None.plain(text), text);
        assert!(matches!(Escapes::Any.plain(b"plain"), Cow::Borrowed(_)));
        assert_eq!(&*Escapes::Any.plain(br"\x1"), br"\x1");
    }

    #[test]
    fn gunicorns_characters_are_bytes() {
        assert_eq!(&*Escapes::Gunicorn.plain("/caf\u{e9}".as_bytes()), b"/caf\xe9");
        assert_eq!(&*Escapes::Gunicorn.plain("/\u{c3}\u{a9}".as_bytes()), "/é".as_bytes());
        assert_eq!(&*Escapes::Gunicorn.plain("/€".as_bytes()), "/€".as_bytes());
    }

    proptest! {
        #[test]
        fn no_text_panics(text in prop::collection::vec(prop::sample::select(b"\\xu\"/n0eF\xc3\xa9".to_vec()), 0..60)) {
            for escapes in ALL {
                let _ = escapes.plain(&text);
            }
        }
    }
}
