//! The pool against a plain list.

use std::fs::File;

use proptest::prelude::*;

use super::*;

fn busy(nanos: u64) -> Busy {
    let due = Due { index: 0, at: Moment::from_nanos(nanos), moved: std::time::Duration::ZERO, session: None };
    Busy {
        flight: Flight { due, session: None, since: due.at, attempt: Attempt::First },
        started: due.at,
        sent_at: None,
        answered_at: None,
        phase: Phase::Moving,
        length: 0,
        sent: 0,
        usage: Usage::Fresh,
        source: Source::Plan,
    }
}

fn owned_by(session: sessions::Key, nanos: u64) -> Busy {
    let mut busy = busy(nanos);
    busy.flight.session = Some(session);
    busy
}

fn transport() -> Transport {
    Transport::Plain(File::open("/dev/null").unwrap().into())
}

proptest! {
    #[test]
    fn the_earliest_is_known_whatever_happens(steps in prop::collection::vec((0_u8..3, 0_u64..50), 1..80)) {
        let mut pool = Pool::new(6, 0);
        let mut model: Vec<(u64, Place)> = Vec::new();
        for (step, number) in steps {
            let chosen = model.get(usize::try_from(number).unwrap() % model.len().max(1)).copied();
            match (step, chosen) {
                (0, _) if pool.has_room() => {
                    let place = pool.take_idle(None).map(|(place, _)| place).or_else(|| pool.take_vacant()).unwrap();
                    pool.begin(place, transport(), busy(number));
                    model.push((number, place));
                }
                (1, Some((due, place))) => {
                    pool.rest(place);
                    model.retain(|entry| *entry != (due, place));
                }
                (2, Some((due, place))) => {
                    let label = pool.label(place);
                    prop_assert_eq!(pool.find(label), Some(place));
                    prop_assert!(pool.end(place).0.is_some());
                    prop_assert_eq!(pool.find(label), None);
                    model.retain(|entry| *entry != (due, place));
                }
                _ => {}
            }
            prop_assert_eq!(pool.busy(), model.len());
            let earliest = model.iter().map(|(due, _)| *due).min();
            prop_assert_eq!(pool.earliest().map(|(_, due)| due.as_nanos()), earliest);
            let before = model.iter().filter(|(due, _)| *due < 25).count();
            prop_assert_eq!(pool.due_before(Moment::from_nanos(25)), before as u64);
        }
    }
}

#[test]
fn connections_of_sessions_are_for_nobody_else_until_their_place_is_needed() {
    let mut pool = Pool::new(2, 0);
    for session in [7, 8] {
        let place = pool.take_vacant().unwrap();
        pool.begin(place, transport(), owned_by(session, 1));
        pool.rest(place);
    }
    assert!(pool.take_idle(None).is_none() && pool.take_vacant().is_none());
    assert_eq!(pool.in_the_way(), Some(0), "the one that is idle longest");
    assert_eq!(pool.end(0).1, Some(7));
    assert_eq!(pool.in_the_way(), None);
    let (place, _) = pool.take_idle(Some(1)).unwrap();
    assert_eq!(place, 1);
    assert!(pool.take_idle(Some(1)).is_none(), "taken");
}
