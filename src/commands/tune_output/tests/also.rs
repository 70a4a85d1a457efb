//! What else than the two numbers and their baseline a report tells: on which cores workers are, and how the rule of thumb does.

use super::*;
use crate::config::Affinity;
use crate::study::report::Rule;

/// A study of workers that do a third more on cores of their own.
fn bound() -> Report {
    let app = &APPS[2];
    let mut study = app.study(Pace::Normal);
    study.space.affinity = Some(Affinity::None);
    let quicker = app.faster(1.33);
    let (mut host, mut other) = (app.host(Pace::Normal, 3), quicker.host(Pace::Normal, 3));
    let stop = run(&mut study, |suggestion| match suggestion.candidate.affinity {
        Some(Affinity::None) | None => host.run(suggestion),
        Some(Affinity::Spread | Affinity::Pin) => other.run(suggestion),
    });
    Report::new(&study, stop)
}

#[test]
fn the_cores_that_workers_keep_to_are_in_every_form() {
    let found = bound();
    let chosen = found.recommended.unwrap();
    assert_eq!(chosen.affinity, Some(Affinity::Spread));
    let counts = format!("workers = {}\nconnections = {}\n", chosen.workers, chosen.connections);
    let pasted = format!("# tuningfork.toml\n{counts}\n[app]\ncpu-affinity = \"spread\"\n");
    for text in [report(&found, WIDE), report(&found, NARROW), markdown(&found, &about(), None, 0.3)] {
        assert!(text.contains(&pasted), "{text}");
        // Wherever a line ends.
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains("spread over the cores"), "{text}");
        assert!(text.contains("baseline, cpu-affinity none") && text.contains("cpu-affinity spread"), "{text}");
    }
    let page = html(&found, &about(), None, 0.3);
    assert!(page.contains("★ ") && page.contains("B ") && page.contains("cpu-affinity = &quot;spread&quot;"), "{page}");
    let json = serde_json::to_value(found.summary()).unwrap();
    assert_eq!((&json["recommended"]["cpu_affinity"], &json["baseline"]["cpu_affinity"]), (&"spread".into(), &"none".into()));
    let table = csv(&found);
    assert!(
        table.lines().next().unwrap().ends_with(",cpu_affinity,beside_cpu,bounded")
            && table.lines().nth(1).unwrap().contains(",none,,"),
        "{table}"
    );
    let text = optuna(&found, &about());
    let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let axis: serde_json::Value = serde_json::from_str(lines[1]["distributions"]["cpu_affinity"].as_str().unwrap()).unwrap();
    assert_eq!(axis["attributes"]["choices"], serde_json::json!(["none", "spread", "pin"]));
    assert_eq!(lines[1]["params"]["cpu_affinity"], 0);
    assert!(lines[1..].iter().any(|line| line["params"]["cpu_affinity"] == 1), "{text}");
}

#[test]
fn the_rule_of_thumb_is_told_beside_what_is_recommended() {
    let mut found = example(&APPS[1]);
    let told =
        |found: &Report| sentences::after_the_verdict(found).into_iter().find(|sentence| sentence.contains("rule of thumb"));
    assert_eq!(told(&found), None, "the baseline is the rule");
    let amount = Interval { value: 100.0, low: 90.0, high: 111.0 };
    let mut say = |amount, is_unmet, ratio| {
        found.rule = Some(Rule { candidate: found.baseline.candidate, amount, is_unmet, ratio });
        told(&found).unwrap()
    };
    insta::assert_snapshot!(
        [
            say(Some(amount), false, Some(Interval { value: 1.32, low: 1.2, high: 1.45 })),
            say(Some(amount), false, Some(Interval { value: 1.02, low: 0.93, high: 1.12 })),
            say(Some(amount), false, None),
            say(None, false, None),
            say(None, true, None),
        ]
        .join("\n"),
        @r"
    Beside Gunicorn's rule of thumb, 5 × 10: 1.32 (1.20 to 1.45) times its req/s, by trials that were not made in turn.
    No difference seen beside Gunicorn's rule of thumb, 5 × 10: 1.02 (0.93 to 1.12) times its req/s, by trials that were not made in turn.
    Gunicorn's rule of thumb, 5 × 10, cannot be compared: something disturbed every trial of it or of what is recommended.
    Gunicorn's rule of thumb, 5 × 10, cannot be compared: no trial of it was both finished and undisturbed.
    Gunicorn's rule of thumb, 5 × 10, does not meet the objective.
    "
    );
}
