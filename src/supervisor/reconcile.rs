//! The second half of a turn: compares wish and fact. The only source of commands; doing it twice changes nothing.

use std::collections::BTreeSet;

use super::event::{Command, Haste, Reason, Transition};
use super::wishes::Edit;
use super::worker::{Life, Worker};
use super::{ABORT_GRACE, MAX_FIRST_ATTEMPTS, Mode, QUICK_GRACE, Rollout, STUCK_AFTER, Supervisor};
use crate::units::{Generation, Moment, Slot, WorkerId};

impl Supervisor {
    pub(super) fn reconcile(&mut self, now: Moment) -> Vec<Command> {
        let mut orders = Vec::new();
        self.judge_the_late(now, &mut orders);
        self.judge_successor(now, &mut orders);
        self.hand_over(&mut orders);
        self.reopen_logs(&mut orders);
        match self.mode {
            Mode::Booting => {}
            Mode::Running => self.run(now, &mut orders),
            Mode::Stopping { haste, .. } => {
                self.end_successor(now, haste, &mut orders);
                self.empty(now, haste, &mut orders);
            }
        }
        self.retire(&mut orders);
        self.tell_target(&mut orders);
        orders
    }

    /// One order can be what the next has waited for, until there is none.
    fn run(&mut self, now: Moment, orders: &mut Vec<Command>) {
        loop {
            let so_far = orders.len();
            self.finish_reload(now);
            self.announce();
            self.begin_reload(now, orders);
            self.begin_upgrade(now, orders);
            self.replace_workers(now, orders);
            self.dismiss(now, orders);
            self.fill(now, orders);
            self.renew(now, orders);
            if orders.len() == so_far {
                return;
            }
        }
    }

    /// Deadlines that have passed.
    fn judge_the_late(&mut self, now: Moment, orders: &mut Vec<Command>) {
        if let Rollout::Preparing { next, give_up_at, .. } = self.rollout
            && now >= give_up_at
        {
            orders.push(Command::Retire { generation: next });
            self.prepare_failed(next, "the application was not loaded within boot-timeout".to_owned());
        }
        let late: Vec<WorkerId> = self
            .workers
            .iter()
            .filter(|(_, worker)| worker.deadline(&self.settings_of(worker.generation).timing).is_some_and(|due| due <= now))
            .map(|(id, _)| *id)
            .collect();
        for id in late {
            self.judge(now, id, orders);
        }
    }

    fn judge(&mut self, now: Moment, id: WorkerId, orders: &mut Vec<Command>) {
        let Some(worker) = self.workers.get(&id).copied() else {
            return;
        };
        match worker.life {
            Life::Starting { .. } => self.abort(now, id, worker, Reason::BootTimeout, orders),
            Life::Ready { old_at, .. } if worker.is_fresh() && old_at.is_some_and(|due| due <= now) => {
                if let Some(worker) = self.workers.get_mut(&id) {
                    worker.worn = Some(Reason::MaxAge);
                }
                // It may be silent as well.
                self.judge_silence(now, id, orders);
            }
            Life::Ready { .. } => self.judge_silence(now, id, orders),
            Life::Stopping { reason, .. } | Life::Quitting { reason, .. } | Life::Aborting { reason, .. } => {
                self.set_life(id, Life::Killed { reason, stuck_at: now.after(STUCK_AFTER) });
                self.transitions.push(Transition::WorkerKilled { worker: id, slot: worker.slot });
                orders.push(Command::Kill { worker: id });
            }
            Life::Killed { reason, .. } => {
                self.set_life(id, Life::Stuck { reason });
                self.transitions.push(Transition::WorkerStuck { worker: id, slot: worker.slot });
            }
            Life::Stuck { .. } => {}
        }
    }

    fn judge_silence(&mut self, now: Moment, id: WorkerId, orders: &mut Vec<Command>) {
        let Some(worker) = self.workers.get(&id).copied() else { return };
        if worker.deadline(&self.settings_of(worker.generation).timing).is_some_and(|due| due <= now) {
            self.abort(now, id, worker, Reason::Timeout, orders);
        }
    }

    /// Ends a worker that hangs. Its slot is free for a replacement from now on.
    fn abort(&mut self, now: Moment, id: WorkerId, worker: Worker, reason: Reason, orders: &mut Vec<Command>) {
        self.set_life(id, Life::Aborting { reason, kill_at: now.after(ABORT_GRACE) });
        self.transitions.push(Transition::WorkerStopping { worker: id, slot: worker.slot, reason });
        orders.push(Command::Abort { worker: id });
        let words = match reason {
            Reason::BootTimeout => "a worker was not ready within boot-timeout",
            Reason::Timeout
            | Reason::Crash
            | Reason::OutOfMemory
            | Reason::Left
            | Reason::BootFailure
            | Reason::MaxRequests
            | Reason::MaxAge
            | Reason::MaxMemory
            | Reason::Reload
            | Reason::Scale
            | Reason::Replace
            | Reason::Stop => "a worker was silent for longer than timeout",
        };
        self.failed(now, worker, words, false);
    }

    /// A wished reload begins when nothing else is under way; however often it was wished for, it is one.
    fn begin_reload(&mut self, now: Moment, orders: &mut Vec<Command>) {
        if !self.reload_wanted || self.rollout != Rollout::Settled || !self.announced || self.succession.is_under_way() {
            return;
        }
        self.reload_wanted = false;
        let next = self.newest.next();
        self.newest = next;
        let patience = self.settings_of(self.wanted).timing.boot_timeout;
        self.rollout = Rollout::Preparing { next, give_up_at: now.after(patience), edit: Edit::default() };
        self.transitions.push(Transition::ReloadStarted { generation: next });
        orders.push(Command::Prepare { generation: next });
    }

    fn reopen_logs(&mut self, orders: &mut Vec<Command>) {
        if std::mem::take(&mut self.reopen_wanted) {
            self.transitions.push(Transition::LogsReopened);
            orders.push(Command::ReopenLogs);
        }
    }

    fn tell_target(&mut self, orders: &mut Vec<Command>) {
        if self.told_target != self.target {
            self.told_target = self.target;
            orders.push(Command::TellTarget(self.target));
        }
    }

    /// Workers that somebody asked to have replaced leave, whatever serves meanwhile.
    fn replace_workers(&mut self, now: Moment, orders: &mut Vec<Command>) {
        for id in std::mem::take(&mut self.replaced) {
            if self.workers.get(&id).is_some_and(Worker::in_service) {
                self.terminate(now, id, Reason::Replace, orders);
            }
        }
    }

    /// Tells workers to leave whose slot is not wanted, or has a ready worker of a better generation beside them. Ready workers that are
    /// not wanted stay while they stand in for slots that nobody serves.
    fn dismiss(&mut self, now: Moment, orders: &mut Vec<Command>) {
        let served: BTreeSet<Slot> = self.ready_workers().map(|worker| worker.slot).filter(|slot| slot.0 < self.target).collect();
        let mut stand_ins = usize::from(self.target) - served.len();
        let shared = self.shared_slots();
        let leaving: Vec<(WorkerId, Reason)> = self
            .workers
            .iter()
            .filter(|(_, worker)| worker.in_service())
            .filter_map(|(id, worker)| {
                if worker.slot.0 < self.target {
                    let reason = self.out_of_place(worker).or_else(|| {
                        let beside_another = shared.contains(&worker.slot);
                        beside_another.then(|| self.outdone(now, *id, worker)).flatten()
                    });
                    return reason.map(|reason| (*id, reason));
                }
                let stays = worker.is_ready() && stand_ins > 0;
                stand_ins -= usize::from(stays);
                (!stays).then_some((*id, Reason::Scale))
            })
            .collect();
        for (id, reason) in leaving {
            self.terminate(now, id, reason, orders);
        }
    }

    /// Slots that more than one worker has. In a service at rest there is none, and nobody has to be compared with anybody.
    fn shared_slots(&self) -> BTreeSet<Slot> {
        let mut seen = BTreeSet::new();
        self.workers.values().map(|worker| worker.slot).filter(|slot| !seen.insert(*slot)).collect()
    }

    /// Why it can never serve.
    fn out_of_place(&self, worker: &Worker) -> Option<Reason> {
        (!worker.is_ready() && !self.generation_is_live(worker.generation)).then_some(Reason::Reload)
    }

    /// Why its slot would rather be served by another worker that is ready. A new generation on trial replaces nobody.
    fn outdone(&self, now: Moment, id: WorkerId, worker: &Worker) -> Option<Reason> {
        let on_trial = matches!(self.rollout, Rollout::Rolling { .. }) && !self.proved(now);
        // Of two that are alike the newer one stays.
        let better = |other_id: &WorkerId, other: &Worker| {
            other.slot == worker.slot
                && other.is_ready()
                && (self.standing(other), *other_id) > (self.standing(worker), id)
                && !(on_trial && other.generation == self.wanted && worker.generation != self.wanted)
        };
        let reason = worker.worn.filter(|_| worker.generation == self.wanted).unwrap_or(Reason::Reload);
        self.workers.iter().any(|(other_id, other)| better(other_id, other)).then_some(reason)
    }

    pub(super) fn ready_workers(&self) -> impl Iterator<Item = &Worker> {
        self.workers.values().filter(|worker| worker.is_ready())
    }

    /// Whether workers of this generation may still be started.
    fn generation_is_live(&self, generation: Generation) -> bool {
        generation == self.wanted || matches!(self.rollout, Rollout::Rolling { fallback, .. } if fallback == generation)
    }

    /// By which of two workers a slot would rather be served.
    fn standing(&self, worker: &Worker) -> (bool, bool, Generation, bool) {
        let Worker { generation, .. } = *worker;
        (generation == self.wanted, self.generation_is_live(generation), generation, worker.is_fresh())
    }

    fn terminate(&mut self, now: Moment, id: WorkerId, reason: Reason, orders: &mut Vec<Command>) {
        let Some(worker) = self.workers.get(&id).copied() else {
            return;
        };
        let patience = self.settings_of(worker.generation).timing.graceful_timeout;
        self.set_life(id, Life::Stopping { reason, kill_at: now.after(patience) });
        self.transitions.push(Transition::WorkerStopping { worker: id, slot: worker.slot, reason });
        orders.push(Command::Terminate { worker: id });
    }

    /// Starts the workers that are lacking.
    fn fill(&mut self, now: Moment, orders: &mut Vec<Command>) {
        self.fill_slots(now, orders);
        if self.canary_is_out(now) {
            // Its own slot, if it was empty, now lacks an old worker.
            self.fill_slots(now, orders);
        }
    }

    /// Goes over all slots once, as far as the surge allows.
    fn fill_slots(&mut self, now: Moment, orders: &mut Vec<Command>) {
        if !self.canary_is_out(now) && self.is_complete() {
            return;
        }
        for slot in (0..self.target).map(Slot) {
            if !self.has_room() {
                return;
            }
            if let Some(generation) = self.lacks(now, slot).filter(|_| self.may_try(now, slot)) {
                self.spawn(now, slot, generation, orders);
            }
        }
    }

    /// Whether every slot has a worker of the wanted generation, ready or on its way.
    fn is_complete(&self) -> bool {
        let wanted = self.workers.values().filter(|worker| worker.in_service() && worker.generation == self.wanted);
        let slots: BTreeSet<Slot> = wanted.map(|worker| worker.slot).filter(|slot| slot.0 < self.target).collect();
        slots.len() == usize::from(self.target)
    }

    /// Whether one worker more may live. Those that are stuck do not count, as long as they are not more than all should be.
    pub(super) fn has_room(&self) -> bool {
        let stuck = self.workers.values().filter(|worker| worker.is_stuck()).count().min(usize::from(self.target));
        self.workers.len() - stuck < usize::from(self.target) + usize::from(self.surge())
    }

    /// Whether one attempt more may be made. Of many that fail at once the cause is hardly the one worker: few are replaced
    /// before one of the replacements serves, and when nobody serves it is one by one once such an attempt has failed.
    fn may_try(&self, now: Moment, slot: Slot) -> bool {
        if !self.announced {
            return true;
        }
        let trying = |worker: &&Worker| worker.is_starting();
        if self.ready() > 0 {
            let has_failed = |slot: Slot| self.backoff_of(slot).failures() > 0;
            let replacing = self.workers.values().filter(trying).filter(|worker| has_failed(worker.slot));
            let first = replacing.clone().filter_map(Worker::starting_since).min();
            let works = first.is_some_and(|first| self.ready_workers().any(|worker| worker.ready_since() >= Some(first)));
            return !has_failed(slot) || works || replacing.count() < MAX_FIRST_ATTEMPTS;
        }
        let trying = self.workers.values().filter(trying).count();
        if self.barren == 0 { trying < MAX_FIRST_ATTEMPTS } else { trying == 0 && self.drought.not_before() <= now }
    }

    /// The generation of which this slot should get a worker now. While none of a new generation has proved that it can serve, only one
    /// (the canary) is tried, and a slot that loses its old worker meanwhile gets another of the old generation.
    fn lacks(&self, now: Moment, slot: Slot) -> Option<Generation> {
        let here = |fits: &dyn Fn(&Worker) -> bool| {
            self.workers.values().any(|worker| worker.slot == slot && worker.in_service() && fits(worker))
        };
        let rested = self.backoff_of(slot).not_before() <= now;
        match self.rollout {
            Rollout::Rolling { fallback, .. } if self.canary_is_out(now) => {
                (!here(&|worker| worker.generation == fallback) && rested).then_some(fallback)
            }
            Rollout::Rolling { .. } | Rollout::Settled | Rollout::Preparing { .. } => {
                let served = here(&|worker| worker.generation == self.wanted);
                // A new generation does not wait for what an old one failed at: its own first failure takes it back.
                let is_new = matches!(self.rollout, Rollout::Rolling { .. }) && here(&|_| true);
                (!served && (rested || is_new)).then_some(self.wanted)
            }
        }
    }

    /// Whether the one worker that tries out a new generation has not proved itself yet.
    fn canary_is_out(&self, now: Moment) -> bool {
        !self.proved(now) && self.workers.values().any(|worker| worker.generation == self.wanted && worker.in_service())
    }

    pub(super) fn spawn(&mut self, now: Moment, slot: Slot, generation: Generation, orders: &mut Vec<Command>) {
        let id = WorkerId(self.next_worker);
        self.next_worker += 1;
        let give_up_at = now.after(self.settings_of(generation).timing.boot_timeout);
        self.workers.insert(id, Worker { slot, generation, life: Life::Starting { since: now, give_up_at }, worn: None });
        self.transitions.push(Transition::WorkerStarted { worker: id, slot, generation });
        orders.push(Command::Spawn { worker: id, slot, generation });
    }

    /// A rollout is over when every slot has a ready worker of the wanted generation; only then its number of workers applies.
    fn finish_reload(&mut self, now: Moment) {
        let Rollout::Rolling { asked, .. } = self.rollout else {
            return;
        };
        let renewed = (0..self.target).map(Slot).all(|slot| {
            self.workers.values().any(|worker| worker.slot == slot && worker.generation == self.wanted && worker.is_ready())
        });
        if renewed && self.proved(now) {
            self.rollout = Rollout::Settled;
            self.transitions.push(Transition::ReloadFinished { generation: self.wanted });
            self.set_target(asked);
        }
    }

    /// The service is up when each slot has a ready worker or at least had its chance, and one serves.
    fn announce(&mut self) {
        if self.announced || self.ready() == 0 {
            return;
        }
        let starting =
            |slot: &Slot| self.workers.values().any(|worker| worker.slot == *slot && !worker.is_ready() && worker.in_service());
        if !(0..self.target).map(Slot).any(|slot| starting(&slot) && self.backoff_of(slot).failures() == 0) {
            self.announced = true;
            self.transitions.push(Transition::BecameReady);
        }
    }

    /// Everybody leaves, and what is being loaded is dropped.
    fn empty(&mut self, now: Moment, haste: Haste, orders: &mut Vec<Command>) {
        if let Rollout::Preparing { next, .. } = self.rollout {
            self.rollout = Rollout::Settled;
            if !self.generations.contains_key(&next) {
                orders.push(Command::Retire { generation: next });
            }
        }
        let here: Vec<(WorkerId, Worker)> = self.workers.iter().map(|(id, worker)| (*id, *worker)).collect();
        for (id, worker) in here {
            match (haste, worker.life) {
                (Haste::Graceful, Life::Starting { .. } | Life::Ready { .. }) => self.terminate(now, id, Reason::Stop, orders),
                (Haste::Quick, Life::Starting { .. } | Life::Ready { .. }) => {
                    self.transitions.push(Transition::WorkerStopping { worker: id, slot: worker.slot, reason: Reason::Stop });
                    self.quit(now, id, Reason::Stop, orders);
                }
                (Haste::Quick, Life::Stopping { reason, .. }) => self.quit(now, id, reason, orders),
                (
                    _,
                    Life::Stopping { .. }
                    | Life::Quitting { .. }
                    | Life::Aborting { .. }
                    | Life::Killed { .. }
                    | Life::Stuck { .. },
                ) => {}
            }
        }
    }

    fn quit(&mut self, now: Moment, id: WorkerId, reason: Reason, orders: &mut Vec<Command>) {
        self.set_life(id, Life::Quitting { reason, kill_at: now.after(QUICK_GRACE) });
        orders.push(Command::Quit { worker: id });
    }

    /// Generations that nobody needs any more.
    fn retire(&mut self, orders: &mut Vec<Command>) {
        let needed = |generation: &Generation| {
            self.workers.values().any(|worker| worker.generation == *generation)
                || (!self.is_stopping() && self.generation_is_live(*generation))
        };
        let idle: Vec<Generation> = self.generations.keys().copied().filter(|generation| !needed(generation)).collect();
        for generation in idle {
            self.generations.remove(&generation);
            orders.push(Command::Retire { generation });
        }
    }

    pub(super) fn set_life(&mut self, id: WorkerId, life: Life) {
        if let Some(worker) = self.workers.get_mut(&id) {
            worker.life = life;
        }
    }
}

#[cfg(test)]
mod tests;
