//! A Rust file as the rules look at it: without comments, without what is inside quotes, and without its unit tests.

use std::path::{Path, PathBuf};

/// A file below the repository.
pub(super) struct Source {
    /// Relative to the repository.
    pub(super) path: PathBuf,
    /// As written.
    pub(super) text: String,
    /// Comments, strings and character literals are blanks; lines keep their numbers.
    pub(super) code: String,
    /// As `code`, and items under `#[cfg(test)]` are blanks too.
    pub(super) shipped: String,
}

impl Source {
    /// Prepares a file's text.
    pub(super) fn new(path: &Path, text: String) -> Self {
        let code = without_prose(&text);
        let shipped = without_tests(&code);
        Self { path: path.to_owned(), text, code, shipped }
    }

    /// The module of the layers' table it belongs to: the first name below `src`.
    pub(super) fn module(&self) -> String {
        let below = self.path.strip_prefix("src").unwrap_or(&self.path);
        let first = below.components().next().map(|part| part.as_os_str().to_string_lossy().into_owned());
        first.unwrap_or_default().trim_end_matches(".rs").to_owned()
    }

    /// The number of the line that holds the byte at `offset` of `code`.
    pub(super) fn line(&self, offset: usize) -> usize {
        self.code[..offset].split('\n').count()
    }

    /// The names of modules that are compiled for tests only.
    pub(super) fn test_modules(&self) -> Vec<String> {
        let mut names = Vec::new();
        for (start, _) in self.code.match_indices("#[cfg(test)]") {
            let declared = self.code[start..].split_once("mod ").and_then(|(_, rest)| rest.split_once(';'));
            names.extend(declared.map(|(name, _)| name.trim().to_owned()).filter(|name| name.chars().all(is_name)));
        }
        names
    }
}

/// Whether a character can be part of a name.
pub(super) fn is_name(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// Offsets of `word` in `code`, where it is not part of a longer name.
pub(super) fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    code.match_indices(word).map(|(offset, _)| offset).filter(move |offset| {
        let before = code[..*offset].chars().next_back().is_some_and(is_name);
        let after = code[offset + word.len()..].chars().next().is_some_and(is_name);
        !(before && word.starts_with(is_name) || after && word.ends_with(is_name))
    })
}

/// The offset just behind the bracket that closes the one at `open`; the end of the code if none does.
pub(super) fn closing(code: &str, open: usize) -> usize {
    let mut depth = 0_usize;
    for (offset, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'{' | b'[' | b'(' => depth += 1,
            b'}' | b']' | b')' if depth <= 1 => return offset + 1,
            b'}' | b']' | b')' => depth -= 1,
            _ => {}
        }
    }
    code.len()
}

fn without_prose(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let end = prose_end(text, at);
        match end {
            Some(end) => {
                code[at..end].iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
                at = end;
            }
            None => at += 1,
        }
    }
    String::from_utf8_lossy(&code).into_owned()
}

/// Where the comment or literal that starts at `at` ends; `None` if none starts there.
fn prose_end(text: &str, at: usize) -> Option<usize> {
    let rest = &text.as_bytes()[at..];
    let in_a_name = at > 0 && is_name(char::from(text.as_bytes()[at - 1]));
    let up_to = |length: Option<usize>| Some(at + length.unwrap_or(rest.len()));
    if rest.starts_with(b"//") {
        return up_to(rest.iter().position(|byte| *byte == b'\n'));
    }
    if rest.starts_with(b"/*") {
        return up_to(block_comment(rest));
    }
    if !in_a_name
        && (rest.starts_with(b"r\"") || rest.starts_with(b"r#") || rest.starts_with(b"br\"") || rest.starts_with(b"br#"))
    {
        return raw_string(rest).map(|length| at + length);
    }
    match rest {
        [b'"', ..] => up_to(quoted(rest, b'"')),
        [b'\'', b'\\', ..] => up_to(quoted(rest, b'\'')),
        // A character is closed after one code point; otherwise it is a lifetime.
        [b'\'', first, ..] => {
            let width = match first {
                0..=0x7f => 1,
                0x80..=0xdf => 2,
                0xe0..=0xef => 3,
                0xf0..=0xff => 4,
            };
            (rest.get(1 + width) == Some(&b'\'')).then_some(at + width + 2)
        }
        _ => None,
    }
}

fn quoted(rest: &[u8], quote: u8) -> Option<usize> {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            byte if byte == quote => return Some(at + 1),
            _ => at += 1,
        }
    }
    None
}

fn block_comment(rest: &[u8]) -> Option<usize> {
    let (mut depth, mut at) = (0, 0);
    while at + 1 < rest.len() {
        match &rest[at..at + 2] {
            b"/*" => (depth, at) = (depth + 1, at + 2),
            b"*/" if depth == 1 => return Some(at + 2),
            b"*/" => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
    }
    None
}

/// `None` for a raw name such as `r#type`.
fn raw_string(rest: &[u8]) -> Option<usize> {
    let text = String::from_utf8_lossy(rest);
    let opening = text.find('"').filter(|quote| text[..*quote].chars().all(|character| matches!(character, 'b' | 'r' | '#')))?;
    let hashes = text[..opening].matches('#').count();
    let close = format!("\"{}", "#".repeat(hashes));
    let length = rest[opening + 1..].windows(close.len()).position(|window| window == close.as_bytes());
    Some(length.map_or(rest.len(), |length| opening + 1 + length + close.len()))
}

fn without_tests(code: &str) -> String {
    let mut shipped = code.as_bytes().to_vec();
    for (start, _) in code.match_indices("#[cfg(test)]") {
        let body = code[start..].find(['{', ';']).map_or(code.len(), |length| start + length);
        let end = if code[body..].starts_with('{') { closing(code, body) } else { body };
        shipped[start..end].iter_mut().filter(|byte| **byte != b'\n').for_each(|byte| *byte = b' ');
    }
    String::from_utf8_lossy(&shipped).into_owned()
}

#[test]
fn tidy_sees_code_and_nothing_else() {
    let code = |text: &str| without_prose(text);
    assert_eq!(code("a // b\nc"), "a     \nc");
    assert_eq!(code("a /* b /* c */ d */ e"), "a                   e");
    assert_eq!(code(r#"f("x\"y", 'a', '\'', 'é') "#), "f(      ,    ,     ,     ) ");
    assert_eq!(code(r##"f(r#"a " b"#, br"c")"##), "f(          ,      )");
    assert_eq!(code("fn f<'a>(r#type: &'a str)"), "fn f<'a>(r#type: &'a str)");
    assert_eq!(without_tests("a\n#[cfg(test)]\nmod t { x }\nb"), "a\n            \n           \nb");
}
