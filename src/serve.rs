//! Drives a [`Supervisor`] against a [`Host`] until it has an outcome. Binds nothing, decides nothing.

use std::time::Duration;

use crate::supervisor::event::{Settings, Transition};
use crate::supervisor::host::Host;
use crate::supervisor::{Outcome, Supervisor};
use crate::units::Moment;

/// The loop turns at least this often, so that a health check can tell a living one from a stuck one.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// Who is told what has changed: logs, metrics, systemd, the tuner. All hear the same.
pub trait Audience<H> {
    /// Called once a turn, also when nothing has changed, so that a listener can tell a living loop from a stuck one.
    fn hear(&mut self, host: &H, supervisor: &Supervisor, transitions: &[Transition]);

    /// When it wants to hear again even if nothing happens.
    fn deadline(&self) -> Option<Moment> {
        None
    }
}

/// Runs the service until it ends. `settings` are those of the first generation.
pub fn serve<H: Host>(host: &mut H, settings: Settings, audience: &mut dyn Audience<H>) -> Outcome {
    let (mut supervisor, mut commands) = Supervisor::start(host.now(), settings);
    loop {
        for command in commands {
            host.perform(command);
        }
        let transitions = supervisor.take_transitions();
        audience.hear(host, &supervisor, &transitions);
        if let Some(outcome) = supervisor.outcome() {
            return outcome.clone();
        }
        let longest = host.now().after(LONGEST_SLEEP);
        let due = [supervisor.deadline(), audience.deadline()].into_iter().flatten().fold(longest, Moment::min);
        let event = host.next_event(Some(due));
        let now = host.now();
        supervisor.note(now, event);
        // All that is known counts before anything is decided: who has shown a sign of life in time, and who else has gone.
        while let Some(event) = host.queued_event() {
            supervisor.note(now, event);
        }
        commands = supervisor.decide(now);
    }
}
