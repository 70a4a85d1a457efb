use std::time::{Duration, UNIX_EPOCH};

use super::*;
use crate::commands::tune_output::Paper;
use crate::load::{Lateness, LeftOut, Second, Statuses, Unfinished};
use crate::stats::Latencies;
use crate::units::Rate;

const WIDE: Paper = Paper { width: 100, colour: false };
const NARROW: Paper = Paper { width: 80, colour: false };

/// `count` times, spread evenly up to `longest` microseconds.
fn times(count: u64, longest: u64) -> Latencies {
    let mut times = Latencies::new();
    for number in 1..=count {
        times.record(Duration::from_micros(longest * number / count));
    }
    times
}

fn second(offered: u64, lateness_p99: f64) -> Second {
    Second {
        offered,
        sent: offered,
        completed: offered,
        failed: 0,
        connect_errors: 0,
        latency: [0.012, 0.03, 0.055, 0.08],
        lateness_p99,
        busy: 0.02,
        steal: Some(0.0),
        left_out: false,
    }
}

fn played() -> Played {
    Played {
        offered: Rate::new(200.0).unwrap(),
        achieved: Rate::new(199.0).unwrap(),
        scheduled: 1_000,
        sent: 1_000,
        sending: Duration::from_secs(5),
        completed: 990,
        latency: times(595, 80_000),
        service: times(595, 70_000),
        first_byte: times(595, 60_000),
        left_out: LeftOut { seconds: 2, sending: Duration::from_secs(2), latency: times(395, 95_000) },
        lateness: Lateness {
            total: times(1_000, 900),
            scheduler: times(1_000, 90),
            merged: Latencies::new(),
            dependency: times(12, 5_000),
            connect: times(30, 400),
            backlog: Latencies::new(),
        },
        seconds: vec![
            second(200, 0.000_09),
            second(210, 0.000_08),
            Second { left_out: true, ..second(190, 0.004) },
            Second { left_out: true, steal: Some(0.03), ..second(205, 0.000_07) },
            Second { steal: None, ..second(195, 0.000_1) },
        ],
        errors: Errors { timeout: 4, server_5xx: 3, ..Errors::default() },
        first_connect_failure: None,
        statuses: Statuses::default(),
        unfinished: Unfinished { outstanding: 3, unsent: 0 },
        retried: 1,
        connections: 42,
        elapsed: Duration::from_millis(5_100),
        cpu: Duration::from_millis(60),
        bytes: 1_234_567,
        bodies: Vec::new(),
        stopped_early: false,
        unsettled: false,
    }
}

fn example() -> Replayed {
    let setting = Setting {
        recording: "traffic.jsonl".to_owned(),
        target: "http://127.0.0.1:8000".to_owned(),
        load: "As recorded: connections open when they did, and their requests wait for the answer before".to_owned(),
        timing: Timing::Scheduled,
        choices: vec!["Requests time out after 30s".to_owned()],
        planned: 1_000,
        dropped: vec![
            Dropped { key: "method", words: "with a method that --allow does not name", count: 28 },
            Dropped { key: "filtered", words: "that the filters leave out", count: 0 },
        ],
        started: UNIX_EPOCH + Duration::from_secs(1_700_000_000),
        settled: Duration::ZERO,
        priority: Priority::Ordinary,
    };
    let core = |cpu, user| CoreUse { cpu, user, system: 0.1, idle: 0.89 - user, steal: 0.01, ..CoreUse::default() };
    let host = HostUse { cores: vec![core(0, 0.3), core(1, 0.2)] };
    Replayed { setting, played: played(), host, verdict: None, comparison: None, interrupted: false }
}

fn missed() -> Replayed {
    let mut replayed = example();
    replayed.verdict = Some(Verdict::of("p90<20ms,errors<0.1%".parse().unwrap(), &replayed.played));
    replayed.comparison =
        Some(Comparison { baselines: 2, same: 900, different: 2, noise: 80, unanswered: 18, examples: vec![4, 7] });
    replayed.interrupted = true;
    replayed
}

fn closed() -> Replayed {
    let mut replayed = example();
    replayed.setting.timing = Timing::Closed;
    replayed.played.seconds.clear();
    replayed.played.left_out = LeftOut::default();
    replayed.host = HostUse::default();
    replayed
}

#[test]
fn the_report_of_a_scheduled_load() {
    insta::assert_snapshot!(terminal(&example(), WIDE));
}

#[test]
fn the_report_of_a_partial_run_that_misses_its_objective() {
    insta::assert_snapshot!(terminal(&missed(), NARROW));
}

#[test]
fn the_report_of_a_closed_load() {
    insta::assert_snapshot!(terminal(&closed(), NARROW));
}

#[test]
fn the_report_fits_its_paper() {
    for replayed in [example(), missed(), closed()] {
        for paper in [WIDE, NARROW] {
            let text = terminal(&replayed, paper);
            let widest = text.lines().map(|line| line.chars().count()).max().unwrap();
            assert!(widest <= usize::from(paper.width), "{widest} > {}:\n{text}", paper.width);
        }
    }
}

#[test]
fn doubtful_seconds_are_told_with_their_reasons() {
    let invalid = example().invalid();
    assert_eq!(invalid[0], Invalid { second: 2, doubts: vec![Doubt::Late] });
    assert_eq!(invalid[1], Invalid { second: 3, doubts: vec![Doubt::Steal] });
    let mut long = example();
    long.played.seconds = vec![second(200, 0.004); 7];
    long.played.seconds[3].steal = Some(0.03);
    long.played.left_out = LeftOut::default();
    let text = terminal(&long, WIDE).replace('\n', " ");
    assert!(text.contains("seconds 1 to 3: the generator") && text.contains("second 4: the generator"), "{text}");
    let json = serde_json::to_value(summary(&example())).unwrap();
    assert_eq!(json["invalid_seconds"][1]["reasons"][0], "steal");
    assert_eq!((&json["valid"], &json["series"][2]["valid"]), (&false.into(), &false.into()));
}

#[test]
fn what_is_left_out_is_told_everywhere() {
    let replayed = example();
    let text = terminal(&replayed, WIDE).replace('\n', " ");
    assert!(text.contains("left out       48ms   86ms   94ms   95ms  latency of 395 requests"), "{text}");
    assert!(text.contains("achieved 199 req/s (of 3.0 kept s): 1,000 requests in 5.0 s"), "{text}");
    assert!(text.contains("leave out 2 seconds that the generator or its host spoiled, with 395 requests;"), "{text}");
    assert!(!text.contains("to blame"), "{text}");
    assert!(html(&replayed).contains("latency of 395 requests, in none of the rows above"));
    let json = serde_json::to_value(summary(&replayed)).unwrap();
    assert_eq!((&json["left_out"]["seconds"], &json["left_out"]["latency"]["count"]), (&2.into(), &395.into()));
    assert_eq!((&json["series"][2]["left_out"], &json["series"][1]["left_out"]), (&true.into(), &false.into()));
    let mut refused = example();
    refused.played.seconds[0].connect_errors = 1;
    assert!(terminal(&refused, WIDE).replace('\n', " ").contains("Where the target may be to blame, seconds count."));
}

#[test]
fn the_cause_of_the_first_failure_to_connect_is_told() {
    let mut replayed = example();
    replayed.played.first_connect_failure = Some("Connection refused (os error 111)".to_owned());
    assert!(terminal(&replayed, WIDE).contains("The first that found no connection: Connection refused (os error 111)."));
    let json = serde_json::to_value(summary(&replayed)).unwrap();
    assert_eq!(json["first_connect_failure"], "Connection refused (os error 111)");
}

#[test]
fn many_cores_are_summed_up() {
    let mut replayed = example();
    let core = |cpu: u16| CoreUse { cpu, user: f64::from(cpu) / 100.0, ..CoreUse::default() };
    replayed.host.cores = (0..64).map(core).collect();
    let text = terminal(&replayed, WIDE);
    assert!(text.contains("Host: steal 0%; 64 cores 31% busy, from cpu63 63% to cpu0 0%."), "{text}");
}

#[test]
fn the_keys_of_json_are_stable() {
    let json = serde_json::to_value(summary(&missed())).unwrap();
    let keys = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
    let parts = ["latency", "lateness", "left_out", "errors_by_kind", "statuses", "unfinished", "slo", "content", "dropped"];
    let parts = parts.map(|part| format!("{part}: {}", keys(&json[part])));
    let lists = ["series", "cores", "invalid_seconds"].map(|part| format!("{part}: {}", keys(&json[part][0])));
    insta::assert_snapshot!(format!("{}\n{}\n{}", keys(&json), parts.join("\n"), lists.join("\n")));
    assert_eq!(serde_json::to_value(summary(&closed())).unwrap()["lateness"], serde_json::Value::Null);
}

#[test]
fn errors_are_a_share_that_counts_what_was_never_answered() {
    assert!((example().error_share() - 0.01).abs() < 1e-12);
    let mut nothing = example();
    (nothing.played.completed, nothing.played.errors, nothing.played.unfinished) = (0, Errors::default(), Unfinished::default());
    assert!(nothing.error_share().abs() < f64::EPSILON);
    assert_eq!(Verdict::of("p90<1s".parse().unwrap(), &nothing.played).met, Some(false));
}

#[test]
fn an_objective_is_met_within_both_bounds() {
    let played = played();
    let met = |slo: &str| Verdict::of(slo.parse().unwrap(), &played).met;
    assert_eq!(met("p90<80ms,errors<1%"), Some(true));
    assert_eq!(met("p90<80ms,errors<0.9%"), Some(false));
    assert_eq!(met("p90<70ms,errors<1%"), Some(false));
    assert_eq!((met("errors<1%"), met("errors<0.9%")), (Some(true), Some(false)));
    let mut replayed = example();
    replayed.verdict = Some(Verdict::of("errors < 0.9%".parse().unwrap(), &played));
    assert!(terminal(&replayed, WIDE).contains("errors<0.9%: MISSED (errors 1.00%)"), "{}", terminal(&replayed, WIDE));
    assert!(serde_json::to_value(summary(&replayed)).unwrap()["slo"]["measured"].is_null());
}

#[test]
fn what_is_unknown_is_neither_valid_nor_met() {
    let json = |replayed: &Replayed| serde_json::to_value(summary(replayed)).unwrap();
    assert!(json(&closed())["valid"].is_null(), "no second was measured");
    let mut replayed = example();
    replayed.played.seconds = vec![second(200, 0.000_09); 2];
    replayed.played.left_out = LeftOut::default();
    assert_eq!(json(&replayed)["valid"], true);
    replayed.played.seconds[1].steal = None;
    let report = json(&replayed);
    assert!(report["valid"].is_null() && report["series"][1]["valid"].is_null() && report["series"][1]["steal"].is_null());
    assert!(terminal(&replayed, WIDE).contains("steal could not be read in 1 of 2 seconds"));
    replayed.played.seconds.iter_mut().for_each(|second| second.steal = Some(0.5));
    replayed.verdict = Some(Verdict::of("p90<5s".parse().unwrap(), &replayed.played));
    assert!(json(&replayed)["slo"]["met"].is_null());
    assert!(terminal(&replayed, WIDE).contains("NOT JUDGED, which counts as missed"));
}

#[test]
fn a_latency_is_not_judged_by_less_than_half_of_the_time() {
    let mut played = played();
    let met = |played: &Played, slo: &str| Verdict::of(slo.parse().unwrap(), played).met;
    played.left_out.sending = Duration::from_millis(2_500);
    assert_eq!(met(&played, "p90<80ms,errors<1%"), Some(true));
    played.left_out.sending = Duration::from_millis(2_501);
    assert_eq!(met(&played, "p90<80ms,errors<1%"), None);
    assert_eq!(met(&played, "errors<1%"), Some(true), "errors are those of all seconds");
}

#[test]
fn the_page_needs_nothing_from_elsewhere_and_escapes_what_comes_from_there() {
    let mut replayed = missed();
    replayed.setting.recording = "<script>alert(1)</script>.jsonl".to_owned();
    replayed.setting.choices.push("Host header: \"><img src=x>".to_owned());
    let page = html(&replayed);
    for unwanted in ["<script", "<img", "<link", "@import", "url(", "src=\"", "javascript:"] {
        assert!(!page.contains(unwanted), "{unwanted}");
    }
    let links = page.matches("://").count();
    assert_eq!(links, page.matches("http://127.0.0.1:8000").count(), "only the target is named");
    assert!(page.contains("&lt;script&gt;") && page.contains("MISSED") && page.contains("PARTIAL"));
    for element in ["section", "svg", "table", "div", "p", "main", "ul", "tbody"] {
        let opened = page.matches(&format!("<{element}>")).count() + page.matches(&format!("<{element} ")).count();
        assert_eq!(opened, page.matches(&format!("</{element}>")).count(), "{element}");
    }
}

#[test]
fn pages_of_the_shortest_and_of_long_runs_are_drawn() {
    assert!(html(&closed()).contains("<svg"));
    let mut empty = closed();
    empty.played.latency = Latencies::new();
    empty.played.service = Latencies::new();
    assert!(html(&empty).contains("<svg"));
    let mut long = example();
    long.played.seconds = (0..86_400).map(|number| second(number % 300, 0.000_05)).collect();
    let page = html(&long);
    assert!(page.len() < 400_000, "{}", page.len());
    assert!(!page.contains("NaN") && !page.contains("inf,"));
}

#[test]
fn the_log_is_read_by_its_own_reader() {
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    let mut log = Vec::new();
    hdr(&example(), &mut log).unwrap();
    let entries: Vec<LogEntry<'_>> = IntervalLogIterator::new(&log).map(Result::unwrap).collect();
    let intervals: Vec<_> = entries
        .iter()
        .filter_map(|entry| match entry {
            LogEntry::Interval(interval) => Some(interval),
            LogEntry::StartTime(_) | LogEntry::BaseTime(_) => None,
        })
        .collect();
    let tags: Vec<&str> = intervals.iter().filter_map(|interval| interval.tag()).map(|tag| tag.as_str()).collect();
    assert_eq!(tags, ["latency", "service", "first_byte", "lateness", "left_out"]);
    assert!((intervals[0].max() - 80.0).abs() < 0.1, "milliseconds: {}", intervals[0].max());
}
