//! Turns one observation into metric families. They are made anew for every scrape, so a worker that is gone leaves
//! no series behind.

use prometheus::proto::MetricFamily;
use prometheus::{CounterVec, GaugeVec, Opts, Registry};

use super::ledger::Ledger;
use super::{ListenerRow, Observation, WorkerRow};
use crate::supervisor::event::WorkerState;
use crate::usage::{CoreTime, DroppedLines, ListenLosses, OwnProcess};

/// The families of everything that is observed, with the CPU time of workers entered in `ledger`.
pub(super) fn families(observation: &Observation, ledger: &mut Ledger) -> prometheus::Result<Vec<MetricFamily>> {
    let page = Page(Registry::new());
    page.service(observation)?;
    page.workers(&observation.workers, ledger)?;
    page.listeners(&observation.listeners)?;
    page.cores(&observation.cores)?;
    page.dropped(observation.dropped)?;
    observation.losses.as_ref().map_or(Ok(()), |losses| page.losses(losses))?;
    observation.own.as_ref().map_or(Ok(()), |own| page.own(own))?;
    Ok(page.0.gather())
}

struct Page(Registry);

impl Page {
    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<GaugeVec> {
        let metric = GaugeVec::new(Opts::new(name, help), labels)?;
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> prometheus::Result<CounterVec> {
        let metric = CounterVec::new(Opts::new(name, help), labels)?;
        self.0.register(Box::new(metric.clone()))?;
        Ok(metric)
    }

    fn gauge(&self, name: &str, help: &str, value: f64) -> prometheus::Result<()> {
        self.gauges(name, help, &[])?.get_metric_with_label_values::<&str>(&[])?.set(value);
        Ok(())
    }

    fn counter(&self, name: &str, help: &str, value: f64) -> prometheus::Result<()> {
        self.counters(name, help, &[])?.get_metric_with_label_values::<&str>(&[])?.inc_by(value);
        Ok(())
    }

    fn service(&self, seen: &Observation) -> prometheus::Result<()> {
        self.gauge("tuningfork_workers_target", "Workers wanted.", f64::from(seen.target))?;
        let help = "Connections each worker is configured to serve at the same time.";
        self.gauge("tuningfork_worker_connections", help, f64::from(seen.connections.get()))?;
        let states = self.gauges("tuningfork_workers", "Workers by state; waiting are slots without a process.", &["state"])?;
        for state in WorkerState::ALL {
            let count = seen.workers.iter().filter(|row| row.state == state).count();
            states.get_metric_with_label_values(&[state.name()])?.set(count as f64);
        }
        Ok(())
    }

    /// Where two processes share a slot their memory is added, as their CPU time is.
    fn workers(&self, rows: &[WorkerRow], ledger: &mut Ledger) -> prometheus::Result<()> {
        let info = "tuningfork_worker_info";
        let info = self.gauges(info, "The processes in each slot; always 1.", &["worker", "pid", "generation"])?;
        let rss = "tuningfork_worker_resident_memory_bytes";
        let rss = self.gauges(rss, "Resident memory; pages shared by workers count for each.", &["worker"])?;
        let pss = "tuningfork_worker_proportional_memory_bytes";
        let pss = self.gauges(pss, "Memory with shared pages divided among their users.", &["worker"])?;
        let cpu = "tuningfork_worker_cpu_seconds_total";
        let cpu = self.counters(cpu, "User and system time of all processes that filled the slot.", &["worker"])?;
        for row in rows {
            let Some(process) = &row.process else { continue };
            let slot = row.slot.to_string();
            let names = [slot.as_str(), &process.pid.to_string(), &process.generation.to_string()];
            info.get_metric_with_label_values(&names)?.set(1.0);
            let Some(reading) = process.reading else { continue };
            rss.get_metric_with_label_values(&[&slot])?.add(reading.rss as f64);
            if let Some(bytes) = reading.pss {
                pss.get_metric_with_label_values(&[&slot])?.add(bytes as f64);
            }
        }
        for (slot, total) in ledger.enter(rows) {
            cpu.get_metric_with_label_values(&[slot.to_string()])?.inc_by(total.as_secs_f64());
        }
        Ok(())
    }

    fn listeners(&self, rows: &[ListenerRow]) -> prometheus::Result<()> {
        let length = "tuningfork_listen_queue_connections";
        let length = self.gauges(length, "Connections that wait to be accepted.", &["listener"])?;
        let limit = "tuningfork_listen_queue_max_connections";
        let limit = self.gauges(limit, "The listening socket's backlog.", &["listener"])?;
        for (name, queue) in rows.iter().filter_map(|row| Some((&row.name, row.queue?))) {
            length.get_metric_with_label_values(&[name])?.set(f64::from(queue.length));
            limit.get_metric_with_label_values(&[name])?.set(f64::from(queue.limit));
        }
        Ok(())
    }

    fn losses(&self, losses: &ListenLosses) -> prometheus::Result<()> {
        let help = "Connections lost in this network namespace because an accept queue was full.";
        self.counter("tuningfork_listen_overflows_total", help, losses.overflows as f64)?;
        let help = "Connections lost in this network namespace at listening sockets, for any reason.";
        self.counter("tuningfork_listen_drops_total", help, losses.drops as f64)
    }

    fn cores(&self, cores: &[CoreTime]) -> prometheus::Result<()> {
        let metric =
            self.counters("tuningfork_cpu_seconds_total", "Time of each core of the machine, by mode.", &["cpu", "mode"])?;
        for core in cores {
            for (mode, span) in core.modes() {
                let child = metric.get_metric_with_label_values(&[core.cpu.to_string().as_str(), mode])?;
                // Set, not added: a core listed twice would otherwise count twice.
                child.reset();
                child.inc_by(span.as_secs_f64());
            }
        }
        Ok(())
    }

    fn dropped(&self, dropped: DroppedLines) -> prometheus::Result<()> {
        let help = "Lines of the log that were dropped because it could not be written as fast as they came, by whose they were.";
        let lines = self.counters("tuningfork_log_dropped_lines_total", help, &["source"])?;
        for (source, count) in [("supervisor", dropped.supervisor), ("zygote", dropped.zygote), ("worker", dropped.worker)] {
            lines.get_metric_with_label_values(&[source])?.inc_by(count as f64);
        }
        Ok(())
    }

    /// Names and help as Prometheus' client libraries write them.
    fn own(&self, own: &OwnProcess) -> prometheus::Result<()> {
        let help = "Total user and system CPU time spent in seconds.";
        self.counter("process_cpu_seconds_total", help, own.cpu.as_secs_f64())?;
        self.gauge("process_resident_memory_bytes", "Resident memory size in bytes.", own.rss as f64)?;
        self.gauge("process_virtual_memory_bytes", "Virtual memory size in bytes.", own.vsize as f64)?;
        self.gauge("process_open_fds", "Number of open file descriptors.", own.open_fds as f64)?;
        self.gauge("process_max_fds", "Maximum number of open file descriptors.", own.max_fds as f64)?;
        self.gauge("process_threads", "Number of OS threads in the process.", own.threads as f64)?;
        let help = "Start time of the process since unix epoch in seconds.";
        self.gauge("process_start_time_seconds", help, own.started.as_secs_f64())
    }
}
