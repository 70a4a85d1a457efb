//! What becomes of listening sockets that somebody shuts down, or whose files somebody takes away.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;

use rustix::net::sockopt::socket_acceptconn;
use rustix::net::{Shutdown, shutdown};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, Signal, pidfd_getfd, pidfd_open};

use crate::support::control::status;
use crate::support::http::{self, Address};
use crate::support::process::End;
use crate::support::service::{Running, Service};

/// The socket at which a worker, and all others, accept.
fn shared_socket(running: &Running) -> OwnedFd {
    let worker = Pid::from_raw(running.workers()[0].cast_signed()).expect("a process");
    let worker = pidfd_open(worker, PidfdFlags::empty()).expect("open a pidfd");
    let mut opened = (3..64).filter_map(|number| pidfd_getfd(&worker, number, PidfdGetfdFlags::empty()).ok());
    opened.find(|fd| socket_acceptconn(fd).unwrap_or(false)).expect("it listens")
}

#[test]
fn a_listening_socket_that_a_worker_shuts_down_listens_again() {
    let mut running = Service::of_demo_workers(2, 10).on_tcp().ready();
    for times in 1..=2 {
        shutdown(shared_socket(&running), Shutdown::Both).expect("shut it down");
        running.await_log_times("the listening socket was shut down", times);
        assert_eq!(running.get("/ok").status, 200);
    }
    assert_eq!(running.stop(), End::Code(0));
    assert_eq!(running.said().matches("the listening socket was shut down").count(), 2, "{}", running.said());
}

fn lose(running: &Running, how: impl Fn(&Path)) {
    let Address::Unix(web) = running.address() else { panic!("a unix socket") };
    for path in [web.as_path(), &running.directory().join("control.sock"), &running.directory().join("metrics.sock")] {
        how(path);
    }
}

#[test]
fn files_of_sockets_that_are_gone_are_made_again_at_a_reload() {
    let doors = "[control]\nsocket = \"@DIR@/control.sock\"\n[metrics]\nlisten = \"unix:@DIR@/metrics.sock\"\n";
    let mut running = Service::of_demo_workers(2, 10).extend(doors).ready();
    let gone = |path: &Path| fs::remove_file(path).expect("remove a socket's file");
    // What a supervisor that was killed leaves behind.
    let anothers = |path: &Path| {
        gone(path);
        drop(UnixListener::bind(path).expect("bind"));
    };
    for (times, how) in [&gone as &dyn Fn(&Path), &anothers].into_iter().enumerate() {
        lose(&running, how);
        running.signal(Signal::HUP);
        running.await_log_times("it is made again", 3 * (times + 1));
        running.await_log_times("reload finished", times + 1);
        // The service manager keeps the new one in place of the old.
        running.await_notice("FDSTOREREMOVE=1");
        assert_eq!(running.get("/ok").status, 200);
        assert_eq!(status(&running)["generation"], times + 2);
        assert_eq!(http::get(&Address::Unix(running.directory().join("metrics.sock")), "/readyz").expect("a reply").status, 200);
    }
    let Address::Unix(web) = running.address().clone() else { panic!("a unix socket") };
    assert_eq!(running.stop(), End::Code(0));
    assert!(!web.exists() && !running.directory().join("control.sock").exists(), "the files are ours, and go with us");
}

#[test]
fn a_file_of_a_socket_that_cannot_be_made_again_is_told_at_a_reload() {
    let mut running = Service::of_demo_workers(1, 10).ready();
    let Address::Unix(web) = running.address().clone() else { panic!("a unix socket") };
    fs::remove_file(&web).expect("remove a socket's file");
    fs::write(&web, "somebody's").expect("write a file");
    running.signal(Signal::HUP);
    running.await_log("and cannot be made again");
    running.await_log("a file that is no socket has this name");
    running.await_log("reload finished");
    running.stop();
    assert_eq!(fs::read_to_string(&web).expect("it stays"), "somebody's");
}
