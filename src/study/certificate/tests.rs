//! The bound against exact mean value analysis, and what it takes to give a certificate.

use std::num::NonZeroU16;

use super::*;
use crate::study::{Dimensions, Outcome, Pace, Purpose, Space, Suggestion, Task, Trial};
use crate::units::{Connections, Workers};

/// Throughput of a closed network of `cores` equal processors with one queue, `demand` seconds of one of them a request, and a
/// delay of `wait` seconds, with 1, 2, … `most` customers: exact mean value analysis with the marginal probabilities of a station
/// that serves several at a time (Reiser and Lavenberg, Mean-Value Analysis of Closed Multichain Queuing Networks, Journal of the
/// ACM 27, 1980).
fn mean_value_analysis(cores: usize, demand: f64, wait: f64, most: usize) -> Vec<f64> {
    let servers = cores as f64;
    let mut queue = 0.0;
    // Probability of 0, 1, … cores − 1 customers at the station.
    let mut marginal = vec![0.0; cores];
    marginal[0] = 1.0;
    let mut throughputs = Vec::new();
    for customers in 1..=most {
        let idle: f64 = (0..cores - 1).map(|busy| (servers - 1.0 - busy as f64) * marginal[busy]).sum();
        let residence = demand / servers * (1.0 + queue + idle);
        let throughput = customers as f64 / (wait + residence);
        let before = marginal.clone();
        for busy in 1..cores {
            marginal[busy] = throughput * demand / busy as f64 * before[busy - 1];
        }
        let rest: f64 = (1..cores).map(|busy| (servers - busy as f64) * marginal[busy]).sum();
        marginal[0] = (1.0 - (throughput * demand + rest) / servers).max(0.0);
        queue = throughput * residence;
        throughputs.push(throughput);
    }
    throughputs
}

fn study(cores: u16) -> Study {
    let cores = NonZeroU16::new(cores).unwrap();
    let space = Space::ordinary(cores, Dimensions::WorkersAndConnections, Connections::ONE);
    let slo = "p90<700ms".parse().unwrap();
    Study::new(slo, space, Pace::Normal, Pace::Normal.budget(&slo))
}

fn candidate(workers: u32) -> Candidate {
    Candidate::new(Workers::new(workers).unwrap(), Connections::new(100).unwrap())
}

fn record(study: &mut Study, workers: u32, capacity: f64, busy: f64) {
    let (purpose, task) = (Purpose::Jump, Task::Measure);
    let suggestion = Suggestion { candidate: candidate(workers), purpose, task, expected: None, rival: None };
    let found = Measurement { utilisation: Some(busy), ..Measurement::of_capacity(capacity) };
    study.record(Trial { suggestion, outcome: Outcome::Measured(Box::new(found)) });
}

#[test]
fn mean_value_analysis_is_right_where_the_answer_is_known() {
    // One server, no delay: always busy. One customer: never waits.
    assert!(mean_value_analysis(1, 0.02, 0.0, 5).iter().all(|throughput| (throughput - 50.0).abs() < 1e-9));
    assert!((mean_value_analysis(4, 0.02, 0.18, 1)[0] - 5.0).abs() < 1e-9);
    // Two servers, no delay, two customers: both always busy.
    assert!((mean_value_analysis(2, 0.02, 0.0, 2)[1] - 100.0).abs() < 1e-9);
    // One server: two customers with a delay, by hand: R = D(1 + Q(1)).
    let (demand, wait) = (0.1, 0.3);
    let queue = demand / (demand + wait);
    assert!((mean_value_analysis(1, demand, wait, 2)[1] - 2.0 / (wait + demand * (1.0 + queue))).abs() < 1e-9);
}

#[test]
fn the_bound_is_never_below_what_exact_analysis_gives_and_is_reached_in_the_limit() {
    for (cores, demand, waits) in [(1, 0.01, 10), (2, 0.01, 40), (4, 0.05, 0), (8, 0.004, 50), (16, 0.01, 40)] {
        let wait = demand * f64::from(u16::try_from(waits).unwrap());
        let most = 40 * usize::from(cores) + 8 * usize::from(cores) * waits;
        let throughputs = mean_value_analysis(cores.into(), demand, wait, most);
        let mut given = 0;
        for throughput in &throughputs {
            let busy = throughput * demand / f64::from(cores);
            let mut study = study(cores);
            record(&mut study, cores.into(), *throughput, busy);
            record(&mut study, cores.into(), *throughput, busy);
            let certificate = Certificate::of(&study, Some(candidate(cores.into())));
            assert_eq!(certificate.bound.is_some(), busy > BUSY);
            let Some(bound) = certificate.bound else { continue };
            assert!(throughputs.iter().all(|any| *any <= bound * (1.0 + 1e-6)), "{cores} cores: {throughput} of {bound}");
            assert!((certificate.share.unwrap() - busy).abs() < 1e-9);
            given += u32::from(certificate.given);
        }
        let last = throughputs.last().unwrap();
        assert!(*last > 0.999 * f64::from(cores) / demand, "{cores} cores: {last}");
        assert!(given > 0);
    }
}

/// CPU a request of `workers` workers on `cores` cores that grows by `growth` (a logarithm) with ever more workers a core.
fn crowded(demand: f64, cores: u16, workers: u32, growth: f64) -> f64 {
    demand * (growth * (1.0 - f64::from(cores) / f64::from(workers))).exp()
}

/// Records two boots that do what exact analysis gives for that demand.
fn record_loaded(study: &mut Study, cores: u16, workers: u32, demand: f64) {
    let loaded = mean_value_analysis(cores.into(), demand, 10.0 * demand, 30 * usize::from(cores));
    let throughput = loaded[loaded.len() - 1];
    for _ in 0..2 {
        record(study, workers, throughput, throughput * demand / f64::from(cores));
    }
}

#[test]
fn the_bound_is_that_of_the_cheapest_workers_however_many_others_were_tried() {
    for (cores, more) in [(2, 5), (4, 5), (8, 17), (16, 33)] {
        let mut study = study(cores);
        record_loaded(&mut study, cores, more, crowded(0.01, cores, more, CROWDING));
        record_loaded(&mut study, cores, cores.into(), 0.01);
        let certificate = Certificate::of(&study, Some(candidate(cores.into())));
        assert!((certificate.bound.unwrap() / (f64::from(cores) / 0.01) - 1.0).abs() < 1e-9, "{cores}: {certificate:?}");
        assert_eq!(certificate.crowded, None);
    }
}

#[test]
fn where_all_workers_shared_cores_the_bound_covers_those_that_do_not() {
    for (cores, workers) in [(4, 5), (8, 10), (16, 20)] {
        let possible = mean_value_analysis(cores.into(), 0.01, 0.1, 30 * usize::from(cores));
        let best = possible[possible.len() - 1];
        for growth in [0.0, 0.2, CROWDING, MOST_CROWDING] {
            let mut study = study(cores);
            record_loaded(&mut study, cores, workers, crowded(0.01, cores, workers, growth));
            let certificate = Certificate::of(&study, Some(candidate(workers)));
            let (bound, interval) = certificate.bound.zip(certificate.interval).unwrap();
            assert!(interval.contains(f64::from(cores) / 0.01) && interval.high >= best, "{cores}, {growth}: {certificate:?}");
            assert!(growth > CROWDING || bound >= best * (1.0 - 1e-9), "{cores}, {growth}: {certificate:?}");
            assert!(certificate.crowded.is_some_and(|factor| factor > 1.0));
        }
    }
}

#[test]
fn it_takes_two_boots_and_says_what_is_certain() {
    let mut study = study(2);
    record(&mut study, 2, 195.0, 0.975);
    let once = Certificate::of(&study, Some(candidate(2)));
    assert!(!once.given && once.reason.as_deref() == Some("the recommended configuration was measured only once"));
    record(&mut study, 2, 197.0, 0.985);
    let twice = Certificate::of(&study, Some(candidate(2)));
    assert!(twice.given && (twice.bound.unwrap() - 200.0).abs() < 1e-6 && (twice.share.unwrap() - 0.98).abs() < 0.001);
    assert!(twice.least.unwrap() < 0.95 && twice.margin.unwrap() > 0.05);
    insta::assert_snapshot!(twice.words(2.0));
}

#[test]
fn crowded_idle_or_disturbed_hosts_give_none() {
    let reason = |workers, busy, disturbed: bool| {
        let mut study = study(4);
        for _ in 0..2 {
            record(&mut study, workers, 100.0, busy);
        }
        let mut disturbing = Study::new(study.slo, study.space.clone(), study.pace, study.budget);
        for trial in study.trials() {
            let mut trial = trial.clone();
            if let (true, Outcome::Measured(found)) = (disturbed, &mut trial.outcome) {
                found.flags.push(crate::study::Flag::Steal);
            }
            disturbing.record(trial);
        }
        Certificate::of(&disturbing, Some(candidate(workers))).words(4.0)
    };
    let reasons = [reason(9, 0.99, false), reason(4, 0.5, false), reason(4, 0.9, false), reason(4, 0.99, true)];
    insta::assert_snapshot!(reasons.join("\n"));
    assert_eq!(
        reason(4, 0.99, true),
        "No bound can be certified: the recommended configuration was measured only while something disturbed it"
    );
}

#[test]
fn busy_trials_that_were_disturbed_are_not_called_crowded() {
    let mut study = study(4);
    record(&mut study, 4, 100.0, 0.5);
    record(&mut study, 5, 200.0, 0.99);
    let Outcome::Measured(mut found) = study.trials()[1].outcome.clone() else { panic!("a number") };
    found.flags.push(crate::study::Flag::Steal);
    let (calm, disturbed) = (study.trials()[0].clone(), Trial { outcome: Outcome::Measured(found), ..study.trials()[1].clone() });
    let mut study = Study::new(study.slo, study.space.clone(), study.pace, study.budget);
    study.record(calm);
    study.record(disturbed);
    let reason = Certificate::of(&study, Some(candidate(4))).reason.unwrap();
    assert!(reason.starts_with("the cores were busy only in trials that something disturbed"), "{reason}");
}

#[test]
fn nothing_is_said_of_cores_that_nobody_watched() {
    let mut study = study(4);
    let (purpose, task) = (Purpose::Jump, Task::Measure);
    let suggestion = Suggestion { candidate: candidate(4), purpose, task, expected: None, rival: None };
    for capacity in [100.0, 101.0] {
        study.record(Trial { suggestion, outcome: Outcome::Measured(Box::new(Measurement::of_capacity(capacity))) });
    }
    let reason = Certificate::of(&study, Some(candidate(4))).reason.unwrap();
    assert_eq!(reason, "no trial told how busy the cores were");
}

#[test]
fn under_a_quota_the_bound_is_that_of_the_quota() {
    for quota in [0.5, 2.5] {
        let mut study = study(if quota < 1.0 { 1 } else { 3 });
        study.space.quota = Some(quota);
        let demand = 0.01;
        let workers = if quota < 1.0 { 1 } else { 3 };
        for busy in [0.97, 0.98] {
            record(&mut study, workers, busy * quota / demand, busy);
        }
        let certificate = Certificate::of(&study, Some(candidate(workers)));
        assert!((certificate.bound.unwrap() - quota / demand).abs() < 1e-6, "{quota}: {certificate:?}");
        assert!(certificate.given && certificate.words(quota).contains(&format!("what {quota} cores can do")));
    }
}

#[test]
fn a_quota_that_was_half_used_gives_no_bound() {
    let mut study = study(1);
    study.space.quota = Some(0.5);
    record(&mut study, 1, 25.0, 0.5);
    assert_eq!(Certificate::of(&study, Some(candidate(1))).bound, None);
}
