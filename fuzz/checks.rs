//! What must hold of any input: nothing panics, and what is said of each check. The fuzz targets and the test that replays their seeds
//! share it.

use std::time::Duration;

use tuningfork::recording::{
    self, Broken, Header, Importer, JitterSeed, Method, Reader, Recording, Request, Scrub, ScrubKey, Share, Statuses, Target,
    UnixNanos,
};
use tuningfork::replay::{
    Answer, Arrivals, Copies, FramingError, Load, Plan, PlanOptions, Profile, Progress, Response, ResponseBody, Reuse, Sessions,
    Speed, Timetable, Turns,
};
use tuningfork::study::Slo;

/// Two connections.
const PLAYED: &str = r#"{"t":0.1,"c":"a","n":1,"m":"GET","u":"/1"}
{"t":0.2,"c":"b","n":1,"m":"GET","u":"/2"}
{"t":0.25,"c":"a","n":2,"m":"GET","u":"/3"}
{"t":4,"m":"GET","u":"/4"}
"#;

type Check = fn(&[u8]);

/// Every check by the name of its target.
pub(crate) const CHECKS: [(&str, Check); 5] =
    [("jsonl", jsonl), ("access_log", access_log), ("scrub", scrub), ("http1", http1), ("options", options)];

/// Makes one check.
pub(crate) fn run(name: &str, input: &[u8]) {
    let check = CHECKS.iter().find(|(known, _)| *known == name).expect("invariant: a target is named like its check");
    check.1(input);
}

/// A recording that is read, written and read is the same, read whole or by request; it compiles, or says why not.
fn jsonl(input: &[u8]) {
    let whole = recording::read(input);
    assert_eq!(whole.is_ok(), count(input).is_some(), "whole and by request");
    let Ok(recording) = whole else { return };
    assert_eq!(count(input), Some(recording.requests.len()));
    survives_writing(&recording);
    for reuse in [Reuse::KeepAlive, Reuse::PerRequest] {
        if let Ok(plan) = Plan::compile(&recording, &PlanOptions::new("localhost", reuse)) {
            plan.requests().iter().for_each(|request| is_one_request(plan.bytes(request)));
            let (speed, copies) = (Speed::RECORDED, Copies::ONE);
            is_in_order(&plan, &Load::Recorded { speed, copies, sessions: Sessions::Kept });
        }
    }
}

/// What goes over the wire for one recorded request is read as one request.
fn is_one_request(bytes: &[u8]) {
    let mut headers = [httparse::EMPTY_HEADER; 1_024];
    let mut head = httparse::Request::new(&mut headers);
    let end = match head.parse(bytes) {
        Ok(httparse::Status::Complete(end)) => end,
        // More headers than are looked at here.
        Err(httparse::Error::TooManyHeaders) => return,
        other => panic!("{other:?} of {:?}", String::from_utf8_lossy(bytes)),
    };
    let named = |name: &str| head.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name)).collect::<Vec<_>>();
    assert_eq!(named("host").len(), 1);
    assert!(named("transfer-encoding").is_empty());
    let lengths = named("content-length");
    let length = lengths.first().map_or("0", |header| str::from_utf8(header.value).expect("digits"));
    assert!(lengths.len() <= 1);
    assert_eq!(length.parse(), Ok(bytes.len() - end));
}

/// The first arrivals of a load never go back in time.
fn is_in_order(plan: &Plan, load: &Load) -> Duration {
    let arrivals = Timetable::new(plan, 0, load, Turns::Endless).into_iter().flatten().take(500);
    arrivals.fold(Duration::ZERO, |before, arrival| {
        assert!(arrival.index < plan.requests().len() && arrival.at >= before);
        arrival.at
    })
}

/// Options that are more than a word or a number: what is accepted is written as something that means the same.
fn options(input: &[u8]) {
    let Ok(text) = str::from_utf8(input) else { return };
    let recording = recording::read(PLAYED.as_bytes()).expect("invariant: a recording");
    let plan = Plan::compile(&recording, &PlanOptions::new("localhost", Reuse::KeepAlive)).expect("invariant: harmless");
    if let Ok(rate) = text.parse::<Profile>() {
        let again: Profile = rate.to_string().parse().expect("what was written can be read");
        assert_eq!(again, rate);
        for arrivals in [Arrivals::Even, Arrivals::Poisson { seed: 1 }] {
            assert!(is_in_order(&plan, &Load::Profile { rate: rate.clone(), arrivals }) <= rate.duration());
        }
    }
    if let (Ok(speed), Ok(copies)) = (text.parse::<Speed>(), text.parse::<Copies>()) {
        is_in_order(&plan, &Load::Recorded { speed, copies, sessions: Sessions::Kept });
        is_in_order(&plan, &Load::Recorded { speed, copies, sessions: Sessions::Pooled });
    }
    if let Ok(share) = text.parse::<Share>() {
        assert!(share.get() > 0.0 && share <= Share::ALL);
    }
    if let Ok(statuses) = text.parse::<Statuses>() {
        assert!((100..=999).any(|status| statuses.contains(status)));
    }
    if let Ok(slo) = text.parse::<Slo>() {
        let again: Slo = slo.to_string().parse().expect("what was written can be read");
        assert_eq!(again.to_string(), slo.to_string());
    }
}

/// Reads request by request.
fn count(input: &[u8]) -> Option<usize> {
    let mut reader = Reader::new(input).ok()?;
    let mut count = 0;
    while reader.next().ok()?.is_some() {
        count += 1;
    }
    reader.finish().ok().map(|_| count)
}

fn survives_writing(recording: &Recording) {
    // What a number of seconds holds to the nanosecond.
    const EXACT: Duration = Duration::from_nanos(1 << 53);
    let exact = |recording: &Recording| -> Vec<Request> {
        let duration = |request: &Request| request.duration.filter(|duration| *duration < EXACT);
        recording.requests.iter().map(|request| Request { duration: duration(request), ..request.clone() }).collect()
    };
    let again = recording::read(written(recording).as_slice()).expect("what was written can be read");
    assert_eq!((&again.meta, exact(&again)), (&recording.meta, exact(recording)));
    assert_eq!(again.broken, Broken::default());
}

fn written(recording: &Recording) -> Vec<u8> {
    let mut written = Vec::new();
    recording::write(recording, &mut written).expect("invariant: a vector takes everything");
    written
}

/// What is imported of a log, in one file or two, is a recording in order of arrival that can be written and read.
fn access_log(input: &[u8]) {
    let (first, second) = input.split_at(input.len() / 2);
    for files in [vec![input], vec![first, second]] {
        let mut importer = Importer::new(ScrubKey([1; 16]), JitterSeed(1));
        for file in files {
            let _ = importer.read(file);
        }
        let Ok(recording) = importer.finish() else { continue };
        assert!(recording.requests.is_sorted_by_key(|request| request.at), "in order of arrival");
        survives_writing(&recording);
    }
}

/// A secret that a name or its look gives away is gone, whatever surrounds it, and what is left is of the same length.
fn scrub(input: &[u8]) {
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
        4 => ("/".to_owned(), Some(("Cookie", format!("{before}{CANARY}{behind}")))),
        5 => ("/".to_owned(), Some(("authorization", format!("{before} {CANARY}{behind}")))),
        6 => ("/".to_owned(), Some(("Referer", format!("http://a/{before}?{behind}&userMail={CANARY}")))),
        _ => ("/".to_owned(), None),
    };
    let length = target.len();
    let Some(target) = Target::new(&target) else { return };
    let headers = header.and_then(|(name, value)| Header::new(name, &value));
    let mut request = Request {
        at: UnixNanos(0),
        method: Method::new("POST").expect("invariant: a token"),
        target,
        connection: None,
        ordinal: None,
        headers: headers.into_iter().collect(),
        body: CANARY.as_bytes().to_vec(),
        status: None,
        duration: None,
        response_bytes: None,
    };
    Scrub::new(ScrubKey([7; 16])).request(&mut request);
    assert_eq!(request.target.as_str().len(), length);
    let recording = Recording { requests: vec![request], ..Recording::default() };
    let text = String::from_utf8(written(&recording)).expect("invariant: JSON is UTF-8");
    // Base64 of a body hides nothing from who looks for it.
    assert!(!text.contains(CANARY) && !text.contains("WnE3Q2FuYXJ5WDl3VGJpcmQ0"), "{text}");
}

/// Where a response ends does not depend on how it comes, and the next one is read as if it were the first.
fn http1(input: &[u8]) {
    let Some(([asked, cuts @ ..], bytes)) = input.split_first_chunk::<4>() else { return };
    let body = if asked % 2 == 0 { ResponseBody::Possible } else { ResponseBody::Never };
    let mut response = Response::new(1 << 16);
    let whole = framed(&mut response, body, &[bytes]);
    let mut cuts = cuts.map(|cut| bytes.len() * usize::from(cut) / 255);
    cuts.sort_unstable();
    let pieces = [&bytes[..cuts[0]], &bytes[cuts[0]..cuts[1]], &bytes[cuts[1]..cuts[2]], &bytes[cuts[2]..]];
    assert_eq!(framed(&mut response, body, &pieces), whole, "in four pieces");
    let every: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(framed(&mut response, body, &every), whole, "byte by byte");
    response.begin(ResponseBody::Possible);
    let next = response.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    assert_eq!(next, Ok(Progress::Complete(Answer { status: 200, content: 2, reusable: true })));
}

/// What became of a response whose connection ended after `pieces`.
fn framed(response: &mut Response, body: ResponseBody, pieces: &[&[u8]]) -> Result<Option<Answer>, FramingError> {
    response.begin(body);
    for piece in pieces {
        response.feed(piece)?;
    }
    Ok(response.finish())
}
