//! The way from a tap to the workers: nothing is recorded where there is none, or where it could do harm.

use std::io::Write;
use std::os::unix::net::UnixListener;
use std::process::Command;

use super::{demo, end, start_tap, tap};
use crate::support::hammer::{Hammer, Outcome, Reuse};
use crate::support::http::{self, Address};
use crate::support::journal::Journal;
use crate::support::process::{End, Watched};
use crate::support::service::{Service, free_port};

#[test]
fn what_would_harm_is_refused() {
    let port = free_port();
    let open = demo(5).replace("\"@LISTEN@\"", &format!("[\"@LISTEN@\", \"0.0.0.0:{port}\"]"));
    let mut running = Service::with_config(&open).ready();
    let mut refused = start_tap(&running, "");
    assert_eq!(refused.await_end(), End::Code(1));
    assert!(refused.said().contains("--seen-as-local") && refused.said().contains("0.0.0.0"), "{}", refused.said());
    assert!(!running.directory().join("live.jsonl").exists());
    let mut first = tap(&running, "--share 1 --seen-as-local");
    let everywhere = Address::Tcp(format!("127.0.0.1:{port}"));
    assert_eq!(http::get(&everywhere, "/ok").expect("an answer").status, 200);
    let mut second = start_tap(&running, "--seen-as-local");
    assert_eq!(second.await_end(), End::Code(1));
    assert!(second.said().contains("another recording runs"), "{}", second.said());
    end(&mut first);
    assert_eq!(running.stop(), End::Code(0));

    let mut without = Service::of_demo_workers(1, 5).ready();
    assert_eq!(without.stop(), End::Code(0));
    let mut refused = start_tap(&without, "");
    assert_eq!(refused.await_end(), End::Code(1));
    assert!(refused.said().contains("no running service of"), "{}", refused.said());
}

#[test]
fn a_service_of_another_network_is_refused() {
    // Whoever may make a user namespace needs no privilege for the other; root may be allowed only the other.
    let ways: [&[&str]; 2] = [&["--user", "--map-root-user", "--net", "--"], &["--net", "--"]];
    let unshare = |way: &[&str], program: &str| {
        let mut command = Command::new("unshare");
        command.args(way).arg(program);
        command
    };
    let Some(way) = ways.into_iter().find(|way| unshare(way, "true").output().is_ok_and(|output| output.status.success())) else {
        // A test's own output is shown only where it fails, so this goes past it.
        let _ = writeln!(std::io::stderr(), "record_live: NOT TESTED: no new network namespace is allowed here");
        return;
    };
    // A unix socket is reached from any network.
    for (on_tcp, code) in [(true, 1), (false, 0)] {
        let service = Service::with_config(&demo(20));
        let mut running = if on_tcp { service.on_tcp() } else { service }.ready();
        let mut command = unshare(way, env!("CARGO_BIN_EXE_tuningfork"));
        command.args(["record", "live", "--duration", "100ms", "-c"]).arg(running.directory().join("tuningfork.toml"));
        command.arg("-o").arg(running.directory().join("live.jsonl"));
        let mut tap = Watched::start(command, Journal::default());
        assert_eq!(tap.await_end(), End::Code(code), "{}", tap.said());
        assert_eq!(tap.said().contains("is in another network namespace"), on_tcp, "{}", tap.said());
        assert!(!running.directory().join("live.jsonl").exists());
        assert_eq!(tap.said().contains("no request was recorded"), !on_tcp, "{}", tap.said());
        assert_eq!(running.get("/ok").status, 200);
        assert_eq!(running.stop(), End::Code(0));
    }
}

#[test]
fn a_path_that_leads_elsewhere_is_refused() {
    let may_mount = Command::new("unshare").args(["--mount", "--", "true"]).output();
    if !may_mount.is_ok_and(|output| output.status.success()) {
        // A test's own output is shown only where it fails, so this goes past it.
        let _ = writeln!(std::io::stderr(), "record_live: NOT TESTED: no new mount namespace is allowed here");
        return;
    }
    let mut running = Service::with_config(&demo(20)).ready();
    let (directory, Address::Unix(path)) = (running.directory().to_owned(), running.address().clone()) else {
        panic!("invariant: a unix socket")
    };
    let (nothing, other) = (directory.join("nothing"), directory.join("other.sock"));
    std::fs::write(&nothing, "").expect("write a file");
    let _other = UnixListener::bind(&other).expect("bind");
    for (there, reason) in [(nothing, "cannot be connected to from here"), (other, "is not the service's socket here")] {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--", "sh", "-c", "mount --bind \"$1\" \"$2\" && shift 2 && exec \"$@\"", "sh"]);
        command.arg(there).arg(&path).arg(env!("CARGO_BIN_EXE_tuningfork"));
        command.args(["record", "live", "--duration", "100ms", "-c"]).arg(directory.join("tuningfork.toml"));
        command.arg("-o").arg(directory.join("live.jsonl"));
        let mut tap = Watched::start(command, Journal::default());
        assert_eq!(tap.await_end(), End::Code(1), "{}", tap.said());
        assert!(tap.said().contains(reason), "{}", tap.said());
        assert!(!directory.join("live.jsonl").exists());
        assert_eq!(running.get("/ok").status, 200);
    }
    assert_eq!(running.stop(), End::Code(0));
}

#[test]
fn a_path_that_is_gone_ends_it() {
    let mut running = Service::with_config(&demo(20)).ready();
    let Address::Unix(path) = running.address().clone() else { panic!("invariant: a unix socket") };
    let mut tap = tap(&running, "--share 1");
    // By another name the clients still find it.
    let moved = path.with_extension("moved");
    std::fs::rename(&path, &moved).expect("rename the socket");
    let clients = Hammer {
        address: Address::Unix(moved.clone()),
        path: "/ok".to_owned(),
        clients: 2,
        requests: usize::MAX,
        reuse: Reuse::Never,
    };
    let clients = clients.start();
    assert_eq!(tap.await_end(), End::Code(0), "{}", tap.said());
    let tally = clients.finish();
    let lost: usize = tally.iter().filter(|(outcome, _)| **outcome != Outcome::Ok).map(|(_, count)| count).sum();
    // None, if the connection by which the tap tried the way out came back to it first.
    assert!(lost <= 1, "{tally:?}");
    assert!(tap.said().contains("cannot be connected to any more"), "{}", tap.said());
    std::fs::rename(&moved, &path).expect("rename the socket");
    assert_eq!(running.stop(), End::Code(0));
}
