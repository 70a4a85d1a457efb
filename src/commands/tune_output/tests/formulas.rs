//! The formulas with numbers put in: they add up, and say what they are of.

use super::*;

/// A study in which `change` was done to every measurement, in a slice of so many cores or of the whole host.
pub(in crate::commands::tune_output) fn sliced(quota: Option<f64>, change: impl Fn(&mut Measurement)) -> Report {
    let mut study = APPS[1].study(Pace::Quick);
    study.space.quota = quota;
    let mut host = APPS[1].host(Pace::Quick, 2);
    let stop = run(&mut study, |suggestion| match host.run(suggestion) {
        Outcome::Measured(mut found) => {
            change(&mut found);
            Outcome::Measured(found)
        }
        other @ (Outcome::Challenged(_) | Outcome::Failed { .. }) => other,
    });
    Report::new(&study, stop)
}

fn said(report: &Report, name: &str) -> String {
    working::generator(report).into_iter().find(|(row, _)| *row == name).map(|(_, text)| text).unwrap_or_default()
}

#[test]
fn what_is_left_of_a_quota_is_left_of_the_quota() {
    let found = sliced(Some(0.5), |found| {
        (found.workers_cpu, found.generator_cpu, found.supervisor_cpu) = (Some(0.38), Some(0.06), Some(0.04));
        (found.other_cpu, found.effective_cores, found.utilisation) = (Some(0.3), Some(0.4), Some(0.96));
    });
    assert_eq!(
        said(&found, "Left"),
        "c_eff = c − generator − supervisor − others = 0.50 (CPU quota) − 0.06 − 0.04 − 0.00 = 0.40 cores"
    );
    let used = "0.38 cores by the workers, 0.06 by the load generator, 0.04 by the supervisor, 0.30 by other programs";
    assert_eq!(said(&found, "Used"), used);
    assert!(said(&found, "Elsewhere").contains("× 0.46 / 0.40 = "), "{}", said(&found, "Elsewhere"));
}

#[test]
fn what_is_left_of_the_host_is_without_supervisor_and_others() {
    let found = sliced(None, |found| {
        (found.workers_cpu, found.generator_cpu, found.supervisor_cpu) = (Some(1.6), Some(0.15), Some(0.05));
        (found.other_cpu, found.effective_cores, found.utilisation) = (Some(0.2), Some(1.6), Some(0.98));
    });
    assert_eq!(said(&found, "Left"), "c_eff = c − generator − supervisor − others = 2 − 0.15 − 0.05 − 0.20 = 1.60 cores");
}

#[test]
fn a_limit_that_excludes_nothing_has_no_row() {
    let mut study = APPS[1].study(Pace::Quick);
    (study.space.max_memory, study.space.max_slots) = (Some(1 << 50), Some(1 << 40));
    let mut host = APPS[1].host(Pace::Quick, 2);
    let stop = run(&mut study, |suggestion| host.run(suggestion));
    let excluded = working::excluded(&Report::new(&study, stop));
    assert!(excluded.iter().all(|(what, _)| !what.contains("of the map")), "{excluded:?}");
}

#[test]
fn what_takes_too_much_memory_is_told_and_why_it_is_not_recommended() {
    let within = |most: u64| {
        let mut study = APPS[1].study(Pace::Quick);
        study.space.max_memory = Some(most << 20);
        let mut host = APPS[1].host(Pace::Quick, 2);
        let stop = run(&mut study, |suggestion| host.run(suggestion));
        Report::new(&study, stop)
    };
    let (some, none) = (within(200), within(20));
    let headline = sentences::headline(&some);
    assert!(
        headline.contains(". The baseline takes more memory than may be used, so nothing is said about the gain."),
        "{headline}"
    );
    for found in [&some, &none] {
        let told = sentences::after_the_verdict(found).join(" ");
        let most = if found.recommended.is_some() { "200M" } else { "20M" };
        let end = format!("M of memory, and {most} may be used (--max-memory): it is not recommended.");
        assert!(told.contains("5 × 10, the baseline, took ") && told.contains(&end), "{told}");
    }
    assert_eq!(
        sentences::headline(&none),
        "No configuration meets p90<700ms,errors<0.1% with 20M of memory. Nothing is recommended."
    );
}

#[test]
fn what_matters_in_few_trials_is_said_where_it_does() {
    let leaking = |found: &mut Measurement| {
        found.flags.push(Flag::Leaking);
        (found.memory_growth, found.throttled, found.distinct_requests) = (Some(524_288.0), Some(0.34), Some(3));
    };
    let quiet = |found: &mut Measurement| {
        (found.memory_growth, found.throttled, found.distinct_requests) = (Some(524_288.0), Some(0.001), Some(700));
    };
    let note = |found: &Report| table::note(&found.trials[0], &found.slo);
    let expected = "baseline, memory keeps growing, by 30.0 MiB a minute, held back by the CPU quota 34% of the time, 3 different requests sent";
    assert_eq!(note(&sliced(None, leaking)), expected);
    assert_eq!(note(&sliced(None, quiet)), "baseline");
    let table = csv(&sliced(None, leaking));
    assert!(table.lines().nth(1).unwrap().contains(",524288,") && table.lines().nth(1).unwrap().contains(",0.34,3,"), "{table}");
}

#[test]
fn a_host_that_changes_makes_the_numbers_doubtful() {
    let calm = example(&APPS[2]);
    assert!(!report(&calm, WIDE).contains("the host changed"));
    let drift = crate::study::drift::Drift { candidate: calm.baseline.candidate, least: 0.050, most: 0.061 };
    let told = sentences::after_the_verdict(&Report { drift: Some(drift), ..calm });
    let expected = "Take its numbers with care: the host changed while the study ran. CPU time per request of 5 × 10 was 50ms in one trial and 61ms \
                    in another, 22 % more.";
    assert!(told.iter().any(|sentence| sentence == expected), "{told:?}");
}
