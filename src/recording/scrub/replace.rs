//! What takes the place of a secret: as many bytes of the same alphabet, that depend on it and a key only. The last letters and digits
//! are a seal, a check over those before it that needs no key, as in the number of a card: by it an audit tells a replacement from
//! a secret in the same place. Refuses replacements that look like an address, a card or another secret that has a look of its own.

use siphasher::sip::SipHasher24;

use super::super::chance::mix;
use super::super::text::percent::has_encoded;
use super::detect::{TextKind, detect};
use super::layer::{DEEPEST, Layer};
use super::secret::{Coding, Secret};

/// How often a replacement is drawn before the last one is taken: nine in ten are good.
const ATTEMPTS: u64 = 24;
/// So many draws keep the punctuation. Four numbers of one digit with dots between are always an address.
const KEEPING: u64 = 8;

/// Replaces `text` in place.
pub(super) fn replace(text: &mut [u8], coding: Coding, hasher: &SipHasher24) {
    replace_at(text, coding, 0, hasher);
}

fn replace_at(text: &mut [u8], coding: Coding, depth: u8, hasher: &SipHasher24) {
    if let Some((layer, below)) = layer(text, coding, depth) {
        let mut plain = layer.plain.clone();
        replace_at(&mut plain, below, depth + 1, hasher);
        layer.write(&plain, text);
        return;
    }
    let original = text.to_vec();
    let seed = hasher.hash(&original);
    let letters = Letters::of(&original);
    for attempt in 0..ATTEMPTS {
        text.copy_from_slice(&original);
        draw(text, mix(seed, attempt), coding, letters, attempt >= KEEPING);
        seal(text, letters);
        if coding == Coding::Opaque || (text != original && !tells(text)) {
            return;
        }
    }
}

/// Whether a text is a replacement, as far as its seal tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::recording) enum Seal {
    /// It is. Of other texts with four to seven letters and digits about one in ten looks so by chance, of longer ones hardly any.
    Carried,
    /// It is not.
    Missing,
    /// Nobody can tell: there are fewer than four letters and digits.
    TooShort,
}

/// Whether `text` is a replacement, or so short that it may be.
pub(in crate::recording) fn is_sealed(text: &[u8], coding: Coding) -> bool {
    seal_of(text, coding) != Seal::Missing
}

/// What the seal of `text` tells.
pub(in crate::recording) fn seal_of(text: &[u8], coding: Coding) -> Seal {
    let mut text = std::borrow::Cow::Borrowed(text);
    let (mut coding, mut depth) = (coding, 0);
    while let Some((layer, below)) = layer(&text, coding, depth) {
        text = layer.plain.into();
        (coding, depth) = (below, depth + 1);
    }
    let carries = |letters| {
        let mut sealed = text.to_vec();
        seal(&mut sealed, letters);
        sealed == *text
    };
    if seal_length(letters_and_digits(&text)) == 0 {
        Seal::TooShort
    } else if carries(Letters::All) || carries(Letters::Hex) {
        Seal::Carried
    } else {
        Seal::Missing
    }
}

/// The outermost layer of a text, and how what is behind it is written.
fn layer(text: &[u8], coding: Coding, depth: u8) -> Option<(Layer, Coding)> {
    if depth >= DEEPEST {
        return None;
    }
    let percent = |below| Layer::percent(text).map(|layer| (layer, below));
    match coding {
        Coding::Percent => percent(Coding::Percent),
        Coding::Number => percent(Coding::Number),
        // Without escapes it may still be percent-encoded.
        Coding::Json(0) => Layer::json(text).map(|layer| (layer, Coding::Percent)).or_else(|| percent(Coding::Percent)),
        // A part without `%` is the same behind that encoding.
        Coding::Json(above) => percent(Coding::Json(above - 1)).or_else(|| layer(text, Coding::Json(0), depth)),
        Coding::Opaque => None,
    }
}

/// Which letters a replacement is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Letters {
    /// Those from a to z.
    All,
    /// Those from a to f, so that a hexadecimal number stays one.
    Hex,
}

impl Letters {
    fn of(text: &[u8]) -> Self {
        let is_hex = text.iter().all(|byte| !byte.is_ascii_alphabetic() || byte.is_ascii_hexdigit());
        let is_long = text.iter().filter(|byte| byte.is_ascii_hexdigit()).count() >= 8;
        if is_hex && is_long && text.iter().any(u8::is_ascii_digit) { Self::Hex } else { Self::All }
    }

    /// A byte of the class that `byte` is of: digit, small letter, capital. Others are kept.
    fn pick(self, byte: u8, random: u64) -> u8 {
        let letters = if self == Self::Hex { 6 } else { 26 };
        match byte {
            b'0'..=b'9' => offset(b'0', random, 10),
            b'A'..=b'Z' => offset(b'A', random, letters),
            b'a'..=b'z' => offset(b'a', random, letters),
            _ => byte,
        }
    }
}

fn offset(first: u8, random: u64, count: u64) -> u8 {
    first + u8::try_from(random % count).expect("invariant: at most 128")
}

/// Draws every byte anew. An `@` always gives way: no replacement is to reach anybody.
fn draw(text: &mut [u8], seed: u64, coding: Coding, letters: Letters, all: bool) {
    let mut leads = true;
    for (index, byte) in text.iter_mut().enumerate() {
        let random = mix(seed, index as u64);
        *byte = match (coding, *byte) {
            // A number must not begin with a zero.
            (Coding::Number, b'1'..=b'9') if leads => offset(b'1', random, 9),
            (Coding::Opaque, 0x80..) => offset(0x80, random, 128),
            (Coding::Opaque, control @ ..0x20) if !control.is_ascii_whitespace() => offset(0x0e, random, 18),
            (Coding::Percent | Coding::Json(_), b'@' | 0x80..) => letters.pick(b'a', random),
            (Coding::Percent | Coding::Json(_), b' '..=b'~') if all && may_give_way(*byte) => letters.pick(b'0', random),
            (_, other) => letters.pick(other, random),
        };
        leads &= !byte.is_ascii_digit();
    }
}

/// Punctuation that no encoding needs. A `%` that is still here encodes nothing, and must not begin to.
fn may_give_way(byte: u8) -> bool {
    byte.is_ascii_punctuation() && !b"\"\\/".contains(&byte) || byte == b' '
}

fn letters_and_digits(text: &[u8]) -> usize {
    text.iter().filter(|byte| byte.is_ascii_alphanumeric()).count()
}

/// How many of so many letters and digits are the seal. The more it takes, the fewer different replacements there are.
fn seal_length(letters_and_digits: usize) -> usize {
    match letters_and_digits {
        0..4 => 0,
        4..8 => 1,
        8..16 => 2,
        16.. => 4,
    }
}

/// Makes the last letters and digits a check over everything before them.
fn seal(text: &mut [u8], letters: Letters) {
    let length = seal_length(letters_and_digits(text));
    let places = text.iter().enumerate().rev().filter(|(_, byte)| byte.is_ascii_alphanumeric());
    let Some(from) = places.take(length).last().map(|(at, _)| at) else { return };
    let (before, behind) = text.split_at_mut(from);
    // FNV-1a: Fowler, Noll, Vo. Whoever forges a seal fools himself.
    let check = before.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
    for (byte, index) in behind.iter_mut().zip(0..) {
        *byte = letters.pick(*byte, mix(check, index));
    }
}

/// Whether a secret of any look but that of a token would be found, or encoding where there was none.
fn tells(text: &[u8]) -> bool {
    let mut found = Vec::new();
    detect(text, TextKind::Value, &mut found);
    found.iter().any(|one| one.secret != Secret::Token) || has_encoded(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn replaced(text: &str, coding: Coding) -> String {
        let mut bytes = text.as_bytes().to_vec();
        replace(&mut bytes, coding, &SipHasher24::new_with_key(&[7; 16]));
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn a_replacement_is_of_the_same_alphabet() {
        let cookie = replaced("Ab3-xY9_end==", Coding::Percent);
        let shape = |text: &str| -> String {
            let class = |byte: u8| {
                if byte.is_ascii_digit() {
                    '0'
                } else if byte.is_ascii_uppercase() {
                    'A'
                } else if byte.is_ascii_lowercase() {
                    'a'
                } else {
                    byte.into()
                }
            };
            text.bytes().map(class).collect()
        };
        assert_eq!(shape(&cookie), "Aa0-aA0_aaa==");
        assert!(replaced("d41d8cd98f00b204e9800998ecf8427e", Coding::Percent).bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert_eq!(replaced("é", Coding::Percent).len(), 2);
        assert_ne!(replaced("!!!", Coding::Percent), "!!!");
    }

    #[test]
    fn a_replacement_does_not_look_like_a_secret() {
        for text in [
            "ann@example.org",
            "4111111111111111",
            "1.1.1.1",
            "::ffff:1.2.3.4",
            "DE89370400440532013000",
            "+4915112345678",
            "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
        ] {
            let replaced = replaced(text, Coding::Percent);
            assert_eq!(replaced.len(), text.len());
            assert!(tells(text.as_bytes()) && !tells(replaced.as_bytes()), "{text}: {replaced}");
            assert!(is_sealed(replaced.as_bytes(), Coding::Percent), "{replaced}");
        }
    }

    #[test]
    fn equal_stays_equal_however_it_is_written() {
        let plain = replaced("ann@example.org", Coding::Percent);
        let encoded = replaced("%61nn%40example.org", Coding::Percent);
        let twice = replaced("ann%2540example.org", Coding::Percent);
        let json = replaced(r"ann\u0040example.org", Coding::Json(0));
        assert_eq!(Layer::percent(encoded.as_bytes()).unwrap().plain, plain.as_bytes());
        assert_eq!(Layer::json(json.as_bytes()).unwrap().plain, plain.as_bytes());
        let once = Layer::percent(twice.as_bytes()).unwrap().plain;
        assert_eq!(Layer::percent(&once).unwrap().plain, plain.as_bytes());
        for (text, coding) in [(encoded, Coding::Percent), (twice, Coding::Percent), (json, Coding::Json(0))] {
            assert!(is_sealed(text.as_bytes(), coding), "{text}");
        }
    }

    #[test]
    fn a_percent_sign_does_not_begin_to_encode() {
        for text in ["|%)`$`", "%1é12345678", "%%%%%%"] {
            let replaced = replaced(text, Coding::Percent);
            assert!(is_sealed(replaced.as_bytes(), Coding::Percent) && !has_encoded(replaced.as_bytes()), "{text}: {replaced}");
        }
    }

    #[test]
    fn a_number_stays_a_number() {
        for text in ["0", "7", "10", "-10.05", "4915112345678", "0.5"] {
            let replaced = replaced(text, Coding::Number);
            assert!(serde_json::from_str::<f64>(&replaced).is_ok() && replaced != text, "{text}: {replaced}");
        }
    }

    #[test]
    fn secrets_carry_no_seal() {
        let unsealed = (0..10_000_u64).filter(|n| !is_sealed(format!("{:016x}", mix(3, *n)).as_bytes(), Coding::Percent)).count();
        assert!(unsealed > 9_980, "{unsealed}");
    }

    #[test]
    fn of_short_texts_nobody_can_tell() {
        for (text, coding) in
            [("abc", Coding::Percent), ("%61b%63", Coding::Percent), (r"\u0061", Coding::Json(0)), ("-1.5", Coding::Number)]
        {
            assert_eq!(seal_of(text.as_bytes(), coding), Seal::TooShort, "{text}");
        }
        assert_eq!(seal_of(b"hunter22hunter22", Coding::Percent), Seal::Missing);
        assert_eq!(seal_of(replaced("hunter22", Coding::Percent).as_bytes(), Coding::Percent), Seal::Carried);
    }

    proptest! {
        #[test]
        fn replacements_are_sealed_and_of_equal_length(text in "[!-~äé€]{0,60}") {
            let replaced = replaced(&text, Coding::Percent);
            prop_assert_eq!(replaced.len(), text.len());
            prop_assert!(is_sealed(replaced.as_bytes(), Coding::Percent));
        }

        #[test]
        fn no_bytes_panic(mut text in prop::collection::vec(any::<u8>(), 0..100)) {
            for coding in [Coding::Percent, Coding::Json(0), Coding::Number, Coding::Opaque] {
                let _ = is_sealed(&text, coding);
                replace(&mut text, coding, &SipHasher24::new_with_key(&[7; 16]));
            }
        }
    }
}
