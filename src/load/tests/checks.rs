//! Answers compared with the recording, and servers that do what no server should.

use super::super::server::serve_unix_with;
use super::*;
use crate::replay::Methods;

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
    let steps = Steps::default();
    let waiting = steps.clone();
    let target = serve(move |stream: &mut dyn Stream| {
        if request(stream).is_some() && stream.write_all(b"HTTP/1.1 200 OK\r\n").is_ok() {
            while stream.write_all(b"X: y\r\n").is_ok() {
                waiting.await_next();
            }
        }
        ControlFlow::Break(())
    });
    let plan = plan(Reuse::KeepAlive);
    let (timeout, batch) = (Duration::from_millis(100), Duration::from_millis(5));
    let played = watched(&Run { timeout, batch, ..run(&plan, target, even(100.0)) }, |_| steps.advance());
    assert_eq!((played.scheduled, played.errors), (20, Errors { timeout: 20, ..Errors::default() }));
}

#[test]
fn large_requests_go_out_whole_however_slowly_they_are_read() {
    let body = "A".repeat(800_000);
    let line = format!(r#"{{"t":1,"m":"POST","u":"/","s":200,"b":"{body}"}}"#);
    let recording = recording::read(line.as_bytes()).unwrap();
    let methods = Methods::allow(["POST"]).unwrap();
    let plan = Plan::compile(&recording, &PlanOptions { methods, ..PlanOptions::new("a", Reuse::KeepAlive) }).unwrap();
    let steps = Steps::default();
    let waiting = steps.clone();
    let sink = move |stream: &mut dyn Stream| {
        if request(stream).is_none() {
            return ControlFlow::Break(());
        }
        // By then the sender has found no more room.
        waiting.await_next();
        match stream.read_exact(&mut vec![0; 600_000]) {
            Ok(()) => answer(stream, 200, ""),
            Err(_) => ControlFlow::Break(()),
        }
    };
    let folder = tempfile::tempdir().unwrap();
    for target in [serve(sink.clone()), serve_unix_with(&folder.path().join("app.sock"), sink)] {
        let played = watched(&run(&plan, target, even(50.0)), |_| steps.advance());
        assert_eq!((played.completed, played.errors), (10, Errors::default()));
    }
}

#[test]
fn a_request_that_may_have_done_something_is_not_sent_again() {
    let line = r#"{"t":1,"m":"POST","u":"/","s":200,"b":"eA=="}"#;
    let recording = recording::read(line.as_bytes()).unwrap();
    let methods = Methods::allow(["POST"]).unwrap();
    let plan = Plan::compile(&recording, &PlanOptions { methods, ..PlanOptions::new("a", Reuse::KeepAlive) }).unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&count);
    // Every second request is read and never answered.
    let target = serve(move |stream: &mut dyn Stream| {
        if request(stream).is_none() || stream.read_exact(&mut [0]).is_err() {
            return ControlFlow::Break(());
        }
        if seen.fetch_add(1, Ordering::SeqCst).is_multiple_of(2) { answer(stream, 200, "") } else { ControlFlow::Break(()) }
    });
    let played = played(&Run { turns: Turns::Endless, ..run(&plan, target, clients(1)) });
    assert!(played.errors.closed_early > 0 && played.retried == 0, "{played:?}");
    assert_eq!(count.load(Ordering::SeqCst) as u64, played.scheduled, "each once");
}

/// Tells the process that plays with few descriptors from the one that starts it.
const FEW: &str = "TUNINGFORK_TEST_FEW_DESCRIPTORS";

#[test]
fn without_descriptors_requests_fail_as_ours() {
    if std::env::var_os(FEW).is_none() {
        let name = "load::tests::checks::without_descriptors_requests_fail_as_ours";
        let program = std::env::current_exe().unwrap();
        let mut command = std::process::Command::new("sh");
        command.args(["-c", "ulimit -n 24; exec \"$0\" --exact \"$1\""]).arg(program).arg(name).env(FEW, "1");
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
        return;
    }
    // Connections are made by the kernel and never accepted.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let target = Target::Tcp(listener.local_addr().unwrap());
    let plan = plan(Reuse::PerRequest);
    let run = Run { timeout: Duration::from_millis(300), ..run(&plan, target, even(500.0)) };
    let Errors { exhausted, timeout, .. } = played(&run).errors;
    assert!(exhausted >= 70 && timeout >= 5 && exhausted + timeout == 100, "{exhausted} {timeout}");
}
