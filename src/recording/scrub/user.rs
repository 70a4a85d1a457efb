//! Who asks a server, before its name in a URL: `http://name:password@server`. Of any scheme, and in the midst of other text; without
//! a scheme where the text begins, if there is a password.

use std::ops::Range;

/// What stands behind a scheme.
pub(super) const BEHIND_SCHEME: &[u8] = b"://";
/// What ends a server's part of a URL, or the URL (RFC 3986, 3.2 and appendix C).
const ENDS: &[u8] = b"/?#\\ \t\"<>";
/// Digits of a port, at most.
const PORT: usize = 5;

pub(super) fn users(text: &[u8], mut add: impl FnMut(Range<usize>)) {
    if memchr::memchr(b'@', text).is_none() {
        return;
    }
    for slashes in memchr::memmem::find_iter(text, b"//") {
        let has_scheme = text[..slashes].ends_with(b":");
        if !has_scheme && slashes > 0 {
            continue;
        }
        let start = slashes + 2;
        let server = &text[start..server_end(text, start)];
        let Some(length @ 1..) = memchr::memrchr(b'@', server) else { continue };
        // `//cdn.example/@ann` is as common as a password is here.
        if has_scheme || server[..length].contains(&b':') {
            add(start..start + length);
        }
    }
}

/// Where the server's part that begins at `start` ends. Where a field of a query may end, it does unless a password has begun:
/// one with `&` in it may be written as it is.
pub(super) fn server_end(text: &[u8], start: usize) -> usize {
    let rest = &text[start..];
    let end = rest.iter().position(|byte| ENDS.contains(byte)).unwrap_or(rest.len());
    let field = memchr::memchr2(b'&', b';', &rest[..end]).filter(|field| is_server(&rest[..*field]));
    start + field.unwrap_or(end)
}

/// Whether a text is a server's name or address, perhaps with a port, and not the beginning of a name and a password.
fn is_server(text: &[u8]) -> bool {
    if text.starts_with(b"[") {
        return true;
    }
    memchr::memchr(b':', text).is_none_or(|colon| {
        let port = &text[colon + 1..];
        colon > 0 && port.len() <= PORT && port.iter().all(u8::is_ascii_digit)
    })
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
        for none in ["http://a/b@c", "http://a?@", "http://a#@", "http://@a", "a@b", "http:// a@b", "://", "a//b:c@d"] {
            assert_eq!(found(none), <[&str; 0]>::default(), "{none}");
        }
    }

    #[test]
    fn behind_a_server_come_other_fields() {
        for none in [
            "/?next=http://shop.example&email=ann@example.org",
            "/?next=http://shop.example:8080;mail=ann:b@example.org",
            "http://[2001:db8::1]:80&mail=a@b",
            "http://[2001:db8::1&mail=a@b",
            "http://&a:b@c",
        ] {
            assert_eq!(found(none), <[&str; 0]>::default(), "{none}");
        }
        assert_eq!(found("http://ann:p&w;@db redis://:1&2@q ftp://a:123456&@h"), ["ann:p&w;", ":1&2", "a:123456&"]);
    }

    #[test]
    fn without_a_scheme_a_user_has_a_password() {
        assert_eq!(found("//ann:pw@host/x"), ["ann:pw"]);
        for none in ["//ann@host", "//host/@ann:x@y", "///ann:pw@host", "x //ann:pw@host"] {
            assert_eq!(found(none), <[&str; 0]>::default(), "{none}");
        }
    }
}
