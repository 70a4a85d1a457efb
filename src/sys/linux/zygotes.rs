//! What zygotes say: that the application is loaded or cannot be, which workers they forked, and that they have ended.

use super::Linux;
use crate::config::gunicorn;
use crate::supervisor::event::Event;
use crate::sys::children::Child;
use crate::sys::clock;
use crate::sys::log::Speaker;
use crate::sys::zygote::{Fate, Reply, Stage, Zygote};
use crate::units::{Generation, WorkerId};

impl Linux<'_> {
    pub(super) fn hear_zygotes(&mut self) {
        for generation in self.generations.with_zygotes() {
            while let Some(reply) = self.generations.zygote(generation).and_then(Zygote::hear) {
                self.take_reply(generation, reply);
            }
            if self.generations.get(generation).is_some_and(|loaded| loaded.zygote_stage() == Some(Stage::Dead)) {
                self.zygote_died(generation);
            }
        }
    }

    fn take_reply(&mut self, generation: Generation, reply: Reply) {
        match reply {
            Reply::Imported(about) => {
                tracing::info!(%generation, gunicorn = about.gunicorn, python = about.python, "application loaded");
                if !about.threads.is_empty() {
                    tracing::info!(threads = ?about.threads, "the application started threads when it was imported, which are allowed");
                }
                if !about.works.is_empty() {
                    tracing::info!(threads = ?about.works, "Gunicorn's server hooks started threads, which run in the zygote and in no worker");
                }
                let age = about.family.and_then(|family| gunicorn::remark_on_age(&about.gunicorn, &family));
                let overruled = about.overruled.iter().filter_map(|name| gunicorn::remark_on_overruled(name));
                for remark in about.changed.iter().filter_map(|name| gunicorn::remark(name)).chain(overruled).chain(age) {
                    tracing::warn!("gunicorn: {remark}");
                }
                self.imported(generation);
            }
            Reply::Failed(failure) => self.import_failed(generation, &failure.message),
            Reply::Forked { worker, pid } => self.adopt(WorkerId(worker), pid, generation),
            Reply::ForkFailed { worker, reason } => {
                self.events.push_back(Event::SpawnFailed { worker: WorkerId(worker), reason });
            }
        }
    }

    fn imported(&mut self, generation: Generation) {
        if let Some(settings) = self.generations.announce(generation) {
            self.events.push_back(Event::Prepared { generation, settings });
        }
    }

    fn import_failed(&mut self, generation: Generation, reason: &str) {
        if self.generations.announce(generation).is_some() {
            self.events.push_back(Event::PrepareFailed { generation, reason: reason.to_owned() });
            self.generations.remove(generation, clock::now());
        } else {
            tracing::error!(%generation, reason, "the application can no longer be loaded");
        }
    }

    /// Forks that will not be answered fail; a worker keeps serving without its zygote.
    fn zygote_died(&mut self, generation: Generation) {
        if self.generations.is_unannounced(generation) {
            let how = match self.generations.zygote(generation).map(|zygote| zygote.fate(clock::now())) {
                Some(Fate::Open) => return,
                Some(Fate::Ended(exit)) => format!(" with {exit}"),
                Some(Fate::Unknown) | None => String::new(),
            };
            let words = self.around.output.last_words(Speaker::Zygote(generation));
            let reason = format!("the Python process ended{how} while it imported the application\n{words}");
            self.import_failed(generation, reason.trim_end());
            return;
        }
        if !self.tell_end_of_zygote(generation) {
            return;
        }
        self.fail_unanswered(generation);
        // The next fork should not have to wait for an import. Where this fails, or comes to nothing, it will.
        if !self.ends && self.generations.may_replace_at_once(generation, clock::now()) {
            self.replace_zygote(generation).ok();
        }
    }

    /// Tells how a zygote that was needed has ended, once. Whether that is known, or was told.
    pub(super) fn tell_end_of_zygote(&mut self, generation: Generation) -> bool {
        let Some(zygote) = self.generations.zygote(generation).filter(|zygote| !zygote.is_mourned()) else { return true };
        let how = match zygote.fate(clock::now()) {
            Fate::Open => return false,
            Fate::Ended(exit) => format!("the zygote ended with {exit}"),
            Fate::Unknown => "the zygote has closed its channel".to_owned(),
        };
        let pid = zygote.pid().as_raw_nonzero().get();
        zygote.mourn();
        self.looks_again = true;
        if !self.ends {
            tracing::warn!(%generation, pid, "{how}; its workers keep serving");
        }
        true
    }

    /// Forks that it was asked for and will not make.
    pub(super) fn fail_unanswered(&mut self, generation: Generation) {
        let lost = self.generations.zygote(generation).map(Zygote::unanswered).unwrap_or_default();
        let reason = "the zygote ended before it forked".to_owned();
        self.events.extend(lost.into_iter().map(|worker| Event::SpawnFailed { worker, reason: reason.clone() }));
    }

    /// A worker that the zygote forked is our child by now; what it said or was to be told meanwhile is caught up on.
    fn adopt(&mut self, worker: WorkerId, pid: i32, generation: Generation) {
        let mut taken = self.beside_workers();
        taken.extend(self.children.all().map(|child| child.pid));
        let Some((slot, _)) = self.ordered.get(&worker).copied() else { return };
        let adopted = if taken.iter().any(|taken| taken.as_raw_nonzero().get() == pid) {
            Err("the zygote told the pid of another process of ours".to_owned())
        } else {
            Child::adopt(pid, slot, generation).map_err(|error| error.to_string())
        };
        match adopted {
            Ok(child) => {
                child.signal(&self.early.remove(&worker).unwrap_or_default());
                self.children.add(worker, child);
                // It may have ended before we knew it.
                self.looks_again = true;
            }
            Err(reason) => self.events.push_back(Event::SpawnFailed { worker, reason }),
        }
    }
}
