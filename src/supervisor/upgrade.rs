//! The exchange of the supervisor's own program. A successor is started beside us, on the same sockets; when all its workers
//! serve it gets the service, and we stop as if we were told to. Decides when one is started, how long it may take and when it is
//! ended; whatever goes wrong before that, we stay in charge with all our workers.
//!
//! One at a time, and none while the service rests, a reload is under way or our own predecessor has not left. A reload wished
//! for meanwhile is made afterwards, by whoever is in charge then. While both are there, both sets of workers are in memory.

use std::time::Duration;

use super::event::{Command, Haste, Transition};
use super::{Outcome, QUICK_GRACE, Rollout, Supervisor};
use crate::units::Moment;

/// How often boot-timeout fits into the time that a successor has: it loads the application, then its workers boot.
const PATIENCE: u32 = 2;
/// What a successor that has to go gets beside the time of its workers.
const FAREWELL: Duration = Duration::from_secs(2);

/// Why there is no upgrade while the service rests.
const RESTS: &str =
    "the service rests, and the new program would start workers; end the rest first (HUP, or `tuningfork ctl scale`)";

/// Where an upgrade stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Upgrade {
    /// None is under way.
    #[default]
    Idle,
    /// The successor boots.
    Starting { give_up_at: Moment },
    /// It serves: the service is to be its.
    Proven,
    /// It is being told so.
    Offered,
    /// It was told to leave.
    Ending { haste: Haste, kill_at: Moment },
    /// It did not leave in time.
    Killed,
    /// It has the service.
    Done,
}

/// A supervisor's place in the row of those that exchange each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Succession {
    pub(super) upgrade: Upgrade,
    pub(super) wanted: bool,
    /// Whose place we took has not left.
    pub(super) preceded: bool,
}

impl Succession {
    /// When something has to be done about the successor if nothing is heard of it.
    pub(super) const fn deadline(&self) -> Option<Moment> {
        match self.upgrade {
            Upgrade::Starting { give_up_at: due } | Upgrade::Ending { kill_at: due, .. } => Some(due),
            Upgrade::Idle | Upgrade::Proven | Upgrade::Offered | Upgrade::Killed | Upgrade::Done => None,
        }
    }

    /// Gives back the time in which nobody listened.
    pub(super) fn forgive(&mut self, lost: Duration) {
        if let Upgrade::Starting { give_up_at: due } | Upgrade::Ending { kill_at: due, .. } = &mut self.upgrade {
            *due = due.after(lost);
        }
    }

    /// Whether a successor is there that is ours to end.
    pub(super) const fn is_under_way(&self) -> bool {
        match self.upgrade {
            Upgrade::Starting { .. } | Upgrade::Proven | Upgrade::Offered | Upgrade::Ending { .. } | Upgrade::Killed => true,
            Upgrade::Idle | Upgrade::Done => false,
        }
    }
}

impl Supervisor {
    /// A wish. During an upgrade it is the same wish.
    pub(super) const fn wish_for_upgrade(&mut self) {
        if matches!(self.succession.upgrade, Upgrade::Idle | Upgrade::Ending { .. } | Upgrade::Killed) {
            self.succession.wanted = true;
        }
    }

    /// It may take as long as its own configuration says: ours may be what is to be mended.
    pub(super) fn successor_began(&mut self, now: Moment, boot_timeout: Duration) {
        if let Upgrade::Starting { give_up_at } = &mut self.succession.upgrade {
            *give_up_at = now.after(boot_timeout.saturating_mul(PATIENCE));
        }
    }

    pub(super) const fn successor_is_ready(&mut self) {
        if let Upgrade::Starting { .. } = self.succession.upgrade {
            self.succession.upgrade = Upgrade::Proven;
        }
    }

    /// The successor has ended, or could not be started.
    pub(super) fn successor_has_ended(&mut self, reason: String) {
        match self.succession.upgrade {
            Upgrade::Starting { .. } | Upgrade::Proven | Upgrade::Offered => {
                self.succession.upgrade = Upgrade::Idle;
                self.transitions.push(Transition::UpgradeFailed { reason });
            }
            // That it failed was told when it was told to leave.
            Upgrade::Ending { .. } | Upgrade::Killed => self.succession.upgrade = Upgrade::Idle,
            Upgrade::Idle | Upgrade::Done => {}
        }
    }

    /// A successor that is late, or would end a rest of which it does not know.
    pub(super) fn judge_successor(&mut self, now: Moment, orders: &mut Vec<Command>) {
        if self.resting.is_some() && matches!(self.succession.upgrade, Upgrade::Starting { .. } | Upgrade::Proven) {
            self.transitions.push(Transition::UpgradeFailed { reason: RESTS.to_owned() });
            return self.tell_successor_to_leave(now, Haste::Graceful, orders);
        }
        if self.succession.deadline().is_none_or(|due| due > now) {
            return;
        }
        match self.succession.upgrade {
            Upgrade::Starting { .. } => {
                let reason = "the new program was not ready within twice boot-timeout".to_owned();
                self.transitions.push(Transition::UpgradeFailed { reason });
                self.tell_successor_to_leave(now, Haste::Graceful, orders);
            }
            Upgrade::Ending { .. } => {
                self.succession.upgrade = Upgrade::Killed;
                orders.push(Command::KillSuccessor);
            }
            Upgrade::Idle | Upgrade::Proven | Upgrade::Offered | Upgrade::Killed | Upgrade::Done => {}
        }
    }

    /// Its workers may have accepted requests, so it gets the time to answer them.
    fn tell_successor_to_leave(&mut self, now: Moment, haste: Haste, orders: &mut Vec<Command>) {
        let patience = match haste {
            Haste::Graceful => self.settings_of(self.wanted).timing.graceful_timeout,
            Haste::Quick => QUICK_GRACE,
        };
        self.succession.upgrade = Upgrade::Ending { haste, kill_at: now.after(patience.saturating_add(FAREWELL)) };
        orders.push(Command::EndSuccessor { haste });
    }

    /// One that serves gets the service. Nobody leaves before it has heard that: it may have died meanwhile.
    pub(super) fn hand_over(&mut self, orders: &mut Vec<Command>) {
        if self.succession.upgrade != Upgrade::Proven || self.is_stopping() {
            return;
        }
        self.succession.upgrade = Upgrade::Offered;
        orders.push(Command::HandOver { then_reload: self.reload_wanted });
    }

    /// The successor has the service, and we stop.
    pub(super) fn handed_over(&mut self) {
        if self.succession.upgrade == Upgrade::Offered {
            self.succession.upgrade = Upgrade::Done;
            self.transitions.push(Transition::HandedOver);
            self.stop(Haste::Graceful, Outcome::HandedOver);
        }
    }

    /// The service went with our predecessor: whoever is in charge of it, if anybody, starts it anew.
    pub(super) fn orphaned(&mut self) {
        self.succession.preceded = false;
        self.transitions.push(Transition::Orphaned);
        self.stop(Haste::Graceful, Outcome::Stopped);
    }

    /// A wished upgrade begins when nothing else is under way.
    pub(super) fn begin_upgrade(&mut self, now: Moment, orders: &mut Vec<Command>) {
        if self.succession.wanted && self.resting.is_some() {
            self.succession.wanted = false;
            self.transitions.push(Transition::UpgradeFailed { reason: RESTS.to_owned() });
        }
        let free = self.succession.upgrade == Upgrade::Idle && !self.succession.preceded;
        let settled = self.announced && self.rollout == Rollout::Settled && !self.reload_wanted;
        if !self.succession.wanted || !free || !settled {
            return;
        }
        self.succession.wanted = false;
        let patience = self.settings_of(self.wanted).timing.boot_timeout.saturating_mul(PATIENCE);
        self.succession.upgrade = Upgrade::Starting { give_up_at: now.after(patience) };
        self.transitions.push(Transition::UpgradeStarted);
        orders.push(Command::StartSuccessor);
    }

    /// A stop is meant for whoever would serve next, too.
    pub(super) fn end_successor(&mut self, now: Moment, haste: Haste, orders: &mut Vec<Command>) {
        match self.succession.upgrade {
            Upgrade::Starting { .. } | Upgrade::Proven => {
                self.transitions.push(Transition::UpgradeFailed { reason: "the service is stopped".to_owned() });
                self.tell_successor_to_leave(now, haste, orders);
            }
            Upgrade::Ending { haste: Haste::Graceful, .. } if haste == Haste::Quick => {
                self.tell_successor_to_leave(now, haste, orders);
            }
            Upgrade::Idle | Upgrade::Offered | Upgrade::Ending { .. } | Upgrade::Killed | Upgrade::Done => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::{Event, Exit, Settings, Wish};
    use super::*;
    use crate::config::{Care, Timing};
    use crate::units::{Generation, WorkerId, Workers};

    fn at(seconds: u64) -> Moment {
        Moment::from_nanos(seconds * 1_000_000_000)
    }

    fn settings() -> Settings {
        let timing =
            Timing { graceful_timeout: Duration::from_secs(30), timeout: Duration::ZERO, boot_timeout: Duration::from_secs(10) };
        Settings { workers: Workers::new(1).unwrap(), timing, care: Care::default() }
    }

    /// A supervisor whose one worker serves.
    fn serving() -> Supervisor {
        let (mut supervisor, _) = Supervisor::start(at(0), settings());
        supervisor.handle(at(1), Event::Prepared { generation: Generation(1), settings: settings() });
        supervisor.handle(at(1), Event::BecameReady { worker: WorkerId(1) });
        supervisor
    }

    fn wish(wish: Wish) -> Event {
        Event::Asked(wish)
    }

    fn ended() -> Event {
        Event::SuccessorEnded { reason: "exit code 1".to_owned() }
    }

    /// What each event, at its second, makes it order.
    fn play(supervisor: &mut Supervisor, events: Vec<(u64, Event)>) -> Vec<Vec<Command>> {
        events.into_iter().map(|(second, event)| supervisor.handle(at(second), event)).collect()
    }

    #[test]
    fn a_successor_that_serves_gets_the_service_and_we_stop() {
        let mut supervisor = serving();
        let told = vec![(9, Event::SuccessorReady), (9, Event::HandedOver)];
        let ordered = play(&mut supervisor, [vec![(2, wish(Wish::Upgrade)), (3, wish(Wish::Upgrade))], told].concat());
        let (over, leave) = (Command::HandOver { then_reload: false }, Command::Terminate { worker: WorkerId(1) });
        assert_eq!(ordered, [vec![Command::StartSuccessor], vec![], vec![over], vec![leave]]);
        assert!(supervisor.take_transitions().contains(&Transition::HandedOver));
        assert_eq!(supervisor.outcome(), None);
        // Its end is no matter of ours any more.
        play(&mut supervisor, vec![(10, ended()), (11, Event::Exited { worker: WorkerId(1), exit: Exit::Code(0) })]);
        assert_eq!(supervisor.outcome(), Some(&Outcome::HandedOver));
    }

    #[test]
    fn one_that_ends_or_is_late_changes_nothing() {
        let mut supervisor = serving();
        let ordered = play(&mut supervisor, vec![(2, wish(Wish::Upgrade)), (3, ended())]);
        assert_eq!(ordered, [vec![Command::StartSuccessor], vec![]]);
        let ordered =
            play(&mut supervisor, vec![(4, wish(Wish::Upgrade)), (23, Event::Woke), (24, Event::Woke), (56, Event::Woke)]);
        let end = vec![Command::EndSuccessor { haste: Haste::Graceful }];
        assert_eq!(ordered, [vec![Command::StartSuccessor], vec![], end, vec![Command::KillSuccessor]]);
        // A wish for another waits until it is gone; what the late one says by then is not heard.
        let late = vec![(57, Event::SuccessorReady), (57, wish(Wish::Upgrade)), (58, ended())];
        assert_eq!(play(&mut supervisor, late), [vec![], vec![], vec![Command::StartSuccessor]]);
        let failures = supervisor.take_transitions();
        let failed = failures.iter().filter(|transition| matches!(transition, Transition::UpgradeFailed { .. })).count();
        assert_eq!((failed, supervisor.ready()), (2, 1));
    }

    #[test]
    fn one_may_take_as_long_as_its_own_configuration_says() {
        for (seconds, given_up_at) in [(60, 123), (2, 7)] {
            let mut supervisor = serving();
            let began = Event::SuccessorBegan { boot_timeout: Duration::from_secs(seconds) };
            let late = vec![(3, began), (given_up_at - 1, Event::Woke), (given_up_at, Event::Woke)];
            let ordered = play(&mut supervisor, [vec![(2, wish(Wish::Upgrade))], late].concat());
            assert_eq!(ordered[1..], [vec![], vec![], vec![Command::EndSuccessor { haste: Haste::Graceful }]]);
        }
    }

    #[test]
    fn one_that_dies_when_it_is_to_get_the_service_changes_nothing() {
        let mut supervisor = serving();
        let ordered = play(&mut supervisor, vec![(2, wish(Wish::Upgrade)), (9, Event::SuccessorReady), (9, ended())]);
        assert_eq!(ordered[1..], [vec![Command::HandOver { then_reload: false }], vec![]]);
        let failed = |transition: &Transition| matches!(transition, Transition::UpgradeFailed { .. });
        assert!(supervisor.take_transitions().iter().any(failed));
        assert!(!supervisor.is_stopping());
        // Nobody is there who could have it.
        play(&mut supervisor, vec![(10, Event::HandedOver)]);
        assert_eq!((supervisor.ready(), supervisor.is_stopping()), (1, false));
    }

    #[test]
    fn reloads_and_upgrades_take_turns() {
        let mut supervisor = serving();
        let reload = Command::Prepare { generation: Generation(2) };
        let failed = Event::PrepareFailed { generation: Generation(2), reason: "no".to_owned() };
        let ordered = play(&mut supervisor, vec![(2, wish(Wish::Reload)), (3, wish(Wish::Upgrade)), (4, failed)]);
        assert_eq!(ordered, [vec![reload], vec![], vec![Command::StartSuccessor]]);
        let ordered = play(&mut supervisor, vec![(5, wish(Wish::Reload)), (6, Event::SuccessorReady)]);
        assert_eq!(ordered[0], []);
        assert_eq!(ordered[1][0], Command::HandOver { then_reload: true });
    }

    #[test]
    fn none_begins_while_the_predecessor_has_not_left() {
        let mut supervisor = serving();
        let ordered = play(&mut supervisor, vec![(2, Event::Preceded), (3, wish(Wish::Upgrade)), (4, Event::PredecessorLeft)]);
        assert_eq!(ordered, [vec![], vec![], vec![Command::StartSuccessor]]);
    }

    #[test]
    fn who_has_lost_its_predecessor_before_it_had_the_service_leaves() {
        let mut supervisor = serving();
        let ordered = play(&mut supervisor, vec![(2, Event::Preceded), (3, Event::Orphaned)]);
        assert_eq!(ordered[1], [Command::Terminate { worker: WorkerId(1) }]);
        assert!(supervisor.take_transitions().contains(&Transition::Orphaned));
        play(&mut supervisor, vec![(4, Event::Exited { worker: WorkerId(1), exit: Exit::Code(0) })]);
        assert_eq!(supervisor.outcome(), Some(&Outcome::Stopped));
    }

    #[test]
    fn a_stop_is_for_the_successor_too_and_waits_for_it() {
        let mut supervisor = serving();
        let stops = vec![(2, wish(Wish::Upgrade)), (3, wish(Wish::Stop(Haste::Graceful))), (4, wish(Wish::Stop(Haste::Quick)))];
        let ordered = play(&mut supervisor, stops);
        assert_eq!(ordered[1][0], Command::EndSuccessor { haste: Haste::Graceful });
        assert_eq!(ordered[2][0], Command::EndSuccessor { haste: Haste::Quick });
        play(&mut supervisor, vec![(5, Event::Exited { worker: WorkerId(1), exit: Exit::Code(0) })]);
        assert_eq!(supervisor.outcome(), None);
        play(&mut supervisor, vec![(6, ended())]);
        assert_eq!(supervisor.outcome(), Some(&Outcome::Stopped));
    }

    #[test]
    fn who_was_suspended_does_not_blame_the_successor() {
        let mut supervisor = serving();
        let ordered = play(&mut supervisor, vec![(2, wish(Wish::Upgrade)), (9_000, Event::SuccessorReady)]);
        assert!(matches!(ordered[1][0], Command::HandOver { .. }));
    }
}
