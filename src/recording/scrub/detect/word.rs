//! E-mail addresses, JSON web tokens, and words that look drawn by lot.

use std::ops::Range;

use super::set::Set;
use super::{TextKind, is_segment, runs};
use crate::recording::text::uuid::is_uuid;

/// Shorter words may be ids.
const TOKEN: usize = 20;
/// The same where the name of the field makes one suspect a secret.
const DRAWN: usize = 8;
/// In a word of twenty random letters and digits every second or third neighbour is of another class; in a name hardly any.
const NEIGHBOURS_PER_CHANGE: usize = 6;
/// As many hexadecimal digits in a row, letters among them, are no word.
const HEX: usize = 16;
static HEX_BYTES: Set = Set::HEX;
/// What a token in a path is made of.
static PATH_BYTES: Set = Set::LETTERS_AND_DIGITS.with(b"_-+");
/// What one elsewhere is made of.
static VALUE_BYTES: Set = Set::LETTERS_AND_DIGITS.with(b"_-.+/=");

pub(super) fn emails(text: &[u8], mut add: impl FnMut(Range<usize>)) {
    // The last `@`, and where the words begin that others of them join to it.
    let mut chain: Option<(usize, usize)> = None;
    for at in memchr::memchr_iter(b'@', text) {
        let local = text[..at].iter().rev().take_while(|byte| is_local(**byte)).count();
        let start = chain.filter(|(before, _)| before + 1 == at - local).map_or(at - local, |(_, start)| start);
        chain = Some((at, start));
        let domain = &text[at + 1..];
        let length = domain.iter().take_while(|byte| is_domain(**byte)).count();
        let domain = domain[..length].trim_ascii_end();
        let ending = domain.iter().rev().take_while(|byte| b".-".contains(byte)).count();
        let domain = &domain[..domain.len() - ending];
        if local > 0 && is_domain_name(domain) {
            add(start..at + 1 + domain.len());
        }
    }
}

/// What may stand before the `@` (RFC 5322, 3.2.3), but what separates values here.
fn is_local(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || !byte.is_ascii() || b"._+-'!#$*^`{|}~%".contains(&byte)
}

fn is_domain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || !byte.is_ascii() || b".-".contains(&byte)
}

/// Two labels or more, the last of letters. `logo@2x.png` is an image.
fn is_domain_name(domain: &[u8]) -> bool {
    let Some(dot) = memchr::memrchr(b'.', domain) else { return false };
    let top = &domain[dot + 1..];
    let is_image = matches!(domain, [b'0'..=b'9', b'x', b'.', ..]);
    let is_punycode = top.starts_with(b"xn--");
    dot > 0
        && !is_image
        && top.len() >= 2
        && (is_punycode || top.iter().all(|byte| byte.is_ascii_alphabetic() || !byte.is_ascii()))
}

/// `{"` in base64, and two dots behind it or more (RFC 7515, 7516).
pub(super) fn jwt(text: &[u8], range: Range<usize>) -> Option<Range<usize>> {
    let word = &text[range.clone()];
    let head = word.windows(3).position(|three| three == b"eyJ")?;
    memchr::memchr_iter(b'.', &word[head..]).nth(1).map(|_| range.start + head..range.end)
}

pub(super) fn tokens(text: &[u8], place: TextKind, mut add: impl FnMut(Range<usize>)) {
    let set = match place {
        TextKind::Path => &PATH_BYTES,
        TextKind::Value | TextKind::Header => &VALUE_BYTES,
    };
    for run in runs(text, TOKEN, set) {
        if (place != TextKind::Path || is_segment(text, &run)) && is_token(&text[run.clone()]) {
            add(run);
        }
    }
}

/// Whether a whole value looks drawn by lot, for fields whose name makes one suspect it. Shorter ones are told by chance.
pub(in crate::recording::scrub) fn is_drawn(value: &[u8]) -> bool {
    let is_word = value.len() >= DRAWN && value.iter().all(|byte| VALUE_BYTES.has(*byte));
    is_word && (is_uuid(value) || has_hex(value) || is_mixed(value))
}

fn is_token(word: &[u8]) -> bool {
    !is_uuid(word) && (has_hex(word) || is_mixed(word))
}

fn has_hex(word: &[u8]) -> bool {
    runs(word, HEX, &HEX_BYTES).any(|run| {
        let run = &word[run];
        run.iter().any(u8::is_ascii_digit) && run.iter().any(u8::is_ascii_alphabetic)
    })
}

/// Whether small letters, capitals and digits alternate as only chance lets them. A capital that begins a part of the word is usual,
/// and so are capitals within it if there are few and no digit.
fn is_mixed(word: &[u8]) -> bool {
    let class = |byte: u8| match byte {
        b'0'..=b'9' => 1_u8,
        b'A'..=b'Z' => 2,
        b'a'..=b'z' => 3,
        _ => 0,
    };
    let (mut changes, mut counts) = (0, [0_usize; 4]);
    let (mut earlier, mut before) = (0, 0);
    for now in word.iter().map(|byte| class(*byte)) {
        counts[usize::from(now)] += 1;
        let begins_a_part = earlier == 0 && before == 2 && now == 3;
        changes += usize::from(now != before && now != 0 && before != 0 && !begins_a_part);
        (earlier, before) = (before, now);
    }
    let [_, digits, capitals, small] = counts;
    changes * NEIGHBOURS_PER_CHANGE >= word.len() && (digits > 0 || capitals * 3 >= capitals + small)
}
