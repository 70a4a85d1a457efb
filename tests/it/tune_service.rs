//! `tune` beside a service that runs from the same configuration: none of its sockets is taken, and nothing that is played reaches it.

use std::fs;
use std::os::unix::fs::MetadataExt;

use crate::support::folder::Folder;
use crate::support::http::{self, Address};
use crate::support::process::End;
use crate::support::service::{Service, free_port};

/// Every second request kills the worker that gets it.
fn deadly_traffic() -> String {
    let line = |number: u32| {
        let target = if number.is_multiple_of(2) { "/ok" } else { "/segv" };
        format!("{{\"t\":{}.{:02},\"m\":\"GET\",\"u\":\"{target}\",\"s\":200}}\n", 1_700_000_000 + number / 100, number % 100)
    };
    (0..100).map(line).collect()
}

fn config(metrics: u16) -> String {
    format!(
        r#"
workers = 2
connections = 4
[app]
kind = "command"
command = ["@PROGRAM@", "demo-worker", "--connections", "{{connections}}", "--faults", "--steer", "@DIR@"]
[listen]
address = "@LISTEN@"
[metrics]
listen = "127.0.0.1:{metrics}"
[control]
socket = "@DIR@/control.sock"
"#
    )
}

fn assert_left_alone(service: Service, metrics: u16) {
    let mut running = service.ready();
    let sockets = || {
        let entries = fs::read_dir(running.directory()).expect("list").flatten();
        let mut sockets: Vec<(String, u64)> = entries
            .filter_map(|entry| {
                let name = entry.file_name().into_string().ok().filter(|name| name.contains(".sock"))?;
                Some((name, fs::symlink_metadata(entry.path()).ok()?.ino()))
            })
            .collect();
        sockets.sort();
        sockets
    };
    let (sockets_before, workers_before) = (sockets(), running.workers());
    assert_eq!(workers_before.len(), 2);
    let folder = Folder::new().file("traffic.jsonl", &deadly_traffic());
    let file = running.directory().join("tuningfork.toml");
    let mut study =
        folder.start(&format!("tune -c {} --traffic traffic.jsonl --quick --budget 5s --journal journal.jsonl", file.display()));
    study.wait("a trial", |_| (folder.text("journal.jsonl").matches('\n').count() >= 2).then_some(()));
    assert_eq!(running.get("/ok").status, 200, "while it is tuned");
    let said = study.finish();
    said.assert_code(99);
    said.assert_out(&["worker crashed"]);
    assert_eq!((sockets(), running.workers()), (sockets_before, workers_before), "{said}");
    assert_eq!(running.get("/ok").status, 200);
    assert_eq!(http::get(&Address::Tcp(format!("127.0.0.1:{metrics}")), "/healthz").map(|reply| reply.status).ok(), Some(200));
    assert_eq!(running.stop(), End::Code(0));
}

#[test]
fn a_service_on_a_unix_socket_is_left_alone_by_its_own_study() {
    let metrics = free_port();
    assert_left_alone(Service::with_config(&config(metrics)), metrics);
}

#[test]
fn a_service_on_a_port_is_left_alone_by_its_own_study() {
    let metrics = free_port();
    assert_left_alone(Service::with_config(&config(metrics)).on_tcp(), metrics);
}
