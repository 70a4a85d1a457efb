use std::time::Duration;

use proptest::prelude::*;

use super::*;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

fn at(milliseconds: u64) -> Time {
    let nanos = milliseconds * 1_000_000;
    Time { moment: Moment::from_nanos(nanos), unix: UnixNanos(i64::try_from(nanos).unwrap()) }
}

fn follower() -> Follower {
    Follower::new(7, BodyPolicy::Scrubbed, Moment::default())
}

/// One request and its answer.
fn exchange(follower: &mut Follower, request: &[u8], answer: &[u8]) -> Option<Seen> {
    assert_eq!(follower.client_said(request, at(10)), []);
    follower.server_said(answer, at(15).moment)
}

fn recorded(seen: Option<Seen>) -> Request {
    match seen {
        Some(Seen::Request(request)) => *request,
        other => panic!("no request: {other:?}"),
    }
}

fn lost(seen: impl Into<Option<Seen>>) -> Reason {
    match seen.into() {
        Some(Seen::Lost(reason)) => reason,
        other => panic!("still followed: {other:?}"),
    }
}

#[test]
fn a_request_is_recorded_when_it_is_answered() {
    let mut follower = follower();
    assert_eq!(follower.client_said(b"\r\nPOST /a HTTP/1.1\r\nContent-Length: 3\r\n", at(5)), []);
    assert_eq!(follower.client_said(b"\r\nabc", at(6)), []);
    assert_eq!(follower.quiet_since(), None);
    assert_eq!(follower.server_said(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 x\r\n", at(8).moment), None);
    let request = recorded(follower.server_said(b"Content-Length: 1\r\n\r\n.", at(9).moment));
    assert_eq!((request.at, request.duration), (UnixNanos(5_000_000), Some(Duration::from_millis(4))));
    assert_eq!((request.method.as_str(), request.target.as_str(), request.body.as_slice()), ("POST", "/a", &b"abc"[..]));
    assert_eq!((request.connection.as_deref(), request.ordinal), (Some("7"), Some(1)));
    assert_eq!((request.status, request.response_bytes), (Some(201), Some(1)));
    assert_eq!(follower.quiet_since(), Some(at(9).moment));
    assert_eq!(recorded(exchange(&mut follower, b"GET /b HTTP/1.1\r\n\r\n", OK)).ordinal, Some(2));
    assert_eq!(follower.ended(), None);
}

#[test]
fn chunks_are_put_together() {
    let chunked = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x\r\nde\r\n0\r\nT: v\r\n\r\n";
    assert_eq!(recorded(exchange(&mut follower(), chunked, OK)).body, b"abcde");
    let mut dropping = Follower::new(1, BodyPolicy::Dropped, Moment::default());
    assert_eq!(recorded(exchange(&mut dropping, chunked, OK)).body, b"");
}

#[test]
fn an_answer_may_end_with_the_connection_or_have_no_body() {
    let mut follower = follower();
    assert!(matches!(exchange(&mut follower, b"HEAD / HTTP/1.1\r\n\r\n", &OK[..OK.len() - 2]), Some(Seen::Request(_))));
    assert_eq!(exchange(&mut follower, b"GET / HTTP/1.0\r\n\r\n", b"HTTP/1.0 200 OK\r\n\r\nuntil"), None);
    let request = recorded(follower.server_closed(at(20).moment));
    assert_eq!((request.response_bytes, request.duration), (Some(5), Some(Duration::from_millis(10))));
    assert_eq!(follower.server_closed(at(21).moment), None);
}

#[test]
fn an_early_answer_waits_for_its_request() {
    let mut follower = follower();
    assert_eq!(exchange(&mut follower, b"POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\nab", OK), None);
    let seen = follower.client_said(b"cdGET /next HTTP/1.1\r\n\r\n", at(20));
    assert!(matches!(&seen[..], [Seen::Request(request)] if request.body == b"abcd"));
    assert_eq!(recorded(follower.server_said(OK, at(30).moment)).target.as_str(), "/next");
}

#[test]
fn what_is_not_understood_is_not_followed() {
    let get = b"GET / HTTP/1.1\r\n\r\n";
    let first = |bytes: &[u8]| lost(follower().client_said(bytes, at(0)).pop());
    assert_eq!(first(b"\x16\x03\x01\x02\x00 hello\r\n\r\n"), Reason::Malformed);
    assert_eq!(first(&vec![b'x'; MAX_HEAD + 1]), Reason::HeadTooLong);
    assert_eq!(first(b"GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\n\r\n"), Reason::Pipelined);
    assert_eq!(first(b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz"), Reason::Malformed);

    assert_eq!(lost(exchange(&mut follower(), get, b"HTTP/1.1 101 Switching Protocols\r\n\r\n")), Reason::Upgraded);
    assert_eq!(lost(exchange(&mut follower(), get, b"SSH-2.0\r\n\r\n")), Reason::Answer);
    assert_eq!(lost(exchange(&mut follower(), get, b"HTTP/1.1 204 No\r\n\r\nmore")), Reason::Answer);
    assert_eq!(lost(follower().server_said(b"HTTP/1.1 408 Too late\r\n\r\n", at(0).moment)), Reason::Answer);

    let mut cut = follower();
    cut.client_said(b"GET / HT", at(0));
    assert_eq!((cut.is_open(), lost(cut.ended())), (true, Reason::CutOff));
    assert_eq!((cut.client_said(get, at(1)), cut.server_said(OK, at(1).moment), cut.ended()), (vec![], None, None));
    assert_eq!(cut.quiet_since(), None);
}

#[test]
fn a_request_that_cannot_be_written_costs_only_itself() {
    let mut follower = follower();
    let unreadable = exchange(&mut follower, b"GET / HTTP/1.1\r\nX: \xe9\r\n\r\n", OK);
    assert_eq!(unreadable, Some(Seen::Skipped(Reason::NotText)));
    let length = MAX_BODY + 1;
    let long = [format!("PUT / HTTP/1.1\r\nContent-Length: {length}\r\n\r\n").into_bytes(), vec![b'x'; length]].concat();
    assert_eq!(exchange(&mut follower, &long, OK), Some(Seen::Skipped(Reason::BodyTooLong)));
    assert_eq!(recorded(exchange(&mut follower, b"GET / HTTP/1.1\r\n\r\n", OK)).ordinal, Some(3));
}

proptest! {
    #[test]
    fn pieces_do_not_matter(cuts in prop::collection::vec(1_usize..20, 0..40)) {
        let request: &[u8] = b"POST /x HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
        let answer: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n";
        let mut follower = follower();
        let mut sizes = cuts.into_iter().chain(std::iter::repeat(1));
        let mut rest = request;
        while !rest.is_empty() {
            let (piece, further) = rest.split_at(sizes.next().unwrap().min(rest.len()));
            prop_assert_eq!(follower.client_said(piece, at(0)), []);
            rest = further;
        }
        let mut rest = answer;
        let mut seen = None;
        while !rest.is_empty() {
            let (piece, further) = rest.split_at(sizes.next().unwrap().min(rest.len()));
            prop_assert!(seen.is_none());
            seen = follower.server_said(piece, at(1).moment);
            rest = further;
        }
        let request = recorded(seen);
        prop_assert_eq!((request.body.as_slice(), request.response_bytes), (&b"abc"[..], Some(2)));
    }

    #[test]
    fn no_bytes_panic(talk in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..60)), 0..20)) {
        let mut follower = follower();
        for (from_client, bytes) in talk {
            if from_client {
                follower.client_said(&bytes, at(0));
            } else {
                follower.server_said(&bytes, at(0).moment);
            }
        }
        follower.server_closed(at(1).moment);
        follower.ended();
    }
}
