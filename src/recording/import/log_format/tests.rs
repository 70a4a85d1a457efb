//! Format strings as users paste them, and lines that servers write with them.

use proptest::prelude::*;

use super::*;

const COMBINED: &str =
    r#"10.0.0.1 - frank [17/May/2015:10:05:03 +0000] "GET /a?b=c HTTP/1.1" 200 203023 "http://x/" "Mozilla (\"q\")""#;
/// What every test below wants of a line.
const WANTED: [(&str, &str); 4] =
    [("Client", "10.0.0.1"), ("RequestLine", "GET /a?b=c HTTP/1.1"), ("Status", "200"), ("BodyBytes", "203023")];

/// The values of a line by the name of their field.
fn values<'a>(format: &LogFormat, line: &'a str) -> Option<Vec<(String, &'a str)>> {
    let mut values = Vec::new();
    let read = format.values(line.as_bytes(), |field, value| {
        values.push((format!("{field:?}"), str::from_utf8(value).unwrap()));
        Some(())
    });
    read.map(|()| values)
}

fn value<'a>(format: &LogFormat, line: &'a str, name: &str) -> Option<&'a str> {
    values(format, line)?.into_iter().find_map(|(other, value)| (other == name).then_some(value))
}

fn refusal(text: &str) -> String {
    LogFormat::parse(text).unwrap_err().to_string()
}

#[test]
fn one_line_in_the_formats_of_three_servers() {
    let formats = [
        r#"$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent""#,
        r#"log_format main '${remote_addr} - $remote_user [$time_local] "$request" '
            '$status $body_bytes_sent "$http_referer" "$http_user_agent"';"#,
        r#"%h %l %u %t "%r" %>s %b "%{Referer}i" "%{User-Agent}i""#,
        r#"LogFormat "%h %l %u %t \"%r\" %>s %b \"%{Referer}i\" \"%{User-agent}i\"" combined"#,
        r#"%h %l %u %{[%d/%b/%Y:%H:%M:%S %z]}t "%r" %s %b "%!200,304{Referer}i" "%{User-Agent}i""#,
        r#"%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%(a)s""#,
        r#"access_log_format = '%(h)s %(l)s %(u)s %(t)s "%(r)s" %(s)s %(b)s "%(f)s" "%({user-agent}i)s"'"#,
    ];
    for text in formats {
        let format = LogFormat::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        for (name, wanted) in WANTED {
            assert_eq!(value(&format, COMBINED, name), Some(wanted), "{text}: {name}");
        }
        let agent =
            format.fields().position(|field| matches!(field, Field::Header(name) if name.eq_ignore_ascii_case("user-agent")));
        assert_eq!(values(&format, COMBINED).unwrap()[agent.unwrap()].1, r#"Mozilla (\"q\")"#, "{text}");
    }
}

#[test]
fn the_built_in_format_takes_common_combined_and_durations() {
    let format = LogFormat::combined();
    let took = "Took(1000)";
    let common = &COMBINED[..COMBINED.find(" \"http").unwrap()];
    assert_eq!(values(&format, common).unwrap().len(), LogFormat::COMMON);
    assert_eq!(values(&format, COMBINED).unwrap().len(), LogFormat::COMBINED);
    assert_eq!(value(&format, &format!("{COMBINED} 15300 <1234>"), took), Some("15300"));
    // nginx's $request_time is no number of microseconds; LogLines sees that.
    assert_eq!(value(&format, &format!("{COMBINED} 0.015 \"x\""), took), Some("0.015"));
    assert_eq!(value(&format, &COMBINED.replace("frank", "john doe"), "Client"), Some("10.0.0.1"));
    assert_eq!(value(&format, &COMBINED.replace("203023", "-"), "BodyBytes"), Some("-"));
    assert_eq!(value(&format, &COMBINED.replace("10.0.0.1", ""), "Client"), Some(""));
    for wrong in ["", "hello", &common[..common.len() - 8], &COMBINED.replace('"', "")] {
        assert_eq!(values(&format, wrong), None, "{wrong}");
    }
}

#[test]
fn unknown_directives_are_passed_over() {
    let format = LogFormat::parse(r#"$a|$time_iso8601|$b "$request" up=$upstream_response_time;$c"#).unwrap();
    let line = r#"x y|2015-05-17T10:05:03+00:00|z "GET / HTTP/1.1" up=0.01, 0.02;any thing"#;
    assert_eq!(value(&format, line, "RequestLine"), Some("GET / HTTP/1.1"));
    assert_eq!(value(&format, line, "Time(Iso)"), Some("2015-05-17T10:05:03+00:00"));
    assert_eq!((format.source, format.moment, format.resolution), ("nginx-log", Moment::End, 1_000_000_000));
    assert_eq!(LogFormat::parse("$msec $request").unwrap().resolution, 1_000_000);
}

#[test]
fn apaches_times() {
    let parse = |text: &str| LogFormat::parse(&format!("{text} %r")).unwrap();
    let end = parse("%{end:usec}t");
    assert_eq!((end.moment, end.resolution), (Moment::End, 1_000));
    let both = parse("%{begin:msec}t %{end:usec}t");
    assert_eq!((both.moment, both.resolution), (Moment::Arrival, 1_000_000));
    let parts = parse("[%{%Y-%m-%d %T}t.%{usec_frac}t %{%z}t]");
    assert_eq!((parts.moment, parts.resolution), (Moment::Arrival, 1_000));
    assert_eq!(value(&parts, "[2015-05-17 10:05:03.123456 +0200] GET", "Time(Fraction)"), Some("123456"));
    assert_eq!(value(&parts, "[2015-05-17 10:05:03.123456 +0200] GET", "Time(Zone)"), Some("+0200"));
    assert_eq!(value(&parse("%{%%%n}t %t"), "%x [17/May/2015:10:05:03 +0000] GET", "RequestLine"), Some("GET"));
    assert_eq!(value(&parse("%^FB %t"), "- [17/May/2015:10:05:03 +0000] GET", "RequestLine"), Some("GET"));
}

#[test]
fn what_is_missing_is_named() {
    assert_eq!(refusal("combined"), "neither nginx's $variables nor Apache's %directives nor Gunicorn's %(atoms)s are in it");
    assert!(refusal("$request").starts_with("the time is not logged: $msec"));
    assert!(refusal("$msec $status").starts_with("the request is not logged: $request,"));
    assert!(refusal("%h %r").starts_with("the time is not logged: %t"));
    assert!(refusal("%t %s").starts_with("the request is not logged: %r"));
    assert!(refusal("%(t)s").starts_with("the request is not logged: %(r)s"));
    assert!(refusal("%(r)s").starts_with("the time is not logged: %(t)s"));
    assert_eq!(refusal("$remote_addr$request $msec"), "nothing stands between value 1 and the next: they cannot be told apart");
    assert_eq!(refusal("${request $msec"), "the directive at \"${request $msec\" does not end");
    assert_eq!(refusal("%(r)s %(t"), "the directive at \"%(t\" does not end");
    assert_eq!(refusal("%r %{usec"), "the directive at \"%{usec\" does not end");
    assert_eq!(refusal("%r %"), "the directive at \"%\" does not end");
    assert_eq!(refusal(&"$request ".repeat(MAX_VALUES + 1)), "more than 100 values");
    // The time of the end is a time, the date alone is none.
    assert!(refusal("%{%d/%b/%Y}t %r").starts_with("the time is not logged"));
}

#[test]
fn paths_and_queries_that_stand_together_are_one_value() {
    for text in ["$msec $request_method $uri$is_args$args x", "%t %m %U%q x", "%(t)s %(m)s %(U)s?%(q)s x"] {
        let format = LogFormat::parse(text).unwrap();
        assert!(format.has(|field| matches!(field, Field::PathAndQuery | Field::Query)), "{text}");
    }
}

proptest! {
    #[test]
    fn no_format_and_no_line_panics(
        pieces in prop::collection::vec(prop::sample::select(vec![
            "$request", "$msec", "$", "${", "${x}", "%r", "%t", "%", "%{", "%{%Y", "}t", "%(r)s", "%(t)s", "%(", "é", " ", "\"", "'", "\\",
            "[", "log_format x ", "LogFormat ", "escape=json", "%{end:usec}t", "%U%q", "$uri$args",
        ]), 0..12),
        line in prop::collection::vec(prop::sample::select(b"ab \"\\[]x0:-/.\xc3".to_vec()), 0..120),
    ) {
        if let Ok(format) = LogFormat::parse(&pieces.concat()) {
            let _ = format.values(&line, |_, _| Some(()));
        }
        let _ = LogFormat::combined().values(&line, |_, _| Some(()));
    }
}
