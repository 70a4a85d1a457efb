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
    let email = format!("{CANARY}@example.org");
    let form = "application/x-www-form-urlencoded";
    let json = format!("{{\"password\":\"{CANARY}\"}}");
    let plain = || ("/".to_owned(), None, json.clone());
    let header = |name: &'static str, value: String| ("/".to_owned(), Some((name, value)), json.clone());
    let target = |target: String| (target, None, json.clone());
    let (target, header, body) = match place % 16 {
        0 => target(format!("/{before}?{behind}&token={CANARY}")),
        1 => target(format!("/?api%5Fkey={CANARY}&{around}")),
        2 => target(format!("/?{before}&q={email};{behind}")),
        3 => target(format!("/?{before}&x=eyJ{CANARY}.eyJzdWIi.c2ln&{behind}")),
        4 => header("Cookie", format!("{before}; sid={CANARY}{behind}")),
        5 => header("authorization", format!("{before} {CANARY}{behind}")),
        6 => header("Referer", format!("http://a/{before}?{behind}&userMail={CANARY}")),
        8 => target(format!("/{before}?{email}={behind}")),
        9 => header("Cookie", format!("{before}; {email}={behind}")),
        10 => ("/".to_owned(), Some(("Content-Type", form.to_owned())), format!("{before}&{email}={behind}")),
        11 => target(format!("/{before}?x=amqp://{CANARY}:pw@mq/{behind}")),
        12 => target(format!("/{before}/http://ann:{CANARY}@db/{behind}")),
        13 => header("Accept-Token", format!("{before},{CANARY},{behind}")),
        14 => header("If-Secret", format!("{before},{CANARY},{behind}")),
        _ => plain(),
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
        body: body.into_bytes(),
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
