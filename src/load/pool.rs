//! The connections of a run: vacant, idle or carrying a request. Those that carry one are linked in the order of their deadlines, so
//! the next timeout is known without a search.

use std::os::fd::OwnedFd;

use super::pace::Due;
use crate::replay::Response;
use crate::units::Moment;

/// A place for a connection; it stays while connections come and go.
pub(super) type Place = u32;

/// A request on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flight {
    pub(super) due: Due,
    pub(super) attempt: Attempt,
}

/// Whether a request may be sent again if its kept-alive connection proves dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    First,
    Second,
}

/// A connection that carries a request.
#[derive(Debug)]
pub(super) struct Busy {
    pub(super) socket: OwnedFd,
    pub(super) flight: Flight,
    /// When the connection was asked for.
    pub(super) started: Moment,
    /// Bytes of the request that are out.
    pub(super) sent: usize,
    pub(super) usage: Usage,
    /// Whether anything of the answer has come.
    pub(super) answering: bool,
}

/// Whether a connection carried a request before this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Usage {
    Fresh,
    Reused,
}

#[derive(Debug)]
pub(super) enum State {
    Vacant,
    Idle(OwnedFd),
    Busy(Busy),
}

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) state: State,
    pub(super) response: Response,
    /// Rises whenever the place becomes vacant, so that a late event cannot reach the next connection.
    life: u32,
    earlier: Option<Place>,
    later: Option<Place>,
}

/// All connections of a run, `limit` at most.
#[derive(Debug)]
pub(super) struct Pool {
    connections: Vec<Connection>,
    vacant: Vec<Place>,
    /// The one used last is used first: few connections stay warm, the others can end.
    idle: Vec<Place>,
    first: Option<Place>,
    last: Option<Place>,
    busy: usize,
    limit: u32,
    max_body: u64,
}

impl Pool {
    pub(super) fn new(limit: u32, max_body: u64) -> Self {
        Self { connections: Vec::new(), vacant: Vec::new(), idle: Vec::new(), first: None, last: None, busy: 0, limit, max_body }
    }

    /// How many carry a request.
    pub(super) fn busy(&self) -> usize {
        self.busy
    }

    /// Whether a request can be taken now.
    pub(super) fn has_room(&self) -> bool {
        !self.idle.is_empty() || !self.vacant.is_empty() || self.connections.len() < self.limit as usize
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

    /// Takes an idle connection out.
    pub(super) fn take_idle(&mut self) -> Option<(Place, OwnedFd)> {
        let place = self.idle.pop()?;
        match std::mem::replace(&mut self.get(place).state, State::Vacant) {
            State::Idle(socket) => Some((place, socket)),
            State::Vacant | State::Busy(_) => None,
        }
    }

    /// A vacant place, made by ending the oldest idle connection if need be.
    pub(super) fn take_vacant(&mut self) -> Option<Place> {
        if let Some(place) = self.vacant.pop() {
            return Some(place);
        }
        if self.connections.len() < self.limit as usize {
            let place = Place::try_from(self.connections.len()).ok()?;
            let response = Response::new(self.max_body);
            self.connections.push(Connection { state: State::Vacant, response, life: 0, earlier: None, later: None });
            return Some(place);
        }
        let oldest = *self.idle.first()?;
        self.end(oldest);
        self.vacant.pop()
    }

    /// Gives a place back that was taken and not used.
    pub(super) fn put_back(&mut self, place: Place) {
        self.vacant.push(place);
    }

    /// Puts a request on a connection.
    pub(super) fn begin(&mut self, place: Place, busy: Busy) {
        let due = busy.flight.due.at;
        self.get(place).state = State::Busy(busy);
        self.busy += 1;
        // Requests come in the order of their deadlines, but for those that are sent again.
        let mut earlier = self.last;
        while let Some(candidate) = earlier.filter(|candidate| self.due(*candidate).is_some_and(|other| other > due)) {
            earlier = self.get(candidate).earlier;
        }
        let later = match earlier {
            Some(earlier) => self.get(earlier).later.replace(place),
            None => self.first.replace(place),
        };
        match later {
            Some(later) => self.get(later).earlier = Some(place),
            None => self.last = Some(place),
        }
        let connection = self.get(place);
        (connection.earlier, connection.later) = (earlier, later);
    }

    /// The connection has done its request and waits for the next.
    pub(super) fn rest(&mut self, place: Place) {
        if let Some(busy) = self.unlink(place) {
            self.get(place).state = State::Idle(busy.socket);
            self.idle.push(place);
        }
    }

    /// Closes the connection. Returns what it carried.
    pub(super) fn end(&mut self, place: Place) -> Option<Busy> {
        if matches!(self.get(place).state, State::Idle(_)) {
            self.idle.retain(|idle| *idle != place);
        }
        let busy = self.unlink(place);
        let connection = self.get(place);
        connection.state = State::Vacant;
        connection.life = connection.life.wrapping_add(1);
        self.vacant.push(place);
        busy
    }

    /// The request with the earliest deadline.
    pub(super) fn earliest(&self) -> Option<(Place, Moment)> {
        self.first.and_then(|place| Some((place, self.due(place)?)))
    }

    /// How many requests on connections were due before `moment`. Looks at no others.
    pub(super) fn due_before(&self, moment: Moment) -> u64 {
        let mut count = 0;
        let mut next = self.first;
        while let Some(place) = next.filter(|place| self.due(*place).is_some_and(|due| due < moment)) {
            count += 1;
            next = self.connections[place as usize].later;
        }
        count
    }

    fn due(&self, place: Place) -> Option<Moment> {
        match &self.connections[place as usize].state {
            State::Busy(busy) => Some(busy.flight.due.at),
            State::Vacant | State::Idle(_) => None,
        }
    }

    fn unlink(&mut self, place: Place) -> Option<Busy> {
        let connection = self.get(place);
        let (busy, earlier, later) = match std::mem::replace(&mut connection.state, State::Vacant) {
            State::Busy(busy) => (busy, connection.earlier.take(), connection.later.take()),
            State::Vacant | State::Idle(_) => return None,
        };
        match earlier {
            Some(earlier) => self.get(earlier).later = later,
            None => self.first = later,
        }
        match later {
            Some(later) => self.get(later).earlier = earlier,
            None => self.last = earlier,
        }
        self.busy -= 1;
        Some(busy)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use proptest::prelude::*;

    use super::*;

    fn busy(nanos: u64) -> Busy {
        Busy {
            socket: File::open("/dev/null").unwrap().into(),
            flight: Flight { due: Due { index: 0, at: Moment::from_nanos(nanos) }, attempt: Attempt::First },
            started: Moment::default(),
            sent: 0,
            usage: Usage::Fresh,
            answering: false,
        }
    }

    proptest! {
        #[test]
        fn the_earliest_is_known_whatever_happens(steps in prop::collection::vec((0_u8..3, 0_u64..50), 1..80)) {
            let mut pool = Pool::new(6, 0);
            let mut model: Vec<(u64, Place)> = Vec::new();
            for (step, number) in steps {
                let chosen = model.get(usize::try_from(number).unwrap() % model.len().max(1)).copied();
                match (step, chosen) {
                    (0, _) if pool.has_room() => {
                        let place = pool.take_idle().map(|(place, _)| place).or_else(|| pool.take_vacant()).unwrap();
                        pool.begin(place, busy(number));
                        model.push((number, place));
                    }
                    (1, Some((due, place))) => {
                        pool.rest(place);
                        model.retain(|entry| *entry != (due, place));
                    }
                    (2, Some((due, place))) => {
                        let label = pool.label(place);
                        prop_assert_eq!(pool.find(label), Some(place));
                        prop_assert!(pool.end(place).is_some());
                        prop_assert_eq!(pool.find(label), None);
                        model.retain(|entry| *entry != (due, place));
                    }
                    _ => {}
                }
                prop_assert_eq!(pool.busy(), model.len());
                let earliest = model.iter().map(|(due, _)| *due).min();
                prop_assert_eq!(pool.earliest().map(|(_, due)| due.as_nanos()), earliest);
            }
        }
    }
}
