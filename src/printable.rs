//! What may be shown: a terminal obeys control characters, and strangers may have written them.

/// Stands for what must not be shown.
const INSTEAD: &str = "\u{fffd}";

/// Takes out control characters, those beyond ASCII too (ECMA-48, 5.2 and 5.3).
pub(in crate::recording) fn make_printable(text: &mut String) {
    if text.chars().any(char::is_control) {
        *text = text.replace(char::is_control, INSTEAD);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_that_a_terminal_obeys() {
        let mut text = "\u{1b}]0;é\u{7}\u{9b}2J\r\n\u{7f}".to_owned();
        make_printable(&mut text);
        assert_eq!(text, "\u{fffd}]0;é\u{fffd}\u{fffd}2J\u{fffd}\u{fffd}\u{fffd}");
    }
}
