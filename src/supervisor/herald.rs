//! What a service manager is told, and when: readiness, reloads, the end, one line of status, signs of life, and how much longer what is
//! under way may take. Refuses to say that all is well while the core is behind with its own decisions.

use std::time::Duration;

use super::event::Transition;
use super::worker::Life;
use super::{Mode, Rollout, SUSPENDED, Supervisor};
use crate::units::Moment;

/// The pause between two lines of status: systemd logs each.
const STATUS_PAUSE: Duration = Duration::from_secs(1);
/// What an extension adds to the latest moment at which something must have ended: for the turn that ends it, and its news.
const MARGIN: Duration = Duration::from_secs(5);

/// Something to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// READY=1
    Ready,
    /// RELOADING=1
    Reloading,
    /// STOPPING=1
    Stopping,
    /// WATCHDOG=1
    Alive,
    /// STATUS=
    Status(String),
    /// EXTEND_TIMEOUT_USEC=
    Extend(Duration),
}

/// Remembers what was told.
#[derive(Clone, Debug, Default)]
pub struct Herald {
    /// How often a sign of life is wanted.
    watchdog: Option<Duration>,
    alive_at: Option<Moment>,
    status: String,
    status_at: Option<Moment>,
    untold: bool,
    extended_to: Option<Moment>,
    reload_failed: bool,
    upgrade_failed: bool,
}

impl Herald {
    /// One that has told nothing. It gives a sign of life each `watchdog`.
    #[must_use]
    pub fn new(watchdog: Option<Duration>) -> Self {
        Self { watchdog, ..Self::default() }
    }

    /// Told nothing yet to whoever listens now.
    pub fn begin_anew(&mut self) {
        *self = Self { reload_failed: self.reload_failed, ..Self::new(self.watchdog) };
    }

    /// What to tell after a turn of the main loop, in this order.
    pub fn turn(&mut self, now: Moment, supervisor: &Supervisor, transitions: &[Transition]) -> Vec<Notice> {
        let mut notices: Vec<Notice> = transitions.iter().filter_map(|transition| self.of_transition(transition)).collect();
        self.extend(now, supervisor, &mut notices);
        self.tell_status(now, supervisor, &mut notices);
        if self.alive_due().is_some_and(|due| due <= now) {
            self.alive_at = Some(now);
            notices.extend(supervisor.keeps_up(now).then_some(Notice::Alive));
        }
        notices
    }

    /// When [`Self::turn`] is to be called again even if nothing happens.
    #[must_use]
    pub fn deadline(&self) -> Option<Moment> {
        let status = self.status_at.filter(|_| self.untold).map(|at| at.after(STATUS_PAUSE));
        self.alive_due().into_iter().chain(status).min()
    }

    fn alive_due(&self) -> Option<Moment> {
        self.watchdog.map(|pause| self.alive_at.map_or(Moment::default(), |at| at.after(pause)))
    }

    fn of_transition(&mut self, transition: &Transition) -> Option<Notice> {
        match transition {
            Transition::BecameReady => Some(Notice::Ready),
            Transition::ReloadStarted { .. } => Some(Notice::Reloading),
            // The service goes on serving either way; without this it would be "reloading" for ever.
            Transition::ReloadFinished { .. } => {
                self.reload_failed = false;
                Some(Notice::Ready)
            }
            Transition::ReloadFailed { .. } => {
                self.reload_failed = true;
                Some(Notice::Ready)
            }
            Transition::Stopping { .. } => Some(Notice::Stopping),
            Transition::UpgradeFailed { .. } => {
                self.upgrade_failed = true;
                None
            }
            Transition::UpgradeStarted => {
                self.upgrade_failed = false;
                None
            }
            Transition::WorkerStarted { .. }
            | Transition::WorkerReady { .. }
            | Transition::WorkerStopping { .. }
            | Transition::WorkerKilled { .. }
            | Transition::WorkerStuck { .. }
            | Transition::NobodyServes
            | Transition::WorkerExited { .. }
            | Transition::SlotWaits { .. }
            | Transition::HandedOver
            | Transition::Orphaned
            | Transition::LogsReopened
            | Transition::Answered { .. }
            | Transition::TargetChanged { .. } => None,
        }
    }

    /// A start, a reload and a stop are given the time that the configuration gives them. Each has an end that the core sees to, so a
    /// service that hangs is not kept for ever.
    fn extend(&mut self, now: Moment, supervisor: &Supervisor, notices: &mut Vec<Notice>) {
        let Some(until) = supervisor.busy_until() else {
            self.extended_to = None;
            return;
        };
        if self.extended_to.is_none_or(|told| told < until) {
            self.extended_to = Some(until);
            notices.push(Notice::Extend(until.since(now).saturating_add(MARGIN)));
        }
    }

    fn tell_status(&mut self, now: Moment, supervisor: &Supervisor, notices: &mut Vec<Notice>) {
        let status = self.status_line(supervisor);
        self.untold = status != self.status;
        let rested = self.status_at.is_none_or(|at| now >= at.after(STATUS_PAUSE));
        if self.untold && rested {
            self.untold = false;
            self.status_at = Some(now);
            self.status.clone_from(&status);
            notices.push(Notice::Status(status));
        }
    }

    fn status_line(&self, supervisor: &Supervisor) -> String {
        if supervisor.is_stopping() {
            let left = supervisor.workers.len();
            return format!("stopping, {left} worker{} left", if left == 1 { "" } else { "s" });
        }
        let doing = if !supervisor.is_announced() {
            "starting, "
        } else if supervisor.is_reloading() {
            "reloading, "
        } else if supervisor.succession.is_under_way() {
            "upgrading, "
        } else {
            ""
        };
        let waiting = match supervisor.waiting().count() {
            0 => String::new(),
            waiting => format!(", {waiting} wait after failures"),
        };
        let failed = match (self.reload_failed, self.upgrade_failed) {
            (true, _) => "; the last reload failed, the log says why",
            (false, true) => "; the last upgrade failed, the log says why",
            (false, false) => "",
        };
        let barren = if supervisor.is_barren() { "; they keep failing, one is tried at a time" } else { "" };
        let (ready, target) = (supervisor.ready(), supervisor.target());
        let workers = if ready > usize::from(target) {
            // While they are exchanged.
            format!("{ready} workers ready, {target} wanted")
        } else {
            format!("{ready} of {target} workers ready")
        };
        format!("{doing}{workers}{barren}{waiting}{failed}")
    }
}

impl Supervisor {
    /// The latest moment at which what is known to be under way of a start, a reload or a stop has ended; `None` if nothing is.
    fn busy_until(&self) -> Option<Moment> {
        if self.is_announced() && !self.is_reloading() && !self.is_stopping() {
            return None;
        }
        let loading = match self.rollout {
            Rollout::Preparing { give_up_at, .. } => Some(give_up_at),
            Rollout::Settled | Rollout::Rolling { .. } => None,
        };
        let lives = self.workers.values().filter_map(|worker| match worker.life {
            Life::Starting { give_up_at: until, .. }
            | Life::Stopping { kill_at: until, .. }
            | Life::Quitting { kill_at: until, .. }
            | Life::Aborting { kill_at: until, .. }
            | Life::Killed { stuck_at: until, .. } => Some(until),
            Life::Ready { .. } | Life::Stuck { .. } => None,
        });
        let patience = self.generations.get(&self.wanted).map_or(Duration::ZERO, |settings| settings.timing.boot_timeout);
        let waits =
            self.empty_slots().filter_map(|slot| self.backoff.get(&slot)).map(|record| record.not_before().after(patience));
        let trial = self.trial_ends();
        loading.into_iter().chain(lives).chain(waits).chain(trial).chain(self.succession.deadline()).max()
    }

    /// Whether the core does what is due. It is asked after a turn, so that only a core that is stuck is behind.
    fn keeps_up(&self, now: Moment) -> bool {
        self.deadline().is_none_or(|due| now.since(due) <= SUSPENDED)
    }

    /// Whether the start is over and every wanted worker serves.
    #[must_use]
    pub fn serves_in_full(&self) -> bool {
        self.is_announced() && self.ready() >= usize::from(self.target)
    }

    /// Whether all wanted workers were ready once.
    const fn is_announced(&self) -> bool {
        self.announced
    }

    /// Whether one generation takes the place of another.
    fn is_reloading(&self) -> bool {
        self.mode == Mode::Running && self.rollout != Rollout::Settled
    }
}

#[cfg(test)]
mod tests {
    use super::super::event::{Command, Event, Exit, Haste, Settings, Wish};
    use super::*;
    use crate::config::{Care, Timing};
    use crate::units::{Generation, WorkerId, Workers};

    fn settings() -> Settings {
        let timing = Timing {
            graceful_timeout: Duration::from_secs(30),
            timeout: Duration::from_secs(30),
            boot_timeout: Duration::from_mins(2),
        };
        Settings { workers: Workers::new(1).unwrap(), timing, care: Care::default() }
    }

    fn at(millis: u64) -> Moment {
        Moment::from_nanos(millis * 1_000_000)
    }

    struct Stage {
        herald: Herald,
        supervisor: Supervisor,
    }

    impl Stage {
        fn begun() -> (Self, Vec<Notice>) {
            let (supervisor, _) = Supervisor::start(at(0), settings());
            let mut stage = Self { herald: Herald::new(Some(Duration::from_secs(5))), supervisor };
            let told = stage.herald.turn(at(0), &stage.supervisor, &[]);
            (stage, told)
        }

        fn ready() -> Self {
            let (mut stage, _) = Self::begun();
            stage.hear(1_000, Event::Prepared { generation: Generation(1), settings: settings() });
            stage.hear(3_000, Event::BecameReady { worker: WorkerId(1) });
            stage
        }

        fn hear(&mut self, millis: u64, event: Event) -> Vec<Notice> {
            let _: Vec<Command> = self.supervisor.handle(at(millis), event);
            let transitions = self.supervisor.take_transitions();
            self.herald.turn(at(millis), &self.supervisor, &transitions)
        }
    }

    fn status(line: &str) -> Notice {
        Notice::Status(line.to_owned())
    }

    fn secs(seconds: u64) -> Notice {
        Notice::Extend(Duration::from_secs(seconds))
    }

    #[test]
    fn a_slow_start_is_given_the_time_of_its_boot_timeout_and_ready_is_told_once() {
        let (mut stage, told) = Stage::begun();
        assert_eq!(told, [secs(125), status("starting, 0 of 1 workers ready"), Notice::Alive]);
        // The worker has boot-timeout of its own.
        let told = stage.hear(60_000, Event::Prepared { generation: Generation(1), settings: settings() });
        assert_eq!(told, [secs(125), Notice::Alive]);
        assert_eq!(stage.hear(61_000, Event::Woke), []);
        let told = stage.hear(170_000, Event::BecameReady { worker: WorkerId(1) });
        assert_eq!(told, [Notice::Ready, status("1 of 1 workers ready"), Notice::Alive]);
        // A worker that is replaced later extends nothing.
        let told = stage.hear(171_000, Event::Exited { worker: WorkerId(1), exit: Exit::Code(1) });
        assert_eq!(told, [status("0 of 1 workers ready")]);
        assert_eq!(stage.hear(171_500, Event::BecameReady { worker: WorkerId(2) }), []);
        // The line has to rest for a second before the next; it is not forgotten.
        assert_eq!(stage.herald.deadline(), Some(at(172_000)));
        assert_eq!(stage.hear(172_000, Event::Woke), [status("1 of 1 workers ready")]);
        assert_eq!(stage.herald.deadline(), Some(at(175_000)));
    }

    #[test]
    fn a_failed_reload_is_over_too() {
        let mut stage = Stage::ready();
        let told = stage.hear(5_000, Event::Asked(Wish::Reload));
        assert_eq!(told, [Notice::Reloading, secs(125), status("reloading, 1 of 1 workers ready"), Notice::Alive]);
        let failed = Event::PrepareFailed { generation: Generation(2), reason: "no".to_owned() };
        let line = "1 of 1 workers ready; the last reload failed, the log says why";
        assert_eq!(stage.hear(7_000, failed), [Notice::Ready, status(line)]);
    }

    #[test]
    fn more_workers_than_are_wanted_are_told_as_such() {
        let mut stage = Stage::ready();
        stage.hear(5_000, Event::Asked(Wish::Reload));
        stage.hear(6_500, Event::Prepared { generation: Generation(2), settings: settings() });
        let told = stage.hear(8_000, Event::BecameReady { worker: WorkerId(2) });
        assert!(told.contains(&status("reloading, 2 workers ready, 1 wanted")), "{told:?}");
    }

    #[test]
    fn a_stop_is_given_its_graceful_timeout() {
        let mut stage = Stage::ready();
        let told = stage.hear(5_000, Event::Asked(Wish::Stop(Haste::Graceful)));
        assert_eq!(told, [Notice::Stopping, secs(35), status("stopping, 1 worker left"), Notice::Alive]);
    }

    #[test]
    fn a_core_that_is_behind_gives_no_sign_of_life() {
        let (mut stage, _) = Stage::begun();
        // Nobody called it when its first generation had to be given up.
        let late = at(125_000);
        assert_eq!(stage.herald.turn(late, &stage.supervisor, &[]), []);
        assert!(stage.herald.deadline().is_some_and(|due| due > late), "and it does not spin");
    }

    #[test]
    fn whoever_listens_anew_is_told_all() {
        let mut stage = Stage::ready();
        stage.hear(4_500, Event::Woke);
        stage.herald.begin_anew();
        let told = stage.hear(4_600, Event::Woke);
        assert_eq!(told, [status("1 of 1 workers ready"), Notice::Alive]);
    }
}
