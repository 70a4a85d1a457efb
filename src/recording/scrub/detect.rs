//! Finds secrets by their look, whatever the field is called. A text without any costs a few glances: every search begins with what is
//! rare, or looks at one byte in as many as the shortest secret has. Refuses to guess where an ordinary id would be taken for a secret:
//! paths are what is measured.

mod address;
mod key;
mod number;
mod set;
mod word;

use std::ops::Range;

use super::secret::{Coding, Found, Secret};
use super::user::users;
use set::Set;
pub(super) use word::is_drawn;

/// The shortest of them all is `a@b.cd`.
pub(super) const SHORTEST: usize = 6;
/// Keys and tokens are at least as long: `AKIA` and sixteen more.
const LONG_WORD: usize = 20;
/// What they are made of.
static WORD: Set = Set::LETTERS_AND_DIGITS.with(b"._-");

/// What a text is, and so what may be in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TextKind {
    /// A header of the protocol: long words and dotted numbers are products and versions.
    Header,
    /// A path: a token or an address is a whole segment, since parts of one are names of files with a version or a checksum.
    Path,
    /// A value that somebody entered or was given.
    Value,
}

/// Appends every secret in `text`, from which all encoding is removed.
pub(super) fn detect(text: &[u8], place: TextKind, found: &mut Vec<Found>) {
    if text.len() < SHORTEST {
        return;
    }
    let mut add = |range: Range<usize>, secret| found.push(Found { range, secret, coding: Coding::Percent });
    word::emails(text, |range| add(range, Secret::Email));
    users(text, |range| add(range, Secret::Credentials));
    for word in runs(text, LONG_WORD, &WORD) {
        key::keys(text, word.clone(), |range| add(range, Secret::Key));
        if let Some(range) = word::jwt(text, word) {
            add(range, Secret::Jwt);
        }
    }
    number::cards(text, |range| add(range, Secret::Card));
    number::ibans(text, |range| add(range, Secret::Iban));
    if place != TextKind::Header {
        number::phones(text, |range| add(range, Secret::Phone));
        address::addresses(text, place, |range| add(range, Secret::Address));
        word::tokens(text, place, |range| add(range, Secret::Token));
    }
}

/// Every longest run of at least `least` bytes that belong. Where there is none, one byte in `least` is looked at.
fn runs(text: &[u8], least: usize, set: &Set) -> impl Iterator<Item = Range<usize>> {
    // Just behind a byte that does not belong.
    let mut from = 0;
    std::iter::from_fn(move || {
        loop {
            let probe = from + least - 1;
            if !set.has(*text.get(probe)?) {
                from = probe + 1;
                continue;
            }
            let start = text[from..probe].iter().rposition(|byte| !set.has(*byte)).map_or(from, |last| from + last + 1);
            let end = text[probe..].iter().position(|byte| !set.has(*byte)).map_or(text.len(), |first| probe + first);
            from = end + 1;
            if end - start >= least {
                return Some(start..end);
            }
        }
    })
}

/// The bytes next to a range, if there are any.
fn beside(text: &[u8], range: &Range<usize>) -> (Option<u8>, Option<u8>) {
    (range.start.checked_sub(1).map(|before| text[before]), text.get(range.end).copied())
}

/// Whether a range of a path is a whole segment, or a parameter of one.
fn is_segment(text: &[u8], range: &Range<usize>) -> bool {
    let (before, behind) = beside(text, range);
    before.is_none_or(|byte| b"/;=,:".contains(&byte)) && behind.is_none_or(|byte| b"/;=,:".contains(&byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(text: &str, place: TextKind) -> Vec<(Secret, &str)> {
        let mut found = Vec::new();
        detect(text.as_bytes(), place, &mut found);
        super::super::secret::merge(&mut found);
        found.into_iter().map(|one| (one.secret, &text[one.range])).collect()
    }

    #[test]
    fn secrets_are_found_among_other_things() {
        for (secret, text) in [
            (Secret::Email, "ann@example.org"),
            (Secret::Email, "ann.o'neil+x@mail.example.museum"),
            (Secret::Email, "jörg@köln.de"),
            (Secret::Email, "a@b@c@d@e@f@g@example.org"),
            (Secret::Jwt, "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"),
            (Secret::Card, "4111111111111111"),
            (Secret::Card, "5500-0000-0000-0004"),
            (Secret::Card, "3400 000000 00009"),
            (Secret::Card, "4222222222222"),
            (Secret::Iban, "DE89370400440532013000"),
            (Secret::Iban, "GB82 WEST 1234 5698 7654 32"),
            (Secret::Iban, "nl91abna0417164300"),
            (Secret::Phone, "+4915112345678"),
            (Secret::Phone, "+1 (555) 010-9999"),
            (Secret::Phone, "+++++++++4915112345678"),
            (Secret::Address, "203.0.113.7"),
            (Secret::Address, "2001:db8::8a2e:370:7334"),
            (Secret::Address, "fe80::1"),
            (Secret::Token, "9f86d081884c7d659a2feaa0c55ad015"),
            (Secret::Token, "dGhpcyBpcyBhIHNlY3JldCB0b2tlbg=="),
            (Secret::Token, "k3j9x0a8b2m4n7q1z5w6"),
            (Secret::Token, "QwErTyUiOpAsDfGhJkLz"),
        ] {
            assert_eq!(found(text, TextKind::Value), [(secret, text)]);
            let within = format!("x, {text} ,y");
            assert_eq!(found(&within, TextKind::Value), [(secret, text)]);
        }
        assert_eq!(found("/u/ann@example.org/x", TextKind::Path), [(Secret::Email, "ann@example.org")]);
        assert_eq!(found("bot/1.0 (+mailto:b@c.de)", TextKind::Header), [(Secret::Email, "b@c.de")]);
        assert_eq!(found("bot/1.0 (+http://ann:pw@db)", TextKind::Header), [(Secret::Credentials, "ann:pw")]);
        assert_eq!(found("/ip/203.0.113.7", TextKind::Path), [(Secret::Address, "203.0.113.7")]);
        assert_eq!(
            found("/r/9f86d081884c7d659a2feaa0c55ad015/", TextKind::Path),
            [(Secret::Token, "9f86d081884c7d659a2feaa0c55ad015")]
        );
    }

    #[test]
    fn what_is_measured_is_left_alone() {
        for path in [
            "/articles/2024/how-to-make-the-best-chocolate-cake-in-2024/",
            "/The-Art-Of-War-By-Sun-Tzu-Illustrated",
            "/orders/3f2504e0-4f89-11d3-9a0c-0305e82c3301",
            "/static/js/main.8f2d7a3b1c4e5f607182.js",
            "/img/logo@2x.png",
            "/npm/jquery@3.6.0/dist/jquery.min.js",
            "/@user/posts",
            "/download/app-1.2.3.4.tar.gz",
            "/photos/1712345678901",
            "/status/1800000000000000000",
            "/wiki/Special:Recent_Changes_In_The_Last_30_Days",
            "/HowToMakeTheBestChocolateCake",
            "/calendar/2024-01-15-2024-02-15",
            "/a+b/c++",
        ] {
            assert_eq!(found(path, TextKind::Path), [], "{path}");
        }
        for value in
            ["10:05:03", "2024-01-01T10:05:03Z", "52.520006599999998", "1712345678901", "a::b", "1.2.3", "summer_sale_2024_news"]
        {
            assert_eq!(found(value, TextKind::Value), [], "{value}");
        }
        let chrome = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36";
        assert_eq!(found(chrome, TextKind::Header), []);
    }

    proptest! {
        #[test]
        fn runs_are_those_a_plain_search_finds(text in "[ab]{0,80}", least in 1_usize..9) {
            let bytes = text.as_bytes();
            let mut plain = Vec::new();
            let mut at = 0;
            for run in text.split('b') {
                if run.len() >= least {
                    plain.push(at..at + run.len());
                }
                at += run.len() + 1;
            }
            prop_assert_eq!(runs(bytes, least, &Set::EMPTY.with(b"a")).collect::<Vec<_>>(), plain);
        }

        #[test]
        fn no_bytes_panic(text in prop::collection::vec(any::<u8>(), 0..200)) {
            for place in [TextKind::Header, TextKind::Path, TextKind::Value] {
                detect(&text, place, &mut Vec::new());
            }
        }

        #[test]
        fn no_near_miss_panics(text in "[a@.+:0-9eyJDE -]{0,80}") {
            for place in [TextKind::Header, TextKind::Path, TextKind::Value] {
                detect(text.as_bytes(), place, &mut Vec::new());
            }
        }
    }
}
