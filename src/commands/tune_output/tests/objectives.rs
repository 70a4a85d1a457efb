//! Objectives other than capacity: their amounts are told in their own units, and nowhere as requests a second.

use super::*;
use crate::study::Objective;

const APP: &App = &APPS[4];

/// A simulated study at a third of what the application can do.
fn study_for(objective: impl Fn(Rate) -> Objective) -> Report {
    let mut study = APP.study(Pace::Normal);
    study.objective = objective(Rate::new(20.0).unwrap());
    let mut host = APP.host(Pace::Normal, 5);
    let stop = run(&mut study, |suggestion| host.run(suggestion));
    Report::new(&study, stop)
}

fn row<'a>(text: &'a str, name: &str) -> &'a str {
    text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{name} in {text}"))
}

#[test]
fn a_latency_is_told_as_a_latency() {
    let found = study_for(|at| Objective::Latency { at });
    let best = found.best.as_ref().unwrap();
    let measured = best.measurement.as_ref().unwrap().bounded.unwrap();
    let amount = best.amount.unwrap();
    assert!(amount.low < measured * 1.5 && amount.high > measured / 1.5, "{amount:?}, measured {measured}");
    assert_eq!((best.capacity, found.baseline.capacity), (None, None));
    let text = report(&found, WIDE);
    assert!(row(&text, "p90 at 20 req/s (interval)").contains("ms ("), "{text}");
    assert!(!text.lines().any(|line| line.starts_with("req/s (interval)")), "{text}");
    assert!(!text.contains("certified") && !text.contains("What stops it"), "{text}");
    let json = serde_json::to_value(found.summary()).unwrap();
    assert_eq!((&json["objective"]["latency"]["at"], &json["best"]["capacity"]), (&20.0.into(), &serde_json::Value::Null));
    assert!((json["best"]["latency"]["value"].as_f64().unwrap() - amount.value).abs() < 1e-9);
    assert!(
        json["baseline"]["latency"]["low"].is_number() && json["best"]["low"].is_null() && json["best"].get("cores").is_none()
    );
    let peak = Rate::new(1000.0).unwrap();
    assert!(hosts(&found, peak, 0.3).contains("not known"));
    let asked = html(&found, &about(), Some(peak), 0.3);
    assert!(asked.contains("Hosts for a peak are not known") && !asked.contains("kept free"), "{asked}");
    let page = html(&found, &about(), None, 0.3);
    assert!(!page.contains("knee: ") && !page.contains("Hosts for a peak") && !page.contains("contour low"), "{page}");
}

#[test]
fn a_lower_latency_is_a_gain_and_says_by_what_factor() {
    let mut found = study_for(|at| Objective::Latency { at });
    let best = found.best.as_mut().unwrap();
    best.amount = Some(Interval { value: 0.041, low: 0.038, high: 0.045 });
    (found.recommended, found.outcome) = (Some(best.candidate), Some(crate::study::confirm::Outcome::Better));
    (found.ratio, found.confirmed) = (Some(Interval { value: 0.62, low: 0.55, high: 0.7 }), true);
    let chosen = configuration(best.candidate);
    let expected =
        format!("Recommended: {chosen}, lowest p90 at 20 req/s: 41ms (38ms to 45ms), 0.62 times the baseline's (0.55 to 0.70).");
    assert_eq!(sentences::headline(&found), expected);
    let page = html(&found, &about(), None, 0.3);
    assert!(page.contains("The interval lies below 1: the difference is more than noise."), "{page}");
}

#[test]
fn cores_are_told_as_cores() {
    let found = study_for(|at| Objective::Cost { at });
    let best = found.best.as_ref().unwrap();
    let cores = best.candidate.workers.get().min(APP.cores);
    let text = report(&found, WIDE);
    assert!(row(&text, "cores at 20 req/s").contains(&format!(" {cores} core")), "{text}");
    let json = serde_json::to_value(found.summary()).unwrap();
    assert_eq!((&json["best"]["cores"], &json["baseline"]["cores"]), (&f64::from(cores).into(), &4.0.into()));
    assert_eq!((&json["objective"]["cost"]["at"], &json["best"]["capacity"]), (&20.0.into(), &serde_json::Value::Null));
    assert!(found.ratio.is_none_or(|ratio| ratio.value <= 1.0), "fewer cores than the baseline, not more");
}

#[test]
fn optuna_gets_cores_and_memory_as_two_goals() {
    let found = study_for(|at| Objective::Cost { at });
    let text = optuna(&found, &about());
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines[0]["directions"], serde_json::json!([1, 1]));
    for (line, trial) in lines[1..].iter().zip(&found.trials) {
        let measured = trial.measurement().filter(|found| found.is_usable());
        let expected = measured.map(|found| {
            let cores = trial.suggestion.candidate.workers.get().min(APP.cores);
            serde_json::json!([f64::from(cores), found.memory_bytes.unwrap() as f64])
        });
        assert_eq!((&line["value"], &line["values"]), (&serde_json::Value::Null, &expected.into()), "{line}");
        let says_nothing = trial.measurement().is_some_and(Measurement::is_void);
        assert_eq!(line["state"], if measured.is_some() { 1 } else { 2 + i32::from(says_nothing) }, "{line}");
    }
}

#[test]
fn capacities_stay_requests_a_second() {
    let json = serde_json::to_value(example(&APPS[1]).summary()).unwrap();
    assert_eq!(json["objective"], "capacity");
    assert!(json["best"]["capacity"].is_number() && json["best"].get("latency").is_none());
}

#[test]
fn the_ratio_is_told_with_its_own_pairs_only() {
    let found = example(&APPS[1]);
    let confirming = found.trials.iter().filter(|trial| trial.suggestion.purpose == Purpose::Confirm && trial.is_valid()).count();
    assert!(confirming >= 2 && found.pairs.len() == confirming / 2, "{} of {confirming}", found.pairs.len());
    let page = html(&found, &about(), None, 0.3);
    let told = between(&page, "baseline, req/s pair by pair</th><td>", "</td>");
    assert_eq!(told.split(", ").count(), found.pairs.len(), "{told}");
}
