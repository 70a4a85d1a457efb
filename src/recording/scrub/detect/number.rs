//! Numbers with a check in them, and telephone numbers.

use std::ops::Range;

use super::runs;
use super::set::Set;

/// Digits of a card (ISO/IEC 7812-1).
const CARD: std::ops::RangeInclusive<usize> = 13..=19;
/// Characters of an IBAN (ISO 13616-1), blanks not counted.
const IBAN: std::ops::RangeInclusive<usize> = 15..=34;
/// Digits of a telephone number with its country (ITU-T E.164); shorter ones are not in use.
const PHONE: std::ops::RangeInclusive<usize> = 8..=15;

/// Between groups of a card's number stands a blank, as which a form writes `+`, or a dash.
static CARD_BYTES: Set = Set::DIGITS.with(b" +-");
static IBAN_BYTES: Set = Set::LETTERS_AND_DIGITS.with(b" +");

pub(super) fn cards(text: &[u8], mut add: impl FnMut(Range<usize>)) {
    for run in runs(text, *CARD.start(), &CARD_BYTES) {
        let mut from = run.start;
        while from < run.end {
            let is_fraction = from > 0 && text[from - 1] == b'.';
            from = match card(&text[from..run.end]) {
                Some(length) if !is_fraction => {
                    add(from..from + length);
                    from + length
                }
                _ => from + text[from..run.end].iter().take_while(|byte| byte.is_ascii_digit()).count() + 1,
            };
        }
    }
}

/// The length of the card's number that `text` begins with: groups of four digits or more, the last of three or more, whose first digit
/// is one of those that banks and merchants have (ISO/IEC 7812-1; 2 for Mastercard), and so is not that of a time in milliseconds.
fn card(text: &[u8]) -> Option<usize> {
    if !matches!(text.first(), Some(b'2'..=b'6')) {
        return None;
    }
    let (mut digits, mut group, mut found) = (0, 0, None);
    // Luhn's sum (ISO/IEC 7812-1, annex B) if the last digit is at an even place, and if at an odd one.
    let mut sums = [0_u32; 2];
    for (at, byte) in text.iter().enumerate() {
        if byte.is_ascii_digit() {
            let digit = u32::from(byte - b'0');
            let doubled = digit * 2 - if digit > 4 { 9 } else { 0 };
            sums[digits % 2] += digit;
            sums[(digits + 1) % 2] += doubled;
            (digits, group) = (digits + 1, group + 1);
        }
        let ends = text.get(at + 1).is_none_or(|next| !next.is_ascii_digit());
        if byte.is_ascii_digit() && ends && group >= 3 && CARD.contains(&digits) && sums[(digits + 1) % 2] % 10 == 0 {
            found = Some(at + 1);
        }
        if digits > *CARD.end() || (!byte.is_ascii_digit() && (group < 4 || ends)) {
            break;
        }
        if !byte.is_ascii_digit() {
            group = 0;
        }
    }
    found
}

pub(super) fn ibans(text: &[u8], mut add: impl FnMut(Range<usize>)) {
    for run in runs(text, *IBAN.start(), &IBAN_BYTES) {
        let mut from = run.start;
        while from < run.end {
            from = match iban(&text[from..run.end]) {
                Some(length) => {
                    add(from..from + length);
                    from + length
                }
                None => from + text[from..run.end].iter().take_while(|byte| byte.is_ascii_alphanumeric()).count() + 1,
            };
        }
    }
}

/// The length of the IBAN that `text` begins with: a country, two digits, and an account, for which all together are 1 modulo 97.
fn iban(text: &[u8]) -> Option<usize> {
    let [a, b, c, d, account @ ..] = text else { return None };
    let begins = a.is_ascii_alphabetic() && b.is_ascii_alphabetic() && c.is_ascii_digit() && d.is_ascii_digit();
    if !begins {
        return None;
    }
    let (mut length, mut rest, mut found) = (4, 0, None);
    for (at, byte) in account.iter().enumerate() {
        let ends = account.get(at + 1).is_none_or(|next| !next.is_ascii_alphanumeric());
        if byte.is_ascii_alphanumeric() {
            length += 1;
            rest = modulo_97(rest, *byte);
            let whole = [a, b, c, d].into_iter().fold(rest, |rest, byte| modulo_97(rest, *byte));
            if ends && IBAN.contains(&length) && whole == 1 {
                found = Some(4 + at + 1);
            }
        }
        if length > *IBAN.end() || (!byte.is_ascii_alphanumeric() && ends) {
            break;
        }
    }
    found
}

/// Appends a digit, or the two digits of a letter, to a number of which only the rest matters (ISO/IEC 7064).
fn modulo_97(rest: u32, byte: u8) -> u32 {
    match byte {
        b'0'..=b'9' => (rest * 10 + u32::from(byte - b'0')) % 97,
        _ => (rest * 100 + u32::from(byte.to_ascii_uppercase() - b'A') + 10) % 97,
    }
}

pub(super) fn phones(text: &[u8], mut add: impl FnMut(Range<usize>)) {
    let mut end = 0;
    for plus in memchr::memchr_iter(b'+', text) {
        let within_a_word = plus > 0 && text[plus - 1].is_ascii_alphanumeric();
        if plus < end || within_a_word || !matches!(text.get(plus + 1), Some(b'1'..=b'9')) {
            continue;
        }
        if let Some(length) = phone(&text[plus + 1..]) {
            end = plus + 1 + length;
            // Else the one before would begin a number again when this one is replaced.
            let more = text[..plus].iter().rev().take_while(|byte| **byte == b'+').count();
            add(plus - more..end);
        }
    }
}

/// The length of the number that `text` begins with: digits, and at most two separators in a row.
fn phone(text: &[u8]) -> Option<usize> {
    let (mut digits, mut gap, mut length) = (0, 0, 0);
    for (at, byte) in text.iter().enumerate() {
        match byte {
            b'0'..=b'9' => (digits, gap, length) = (digits + 1, 0, at + 1),
            b' ' | b'+' | b'-' | b'(' | b')' | b'.' | b'/' if gap < 2 => gap += 1,
            _ => break,
        }
        if digits > *PHONE.end() {
            break;
        }
    }
    PHONE.contains(&digits).then_some(length)
}
