//! When a worker is renewed although it serves, and when a new generation has proved itself. A worker is made first and only then is
//! another told to leave; few at a time.

use super::event::Command;
use super::worker::Worker;
use super::{Rollout, SHORTEST_SERVICE, Supervisor};
use crate::units::{Moment, Slot};

impl Supervisor {
    /// Starts replacements for workers that have used up what they may, as many at a time as may be away. A rollout replaces them anyway.
    pub(super) fn renew(&mut self, now: Moment, orders: &mut Vec<Command>) {
        if matches!(self.rollout, Rollout::Rolling { .. }) {
            return;
        }
        let due: Vec<Slot> = self.worn().filter(|(_, at)| *at <= now).map(|(slot, _)| slot).collect();
        let most = usize::from(self.settings_of(self.wanted).care.max_unavailable.get());
        for slot in due {
            if !self.has_room() || self.being_renewed() >= most {
                return;
            }
            if !self.has_fresh(slot) && self.backoff_of(slot).not_before() <= now {
                self.spawn(now, slot, self.wanted, orders);
            }
        }
    }

    /// Slots whose workers are worn, and from when on they may be renewed.
    fn worn(&self) -> impl Iterator<Item = (Slot, Moment)> {
        let ours = |worker: &&Worker| worker.slot.0 < self.target && worker.generation == self.wanted && !worker.is_fresh();
        self.ready_workers().filter(ours).filter_map(|worker| Some((worker.slot, worker.ready_since()?.after(SHORTEST_SERVICE))))
    }

    /// Whether a worker of the wanted generation that is not worn serves this slot, or is about to.
    fn has_fresh(&self, slot: Slot) -> bool {
        let fits = |worker: &Worker| worker.in_service() && worker.is_fresh() && worker.generation == self.wanted;
        self.workers.values().any(|worker| worker.slot == slot && fits(worker))
    }

    /// Slots with a replacement on its way, and worn workers that are leaving.
    pub(super) fn being_renewed(&self) -> usize {
        let coming = self.worn().filter(|(slot, _)| self.has_fresh(*slot)).count();
        coming + self.workers.values().filter(|worker| worker.is_leaving_worn() && !worker.is_stuck()).count()
    }

    /// When something has to be looked at again because a worn worker may then be renewed.
    pub(super) fn renewals_due(&self) -> impl Iterator<Item = Moment> {
        self.worn().map(|(_, at)| at)
    }

    /// Whether a worker of the wanted generation has served for long enough to trust others of it; without old workers there is nothing to
    /// wait for.
    pub(super) fn proved(&self, now: Moment) -> bool {
        let others = self.ready_workers().any(|worker| worker.generation != self.wanted);
        let settle = self.settings_of(self.wanted).care.settle;
        self.ready_workers().any(|worker| {
            let since = worker.ready_since().filter(|_| worker.generation == self.wanted);
            since.is_some_and(|since| !others || since.after(settle) <= now)
        })
    }

    /// When workers of a new generation will have served for long enough.
    pub(super) fn trial_ends(&self) -> impl Iterator<Item = Moment> {
        let rolling = matches!(self.rollout, Rollout::Rolling { .. });
        let fresh = self.ready_workers().filter(move |worker| rolling && worker.generation == self.wanted);
        fresh.filter_map(|worker| Some(worker.ready_since()?.after(self.settings_of(self.wanted).care.settle)))
    }
}
