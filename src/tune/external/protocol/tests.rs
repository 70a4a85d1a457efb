use super::*;
use crate::study::{Candidate, Purpose};
use crate::units::{Connections, Workers};

const CHALLENGE: Task = Task::Challenge { rate: 1234.5 };

fn slo() -> Slo {
    "p90<700ms,errors<0.1%".parse().unwrap()
}

fn asked(task: Task) -> String {
    let candidate = Candidate::new(Workers::new(9).unwrap(), Connections::new(50).unwrap());
    let suggestion = Suggestion { candidate, purpose: Purpose::Jump, task, expected: None, rival: None };
    Request::new(7, &suggestion, 16, Pace::Normal, &slo())
        .map_or_else(String::new, |request| serde_json::to_string(&request).unwrap())
}

fn answered(line: &str, task: Task) -> Result<Outcome, Refusal> {
    outcome(line.as_bytes(), task, &slo(), 5.0)
}

fn refused(line: &str, task: Task) -> String {
    answered(line, task).unwrap_err().to_string()
}

#[test]
fn asks_as_the_protocol_says() {
    assert_eq!(
        asked(Task::Measure),
        r#"{"protocol":1,"trial":7,"purpose":"measure","workers":9,"connections":50,"cores":16,"seconds":45,"slo":"p90<700ms,errors<0.1%"}"#
    );
    assert_eq!(
        asked(CHALLENGE),
        r#"{"protocol":1,"trial":7,"purpose":"challenge","workers":9,"connections":50,"cores":16,"rate":1234.5,"seconds":8,"slo":"p90<700ms,errors<0.1%"}"#
    );
    assert_eq!(asked(Task::Serve { rate: 1.0 }), "");
}

#[test]
fn reads_a_full_answer() {
    let line = r#"{"capacity":1220.0,"throughput":1210.0,"p50":0.041,"p90":0.310,"p99":0.65,"errors":0.0002,"cpu_seconds_per_request":0.0112,
        "utilisation":1.01,"worker_busy":0.88,"slots_busy":0.41,"time_in_worker":0.120,"memory_bytes":812000000,"seconds":44.0,"more":[1]}"#;
    let Ok(Outcome::Measured(found)) = answered(line, Task::Measure) else { panic!("no measurement") };
    assert_eq!((found.capacity, found.throughput, found.seconds, found.ending), (1220.0, 1210.0, 44.0, Ending::Held));
    assert_eq!(
        (found.p50, found.p90, found.bounded, found.p99, found.max),
        (Some(0.041), Some(0.31), Some(0.31), Some(0.65), None)
    );
    assert_eq!((found.utilisation, found.memory_bytes, found.time_in_worker), (Some(1.0), Some(812_000_000), Some(0.12)));
}

#[test]
fn only_what_was_asked_for_is_needed() {
    let Ok(Outcome::Measured(found)) = answered(r#" {"capacity":0,"p50":null,"error":null} "#, Task::Measure) else { panic!() };
    assert_eq!((found.capacity, found.ending, found.seconds, found.p50), (0.0, Ending::NothingHeld, 5.0, None));
    assert_eq!(answered(r#"{"holds":true,"seconds":8.0}"#, CHALLENGE), Ok(Outcome::Challenged(Challenged::new(true, 8.0))));
    assert_eq!(answered(r#"{"holds":false,"capacity":9}"#, CHALLENGE), Ok(Outcome::Challenged(Challenged::new(false, 5.0))));
    assert!(matches!(answered(r#"{"capacity":9}"#, CHALLENGE), Ok(Outcome::Measured(_))));
}

#[test]
fn a_rate_whose_own_numbers_are_beyond_the_objective_was_not_held() {
    for (line, why) in [
        (r#"{"capacity":120,"errors":0.002,"p90":0.3}"#, "too many errors"),
        (r#"{"capacity":120,"errors":0.001,"p90":0.701}"#, "too many late"),
    ] {
        let Ok(Outcome::Measured(found)) = answered(line, Task::Measure) else { panic!("{line}") };
        assert_eq!((found.capacity, found.throughput, found.ending), (0.0, 120.0, Ending::NothingHeld), "{line}");
        let probes: Vec<_> = found.probes.iter().map(|probe| (probe.rate, probe.held, probe.why.as_deref())).collect();
        assert_eq!(probes, [(120.0, false, Some(why))], "{line}");
        let held = line.replace("\"capacity\":120", "\"holds\":true");
        let Ok(Outcome::Challenged(found)) = answered(&held, CHALLENGE) else { panic!("{held}") };
        assert_eq!((found.holds, found.why.as_deref()), (false, Some(why)), "{held}");
    }
    let within = r#"{"capacity":120,"errors":0.001,"p90":0.7,"p99":9}"#;
    assert!(
        matches!(answered(within, Task::Measure), Ok(Outcome::Measured(found)) if found.capacity > 0.0 && found.probes.is_empty())
    );
}

#[test]
fn what_answered_only_errors_may_have_a_throughput_of_nothing() {
    let line = r#"{"capacity":100,"throughput":0,"errors":1.0}"#;
    let Ok(Outcome::Measured(found)) = answered(line, Task::Measure) else { panic!("no measurement") };
    assert_eq!((found.capacity, found.throughput, found.ending), (0.0, 0.0, Ending::OnlyErrors));
}

#[test]
fn what_is_no_answer_is_told() {
    let lines = [
        "",
        "Listening on port 80",
        "[1]",
        "{\"capacity\":12",
        "{\"capacity\":true}",
        "{\"capacity\":NaN}",
        "{\"capacity\":1e999}",
        "{\"capacity\":1} {}",
        "{\"capacity\":1,\"capacity\":2}",
        "{\"capacity\":-1}",
        "{\"capacity\":1,\"utilisation\":94}",
        "{\"capacity\":1,\"throughput\":0}",
        "{\"capacity\":1,\"memory_bytes\":-5}",
        "{\"capacity\":1,\"seconds\":-5}",
        "{\"holds\":true}",
        "{\"error\":\"no\\nhost \\u001b[31m\",\"capacity\":1}",
        "{\"error\":{\"code\":7}}",
    ];
    let refusals: Vec<String> = lines.iter().map(|line| format!("{line:?}: {}", refused(line, Task::Measure))).collect();
    insta::assert_snapshot!(refusals.join("\n"));
    insta::assert_snapshot!(refused("{}", CHALLENGE), @r#"the answer `{}` has neither "holds" nor "capacity""#);
    assert!(refused(r#"{"holds":true,"errors":94}"#, CHALLENGE).contains("a share of 1, so 0.94 for 94 %"));
    assert!(refused(&"é".repeat(5000), Task::Measure).len() < 500);
    assert_eq!(told(b"{\"error\":\"no host\"}").as_deref(), Some("no host"));
    assert_eq!(told(b"Traceback"), None);
}

proptest::proptest! {
    #[test]
    fn any_line_is_read_or_refused(line in r#"[\x20-\x7e]{0,40}|\{"(capacity|holds|error|seconds)":.{0,9}\}"#) {
        for task in [Task::Measure, CHALLENGE] {
            match outcome(line.as_bytes(), task, &slo(), 1.0) {
                Ok(Outcome::Measured(found)) => proptest::prop_assert!(found.capacity.is_finite() && found.capacity >= 0.0),
                Ok(Outcome::Challenged(_)) | Err(_) => {}
                Ok(Outcome::Failed { .. }) => proptest::prop_assert!(false),
            }
        }
    }
}
