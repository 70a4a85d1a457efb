//! Responses well and badly framed, whole and in pieces.

use proptest::prelude::*;

use super::*;

const LIMIT: u64 = 1 << 20;

/// What became of a response whose connection ended after `bytes`.
fn framed(bytes: &[u8], body: ResponseBody, pieces: &[usize]) -> Result<Option<Answer>, FramingError> {
    let mut response = Response::new(LIMIT);
    response.begin(body);
    let mut from = 0;
    for to in pieces.iter().copied().chain([bytes.len()]) {
        response.feed(&bytes[from..to.clamp(from, bytes.len())])?;
        from = to.clamp(from, bytes.len());
    }
    Ok(response.finish())
}

fn whole(text: &str) -> Result<Option<Answer>, FramingError> {
    framed(text.as_bytes(), ResponseBody::Possible, &[])
}

fn complete(text: &str) -> Answer {
    let mut response = Response::new(LIMIT);
    response.begin(ResponseBody::Possible);
    match response.feed(text.as_bytes()) {
        Ok(Progress::Complete(answer)) => answer,
        other => panic!("{other:?} for {text:?}"),
    }
}

#[test]
fn lengths_codings_and_statuses_decide_where_it_ends() {
    let answer = |status, content, reusable| Answer { status, content, reusable };
    let cases = [
        ("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", answer(200, 3, true)),
        ("HTTP/1.1 200\r\ncontent-length: 0\r\n\r\n", answer(200, 0, true)),
        ("HTTP/1.1 204 No Content\r\n\r\n", answer(204, 0, true)),
        ("HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n", answer(304, 0, true)),
        ("HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\nContent-Length: 2\r\n\r\nab", answer(200, 2, true)),
        ("HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 0\r\n\r\n", answer(200, 0, false)),
        ("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", answer(200, 0, false)),
        ("HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 0\r\n\r\n", answer(200, 0, true)),
        (
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 404 NF\r\nContent-Length: 1\r\n\r\nx",
            answer(404, 1, true),
        ),
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n",
            answer(200, 13, true),
        ),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n000\r\nDigest: x\r\nB: c\r\n\r\n", answer(200, 1, true)),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 7\r\n\r\n0\r\n\r\n", answer(200, 0, false)),
        ("HTTP/1.1 200 OK\nContent-Length: 1\n\na", answer(200, 1, true)),
    ];
    for (text, expected) in cases {
        assert_eq!(complete(text), expected, "{text:?}");
    }
}

#[test]
fn a_head_request_has_no_body() {
    let text = b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n";
    let answer = framed(text, ResponseBody::Never, &[]).unwrap().unwrap();
    assert_eq!((answer.status, answer.content), (200, 0));
}

#[test]
fn without_length_or_coding_it_ends_with_the_connection() {
    let answer = whole("HTTP/1.1 200 OK\r\n\r\nabc").unwrap().unwrap();
    assert_eq!((answer.content, answer.reusable), (3, false));
    assert_eq!(whole("HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\nabc").unwrap().unwrap().content, 3);
}

#[test]
fn what_is_cut_short_is_no_answer() {
    for text in [
        "",
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n",
        "HTTP/1.1 100 Continue\r\n\r\n",
    ] {
        assert_eq!(whole(text), Ok(None), "{text:?}");
    }
}

#[test]
fn garbage_has_a_name() {
    let huge = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", LIMIT + 1);
    let many = "HTTP/1.1 100 Continue\r\n\r\n".repeat(usize::from(MAX_INTERIM) + 1);
    let trailers = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n{}", "A: b\r\n".repeat(5_000));
    let cases = [
        ("SSH-2.0-OpenSSH\r\n\r\n", FramingError::Head),
        // Who greets and waits is told from who answers late.
        ("SSH-2.0-OpenSSH\r\n", FramingError::Head),
        ("\u{15}\u{3}\u{3}", FramingError::Head),
        ("\r\nH2", FramingError::Head),
        ("HTTP/2 200 OK\r\n\r\n", FramingError::Head),
        ("HTTP/1.1 abc\r\n\r\n", FramingError::Head),
        ("HTTP/1.1 700 What\r\n\r\n", FramingError::Head),
        ("\r\n\r\n", FramingError::Head),
        ("HTTP/1.1 101 Switching\r\n\r\n", FramingError::Interim),
        (many.as_str(), FramingError::Interim),
        ("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", FramingError::Length),
        ("HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\n", FramingError::Length),
        ("HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n", FramingError::Length),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", FramingError::Length),
        (huge.as_str(), FramingError::BodyTooLong(LIMIT)),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", FramingError::Chunk),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\n", FramingError::Chunk),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n", FramingError::Chunk),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n", FramingError::Chunk),
        (trailers.as_str(), FramingError::Chunk),
        ("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab", FramingError::Surplus),
    ];
    for (text, expected) in cases {
        assert_eq!(whole(text), Err(expected), "{:.80}", text.escape_debug());
    }
}

#[test]
fn an_empty_line_before_a_response_is_passed_over() {
    for empty in ["\r\n", "\n"] {
        let text = format!("{empty}HTTP/1.1 204 No Content\r\n\r\n");
        for cut in 0..text.len() {
            assert_eq!(framed(text.as_bytes(), ResponseBody::Possible, &[cut]).unwrap().unwrap().status, 204, "{cut}");
        }
    }
}

#[test]
fn an_endless_head_is_refused_in_bounded_memory() {
    let mut response = Response::new(LIMIT);
    response.begin(ResponseBody::Possible);
    let mut result = response.feed(b"HTTP/1.1 200 OK\r\n");
    let mut fed = 0;
    while result == Ok(Progress::Partial) && fed < 10 * MAX_HEAD {
        result = response.feed(b"X-Endless: and so on\r\n");
        fed += 22;
    }
    assert_eq!(result, Err(FramingError::HeadTooLong));
    assert!(response.head.capacity() <= 2 * MAX_HEAD + 2);

    let body = "x".repeat(2 * MAX_HEAD);
    assert_eq!(whole(&format!("HTTP/1.1 200 OK\r\nA: {body}\r\n\r\n")), Err(FramingError::HeadTooLong));
}

#[test]
fn a_body_beyond_the_bound_is_refused_when_its_length_is_unknown() {
    let mut response = Response::new(10);
    response.begin(ResponseBody::Possible);
    assert_eq!(response.feed(b"HTTP/1.1 200 OK\r\n\r\n0123456789"), Ok(Progress::Partial));
    assert_eq!(response.feed(b"x"), Err(FramingError::BodyTooLong(10)));
}

#[test]
fn one_response_serves_many_requests() {
    let mut response = Response::new(LIMIT);
    for body in [ResponseBody::Possible, ResponseBody::Never] {
        response.begin(body);
        let Ok(Progress::Complete(answer)) = response.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n") else {
            panic!("complete");
        };
        assert_eq!(answer.status, 200);
    }
}

/// Responses of every framing, to be cut and damaged.
fn sample() -> impl Strategy<Value = Vec<u8>> {
    prop::sample::select(vec![
        &b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\nServer: x\r\n\r\nhello world"[..],
        &b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n1\r\n!\r\n0\r\nT: u\r\n\r\n"[..],
        &b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end"[..],
        &b"HTTP/1.0 404 NF\nContent-Length: 2\n\nno"[..],
        &b"HTTP/1.1 204 No Content\r\n\r\n"[..],
    ])
    .prop_map(<[u8]>::to_vec)
}

proptest! {
    #[test]
    fn cuts_change_nothing(bytes in sample(), mut cuts in prop::collection::vec(0_usize..130, 0..6)) {
        cuts.sort_unstable();
        let uncut = framed(&bytes, ResponseBody::Possible, &[]);
        prop_assert_eq!(framed(&bytes, ResponseBody::Possible, &cuts), uncut);
        let every: Vec<usize> = (0..bytes.len()).collect();
        prop_assert_eq!(framed(&bytes, ResponseBody::Possible, &every), uncut);
    }

    #[test]
    fn damage_changes_nothing_about_cuts_and_never_panics(
        mut bytes in sample(),
        damage in prop::collection::vec(any::<u8>(), 1..12),
        at in 0_usize..130,
        cut in 0_usize..130,
    ) {
        let at = at.min(bytes.len());
        bytes.splice(at..at, damage);
        let uncut = framed(&bytes, ResponseBody::Possible, &[]);
        prop_assert_eq!(framed(&bytes, ResponseBody::Possible, &[cut]), uncut);
    }

    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), cut in 0_usize..300) {
        let _ = framed(&bytes, ResponseBody::Never, &[cut]);
        let _ = framed(&[b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", bytes.as_slice()].concat(), ResponseBody::Possible, &[cut]);
    }
}
