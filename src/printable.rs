//! What may be shown: a terminal obeys control characters, text that runs from right to left shows words in another order, and strangers
//! may have written both.

use std::borrow::Cow;
use std::path::Path;

/// Stands for what must not be shown.
const INSTEAD: &str = "\u{fffd}";

/// Control characters of both blocks (ECMA-48, 5.2 and 5.3), what some programs take for a line break, and what turns the direction of
/// writing (Unicode Standard Annex 9, 2).
#[must_use]
pub fn is_harmful(letter: char) -> bool {
    letter.is_control()
        || matches!(letter, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The text in one line that can be shown: a blank for each blank or line break, and a mark for each other letter that [`is_harmful`].
#[must_use]
pub fn printable(text: &str) -> String {
    text.replace(['\t', '\r', '\n'], " ").replace(is_harmful, INSTEAD)
}

/// The same of a text of several lines, each of which stays one.
#[must_use]
pub fn printable_lines(text: &str) -> String {
    text.lines().map(printable).collect::<Vec<String>>().join("\n")
}

/// The name of a file as a shell reads it, in one line.
#[must_use]
pub fn pasted(path: &Path) -> String {
    let name = printable(&path.display().to_string());
    shlex::try_quote(&name).map_or_else(|_| name.clone(), Cow::into_owned)
}

/// Makes a text [`printable`].
pub fn make_printable(text: &mut String) {
    if text.chars().any(is_harmful) {
        *text = printable(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_that_a_terminal_obeys() {
        let mut text = "\u{1b}]0;é\u{7}\u{9b}2J\r\n\u{7f}\u{202e}\u{2066}".to_owned();
        make_printable(&mut text);
        assert_eq!(text, "\u{fffd}]0;é\u{fffd}\u{fffd}2J  \u{fffd}\u{fffd}\u{fffd}");
        assert_eq!(printable_lines("a\u{1b}c\r\n\nb\n"), "a\u{fffd}c\n\nb");
    }
}
