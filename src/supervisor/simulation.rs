//! A world that misbehaves by seed, and the promises that the supervisor keeps in it.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU16;
use std::time::Duration;

use super::event::{Command, Event, Exit, Haste, Reason, RequestId, Scale, Settings, Transition, Wish, WorkerState};
use super::host::Host;
use super::{Outcome, Rollout, Supervisor};
use crate::config::{Care, Timing};
use crate::units::{Generation, Moment, Slot, WorkerId, Workers};

const SEEDS: u64 = 2_000;
/// Wishes and faults come in this many turns; then the world is kind, and all must settle.
const WILD_TURNS: usize = 400;
const KIND_TURNS: usize = 4_000;

/// SplitMix64: small, seeded, good enough to choose faults.
struct Chance(u64);

impl Chance {
    fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
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
struct Process {
    generation: Generation,
    ready: bool,
    /// It beats until this says otherwise.
    hung: bool,
    /// It takes SIGTERM, SIGQUIT and SIGABRT.
    obedient: bool,
}

struct World {
    now: Moment,
    chance: Chance,
    kind: bool,
    agenda: BTreeMap<(Moment, u64), Event>,
    sequence: u64,
    processes: BTreeMap<WorkerId, Process>,
    dead: BTreeSet<WorkerId>,
    loaded: BTreeSet<Generation>,
    successor: Option<NewSupervisor>,
}

/// A simulated supervisor that is to take the place of the one that is tried out.
struct NewSupervisor {
    ready: bool,
    in_charge: bool,
    /// Its end is planned; it dies once.
    doomed: bool,
}

const TIMING: Timing =
    Timing { graceful_timeout: Duration::from_secs(5), timeout: Duration::from_secs(3), boot_timeout: Duration::from_secs(10) };

impl World {
    fn new(seed: u64) -> Self {
        Self {
            now: Moment::from_nanos(1_000_000_000),
            chance: Chance(seed),
            kind: false,
            agenda: BTreeMap::new(),
            sequence: 0,
            processes: BTreeMap::new(),
            dead: BTreeSet::new(),
            loaded: BTreeSet::new(),
            successor: None,
        }
    }

    fn plan(&mut self, wait: Duration, event: Event) {
        self.sequence += 1;
        self.agenda.insert((self.now.after(wait), self.sequence), event);
    }

    fn fault(&mut self, percent: u64) -> bool {
        !self.kind && self.chance.percent(percent)
    }

    fn settings(&mut self) -> Settings {
        Settings {
            workers: Workers::new(1 + u32::try_from(self.chance.below(6)).unwrap()).unwrap(),
            timing: TIMING,
            care: Care::default(),
        }
    }

    fn prepare(&mut self, generation: Generation) {
        if self.fault(10) {
            return; // hangs in import
        }
        let wait = self.chance.millis(3_000);
        if self.fault(20) {
            return self.plan(wait, Event::PrepareFailed { generation, reason: "no such module".into() });
        }
        self.loaded.insert(generation);
        let settings = self.settings();
        self.plan(wait, Event::Prepared { generation, settings });
    }

    fn spawn(&mut self, worker: WorkerId, generation: Generation) {
        assert!(!self.dead.contains(&worker) && !self.processes.contains_key(&worker), "{worker} is used twice");
        let wait = self.chance.millis(800);
        if self.fault(5) {
            return self.plan(wait, Event::SpawnFailed { worker, reason: "EAGAIN".into() });
        }
        let obedient = !self.fault(20);
        self.processes.insert(worker, Process { generation, ready: false, hung: false, obedient });
        if self.fault(15) {
            self.plan(wait, Event::Exited { worker, exit: Exit::Code(1) });
        } else if !self.fault(5) {
            self.plan(wait, Event::BecameReady { worker });
        }
    }

    /// What a process does once it is ready: it beats, and may crash or hang.
    fn live(&mut self, worker: WorkerId) {
        let (crash, hang) = (self.fault(3), self.fault(2));
        let Some(process) = self.processes.get_mut(&worker) else {
            return;
        };
        process.ready = true;
        process.hung |= hang;
        if crash {
            let wait = self.chance.millis(900);
            self.plan(wait, Event::Exited { worker, exit: Exit::Signal(11) });
        } else if !hang {
            self.plan(Duration::from_secs(1), Event::Beat { worker });
        }
    }

    fn signal(&mut self, worker: WorkerId, exit: Exit, obeys: bool) {
        assert!(!self.dead.contains(&worker), "{worker} was ordered about after its death");
        if obeys && self.processes.contains_key(&worker) {
            let wait = self.chance.millis(1_500);
            self.plan(wait, Event::Exited { worker, exit });
        }
    }

    fn start_successor(&mut self) {
        assert!(self.successor.is_none(), "two successors at once");
        let wait = self.chance.millis(15_000);
        if self.fault(20) {
            return self.plan(Duration::ZERO, Event::SuccessorEnded { reason: "EAGAIN".into() });
        }
        self.successor = Some(NewSupervisor { ready: false, in_charge: false, doomed: false });
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
            7 => self.plan(Duration::ZERO, Event::Asked(Wish::Rest)),
            8 => self.plan(Duration::ZERO, Event::Asked(Wish::ReopenLogs)),
            9 => {
                let wish = Wish::Replace(WorkerId(1 + self.chance.below(40)));
                self.plan(Duration::ZERO, Event::Requested { request: RequestId(self.sequence), wish });
            }
            4 => self.now = self.now.after(Duration::from_secs(30)), // nobody ran the loop
            5 if self.chance.percent(5) => self.plan(Duration::ZERO, Event::Asked(Wish::Stop(Haste::Graceful))),
            10 => self.plan(Duration::ZERO, Event::Asked(Wish::Upgrade)),
            11 if self.successor.is_none() => {
                self.plan(Duration::ZERO, Event::Preceded);
                let wait = self.chance.millis(9_000);
                self.plan(wait, Event::PredecessorLeft);
            }
            6 if self.chance.percent(5) => self.plan(Duration::ZERO, Event::Asked(Wish::Stop(Haste::Quick))),
            _ => {}
        }
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
            Command::ReopenLogs => {}
            Command::Terminate { worker } | Command::Quit { worker } => self.signal(worker, Exit::Code(0), self.obeys(worker)),
            Command::Abort { worker } => {
                self.signal(worker, Exit::Signal(6), self.processes.get(&worker).is_some_and(|process| process.obedient));
            }
            Command::Kill { worker } => self.signal(worker, Exit::Signal(9), true),
            Command::StartSuccessor => self.start_successor(),
            Command::HandOver { .. } => {
                let successor = self.successor.as_mut().expect("somebody takes over");
                assert!(successor.ready, "it was not ready");
                successor.in_charge = true;
            }
            Command::EndSuccessor { .. } => {
                let obeys = !self.fault(30);
                self.signal_successor(obeys);
            }
            Command::KillSuccessor => self.signal_successor(true),
        }
    }

    fn next_event(&mut self, deadline: Option<Moment>) -> Event {
        if !self.kind {
            self.disturb();
        }
        let due = self.agenda.first_key_value().map(|((at, _), _)| *at);
        if let Some(deadline) = deadline.filter(|deadline| due.is_none_or(|due| *deadline < due)) {
            self.now = self.now.max(deadline);
            return Event::Woke;
        }
        let Some(((at, _), event)) = self.agenda.pop_first() else {
            return Event::Woke;
        };
        self.now = self.now.max(at);
        match &event {
            Event::Exited { worker, .. } | Event::SpawnFailed { worker, .. } => {
                self.processes.remove(worker);
                if !self.dead.insert(*worker) {
                    return Event::Woke; // it died of two causes at once; the kernel reports one
                }
            }
            Event::BecameReady { worker } | Event::Beat { worker } => self.live(*worker),
            Event::SuccessorReady => match &mut self.successor {
                Some(successor) => successor.ready = true,
                None => return Event::Woke,
            },
            Event::SuccessorEnded { .. } => self.successor = None,
            Event::Preceded
            | Event::PredecessorLeft
            | Event::Woke
            | Event::Prepared { .. }
            | Event::PrepareFailed { .. }
            | Event::LastWords { .. }
            | Event::Asked(_)
            | Event::Requested { .. } => {}
        }
        event
    }
}

/// One turn, with every promise checked.
fn turn(world: &mut World, supervisor: &mut Supervisor) {
    let before: BTreeMap<WorkerId, (Slot, WorkerState)> =
        supervisor.workers().map(|view| (view.worker, (view.slot, view.state))).collect();
    let event = world.next_event(supervisor.deadline());
    let now = world.now();
    let commands = supervisor.handle(now, event.clone());
    for transition in supervisor.take_transitions() {
        check_transition(world, supervisor, &before, &transition, &event);
    }
    for command in commands {
        if matches!(command, Command::Spawn { .. }) {
            let most = usize::from(supervisor.target()) + usize::from(supervisor.surge());
            assert!(supervisor.workers().count() <= most, "more than target and surge live");
            assert!(!supervisor.is_stopping(), "forked after a stop");
        }
        world.perform(command);
    }
    assert!(supervisor.deadline().is_none_or(|due| due >= now), "the deadline lies in the past");
    assert_eq!(supervisor.handle(now, Event::Woke), [], "reconciling twice orders twice, after {event:?}");
    supervisor.take_transitions();
}

fn check_transition(
    world: &World,
    supervisor: &Supervisor,
    before: &BTreeMap<WorkerId, (Slot, WorkerState)>,
    transition: &Transition,
    event: &Event,
) {
    let Transition::WorkerStopping { worker, slot, reason } = transition else {
        return;
    };
    match reason {
        Reason::Reload => {
            let was_ready = before.get(worker).is_some_and(|(_, state)| *state == WorkerState::Ready);
            let replaced = supervisor.workers().any(|view| view.slot == *slot && view.state == WorkerState::Ready);
            assert!(!was_ready || replaced, "{worker} was healthy and has no replacement, after {event:?}");
        }
        Reason::Timeout => {
            let hung = world.processes.get(worker).is_none_or(|process| process.hung);
            let dying = world.agenda.values().any(|event| matches!(event, Event::Exited { worker: id, .. } if id == worker));
            assert!(hung || dying, "{worker} beats and was taken for hung, after {event:?}");
        }
        Reason::Scale => {
            let was_ready = before.get(worker).is_some_and(|(_, state)| *state == WorkerState::Ready);
            let enough = supervisor.ready() >= usize::from(supervisor.target());
            assert!(!was_ready || enough, "{worker} stood in for others and was stopped, after {event:?}");
        }
        Reason::Crash | Reason::BootFailure | Reason::BootTimeout | Reason::Replace | Reason::Stop => {}
    }
}

fn check_outcome(world: &World, outcome: &Outcome) {
    assert!(world.processes.is_empty(), "somebody outlives the outcome");
    let serves = world.successor.as_ref().map(|successor| successor.in_charge);
    match outcome {
        // One that died right after it was given the service is not this supervisor's any more.
        Outcome::HandedOver => assert_ne!(serves, Some(false)),
        Outcome::Stopped | Outcome::AppNotLoaded { .. } | Outcome::WorkersNotBooting { .. } => assert_eq!(serves, None),
    }
}

/// Whether nothing is left to do but to go on.
fn is_settled(supervisor: &Supervisor) -> bool {
    let target = usize::from(supervisor.target());
    let staffed = supervisor.ready() == target && supervisor.workers().count() == target;
    let alone = !supervisor.succession.is_under_way() && !supervisor.succession.wanted;
    staffed && alone && supervisor.rollout == Rollout::Settled && supervisor.generations.len() == 1
}

fn simulate(seed: u64) -> Outcome {
    let mut world = World::new(seed);
    let settings = world.settings();
    let (mut supervisor, commands) = Supervisor::start(world.now(), settings);
    for command in commands {
        world.perform(command);
    }
    for _ in 0..WILD_TURNS {
        if let Some(outcome) = supervisor.outcome() {
            check_outcome(&world, outcome);
            return outcome.clone();
        }
        turn(&mut world, &mut supervisor);
    }
    world.kind = true;
    // Who rests does so until somebody asks for workers.
    world.plan(Duration::ZERO, Event::Asked(Wish::Scale(Scale::More(1))));
    for process in world.processes.values_mut() {
        process.obedient = true;
    }
    for _ in 0..KIND_TURNS {
        turn(&mut world, &mut supervisor);
        if is_settled(&supervisor) || supervisor.outcome().is_some() {
            break;
        }
    }
    if !supervisor.is_stopping() {
        assert_eq!(supervisor.ready(), usize::from(supervisor.target()), "a kind world does not heal it: {supervisor:?}");
        assert_eq!(supervisor.workers().count(), usize::from(supervisor.target()), "somebody is left over");
        assert_eq!(supervisor.rollout, Rollout::Settled, "a reload never ends");
        assert_eq!(supervisor.generations.len(), 1, "an old generation is kept");
    }
    world.plan(Duration::ZERO, Event::Asked(Wish::Stop(Haste::Graceful)));
    for _ in 0..KIND_TURNS {
        if let Some(outcome) = supervisor.outcome() {
            check_outcome(&world, outcome);
            return outcome.clone();
        }
        turn(&mut world, &mut supervisor);
    }
    panic!("it never ends");
}

#[test]
fn the_promises_hold_over_thousands_of_seeds() {
    let mut outcomes = BTreeMap::<&str, u32>::new();
    for seed in 0..SEEDS {
        let outcome = std::panic::catch_unwind(|| simulate(seed)).unwrap_or_else(|_| panic!("seed {seed}"));
        let name = match outcome {
            Outcome::Stopped => "stopped",
            Outcome::HandedOver => "handed over",
            Outcome::AppNotLoaded { .. } => "app not loaded",
            Outcome::WorkersNotBooting { .. } => "workers not booting",
        };
        *outcomes.entry(name).or_default() += 1;
    }
    assert_eq!(outcomes.len(), 4, "the seeds do not reach every outcome: {outcomes:?}");
    assert!(
        outcomes["stopped"] + outcomes["handed over"] > u32::try_from(SEEDS / 2).unwrap(),
        "too few seeds live long: {outcomes:?}"
    );
}

#[test]
fn a_long_gap_in_time_kills_nobody() {
    let mut world = World::new(7);
    world.kind = true;
    let settings = Settings { workers: Workers::folk(NonZeroU16::new(2).unwrap()), timing: TIMING, care: Care::default() };
    let (mut supervisor, commands) = Supervisor::start(world.now(), settings);
    for command in commands {
        world.perform(command);
    }
    for _ in 0..200 {
        turn(&mut world, &mut supervisor);
    }
    let before: Vec<_> = supervisor.workers().collect();
    world.now = world.now.after(Duration::from_hours(8));
    for _ in 0..200 {
        turn(&mut world, &mut supervisor);
    }
    assert_eq!(supervisor.workers().collect::<Vec<_>>(), before);
}
