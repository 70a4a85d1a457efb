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
