//! Which request is due: by the clock, by answers, or by answers and the pauses after them.

use std::collections::VecDeque;
use std::time::Duration;

use super::Run;
use super::clients::Clients;
use super::merging::Merging;
use crate::replay::{ClosedOrder, Load, Plan, SessionId, Timetable, Turns};
use crate::units::Moment;

/// How long a client of a closed load waits after it found nobody to talk to, so that a dead target costs no processor.
pub(super) const CLIENT_PAUSE: Duration = Duration::from_millis(10);

/// A request that is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) index: usize,
    pub(super) at: Moment,
    /// How much earlier the timetable has it: it was moved, to be sent together with others.
    pub(super) moved: Duration,
    /// The session it belongs to, and must follow in.
    pub(super) session: Option<SessionId>,
}

/// The source of due requests.
#[derive(Debug)]
pub(super) enum Pace<'a> {
    /// By the clock.
    Timed { timetable: Timetable<'a>, start: Moment, merging: Merging, next: Option<Due> },
    /// The next request of the plan for every client that is free.
    Free { plan: &'a Plan, from: usize, turns: Turns, clients: usize, sent: u64, pausing: VecDeque<Moment> },
    /// A session for every client.
    Sessions(Clients<'a>),
}

impl<'a> Pace<'a> {
    /// `None` if an open load has no rate.
    pub(super) fn new(run: &'a Run<'a>, start: Moment) -> Option<Self> {
        Some(match &run.load {
            Load::Open { .. } | Load::Profile { .. } | Load::Recorded { .. } => {
                let mut timetable = Timetable::new(run.plan, run.from, &run.load, run.turns)?;
                let mut merging = Merging::new(start.after(run.duration));
                let next = due(&mut timetable, start, &mut merging);
                Self::Timed { timetable, start, merging, next }
            }
            Load::Closed { clients, order: ClosedOrder::Requests } => {
                let clients = usize::try_from(clients.get()).unwrap_or(usize::MAX);
                let pausing = VecDeque::with_capacity(clients.min(super::QUEUE_LIMIT));
                Self::Free { plan: run.plan, from: run.from, turns: run.turns, clients, sent: 0, pausing }
            }
            Load::Closed { clients, order: ClosedOrder::Sessions(think) } => {
                Self::Sessions(Clients::new(run.plan, run.from, run.turns, clients.get(), *think, start))
            }
        })
    }

    /// The next request due at `now` and before `end`, if `live` requests are on their way.
    pub(super) fn take(&mut self, now: Moment, end: Moment, live: usize) -> Option<Due> {
        match self {
            Self::Timed { timetable, start, merging, next } => {
                let taken = next.filter(|due| due.at <= now && due.at < end)?;
                *next = due(timetable, *start, merging);
                Some(taken)
            }
            Self::Free { plan, from, turns, clients, sent, pausing } => {
                while pausing.front().is_some_and(|until| *until <= now) {
                    pausing.pop_front();
                }
                let free = live + pausing.len() < *clients && now < end && !is_played(plan, *turns, *sent);
                free.then(|| {
                    let index = plan.index(*from, *sent);
                    *sent += 1;
                    Due { index, at: now, moved: Duration::ZERO, session: None }
                })
            }
            // What is due only after the end stays where it is, and is not taken and lost.
            Self::Sessions(clients) => clients.wakes_at().filter(|at| *at < end).and_then(|_| clients.take(now)),
        }
    }

    /// A request found no connection to be had.
    pub(super) fn found_nobody(&mut self, now: Moment) {
        match self {
            Self::Free { pausing, .. } => pausing.push_back(now.after(CLIENT_PAUSE)),
            // Sessions are told when the request has ended.
            Self::Timed { .. } | Self::Sessions(_) => {}
        }
    }

    /// The request of a session has ended; a client that plays it is free from `now` on.
    pub(super) fn ended(&mut self, session: SessionId, now: Moment) {
        match self {
            Self::Sessions(clients) => clients.ended(session, now),
            Self::Timed { .. } | Self::Free { .. } => {}
        }
    }

    /// When a request becomes due by time alone.
    pub(super) fn wakes_at(&self, end: Moment) -> Option<Moment> {
        match self {
            Self::Timed { next, .. } => next.map(|due| due.at).filter(|at| *at < end),
            Self::Free { pausing, .. } => pausing.front().copied(),
            Self::Sessions(clients) => clients.wakes_at().filter(|at| *at < end),
        }
    }

    /// Whether nothing more will ever be due.
    pub(super) fn is_played_out(&self) -> bool {
        match self {
            Self::Timed { next, .. } => next.is_none(),
            Self::Free { plan, turns, sent, .. } => is_played(plan, *turns, *sent),
            Self::Sessions(clients) => clients.are_gone(),
        }
    }

    /// Whether lateness means anything: a closed load has no schedule to be late for.
    pub(super) const fn is_scheduled(&self) -> bool {
        matches!(self, Self::Timed { .. })
    }
}

fn due(timetable: &mut Timetable<'_>, start: Moment, merging: &mut Merging) -> Option<Due> {
    let arrival = timetable.next()?;
    let planned = start.after(arrival.at);
    let at = merging.moved(planned);
    Some(Due { index: arrival.index, at, moved: at.since(planned), session: arrival.session })
}

fn is_played(plan: &Plan, turns: Turns, sent: u64) -> bool {
    match turns {
        Turns::Once => sent >= plan.requests().len() as u64,
        Turns::Endless => false,
    }
}
