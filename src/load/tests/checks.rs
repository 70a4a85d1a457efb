//! Answers compared with the recording, and servers that do what no server should.

use super::*;

fn recorded(length: u64) -> Plan {
    let line = format!(r#"{{"t":1,"m":"GET","u":"/","s":200,"rb":{length}}}"#);
    let recording = recording::read(line.as_bytes()).unwrap();
    Plan::compile(&recording, &PlanOptions::new("a", Reuse::KeepAlive)).unwrap()
}

#[test]
fn content_of_another_length_is_an_error_if_that_is_checked() {
    for (length, check, wrong) in [(5, Check::Length, 0), (6, Check::Length, 20), (6, Check::Status, 0), (6, Check::Body, 0)] {
        let plan = recorded(length);
        let played = played(&Run { check, ..run(&plan, serve(ok), even(100.0)) });
        assert_eq!(played.errors, Errors { unexpected_length: wrong, ..Errors::default() });
        assert_eq!(played.bodies.len(), usize::from(check == Check::Body));
    }
}

#[test]
fn equal_contents_have_equal_hashes_however_they_are_framed() {
    let head = "HTTP/1.1 200 OK\r\n";
    let texts = [
        format!("{head}Content-Length: 5\r\n\r\nhello"),
        format!("{head}Transfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\nX-Digest: a\r\n\r\n"),
        format!("{head}\r\nhello"),
        format!("{head}Content-Length: 5\r\n\r\nhullo"),
    ];
    let plan = recorded(5);
    let bodies = |text: &String| played(&Run { check: Check::Body, ..run(&plan, blurt(text.as_str()), even(50.0)) }).bodies;
    let [one, two, three, other] = texts.each_ref().map(bodies);
    assert!(one == two && two == three && one != other && one[0] != 0 && one[0] != VARIED, "{one:?} {two:?} {three:?} {other:?}");

    let count = AtomicUsize::new(0);
    let target = serve(move |stream: &mut dyn Stream| match request(stream) {
        Some(_) => answer(stream, 200, &count.fetch_add(1, Ordering::SeqCst).to_string()),
        None => ControlFlow::Break(()),
    });
    assert_eq!(played(&Run { check: Check::Body, ..run(&plan, target, even(50.0)) }).bodies, [VARIED]);
}

#[test]
fn servers_that_never_come_to_an_end_are_left() {
    let interim = "HTTP/1.1 102 Processing\r\n\r\n".repeat(100);
    let trailers = "T: u\r\n".repeat(10_000);
    let cases: [(&str, String); 4] = [
        ("interim answers without end", interim),
        ("trailers without end", format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n{trailers}")),
        (
            "a chunk without end",
            format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffff\r\n{}", "x".repeat(2 << 20)),
        ),
        ("a second answer nobody asked for", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".repeat(2)),
    ];
    for (what, text) in cases {
        let (errors, all) = errors(blurt(text));
        assert_eq!(errors, Errors { malformed: all, ..Errors::default() }, "{what}");
    }
}

#[test]
fn a_server_that_sends_without_end_in_small_pieces_is_left_at_the_timeout() {
    let target = serve(|stream: &mut dyn Stream| {
        if request(stream).is_some() && stream.write_all(b"HTTP/1.1 200 OK\r\n").is_ok() {
            while stream.write_all(b"X: y\r\n").is_ok() {
                stall(Duration::from_millis(5));
            }
        }
        ControlFlow::Break(())
    });
    let (errors, all) = errors_within(Duration::from_millis(100), target);
    assert_eq!(errors, Errors { timeout: all, ..Errors::default() });
}
