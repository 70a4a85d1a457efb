//! Order and bounds of sessions.

use super::*;
use crate::load::pace::Due;
use crate::load::pool::Attempt;

fn flight(index: usize) -> Flight {
    let at = Moment::from_nanos(index as u64);
    Flight {
        due: Due { index, at, moved: std::time::Duration::ZERO, session: None },
        session: None,
        since: at,
        attempt: Attempt::First,
    }
}

const A: SessionId = SessionId(1 << 40);
const B: SessionId = SessionId(2);

#[test]
fn requests_of_a_session_go_one_after_the_other_in_order() {
    let mut sessions = Sessions::default();
    let Admission::Go(a) = sessions.admit(A, flight(0), false) else { panic!("nothing before it") };
    let Admission::Go(b) = sessions.admit(B, flight(1), true) else { panic!("nothing before it") };
    for index in 2..5 {
        assert_eq!(sessions.admit(A, flight(index), index == 4), Admission::Waits);
    }
    sessions.moved(a, Some(9));
    assert_eq!((sessions.waiting(), sessions.due_before(Moment::from_nanos(4))), (3, 2));
    assert_eq!(sessions.ended(b), After::Over(B, None));
    for index in 2..5 {
        let After::Next(next) = sessions.ended(a) else { panic!("{index} waits") };
        assert_eq!((next.due.index, next.session), (index, Some(a)));
    }
    assert_eq!(sessions.ended(a), After::Over(A, Some(9)));
    assert_eq!(sessions.waiting(), 0);

    let Admission::Go(again) = sessions.admit(A, flight(9), false) else { panic!("begun anew") };
    assert_eq!((sessions.place(again), sessions.ended(again)), (None, After::Rests(A)));
    assert_eq!(sessions.admit(A, flight(10), true), Admission::Go(again));
    assert_eq!(sessions.ended(again), After::Over(A, None));
}

#[test]
fn beyond_the_bound_requests_are_shed_and_the_session_still_ends() {
    let mut sessions = Sessions::default();
    let Admission::Go(key) = sessions.admit(A, flight(0), false) else { panic!("nothing before it") };
    for index in 0..QUEUE_LIMIT {
        assert_eq!(sessions.admit(A, flight(index), false), Admission::Waits);
    }
    assert_eq!(sessions.admit(A, flight(0), true), Admission::Shed);
    for _ in 0..QUEUE_LIMIT {
        assert!(matches!(sessions.ended(key), After::Next(_)));
    }
    assert_eq!(sessions.ended(key), After::Over(A, None));
}

#[test]
fn so_many_sessions_are_open_and_no_more() {
    let mut sessions = Sessions::default();
    for id in 0..MAX_SESSIONS as u64 {
        assert!(matches!(sessions.admit(SessionId(id), flight(0), false), Admission::Go(_)));
    }
    assert_eq!(sessions.admit(SessionId(u64::MAX), flight(0), false), Admission::Shed);
    sessions.admit(SessionId(0), flight(0), true);
    assert!(matches!(sessions.ended(0), After::Next(_)));
    assert_eq!(sessions.ended(0), After::Over(SessionId(0), None));
    assert!(matches!(sessions.admit(SessionId(u64::MAX), flight(0), false), Admission::Go(0)));
}
