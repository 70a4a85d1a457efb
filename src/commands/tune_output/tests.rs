#[cfg(test)]
mod also;
#[cfg(test)]
pub(super) mod formulas;
#[cfg(test)]
mod objectives;

use std::time::Duration;

use super::*;
use crate::stats::{Interval, Latencies, PackedLatencies};
use crate::study::simulation::{APPS, App, run};
use crate::study::{
    Candidate, Challenged, Ending, Flag, LightNote, Measurement, Outcome, Pace, ProbeNote, Purpose, Stop, Suggestion, Task, Trial,
};
use crate::tune::{About, Coverage};
use crate::units::{Connections, Rate, Workers};

const WIDE: Paper = Paper { width: 100, colour: false };
const NARROW: Paper = Paper { width: 80, colour: false };

fn study_of(app: &App, mut outcome: impl FnMut(&Suggestion) -> Outcome) -> Report {
    let mut study = app.study(Pace::Quick);
    let stop = run(&mut study, &mut outcome);
    Report::new(&study, stop)
}

/// A simulated study with the numbers a simulation of capacities lacks.
fn example(app: &App) -> Report {
    let mut host = app.host(Pace::Quick, 2);
    study_of(app, |suggestion| match host.run(suggestion) {
        Outcome::Measured(mut found) => {
            (found.p50, found.p90, found.p99, found.max) = (Some(0.043), Some(0.412), Some(0.688), Some(0.9));
            (found.bounded, found.errors, found.generator_cpu) = (Some(0.412), Some(0.0004), Some(0.05));
            for core in &mut found.cores {
                (core.user, core.system) = (core.user * 0.8, core.user * 0.2);
            }
            Outcome::Measured(found)
        }
        other @ (Outcome::Challenged(_) | Outcome::Failed { .. }) => other,
    })
}

fn every(change: impl Fn(&mut Measurement)) -> Report {
    study_of(&APPS[1], |_| measured(&change))
}

fn measured(change: impl Fn(&mut Measurement)) -> Outcome {
    let mut found = Measurement::of_capacity(0.0);
    change(&mut found);
    Outcome::Measured(Box::new(found))
}

#[test]
fn the_report_of_a_gain() {
    insta::assert_snapshot!(report(&example(&APPS[1]), WIDE));
}

#[test]
fn a_generator_that_is_to_blame_is_named_and_not_the_host() {
    let all = |flag: Flag| sentences::headline(&every(|found| found.flags.push(flag)));
    let told = [Flag::GeneratorLate, Flag::GeneratorShort, Flag::Steal, Flag::OtherPrograms].map(all);
    insta::assert_snapshot!(told.join("\n"));
    let why = |flag: Flag| every(|found| found.flags.push(flag)).stopped_because();
    let reasons = [Flag::GeneratorLate, Flag::GeneratorShort, Flag::OtherPrograms].map(why);
    assert!(reasons[0].contains("generator was late") && reasons[1].contains("generator was at its limit"), "{reasons:?}");
    assert!(reasons[2].contains("host was never quiet"), "{reasons:?}");
}

#[test]
fn a_doubt_about_the_generator_comes_with_what_helps() {
    let mut found = example(&APPS[1]);
    let mut hint = |flag: Flag| {
        found.doubts = vec![Flag::Leaking, flag];
        sentences::after_the_verdict(&found).join(" ")
    };
    let (late, short, steal) = (hint(Flag::GeneratorLate), hint(Flag::GeneratorShort), hint(Flag::Steal));
    assert!(
        late.contains("memory keeps growing, load generator late. The load generator is late where ")
            && late.contains("CAP_SYS_NICE")
    );
    assert!(
        short.contains("load generator at its limit. The application may hold more") && short.contains("ulimit -n"),
        "{short}"
    );
    assert!(!steal.contains("The load generator") && !steal.contains("may hold more"), "{steal}");
}

#[test]
fn the_report_fits_its_paper() {
    for app in &APPS {
        for paper in [WIDE, NARROW] {
            let text = report(&example(app), paper);
            let widest = text.lines().map(|line| line.chars().count()).max().unwrap();
            assert!(widest <= usize::from(paper.width), "{widest} > {}:\n{text}", paper.width);
        }
    }
    insta::assert_snapshot!("narrow", report(&example(&APPS[6]), NARROW));
}

#[test]
fn colours_only_where_they_are_understood() {
    assert!(!report(&example(&APPS[0]), WIDE).contains('\u{1b}'));
    assert!(report(&example(&APPS[0]), Paper { colour: true, ..WIDE }).contains('\u{1b}'));
}

#[test]
fn refusals_are_plain() {
    let errors = every(|found| (found.ending, found.errors) = (Ending::OnlyErrors, Some(1.0)));
    let slow = every(|found| (found.ending, found.bounded, found.errors) = (Ending::TooSlow, Some(1.3), Some(0.0)));
    let dead = study_of(&APPS[1], |_| Outcome::Failed { reason: "no module named shop".to_owned(), seconds: 0.1 });
    let texts = [&errors, &slow, &dead].map(|found| report(found, WIDE));
    assert!(texts.iter().all(|text| !text.contains("workers =")));
    insta::assert_snapshot!(texts.join("=====\n"));
    let crash = every(|found| (found.capacity, found.flags) = (90.0, vec![Flag::WorkerCrashed]));
    assert!(sentences::headline(&crash).contains(", but workers ended on their own in it: see what they said last."));
    let baseline = APPS[1].space().baseline();
    let lost = study_of(&APPS[1], |suggestion| {
        if suggestion.purpose == Purpose::Confirm {
            Outcome::Failed { reason: "killed".to_owned(), seconds: 1.0 }
        } else if suggestion.candidate == baseline {
            measured(|found| found.ending = Ending::NothingHeld)
        } else {
            measured(|found| found.capacity = 90.0)
        }
    });
    assert!(
        sentences::headline(&lost).contains(", did not stand up to repetition, and the baseline does not meet p90<700ms"),
        "{lost:?}"
    );
    let interrupted = Report { stop: Stop::Interrupted, ..slow };
    assert!(sentences::headline(&interrupted).starts_with("No configuration that was tried meets "));
}

#[test]
fn why_a_study_is_not_whole_is_told_as_it_is() {
    let told = |change: &dyn Fn(&mut Report)| {
        let mut found = Report { confirmed: true, untried: false, ..example(&APPS[1]) };
        change(&mut found);
        sentences::after_the_verdict(&found).join(" ")
    };
    let short = told(&|found| (found.stop, found.missing_pairs) = (Stop::Budget, 2));
    assert!(short.contains("The budget was used up. It had no room for 2 of the pairs"), "{short}");
    let open = told(&|found| (found.stop, found.missing_pairs, found.untried) = (Stop::Budget, 0, true));
    assert!(open.contains("The budget was used up before every promising configuration was tried."), "{open}");
    let disturbed = told(&|found| (found.stop, found.missing_pairs) = (Stop::Converged, 2));
    assert!(disturbed.contains("2 of the pairs of repetitions that a ratio should be of are missing"), "{disturbed}");
    assert!(!told(&|found| (found.stop, found.missing_pairs) = (Stop::Converged, 0)).contains("missing"));
}

#[test]
fn a_host_that_is_never_quiet_is_named_in_the_headline() {
    let disturbed = |from: Purpose| {
        let mut host = APPS[1].host(Pace::Quick, 2);
        study_of(&APPS[1], |suggestion| match host.run(suggestion) {
            Outcome::Measured(mut found) => {
                if from == suggestion.purpose || from == Purpose::Baseline {
                    found.flags.push(Flag::OtherPrograms);
                }
                Outcome::Measured(found)
            }
            other @ (Outcome::Challenged(_) | Outcome::Failed { .. }) => other,
        })
    };
    let always = disturbed(Purpose::Baseline);
    assert_eq!(always.recommended, Some(always.baseline.candidate));
    let headlines = [&always, &disturbed(Purpose::Confirm)].map(sentences::headline);
    insta::assert_snapshot!(headlines.join("\n"));
}

#[test]
fn an_interrupted_study_is_marked() {
    let app = &APPS[1];
    let mut study = app.study(Pace::Quick);
    assert!(report(&Report::new(&study, Stop::Interrupted), WIDE).contains("not finished, and nothing was measured so far."));
    let mut host = app.host(Pace::Quick, 1);
    run(&mut study, |suggestion| host.run(suggestion));
    assert!(report(&Report::new(&study, Stop::Interrupted), WIDE).starts_with("PARTIAL"));
}

#[test]
fn the_keys_of_json_are_stable() {
    let found = example(&APPS[1]);
    let json = serde_json::to_value(found.summary()).unwrap();
    let keys = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
    let parts = ["recommended", "baseline", "best", "ratio", "verdict", "certificate"]
        .map(|part| format!("{part}: {}", keys(&json[part])));
    insta::assert_snapshot!(format!("{}\n{}\ntrial: {}", keys(&json), parts.join("\n"), keys(&json["trials"][0])));
    let dead = study_of(&APPS[1], |_| Outcome::Failed { reason: "no module named shop".to_owned(), seconds: 0.1 });
    insta::assert_snapshot!("failed", serde_json::to_string(&dead.summary()).unwrap());
}

#[test]
fn hosts_for_a_peak() {
    let peak = Rate::new(1000.0).unwrap();
    insta::assert_snapshot!(hosts(&example(&APPS[1]), peak, 0.3), @"A peak of 1000 req/s needs 8 hosts like this one, 30 % of each kept free.");
    assert_eq!(hosts(&every(|found| found.ending = Ending::TooSlow), peak, 0.3), "");
    let least = Rate::new(1e-9).unwrap();
    let mut slow = example(&APPS[1]);
    for side in [Some(&mut slow.baseline), slow.best.as_mut()].into_iter().flatten() {
        side.capacity = side.capacity.map(|_| Interval { value: least.per_second(), low: 0.0, high: 1.0 });
    }
    assert_eq!(hosts(&slow, peak, 0.3), "A peak of 1000 req/s needs more hosts like this one than can be counted.\n");
}

#[test]
fn every_form_for_people_tells_hosts_for_a_peak_and_what_the_traffic_lacks() {
    let commonest = "GET /".to_owned();
    let coverage = Some(Coverage { requests: 9, different: 9, routes: 1, commonest, of_commonest: 9 });
    let (found, narrow) = (example(&APPS[1]), About { coverage, ..about() });
    for form in [markdown, html] {
        let told = form(&found, &narrow, Rate::new(1000.0), 0.3);
        assert!(told.contains("A peak of 1000 req/s needs 8 hosts like this one, 30 % of each kept free."), "{told}");
        assert!(told.contains("Take its numbers with care: only 1 route in the recording, GET /, and"), "{told}");
        assert!(!form(&found, &about(), None, 0.3).contains("A peak of"));
    }
    let nothing = every(|found| found.ending = Ending::TooSlow);
    assert!(!markdown(&nothing, &narrow, None, 0.3).contains("with care"), "nothing is recommended by it");
}

fn about() -> About {
    About {
        started: "2026-03-01T12:00:00Z".to_owned(),
        app: "shop.wsgi <b>& \"friends\"</b>".to_owned(),
        host: "2 cores, a CPU, 4 GiB, Linux 6".to_owned(),
        traffic: "2972 requests of traffic.jsonl".to_owned(),
        coverage: None,
        program: "0.1.0".to_owned(),
    }
}

/// The text between the first `from` and the `to` after it.
fn between<'a>(text: &'a str, from: &str, to: &str) -> &'a str {
    let rest = text.split_once(from).unwrap_or_else(|| panic!("{from} in {text}")).1;
    rest.split_once(to).unwrap_or_else(|| panic!("{to} after {from}")).0
}

/// What a reader of the page reads beside its pictures, a line an element.
fn read(html: &str) -> String {
    let body = between(html, "<main>", "</main>").replace("><", ">\n<");
    let body: String = body.split("<svg").map(|part| part.split_once("</svg>").map_or(part, |(_, rest)| rest)).collect();
    let mut text = String::new();
    for part in body.split('<') {
        if let Some((_, words)) = part.split_once('>') {
            text.push_str(words);
        }
    }
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.collect::<Vec<_>>().join("\n")
}

/// A study with a challenge, a disturbed trial, a failed one and limits, and latencies of the baseline.
fn eventful() -> Report {
    let app = &APPS[1];
    let mut study = app.study(Pace::Quick);
    study.space.max_slots = Some(4000);
    let mut host = app.host(Pace::Quick, 2);
    let stop = run(&mut study, |suggestion| host.run(suggestion));
    let candidate = |workers, connections| Candidate::new(Workers::new(workers).unwrap(), Connections::new(connections).unwrap());
    let mut add = |candidate, task, outcome| {
        let suggestion = Suggestion { candidate, purpose: Purpose::Challenge, task, expected: None, rival: None };
        study.record(Trial { suggestion, outcome });
    };
    add(candidate(3, 200), Task::Challenge { rate: 193.0 }, Outcome::Challenged(Challenged::new(false, 8.0)));
    add(candidate(4, 200), Task::Challenge { rate: 180.0 }, Outcome::Challenged(Challenged::new(true, 8.0)));
    let reason = "Traceback\nImportError: <script>alert(1)</script>".to_owned();
    add(candidate(8, 20), Task::Measure, Outcome::Failed { reason, seconds: 1.0 });
    let mut latencies = Latencies::new();
    (1..200).for_each(|millis| latencies.record(Duration::from_millis(millis)));
    let latencies = PackedLatencies::of(&latencies);
    let mut disturbed = Measurement::of_capacity(0.0);
    (disturbed.capacity, disturbed.flags) = (100.0, vec![Flag::OtherPrograms]);
    disturbed.light = Some(LightNote { throughput: 20.0, latencies: latencies.clone() });
    disturbed.probes = vec![
        ProbeNote { rate: 100.0, held: true, why: None, latencies: Some(latencies.clone()) },
        ProbeNote { rate: 130.0, held: false, why: None, latencies: Some(latencies) },
    ];
    add(candidate(5, 10), Task::Measure, Outcome::Measured(Box::new(disturbed)));
    Report::new(&study, stop)
}

#[test]
fn the_page_tells_everything() {
    let page = html(&eventful(), &about(), Rate::new(1000.0), 0.3);
    insta::assert_snapshot!("page", read(&page));
}

#[test]
fn the_page_needs_nothing_else_and_takes_nothing_for_markup() {
    let page = html(&eventful(), &about(), None, 0.3);
    assert!(page.contains("default-src 'none'") && !page.contains("://"), "an address in the page");
    for word in ["<script", "<b>&", " src=", "href", "@import", "url(h"] {
        assert!(!page.contains(word), "{word}");
    }
    assert!(page.contains("shop.wsgi &lt;b&gt;&amp; &quot;friends&quot;&lt;/b&gt;"));
    assert!(page.contains("ImportError: &lt;script&gt;alert(1)&lt;/script&gt;"));
    assert_eq!(page.matches("<svg").count(), page.matches("</svg>").count());
    for picture in page.split("<svg").skip(1) {
        let head = picture.split_once('>').unwrap().0;
        assert!(head.contains("role=img aria-label=") || head.contains("aria-hidden"), "{head}");
    }
}

#[test]
fn the_map_shows_what_is_known() {
    let page = html(&eventful(), &about(), None, 0.3);
    let map = between(&page, "<h2>The searched space</h2>", "</section>");
    for part in [
        "5 workers × 10 connections: held ",
        "3 workers × 200 connections: did not hold 193 req/s",
        "▽ 193",
        "▲ 180",
        "8 workers × 20 connections: could not be measured",
        ": predicted: ",
        "may not be tried: 5000 connections in all",
        "class=\"ring base\"",
        "class=\"ring\"",
        "class=\"contour\"",
        "class=\"contour low\"",
    ] {
        assert!(map.contains(part), "{part} in {map}");
    }
}

#[test]
fn trials_that_do_not_count_are_left_out_and_say_why() {
    let mut report = example(&APPS[1]);
    for (trial, flag) in report.trials.iter_mut().zip([Flag::Accident, Flag::HostChanged]) {
        if let Outcome::Measured(found) = &mut trial.outcome {
            found.flags = vec![flag];
        }
    }
    let told: Vec<String> = working::excluded(&report).into_iter().map(|(which, why)| format!("{which}: {why}")).collect();
    for part in ["trial 1 (5 × 10): far below the other trials", "trial 2 (2 × 200): the host was another"] {
        assert!(told.iter().any(|row| row.starts_with(part)), "{part} in {told:?}");
    }
}

#[test]
fn pages_of_every_study_are_whole() {
    for (number, app) in APPS.iter().enumerate() {
        let page = html(&example(app), &about(), None, 0.3);
        assert_eq!(page.matches("<section").count(), page.matches("</section>").count(), "app {number}");
        assert!(!page.contains("NaN") && !page.contains("inf"), "app {number}");
    }
    let dead = study_of(&APPS[1], |_| Outcome::Failed { reason: "no module named shop".to_owned(), seconds: 0.1 });
    let nothing = Report::new(&APPS[1].study(Pace::Quick), Stop::Interrupted);
    for report in [dead, nothing, every(|found| found.ending = Ending::TooSlow)] {
        let page = html(&report, &About::default(), None, 0.3);
        assert!(page.contains("Nothing is recommended.") && !page.contains("NaN") && !page.contains("To paste"));
    }
}

#[test]
fn the_report_as_markdown() {
    insta::assert_snapshot!(markdown(&eventful(), &about(), None, 0.3));
}

#[test]
fn the_trials_as_csv() {
    let table = csv(&eventful());
    let columns = |line: &str| line.split(',').count();
    let head = table.lines().next().unwrap();
    assert!(table.lines().all(|line| columns(line) == columns(head)), "{table}");
    let shown: Vec<&str> = table.lines().take(2).chain(table.lines().rev().take(4)).collect();
    insta::assert_snapshot!(shown.join("\n"));
}

#[test]
fn the_trials_as_optuna_keeps_them() {
    let text = optuna(&eventful(), &about());
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&lines[0]["op_code"], &lines[0]["directions"]), (&0.into(), &serde_json::json!([2])));
    let states: Vec<_> = lines[1..].iter().map(|line| (line["state"].as_u64().unwrap(), line["value"].is_number())).collect();
    assert_eq!(states.len(), eventful().trials.len());
    assert_eq!(states[states.len() - 4..], [(2, false), (2, false), (3, false), (1, true)]);
    assert!(states.iter().all(|(state, has_value)| (*state == 1) == *has_value));
    let low_to_high: serde_json::Value =
        serde_json::from_str(lines[1]["distributions"]["connections"].as_str().unwrap()).unwrap();
    assert_eq!(low_to_high["attributes"], serde_json::json!({"log": true, "step": 1, "low": 1, "high": 1000}));
    assert_eq!(lines[1]["datetime_start"], "2026-03-01T12:00:00.000000");
}

#[test]
fn optuna_takes_no_crash_for_the_best_and_reads_every_doubt() {
    let mut found = example(&APPS[1]);
    let flags = [vec![Flag::WorkerCrashed, Flag::Steal], vec![Flag::Accident], vec![Flag::Steal]];
    for (trial, flags) in found.trials.iter_mut().zip(flags) {
        let capacity = if flags == [Flag::Steal] { 0.0 } else { 1e6 };
        let held = Measurement { flags, ..Measurement::of_capacity(capacity) };
        trial.outcome = Outcome::Measured(Box::new(held));
    }
    let text = optuna(&found, &about());
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let told =
        |line: usize| (lines[line]["state"].clone(), lines[line]["value"].clone(), lines[line]["user_attrs"]["flags"].clone());
    assert_eq!(told(1), (2.into(), serde_json::Value::Null, "worker crashed; CPU stolen by the hypervisor".into()));
    assert_eq!(told(2), (1.into(), 1e6.into(), "far below the others, not counted".into()));
    assert_eq!(told(3), (3.into(), serde_json::Value::Null, "CPU stolen by the hypervisor".into()), "it says nothing");
}
