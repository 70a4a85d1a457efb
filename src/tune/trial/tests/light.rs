//! What a light load shows, and what it does not.

use super::*;
use crate::tune::trial::capacity::is_too_slow;

/// A pool of so many connections to something that takes so long binds, and the workers' cores are nearly idle: gevent's 400 slots let all
/// requests in, and asked at once for what the cores could do the server would take half a minute to answer what it owes.
#[test]
fn a_server_that_waits_for_a_pool_is_asked_for_what_the_pool_can_do() {
    for (pool, seconds, cpu) in [(10, 0.1, 0.002), (10, 0.1, 0.004), (20, 0.4, 0.005)] {
        let most = f64::from(pool) / seconds;
        for pace in [Pace::Quick, Pace::Normal] {
            for expected in [None, Some(2.0 * most), Some(5.0 * most)] {
                let mut server = Server { cpu: Some(cpu), cores: 2, ..Server::new(pool, seconds, 0.0) };
                let found = trial(&mut server, pace, &suggestion(expected, None));
                assert_eq!((found.ending, found.flags.as_slice()), (Ending::Held, [].as_slice()), "{:?}", found.probes);
                assert!((0.8..1.1).contains(&(found.capacity / most)), "{pace:?}: {} of {most}", found.capacity);
                assert!((0.5..1.5).contains(&(found.time_in_worker.unwrap() / seconds)), "{:?}", found.time_in_worker);
            }
        }
    }
}

/// A request in two hundred takes longer than the 99th percentile may be: 31 answers may hold two of them, and prove nothing.
#[test]
fn a_few_late_answers_of_a_light_load_settle_nothing() {
    let mut latencies = Latencies::new();
    (0..29).for_each(|_| latencies.record(Duration::from_millis(100)));
    (0..2).for_each(|_| latencies.record(Duration::from_secs(2)));
    let too_slow = |latencies: &Latencies, slo: &str| is_too_slow(latencies, &slo.parse().unwrap());
    assert!(!too_slow(&latencies, "p99<1s") && too_slow(&latencies, "max<1s"), "of all requests none may be late");
    (0..29).for_each(|_| latencies.record(Duration::from_secs(2)));
    assert!(too_slow(&latencies, "p99<1s") && too_slow(&latencies, "p90<1s") && too_slow(&latencies, "max<1s"));
    assert!(!too_slow(&latencies, "p90<2100ms"));
    assert!(too_slow(&Latencies::new(), "p90<1s"), "nothing was answered");
    let mut slow = Latencies::new();
    for proved in [false, true, true] {
        slow.record(Duration::from_secs(2));
        assert_eq!(too_slow(&slow, "p90<1s"), proved, "{} answers", slow.count());
    }
}

#[test]
fn a_light_load_does_not_queue_where_slots_are_fewer_than_cores() {
    for (stations, service, cores) in [(1, 0.4, 2), (2, 0.1, 16)] {
        let terms = Terms { cores, cpu: f64::from(cores), ..terms(stations, Pace::Normal) };
        let candidate = Candidate::new(Workers::new(stations.into()).unwrap(), Connections::ONE);
        let mut server = Server::new(stations, service, 0.0);
        let found = run(&mut server, &terms, &Suggestion { candidate, ..suggestion(None, None) }, &mut |_| ()).unwrap();
        let Outcome::Measured(found) = found else { panic!("{found:?}") };
        assert!(found.ending == Ending::Held && found.capacity > 0.0, "{stations} slots: {:?} {:?}", found.ending, found.probes);
        let inside = found.time_in_worker.unwrap();
        assert!((0.8..1.3).contains(&(inside / service)), "{stations} slots: {inside} s inside");
    }
}

/// A few requests take longer than anybody waits for after a load has stopped, and nine in ten do not.
#[test]
fn a_slow_tail_is_neither_an_error_nor_a_server_that_does_not_recover() {
    for (pace, share) in [(Pace::Quick, 0.01), (Pace::Normal, 0.01)] {
        let capacity = |slow| {
            let found = trial(&mut Server { slow, ..Server::new(2, 0.01, 0.05) }, pace, &suggestion(None, None));
            assert_eq!((found.ending, found.errors), (Ending::Held, Some(0.0)), "{slow:?} {:?}", found.probes);
            assert_eq!(found.flags.as_slice(), [], "{slow:?} {:?}", found.probes);
            found.capacity
        };
        let (usual, tailed) = (capacity((0.0, 0.0)), capacity((share, 20.0)));
        assert!((0.9..1.1).contains(&(tailed / usual)), "{pace:?}, {share}: {tailed} of {usual}");
    }
}

#[test]
fn a_server_that_does_not_recover_is_told_and_ends_the_trial() {
    let mut server = Server { collapses_at: 5, ..Server::new(2, 0.4, 0.0) };
    let found = trial(&mut server, Pace::Quick, &suggestion(Some(90.0), None));
    assert!(found.flags.contains(&Flag::DoesNotRecover), "{:?} {:?}", found.flags, found.probes);
    let misses = found.probes.iter().filter(|probe| !probe.held).count();
    assert!(misses == 1 && !found.probes.last().unwrap().held, "it ends the trial: {:?}", found.probes);
}

/// Clients of a closed load keep step where all requests wait for the same time, and none is answered within a window shorter than that.
#[test]
fn requests_longer_than_a_light_load_are_measured_all_the_same() {
    for (wait, pace) in [(0.9, Pace::Quick), (3.0, Pace::Quick), (3.0, Pace::Normal), (9.0, Pace::Normal), (20.0, Pace::Quick)] {
        let terms = Terms { slo: "p90<30s,errors<0.1%".parse().unwrap(), ..terms(2, pace) };
        let found = run(&mut Server::new(2, 0.01, wait), &terms, &suggestion(None, None), &mut |_| ()).unwrap();
        let Outcome::Measured(found) = found else { panic!("{found:?}") };
        assert!(found.ending == Ending::Held && found.capacity > 20.0, "{wait}: {:?} {:?}", found.ending, found.probes);
        let inside = found.time_in_worker.unwrap() / (wait + 0.01);
        assert!((0.95..1.05).contains(&inside), "{wait}: {inside}");
    }
}

#[test]
fn a_pool_is_found_where_something_disturbs_every_load_too() {
    let mut server = Server { cpu: Some(0.002), cores: 2, steal: 0.05, ..Server::new(10, 0.1, 0.0) };
    let found = trial(&mut server, Pace::Quick, &suggestion(None, None));
    assert!((0.8..1.1).contains(&(found.capacity / 100.0)), "{}: {:?}", found.capacity, found.probes);
}
