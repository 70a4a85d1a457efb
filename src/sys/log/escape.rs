//! Makes bytes that anybody may have written harmless in a line: what could end the line, move the cursor or is no text is shown
//! by its number.

use std::fmt::Write;

use crate::printable;

/// Adds `bytes` to `line`. Tabs stay.
pub(super) fn push(line: &mut String, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        let mut rest = chunk.valid();
        while let Some(at) = rest.find(is_harmful) {
            line.push_str(&rest[..at]);
            let mut letters = rest[at..].chars();
            if let Some(letter) = letters.next() {
                push_number(line, letter);
            }
            rest = letters.as_str();
        }
        line.push_str(rest);
        for byte in chunk.invalid() {
            push_byte(line, *byte);
        }
    }
}

/// Adds a JSON text, in whose strings the same letters are shown as JSON does it (RFC 8259, section 7): the text means what it meant.
pub(super) fn push_json(line: &mut String, json: &str) {
    for letter in json.chars() {
        if is_harmful(letter) {
            write!(line, "\\u{:04x}", u32::from(letter)).expect("invariant: a string takes everything");
        } else {
            line.push(letter);
        }
    }
}

fn is_harmful(letter: char) -> bool {
    letter != '\t' && printable::is_harmful(letter)
}

fn push_number(line: &mut String, letter: char) {
    match letter {
        '\r' => line.push_str("\\r"),
        '\n' => line.push_str("\\n"),
        letter if letter.is_ascii() => push_byte(line, letter as u8),
        letter => write!(line, "\\u{{{:x}}}", u32::from(letter)).expect("invariant: a string takes everything"),
    }
}

fn push_byte(line: &mut String, byte: u8) {
    write!(line, "\\x{byte:02x}").expect("invariant: a string takes everything");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn escaped(bytes: &[u8]) -> String {
        let mut line = String::new();
        push(&mut line, bytes);
        line
    }

    #[test]
    fn f41_what_could_forge_or_move_is_shown_by_its_number() {
        let table: [(&[u8], &str); 9] = [
            (b"plain \xc3\xa9\ttab", "plain \u{e9}\ttab"),
            (b"a\r\nb", "a\\r\\nb"),
            (b"\x1b[2J\x1b]0;title\x07", "\\x1b[2J\\x1b]0;title\\x07"),
            (b"nul\0del\x7f", "nul\\x00del\\x7f"),
            (b"\x9b31m", "\\x9b31m"),
            (b"\xc2\x9b31m", "\\u{9b}31m"),
            ("a\u{2028}b".as_bytes(), "a\\u{2028}b"),
            ("txt.\u{202e}exe".as_bytes(), "txt.\\u{202e}exe"),
            (b"\xff\xfe\xc3", "\\xff\\xfe\\xc3"),
        ];
        for (bytes, expected) in table {
            assert_eq!(escaped(bytes), expected);
        }
    }

    proptest! {
        #[test]
        fn f41_json_means_what_it_meant(letters in prop::collection::vec(any::<char>(), 0..100)) {
            let text: String = letters.into_iter().chain(['\u{9b}', '\u{7f}', '\u{2028}']).collect();
            let mut line = String::new();
            push_json(&mut line, &serde_json::Value::from(text.as_str()).to_string());
            prop_assert!(!line.chars().any(is_harmful), "{line:?}");
            prop_assert_eq!(serde_json::from_str::<String>(&line).unwrap(), text);
        }

        #[test]
        fn f41_no_bytes_make_a_second_line(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let line = escaped(&bytes);
            prop_assert!(!line.chars().any(is_harmful), "{line:?}");
            prop_assert_eq!(line.lines().count(), usize::from(!line.is_empty()));
        }
    }
}
