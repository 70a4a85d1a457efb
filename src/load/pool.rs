//! The connections of a run: vacant, idle or carrying a request. Those that carry one are linked in the order of their deadlines, so
//! the next timeout is known without a search; idle ones in the order in which they became idle.

use siphasher::sip::SipHasher13;

use super::chain::{Chain, Linked, Links};
use super::pace::Due;
use super::sessions;
use super::transport::Transport;
use crate::replay::Response;
use crate::units::Moment;

/// A place for a connection; it stays while connections come and go.
pub(super) type Place = u32;

/// A request on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flight {
    pub(super) due: Due,
    /// The open session it belongs to, whose connection it must use.
    pub(super) session: Option<sessions::Key>,
    /// When its present wait began: for the answer before it, then for a connection.
    pub(super) since: Moment,
    pub(super) attempt: Attempt,
}

/// Whether a request may be sent again if its kept-alive connection proves dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    First,
    Second {
        /// Whether the first attempt got a byte out, so that the request counts as sent already.
        counted: bool,
    },
}

/// What a connection does for a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Busy {
    pub(super) flight: Flight,
    /// When the connection was asked for.
    pub(super) started: Moment,
    /// When the first byte went out.
    pub(super) sent_at: Option<Moment>,
    /// When the first byte of the answer came.
    pub(super) answered_at: Option<Moment>,
    pub(super) phase: Phase,
    /// Bytes of the request.
    pub(super) length: usize,
    /// Of them, those that are out.
    pub(super) sent: usize,
    pub(super) usage: Usage,
    pub(super) source: Source,
}

/// What happens on a connection that carries a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// It is made, or bytes move: each event leads to the next.
    Moving,
    /// The request is out, and nothing of the answer has been read.
    Awaiting,
}

/// Whether a connection carried a request before this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Usage {
    Fresh,
    Reused,
}

/// Where the bytes of a request are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Plan,
    /// In [`Connection::rewritten`].
    Rewritten,
}

#[derive(Debug)]
pub(super) enum State {
    Vacant,
    Idle(Transport),
    Busy(Transport, Busy),
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) state: State,
    pub(super) response: Response,
    /// Of the content of the answer that comes in, if contents are compared.
    pub(super) hasher: SipHasher13,
    /// A request with other cookies than recorded.
    pub(super) rewritten: Vec<u8>,
    /// The session whose connection it is.
    owner: Option<sessions::Key>,
    /// Rises whenever the place becomes vacant, so that a late event cannot reach the next connection.
    life: u32,
    links: Links,
}

impl Linked for Connection {
    fn links(&mut self) -> &mut Links {
        &mut self.links
    }
}

/// All connections of a run, `limit` at most.
#[derive(Debug)]
pub(super) struct Pool {
    connections: Vec<Connection>,
    vacant: Vec<Place>,
    /// Idle ones that any request may use. The one used last is used first: few connections stay warm, the others can end.
    shared: Chain,
    /// Idle ones that belong to a session.
    owned: Chain,
    flying: Chain,
    busy: usize,
    /// Of those, the ones in [`Phase::Moving`].
    moving: usize,
    limit: u32,
    max_body: u64,
}

impl Pool {
    pub(super) fn new(limit: u32, max_body: u64) -> Self {
        Self {
            connections: Vec::new(),
            vacant: Vec::new(),
            shared: Chain::default(),
            owned: Chain::default(),
            flying: Chain::default(),
            busy: 0,
            moving: 0,
            limit,
            max_body,
        }
    }

    /// How many carry a request.
    pub(super) fn busy(&self) -> usize {
        self.busy
    }

    /// On how many of them bytes move.
    pub(super) fn moving(&self) -> usize {
        self.moving
    }

    /// The connection enters a phase.
    pub(super) fn enter(&mut self, place: Place, phase: Phase) {
        let State::Busy(_, busy) = &mut self.get(place).state else {
            return;
        };
        let before = std::mem::replace(&mut busy.phase, phase);
        match (before, phase) {
            (Phase::Moving, Phase::Awaiting) => self.moving -= 1,
            (Phase::Awaiting, Phase::Moving) => self.moving += 1,
            (Phase::Moving, Phase::Moving) | (Phase::Awaiting, Phase::Awaiting) => {}
        }
    }

    /// Whether a request can be taken now, if need be in the place of an idle connection.
    pub(super) fn has_room(&self) -> bool {
        self.shared.last().is_some() || self.has_vacancy() || self.owned.first().is_some()
    }

    fn has_vacancy(&self) -> bool {
        !self.vacant.is_empty() || self.connections.len() < self.limit as usize
    }

    /// What the poller reports for a place.
    pub(super) fn label(&self, place: Place) -> u64 {
        u64::from(place) << 32 | u64::from(self.connections[place as usize].life)
    }

    /// The place of a label, unless its connection has ended since.
    pub(super) fn find(&self, label: u64) -> Option<Place> {
        let place = u32::try_from(label >> 32).ok()?;
        let connection = self.connections.get(place as usize)?;
        (u64::from(connection.life) == label & u64::from(u32::MAX)).then_some(place)
    }

    pub(super) fn get(&mut self, place: Place) -> &mut Connection {
        &mut self.connections[place as usize]
    }

    /// Takes an idle connection out: the one of `owner` at this place, or the newest that anyone may use.
    pub(super) fn take_idle(&mut self, own: Option<Place>) -> Option<(Place, Transport)> {
        let place = own.or(self.shared.last())?;
        match std::mem::replace(&mut self.get(place).state, State::Vacant) {
            State::Idle(transport) => {
                self.unchain_idle(place);
                Some((place, transport))
            }
            state @ (State::Vacant | State::Busy(..)) => {
                self.get(place).state = state;
                None
            }
        }
    }

    /// The idle connection that has to end so that a new one has a place, if one has to.
    pub(super) fn in_the_way(&self) -> Option<Place> {
        if self.has_vacancy() { None } else { self.shared.first().or(self.owned.first()) }
    }

    /// A vacant place.
    pub(super) fn take_vacant(&mut self) -> Option<Place> {
        if let Some(place) = self.vacant.pop() {
            return Some(place);
        }
        if self.connections.len() >= self.limit as usize {
            return None;
        }
        let place = Place::try_from(self.connections.len()).ok()?;
        self.connections.push(Connection {
            state: State::Vacant,
            response: Response::new(self.max_body),
            hasher: SipHasher13::new(),
            rewritten: Vec::new(),
            owner: None,
            life: 0,
            links: Links::default(),
        });
        Some(place)
    }

    /// Gives a place back that was taken and not used.
    pub(super) fn put_back(&mut self, place: Place) {
        self.vacant.push(place);
    }

    /// Puts a request on a connection.
    pub(super) fn begin(&mut self, place: Place, transport: Transport, busy: Busy) {
        let due = busy.flight.due.at;
        self.moving += usize::from(busy.phase == Phase::Moving);
        let connection = self.get(place);
        connection.owner = busy.flight.session;
        connection.state = State::Busy(transport, busy);
        self.busy += 1;
        // Requests come in the order of their deadlines, but for those that waited or are sent again.
        let mut earlier = self.flying.last();
        while let Some(candidate) = earlier.filter(|candidate| self.due(*candidate).is_some_and(|other| other > due)) {
            earlier = self.connections[candidate as usize].links.earlier();
        }
        self.flying.insert(&mut self.connections, earlier, place);
    }

    /// The connection has done its request and waits for the next.
    pub(super) fn rest(&mut self, place: Place) {
        if let Some((transport, _)) = self.land(place) {
            let connection = self.get(place);
            connection.state = State::Idle(transport);
            let chain = if connection.owner.is_some() { &mut self.owned } else { &mut self.shared };
            chain.append(&mut self.connections, place);
        }
    }

    /// Closes the connection. Returns what it carried, and whose it was.
    pub(super) fn end(&mut self, place: Place) -> (Option<Busy>, Option<sessions::Key>) {
        if matches!(self.get(place).state, State::Idle(_)) {
            self.unchain_idle(place);
        }
        let landed = self.land(place);
        let connection = self.get(place);
        connection.state = State::Vacant;
        connection.life = connection.life.wrapping_add(1);
        let owner = connection.owner.take();
        self.vacant.push(place);
        (landed.map(|(_, busy)| busy), owner)
    }

    /// The request with the earliest deadline.
    pub(super) fn earliest(&self) -> Option<(Place, Moment)> {
        self.flying.first().and_then(|place| Some((place, self.due(place)?)))
    }

    /// How many requests on connections were due before `moment`. Looks at no others.
    pub(super) fn due_before(&self, moment: Moment) -> u64 {
        let mut count = 0;
        let mut next = self.flying.first();
        while let Some(place) = next.filter(|place| self.due(*place).is_some_and(|due| due < moment)) {
            count += 1;
            next = self.connections[place as usize].links.later();
        }
        count
    }

    fn due(&self, place: Place) -> Option<Moment> {
        match &self.connections[place as usize].state {
            State::Busy(_, busy) => Some(busy.flight.due.at),
            State::Vacant | State::Idle(_) => None,
        }
    }

    fn unchain_idle(&mut self, place: Place) {
        let chain = if self.get(place).owner.is_some() { &mut self.owned } else { &mut self.shared };
        chain.remove(&mut self.connections, place);
    }

    fn land(&mut self, place: Place) -> Option<(Transport, Busy)> {
        match std::mem::replace(&mut self.get(place).state, State::Vacant) {
            State::Busy(transport, busy) => {
                self.flying.remove(&mut self.connections, place);
                self.busy -= 1;
                self.moving -= usize::from(busy.phase == Phase::Moving);
                Some((transport, busy))
            }
            State::Vacant | State::Idle(_) => None,
        }
    }
}

#[cfg(test)]
#[path = "pool/tests.rs"]
mod tests;
