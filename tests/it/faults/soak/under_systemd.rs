//! SIGKILL of the supervisor under a real systemd, again and again, with many idle connections and some load.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::time::Duration;

use serde::Serialize;

use crate::faults::load::{Load, Mode};
use crate::support::http::{Address, Client};
use crate::support::systemd_box::SystemdBox;

/// From one kill to the next.
const EVERY: Duration = Duration::from_secs(10);
const IDLE: usize = 500;
const RATE: f64 = 100.0;
/// Longer than any restart.
const PATIENCE: Duration = Duration::from_secs(30);
const CONFIG: &str = r#"
workers = 2
connections = 600
graceful-timeout = 5
[app]
kind = "command"
command = ["/usr/local/bin/tuningfork", "demo-worker", "--connections", "{connections}"]
[listen]
address = "127.0.0.1:8000"
"#;

/// What came of it.
#[derive(Serialize)]
pub(super) struct Survived {
    kills: usize,
    idle_connections_closed: usize,
    requests: usize,
    slowest_ms: u128,
}

/// The living workers.
fn workers(boxed: &SystemdBox) -> BTreeSet<String> {
    // The shell that looks is not to be found.
    String::from_utf8_lossy(&boxed.sh("pgrep -f '[d]emo-worker'").stdout).lines().map(str::to_owned).collect()
}

fn connect(address: &Address) -> Client {
    let mut client = Client::connect(address, PATIENCE).expect("connect");
    assert_eq!(client.get("/ok").expect("an answer").status, 200);
    client
}

/// Kills for so long, once at least; nothing where there cannot be a systemd, which is said where nobody can miss it.
pub(super) fn kill_again_and_again(span: Duration) -> Option<Survived> {
    let boxed = SystemdBox::boot(CONFIG, "[Unit]\nStartLimitIntervalSec=0\n")?;
    boxed.must("systemctl start tuningfork@shop");
    let address = Address::Tcp("127.0.0.1:8000".to_owned());
    let load = Load { clients: 64, patience: PATIENCE, ..Load::new(&address, Mode::New, RATE) };
    let load = boxed.inside(|| load.start());
    let kills = usize::try_from(span.as_secs() / EVERY.as_secs()).expect("few").max(1);
    for kill in 1..=kills {
        let idle: Vec<Client> = boxed.inside(|| (0..IDLE).map(|_| connect(&address)).collect());
        let (old, main) = (workers(&boxed), boxed.main_pid());
        boxed.kill("KILL", main);
        boxed.await_property("NRestarts", |count| count == kill.to_string());
        boxed.await_property("ActiveState", |state| state == "active");
        // An idle connection is closed by its worker in order: there is nothing to read, and no reset.
        for mut client in idle {
            let end = client.receive().expect_err("nobody has asked");
            assert_eq!(end.kind(), ErrorKind::UnexpectedEof, "kill {kill}: {end}");
        }
        assert!(workers(&boxed).is_disjoint(&old), "kill {kill}: an old worker is left\n{}", boxed.told());
        assert_ne!(boxed.main_pid(), main);
    }
    let report = load.finish();
    assert!(report.lost.is_empty(), "{} of {}: {}\n{}", report.lost.len(), report.sent, report.classes(), boxed.told());
    boxed.must("systemctl stop tuningfork@shop");
    assert!(workers(&boxed).is_empty() && boxed.sh("pgrep tuningfork").status.code() == Some(1), "somebody is left");
    Some(Survived {
        kills,
        idle_connections_closed: kills * IDLE,
        requests: report.sent,
        slowest_ms: report.span(1.0).as_millis(),
    })
}
