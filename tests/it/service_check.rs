//! The harness itself: it starts a service, sees its workers, and finds what outlives it.

use rustix::process::Signal;

use crate::support::hammer::{Hammer, Outcome, Reuse};
use crate::support::process::{End, lives, send};
use crate::support::service::Service;

#[test]
fn service_replaces_a_killed_worker_and_leaves_nothing_behind() {
    for service in [Service::of_demo_workers(2, 10), Service::of_demo_workers(2, 10).on_tcp()] {
        let mut service = service.env("SEEN", "yes").ready();
        assert!(service.get("/env").text().contains("SEEN=yes\n"));
        let before = service.await_children("two workers", |children| children.len() == 2);
        send(before[0], Signal::KILL);
        let after = service.await_children("a replacement", |now| now.len() == 2 && !now.contains(&before[0]));
        assert!(after.contains(&before[1]) && !lives(before[0]));
        let hammer =
            Hammer { address: service.address().clone(), path: "/ok".into(), clients: 2, requests: 50, reuse: Reuse::Never };
        assert_eq!(hammer.run().into_iter().collect::<Vec<_>>(), [(Outcome::Ok, 50)]);
        assert_eq!(service.stop(), End::Code(0));
        assert!(after.iter().all(|worker| !lives(*worker)));
    }
}

#[test]
fn service_whose_workers_cannot_boot_ends() {
    let mut service = Service::of_demo_workers(1, 1).file("boot_fail", "").start();
    assert_eq!(service.await_end(), End::Code(3));
    assert!(service.said().contains("told to fail at boot"));
}
