//! The host's part in an upgrade: starts the successor, hears of it and of the predecessor, and hands the service over.

use rustix::process::Signal;

use super::Linux;
use crate::supervisor::event::{Event, Haste};
use crate::sys::log::Speaker;
use crate::sys::succession::{Charge, Successor, Tidings};

impl Linux<'_> {
    /// The process that takes our place.
    #[must_use]
    pub fn successor(&self) -> Option<u32> {
        self.successor.as_ref().map(|successor| successor.pid().as_raw_nonzero().get().unsigned_abs())
    }

    pub(super) fn hear_of_succession(&mut self) {
        while let Some(news) = self.successor.as_mut().and_then(Successor::hear) {
            match news {
                Tidings::Began(boot_timeout) => self.events.push_back(Event::SuccessorBegan { boot_timeout }),
                Tidings::Ready => self.events.push_back(Event::SuccessorReady),
                Tidings::Ended(reason) => {
                    self.successor = None;
                    let reason = self.with_last_words(reason);
                    self.events.push_back(Event::SuccessorEnded { reason });
                }
            }
        }
        let Some(predecessor) = self.around.predecessor else { return };
        if predecessor.hear() {
            self.events.push_back(match predecessor.charge() {
                Charge::Orphaned => Event::Orphaned,
                Charge::Alone => Event::PredecessorLeft,
                Charge::InCharge | Charge::Waiting => Event::Woke,
            });
        }
    }

    /// What a program wrote that is none of ours, or that has not even found out that it is a successor.
    fn with_last_words(&self, reason: String) -> String {
        let words = self.around.log.as_ref().map(|log| log.last_words(Speaker::Successor)).unwrap_or_default();
        if words.trim().is_empty() { reason } else { format!("{reason}; it wrote last:\n{}", words.trim_end()) }
    }

    pub(super) fn start_successor(&mut self) {
        // Without a pipe it speaks to our standard error.
        let mouth = self.around.log.as_ref().and_then(|log| log.mouth(Speaker::Successor).ok());
        let started = match &self.around.estate {
            Ok(estate) => Successor::start(estate, mouth.as_ref().map(|mouth| &mouth.err))
                .map_err(|error| format!("the new program could not be started: {error}")),
            Err(reason) => Err((*reason).to_owned()),
        };
        match started {
            Ok(successor) => self.successor = Some(successor),
            Err(reason) => self.events.push_back(Event::SuccessorEnded { reason }),
        }
    }

    /// Nothing that may take long stands between the look at the successor and the word to it. Our message to systemd comes before any of
    /// the successor's, so that these are a main process's.
    pub(super) fn hand_over(&mut self, then_reload: bool) {
        let (Some(successor), Ok(estate)) = (&self.successor, &self.around.estate) else {
            let reason = "there is no new program".to_owned();
            return self.events.push_back(Event::SuccessorEnded { reason });
        };
        let told = successor.reap().map_or(Ok(()), Err).and_then(|()| {
            estate.systemd.main_pid(successor.pid().as_raw_nonzero().get().unsigned_abs());
            successor.go().inspect_err(|_| estate.systemd.main_pid(std::process::id()))
        });
        if let Err(reason) = told {
            successor.signal(Signal::KILL);
            self.successor = None;
            self.events.push_back(Event::SuccessorEnded { reason });
            return;
        }
        if then_reload {
            successor.signal(Signal::HUP);
        }
        if !estate.systemd.barrier() {
            tracing::warn!("systemd does not confirm the new main process");
        }
        // Whatever we say from now on would be taken for another's.
        estate.systemd.fall_silent();
        estate.leave();
        self.ends = true;
        self.events.push_back(Event::HandedOver);
    }

    pub(super) fn signal_successor(&self, signals: &[Signal]) {
        if let Some(successor) = &self.successor {
            for signal in signals {
                successor.signal(*signal);
            }
        }
    }

    pub(super) fn end_successor(&self, haste: Haste) {
        let signal = match haste {
            Haste::Graceful => Signal::TERM,
            Haste::Quick => Signal::INT,
        };
        self.signal_successor(&[signal, Signal::CONT]);
    }
}
