//! Which request is due, for both load models.

use std::collections::VecDeque;
use std::time::Duration;

use crate::replay::{Load, Plan, Timetable, Turns};
use crate::units::Moment;

/// How long a client of a closed load waits after it found nobody to talk to, so that a dead target costs no processor.
const CLIENT_PAUSE: Duration = Duration::from_millis(10);

/// A request that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) index: usize,
    pub(super) at: Moment,
}

/// The source of due requests.
#[derive(Debug)]
pub(super) enum Pace<'a> {
    Open { timetable: Timetable<'a>, start: Moment, next: Option<Due> },
    Closed { plan: &'a Plan, from: usize, clients: usize, sent: u64, pausing: VecDeque<Moment> },
}

impl<'a> Pace<'a> {
    /// `None` if an open load has no rate.
    pub(super) fn new(load: &Load, plan: &'a Plan, from: usize, start: Moment) -> Option<Self> {
        Some(match load {
            Load::Open { .. } | Load::Profile { .. } | Load::Recorded { .. } => {
                let mut timetable = Timetable::new(plan, from, load, Turns::Endless)?;
                let next = due(&mut timetable, start);
                Self::Open { timetable, start, next }
            }
            Load::Closed { clients, .. } => {
                let clients = usize::try_from(clients.get()).unwrap_or(usize::MAX);
                Self::Closed { plan, from, clients, sent: 0, pausing: VecDeque::new() }
            }
        })
    }

    /// The next request due at `now` and before `end`, if `live` requests are on their way.
    pub(super) fn take(&mut self, now: Moment, end: Moment, live: usize) -> Option<Due> {
        match self {
            Self::Open { timetable, start, next } => {
                let taken = next.filter(|due| due.at <= now && due.at < end)?;
                *next = due(timetable, *start);
                Some(taken)
            }
            Self::Closed { plan, from, clients, sent, pausing } => {
                while pausing.front().is_some_and(|until| *until <= now) {
                    pausing.pop_front();
                }
                let free = live + pausing.len() < *clients && now < end;
                free.then(|| {
                    let index = plan.index(*from, *sent);
                    *sent += 1;
                    Due { index, at: now }
                })
            }
        }
    }

    /// A request found no connection to be had.
    pub(super) fn found_nobody(&mut self, now: Moment) {
        match self {
            Self::Open { .. } => {}
            Self::Closed { pausing, .. } => pausing.push_back(now.after(CLIENT_PAUSE)),
        }
    }

    /// When a request becomes due by time alone.
    pub(super) fn wakes_at(&self, end: Moment) -> Option<Moment> {
        match self {
            Self::Open { next, .. } => next.map(|due| due.at).filter(|at| *at < end),
            Self::Closed { pausing, .. } => pausing.front().copied(),
        }
    }

    /// Whether lateness means anything: a closed load has no schedule to be late for.
    pub(super) const fn is_scheduled(&self) -> bool {
        matches!(self, Self::Open { .. })
    }
}

fn due(timetable: &mut Timetable<'_>, start: Moment) -> Option<Due> {
    timetable.next().map(|arrival| Due { index: arrival.index, at: start.after(arrival.at) })
}
