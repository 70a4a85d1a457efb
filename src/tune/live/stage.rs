//! The running candidate as the trial's script sees it: plays probes, and reads the counters at both ends of each.

use std::collections::{BTreeMap, HashSet};
use std::num::NonZeroU32;
use std::time::Duration;

use super::backstage::{Backstage, Phase};
use super::floor::{Floor, Low};
use crate::load::{self, Basis, Check, Cookies, Errors, Onward, Played, Reach, Run, Target, play};
use crate::replay::{self, Arrivals, ClosedOrder, Plan, Turns};
use crate::study::{Batch, CoreShare, Decision, REDIRECTED, UNEXPECTED_STATUS, Window};
use crate::sys::cgroup::Slice;
use crate::sys::{accounting, clock, cpu, limits};
use crate::tune::TrialError;
use crate::tune::trial::{Load, Probe, Stage};
use crate::units::Moment;
use crate::usage::{CoreTime, CpuUse};

/// Connections the generator leaves to the rest of this process.
const SPARE_FDS: u64 = 256;
/// How long a client waits for an answer, at least: as nginx does (proxy_read_timeout is 60 s by default), halved to keep trials short. And
/// this many times what the objective allows.
const CLIENT_PATIENCE: Duration = Duration::from_secs(30);
const CLIENT_LATENCIES: u32 = 2;
/// The longest response body read.
const MAX_BODY: u64 = 256 << 20;
/// All probes draw the same arrivals, so that candidates are compared under the same load.
const ARRIVALS: Arrivals = Arrivals::Steady { seed: 1 };

/// A candidate on a private socket.
pub(super) struct LiveStage<'a> {
    plan: &'a Plan,
    target: Target,
    backstage: &'a Backstage,
    started: Moment,
    floor: Floor,
    max_connections: NonZeroU32,
    slice: Slice,
    probes: u32,
    crashes_seen: u32,
}

impl<'a> LiveStage<'a> {
    pub(super) fn new(plan: &'a Plan, target: Target, backstage: &'a Backstage, started: Moment, floor: Floor) -> Self {
        let max_connections = connections();
        Self { plan, target, backstage, started, floor, max_connections, slice: Slice::own(), probes: 0, crashes_seen: 0 }
    }

    /// Waits until every worker serves.
    pub(super) fn await_ready(&self) -> Result<(), TrialError> {
        match self.backstage.await_ready(self.floor).map_err(|low| self.failed(low.to_string()))? {
            Phase::Ready => Ok(()),
            _ if self.backstage.is_interrupted() => Err(TrialError::Interrupted),
            Phase::Short => Err(self.failed("not every worker became ready".to_owned())),
            Phase::Over | Phase::Starting => Err(self.failed("the candidate ended before it was ready".to_owned())),
        }
    }

    fn failed(&self, reason: String) -> TrialError {
        TrialError::Failed { reason, seconds: clock::now().since(self.started).as_secs_f64() }
    }

    /// Where in the recording the next probe begins: spread over all of it, and by its number the same for every candidate (multiples of the golden
    /// ratio; Knuth, TAOCP 3, 6.4).
    fn start(&self) -> usize {
        let (number, length) = (u64::from(self.probes), self.plan.requests().len() as u64);
        let share = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        usize::try_from((share * length) >> 32).unwrap_or(0)
    }

    fn run(&self, probe: &Probe) -> Run<'a> {
        let load = match probe.load {
            Load::Closed { clients } => replay::Load::Closed {
                clients: NonZeroU32::new(clients).unwrap_or(NonZeroU32::MIN),
                order: ClosedOrder::Requests,
            },
            Load::Open { rate } => replay::Load::Open { rate, arrivals: ARRIVALS },
        };
        let (settle, batch) = (Duration::from_secs_f64(probe.settle), Duration::from_secs_f64(probe.batch));
        Run {
            plan: self.plan,
            target: self.target.clone(),
            reach: Reach::ThisHost,
            load,
            from: self.start(),
            turns: Turns::Endless,
            settle,
            // Ended by the meter; this is a safety net.
            duration: settle + Duration::from_secs_f64(probe.seconds) + 8 * batch,
            drain: Duration::from_secs_f64(probe.drain),
            timeout: CLIENT_PATIENCE.max(probe.late.saturating_mul(CLIENT_LATENCIES)),
            max_connections: self.max_connections,
            max_body: MAX_BODY,
            slow_after: probe.late,
            batch,
            cookies: Cookies::Recorded,
            check: Check::Status,
            tls: None,
            // Trials have gates of their own, which must see every request.
            basis: Basis::EverySecond,
        }
    }

    fn counters(&self) -> Counters {
        Counters {
            at: clock::now(),
            cores: cpu::usable_core_times().unwrap_or_default(),
            workers: self.workers_cpu(),
            generator: clock::thread_cpu(),
            own: cpu::own_time(),
            throttled: self.slice.throttled().unwrap_or_default(),
        }
    }

    /// The workers and what they started.
    fn processes(&self) -> Vec<u32> {
        self.backstage.pids().into_iter().flat_map(accounting::family).collect()
    }

    /// Of those that live, with what their children used that ended; and of those that ended in our care, as a recycled worker does.
    fn workers_cpu(&self) -> Duration {
        let ended = cpu::ended_children();
        self.processes().into_iter().filter_map(cpu::time_with_ended_children).fold(ended, Duration::saturating_add)
    }

    /// How many different requests a probe sent that began at `from`.
    fn distinct(&self, from: usize, sent: u64) -> u64 {
        let requests = self.plan.requests();
        let count = usize::try_from(sent).unwrap_or(usize::MAX).min(requests.len());
        let played = requests.iter().cycle().skip(from).take(count);
        played.map(|request| self.plan.bytes(request).as_ptr()).collect::<HashSet<_>>().len() as u64
    }
}

impl Stage for LiveStage<'_> {
    fn probe(&mut self, probe: &Probe, decide: &mut dyn FnMut(&Batch) -> Decision) -> Result<Window, TrialError> {
        let run = self.run(probe);
        let mut meter =
            Meter { stage: self, probe, settle: run.settle, opening: None, closing: None, last: None, low: None, decide };
        if run.settle.is_zero() {
            meter.open(None);
        }
        let played = play(&run, &mut |batch| meter.watch(batch));
        let (opening, closing, low) = (meter.opening.take(), meter.closing.take(), meter.low.take());
        let played = played.map_err(|error| self.failed(format!("the load generator: {error}")))?;
        if self.backstage.is_interrupted() {
            return Err(TrialError::Interrupted);
        }
        if let Some(low) = low {
            return Err(self.failed(low.to_string()));
        }
        let opening = opening.unwrap_or_else(|| self.counters());
        let closing = closing.unwrap_or_else(|| self.counters());
        let crashes = self.backstage.crashes();
        let window = Window {
            crashes: crashes.saturating_sub(self.crashes_seen),
            quota: self.slice.quota(),
            distinct_requests: self.distinct(run.from, played.sent),
            ..window(&opening, &closing, &played, run.drain)
        };
        (self.probes, self.crashes_seen) = (self.probes.wrapping_add(1), crashes);
        Ok(window)
    }

    fn rest(&mut self, seconds: f64) -> Result<Window, TrialError> {
        let opening = self.counters();
        self.backstage.rest(Duration::from_secs_f64(seconds));
        if self.backstage.is_interrupted() {
            return Err(TrialError::Interrupted);
        }
        Ok(Window { quota: self.slice.quota(), ..used(&opening, &self.counters()) })
    }

    fn memory(&mut self) -> Result<u64, TrialError> {
        let readings = self.processes().into_iter().filter_map(accounting::reading);
        Ok(readings.map(|reading| reading.pss.unwrap_or(reading.rss)).sum())
    }

    fn elapsed(&mut self) -> f64 {
        clock::now().since(self.started).as_secs_f64()
    }
}

/// As many as this process may open.
fn connections() -> NonZeroU32 {
    u32::try_from(limits::open_files().saturating_sub(SPARE_FDS))
        .map_or(NonZeroU32::MAX, |most| NonZeroU32::new(most).unwrap_or(NonZeroU32::MIN))
}

/// What is read at both ends of a window.
struct Counters {
    at: Moment,
    cores: Vec<CoreTime>,
    workers: Duration,
    generator: Duration,
    /// All of this process, the generator's thread included.
    own: Duration,
    throttled: Duration,
}

/// Turns the engine's running counts into batches after settling, and ends the load when the script has decided.
struct Meter<'a, 'b> {
    stage: &'a LiveStage<'b>,
    probe: &'a Probe,
    settle: Duration,
    opening: Option<Counters>,
    closing: Option<Counters>,
    /// The last batch and the workers' CPU time then.
    last: Option<(load::Batch, Duration)>,
    /// Too little memory was left.
    low: Option<Low>,
    decide: &'a mut dyn FnMut(&Batch) -> Decision,
}

impl Meter<'_, '_> {
    fn open(&mut self, batch: Option<&load::Batch>) {
        let counters = self.stage.counters();
        self.last = batch.map(|batch| (*batch, counters.workers));
        self.opening = Some(counters);
    }

    fn watch(&mut self, batch: &load::Batch) -> Onward {
        self.low = self.stage.floor.check().err();
        if self.stage.backstage.is_interrupted() || self.low.is_some() {
            return Onward::BreakOff;
        }
        if self.closing.is_some() || batch.elapsed < self.settle {
            return Onward::GoOn;
        }
        let Some(opening) = &self.opening else {
            self.open(Some(batch));
            return Onward::GoOn;
        };
        let cpu = self.stage.workers_cpu();
        let (last, cpu_before) = self.last.unwrap_or((load::Batch::default(), opening.workers));
        let step = step(&last, batch, cpu.saturating_sub(cpu_before));
        self.last = Some((*batch, cpu));
        let over = batch.elapsed.saturating_sub(self.settle).as_secs_f64() >= self.probe.seconds - self.probe.batch / 2.0;
        if (self.decide)(&step) == Decision::Stop || over {
            self.closing = Some(self.stage.counters());
            return Onward::StopSending;
        }
        Onward::GoOn
    }
}

fn step(before: &load::Batch, after: &load::Batch, cpu: Duration) -> Batch {
    let failed = after.failed.saturating_sub(before.failed);
    Batch {
        seconds: after.elapsed.saturating_sub(before.elapsed).as_secs_f64(),
        due: after.scheduled.saturating_sub(before.scheduled),
        completed: after.completed.saturating_sub(before.completed) + failed,
        late: after.slow.saturating_sub(before.slow) + failed,
        failed,
        outstanding: after.outstanding + after.queued,
        overdue: after.overdue,
        cpu_seconds: cpu.as_secs_f64(),
    }
}

/// What was not answered within `drain` after the load counts as having taken that long, which is more than it may: it did not fail, nobody
/// waited for it any longer.
fn window(opening: &Counters, closing: &Counters, played: &Played, drain: Duration) -> Window {
    let used = used(opening, closing);
    let unanswered = played.unfinished.outstanding + played.unfinished.unsent;
    let mut latencies = played.latency.clone();
    (0..unanswered).for_each(|_| latencies.record(drain));
    Window {
        completed: completed(played.achieved.per_second() * used.seconds),
        latencies,
        errors: errors(&played.errors),
        lateness_p99: played.lateness.scheduler.quantile(0.99),
        unanswered,
        generator_short: played.errors.exhausted > 0,
        ..used
    }
}

/// Who used the cores.
fn used(opening: &Counters, closing: &Counters) -> Window {
    let cores = CpuUse::between(&opening.cores, &closing.cores).cores;
    let generator = closing.generator.saturating_sub(opening.generator);
    Window {
        seconds: closing.at.since(opening.at).as_secs_f64(),
        cores: cores
            .iter()
            .map(|core| CoreShare {
                cpu: core.cpu,
                user: core.user,
                system: core.system + core.irq,
                iowait: core.iowait,
                steal: core.steal,
            })
            .collect(),
        workers_cpu: closing.workers.saturating_sub(opening.workers).as_secs_f64(),
        generator_cpu: generator.as_secs_f64(),
        supervisor_cpu: closing.own.saturating_sub(opening.own).saturating_sub(generator).as_secs_f64(),
        throttled: closing.throttled.saturating_sub(opening.throttled).as_secs_f64(),
        ..Window::default()
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of requests, from their rate")]
fn completed(count: f64) -> u64 {
    count.round().max(0.0) as u64
}

/// The kinds by the names that reports use; those that did not happen are left out.
fn errors(errors: &Errors) -> BTreeMap<String, u64> {
    let kinds = [
        ("connect", errors.connect),
        ("timeout", errors.timeout),
        ("closed early", errors.closed_early),
        ("malformed", errors.malformed),
        ("5xx", errors.server_5xx),
        (UNEXPECTED_STATUS, errors.unexpected_status),
        (REDIRECTED, errors.redirected),
        ("unexpected length", errors.unexpected_length),
        ("shed", errors.shed),
        ("out of descriptors", errors.exhausted),
    ];
    kinds.into_iter().filter(|(_, count)| *count > 0).map(|(kind, count)| (kind.to_owned(), count)).collect()
}
