//! The route a target belongs to: its path, with what names one thing among many replaced.

use crate::printable::make_printable;
use crate::recording::request::Target;
use crate::recording::text::uuid::is_uuid;

/// From this length on a route is cut, bytes, and so is a part of it: with its last one none is more than twice as long.
const LONGEST: usize = 160;
/// What stands between the parts of a path.
const SEPARATORS: [char; 2] = ['/', '.'];
/// From this length on, hexadecimal digits are a hash or a part of a file's fingerprint.
const HASH: usize = 8;
/// From this length on, letters and digits without a word in them are a key.
const KEY: usize = 20;

/// The route of `target`: no query, numbers as `{n}`, UUIDs as `{uuid}`, hashes as `{hash}` and other keys as `{key}`.
#[must_use]
pub fn route(target: &Target) -> String {
    let path = target.absolute().map_or(target.as_str(), |(_, rest)| rest);
    let path = path.split(['?', '#']).next().unwrap_or(path);
    let mut route = String::with_capacity(path.len().min(2 * LONGEST));
    // The parts between dots are looked at one by one, as in `app.3f2a91bc.js`.
    for piece in path.split_inclusive(SEPARATORS) {
        if route.len() > LONGEST {
            route.push('…');
            break;
        }
        let part = piece.strip_suffix(SEPARATORS).unwrap_or(piece);
        route.push_str(template(part).unwrap_or_else(|| cut(part)));
        route.push_str(&piece[part.len()..]);
    }
    make_printable(&mut route);
    if route.is_empty() { "/".to_owned() } else { route }
}

fn cut(part: &str) -> &str {
    let end = (0..=LONGEST.min(part.len())).rev().find(|end| part.is_char_boundary(*end));
    &part[..end.unwrap_or(0)]
}

fn template(part: &str) -> Option<&'static str> {
    let bytes = part.as_bytes();
    let digits = bytes.iter().filter(|byte| byte.is_ascii_digit()).count();
    let all = |fits: fn(&u8) -> bool| bytes.iter().all(fits);
    if digits == 0 {
        return None;
    }
    if all(|byte| byte.is_ascii_digit() || b"-_:,".contains(byte)) {
        return Some("{n}");
    }
    if is_uuid(bytes) {
        return Some("{uuid}");
    }
    if bytes.len() >= HASH && all(u8::is_ascii_hexdigit) {
        return Some("{hash}");
    }
    let is_key = bytes.len() >= KEY && digits >= 3 && all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    is_key.then_some("{key}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(target: &str) -> String {
        route(&Target::new(target).unwrap())
    }

    #[test]
    fn what_names_one_of_many_is_replaced() {
        for (target, expected) in [
            ("/", "/"),
            ("/?page=2", "/"),
            ("?q", "/"),
            ("*", "*"),
            ("http://a:1/users/12", "/users/{n}"),
            ("/users/12/orders/7#top", "/users/{n}/orders/{n}"),
            ("/day/2026-11-22/", "/day/{n}/"),
            ("/o/123e4567-e89b-12d3-a456-426614174000", "/o/{uuid}"),
            ("/static/app.3f2a91bc.js", "/static/app.{hash}.js"),
            ("/blob/9f86d081884c7d659a2feaa0c55ad015a3bf4f1b", "/blob/{hash}"),
            ("/reset/Zk3R0aXQ9fLm2Wq7TtYb", "/reset/{key}"),
            ("/api/v1/products", "/api/v1/products"),
            ("/feedback/decade", "/feedback/decade"),
            ("/posts/how-to-cook-3-eggs", "/posts/how-to-cook-3-eggs"),
        ] {
            assert_eq!(of(target), expected, "{target}");
        }
    }

    #[test]
    fn the_longest_target_is_a_short_route() {
        for piece in ["/a", ".a", "/", ".", "a", "é", "/1", ".9f86d081", "\u{9b}"] {
            let route = of(&format!("/{}", piece.repeat((1 << 20) / piece.len())));
            assert!(route.len() < 3 * LONGEST && !route.contains(char::is_control), "{piece}: {}", route.len());
        }
        assert_eq!(of(&"/a.b".repeat(1_000)), "/a.b".repeat(LONGEST / 4) + "/…");
    }

    proptest! {
        #[test]
        fn routes_are_bounded_and_have_no_query(target in "/[!-~äé€]{0,400}") {
            let route = of(&target);
            prop_assert!(route.len() < 3 * LONGEST && !route.contains('?'), "{}", route);
        }
    }
}
