//! The border between deciding and doing. The supervisor owns this trait; Linux and the simulator implement it.

use super::event::{Command, Event};
use crate::units::Moment;

/// Carries out commands and reports facts.
pub trait Host {
    /// The monotonic clock's reading.
    fn now(&self) -> Moment;

    /// Carries out `command`. Never waits: the result comes back as an event.
    fn perform(&mut self, command: Command);

    /// A fact or wish that is there already.
    fn queued_event(&mut self) -> Option<Event>;

    /// The next fact or wish, waiting for it until `deadline` (for ever if there is none). [`Event::Woke`] when it has passed.
    fn next_event(&mut self, deadline: Option<Moment>) -> Event;
}
