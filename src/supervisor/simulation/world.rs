//! A world that misbehaves by seed: processes that crash, hang, leave, wear out or will not die, a loop that is suspended, and
//! wishes out of the blue. It asserts what no order may do.

use std::collections::{BTreeMap, BTreeSet};
use std::num::{NonZeroU16, NonZeroU32};
use std::time::Duration;

use crate::config::{Care, Timing};
use crate::supervisor::event::{Command, Event, Exit, Haste, Reason, RequestId, Scale, Settings, Wish};
use crate::supervisor::host::Host;
use crate::units::{Generation, Moment, WorkerId, Workers};

/// SplitMix64: small, seeded, good enough to choose faults.
pub(super) struct Chance(u64);

impl Chance {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.draw() % limit
    }

    fn percent(&mut self, share: u64) -> bool {
        self.below(100) < share
    }

    fn millis(&mut self, limit: u64) -> Duration {
        Duration::from_millis(self.below(limit))
    }
}

/// A simulated process.
#[expect(clippy::struct_excessive_bools, reason = "each goes wrong or not, by chance")]
pub(super) struct Process {
    pub(super) generation: Generation,
    ready: bool,
    /// It beats until this says otherwise.
    pub(super) hung: bool,
    /// It takes SIGTERM, SIGQUIT and SIGABRT.
    pub(super) obedient: bool,
    /// The kernel holds it: SIGKILL takes long.
    pub(super) held: bool,
}

pub(super) struct World {
    pub(super) now: Moment,
    pub(super) chance: Chance,
    /// No more faults and wishes.
    pub(super) kind: bool,
    agenda: BTreeMap<(Moment, u64), Event>,
    /// What a command has led to before anything else can happen.
    at_once: Option<Event>,
    sequence: u64,
    pub(super) processes: BTreeMap<WorkerId, Process>,
    dead: BTreeSet<WorkerId>,
    loaded: BTreeSet<Generation>,
    /// Until when a generation whose configuration was read may be loaded.
    pub(super) may_load_until: BTreeMap<Generation, Moment>,
    pub(super) successor: Option<NewSupervisor>,
    /// Until then no process can be made.
    no_forks_until: Moment,
}

/// A simulated supervisor that is to take the place of the one that is tried out.
pub(super) struct NewSupervisor {
    ready: bool,
    pub(super) in_charge: bool,
    /// Its end is planned; it dies once.
    doomed: bool,
    /// Until when it may boot, once it has said so.
    pub(super) may_boot_until: Option<Moment>,
}

pub(super) const TIMING: Timing =
    Timing { graceful_timeout: Duration::from_secs(5), timeout: Duration::from_secs(3), boot_timeout: Duration::from_secs(10) };

impl World {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            now: Moment::from_nanos(1_000_000_000),
            chance: Chance::new(seed),
            kind: false,
            agenda: BTreeMap::new(),
            at_once: None,
            sequence: 0,
            processes: BTreeMap::new(),
            dead: BTreeSet::new(),
            loaded: BTreeSet::new(),
            may_load_until: BTreeMap::new(),
            successor: None,
            no_forks_until: Moment::default(),
        }
    }

    pub(super) fn plan(&mut self, wait: Duration, event: Event) {
        self.sequence += 1;
        self.agenda.insert((self.now.after(wait), self.sequence), event);
    }

    /// Whether its end is on the way.
    pub(super) fn is_dying(&self, worker: WorkerId) -> bool {
        self.agenda.values().any(|event| matches!(event, Event::Exited { worker: id, .. } if *id == worker))
    }

    fn fault(&mut self, percent: u64) -> bool {
        !self.kind && self.chance.percent(percent)
    }

    pub(super) fn settings(&mut self) -> Settings {
        let care = Care {
            settle: self.chance.millis(4_000),
            max_unavailable: NonZeroU16::new(1 + u16::try_from(self.chance.below(2)).expect("invariant: small"))
                .expect("invariant: small"),
            max_age: self.fault(30).then(|| Duration::from_secs(5 + self.chance.below(30))),
            fail_after: self.fault(20).then(|| {
                NonZeroU32::new(1 + u32::try_from(self.chance.below(8)).expect("invariant: small")).expect("invariant: small")
            }),
            ..Care::default()
        };
        let workers = 1 + u32::try_from(self.chance.below(6)).expect("invariant: small");
        let timing = Timing { boot_timeout: Duration::from_secs(2 + self.chance.below(19)), ..TIMING };
        Settings { workers: Workers::new(workers).expect("invariant: small"), timing, care }
    }

    fn prepare(&mut self, generation: Generation) {
        if self.fault(5) {
            return; // hangs in its configuration
        }
        let read = self.chance.millis(500);
        let settings = self.settings();
        self.plan(read, Event::ConfigurationRead { generation, boot_timeout: settings.timing.boot_timeout });
        if self.fault(10) {
            return; // hangs in import
        }
        let wait = read + if self.fault(10) { self.chance.millis(20_000) } else { self.chance.millis(1_500) };
        if self.fault(20) {
            return self.plan(wait, Event::PrepareFailed { generation, reason: "no such module".into() });
        }
        self.loaded.insert(generation);
        self.plan(wait, Event::Prepared { generation, settings });
    }

    fn spawn(&mut self, worker: WorkerId, generation: Generation) {
        assert!(!self.dead.contains(&worker) && !self.processes.contains_key(&worker), "{worker} is used twice");
        let wait = self.chance.millis(800);
        if self.fault(1) {
            self.no_forks_until = self.now.after(self.chance.millis(20_000));
        }
        if self.now < self.no_forks_until && !self.kind {
            return self.plan(Duration::ZERO, Event::SpawnFailed { worker, reason: "EAGAIN".into() });
        }
        if self.fault(5) {
            return self.plan(wait, Event::SpawnFailed { worker, reason: "EAGAIN".into() });
        }
        let (obedient, held) = (!self.fault(20), self.fault(3));
        self.processes.insert(worker, Process { generation, ready: false, hung: false, obedient, held });
        if self.fault(15) {
            self.plan(wait, Event::Exited { worker, exit: Exit::Code(1) });
        } else if !self.fault(5) {
            self.plan(wait, Event::BecameReady { worker });
        }
    }

    /// What a process does once it is ready: it beats, and may crash, hang, leave or be worn.
    fn live(&mut self, worker: WorkerId) {
        let (crash, hang) = (self.fault(3), self.fault(2));
        let (worn, leaves) = (self.fault(4), self.fault(1));
        let Some(process) = self.processes.get_mut(&worker) else {
            return;
        };
        process.ready = true;
        process.hung |= hang;
        let wait = self.chance.millis(900);
        if crash {
            let exit = if self.chance.percent(30) { Exit::OutOfMemory } else { Exit::Signal(11) };
            self.plan(wait, Event::Exited { worker, exit });
        } else if leaves {
            self.plan(Duration::ZERO, Event::Leaving { worker });
            self.plan(wait, Event::Exited { worker, exit: Exit::Code(0) });
        } else if !hang {
            self.plan(Duration::from_secs(1), Event::Beat { worker });
        }
        if worn {
            let reason = if self.chance.percent(50) { Reason::MaxRequests } else { Reason::MaxMemory };
            self.plan(wait, Event::Worn { worker, reason });
        }
    }

    fn signal(&mut self, worker: WorkerId, exit: Exit, obeys: bool) {
        assert!(!self.dead.contains(&worker), "{worker} was ordered about after its death");
        if obeys && self.processes.contains_key(&worker) {
            let wait = self.chance.millis(1_500);
            self.plan(wait, Event::Exited { worker, exit });
        }
    }

    fn kill(&mut self, worker: WorkerId) {
        assert!(!self.dead.contains(&worker), "{worker} was killed after its death");
        if let Some(process) = self.processes.get(&worker) {
            let wait = if process.held { Duration::from_secs(20) } else { self.chance.millis(1_500) };
            self.plan(wait, Event::Exited { worker, exit: Exit::Signal(9) });
        }
    }

    fn start_successor(&mut self) {
        assert!(self.successor.is_none(), "two successors at once");
        let wait = self.chance.millis(15_000);
        if self.fault(20) {
            return self.plan(Duration::ZERO, Event::SuccessorEnded { reason: "EAGAIN".into() });
        }
        self.successor = Some(NewSupervisor { ready: false, in_charge: false, doomed: false, may_boot_until: None });
        if !self.fault(20) {
            let boot_timeout = Duration::from_secs(2 + self.chance.below(19));
            let began = self.chance.millis(500);
            self.plan(began, Event::SuccessorBegan { boot_timeout });
        }
        if self.fault(20) {
            self.doom(wait);
        } else if !self.fault(20) {
            self.plan(wait, Event::SuccessorReady);
        }
    }

    fn doom(&mut self, wait: Duration) {
        if let Some(successor) = self.successor.as_mut().filter(|successor| !successor.doomed) {
            successor.doomed = true;
            self.plan(wait, Event::SuccessorEnded { reason: "exit code 1".into() });
        }
    }

    fn signal_successor(&mut self, obeys: bool) {
        // It may have ended, or never been, and the news not be heard yet.
        assert!(self.successor.as_ref().is_none_or(|successor| !successor.in_charge), "it has the service and is told to leave");
        if obeys {
            let wait = self.chance.millis(2_000);
            self.doom(wait);
        }
    }

    fn obeys(&self, worker: WorkerId) -> bool {
        self.processes.get(&worker).is_some_and(|process| process.obedient && !process.hung)
    }

    /// A wish or a suspension out of the blue.
    fn disturb(&mut self) {
        match self.chance.below(60) {
            0 | 1 => self.plan(Duration::ZERO, Event::Asked(Wish::Reload)),
            2 => self.plan(Duration::ZERO, Event::Asked(Wish::Scale(Scale::More(1)))),
            3 => self.plan(Duration::ZERO, Event::Asked(Wish::Scale(Scale::Fewer(1)))),
            4 => self.now = self.now.after(Duration::from_secs(30)), // nobody ran the loop
            5 if self.chance.percent(5) => self.plan(Duration::ZERO, Event::Asked(Wish::Stop(Haste::Graceful))),
            6 if self.chance.percent(5) => self.plan(Duration::ZERO, Event::Asked(Wish::Stop(Haste::Quick))),
            7 if self.chance.percent(10) => self.massacre(),
            8 if self.chance.percent(30) => self.plan(Duration::ZERO, Event::Asked(Wish::Rest)),
            9 => self.plan(Duration::ZERO, Event::Asked(Wish::ReopenLogs)),
            10 => {
                let wish = Wish::Replace(WorkerId(1 + self.chance.below(40)));
                self.plan(Duration::ZERO, Event::Requested { request: RequestId(self.sequence), wish });
            }
            11 => self.plan(Duration::ZERO, Event::Asked(Wish::Upgrade)),
            12 if self.successor.is_none() => {
                self.plan(Duration::ZERO, Event::Preceded);
                let wait = self.chance.millis(9_000);
                let dies = self.chance.percent(3);
                self.plan(wait, if dies { Event::Orphaned } else { Event::PredecessorLeft });
            }
            _ => {}
        }
    }

    /// All workers die at once.
    fn massacre(&mut self) {
        for worker in self.processes.keys().copied().collect::<Vec<_>>() {
            self.plan(Duration::ZERO, Event::Exited { worker, exit: Exit::Signal(9) });
        }
    }

    /// The next thing on the agenda; what the dead do is nothing.
    fn take(&mut self) -> Option<Event> {
        let ((at, _), event) = self.agenda.pop_first()?;
        self.now = self.now.max(at);
        match &event {
            Event::Exited { worker, .. } | Event::SpawnFailed { worker, .. } => {
                self.processes.remove(worker);
                if !self.dead.insert(*worker) {
                    return Some(Event::Woke); // it died of two causes at once; the kernel reports one
                }
            }
            Event::BecameReady { worker } | Event::Beat { worker } => self.live(*worker),
            Event::ConfigurationRead { generation, boot_timeout } => {
                self.may_load_until.insert(*generation, self.now.after(*boot_timeout));
            }
            Event::SuccessorBegan { boot_timeout } => match &mut self.successor {
                Some(successor) => successor.may_boot_until = Some(self.now.after(*boot_timeout)),
                None => return Some(Event::Woke),
            },
            Event::SuccessorReady => match &mut self.successor {
                Some(successor) => successor.ready = true,
                None => return Some(Event::Woke),
            },
            Event::SuccessorEnded { .. } => self.successor = None,
            Event::HandedOver
            | Event::Preceded
            | Event::PredecessorLeft
            | Event::Orphaned
            | Event::Woke
            | Event::Prepared { .. }
            | Event::PrepareFailed { .. }
            | Event::Worn { .. }
            | Event::Leaving { .. }
            | Event::LastWords { .. }
            | Event::Asked(_)
            | Event::Requested { .. } => {}
        }
        Some(event)
    }
}

impl Host for World {
    fn now(&self) -> Moment {
        self.now
    }

    fn perform(&mut self, command: Command) {
        match command {
            Command::Prepare { generation } => self.prepare(generation),
            Command::Retire { generation } => {
                self.loaded.remove(&generation);
                assert!(!self.processes.values().any(|process| process.generation == generation), "retired under its workers");
            }
            Command::Spawn { worker, generation, .. } => {
                assert!(self.loaded.contains(&generation), "forked from a generation that is not loaded");
                self.spawn(worker, generation);
            }
            Command::Terminate { worker } | Command::Quit { worker } => self.signal(worker, Exit::Code(0), self.obeys(worker)),
            Command::Abort { worker } => {
                self.signal(worker, Exit::Signal(6), self.processes.get(&worker).is_some_and(|process| process.obedient));
            }
            Command::Kill { worker } => self.kill(worker),
            Command::ReopenLogs | Command::TellTarget(_) => {}
            Command::StartSuccessor => self.start_successor(),
            Command::HandOver { .. } => {
                let dies = self.fault(20);
                let successor = self.successor.as_mut().expect("somebody takes over");
                assert!(successor.ready, "it was not ready");
                // The end of one that is doomed is planned already.
                let hears = successor.doomed || !dies;
                successor.in_charge = hears;
                let reason = "it had died".to_owned();
                self.at_once = Some(if hears { Event::HandedOver } else { Event::SuccessorEnded { reason } });
                if !hears {
                    self.successor = None;
                }
            }
            Command::EndSuccessor { .. } => {
                let obeys = !self.fault(30);
                self.signal_successor(obeys);
            }
            Command::KillSuccessor => self.signal_successor(true),
        }
    }

    /// What comes at the same moment.
    fn queued_event(&mut self) -> Option<Event> {
        if let Some(event) = self.at_once.take() {
            return Some(event);
        }
        let due = self.agenda.first_key_value().is_some_and(|((at, _), _)| *at <= self.now);
        if due { self.take() } else { None }
    }

    fn next_event(&mut self, deadline: Option<Moment>) -> Event {
        if !self.kind {
            self.disturb();
        }
        if let Some(event) = self.at_once.take() {
            return event;
        }
        let due = self.agenda.first_key_value().map(|((at, _), _)| *at);
        if let Some(deadline) = deadline.filter(|deadline| due.is_none_or(|due| *deadline < due)) {
            self.now = self.now.max(deadline);
            return Event::Woke;
        }
        self.take().unwrap_or(Event::Woke)
    }
}
