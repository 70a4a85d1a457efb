//! What reaches a recording of what must not.

use tuningfork::recording::{BodyPolicy, Header, Method, Recording, Request, Scrub, ScrubKey, Target, UnixNanos, audit};

use super::written;

/// A secret that a name or its look gives away is gone, whatever surrounds it, and what is left is of the same length.
pub(super) fn scrub(input: &[u8]) {
    const CANARY: &str = "Zq7CanaryX9wTbird42";
    let (place, input) = input.split_first().map_or((0, input), |(place, rest)| (*place, rest));
    let around: String = String::from_utf8_lossy(input).chars().filter(|letter| *letter > ' ' && *letter != '\x7f').collect();
    let (before, behind) = around.split_at(around.floor_char_boundary(around.len() / 2));
    if around.contains(CANARY) {
        return;
    }
    let (target, header) = match place % 8 {
        0 => (format!("/{before}?{behind}&token={CANARY}"), None),
        1 => (format!("/?api%5Fkey={CANARY}&{around}"), None),
        2 => (format!("/?{before}&q={CANARY}@example.org;{behind}"), None),
        3 => (format!("/?{before}&x=eyJ{CANARY}.eyJzdWIi.c2ln&{behind}"), None),
        4 => ("/".to_owned(), Some(("Cookie", format!("{before}; sid={CANARY}{behind}")))),
        5 => ("/".to_owned(), Some(("authorization", format!("{before} {CANARY}{behind}")))),
        6 => ("/".to_owned(), Some(("Referer", format!("http://a/{before}?{behind}&userMail={CANARY}")))),
        _ => ("/".to_owned(), None),
    };
    let length = target.len();
    let Some(target) = Target::new(&target) else { return };
    let headers = header.and_then(|(name, value)| Header::new(name, &value));
    let request = Request {
        at: UnixNanos(0),
        method: Method::new("POST").expect("invariant: a token"),
        target,
        connection: None,
        ordinal: None,
        headers: headers.into_iter().collect(),
        body: format!("{{\"password\":\"{CANARY}\"}}").into_bytes(),
        status: None,
        duration: None,
        response_bytes: None,
    };
    for bodies in [BodyPolicy::Dropped, BodyPolicy::Scrubbed] {
        let mut request = request.clone();
        Scrub::new(ScrubKey([7; 16])).with_bodies(bodies).request(&mut request);
        assert_eq!(request.target.as_str().len(), length);
        assert!(!contains(&request.body, CANARY));
        let recording = Recording { requests: vec![request], ..Recording::default() };
        let text = written(&recording);
        assert!(!contains(&text, CANARY), "{}", String::from_utf8_lossy(&text));
        let audit = audit(text.as_slice()).expect("what was written can be read");
        assert!(audit.is_clean(), "{audit:?} of {}", String::from_utf8_lossy(&text));
    }
}

fn contains(text: &[u8], part: &str) -> bool {
    memchr::memmem::find(text, part.as_bytes()).is_some()
}
