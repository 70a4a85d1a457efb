use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::recording::{Meta, Method, Recording, Request, Target, UnixNanos, read, uniform};
use crate::replay::gaps::BLOCK;
use crate::replay::{Copies, PlanOptions, Profile, Reuse, Sessions, Speed};
use crate::units::Rate;

fn plan(times: &[f64]) -> Plan {
    let lines: Vec<_> = times.iter().map(|t| format!("{{\"t\":{t},\"m\":\"GET\",\"u\":\"/{t}\"}}")).collect();
    let recording = read(lines.join("\n").as_bytes()).unwrap();
    Plan::compile(&recording, &PlanOptions::new("a", Reuse::KeepAlive)).unwrap()
}

fn first(plan: &Plan, from: usize, rate: f64, arrivals: Arrivals, count: usize) -> Vec<(usize, u128)> {
    let load = Load::Open { rate: Rate::new(rate).unwrap(), arrivals };
    let timetable = Timetable::new(plan, from, &load, Turns::Endless).unwrap();
    timetable.take(count).map(|arrival| (arrival.index, arrival.at.as_micros())).collect()
}

/// A request on connection `session`, or on none if that is `None`.
fn request(at: i64, session: Option<u8>, ordinal: u64, duration: Duration) -> Request {
    Request {
        at: UnixNanos(at),
        method: Method::new("GET").unwrap(),
        target: Target::new("/").unwrap(),
        connection: session.map(|session| session.to_string().into()),
        ordinal: session.map(|_| ordinal),
        headers: Vec::new(),
        body: Vec::new(),
        status: None,
        duration: Some(duration),
        response_bytes: None,
    }
}

fn compiled(requests: Vec<Request>) -> Plan {
    let recording = Recording { meta: Meta::default(), requests, ..Recording::default() };
    Plan::compile(&recording, &PlanOptions::new("a", Reuse::KeepAlive)).unwrap()
}

/// Recordings with a few connections, some requests on none, and times that often coincide.
fn any_plan() -> impl Strategy<Value = Plan> {
    prop::collection::vec((0_i64..4, prop::option::weighted(0.8, 0_u8..6)), 1..60).prop_map(|steps| {
        let mut at = 0;
        let requests = steps.into_iter().zip(1..).map(|((gap, session), ordinal)| {
            at += gap * 100_000_000;
            request(at, session, ordinal, Duration::from_millis(50))
        });
        compiled(requests.collect())
    })
}

fn recorded(speed: f64, copies: f64) -> Load {
    Load::Recorded { speed: Speed::new(speed).unwrap(), copies: Copies::new(copies).unwrap(), sessions: Sessions::Kept }
}

fn played(plan: &Plan, load: &Load) -> Vec<Arrival> {
    Timetable::new(plan, 0, load, Turns::Once).map_or(Vec::new(), Iterator::collect)
}

/// The arrivals of each session in their order.
fn by_session(arrivals: &[Arrival]) -> BTreeMap<SessionId, Vec<Arrival>> {
    let mut sessions: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for arrival in arrivals {
        if let Some(session) = arrival.session {
            sessions.entry(session).or_default().push(*arrival);
        }
    }
    sessions
}

/// Whether these are all requests of one recorded session, in their order and with their gaps.
fn is_whole(plan: &Plan, session: &[Arrival]) -> bool {
    let at = |arrival: &Arrival| plan.requests()[arrival.index].at();
    plan.opens(session[0].index)
        && plan.ends_session(session[session.len() - 1].index)
        && session.array_windows().all(|[before, after]| {
            plan.next_in_session(before.index) == Some(after.index)
                && after.at.checked_sub(before.at) == at(after).checked_sub(at(before))
        })
}

#[test]
fn even_arrivals_wrap_round_from_the_start_position() {
    let plan = plan(&[0.0, 1.0, 5.0]);
    assert_eq!(first(&plan, 2, 1000.0, Arrivals::Even, 4), [(2, 0), (0, 1_000), (1, 2_000), (2, 3_000)]);
    assert_eq!(first(&plan, 5, 1000.0, Arrivals::Even, 1), first(&plan, 2, 1000.0, Arrivals::Even, 1));
}

#[test]
fn poisson_arrivals_have_the_rate_and_the_spread() {
    let plan = plan(&[0.0, 1.0]);
    let arrivals = first(&plan, 0, 1000.0, Arrivals::Poisson { seed: 3 }, 20_000);
    let mean = arrivals[19_999].1 as f64 / 20_000.0;
    assert!((970.0..1_030.0).contains(&mean), "{mean}");
    let gaps: Vec<f64> = arrivals.windows(2).map(|pair| (pair[1].1 - pair[0].1) as f64).collect();
    let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
    // The standard deviation of exponential gaps is their mean.
    assert!((0.95..1.05).contains(&(variance.sqrt() / mean)));
    assert_eq!(arrivals, first(&plan, 0, 1000.0, Arrivals::Poisson { seed: 3 }, 20_000));
}

#[test]
fn steady_arrivals_scatter_within_a_block_but_not_beyond_it() {
    let plan = plan(&[0.0, 1.0]);
    let arrivals = first(&plan, 0, 1000.0, Arrivals::Steady { seed: 3 }, 20_000);
    let blocks = arrivals.chunks(usize::try_from(BLOCK).unwrap());
    for (block, end) in blocks.map(|block| block[block.len() - 1].1).take(150).enumerate() {
        let exact = (block as u128 + 1) * u128::from(BLOCK) * 1000;
        assert!(end.abs_diff(exact) <= 1, "{end} is not {exact}");
    }
    let gaps: Vec<f64> = arrivals.windows(2).map(|pair| (pair[1].1 - pair[0].1) as f64).collect();
    let deviation = crate::stats::deviation(&gaps).unwrap();
    assert!((950.0..1_050.0).contains(&deviation), "{deviation}");
}

#[test]
fn a_single_turn_ends() {
    let plan = plan(&[0.0, 1.0, 5.0]);
    let load = Load::Open { rate: Rate::new(10.0).unwrap(), arrivals: Arrivals::Even };
    let indexes: Vec<_> = Timetable::new(&plan, 1, &load, Turns::Once).unwrap().map(|arrival| arrival.index).collect();
    assert_eq!(indexes, [1, 2, 0]);
    let silent = Load::Open { rate: Rate::default(), arrivals: Arrivals::Even };
    assert!(Timetable::new(&plan, 0, &silent, Turns::Endless).is_none());
}

#[test]
fn a_profile_ends_an_endless_turn() {
    let plan = plan(&[0.0, 1.0, 5.0]);
    for (arrivals, expected) in [(Arrivals::Even, 150..=150), (Arrivals::Poisson { seed: 5 }, 100..=200)] {
        let load = Load::Profile { rate: "0:0,1s:100,2s:100".parse().unwrap(), arrivals };
        let times: Vec<_> = Timetable::new(&plan, 0, &load, Turns::Endless).unwrap().map(|arrival| arrival.at).collect();
        assert!(expected.contains(&times.len()), "{}", times.len());
        assert!(times.is_sorted() && times[times.len() - 1] < Duration::from_secs(2));
        let early = times.iter().filter(|at| at.as_millis() < 500).count();
        // An eighth of the square: 12.5 on average.
        assert!((4..=24).contains(&early), "{early}");
    }
}

#[test]
fn recorded_times_go_round_from_the_start_position() {
    // Gaps of 1 and 3 seconds, then a mean gap of 2: three requests in 6 s.
    let plan = plan(&[0.0, 1.0, 4.0]);
    let seconds = |from: usize, speed: f64| {
        let timetable = Timetable::new(&plan, from, &recorded(speed, 1.0), Turns::Endless).unwrap();
        timetable.take(5).map(|arrival| (arrival.index, arrival.at.as_secs_f64())).collect::<Vec<_>>()
    };
    assert_eq!(seconds(0, 1.0), [(0, 0.0), (1, 1.0), (2, 4.0), (0, 6.0), (1, 7.0)]);
    assert_eq!(seconds(1, 2.0), [(1, 0.0), (2, 1.5), (0, 2.5), (1, 3.0), (2, 4.5)]);
    assert_eq!(recorded(2.0, 3.0).rate(&plan), Rate::new(3.0));
}

#[test]
fn a_recording_of_one_moment_is_repeated_every_second() {
    let plan = plan(&[5.0, 5.0]);
    let load = recorded(2.0, 1.0);
    let times: Vec<_> = Timetable::new(&plan, 1, &load, Turns::Endless).unwrap().take(5).map(|a| a.at.as_millis()).collect();
    assert_eq!(times, [0, 0, 500, 500, 1_000]);
    assert_eq!(load.rate(&plan), Rate::new(4.0));
}

#[test]
fn a_fraction_keeps_its_share_of_sessions_and_leaves_out_whole_ones() {
    let requests = (0..40_000_u16).map(|n| {
        let session = format!("{}", n % 8_000);
        let mut request = request(i64::from(n) * 1_000_000, Some(0), u64::from(n), Duration::ZERO);
        request.connection = Some(session.into());
        request
    });
    let plan = compiled(requests.collect());
    assert_eq!(plan.sessions(), 8_000);
    for (copies, expected) in [(0.25, 2_000), (1.5, 12_000), (2.75, 22_000)] {
        let sessions = by_session(&played(&plan, &recorded(1.0, copies)));
        // Six standard deviations of at most sqrt(8000 / 4).
        assert!(sessions.len().abs_diff(expected) < 270, "{copies}: {}", sessions.len());
        assert!(sessions.values().all(|session| session.len() == 5 && is_whole(&plan, session)));
    }
}

#[test]
fn the_gaps_of_a_plan_are_those_of_its_recording() {
    let mut at = Duration::ZERO;
    let times = (0..20_000).map(|n| {
        at += Duration::from_secs_f64(-(1.0 - uniform(11, n)).ln() / 1_000.0);
        at
    });
    let times: Vec<_> = times.collect();
    let nanos = |at: &Duration| i64::try_from(at.as_nanos()).unwrap();
    let plan = compiled(times.iter().map(|at| request(nanos(at), None, 0, Duration::ZERO)).collect());
    for speed in [1.0, 7.3] {
        let arrivals = played(&plan, &recorded(speed, 1.0));
        let slowed: Vec<_> = arrivals.iter().map(|arrival| arrival.at.mul_f64(speed)).collect();
        let distance = distance(&gaps(&slowed), &gaps(&times));
        assert!(distance <= 0.01, "{distance}");
    }
}

/// All gaps, the shortest first.
fn gaps(times: &[Duration]) -> Vec<Duration> {
    let mut gaps: Vec<_> = times.array_windows().map(|[before, after]| after.saturating_sub(*before)).collect();
    gaps.sort_unstable();
    gaps
}

/// The largest difference between two distributions (Kolmogorov, Smirnov).
fn distance(ones: &[Duration], others: &[Duration]) -> f64 {
    let share = |sample: &[Duration], limit: &Duration| sample.partition_point(|gap| gap <= limit) as f64 / sample.len() as f64;
    ones.iter().chain(others).map(|gap| (share(ones, gap) - share(others, gap)).abs()).fold(0.0, f64::max)
}

/// Plays as an engine would: a request of a session waits for the answer to the one before. Returns when each was sent.
fn simulated(arrivals: &[Arrival], service: impl Fn(u64) -> Duration) -> Vec<Duration> {
    let mut ends: BTreeMap<SessionId, Duration> = BTreeMap::new();
    let send = |(arrival, number): (&Arrival, u64)| {
        let free = arrival.session.and_then(|session| ends.get(&session).copied()).unwrap_or_default();
        let sent = arrival.at.max(free);
        if let Some(session) = arrival.session {
            ends.insert(session, sent + service(number));
        }
        sent
    };
    arrivals.iter().zip(0..).map(send).collect()
}

proptest! {
    #[test]
    fn a_fast_server_sees_the_recorded_times_and_a_slow_one_whole_sessions(plan in any_plan(), seed: u64) {
        let arrivals = played(&plan, &recorded(1.0, 2.0));
        let instantly = simulated(&arrivals, |_| Duration::ZERO);
        prop_assert!(instantly.iter().zip(&arrivals).all(|(sent, arrival)| *sent == arrival.at));

        let service = |number| Duration::from_secs_f64(uniform(seed, number));
        let sent = simulated(&arrivals, service);
        let mut ends = BTreeMap::new();
        for ((sent, arrival), number) in sent.iter().zip(&arrivals).zip(0..) {
            prop_assert!(*sent >= arrival.at);
            if let Some(session) = arrival.session {
                let end = ends.insert(session, *sent + service(number));
                prop_assert!(end.is_none_or(|end| end <= *sent));
            }
        }
    }

    #[test]
    fn times_never_go_back(plan in any_plan(), from in 0..99_usize, speed in 0.1..9.0, copies in 0.1..4.0, seed: u64) {
        let rate = Rate::new(50.0).unwrap();
        let profile: Profile = "0:0,1s:90,1s:10,9s:100".parse().unwrap();
        let mut loads = vec![recorded(speed, copies)];
        for arrivals in [Arrivals::Even, Arrivals::Poisson { seed }, Arrivals::Steady { seed }] {
            loads.push(Load::Open { rate, arrivals });
            loads.push(Load::Profile { rate: profile.clone(), arrivals });
        }
        for (load, turns) in loads.iter().flat_map(|load| [Turns::Once, Turns::Endless].map(|turns| (load, turns))) {
            let Some(timetable) = Timetable::new(&plan, from, load, turns) else { continue };
            let times: Vec<_> = timetable.take(300).map(|arrival| arrival.at).collect();
            prop_assert!(times.is_sorted(), "{load:?} {turns:?}");
        }
    }

    #[test]
    fn whole_copies_multiply_and_keep_sessions(plan in any_plan(), copies in 1_u8..6, from in 0..99_usize) {
        let load = recorded(1.0, f64::from(copies));
        let arrivals: Vec<_> = Timetable::new(&plan, from, &load, Turns::Once).unwrap().collect();
        let mut counts = vec![0; plan.requests().len()];
        for arrival in &arrivals {
            counts[arrival.index] += 1;
        }
        prop_assert!(counts.iter().all(|count| *count == copies));
        let sessions = by_session(&arrivals);
        prop_assert_eq!(sessions.len(), plan.sessions() * usize::from(copies));
        prop_assert!(sessions.values().all(|session| is_whole(&plan, session)));
    }

    #[test]
    fn a_fraction_keeps_or_drops_whole_sessions(plan in any_plan(), copies in 0.01..3.0) {
        let arrivals = played(&plan, &recorded(1.0, copies));
        prop_assert!(by_session(&arrivals).values().all(|session| is_whole(&plan, session)));
    }

    #[test]
    fn speed_scales_every_time(plan in any_plan(), speed in 0.1..50.0) {
        let (slow, fast) = (played(&plan, &recorded(1.0, 1.0)), played(&plan, &recorded(speed, 1.0)));
        prop_assert_eq!(slow.len(), fast.len());
        for (slow, fast) in slow.iter().zip(&fast) {
            prop_assert_eq!((slow.index, slow.session), (fast.index, fast.session));
            prop_assert!(slow.at.div_f64(speed).abs_diff(fast.at) <= Duration::from_nanos(2));
        }
    }

    #[test]
    fn every_turn_has_its_own_sessions(plan in any_plan(), copies in 1_u8..3) {
        let count = plan.requests().len() * usize::from(copies);
        let load = recorded(1.0, f64::from(copies));
        let arrivals: Vec<_> = Timetable::new(&plan, 0, &load, Turns::Endless).unwrap().take(4 * count).collect();
        for session in by_session(&arrivals).into_values() {
            let indexes: Vec<_> = session.iter().map(|arrival| arrival.index).collect();
            // A rising run is one playing of the session: nothing of another turn is in it.
            prop_assert!(indexes.is_sorted_by(|before, after| before < after));
            prop_assert!(plan.opens(indexes[0]));
        }
    }

    #[test]
    fn no_recording_panics(
        requests in prop::collection::vec((any::<i64>(), any::<Option<u8>>(), any::<u64>(), any::<Duration>()), 1..20),
        from: usize,
        speed in 0.001..1_000.0,
        copies in 0.01..20.0,
        turns in prop::sample::select(vec![Turns::Once, Turns::Endless]),
    ) {
        let request = |(at, session, ordinal, duration)| request(at, session, ordinal, duration);
        let plan = compiled(requests.into_iter().map(request).collect());
        let load = recorded(speed, copies);
        let _ = load.rate(&plan);
        let times: Vec<_> = Timetable::new(&plan, from, &load, turns).into_iter().flatten().take(500).map(|a| a.at).collect();
        prop_assert!(times.is_sorted());
    }
}
