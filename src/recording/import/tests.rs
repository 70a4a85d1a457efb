//! Inputs of every format through the public entry, as a user's files go.

use proptest::prelude::*;

use super::*;
use crate::recording::{BodyPolicy, Header, LogFormat, Recording, ScrubKey, UnixNanos, read};

const SECOND: i64 = 1_000_000_000;
/// 17/May/2015:10:05:00 +0000.
const MINUTE: i64 = 1_431_857_100;
const KEY: ScrubKey = ScrubKey([1; 16]);
const SEED: JitterSeed = JitterSeed(1);

fn run(text: impl AsRef<[u8]>, format: &InputFormat) -> Result<(InputReport, Imported<Vec<u8>>), ImportFailure> {
    import(text.as_ref(), format, Vec::new(), Scrub::new(KEY), SEED)
}

/// What an input gives whose format is not named.
fn seen(text: impl AsRef<[u8]>) -> (InputReport, Recording) {
    let (report, imported) = run(text, &InputFormat::Auto).unwrap();
    let recording = read(imported.output.as_slice()).unwrap();
    assert_eq!(recording.requests.len() as u64, imported.requests);
    (report, recording)
}

fn line(client: &str, second: u32, request: &str) -> String {
    format!("{client} - - [17/May/2015:10:05:{second:02} +0000] \"{request}\" 200 5 \"-\" \"agent\"\n")
}

fn targets(recording: &Recording) -> Vec<&str> {
    recording.requests.iter().map(|request| request.target.as_str()).collect()
}

#[test]
fn a_combined_log_becomes_a_recording() {
    let log = [line("10.1.2.3", 7, "GET /b HTTP/1.1"), line("10.1.2.3", 3, "HEAD /a?token=s3cret HTTP/1.1")].concat();
    let (report, recording) = seen(&log);
    assert_eq!((report.requests, report.source.as_str()), (2, "access-log-combined"));
    let targets = targets(&recording);
    assert!(targets[0].starts_with("/a?token=") && !targets[0].contains("s3cret"));
    assert_eq!(targets[1], "/b");
    let [first, second] = recording.requests.as_slice() else { panic!("two requests") };
    assert_eq!(first.connection, second.connection);
    assert_eq!((first.ordinal, first.status), (None, Some(200)));
    assert_eq!(first.headers.iter().map(Header::name).collect::<Vec<_>>(), ["User-Agent"]);
    assert_eq!(first.at.0 / SECOND, MINUTE + 3);
    assert_eq!(recording.meta.ts_meaning.as_deref(), Some("logged"));
    let written = String::from_utf8(run(&log, &InputFormat::Auto).unwrap().1.output).unwrap();
    assert!(!written.contains("10.1.2.3") && !written.contains("s3cret"), "{written}");
}

#[test]
fn one_second_is_filled_in_the_order_of_the_file() {
    let log: String = (0..100).map(|n| line("::1", 3, &format!("GET /{n} HTTP/1.1"))).collect();
    let (_, recording) = seen(&log);
    assert_eq!(targets(&recording), (0..100).map(|n| format!("/{n}")).collect::<Vec<_>>());
    assert!(recording.requests.is_sorted_by(|a, b| a.at < b.at));
    assert_eq!(recording.requests[0].at.0 / SECOND, recording.requests[99].at.0 / SECOND);
    assert_eq!(seen(&log).1, recording, "the same seed gives the same times");
}

#[test]
fn a_logged_duration_moves_the_arrival_and_its_place() {
    let quick = line("::1", 3, "GET /quick HTTP/1.1").replace("\"agent\"", "\"agent\" 1000");
    let slow = line("::1", 9, "GET /slow HTTP/1.1").replace("\"agent\"", "\"agent\" 7500000");
    let (_, recording) = seen([quick, slow].concat());
    assert_eq!(targets(&recording), ["/slow", "/quick"]);
    let at = recording.requests[0].at.0 - (MINUTE + 9) * SECOND;
    assert!((-7_500_000_000..-6_500_000_000).contains(&at), "{at}");
    assert_eq!(recording.meta.ts_meaning.as_deref(), Some("arrival"));
    assert!(recording.meta.notes[0].starts_with("Gunicorn's clock"), "{:?}", recording.meta.notes);
    // A number that only some lines have is none of Gunicorn's.
    let mixed: String = (0..9)
        .map(|_| line("::1", 3, "GET / HTTP/1.1"))
        .chain([line("::1", 3, "GET / HTTP/1.1").replace("\"agent\"", "\"agent\" 99")])
        .collect();
    assert_eq!(seen(mixed).1.meta.ts_meaning.as_deref(), Some("logged"));
}

#[test]
fn common_logs_have_no_headers() {
    let (report, recording) = seen(line("::1", 3, "GET / HTTP/1.1").replace(" \"-\" \"agent\"", ""));
    assert_eq!(report.source, "access-log-common");
    assert_eq!(recording.meta.fidelity.unwrap().headers.as_deref(), Some("none"));
}

#[test]
fn broken_requests_cost_themselves_only() {
    let mut log =
        [r"-", r"\x16\x03\x01", r"GET /a b\x0D\x0A HTTP/1.1", "GET /", ""].map(|request| line("::1", 3, request)).concat();
    log.push_str(&line("::1", 4, "GET /ok HTTP/1.1"));
    log.push_str("::1 - - [17/May");
    let (report, recording) = seen(&log);
    assert_eq!((recording.requests.len(), report.without_request), (1, 2));
    assert_eq!(report.broken, Broken { count: 3, first: vec![2, 3, 4], torn: true });
}

#[test]
fn nothing_usable_is_refused_and_nothing_written() {
    assert!(matches!(run("", &InputFormat::Auto), Err(ImportFailure::Input(RecordingError::Empty))));
    assert!(matches!(run("hello\nworld\n", &InputFormat::Auto), Err(ImportFailure::Nothing(2))));
    assert!(matches!(run("{\n}\n", &InputFormat::Auto), Err(ImportFailure::Nothing(_))));
    assert!(matches!(run(b"BZh9", &InputFormat::Auto), Err(ImportFailure::Input(RecordingError::Compressed { .. }))));
    assert!(matches!(run("[1", &InputFormat::Har), Err(ImportFailure::Har(_))));
    let mut output = Vec::new();
    assert!(import(b"hello".as_slice(), &InputFormat::Auto, &mut output, Scrub::new(KEY), SEED).is_err());
    assert!(output.is_empty());
}

#[test]
fn a_foreign_recording_names_nobody() {
    let lines = concat!(
        r#"{"meta":{"source":"export for ann@example.org","notes":["secret=hunter2hunter2"]}}"#,
        "\n",
        r#"{"t":1,"m":"GET","u":"/a","c":"4915112345678"}"#,
        "\n",
        r#"{"t":2,"m":"GET","u":"/b","c":"4915112345678"}"#,
        "\n"
    );
    let (report, recording) = seen(lines);
    let told = format!("{report:?} {recording:?}");
    assert!(!["ann@example.org", "hunter2", "4915112345678"].iter().any(|secret| told.contains(secret)), "{told}");
    assert_eq!(recording.requests[0].connection, recording.requests[1].connection);
}

#[test]
fn every_format_is_seen_from_its_beginning() {
    let nginx =
        r#"{"te":1431857103.250,"d":0.050,"c":"41.977","n":3,"p":"HTTP/1.1","m":"GET","u":"/","s":200,"rb":5,"h":[],"bt":""}"#;
    let alb = concat!(
        r#"https 2015-05-17T10:05:03.250000Z app/lb/5 10.0.0.1:2817 10.0.0.2:80 0.000 0.048 0.000 200 200 0 57 "#,
        r#""GET https://a.example:443/ HTTP/1.1" "-" - - arn:aws:tg "Root=1-5" "-" "-" 1 2015-05-17T10:05:03.200000Z "forward" "-" "-""#
    );
    let har = r#"{"log":{"entries":[{"startedDateTime":"2015-05-17T10:05:03.200Z","request":{"method":"GET","url":"http://a.example/"}}]}}"#;
    let gor = "1 c0de1f907f000001000000aa 1431857103200000000 0\nGET / HTTP/1.1\r\nHost: a\r\n\r\n";
    let recording = r#"{"t":1431857103.2,"m":"GET","u":"/","c":"10.0.0.1"}"#;
    let inputs = [(nginx, "nginx-json"), (alb, "alb"), (har, "har"), (gor, "goreplay"), (recording, "")];
    for (text, source) in inputs {
        for input in [text.to_owned(), format!("{text}\n")] {
            let (report, recording) = seen(&input);
            assert_eq!((report.source.as_str(), report.requests, &report.broken), (source, 1, &Broken::default()), "{text}");
            assert_eq!(recording.requests[0].at, UnixNanos((MINUTE + 3) * SECOND + 200_000_000), "{text}");
            assert!(recording.requests[0].connection.as_deref().is_none_or(|name| !name.contains("10.0.0.1")), "{text}");
            assert_eq!(recording.meta.scrub.as_deref(), Some(Scrub::NAME));
        }
    }
    let spread = har.replace('{', "{\n  ");
    assert_eq!(seen(spread).0.source, "har");
}

#[test]
fn a_named_format_is_not_guessed() {
    let log = "GET / at 1431857103.250 for 0.250\n";
    assert!(matches!(run(log, &InputFormat::Auto), Err(ImportFailure::Nothing(1))));
    let format = LogFormat::parse("$request_method $request_uri at $msec for $request_time").unwrap();
    let (report, imported) = run(log, &InputFormat::Log(format)).unwrap();
    let recording = read(imported.output.as_slice()).unwrap();
    assert_eq!((report.source.as_str(), recording.meta.ts_resolution_ns), ("nginx-log", Some(1_000_000)));
    assert_eq!(recording.requests[0].at, UnixNanos((MINUTE + 3) * SECOND));
}

#[test]
fn connections_that_are_only_named_are_counted() {
    let record = |ack: u32, at: i64| {
        format!("1 c0de1f907f000001{ack:08x} {at} 0\nGET /{ack} HTTP/1.1\r\n\r\n\n\u{1f435}\u{1f648}\u{1f649}\n")
    };
    let (_, recording) =
        seen([record(3, 3 * SECOND), record(1, SECOND), record(2, 2 * SECOND), record(9, 900 * SECOND)].concat());
    let numbered: Vec<_> = recording.requests.iter().map(|request| (request.target.as_str(), request.ordinal)).collect();
    assert_eq!(numbered, [("/1", Some(1)), ("/2", Some(2)), ("/3", Some(3)), ("/9", Some(1))]);
    assert_ne!(recording.requests[2].connection, recording.requests[3].connection, "the port was used again");
}

#[test]
fn files_of_several_kinds_follow_each_other() {
    let log = line("::1", 3, "GET /log HTTP/1.1");
    let json = "{\"t\":1431857100,\"m\":\"GET\",\"u\":\"/json\",\"h\":[[\"Cookie\",\"sid=abc\"]]}\n";
    let inputs = || [log.as_str(), json, log.as_str()].map(|text| Input::new(text.as_bytes(), &InputFormat::Auto).unwrap());
    let meta = Meta::join(inputs().iter().map(Input::meta)).unwrap();
    let mut importer = Importer::new(Vec::new(), meta, Scrub::new(KEY), SEED);
    for input in inputs() {
        assert_eq!(importer.read(input).unwrap().requests, 1);
    }
    let total = importer.finish().unwrap();
    let recording = read(total.output.as_slice()).unwrap();
    assert_eq!((recording.meta.source.as_deref(), total.requests), (Some("mixed"), 3));
    assert!(recording.requests.iter().all(|request| request.headers.iter().all(|header| !header.value().contains("abc"))));
}

#[test]
fn bodies_are_kept_if_asked_and_the_recording_says_what_became_of_them() {
    let json = concat!(
        "{\"meta\":{\"fidelity\":{\"bodies\":\"all\"}}}\n",
        "{\"t\":1,\"m\":\"POST\",\"u\":\"/\",\"h\":[[\"Content-Type\",\"application/x-www-form-urlencoded\"]],\"b\":\"YT0xJnRva2VuPXMzY3JldA==\"}\n",
    );
    for (bodies, said, kept) in [(BodyPolicy::Dropped, "none", ""), (BodyPolicy::Scrubbed, "scrubbed", "a=1&token=")] {
        let scrub = Scrub::new(KEY).with_bodies(bodies);
        let (_, imported) = import(json.as_bytes(), &InputFormat::Auto, Vec::new(), scrub, SEED).unwrap();
        let recording = read(imported.output.as_slice()).unwrap();
        assert_eq!(recording.meta.fidelity.unwrap().bodies.as_deref(), Some(said));
        let body = str::from_utf8(&recording.requests[0].body).unwrap();
        assert!(body.starts_with(kept) && body.is_empty() == kept.is_empty() && !body.contains("s3cret"), "{body}");
    }
}

#[test]
fn what_comes_too_late_is_written_and_counted() {
    let json = |at: i64| format!("{{\"t\":{at},\"m\":\"GET\",\"u\":\"/{at}\"}}\n");
    let (_, imported) = run([json(100), json(500), json(450), json(1)].concat(), &InputFormat::Auto).unwrap();
    assert_eq!((imported.requests, imported.out_of_order), (4, 1));
    assert_eq!(targets(&read(imported.output.as_slice()).unwrap()), ["/100", "/1", "/450", "/500"]);
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        use InputFormat::{Alb, Auto, Combined, Gor, Har, JsonLines, NginxJson};
        for format in [Auto, Combined, NginxJson, Alb, Har, Gor, JsonLines, InputFormat::Log(LogFormat::parse("%t %r").unwrap())] {
            let _ = run(&bytes, &format);
        }
    }

    #[test]
    fn no_request_is_lost(stamps in prop::collection::vec((0..60_u32, 0..100_000_000_u32), 1..100)) {
        let log: String = stamps.iter().map(|(second, took)| line("::1", *second, "GET / HTTP/1.1").replace("\"agent\"", &format!("\"agent\" {took}"))).collect();
        let (report, imported) = run(&log, &InputFormat::Auto).unwrap();
        prop_assert_eq!((report.requests, imported.requests), (stamps.len() as u64, stamps.len() as u64));
        prop_assert_eq!(read(imported.output.as_slice()).unwrap().requests.len(), stamps.len());
    }
}
