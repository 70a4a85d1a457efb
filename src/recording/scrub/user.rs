//! Who asks a server, before its name in a URL: `http://name:password@server`. Of any scheme, and in the midst of other text.

use std::ops::Range;

/// What stands behind a scheme.
pub(super) const BEHIND_SCHEME: &[u8] = b"://";
/// What ends a server's part of a URL, or the URL (RFC 3986, 3.2 and appendix C).
const ENDS: &[u8] = b"/?#\\ \t\"<>";

pub(super) fn users(text: &[u8], mut add: impl FnMut(Range<usize>)) {
    if memchr::memchr(b'@', text).is_none() {
        return;
    }
    for colon in memchr::memchr_iter(b':', text).filter(|colon| text[*colon..].starts_with(BEHIND_SCHEME)) {
        let start = colon + BEHIND_SCHEME.len();
        let end = server_end(text, start);
        if let Some(length @ 1..) = memchr::memrchr(b'@', &text[start..end]) {
            add(start..start + length);
        }
    }
}

/// Where the server's part that begins at `start` ends.
pub(super) fn server_end(text: &[u8], start: usize) -> usize {
    text[start..].iter().position(|byte| ENDS.contains(byte)).map_or(text.len(), |end| start + end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<&str> {
        let mut found = Vec::new();
        users(text.as_bytes(), |range| found.push(&text[range]));
        found
    }

    #[test]
    fn a_user_stands_between_a_scheme_and_a_server() {
        assert_eq!(found("postgres://admin:p@ss@db/a?b=c@d"), ["admin:p@ss"]);
        assert_eq!(found("x y+z://:pw@[::1] <redis://u@q>"), [":pw", "u"]);
        for none in ["http://a/b@c", "http://a?@", "http://a#@", "http://@a", "a@b", "http:// a@b", "://", "//a:b@c"] {
            assert_eq!(found(none), <[&str; 0]>::default(), "{none}");
        }
    }
}
