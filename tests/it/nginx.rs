//! nginx in front of a service, as in production, and its access log as a recording.

use std::process::Command;

use rustix::process::Signal;

use crate::support::hammer::{Hammer, Outcome, Reuse};
use crate::support::http::Address;
use crate::support::nginx::Nginx;
use crate::support::parts;
use crate::support::process::End;
use crate::support::service::Service;

const NGINX: &str = "\
    access_log @DIR@/access.log combined;
    server {
        listen 127.0.0.1:@PORT@;
        location / { proxy_pass http://unix:@SOCKET@:; }
    }
";

#[test]
fn nginx_proxies_to_a_service_that_reloads_and_its_log_becomes_a_recording() {
    let mut running = Service::of_demo_workers(2, 20).ready();
    let Address::Unix(socket) = running.address().clone() else { panic!("invariant: the service is on a unix socket") };
    let directory = tempfile::tempdir().expect("make a directory");
    let config = NGINX.replace("@SOCKET@", &socket.display().to_string());
    let mut nginx = Nginx::start(directory.path(), &config);
    let address = Address::Tcp(format!("127.0.0.1:{}", nginx.port));
    let path = "/work?cpu_us=200&wait_ms=2&token=verysecret".to_owned();
    let load = Hammer { address, path, clients: 4, requests: usize::MAX, reuse: Reuse::KeepAlive }.start();
    for reload in 1..=3 {
        running.signal(Signal::HUP);
        running.await_log_times("reload finished", reload);
    }
    let tally = load.finish();
    assert!(tally.keys().all(|outcome| *outcome == Outcome::Ok) && tally.contains_key(&Outcome::Ok), "{tally:?}");
    nginx.end();
    let (log, recording) = (directory.path().join("access.log"), directory.path().join("traffic.jsonl"));
    let mut import = Command::new(env!("CARGO_BIN_EXE_tuningfork"));
    import.args(["record", "import"]).arg(&log).arg("-o").arg(&recording);
    let said = parts::output(&mut import).unwrap_or_else(|error| panic!("{error}"));
    let lines = std::fs::read_to_string(&log).expect("nginx's log").lines().count();
    assert!(said.contains(&format!("{lines} requests recorded")), "{said}");
    let text = std::fs::read_to_string(&recording).expect("the recording");
    assert!(text.lines().count() == lines + 1 && text.contains("/work?cpu_us=200") && !text.contains("verysecret"));
    assert_eq!(running.stop(), End::Code(0));
}
