//! The Prometheus endpoint of a running service, read by promtool and by a real Prometheus.

use std::io::Write;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::support::http::{self, Address};
use crate::support::parts;
use crate::support::process::{End, Watched, send};
use crate::support::service::{Running, Service, free_port};

fn service() -> (Running, Address) {
    let port = free_port();
    let config = format!(
        r#"
workers = 2
connections = 10
[app]
kind = "command"
command = ["@PROGRAM@", "demo-worker", "--connections", "{{connections}}", "--faults", "--steer", "@DIR@"]
[listen]
address = ["@LISTEN@", "127.0.0.1:0"]
[metrics]
listen = "127.0.0.1:{port}"
"#
    );
    (Service::with_config(&config).ready(), Address::Tcp(format!("127.0.0.1:{port}")))
}

fn value(page: &str, series: &str) -> Option<f64> {
    page.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
}

#[test]
fn promtool_accepts_the_page_and_the_numbers_are_those_of_the_service() {
    let (mut running, metrics) = service();
    let killed = running.children()[0];
    send(killed, Signal::KILL);
    running.await_children("a replacement", |now| now.len() == 2 && !now.contains(&killed));
    running.await_log_times("worker ready", 3);
    let reply = http::get(&metrics, "/metrics").expect("a page");
    assert_eq!(reply.status, 200);
    let page = reply.text();
    for (series, wanted) in [
        ("tuningfork_workers{state=\"ready\"}", 2.0),
        ("tuningfork_workers_target", 2.0),
        ("tuningfork_worker_connections", 10.0),
        ("tuningfork_worker_restarts_total{reason=\"crash\"}", 1.0),
        ("tuningfork_worker_exits_total{cause=\"signal_9\"}", 1.0),
    ] {
        assert_eq!(value(&page, series), Some(wanted), "{series} in\n{page}");
    }
    for part in [
        "tuningfork_cpu_seconds_total{cpu=\"0\",mode=\"user\"}",
        "tuningfork_worker_cpu_seconds_total{worker=\"0\"",
        "listener=\"unix:",
    ] {
        assert!(page.contains(part), "{part} is missing in\n{page}");
    }
    let mut promtool = Command::new(parts::promtool())
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start promtool");
    promtool.stdin.take().expect("invariant: stdin is a pipe").write_all(page.as_bytes()).expect("write the page");
    let checked = promtool.wait_with_output().expect("wait for promtool");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    assert_eq!(running.stop(), End::Code(0));
}

#[test]
fn the_listen_queue_shows_connections_that_nobody_accepted() {
    let port = free_port();
    let config = format!(
        r#"
workers = 1
[app]
kind = "command"
command = ["sleep", "1000"]
readiness = "50ms"
[listen]
address = "@LISTEN@"
backlog = 50
[metrics]
listen = "127.0.0.1:{port}"
"#
    );
    for on_tcp in [false, true] {
        let service = Service::with_config(&config);
        let mut running = if on_tcp { service.on_tcp() } else { service }.ready();
        let waiting: Vec<_> = (0..7)
            .map(|_| http::Client::connect(running.address(), std::time::Duration::from_secs(5)).expect("connect"))
            .collect();
        let page = http::get(&Address::Tcp(format!("127.0.0.1:{port}")), "/metrics").expect("a page").text();
        let queue = page.lines().find(|line| line.starts_with("tuningfork_listen_queue_connections{")).expect("the queue");
        assert!(queue.ends_with(" 7"), "{queue}");
        let limit = page.lines().find(|line| line.starts_with("tuningfork_listen_queue_max_connections{")).expect("its limit");
        assert!(limit.ends_with(" 50"), "{limit}");
        drop(waiting);
        assert_eq!(running.stop(), End::Code(0));
    }
}

#[test]
fn probes_tell_living_from_ready() {
    let (mut running, metrics) = service();
    let status = |path: &str| http::get(&metrics, path).expect("an answer").status;
    assert_eq!((status("/healthz"), status("/readyz")), (200, 200));
    std::fs::write(running.directory().join("crash_on_boot"), "").expect("write a file");
    for worker in running.children() {
        send(worker, Signal::KILL);
    }
    running.await_log("waiting before the next attempt");
    running.wait("not ready", |_| (status("/readyz") == 503).then_some(()));
    assert_eq!(status("/healthz"), 200);
    assert_eq!(running.stop(), End::Code(0));
}

#[test]
fn a_real_prometheus_scrapes_it() {
    let (mut running, metrics) = service();
    let Address::Tcp(target) = &metrics else { panic!("invariant: metrics are on TCP") };
    let directory = tempfile::tempdir().expect("make a directory");
    let config = format!(
        "global:\n  scrape_interval: 1s\nscrape_configs:\n  - job_name: tuningfork\n    static_configs:\n      - targets: ['{target}']\n"
    );
    std::fs::write(directory.path().join("prometheus.yml"), config).expect("write its configuration");
    let port = free_port();
    let mut command = Command::new(parts::prometheus());
    command
        .arg(format!("--config.file={}", directory.path().join("prometheus.yml").display()))
        .arg(format!("--storage.tsdb.path={}", directory.path().join("data").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .stdout(Stdio::null());
    let mut prometheus = Watched::start(command, crate::support::journal::Journal::default());
    let api = Address::Tcp(format!("127.0.0.1:{port}"));
    let query = |expression: &str| http::get(&api, &format!("/api/v1/query?query={expression}")).map(|reply| reply.text());
    for (expression, wanted) in [
        ("up", "\"1\"]"),
        ("sum(tuningfork_workers%7Bstate%3D%22ready%22%7D)", "\"2\"]"),
        ("count(tuningfork_cpu_seconds_total%7Bmode%3D%22idle%22%7D)", "\"value\":["),
        ("tuningfork_build_info", env!("CARGO_PKG_VERSION")),
    ] {
        prometheus.wait(expression, |_| query(expression).is_ok_and(|answer| answer.contains(wanted)).then_some(()));
    }
    prometheus.signal(Signal::TERM);
    assert_eq!(prometheus.await_end(), End::Code(0));
    assert_eq!(running.stop(), End::Code(0));
}
