//! What one scrape costs the endpoint's thread, with 64 workers: reading the counters of their processes, and writing the page.

use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use criterion::Criterion;
use tuningfork::metrics::{Counters, Exposition, Observation, Pulse, Source, WorkerProcess, WorkerRow};
use tuningfork::supervisor::event::WorkerState;
use tuningfork::sys::{accounting, cpu, queue};
use tuningfork::units::{Connections, Generation, Slot, WorkerId};
use tuningfork::usage::DroppedLines;

const WORKERS: u16 = 64;

/// Reads what the supervisor would: the rows' processes if asked to, cores, losses and itself.
struct Host {
    rows: Vec<WorkerRow>,
    reads: bool,
}

impl Source for Host {
    fn observe(&mut self) -> Observation {
        if self.reads {
            for process in self.rows.iter_mut().filter_map(|row| row.process.as_mut()) {
                process.reading = accounting::reading(process.pid);
            }
        }
        Observation {
            workers: self.rows.clone(),
            target: WORKERS,
            connections: Connections::ONE,
            listeners: Vec::new(),
            losses: queue::listen_losses().ok().flatten(),
            cores: cpu::core_times().unwrap_or_default(),
            dropped: DroppedLines::default(),
            own: accounting::own(),
        }
    }

    fn pulse(&mut self) -> Pulse {
        Pulse { since_turn: Duration::ZERO, ready: WORKERS, stopping: false }
    }
}

fn row(slot: u16, child: &Child) -> WorkerRow {
    let process = WorkerProcess {
        worker: WorkerId(u64::from(slot)),
        pid: child.id(),
        generation: Generation::FIRST,
        reading: accounting::reading(child.id()),
    };
    WorkerRow { slot: Slot(slot), state: WorkerState::Ready, process: Some(process) }
}

fn page(rows: &[WorkerRow], reads: bool) -> Exposition<Host> {
    let counters = Counters::new(SystemTime::UNIX_EPOCH).expect("invariant: names differ");
    let rows = rows.to_vec();
    Exposition::new(Arc::new(counters), Host { rows, reads })
}

fn main() {
    // TUNINGFORK_BENCH_WORKER is a shell command that waits for the end of its input, for workers of a realistic size.
    let worker = std::env::var("TUNINGFORK_BENCH_WORKER").unwrap_or_else(|_| "exec cat".to_owned());
    let spawn = |_| Command::new("sh").args(["-c", &worker]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut children: Vec<Child> = (0..WORKERS).map(spawn).collect::<Result<_, _>>().expect("sh can be started");
    let rows: Vec<WorkerRow> = (0..).zip(&children).map(|(slot, child)| row(slot, child)).collect();

    let mut criterion = Criterion::default().configure_from_args();
    let mut written = page(&rows, false);
    criterion.bench_function("page of 64 workers", |bench| bench.iter(|| written.render()));
    let mut whole = page(&rows, true);
    criterion.bench_function("scrape of 64 processes", |bench| bench.iter(|| whole.render()));
    let first = children[0].id();
    criterion.bench_function("CPU time of one process", |bench| bench.iter(|| cpu::process_time(first)));
    criterion.bench_function("CPU time and memory of one process", |bench| {
        bench.iter(|| accounting::reading(first));
    });

    for child in &mut children {
        // The end of its input ends it; waiting closes the pipe.
        let _ = child.wait();
    }
}
