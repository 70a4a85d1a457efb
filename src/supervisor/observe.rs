//! The first half of a turn: records a fact, or edits what is wished for. Orders nothing.

use std::fmt;
use std::time::Duration;

use super::backoff::{Backoff, PROVED, spread};
use super::event::{Event, Exit, Haste, Reason, Settings, Transition};
use super::wishes::NOBODY_TRIES;
use super::worker::{Life, Worker};
use super::{BOOT_ATTEMPTS, Mode, Outcome, Rollout, Supervisor};
use crate::units::{Generation, Moment, WorkerId};

/// Gunicorn's exit code of a worker that could not load the application.
const APP_LOAD_ERROR: i32 = 4;

impl Supervisor {
    pub(super) fn observe(&mut self, now: Moment, event: Event) {
        match event {
            Event::Woke => {}
            Event::ConfigurationRead { generation, boot_timeout } => self.configuration_read(now, generation, boot_timeout),
            Event::Prepared { generation, settings } => self.prepared(generation, settings),
            Event::PrepareFailed { generation, reason } => self.prepare_failed(generation, reason),
            Event::SpawnFailed { worker, reason } => self.gone(now, worker, None, Some(reason)),
            Event::BecameReady { worker } => self.became_ready(now, worker),
            Event::Beat { worker } => self.beat(now, worker),
            Event::Worn { worker, reason } => self.wear(worker, reason),
            Event::Leaving { worker } => self.leaving(now, worker),
            Event::LastWords { worker, words } => self.last_words = Some((worker, words)),
            Event::Exited { worker, exit } => self.gone(now, worker, Some(exit), None),
            Event::SuccessorBegan { boot_timeout } => self.successor_began(now, boot_timeout),
            Event::SuccessorReady => self.successor_is_ready(),
            Event::SuccessorEnded { reason } => self.successor_has_ended(reason),
            Event::HandedOver => self.handed_over(),
            Event::Preceded => self.succession.preceded = true,
            Event::PredecessorLeft => self.succession.preceded = false,
            Event::Orphaned => self.orphaned(),
            Event::Asked(wish) => {
                // A signal has nobody to tell.
                self.wish(wish).ok();
            }
            Event::Requested { request, wish } => {
                let answer = self.wish(wish);
                self.transitions.push(Transition::Answered { request, answer });
            }
        }
    }

    /// A stop never becomes less hasty, and its first reason stays.
    pub(super) fn stop(&mut self, haste: Haste, outcome: Outcome) {
        match &mut self.mode {
            Mode::Stopping { haste: current, .. } => {
                if haste == Haste::Quick {
                    *current = Haste::Quick;
                }
            }
            Mode::Booting | Mode::Running => {
                self.mode = Mode::Stopping { haste, outcome };
                self.transitions.push(Transition::Stopping { haste });
            }
        }
    }

    /// What is loaded may take as long as its own configuration says: the old one's limit may be what is to be mended.
    fn configuration_read(&mut self, now: Moment, generation: Generation, boot_timeout: Duration) {
        if let Rollout::Preparing { next, give_up_at, .. } = &mut self.rollout
            && *next == generation
        {
            *give_up_at = now.after(boot_timeout);
        }
    }

    fn prepared(&mut self, generation: Generation, settings: Settings) {
        let Rollout::Preparing { next, edit, .. } = self.rollout else {
            return;
        };
        if next != generation || self.is_stopping() {
            return;
        }
        self.generations.insert(generation, settings);
        let workers = edit.of(settings.workers.get());
        if self.mode == Mode::Booting {
            self.mode = Mode::Running;
            self.rollout = Rollout::Settled;
            match &mut self.resting {
                Some(before) => *before = workers,
                None => self.set_target(workers),
            }
        } else if self.resting.is_some() {
            return self.prepare_failed(generation, NOBODY_TRIES.to_owned());
        } else {
            self.rollout = Rollout::Rolling { fallback: self.wanted, asked: workers };
            // The repair of what kept failing must not wait for the old failures.
            self.backoff.clear();
            self.drought = Backoff::default();
        }
        self.wanted = generation;
    }

    pub(super) fn prepare_failed(&mut self, generation: Generation, reason: String) {
        let Rollout::Preparing { next, .. } = self.rollout else {
            return;
        };
        if next != generation {
            return;
        }
        self.rollout = Rollout::Settled;
        if self.mode == Mode::Booting {
            self.stop(Haste::Quick, Outcome::AppNotLoaded { reason });
        } else {
            self.transitions.push(Transition::ReloadFailed { generation, reason });
        }
    }

    fn became_ready(&mut self, now: Moment, id: WorkerId) {
        let Some(worker) = self.workers.get(&id).copied() else { return };
        if let Life::Starting { since, .. } = worker.life {
            // Up to a tenth less, so that workers that started together are not renewed together.
            let age = |most: Duration| now.after(most.mul_f64(0.9 + 0.1 * spread(id.0)));
            let old_at = self.settings_of(worker.generation).care.max_age.map(age);
            self.set_life(id, Life::Ready { since: now, last_beat: None, old_at });
            self.boot_failures = 0;
            self.barren = 0;
            self.drought = Backoff::default();
            self.transitions.push(Transition::WorkerReady { worker: id, slot: worker.slot, took: now.since(since) });
        }
    }

    fn beat(&mut self, now: Moment, id: WorkerId) {
        if let Some(Worker { life: Life::Ready { last_beat, .. }, .. }) = self.workers.get_mut(&id) {
            *last_beat = Some(now);
        }
    }

    fn wear(&mut self, id: WorkerId, reason: Reason) {
        if let Some(worker) = self.workers.get_mut(&id).filter(|worker| worker.is_ready()) {
            worker.worn.get_or_insert(reason);
        }
    }

    /// It goes on its own account: that is a failure only if it does so soon.
    fn leaving(&mut self, now: Moment, id: WorkerId) {
        let Some(worker) = self.workers.get(&id).copied().filter(Worker::is_ready) else { return };
        let patience = self.settings_of(worker.generation).timing.graceful_timeout;
        self.set_life(id, Life::Stopping { reason: Reason::Left, kill_at: now.after(patience) });
        self.transitions.push(Transition::WorkerStopping { worker: id, slot: worker.slot, reason: Reason::Left });
        if worker.served(now) < PROVED {
            self.failed(now, worker, "a worker left soon after it was ready", false);
        }
    }

    /// A process has ended, or was never made.
    fn gone(&mut self, now: Moment, id: WorkerId, exit: Option<Exit>, detail: Option<String>) {
        let Some(worker) = self.workers.remove(&id) else { return };
        let reason = match worker.life {
            Life::Starting { .. } => Reason::BootFailure,
            Life::Ready { .. } if exit == Some(Exit::OutOfMemory) => Reason::OutOfMemory,
            Life::Ready { .. } => Reason::Crash,
            Life::Stopping { reason, .. }
            | Life::Quitting { reason, .. }
            | Life::Aborting { reason, .. }
            | Life::Killed { reason, .. }
            | Life::Stuck { reason } => reason,
        };
        let mut words = failure_in_words(reason, exit, detail.as_deref());
        if let Some((_, last)) = self.last_words.take().filter(|(speaker, _)| *speaker == id) {
            words = format!("{words}; it wrote last:\n{}", last.trim_end());
        }
        self.transitions.push(Transition::WorkerExited { worker: id, slot: worker.slot, exit, reason, detail });
        if worker.in_service() {
            self.failed(now, worker, &words, exit == Some(Exit::Code(APP_LOAD_ERROR)));
        }
    }

    /// A worker left service without being asked to: its slot backs off, a rollout of its generation is taken back, a start is given up.
    pub(super) fn failed(&mut self, now: Moment, worker: Worker, words: &str, app_not_loaded: bool) {
        if self.is_stopping() {
            return;
        }
        if worker.generation == self.wanted && self.take_back(words) {
            return;
        }
        self.back_off(now, worker);
        if self.announced {
            return self.attempt_failed(now, worker, words);
        }
        if self.ready() > 0 {
            return;
        }
        self.boot_failures += 1;
        if app_not_loaded {
            self.stop(Haste::Quick, Outcome::AppNotLoaded { reason: words.to_owned() });
        } else if self.boot_failures >= BOOT_ATTEMPTS {
            self.stop(Haste::Quick, Outcome::WorkersNotBooting { reason: words.to_owned() });
        }
    }

    /// The old generation is wanted again if a new one is being rolled out. Whether it was.
    pub(super) fn take_back(&mut self, reason: &str) -> bool {
        let Rollout::Rolling { fallback, .. } = self.rollout else { return false };
        self.transitions.push(Transition::ReloadFailed { generation: self.wanted, reason: reason.to_owned() });
        self.wanted = fallback;
        self.rollout = Rollout::Settled;
        true
    }

    /// While nobody serves, failed attempts are counted together: it is not the slot's fault.
    fn attempt_failed(&mut self, now: Moment, worker: Worker, words: &str) {
        if self.ready() > 0 || !worker.is_starting() {
            return;
        }
        self.barren += 1;
        if self.barren == 1 {
            self.transitions.push(Transition::NobodyServes);
        }
        // Those that were tried together count once.
        if !self.workers.values().any(Worker::is_starting) {
            self.drought.fail(now, worker.slot, Duration::ZERO);
        }
        let most = self.settings_of(self.wanted).care.fail_after;
        if most.is_some_and(|most| self.barren >= most.get()) {
            self.stop(Haste::Quick, Outcome::WorkersKeepFailing { reason: words.to_owned() });
        }
    }

    fn back_off(&mut self, now: Moment, worker: Worker) {
        if worker.slot.0 >= self.target {
            return;
        }
        let record = self.backoff.entry(worker.slot).or_default();
        let wait = record.fail(now, worker.slot, worker.served(now));
        let failures = record.failures();
        if wait > Duration::ZERO {
            self.transitions.push(Transition::SlotWaits { slot: worker.slot, wait, failures });
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(number) => write!(f, "signal {number}"),
            Self::OutOfMemory => f.write_str("signal 9 (out of memory)"),
        }
    }
}

/// What to tell the user about a worker that failed.
fn failure_in_words(reason: Reason, exit: Option<Exit>, detail: Option<&str>) -> String {
    let when = match reason {
        Reason::BootFailure | Reason::BootTimeout => "before it was ready",
        Reason::Crash
        | Reason::OutOfMemory
        | Reason::Left
        | Reason::Timeout
        | Reason::MaxRequests
        | Reason::MaxAge
        | Reason::MaxMemory
        | Reason::Reload
        | Reason::Scale
        | Reason::Replace
        | Reason::Stop => "while it served",
    };
    match (exit, detail) {
        (Some(exit), _) => format!("a worker ended with {exit} {when}"),
        (None, Some(detail)) => format!("a worker could not be started: {detail}"),
        (None, None) => format!("a worker ended {when}"),
    }
}
