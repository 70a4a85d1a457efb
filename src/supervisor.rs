//! Decides what happens to workers: `(Moment, Event) → Vec<Command>`.
//!
//! [`Supervisor::handle`] first records the fact or edits the wish (`observe`), then compares wish and fact (`reconcile`), which is
//! the only source of commands. Restart, scaling, rolling reload, rollback and shutdown are one code path: every slot below the
//! target has one worker of the wanted generation, and a healthy worker leaves only after its replacement is ready.
//!
//! Refuses to do anything: no clock, no process, no log. The core never sees a pid.

mod backoff;
pub mod event;
pub mod herald;
pub mod host;
#[cfg(test)]
mod matrix;
mod observe;
mod reconcile;
mod renew;
#[cfg(test)]
mod simulation;
mod upgrade;
mod wishes;
mod worker;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::units::{Generation, Moment, Slot, WorkerId};
use backoff::Backoff;
use event::{Command, Event, Haste, Settings, Transition, WorkerState};
use upgrade::Succession;
use wishes::Edit;
use worker::Worker;

/// How often workers may fail before any was ready, until the start is given up.
pub const BOOT_ATTEMPTS: u32 = 3;
/// How long a worker has between SIGABRT and SIGKILL.
pub const ABORT_GRACE: Duration = Duration::from_secs(2);
/// How long a worker has between SIGQUIT and SIGKILL.
pub const QUICK_GRACE: Duration = Duration::from_secs(2);
/// How long a worker may live after SIGKILL until it counts as stuck.
pub const STUCK_AFTER: Duration = Duration::from_secs(5);
/// A worker serves at least this long before it is renewed, however little it may do.
pub const SHORTEST_SERVICE: Duration = Duration::from_secs(1);
/// Of workers that failed so many are replaced at the same time before one of the replacements serves; one, when nobody serves and such
/// an attempt has failed.
pub const MAX_FIRST_ATTEMPTS: usize = 6;
/// Beyond this lateness the loop was suspended, not busy: nobody is judged by that time.
pub const SUSPENDED: Duration = Duration::from_secs(1);

/// How a supervisor ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As asked.
    Stopped,
    /// A successor has the service.
    HandedOver,
    /// The application could not be loaded at the start.
    AppNotLoaded {
        /// What the user reads.
        reason: String,
    },
    /// Workers that had served failed too often in a row while none served (`fail-after`).
    WorkersKeepFailing {
        /// How the last one ended.
        reason: String,
    },
    /// No worker became ready at the start.
    WorkersNotBooting {
        /// How the last one ended.
        reason: String,
    },
}

/// What is wished for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Mode {
    /// Nothing is in force yet: the first generation is being loaded.
    Booting,
    /// Workers serve.
    Running,
    /// No worker is wanted; `outcome` is what to report when the last one is gone.
    Stopping { haste: Haste, outcome: Outcome },
}

/// A change of generation under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rollout {
    /// None.
    Settled,
    /// The host loads `next`, whose number of workers was edited meanwhile.
    Preparing { next: Generation, give_up_at: Moment, edit: Edit },
    /// Workers of `wanted` replace those of `fallback`, which comes back if one of them fails.
    Rolling { fallback: Generation, asked: u16 },
}

/// What a supervisor is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The first workers are not all ready.
    Starting,
    /// Workers serve, and nothing is to be changed.
    Running,
    /// A reload loads this generation.
    Loading(Generation),
    /// A reload replaces workers by those of this generation.
    Rolling(Generation),
    /// No worker is wanted for the time being.
    Resting,
    /// Everybody leaves.
    Stopping,
}

/// One worker as others see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerView {
    /// Its name.
    pub worker: WorkerId,
    /// The place it fills.
    pub slot: Slot,
    /// What it was forked from.
    pub generation: Generation,
    /// Where its life stands.
    pub state: WorkerState,
}

/// The pure core: facts and wishes in, commands out.
#[derive(Clone, Debug)]
pub struct Supervisor {
    mode: Mode,
    rollout: Rollout,
    reload_wanted: bool,
    reopen_wanted: bool,
    /// Workers that somebody asked to have replaced.
    replaced: BTreeSet<WorkerId>,
    target: u16,
    /// The target that the host was told last.
    told_target: u16,
    /// The target before a rest, while it lasts.
    resting: Option<u16>,
    wanted: Generation,
    newest: Generation,
    generations: BTreeMap<Generation, Settings>,
    workers: BTreeMap<WorkerId, Worker>,
    backoff: BTreeMap<Slot, Backoff>,
    /// What the worker that is about to be reported dead wrote before.
    last_words: Option<(WorkerId, String)>,
    next_worker: u64,
    boot_failures: u32,
    /// Attempts that failed in a row while nobody served, and when the next is due.
    barren: u32,
    drought: Backoff,
    announced: bool,
    succession: Succession,
    last_turn: Moment,
    transitions: Vec<Transition>,
}

impl Supervisor {
    /// A supervisor that has to load its first generation within `settings.timing.boot_timeout` of `now`, and the command that begins it.
    #[must_use]
    pub fn start(now: Moment, settings: Settings) -> (Self, Vec<Command>) {
        let first = Generation::FIRST;
        let supervisor = Self {
            mode: Mode::Booting,
            rollout: Rollout::Preparing {
                next: first,
                give_up_at: now.after(settings.timing.boot_timeout),
                edit: Edit::default(),
            },
            reload_wanted: false,
            reopen_wanted: false,
            replaced: BTreeSet::new(),
            target: settings.workers.get(),
            told_target: settings.workers.get(),
            resting: None,
            wanted: first,
            newest: first,
            generations: BTreeMap::from([(first, settings)]),
            workers: BTreeMap::new(),
            backoff: BTreeMap::new(),
            last_words: None,
            next_worker: 1,
            boot_failures: 0,
            barren: 0,
            drought: Backoff::default(),
            announced: false,
            succession: Succession::default(),
            last_turn: now,
            transitions: Vec::new(),
        };
        (supervisor, vec![Command::Prepare { generation: first }])
    }

    /// Takes in one event and says what to do about it.
    pub fn handle(&mut self, now: Moment, event: Event) -> Vec<Command> {
        self.note(now, event);
        self.decide(now)
    }

    /// Takes in one event of several that are there at the same time.
    pub fn note(&mut self, now: Moment, event: Event) {
        self.forgive_a_suspended_loop(now);
        self.observe(now, event);
    }

    /// Says what to do about all that was noted.
    pub fn decide(&mut self, now: Moment) -> Vec<Command> {
        self.reconcile(now)
    }

    /// When to be called again, with [`Event::Woke`], if nothing happens. Never before the moment last handled.
    #[must_use]
    pub fn deadline(&self) -> Option<Moment> {
        let loading = match self.rollout {
            Rollout::Preparing { give_up_at, .. } => Some(give_up_at),
            Rollout::Settled | Rollout::Rolling { .. } => None,
        };
        let lives = self.workers.values().filter_map(|worker| worker.deadline(&self.settings_of(worker.generation).timing));
        let waits = self.backoff.values().chain([&self.drought]).map(|record| record.not_before());
        let later = waits.chain(self.trial_ends()).chain(self.renewals_due()).filter(|due| *due > self.last_turn);
        loading.into_iter().chain(lives).chain(later).chain(self.succession.deadline()).min()
    }

    /// What to report, once nothing is left to do.
    #[must_use]
    pub fn outcome(&self) -> Option<&Outcome> {
        match &self.mode {
            // Nobody can do anything about those that are stuck.
            Mode::Stopping { outcome, .. } if self.workers.values().all(Worker::is_stuck) && !self.succession.is_under_way() => {
                Some(outcome)
            }
            Mode::Stopping { .. } | Mode::Booting | Mode::Running => None,
        }
    }

    /// What has changed since the last call.
    pub fn take_transitions(&mut self) -> Vec<Transition> {
        std::mem::take(&mut self.transitions)
    }

    /// Every worker whose process exists or was ordered, oldest first.
    pub fn workers(&self) -> impl Iterator<Item = WorkerView> {
        self.workers.iter().map(|(id, worker)| WorkerView {
            worker: *id,
            slot: worker.slot,
            generation: worker.generation,
            state: worker.state(),
        })
    }

    /// What is being done beside keeping workers alive.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        match (&self.mode, &self.rollout) {
            (Mode::Stopping { .. }, _) => Phase::Stopping,
            (Mode::Running, Rollout::Preparing { next, .. }) => Phase::Loading(*next),
            (Mode::Running, _) if self.resting.is_some() => Phase::Resting,
            (Mode::Running, Rollout::Rolling { .. }) => Phase::Rolling(self.wanted),
            (Mode::Running, Rollout::Settled) if self.announced => Phase::Running,
            (Mode::Booting, _) | (Mode::Running, Rollout::Settled) => Phase::Starting,
        }
    }

    /// The generation whose workers are wanted.
    #[must_use]
    pub const fn generation(&self) -> Generation {
        self.wanted
    }

    /// How many workers are wanted now; none while the service rests.
    #[must_use]
    pub const fn target(&self) -> u16 {
        self.target
    }

    /// How many workers serve.
    #[must_use]
    pub fn ready(&self) -> usize {
        self.workers.values().filter(|worker| worker.is_ready()).count()
    }

    /// Slots that are empty and wait for their next attempt.
    pub fn waiting(&self) -> impl Iterator<Item = Slot> {
        self.empty_slots()
    }

    /// Whether nobody serves and attempts to change that fail.
    #[must_use]
    pub const fn is_barren(&self) -> bool {
        self.barren > 0
    }

    /// Whether a stop was asked for or decided.
    #[must_use]
    pub const fn is_stopping(&self) -> bool {
        matches!(self.mode, Mode::Stopping { .. })
    }

    /// How many workers may live beside the target while they are exchanged: a quarter, at least one.
    #[must_use]
    pub const fn surge(&self) -> u16 {
        self.target.div_ceil(4)
    }

    /// A suspended or stopped supervisor hears everything late; nobody else is to blame for it.
    fn forgive_a_suspended_loop(&mut self, now: Moment) {
        if now == self.last_turn {
            // The same turn: what was lost is given back once.
            return;
        }
        if let Some(lost) = self.deadline().map(|due| now.since(due)).filter(|lost| *lost > SUSPENDED) {
            for worker in self.workers.values_mut() {
                worker.forgive(now, lost);
            }
            self.succession.forgive(lost);
            if let Rollout::Preparing { give_up_at, .. } = &mut self.rollout {
                *give_up_at = give_up_at.after(lost);
            }
        }
        self.last_turn = now;
    }

    fn settings_of(&self, generation: Generation) -> &Settings {
        self.generations.get(&generation).expect("invariant: a generation is kept while a worker of it lives")
    }

    fn backoff_of(&self, slot: Slot) -> Backoff {
        self.backoff.get(&slot).copied().unwrap_or_default()
    }

    /// Slots below the target that no worker serves or is about to, while workers are wanted.
    fn empty_slots(&self) -> impl Iterator<Item = Slot> {
        let wanted = if matches!(self.mode, Mode::Running) { self.target } else { 0 };
        let occupied: BTreeSet<Slot> =
            self.workers.values().filter(|worker| worker.in_service()).map(|worker| worker.slot).collect();
        (0..wanted).map(Slot).filter(move |slot| !occupied.contains(slot))
    }
}
