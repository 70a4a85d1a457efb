//! Addresses of the Internet Protocol. Four numbers with dots are also how some count versions: what is glued to a name is one.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::ops::Range;
use std::str::FromStr;

use super::set::Set;
use super::{TextKind, beside, is_segment, runs};

/// `1.1.1.1`
const SHORTEST_V4: usize = 7;
/// Shorter ones are nobody's.
const SHORTEST_V6: usize = 6;
/// With an IPv4 address at its end.
const LONGEST_V6: usize = 45;
static V4_BYTES: Set = Set::DIGITS.with(b".");

pub(super) fn addresses(text: &[u8], place: TextKind, mut add: impl FnMut(Range<usize>)) {
    for mut run in runs(text, SHORTEST_V4, &V4_BYTES) {
        // The end of a sentence.
        run.end -= usize::from(text[run.end - 1] == b'.');
        if is::<Ipv4Addr>(&text[run.clone()]) && stands_alone(text, &run, place) {
            add(run);
        }
    }
    let mut end = 0;
    for colon in memchr::memchr_iter(b':', text).filter(|colon| text.len() - colon > 1) {
        if colon < end {
            continue;
        }
        let belongs = |byte: &&u8| byte.is_ascii_hexdigit() || b":.".contains(byte);
        let start = colon - text[end..colon].iter().rev().take_while(belongs).count();
        end = colon + text[colon..].iter().take_while(belongs).count();
        let run = start..end;
        if (SHORTEST_V6..=LONGEST_V6).contains(&run.len())
            && is::<Ipv6Addr>(&text[run.clone()])
            && stands_alone(text, &run, place)
        {
            add(run);
        }
    }
}

fn is<T: FromStr>(text: &[u8]) -> bool {
    str::from_utf8(text).is_ok_and(|text| text.parse::<T>().is_ok())
}

fn stands_alone(text: &[u8], range: &Range<usize>, place: TextKind) -> bool {
    let (before, behind) = beside(text, range);
    let glued = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    match place {
        TextKind::Path => is_segment(text, range),
        TextKind::Header | TextKind::Value => !glued(before) && !glued(behind.filter(|byte| *byte != b'.')),
    }
}
