//! Text inside of text: what percent-encoding or a JSON string's escapes stand for, and the way back, octet by octet and at equal
//! length. Layers may lie in each other, as in a URL that is a parameter of a URL.

use std::ops::Range;

use super::super::text::percent::{has_encoded, hex_byte, octets};

/// How many layers are looked through. Hostile text could have as many as it has bytes.
pub(super) const DEEPEST: u8 = 4;

/// One layer, looked through.
pub(super) struct Layer {
    /// What is written.
    pub(super) plain: Vec<u8>,
    /// Where each plain byte is written; one more for the end.
    starts: Vec<usize>,
}

impl Layer {
    /// What percent-encoding stands for, or `None` if there is none.
    pub(super) fn percent(text: &[u8]) -> Option<Self> {
        has_encoded(text).then(|| Self::collect(octets(text).map(|octet| (octet.byte(), octet.written()))))
    }

    /// What the inside of a JSON string stands for, or `None` if it is just what is written. A character beyond ASCII behind `\u`
    /// becomes one byte beyond ASCII: which one matters only in that equal stays equal.
    pub(super) fn json(text: &[u8]) -> Option<Self> {
        memchr::memchr(b'\\', text)?;
        let mut rest = text;
        Some(Self::collect(std::iter::from_fn(move || {
            let (byte, written) = match *rest {
                [b'\\', b'u', a, b, c, d, ..] => (narrow(hex_byte(a, b), hex_byte(c, d)), 6),
                [b'\\', letter, ..] => (control(letter), 2),
                [byte, ..] => (byte, 1),
                [] => return None,
            };
            rest = &rest[written..];
            Some((byte, written))
        })))
    }

    fn collect(octets: impl Iterator<Item = (u8, usize)>) -> Self {
        let mut layer = Self { plain: Vec::new(), starts: vec![0] };
        let mut at = 0;
        for (byte, written) in octets {
            at += written;
            layer.plain.push(byte);
            layer.starts.push(at);
        }
        layer
    }

    /// Where a range of the plain text is written.
    pub(super) fn written(&self, plain: &Range<usize>) -> Range<usize> {
        self.starts[plain.start]..self.starts[plain.end]
    }

    /// Writes `plain` in place of this layer's, each byte in the form its predecessor had. An escape of two characters stays: it
    /// can only stand for what it does.
    pub(super) fn write(&self, plain: &[u8], text: &mut [u8]) {
        for (index, byte) in plain.iter().enumerate().filter(|(index, byte)| self.plain[*index] != **byte) {
            let [high, low] = hex_digits(*byte);
            match &mut text[self.starts[index]..self.starts[index + 1]] {
                [one] => *one = *byte,
                [b'%', rest @ ..] => rest.copy_from_slice(&[high, low]),
                [b'\\', b'u', a, b, c, d] => (*a, *b, *c, *d) = (b'0', b'0', high, low),
                _ => {}
            }
        }
    }
}

fn hex_digits(byte: u8) -> [u8; 2] {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]
}

fn narrow(high: u8, low: u8) -> u8 {
    if high == 0 && low.is_ascii() { low } else { 0x80 | low }
}

/// What a JSON escape stands for (RFC 8259, 7).
fn control(letter: u8) -> u8 {
    match letter {
        b'b' => 0x08,
        b'f' => 0x0c,
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_is_written_back_in_its_own_form() {
        let mut text = *b"a%40b%2Fc";
        let layer = Layer::percent(&text).unwrap();
        assert_eq!(layer.plain, b"a@b/c");
        assert_eq!(layer.written(&(1..3)), 1..5);
        layer.write(b"axy/z", &mut text);
        assert_eq!(&text, b"a%78y%2Fz");

        let mut text = *br"a\n\u0040\u20acz";
        let layer = Layer::json(&text).unwrap();
        assert_eq!(layer.plain, b"a\n@\xacz");
        layer.write(b"bXyzw", &mut text);
        assert_eq!(&text, br"b\n\u0079\u007Aw");
    }

    #[test]
    fn plain_text_has_no_layer() {
        assert!(Layer::percent(b"100%").is_none() && Layer::percent(b"a%zz").is_none() && Layer::json(b"a").is_none());
        // Not JSON, and yet no panic.
        assert_eq!(Layer::json(br"a\").unwrap().plain, br"a\");
        assert_eq!(Layer::json(br"\u12").unwrap().plain, b"u12");
    }
}
