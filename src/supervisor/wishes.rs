//! What becomes of a wish. Each is a level: asked for twice before it is done, it is done once. Edits what is wished for; orders nothing.

use super::event::{Answer, Granted, Refusal, Scale, Transition, Wish};
use super::{Outcome, Rollout, Supervisor};
use crate::units::{WorkerId, Workers};

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

    /// Edits the wished number: while a new generation is rolled out also the one that will apply when it has finished.
    fn scale(&mut self, scale: Scale) -> Granted {
        let edit = |target: u16| match scale {
            Scale::To(workers) => workers.get(),
            Scale::More(count) => target.saturating_add(count).min(Workers::MAX),
            Scale::Fewer(count) => target.saturating_sub(count).max(1),
        };
        let rests = self.resting.is_some();
        if rests && matches!(scale, Scale::Fewer(_)) {
            return Granted::Target(self.target);
        }
        self.resting = None;
        if let Rollout::Rolling { asked, .. } = &mut self.rollout {
            *asked = if rests { edit(0) } else { edit(*asked) };
        }
        self.set_target(edit(self.target));
        Granted::Target(self.target)
    }

    /// No worker is wanted until somebody asks for some. A rollout waits meanwhile: nobody could prove its generation.
    fn rest(&mut self) -> Granted {
        if self.resting.is_none() {
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
        if !self.workers.contains_key(&worker) {
            return Err(Refusal::NoSuchWorker(worker));
        }
        self.replaced.insert(worker);
        Ok(Granted::Now)
    }

    pub(super) fn set_target(&mut self, target: u16) {
        if target != self.target {
            self.target = target;
            self.backoff.retain(|slot, _| slot.0 < target);
            self.transitions.push(Transition::TargetChanged { target });
        }
    }
}
