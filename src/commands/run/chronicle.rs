//! What has happened, as far as `ctl status` tells it: when workers began, how their predecessors went, how reloads ended.
//! Bounded by the number of slots, and forgets who is gone.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::control::{MAX_RELOADS, Reload};
use crate::supervisor::event::{Reason, Transition};
use crate::units::{Generation, Moment, Slot, WorkerId};

/// The longest reason of an exit that is kept, bytes.
const MAX_REASON: usize = 300;

/// The notes. Cloned once a turn in which something happened.
#[derive(Clone, Debug, Default)]
pub(super) struct Chronicle {
    /// When each living worker was ordered.
    pub(super) begun: BTreeMap<WorkerId, Moment>,
    pub(super) slots: BTreeMap<Slot, Past>,
    reloads: VecDeque<Arc<Ended>>,
    reload_began: Moment,
    /// How many upgrades came to nothing, and why the last did.
    pub(super) failed_upgrades: u64,
    pub(super) last_upgrade_failure: Option<Arc<str>>,
    /// Counts what has happened.
    pub(super) changes: u64,
}

/// What became of a slot's former workers.
#[derive(Clone, Debug, Default)]
pub(super) struct Past {
    /// How many went without being asked to.
    pub(super) restarts: u64,
    /// How the last of them went.
    pub(super) last_exit: Option<String>,
    /// When the next attempt is made, if the slot is empty.
    pub(super) retry_at: Moment,
}

/// A reload that is over.
#[derive(Debug)]
struct Ended {
    generation: Generation,
    failure: Option<String>,
    began: Moment,
    over: Moment,
}

impl Chronicle {
    /// Takes in what has happened by `now`.
    pub(super) fn note(&mut self, now: Moment, transition: &Transition) {
        self.changes += 1;
        match transition {
            Transition::WorkerStarted { worker, .. } => {
                self.begun.insert(*worker, now);
            }
            Transition::WorkerExited { worker, slot, exit, reason, detail } => {
                self.begun.remove(worker);
                if was_unasked(*reason) {
                    let past = self.slots.entry(*slot).or_default();
                    past.restarts += 1;
                    let how = exit.map(|exit| exit.to_string()).or_else(|| detail.clone()).unwrap_or_default();
                    past.last_exit = Some(shortened(&format!("{}: {how}", reason.in_words())));
                }
            }
            Transition::SlotWaits { slot, wait, .. } => self.slots.entry(*slot).or_default().retry_at = now.after(*wait),
            Transition::TargetChanged { target } => self.slots.retain(|slot, _| slot.0 < *target),
            Transition::ReloadStarted { .. } => self.reload_began = now,
            Transition::ReloadFinished { generation } => self.end_reload(now, *generation, None),
            Transition::ReloadFailed { generation, reason } => self.end_reload(now, *generation, Some(reason.clone())),
            Transition::UpgradeFailed { reason } => {
                self.failed_upgrades += 1;
                self.last_upgrade_failure = Some(reason.as_str().into());
            }
            Transition::UpgradeStarted
            | Transition::HandedOver
            | Transition::Orphaned
            | Transition::WorkerReady { .. }
            | Transition::WorkerStopping { .. }
            | Transition::WorkerKilled { .. }
            | Transition::WorkerStuck { .. }
            | Transition::NobodyServes
            | Transition::LogsReopened
            | Transition::Answered { .. }
            | Transition::BecameReady
            | Transition::Stopping { .. } => {}
        }
    }

    fn end_reload(&mut self, now: Moment, generation: Generation, failure: Option<String>) {
        if self.reloads.len() == MAX_RELOADS {
            self.reloads.pop_front();
        }
        self.reloads.push_back(Arc::new(Ended { generation, failure, began: self.reload_began, over: now }));
    }

    /// The last reloads, oldest first.
    pub(super) fn reloads(&self, now: Moment) -> Vec<Reload> {
        let told = |ended: &Arc<Ended>| Reload {
            generation: ended.generation.0,
            failure: ended.failure.clone(),
            took_seconds: ended.over.since(ended.began).as_secs_f64(),
            ago_seconds: now.since(ended.over).as_secs_f64(),
        };
        self.reloads.iter().map(told).collect()
    }
}

const fn was_unasked(reason: Reason) -> bool {
    match reason {
        Reason::Crash | Reason::OutOfMemory | Reason::Left | Reason::BootFailure | Reason::BootTimeout | Reason::Timeout => true,
        Reason::MaxRequests
        | Reason::MaxAge
        | Reason::MaxMemory
        | Reason::Reload
        | Reason::Scale
        | Reason::Replace
        | Reason::Stop => false,
    }
}

/// Its beginning, up to a whole word.
fn shortened(text: &str) -> String {
    if text.len() <= MAX_REASON {
        return text.to_owned();
    }
    let beginning = &text[..text.floor_char_boundary(MAX_REASON)];
    let words = beginning.rfind(char::is_whitespace).and_then(|end| beginning.get(..end));
    format!("{} …", words.unwrap_or(beginning).trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_reason_ends_with_a_whole_word() {
        assert_eq!(shortened("crashed: signal 9"), "crashed: signal 9");
        let told = shortened(&"reason ".repeat(100));
        assert!(told.len() <= MAX_REASON + " …".len() && told.ends_with("reason …"), "{told}");
        assert_eq!(shortened(&"ä".repeat(200)), format!("{} …", "ä".repeat(150)));
    }
}
