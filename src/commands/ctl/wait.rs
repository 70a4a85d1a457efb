//! Waits until what was asked for is done, by watching what the service publishes, and shows how it goes. Refuses to wait for what
//! cannot come any more.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::CtlError;
use crate::commands::figures::counted;
use crate::control::{Client, ControlError, Count, Reload, Request, Status, Worker};
use crate::sys::clock;
use crate::sys::peer::Peer;
use crate::units::Moment;

/// How often the spinner moves.
const TICK: Duration = Duration::from_millis(100);
/// How often a successor is looked for.
const MOMENT: Duration = Duration::from_millis(20);
/// How often it is looked at the time while nothing changes.
const LOOK: Duration = Duration::from_secs(1);

/// How long to wait; for ever if it does not say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience(pub(super) Option<Duration>);

/// What a look at the service finds.
#[derive(Debug, PartialEq, Eq)]
enum Found<T> {
    /// What was waited for.
    End(T),
    /// It may come; words for the person who waits.
    Doing(String),
    /// It cannot come any more.
    Never,
}

/// Who has the service after an upgrade.
#[derive(Debug)]
pub(super) enum Upgraded {
    /// A supervisor that is found, and how the service is.
    Answers(Box<Status>),
    /// A process that does not answer where its predecessor did, as where `[control]` has changed.
    Elsewhere { pid: u32 },
}

/// Somebody who waits.
pub(super) struct Watch {
    patience: Patience,
    began: Moment,
    spinner: ProgressBar,
}

impl Watch {
    /// Shows a line that moves if `live`.
    pub(super) fn new(patience: Patience, live: bool) -> Self {
        let spinner = ProgressBar::new_spinner();
        spinner.set_draw_target(if live { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() });
        let style =
            ProgressStyle::with_template("{spinner} {wide_msg} {elapsed}").unwrap_or_else(|_| ProgressStyle::default_spinner());
        spinner.set_style(style);
        Self { patience, began: clock::now(), spinner }
    }

    /// Until the reload that makes `generation` has ended, well or not. A `supervisor` that is being upgraded leaves the reload to its
    /// successor: `again` finds that one at the same socket, whose first reload it then is.
    pub(super) fn reload(
        self,
        client: &mut Client,
        generation: u32,
        supervisor: u32,
        again: impl Fn() -> Result<Client, CtlError>,
    ) -> Result<Reload, CtlError> {
        let look = |status: &Status| {
            let ended = if status.pid == supervisor {
                let ended = status.reloads.iter().find(|reload| reload.generation == generation);
                ended.cloned().ok_or_else(|| reload_in_words(status, generation))
            } else {
                let generation = status.next_generation.unwrap_or(status.generation);
                status.reloads.first().cloned().ok_or_else(|| reload_in_words(status, generation))
            };
            unless_it_stops(status, ended)
        };
        self.service(client, again, look)
    }

    /// Until the log was opened anew more often than `before`; why it could not be, if it could not.
    pub(super) fn log(self, client: &mut Client, before: u64) -> Result<Option<String>, CtlError> {
        unless_it_ends(self.conversation(client, |status| log_of(status, before)))
    }

    /// Until there are as many workers as are wanted. A successor takes their number from the configuration: `again` finds it and asks it
    /// for `workers` too.
    pub(super) fn scale(
        self,
        client: &mut Client,
        workers: Count,
        again: impl Fn() -> Result<Client, CtlError>,
    ) -> Result<(), CtlError> {
        let ask_again = || {
            let mut client = again()?;
            client.change(Request::Scale { workers })?;
            Ok(client)
        };
        self.service(client, ask_again, |status| unless_it_stops(status, staffed(status)))
    }

    /// Until a worker is gone, as far as the kernel lets it, and another serves. The worker of a `supervisor` that is being upgraded
    /// has gone when that one has; a successor begins to count its workers anew.
    pub(super) fn replacement(
        self,
        client: &mut Client,
        worker: u64,
        supervisor: u32,
        again: impl Fn() -> Result<Client, CtlError>,
    ) -> Result<(), CtlError> {
        let predecessor = client.process();
        let look = |status: &Status| {
            let same = status.pid == supervisor;
            let found = match status.workers.iter().find(|other| same && other.id == Some(worker)) {
                Some(leaving) if leaving.state != "stuck" => Err(format!("worker {worker} is {}", leaving.state)),
                Some(_) => staffed(status),
                None if same || predecessor.as_ref().is_none_or(|old| old.has_ended_within(Duration::ZERO)) => staffed(status),
                None => Err("the old program's workers leave".to_owned()),
            };
            unless_it_stops(status, found)
        };
        self.service(client, again, look)
    }

    /// Until another supervisor than `before` has the service, and how it then is. The old one closes the conversation when it hands the
    /// service over: `again` begins another at the same socket. If nobody is there, the new program has the service all the same, if it
    /// outlives the old one.
    pub(super) fn upgrade(
        self,
        client: &mut Client,
        before: &Status,
        again: impl Fn() -> Result<Client, CtlError>,
    ) -> Result<Upgraded, CtlError> {
        self.spinner.enable_steady_tick(TICK);
        let mut after = None;
        let mut successor = None;
        let process = client.process();
        loop {
            match client.progress(after) {
                Ok(status) if status.pid != before.pid => return Ok(Upgraded::Answers(Box::new(status))),
                Ok(status) if status.failed_upgrades > before.failed_upgrades => {
                    return Err(CtlError::UpgradeFailed(status.last_upgrade_failure.unwrap_or_default()));
                }
                Ok(status) => {
                    successor = client.successor(&status).zip(status.successor).or(successor);
                    after = Some(status.changes);
                }
                Err(ControlError::Broken(_)) => match (self.successor(process.as_ref(), &again), &successor) {
                    // One that did not get the service ends with the old one.
                    (Err(CtlError::Gone), Some((peer, pid))) if !peer.has_ended_within(LOOK) => {
                        return Ok(Upgraded::Elsewhere { pid: *pid });
                    }
                    (found, _) => {
                        *client = found?;
                        after = None;
                    }
                },
                Err(error) => return Err(error.into()),
            }
            self.show("the new program starts its workers")?;
        }
    }

    /// Until the supervisor's process is gone.
    pub(super) fn end(self, client: &mut Client, process: Option<&Peer>) -> Result<(), CtlError> {
        self.spinner.enable_steady_tick(TICK);
        let mut doing = "stopping".to_owned();
        while let Ok(status) = client.progress(None) {
            doing = workers_in_words(&status);
            self.show(&doing)?;
            if process.is_some_and(|process| process.has_ended_within(TICK)) {
                return Ok(());
            }
        }
        // It answers no more: the rest takes a moment.
        while let Some(process) = process {
            if process.has_ended_within(LOOK) {
                break;
            }
            self.show(&doing)?;
        }
        Ok(())
    }

    /// Until `look` finds the end in what the service tells, whoever has it: an upgrade closes the conversation, and `again` begins
    /// another with the successor.
    fn service<T>(
        &self,
        client: &mut Client,
        again: impl Fn() -> Result<Client, CtlError>,
        look: impl Fn(&Status) -> Found<T>,
    ) -> Result<T, CtlError> {
        loop {
            let process = client.process();
            match self.conversation(client, &look) {
                Err(CtlError::Control(ControlError::Broken(_))) => *client = self.successor(process.as_ref(), &again)?,
                ended => return ended,
            }
        }
    }

    /// The conversation with whoever has the service now. The successor makes its socket in a moment, and the predecessor lives until its
    /// workers have left; if that has not handed the service over but has ended, nobody is found.
    fn successor(&self, predecessor: Option<&Peer>, again: impl Fn() -> Result<Client, CtlError>) -> Result<Client, CtlError> {
        loop {
            let is_last_try = predecessor.is_none_or(|process| process.has_ended_within(MOMENT));
            match again() {
                Ok(client) => return Ok(client),
                Err(_) if is_last_try => return Err(CtlError::Gone),
                Err(_) => self.show("the new program takes over")?,
            }
        }
    }

    /// The same, with one supervisor: it breaks off when that ends.
    fn conversation<T>(&self, client: &mut Client, look: impl Fn(&Status) -> Found<T>) -> Result<T, CtlError> {
        self.spinner.enable_steady_tick(TICK);
        let mut after = None;
        loop {
            let status = client.progress(after)?;
            after = Some(status.changes);
            match look(&status) {
                Found::End(end) => return Ok(end),
                Found::Never => return Err(CtlError::Stops),
                Found::Doing(doing) => self.show(&doing)?,
            }
        }
    }

    fn show(&self, doing: &str) -> Result<(), CtlError> {
        self.spinner.set_message(doing.to_owned());
        match self.patience.0.filter(|patience| clock::now().since(self.began) >= *patience) {
            Some(patience) => Err(CtlError::TooLong { patience, doing: doing.to_owned() }),
            None => Ok(()),
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.spinner.finish_and_clear();
    }
}

/// A service that stops opens its log anew all the same.
fn log_of(status: &Status, before: u64) -> Found<Option<String>> {
    let log = &status.log;
    if log.reopened > before { Found::End(log.open_failure.clone()) } else { Found::Doing("the log is being opened".to_owned()) }
}

/// A service that stops will not do it.
fn unless_it_stops<T>(status: &Status, found: Result<T, String>) -> Found<T> {
    match found {
        Ok(end) => Found::End(end),
        Err(_) if status.stopping => Found::Never,
        Err(doing) => Found::Doing(doing),
    }
}

/// A service that has ended will not do it.
fn unless_it_ends<T>(waited: Result<T, CtlError>) -> Result<T, CtlError> {
    match waited {
        Err(CtlError::Control(ControlError::Broken(_))) => Err(CtlError::Stops),
        ended => ended,
    }
}

/// Whether there are as many workers as are wanted, but those that the kernel holds; words for the person who waits, if not.
fn staffed(status: &Status) -> Result<(), String> {
    let there = status.workers.iter().filter(|worker| worker.state != "waiting" && worker.state != "stuck").count();
    if status.ready >= status.target && there == usize::from(status.target) { Ok(()) } else { Err(workers_in_words(status)) }
}

fn reload_in_words(status: &Status, generation: u32) -> String {
    let current = status.next_generation == Some(generation);
    match status.phase.as_str() {
        "loading" if current => format!("generation {generation}: loading the application"),
        "rolling" if current => {
            let ours = |worker: &&Worker| worker.generation == Some(generation);
            let new = status.workers.iter().filter(ours).filter(|worker| worker.state == "ready").count();
            let starting = status.workers.iter().filter(ours).filter(|worker| worker.state == "starting").count();
            let leaving = status.workers.iter().filter(|worker| worker.state == "stopping").count();
            let target = status.target;
            format!("generation {generation}: {new} of {target} workers replaced, {starting} starting, {leaving} leaving")
        }
        phase => format!("generation {generation}: waiting while the service is {phase}"),
    }
}

fn workers_in_words(status: &Status) -> String {
    let count = |state: &str| status.workers.iter().filter(|worker| worker.state == state).count();
    let parts = ["starting", "stopping", "stuck", "waiting"].map(|state| (state, count(state)));
    let others: Vec<_> = parts.iter().filter(|(_, count)| *count > 0).map(|(state, count)| format!("{count} {state}")).collect();
    let failure = status.workers.iter().filter(|worker| worker.state == "waiting").find_map(|worker| worker.last_exit.as_deref());
    let failure = failure.map(|failure| format!("; {failure}")).unwrap_or_default();
    let ready = counted(u64::from(status.ready), "worker");
    format!("{ready} ready, {} wanted{}{}{failure}", status.target, if others.is_empty() { "" } else { ", " }, others.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_for_workers_does_not_wait_for_one_that_the_kernel_holds() {
        let status = |states: &[&str]| -> Status {
            let workers: Vec<_> =
                states.iter().map(|state| serde_json::json!({"slot": 0, "state": state, "restarts": 0})).collect();
            let ready = states.iter().filter(|state| **state == "ready").count();
            let log = serde_json::json!({"destination": "a.log", "reopened": 0, "dropped_lines": 0});
            serde_json::from_value(serde_json::json!({
                "version": "1", "pid": 7, "target": 2, "ready": ready, "stopping": false, "phase": "running", "generation": 1,
                "changes": 3, "uptime_seconds": 2.5, "reloads": [], "log": log, "failed_upgrades": 0, "workers": workers,
            }))
            .unwrap()
        };
        assert_eq!(staffed(&status(&["ready", "ready"])), Ok(()));
        assert_eq!(staffed(&status(&["ready", "ready", "stuck"])), Ok(()));
        for one_lacks in [["ready", "stuck"], ["ready", "waiting"]] {
            staffed(&status(&one_lacks)).unwrap_err();
        }
        assert_eq!(staffed(&status(&["ready", "stopping", "ready"])).unwrap_err(), "2 workers ready, 2 wanted, 1 stopping");
        assert_eq!(staffed(&status(&["ready", "stuck"])).unwrap_err(), "1 worker ready, 2 wanted, 1 stuck");
    }

    #[test]
    fn the_log_of_a_service_that_stops_is_waited_for_all_the_same() {
        let status = |reopened: u64| -> Status {
            let log = serde_json::json!({"destination": "a.log", "reopened": reopened, "dropped_lines": 0});
            serde_json::from_value(serde_json::json!({
                "version": "1", "pid": 7, "target": 2, "ready": 2, "stopping": true, "phase": "stopping", "generation": 1,
                "changes": 3, "uptime_seconds": 2.5, "reloads": [], "log": log, "failed_upgrades": 0, "workers": [],
            }))
            .unwrap()
        };
        assert!(matches!(log_of(&status(4), 4), Found::Doing(_)));
        assert_eq!(log_of(&status(5), 4), Found::End(None));
        assert_eq!(unless_it_stops::<()>(&status(5), Err("one worker ready".to_owned())), Found::Never);
    }
}
