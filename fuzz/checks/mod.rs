//! What must hold of any input: nothing panics, and what is said of each check. The fuzz targets and the test that replays their seeds
//! share it.

mod connections;
mod imports;
mod responses;
mod scrubbing;

use std::time::Duration;

use tuningfork::recording::{self, Broken, Reader, Recording, Request, Share, Statuses};
use tuningfork::replay::{Arrivals, Copies, Load, Plan, PlanOptions, Profile, Reuse, Sessions, Speed, Timetable, Turns};
use tuningfork::study::Slo;

/// Two connections.
const PLAYED: &str = r#"{"t":0.1,"c":"a","n":1,"m":"GET","u":"/1"}
{"t":0.2,"c":"b","n":1,"m":"GET","u":"/2"}
{"t":0.25,"c":"a","n":2,"m":"GET","u":"/3"}
{"t":4,"m":"GET","u":"/4"}
"#;

type Check = fn(&[u8]);

/// Every check by the name of its target.
pub(crate) const CHECKS: [(&str, Check); 11] = [
    ("jsonl", jsonl),
    ("combined", imports::combined),
    ("nginx_json", imports::nginx_json),
    ("alb", imports::alb),
    ("har", imports::har),
    ("gor", imports::gor),
    ("log_format", imports::log_format),
    ("scrub", scrubbing::scrub),
    ("http1", responses::http1),
    ("options", options),
    ("tap", connections::tap),
];

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
    let mut headers = [httparse::EMPTY_HEADER; 256];
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
