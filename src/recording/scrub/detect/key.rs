//! Keys of well-known services, which say by their first letters what they are. These are so telling that they are looked for anywhere,
//! in a User-Agent and in the midst of a path too.

use std::ops::Range;

use super::LONG_WORD;

/// How keys of one kind begin, and what stands behind that.
struct Shape {
    begins: &'static [&'static [u8]],
    /// Letters and digits, dashes and low lines.
    least: usize,
    /// How many more of them there may be.
    more: usize,
    letters: Letters,
}

#[derive(Clone, Copy)]
enum Letters {
    /// Capitals and digits.
    Capitals,
    Any,
}

const ANY_LENGTH: usize = usize::MAX;

/// As their makers document them, with prefixes that are theirs only. Lengths are those in use, since others may come: exact where the
/// prefix is so short that it could begin a word.
const SHAPES: [Shape; 8] = [
    // AWS: unique identifiers of the IAM user guide: long-term and temporary keys.
    Shape { begins: &[b"AKIA", b"ASIA"], least: 16, more: 0, letters: Letters::Capitals },
    // GitHub: "token formats" of its authentication guide.
    Shape { begins: &[b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_"], least: 30, more: ANY_LENGTH, letters: Letters::Any },
    Shape { begins: &[b"github_pat_"], least: 22, more: ANY_LENGTH, letters: Letters::Any },
    // GitLab: "token prefixes" of its security guide.
    Shape { begins: &[b"glpat-"], least: 20, more: ANY_LENGTH, letters: Letters::Any },
    // Google Cloud: API keys.
    Shape { begins: &[b"AIza"], least: 35, more: 0, letters: Letters::Any },
    // Slack: "token types" of its API.
    Shape {
        begins: &[b"xoxb-", b"xoxp-", b"xoxa-", b"xoxr-", b"xoxs-", b"xoxe-", b"xoxe.", b"xoxc-", b"xoxd-", b"xapp-"],
        least: 15,
        more: ANY_LENGTH,
        letters: Letters::Any,
    },
    // Stripe: secret and restricted keys, and those that sign its webhooks.
    Shape {
        begins: &[b"sk_live_", b"rk_live_", b"sk_test_", b"rk_test_", b"whsec_"],
        least: 14,
        more: ANY_LENGTH,
        letters: Letters::Any,
    },
    // npm and PyPI.
    Shape { begins: &[b"npm_", b"pypi-"], least: 36, more: ANY_LENGTH, letters: Letters::Any },
];

/// The keys in a word of `text`.
pub(super) fn keys(text: &[u8], word: Range<usize>, mut add: impl FnMut(Range<usize>)) {
    let mut from = word.start;
    while let Some(length) = text.get(from..word.end).filter(|rest| rest.len() >= LONG_WORD).map(key) {
        // The next beginning is behind what is no letter and no digit.
        from += match length {
            Some(length) => {
                add(from..from + length);
                length
            }
            None => text[from..word.end].iter().take_while(|byte| byte.is_ascii_alphanumeric()).count() + 1,
        };
    }
}

/// Whether it is worth trying the shapes: hardly any word begins like this.
fn may_begin(word: &[u8]) -> bool {
    match word {
        [b'A', second, ..] => b"KSI".contains(second),
        [b'g', second, ..] => b"hil".contains(second),
        [b'x', second, ..] => b"oa".contains(second),
        [b's' | b'r', b'k', ..] | [b'w', b'h', ..] | [b'n', b'p', ..] | [b'p', b'y', ..] => true,
        _ => false,
    }
}

/// The length of the key that `word` begins with.
fn key(word: &[u8]) -> Option<usize> {
    if !may_begin(word) {
        return None;
    }
    SHAPES.iter().find_map(|shape| {
        let begin = shape.begins.iter().find(|begin| word.starts_with(begin))?.len();
        let fits = |byte: &&u8| match shape.letters {
            Letters::Capitals => byte.is_ascii_uppercase() || byte.is_ascii_digit(),
            Letters::Any => byte.is_ascii_alphanumeric() || b"_-".contains(byte),
        };
        let length = word[begin..].iter().take_while(fits).count();
        let ends = word.get(begin + length).is_none_or(|next| !next.is_ascii_alphanumeric());
        let fits = length >= shape.least && length - shape.least <= shape.more && ends;
        fits.then_some(begin + length)
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Secret, TextKind, detect};
    use super::*;

    /// Put together here, so that no scanner takes this file for one that gives keys away.
    fn of(begin: &str, length: usize) -> String {
        begin.chars().chain("Z9Y8X7W6V5U4T3S2R1Q0PONMLKJIHGFEDCBA".chars().cycle()).take(begin.len() + length).collect()
    }

    fn found(text: &str) -> Vec<&str> {
        let mut found = Vec::new();
        detect(text.as_bytes(), TextKind::Header, &mut found);
        found.into_iter().filter(|one| one.secret == Secret::Key).map(|one| &text[one.range]).collect()
    }

    #[test]
    fn keys_are_told_by_how_they_begin() {
        for shape in &SHAPES {
            for begin in shape.begins {
                let key = of(str::from_utf8(begin).unwrap(), shape.least);
                assert_eq!(found(&key), [&key]);
                assert_eq!(found(&format!("agent/1.0 (key={key}; x)")), [&key]);
                assert_eq!(found(&format!("/hooks/for-{key}/now")), [&key]);
                let cut = &key[..key.len() - 1];
                assert_eq!(found(&format!("/a-long-name-of-a-file/{cut}")), <[&str; 0]>::default());
            }
        }
    }

    #[test]
    fn words_that_only_begin_like_keys_are_none() {
        let glued = format!("x{}", of("AKIA", 16));
        for word in ["ASIAN-FOOD-AND-COOKING-2024", "npm_and_yarn_and_more", "AKIAABCDEFGHIJKLMNOPQ", "AIzawa-is-a-name", &glued]
        {
            assert_eq!(found(word), <[&str; 0]>::default(), "{word}");
        }
    }
}
