//! What becomes of listening sockets that somebody shuts down.

use std::os::fd::OwnedFd;

use rustix::net::sockopt::socket_acceptconn;
use rustix::net::{Shutdown, shutdown};
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

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
