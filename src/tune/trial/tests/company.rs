//! Trials beside other programs: of a database of the application's on the same host, and of strangers that come and go.

use super::*;

/// Whenever a trial ends, it goes on.
const ALWAYS: f64 = 1e9;
/// CPU time of the database for a request, seconds: at 200 requests a second a quarter of four cores.
const EACH: f64 = 0.005;

/// Two of four cores are the application's, whose requests need `beside` seconds of another program. A stranger uses 1.2 cores meanwhile.
fn server(beside: f64, from: f64, to: f64) -> Server {
    Server { cores: 4, beside, strangers: vec![(from, to, 1.2)], ..Server::new(2, 0.01, 0.05) }
}

fn measured(mut server: Server) -> Measurement {
    trial(&mut server, Pace::Normal, &suggestion(None, None))
}

#[test]
fn a_database_on_the_same_host_is_demand_and_no_disturbance() {
    let found = measured(server(EACH, 0.0, 0.0));
    assert_eq!((found.ending, found.flags.as_slice()), (Ending::Held, [].as_slice()));
    assert!((170.0..=215.0).contains(&found.capacity), "{:?}", found.probes);
    assert!((found.beside_seconds_per_request().unwrap() / EACH - 1.0).abs() < 0.05, "{:?}", found.beside_cpu);
    let (others, left) = (found.other_cpu.unwrap(), found.effective_cores.unwrap());
    assert!(others < 0.05 && left > 3.9, "{others} used, {left} left");
    // Without load nothing is repeated or waited for.
    let alone = measured(server(0.0, 0.0, 0.0));
    assert!(alone.beside_cpu == Some(0.0) && found.seconds - alone.seconds < 8.0, "{} and {} s", found.seconds, alone.seconds);
}

#[test]
fn a_challenge_and_a_fixed_rate_beside_a_database_are_not_disturbed() {
    let missed = challenge(&mut server(EACH, 0.0, 0.0), Pace::Quick, 260.0);
    assert!(!missed.holds && missed.flags.is_empty(), "{missed:?}");
    let serve = Suggestion { task: Task::Serve { rate: 150.0 }, ..suggestion(None, None) };
    let served = trial(&mut server(EACH, 0.0, 0.0), Pace::Quick, &serve);
    assert!(served.is_valid() && served.beside_cpu.is_some_and(|cores| (0.7..0.8).contains(&cores)), "{served:?}");
}

#[test]
fn a_stranger_is_flagged_whenever_it_comes() {
    // Before the trial, while it rests, warms up, or measures lightly, and while it searches.
    for tenths in (0..160).step_by(4) {
        let from = f64::from(tenths) / 10.0;
        for beside in [0.0, EACH] {
            let found = measured(server(beside, from, ALWAYS));
            assert!(
                found.flags.contains(&Flag::OtherPrograms) && !found.is_valid(),
                "from {from} s, {beside}: {:?}",
                found.flags
            );
        }
    }
}

#[test]
fn a_stranger_that_leaves_is_not_taken_for_a_companion() {
    // Having come before the trial, or while it warms up or measures lightly.
    for from in [0.0, 1.5, 3.0, 6.0] {
        for tenths in (1..60).step_by(5) {
            let to = from + f64::from(tenths) / 10.0;
            let found = measured(server(0.0, from, to));
            let each = found.beside_seconds_per_request().unwrap();
            assert!(each < 1e-4 || !found.is_valid(), "{from} to {to} s: {each} s a request");
        }
    }
}

/// It works under every load of the trial and rests while the trial does, by bad luck.
#[test]
fn a_stranger_that_pauses_while_a_challenge_rests_excuses_no_failure() {
    for (from, to) in [(0.0, 4.0), (1.0, 5.0), (1.5, 3.0), (1.0, 8.0)] {
        for pause in [0.5, 1.0] {
            let strangers = || vec![(from, to, 1.2), (to + pause, ALWAYS, 1.2)];
            let beside_them = || Server { strangers: strangers(), ..server(0.0, 0.0, 0.0) };
            let missed = challenge(&mut beside_them(), Pace::Normal, 260.0);
            assert!(!missed.holds && missed.flags.contains(&Flag::OtherPrograms), "{from} to {to}, {pause} s: {missed:?}");
            let serve = Suggestion { task: Task::Serve { rate: 260.0 }, ..suggestion(None, None) };
            let served = trial(&mut beside_them(), Pace::Normal, &serve);
            assert!(!served.is_valid(), "{from} to {to}, {pause} s: {served:?}");
        }
    }
}

#[test]
fn what_waits_for_a_disk_before_there_is_load_is_told_apart() {
    let found = measured(Server { disk: 0.3, ..server(EACH, 0.0, 0.0) });
    assert_eq!((found.rest_iowait, found.cores[0].iowait), (Some(0.0), 0.3), "though it rests again after light loads");
}
