//! The promises that the supervisor keeps in a world that misbehaves by seed, over as many seeds as TUNINGFORK_SEQUENCES says.

mod world;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::Write;
use std::num::{NonZeroU16, NonZeroUsize};
use std::time::Duration;

use super::event::{Command, Event, Haste, Reason, Scale, Settings, Transition, Wish, WorkerState};
use super::host::Host;
use super::{Outcome, Rollout, Supervisor};
use crate::config::Care;
use crate::units::{Moment, Slot, WorkerId, Workers};
use world::{Chance, TIMING, World};

/// Sequences where nobody asks for more: what a debug build does in seconds.
const SEQUENCES: u64 = 4_000;
/// Wishes and faults come in at most this many turns; then the world is kind, and all must settle. Most sequences are shorter.
const WILD_TURNS_MAX: u64 = 150;
const KIND_TURNS: usize = 4_000;
/// Forks of one slot in a minute: a failure loop's, and what reloads, scaling, renewals and workers that had proved themselves add.
const WINDOW: Duration = Duration::from_mins(1);
const FORKS_OF_A_LOOP: usize = 13;
/// Who has served for ten seconds is replaced at once.
const FORKS_OF_THE_PROVED: usize = 6;

/// What was seen so far, to judge the next turn by.
#[derive(Default)]
struct Witness {
    /// Forks by slot, and the reasons to begin counting anew.
    forks: BTreeMap<Slot, VecDeque<Moment>>,
    fresh_starts: VecDeque<Moment>,
    renewals: VecDeque<Moment>,
    ended: BTreeSet<WorkerId>,
    /// The fewest workers that were wanted in the turn: a rollout that finishes in it may raise the target again.
    least_target: u16,
    events: u64,
}

impl Witness {
    fn see(&mut self, now: Moment, event: &Event) {
        self.events += 1;
        match event {
            Event::Prepared { .. } | Event::Asked(Wish::Reload | Wish::Scale(_) | Wish::Rest) => self.fresh_starts.push_back(now),
            Event::Worn { .. } | Event::Leaving { .. } | Event::Requested { .. } => self.renewals.push_back(now),
            Event::ConfigurationRead { .. }
            | Event::SuccessorBegan { .. }
            | Event::SuccessorReady
            | Event::SuccessorEnded { .. }
            | Event::HandedOver
            | Event::Preceded
            | Event::PredecessorLeft
            | Event::Orphaned
            | Event::Woke
            | Event::Exited { .. }
            | Event::SpawnFailed { .. }
            | Event::PrepareFailed { .. }
            | Event::LastWords { .. }
            | Event::BecameReady { .. }
            | Event::Beat { .. }
            | Event::Asked(Wish::ReopenLogs | Wish::Upgrade | Wish::Replace(_) | Wish::Stop(_)) => {}
        }
    }

    fn forked(&mut self, now: Moment, slot: Slot) {
        let recent = |moments: &mut VecDeque<Moment>| {
            while moments.front().is_some_and(|first| now.since(*first) > WINDOW) {
                moments.pop_front();
            }
            moments.len()
        };
        let excuses = 1 + recent(&mut self.fresh_starts);
        let renewals = recent(&mut self.renewals);
        let forks = self.forks.entry(slot).or_default();
        forks.push_back(now);
        let most = FORKS_OF_A_LOOP * excuses + 2 * renewals + FORKS_OF_THE_PROVED;
        assert!(recent(forks) <= most, "slot {slot} was forked {} times in a minute", forks.len());
    }
}

/// One turn, with every promise checked.
fn turn(world: &mut World, supervisor: &mut Supervisor, witness: &mut Witness) {
    let before: BTreeMap<WorkerId, WorkerState> = supervisor.workers().map(|view| (view.worker, view.state)).collect();
    let target_before = supervisor.target();
    let event = world.next_event(supervisor.deadline());
    let now = world.now();
    witness.see(now, &event);
    supervisor.note(now, event.clone());
    while let Some(event) = world.queued_event() {
        witness.see(now, &event);
        supervisor.note(now, event);
    }
    let commands = supervisor.decide(now);
    let transitions = supervisor.take_transitions();
    let target_of =
        |transition: &Transition| if let Transition::TargetChanged { target } = transition { Some(*target) } else { None };
    let targets = transitions.iter().filter_map(target_of);
    witness.least_target = targets.chain([target_before, supervisor.target()]).min().unwrap_or_default();
    for transition in transitions {
        check_patience(world, &transition);
        check_transition(world, supervisor, &before, &transition, witness);
    }
    for command in commands {
        if let Command::Spawn { slot, .. } = &command {
            check_fork(supervisor);
            witness.forked(now, *slot);
        }
        world.perform(command);
    }
    assert!(supervisor.deadline().is_none_or(|due| due >= now), "the deadline lies in the past");
    assert_eq!(supervisor.decide(now), [], "reconciling twice orders twice, after {event:?}");
    supervisor.take_transitions();
}

fn check_fork(supervisor: &Supervisor) {
    let stuck = supervisor.workers().filter(|view| view.state == WorkerState::Stuck).count();
    let target = usize::from(supervisor.target());
    let most = target + usize::from(supervisor.surge()) + stuck.min(target);
    assert!(supervisor.workers().count() <= most, "more than target and surge live, the stuck apart");
    assert!(!supervisor.is_stopping(), "forked after a stop");
}

/// What is loaded or boots is given the time that its own configuration gives it.
fn check_patience(world: &World, transition: &Transition) {
    let until = if let Transition::ReloadFailed { generation, reason } = transition {
        world.may_load_until.get(generation).copied().filter(|_| reason.starts_with("the application was not loaded"))
    } else if let Transition::UpgradeFailed { reason } = transition {
        let successor = world.successor.as_ref().filter(|_| reason.ends_with("twice boot-timeout"));
        successor.and_then(|successor| successor.may_boot_until)
    } else {
        None
    };
    assert!(until.is_none_or(|until| until <= world.now), "given up before its boot-timeout: {transition:?}");
}

fn check_transition(
    world: &World,
    supervisor: &Supervisor,
    before: &BTreeMap<WorkerId, WorkerState>,
    transition: &Transition,
    witness: &mut Witness,
) {
    let (worker, slot, reason) = match transition {
        Transition::WorkerExited { worker, .. } => {
            assert!(witness.ended.insert(*worker), "{worker} ended twice");
            return;
        }
        Transition::WorkerStopping { worker, slot, reason } => (worker, slot, reason),
        Transition::WorkerStarted { .. }
        | Transition::WorkerReady { .. }
        | Transition::WorkerKilled { .. }
        | Transition::WorkerStuck { .. }
        | Transition::NobodyServes
        | Transition::SlotWaits { .. }
        | Transition::ReloadStarted { .. }
        | Transition::ReloadFinished { .. }
        | Transition::ReloadFailed { .. }
        | Transition::TargetChanged { .. }
        | Transition::LogsReopened
        | Transition::UpgradeStarted
        | Transition::UpgradeFailed { .. }
        | Transition::HandedOver
        | Transition::Orphaned
        | Transition::Answered { .. }
        | Transition::BecameReady
        | Transition::Stopping { .. } => return,
    };
    let was_ready = before.get(worker).is_some_and(|state| *state == WorkerState::Ready);
    match reason {
        Reason::Reload | Reason::MaxRequests | Reason::MaxAge | Reason::MaxMemory => {
            let replaced = supervisor.workers().any(|view| view.slot == *slot && view.state == WorkerState::Ready);
            assert!(!was_ready || replaced, "{worker} was healthy and has no replacement");
            if *reason != Reason::Reload {
                witness.renewals.push_back(world.now);
            }
        }
        Reason::Timeout => {
            let hung = world.processes.get(worker).is_none_or(|process| process.hung);
            assert!(hung || world.is_dying(*worker), "{worker} beats and was taken for hung");
        }
        Reason::Scale => {
            let enough = supervisor.ready() >= usize::from(witness.least_target);
            assert!(!was_ready || enough, "{worker} stood in for others and was stopped");
        }
        Reason::Crash
        | Reason::OutOfMemory
        | Reason::Left
        | Reason::BootFailure
        | Reason::BootTimeout
        | Reason::Replace
        | Reason::Stop => return,
    }
    // By its own orders the supervisor never takes the last one that serves away.
    let resting = witness.least_target == 0;
    assert!(!was_ready || *reason == Reason::Timeout || resting || supervisor.ready() > 0, "nobody is left who serves");
}

fn check_outcome(world: &World, outcome: &Outcome) {
    assert!(world.processes.values().all(|process| process.held), "somebody outlives the outcome");
    let serves = world.successor.as_ref().map(|successor| successor.in_charge);
    match outcome {
        // One that died right after it was given the service is not this supervisor's any more.
        Outcome::HandedOver => assert_ne!(serves, Some(false)),
        Outcome::Stopped
        | Outcome::AppNotLoaded { .. }
        | Outcome::WorkersNotBooting { .. }
        | Outcome::WorkersKeepFailing { .. } => assert_eq!(serves, None),
    }
}

/// Whether nothing is left to do but to go on.
fn is_settled(supervisor: &Supervisor) -> bool {
    let target = usize::from(supervisor.target());
    let beside = supervisor.workers().count() - supervisor.ready();
    let staffed = supervisor.ready() >= target && beside <= supervisor.being_renewed();
    let alone = !supervisor.succession.is_under_way() && !supervisor.succession.wanted;
    staffed && alone && supervisor.rollout == Rollout::Settled && supervisor.generations.len() == 1
}

/// One sequence: how it ended, and how many events it had.
fn simulate(seed: u64) -> (Outcome, u64) {
    let mut world = World::new(seed);
    let mut witness = Witness::default();
    let settings = world.settings();
    // Short ones mostly: they reach the same states, and there are more of them.
    let longest = 1 + Chance::new(seed ^ 0x5EED).below(WILD_TURNS_MAX);
    let wild_turns = world.chance.below(longest);
    let (mut supervisor, commands) = Supervisor::start(world.now(), settings);
    for command in commands {
        world.perform(command);
    }
    let ended = |world: &World, supervisor: &Supervisor, witness: &Witness| {
        let outcome = supervisor.outcome()?;
        check_outcome(world, outcome);
        Some((outcome.clone(), witness.events))
    };
    for _ in 0..wild_turns {
        if let Some(end) = ended(&world, &supervisor, &witness) {
            return end;
        }
        turn(&mut world, &mut supervisor, &mut witness);
    }
    world.kind = true;
    // Who rests does so until somebody asks for workers.
    world.plan(Duration::ZERO, Event::Asked(Wish::Scale(Scale::More(1))));
    for process in world.processes.values_mut() {
        process.obedient = true;
    }
    for _ in 0..KIND_TURNS {
        if is_settled(&supervisor) || supervisor.outcome().is_some() {
            break;
        }
        turn(&mut world, &mut supervisor, &mut witness);
    }
    assert!(is_settled(&supervisor) || supervisor.is_stopping(), "a kind world does not heal it: {supervisor:?}");
    world.plan(Duration::ZERO, Event::Asked(Wish::Stop(Haste::Graceful)));
    for _ in 0..KIND_TURNS {
        if let Some(end) = ended(&world, &supervisor, &witness) {
            return end;
        }
        turn(&mut world, &mut supervisor, &mut witness);
    }
    panic!("it never ends");
}

const OUTCOMES: [&str; 5] = ["stopped", "handed over", "app not loaded", "workers not booting", "workers keep failing"];

/// Every `step`th seed: how often each outcome came, and the events in all.
fn simulate_many(first: u64, end: u64, step: usize) -> ([u64; OUTCOMES.len()], u64) {
    let (mut outcomes, mut events) = ([0; OUTCOMES.len()], 0);
    for seed in (first..end).step_by(step) {
        let (outcome, had) = std::panic::catch_unwind(|| simulate(seed)).unwrap_or_else(|_| panic!("seed {seed}"));
        events += had;
        outcomes[match outcome {
            Outcome::Stopped => 0,
            Outcome::HandedOver => 1,
            Outcome::AppNotLoaded { .. } => 2,
            Outcome::WorkersNotBooting { .. } => 3,
            Outcome::WorkersKeepFailing { .. } => 4,
        }] += 1;
    }
    (outcomes, events)
}

#[test]
fn the_promises_hold_over_many_sequences() {
    let wanted = std::env::var("TUNINGFORK_SEQUENCES").ok();
    let sequences = wanted.map_or(SEQUENCES, |wanted| wanted.parse().expect("TUNINGFORK_SEQUENCES is a number"));
    let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let parts: Vec<_> = std::thread::scope(|scope| {
        let runs: Vec<_> =
            (0..threads as u64).map(|first| scope.spawn(move || simulate_many(first, sequences, threads))).collect();
        runs.into_iter().map(|run| run.join().expect("a promise is broken, see above")).collect()
    });
    let outcomes: Vec<u64> = (0..OUTCOMES.len()).map(|place| parts.iter().map(|(outcomes, _)| outcomes[place]).sum()).collect();
    let events: u64 = parts.iter().map(|(_, events)| events).sum();
    assert_eq!(outcomes.iter().sum::<u64>(), sequences);
    assert!(outcomes.iter().all(|count| *count > 0), "the seeds do not reach every outcome: {outcomes:?}");
    assert!(outcomes[0] + outcomes[1] > sequences / 2, "too few seeds live long: {outcomes:?}");
    let told = OUTCOMES.iter().zip(&outcomes).map(|(name, count)| format!("{count} {name}")).collect::<Vec<_>>().join(", ");
    // Past the test runner, which keeps what a test that passes prints.
    writeln!(std::io::stderr(), "supervisor: {sequences} random sequences, {events} events: {told}").expect("write to stderr");
}

#[test]
fn a_long_gap_in_time_kills_nobody() {
    let mut world = World::new(7);
    let mut witness = Witness::default();
    world.kind = true;
    let workers = Workers::folk(NonZeroU16::new(2).unwrap());
    let (mut supervisor, commands) = Supervisor::start(world.now(), Settings { workers, timing: TIMING, care: Care::default() });
    for command in commands {
        world.perform(command);
    }
    for _ in 0..200 {
        turn(&mut world, &mut supervisor, &mut witness);
    }
    let before: Vec<_> = supervisor.workers().collect();
    world.now = world.now.after(Duration::from_hours(8));
    for _ in 0..200 {
        turn(&mut world, &mut supervisor, &mut witness);
    }
    assert_eq!(supervisor.workers().collect::<Vec<_>>(), before);
}
