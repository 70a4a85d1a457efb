//! Counts the supervisor's transitions. Every label value exists from the start with 0, so that a first crash is an increase
//! and not a new series. Recording adds to atomics and takes no lock.

use std::time::{Duration, SystemTime};

use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{Gauge, GaugeVec, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

use crate::supervisor::event::{Exit, Reason, Transition};
use crate::units::Generation;

/// The values of the label `cause`. Other codes and signals share one each, so that no worker can make labels.
const CAUSES: [&str; 18] = [
    "exit_0",
    "exit_1",
    "exit_3", // Gunicorn: the worker failed to boot
    "exit_4", // Gunicorn: the application failed to load
    "exit_n",
    "signal_2",
    "signal_3",
    "signal_4",
    "signal_6",
    "signal_7",
    "signal_8",
    "signal_9",
    "signal_11",
    "signal_13",
    "signal_15",
    "signal_31",
    "signal_n",
    "not_started",
];

/// What happened since the supervisor started.
#[derive(Debug)]
pub struct Counters {
    registry: Registry,
    restarts: [IntCounter; Reason::ALL.len()],
    exits: [IntCounter; CAUSES.len()],
    reloads_done: IntCounter,
    reloads_failed: IntCounter,
    upgrades_failed: IntCounter,
    last_reload_successful: IntGauge,
    last_success: Gauge,
    generation: IntGauge,
}

impl Counters {
    /// All at zero; `started` is the supervisor's start, and the time of the first loaded configuration.
    /// Fails only if two metrics share a name, which no input can bring about.
    pub fn new(started: SystemTime) -> prometheus::Result<Self> {
        let registry = Registry::new();
        let restarts = counters(
            &registry,
            "tuningfork_worker_restarts_total",
            "Workers that had to go, by reason; scale and stop leave no successor.",
            "reason",
        )?;
        let exits = counters(&registry, "tuningfork_worker_exits_total", "Worker processes that ended, by cause.", "cause")?;
        let reloads = counters(&registry, "tuningfork_reloads_total", "Reloads that came to an end, by result.", "result")?;
        let counters = Self {
            restarts: Reason::ALL.map(|reason| restarts.with_label_values(&[reason.name()])),
            exits: CAUSES.map(|cause| exits.with_label_values(&[cause])),
            reloads_done: reloads.with_label_values(&["success"]),
            reloads_failed: reloads.with_label_values(&["failure"]),
            upgrades_failed: register(
                &registry,
                IntCounter::new(
                    "tuningfork_upgrades_failed_total",
                    "Upgrades of this supervisor's program that came to nothing.",
                )?,
            )?,
            last_reload_successful: register(
                &registry,
                IntGauge::new("tuningfork_config_last_reload_successful", "Whether the last reload succeeded, 1 or 0.")?,
            )?,
            last_success: register(
                &registry,
                Gauge::new(
                    "tuningfork_config_last_reload_success_timestamp_seconds",
                    "Time of the last successful load of configuration and code.",
                )?,
            )?,
            generation: register(
                &registry,
                IntGauge::new("tuningfork_generation", "The generation of configuration and code that serves.")?,
            )?,
            registry,
        };
        counters.describe(started)?;
        counters.last_reload_successful.set(1);
        counters.last_success.set(unix_seconds(started));
        counters.generation.set(i64::from(Generation::FIRST.0));
        Ok(counters)
    }

    /// What never changes.
    fn describe(&self, started: SystemTime) -> prometheus::Result<()> {
        let build = Opts::new("tuningfork_build_info", "The program that runs; always 1.");
        let build = register(&self.registry, GaugeVec::new(build, &["version"])?)?;
        build.get_metric_with_label_values(&[env!("CARGO_PKG_VERSION")])?.set(1.0);
        let start = Gauge::new("tuningfork_start_time_seconds", "Start of the supervisor, Unix time.")?;
        register(&self.registry, start)?.set(unix_seconds(started));
        Ok(())
    }

    /// Counts one transition, at `now`. Called by the main thread, in the order of the transitions.
    pub fn record(&self, transition: &Transition, now: SystemTime) {
        match transition {
            Transition::WorkerExited { exit, reason, .. } => {
                one_more(&Reason::ALL, &self.restarts, reason);
                one_more(&CAUSES, &self.exits, &cause(*exit));
            }
            Transition::ReloadFinished { generation } => {
                self.reloads_done.inc();
                self.last_reload_successful.set(1);
                self.last_success.set(unix_seconds(now));
                self.generation.set(i64::from(generation.0));
            }
            Transition::ReloadFailed { .. } => {
                self.reloads_failed.inc();
                self.last_reload_successful.set(0);
            }
            Transition::UpgradeFailed { .. } => self.upgrades_failed.inc(),
            Transition::WorkerStarted { .. }
            | Transition::WorkerReady { .. }
            | Transition::WorkerStopping { .. }
            | Transition::WorkerKilled { .. }
            | Transition::WorkerStuck { .. }
            | Transition::NobodyServes
            | Transition::SlotWaits { .. }
            | Transition::ReloadStarted { .. }
            | Transition::TargetChanged { .. }
            | Transition::LogsReopened
            | Transition::Answered { .. }
            | Transition::BecameReady
            | Transition::UpgradeStarted
            | Transition::HandedOver
            | Transition::Orphaned
            | Transition::Stopping { .. } => {}
        }
    }

    pub(super) fn gather(&self) -> Vec<MetricFamily> {
        self.registry.gather()
    }
}

fn one_more<T: PartialEq>(values: &[T], counters: &[IntCounter], value: &T) {
    if let Some((_, counter)) = values.iter().zip(counters).find(|(each, _)| *each == value) {
        counter.inc();
    }
}

const fn cause(exit: Option<Exit>) -> &'static str {
    match exit {
        None => "not_started",
        Some(Exit::Code(0)) => "exit_0",
        Some(Exit::Code(1)) => "exit_1",
        Some(Exit::Code(3)) => "exit_3",
        Some(Exit::Code(4)) => "exit_4",
        Some(Exit::Code(_)) => "exit_n",
        Some(Exit::Signal(2)) => "signal_2",
        Some(Exit::Signal(3)) => "signal_3",
        Some(Exit::Signal(4)) => "signal_4",
        Some(Exit::Signal(6)) => "signal_6",
        Some(Exit::Signal(7)) => "signal_7",
        Some(Exit::Signal(8)) => "signal_8",
        Some(Exit::Signal(9) | Exit::OutOfMemory) => "signal_9",
        Some(Exit::Signal(11)) => "signal_11",
        Some(Exit::Signal(13)) => "signal_13",
        Some(Exit::Signal(15)) => "signal_15",
        Some(Exit::Signal(31)) => "signal_31",
        Some(Exit::Signal(_)) => "signal_n",
    }
}

fn counters(registry: &Registry, name: &str, help: &str, label: &str) -> prometheus::Result<IntCounterVec> {
    register(registry, IntCounterVec::new(Opts::new(name, help), &[label])?)
}

fn register<C: Collector + Clone + 'static>(registry: &Registry, metric: C) -> prometheus::Result<C> {
    registry.register(Box::new(metric.clone()))?;
    Ok(metric)
}

fn unix_seconds(time: SystemTime) -> f64 {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{Slot, WorkerId};

    const START: Duration = Duration::from_secs(1_700_000_000);

    fn record(counters: &Counters, transition: &Transition) {
        counters.record(transition, SystemTime::UNIX_EPOCH + START + Duration::from_secs(5));
    }

    fn exited(exit: Option<Exit>, reason: Reason) -> Transition {
        Transition::WorkerExited { worker: WorkerId(1), slot: Slot(0), exit, reason, detail: None }
    }

    #[test]
    fn every_exit_has_a_cause_and_every_cause_an_exit() {
        let codes = (-1..256).map(Exit::Code).chain((-1..70).map(Exit::Signal)).map(Some).chain([None]);
        let mut seen: Vec<_> = codes.map(cause).collect();
        seen.sort_unstable();
        seen.dedup();
        let mut all = CAUSES;
        all.sort_unstable();
        assert_eq!(seen, all);
    }

    #[test]
    fn an_exit_counts_once_by_reason_and_once_by_cause() {
        let counters = Counters::new(SystemTime::UNIX_EPOCH + START).unwrap();
        for reason in Reason::ALL {
            record(&counters, &exited(Some(Exit::Signal(9)), reason));
        }
        record(&counters, &exited(None, Reason::BootFailure));
        let counts: Vec<_> = counters.restarts.iter().map(IntCounter::get).collect();
        let boot_failures = Reason::ALL.iter().position(|reason| *reason == Reason::BootFailure).unwrap();
        let expected: Vec<_> = (0..counts.len()).map(|place| if place == boot_failures { 2 } else { 1 }).collect();
        assert_eq!(counts, expected);
        assert_eq!(counters.exits.iter().map(IntCounter::get).sum::<u64>(), Reason::ALL.len() as u64 + 1);
        assert_eq!((counters.exits[11].get(), counters.exits[17].get()), (Reason::ALL.len() as u64, 1));
    }

    #[test]
    fn a_failed_reload_changes_neither_generation_nor_time() {
        let counters = Counters::new(SystemTime::UNIX_EPOCH + START).unwrap();
        let (generation, reason) = (Generation(2), String::new());
        record(&counters, &Transition::ReloadFailed { generation, reason });
        assert_eq!((counters.last_reload_successful.get(), counters.generation.get()), (0, 1));
        assert!((counters.last_success.get() - START.as_secs_f64()).abs() < f64::EPSILON);
        record(&counters, &Transition::ReloadFinished { generation: Generation(3) });
        assert_eq!((counters.last_reload_successful.get(), counters.generation.get()), (1, 3));
        assert!((counters.last_success.get() - START.as_secs_f64() - 5.0).abs() < f64::EPSILON);
        assert_eq!((counters.reloads_done.get(), counters.reloads_failed.get()), (1, 1));
    }
}
