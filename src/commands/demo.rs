//! What `tune --demo` works on: a service made of demo workers, and a recording of a small shop's traffic. Neither touches the network.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::config::{
    Address, App, Care, CommandApp, Config, Confinement, Hooks, Listen, Log, LogFormat, Origin, Readiness, Timing,
};
use crate::units::{Connections, Workers};

/// 700 requests of five kinds in JSON Lines. `tests/it/demo_recording.rs` writes it and says what is in it.
///
/// A request computes for some 3 ms and waits for some 220 ms, so the rule of thumb (2 × cores + 1 workers of ten connections) runs out of
/// connections while most of the cores' time is unused, on two cores as on sixteen.
pub const RECORDING: &[u8] = include_bytes!("demo/recording.jsonl");

/// What the demo's service promises.
pub const SLO: &str = "p90<700ms,errors<0.1%";

/// Megabytes that each worker holds, so that a worker more costs what it would cost in reality.
const MEMORY: &str = "24";

/// The demo's service; `program` is this binary.
#[must_use]
pub fn config(program: &Path, workers: Workers, connections: Connections) -> Config {
    let program = program.to_string_lossy().into_owned();
    let arguments = ["demo-worker", "--connections", "{connections}", "--memory", MEMORY].map(str::to_owned);
    Config {
        app: App::Command(CommandApp {
            command: std::iter::once(program).chain(arguments).collect(),
            env: Vec::new(),
            directory: PathBuf::from("/"),
            readiness: Readiness::Notify,
        }),
        listen: Listen {
            addresses: vec![Address::Tcp { host: "127.0.0.1".to_owned(), port: 0 }],
            backlog: 2048,
            mode: 0o600,
            owner: None,
        },
        workers,
        workers_from: Origin::File,
        connections,
        timing: Timing {
            graceful_timeout: Duration::from_secs(10),
            timeout: Duration::from_secs(10),
            boot_timeout: Duration::from_secs(10),
        },
        care: Care::default(),
        confinement: Confinement::default(),
        hooks: Hooks::default(),
        pidfile: None,
        metrics: None,
        control: None,
        log: Log { format: LogFormat::Plain, file: None, capture: true },
    }
}
