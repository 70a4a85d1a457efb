//! What the host does beside carrying out orders: it runs hooks, watches memory, and says why a worker ended.

use std::sync::Arc;

use rustix::process::Signal;

use super::Linux;
use crate::supervisor::event::{Event, Exit, Reason};
use crate::sys::children::Ended;
use crate::sys::clock;
use crate::sys::hooks::{HookError, HookKind, Occasion};
use crate::sys::log::Speaker;
use crate::sys::memory_watch::Ration;
use crate::sys::zygote::News;
use crate::units::WorkerId;

impl Linux<'_> {
    /// Starts the hook that the worker's generation has for this, if it has one.
    pub(super) fn run_hook(
        &mut self,
        hook: HookKind,
        worker: WorkerId,
        pid: Option<u32>,
        exit: Option<String>,
    ) -> Result<bool, HookError> {
        let Some((slot, generation)) = self.ordered.get(&worker).copied() else { return Ok(false) };
        let Some(config) = self.config(generation).map(Arc::clone) else { return Ok(false) };
        let occasion = Occasion { hook, worker, slot, generation, pid, exit, config };
        if occasion.argv().is_empty() {
            return Ok(false);
        }
        self.hooks.run(occasion, &self.around.env).map(|()| true)
    }

    pub(super) fn hear_hooks(&mut self) {
        for (occasion, result) in self.hooks.look(&self.around.env) {
            self.hook_ended(&occasion, result);
        }
    }

    /// A worker that waited for its hook is none.
    pub(super) fn not_made(&mut self, worker: WorkerId) {
        let reason = "it was told to leave before it was made".to_owned();
        self.events.push_back(Event::SpawnFailed { worker, reason });
    }

    pub(super) fn hook_ended(&mut self, occasion: &Occasion, result: Result<(), HookError>) {
        let Occasion { hook, worker, slot, generation, .. } = *occasion;
        match (hook, result) {
            (HookKind::BeforeFork, _) if !self.ordered.contains_key(&worker) => {}
            (HookKind::BeforeFork, Ok(())) if self.early.contains_key(&worker) => self.not_made(worker),
            (HookKind::BeforeFork, Ok(())) => self.make(worker, slot, generation),
            (HookKind::BeforeFork, Err(error)) => {
                self.events.push_back(Event::SpawnFailed { worker, reason: error.to_string() });
            }
            (HookKind::AfterReady | HookKind::OnExit, Ok(())) => {}
            (HookKind::AfterReady | HookKind::OnExit, Err(error)) => tracing::warn!(worker = %slot, "{error}"),
        }
    }

    /// What happens on the way of an event to the supervisor.
    pub(super) fn hand_out(&mut self, event: Event) -> Event {
        let hook = match &event {
            Event::BecameReady { worker } if self.children.greet(*worker) => {
                self.run_hook(HookKind::AfterReady, *worker, self.pid(*worker), None)
            }
            Event::Exited { worker, exit } => {
                let pid = self.ended.remove(worker);
                self.run_hook(HookKind::OnExit, *worker, pid, Some(exit.to_string()))
            }
            Event::BecameReady { .. }
            | Event::Woke
            | Event::ConfigurationRead { .. }
            | Event::Prepared { .. }
            | Event::PrepareFailed { .. }
            | Event::SpawnFailed { .. }
            | Event::Beat { .. }
            | Event::Worn { .. }
            | Event::Leaving { .. }
            | Event::LastWords { .. }
            | Event::SuccessorBegan { .. }
            | Event::SuccessorReady
            | Event::SuccessorEnded { .. }
            | Event::HandedOver
            | Event::Preceded
            | Event::PredecessorLeft
            | Event::Orphaned
            | Event::Asked(_)
            | Event::Requested { .. } => Ok(false),
        };
        if let Err(error) = hook {
            tracing::warn!("{error}");
        }
        if let Event::Exited { worker, .. } | Event::SpawnFailed { worker, .. } = &event {
            self.early.remove(worker);
            self.ordered.remove(worker);
        }
        event
    }

    /// Has the memory of ready workers looked at, and takes the answer.
    pub(super) fn watch_memory(&mut self) {
        let Some(mut watch) = self.memory.take() else { return };
        let now = clock::now();
        let found = watch.found(now).into_iter();
        self.events.extend(found.map(|worker| Event::Worn { worker, reason: Reason::MaxMemory }));
        if watch.is_due(now) {
            let rations = self.children.known().filter_map(|(worker, child)| {
                let most = self.config(child.generation)?.care.max_memory?;
                Some(Ration { worker, pid: child.pid(), most })
            });
            watch.look_at(rations.collect());
        }
        self.memory = Some(watch);
    }

    /// Takes in who has ended.
    pub(super) fn reap(&mut self) {
        for Ended { worker, pid, generation, exit } in self.children.reap(self.ends) {
            let pid = pid.as_raw_nonzero().get();
            self.generations.tell(generation, News::Ended { pid });
            let by_kernel = exit == Exit::Signal(Signal::KILL.as_raw()) && self.shortage.explains_a_kill();
            self.ended.insert(worker, pid.unsigned_abs());
            self.hear_last_words(worker);
            self.events.push_back(Event::Exited { worker, exit: if by_kernel { Exit::OutOfMemory } else { exit } });
        }
    }

    /// What a worker wrote before it ended may be why.
    fn hear_last_words(&mut self, worker: WorkerId) {
        let Some((slot, _)) = self.ordered.get(&worker).copied() else { return };
        let words = self.around.output.last_words(Speaker::Worker { slot, worker });
        if !words.is_empty() {
            self.events.push_back(Event::LastWords { worker, words });
        }
    }
}
