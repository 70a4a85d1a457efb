//! What becomes of a wish. Each is a level: asked for twice before it is done, it is done once. Edits what is wished for; orders nothing.

use super::event::{Answer, Granted, Refusal, Scale, Transition, Wish};
use super::{Outcome, Rollout, Supervisor};
use crate::units::{WorkerId, Workers};

/// Why a reload comes to nothing while the service rests.
pub(super) const NOBODY_TRIES: &str =
    "the service rests, so no worker can try the new generation; reload once more, which ends the rest";

/// What was asked for while a configuration is loaded that says another number of workers: so many instead, and so many more or fewer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Edit {
    to: Option<u16>,
    by: i32,
}

impl Edit {
    /// One wish more.
    const fn and(self, scale: Scale) -> Self {
        match scale {
            Scale::To(workers) => Self { to: Some(workers.get()), by: 0 },
            Scale::More(count) => Self { by: self.by.saturating_add(count as i32), ..self },
            Scale::Fewer(count) => Self { by: self.by.saturating_sub(count as i32), ..self },
        }
    }

    /// What becomes of a number of workers.
    pub(super) fn of(self, workers: u16) -> u16 {
        u16::try_from(self.wished(workers).clamp(1, i32::from(Workers::MAX))).unwrap_or(Workers::MAX)
    }

    /// Whether that is less, or more, than what was asked for.
    fn exceeds(self, workers: u16) -> bool {
        !(1..=i32::from(Workers::MAX)).contains(&self.wished(workers))
    }

    fn wished(self, workers: u16) -> i32 {
        i32::from(self.to.unwrap_or(workers)).saturating_add(self.by)
    }
}

impl Supervisor {
    pub(super) fn wish(&mut self, wish: Wish) -> Answer {
        if self.is_stopping() && !matches!(wish, Wish::Stop(_) | Wish::ReopenLogs) {
            return Err(Refusal::Stopping);
        }
        match wish {
            Wish::Reload => {
                self.end_rest();
                self.reload_wanted = true;
                Ok(Granted::By(self.newest.next()))
            }
            Wish::Scale(scale) => Ok(self.scale(scale)),
            Wish::Rest => Ok(self.rest()),
            Wish::ReopenLogs => {
                self.reopen_wanted = true;
                Ok(Granted::Now)
            }
            Wish::Upgrade => {
                self.wish_for_upgrade();
                Ok(Granted::Now)
            }
            Wish::Replace(worker) => self.replace(worker),
            Wish::Stop(haste) => {
                self.stop(haste, Outcome::Stopped);
                Ok(Granted::Now)
            }
        }
    }

    /// Edits the wished number: during a reload also the one that will apply when it has finished.
    fn scale(&mut self, scale: Scale) -> Granted {
        if self.resting.is_some() && matches!(scale, Scale::Fewer(_)) {
            return Granted::Target(self.target);
        }
        self.resting = None;
        let one = Edit::default().and(scale);
        match &mut self.rollout {
            Rollout::Settled => {}
            Rollout::Preparing { edit, .. } => *edit = edit.and(scale),
            Rollout::Rolling { asked, .. } => *asked = one.of(*asked),
        }
        let limited = one.exceeds(self.target);
        self.set_target(one.of(self.target));
        if limited { Granted::Limited(self.target) } else { Granted::Target(self.target) }
    }

    /// No worker is wanted until somebody asks for some. A reload ends: nobody could prove its generation.
    fn rest(&mut self) -> Granted {
        if self.resting.is_none() {
            self.take_back(NOBODY_TRIES);
            self.resting = Some(self.target);
            self.set_target(0);
        }
        Granted::Target(self.target)
    }

    /// The workers that were there before come back.
    fn end_rest(&mut self) {
        if let Some(before) = self.resting.take() {
            self.set_target(before);
        }
    }

    fn replace(&mut self, worker: WorkerId) -> Answer {
        match self.workers.get(&worker) {
            None => Err(Refusal::NoSuchWorker(worker)),
            Some(stuck) if stuck.is_stuck() => Err(Refusal::Stuck(worker)),
            Some(leaving) if !leaving.in_service() => Err(Refusal::Leaving(worker)),
            Some(_) => {
                self.replaced.insert(worker);
                Ok(Granted::Now)
            }
        }
    }

    pub(super) fn set_target(&mut self, target: u16) {
        if target != self.target {
            self.target = target;
            self.backoff.retain(|slot, _| slot.0 < target);
            self.transitions.push(Transition::TargetChanged { target });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Phase;
    use super::super::event::{Command, Event, Exit, Settings};
    use super::*;
    use crate::config::{Care, Timing};
    use crate::units::{Generation, Moment};

    fn at(seconds: u64) -> Moment {
        Moment::from_nanos(seconds * 1_000_000_000)
    }

    fn settings(workers: u16) -> Settings {
        let timing =
            Timing { graceful_timeout: Duration::from_secs(30), timeout: Duration::ZERO, boot_timeout: Duration::from_mins(10) };
        Settings { workers: Workers::new(workers.into()).unwrap(), timing, care: Care::default() }
    }

    fn loaded(generation: u32, workers: u16) -> Event {
        Event::Prepared { generation: Generation(generation), settings: settings(workers) }
    }

    fn scale(scale: Scale) -> Event {
        Event::Asked(Wish::Scale(scale))
    }

    fn play(supervisor: &mut Supervisor, events: impl IntoIterator<Item = Event>) -> Vec<Command> {
        (1..).zip(events).flat_map(|(second, event)| supervisor.handle(at(second), event)).collect()
    }

    fn serving() -> Supervisor {
        let (mut supervisor, _) = Supervisor::start(at(0), settings(1));
        play(&mut supervisor, [loaded(1, 1), Event::BecameReady { worker: WorkerId(1) }]);
        supervisor
    }

    /// What becomes of an order where all goes well.
    fn answer(order: &Command) -> Option<Event> {
        if let Command::Spawn { worker, .. } = *order {
            return Some(Event::BecameReady { worker });
        }
        let Command::Terminate { worker } = *order else { return None };
        Some(Event::Exited { worker, exit: Exit::Code(0) })
    }

    fn failures(supervisor: &mut Supervisor) -> usize {
        let told = supervisor.take_transitions();
        told.iter().filter(|told| matches!(told, Transition::ReloadFailed { .. } | Transition::UpgradeFailed { .. })).count()
    }

    #[test]
    fn what_is_asked_for_while_a_reload_loads_holds_when_it_has_finished() {
        for (wishes, then) in [
            (vec![Scale::More(1), Scale::More(1)], 5),
            (vec![Scale::To(Workers::new(2).unwrap()), Scale::More(2)], 4),
            (vec![Scale::Fewer(9)], 1),
            (vec![], 3),
        ] {
            let mut supervisor = serving();
            let wishes = wishes.into_iter().map(scale);
            let ordered = play(&mut supervisor, [Event::Asked(Wish::Reload)].into_iter().chain(wishes));
            let mut answers: Vec<_> = ordered.into_iter().filter_map(|order| answer(&order)).chain([loaded(2, 3)]).collect();
            for second in 100..400 {
                let event = answers.pop().unwrap_or(Event::Woke);
                answers.extend(supervisor.handle(at(second), event).into_iter().filter_map(|order| answer(&order)));
            }
            assert_eq!((supervisor.phase(), supervisor.target()), (Phase::Running, then));
        }
        let (mut supervisor, _) = Supervisor::start(at(0), settings(1));
        play(&mut supervisor, [scale(Scale::More(3)), loaded(1, 2)]);
        assert_eq!(supervisor.target(), 5);
    }

    #[test]
    fn who_asks_for_more_or_fewer_than_there_can_be_is_told() {
        let mut supervisor = serving();
        for (scale, granted) in [
            (Scale::More(2), Granted::Target(3)),
            (Scale::Fewer(2), Granted::Target(1)),
            (Scale::Fewer(1), Granted::Limited(1)),
            (Scale::More(Workers::MAX), Granted::Limited(Workers::MAX)),
        ] {
            assert_eq!(supervisor.wish(Wish::Scale(scale)), Ok(granted));
        }
    }

    #[test]
    fn only_who_serves_or_is_about_to_is_replaced() {
        let mut supervisor = serving();
        let replace = |supervisor: &mut Supervisor| supervisor.wish(Wish::Replace(WorkerId(1)));
        assert_eq!(supervisor.wish(Wish::Replace(WorkerId(9))), Err(Refusal::NoSuchWorker(WorkerId(9))));
        assert_eq!(replace(&mut supervisor), Ok(Granted::Now));
        assert_eq!(supervisor.handle(at(3), Event::Woke)[0], Command::Terminate { worker: WorkerId(1) });
        assert_eq!(replace(&mut supervisor), Err(Refusal::Leaving(WorkerId(1))));
        assert_eq!(supervisor.handle(at(33), Event::Woke), [Command::Kill { worker: WorkerId(1) }]);
        assert_eq!(replace(&mut supervisor), Err(Refusal::Leaving(WorkerId(1))));
        supervisor.handle(at(38), Event::Woke);
        assert_eq!(replace(&mut supervisor), Err(Refusal::Stuck(WorkerId(1))));
    }

    #[test]
    fn a_rest_ends_a_reload() {
        let (reload, rest) = (Event::Asked(Wish::Reload), Event::Asked(Wish::Rest));
        for events in [[reload.clone(), loaded(2, 1), rest.clone()], [reload.clone(), rest.clone(), loaded(2, 1)]] {
            let mut supervisor = serving();
            play(&mut supervisor, events);
            assert_eq!((failures(&mut supervisor), supervisor.phase()), (1, Phase::Resting));
            assert_eq!(supervisor.generation(), Generation(1));
            play(&mut supervisor, [reload.clone(), loaded(3, 1)]);
            assert_eq!((supervisor.target(), supervisor.generation()), (1, Generation(3)));
        }
    }

    #[test]
    fn a_rest_during_the_start_lasts() {
        let (mut supervisor, _) = Supervisor::start(at(0), settings(1));
        play(&mut supervisor, [Event::Asked(Wish::Rest), loaded(1, 2)]);
        assert_eq!((supervisor.target(), supervisor.workers().count()), (0, 0));
        play(&mut supervisor, [Event::Asked(Wish::Reload)]);
        assert_eq!(supervisor.target(), 2);
    }

    #[test]
    fn an_upgrade_does_not_end_a_rest() {
        let (upgrade, rest) = (Event::Asked(Wish::Upgrade), Event::Asked(Wish::Rest));
        for events in [[rest.clone(), upgrade.clone(), Event::Woke], [upgrade, rest, Event::SuccessorReady]] {
            let mut supervisor = serving();
            play(&mut supervisor, events);
            assert_eq!((failures(&mut supervisor), supervisor.phase()), (1, Phase::Resting));
        }
    }
}
