//! Lists of connections that are linked through the connections themselves: any can leave from anywhere without a search.

use super::pool::Place;

/// Where a connection stands in its list.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Links {
    earlier: Option<Place>,
    later: Option<Place>,
}

/// What has links.
pub(super) trait Linked {
    fn links(&mut self) -> &mut Links;
}

/// A list. Everything in it is in `all`, and in no other list.
#[derive(Debug, Default)]
pub(super) struct Chain {
    first: Option<Place>,
    last: Option<Place>,
}

impl Chain {
    pub(super) const fn first(&self) -> Option<Place> {
        self.first
    }

    pub(super) const fn last(&self) -> Option<Place> {
        self.last
    }

    pub(super) fn append<T: Linked>(&mut self, all: &mut [T], place: Place) {
        self.insert(all, self.last, place);
    }

    /// Puts `place` behind `earlier`, or first.
    pub(super) fn insert<T: Linked>(&mut self, all: &mut [T], earlier: Option<Place>, place: Place) {
        let later = match earlier {
            Some(earlier) => all[earlier as usize].links().later.replace(place),
            None => self.first.replace(place),
        };
        match later {
            Some(later) => all[later as usize].links().earlier = Some(place),
            None => self.last = Some(place),
        }
        *all[place as usize].links() = Links { earlier, later };
    }

    pub(super) fn remove<T: Linked>(&mut self, all: &mut [T], place: Place) {
        let Links { earlier, later } = std::mem::take(all[place as usize].links());
        match earlier {
            Some(earlier) => all[earlier as usize].links().later = later,
            None => self.first = later,
        }
        match later {
            Some(later) => all[later as usize].links().earlier = earlier,
            None => self.last = earlier,
        }
    }
}

impl Links {
    pub(super) const fn earlier(self) -> Option<Place> {
        self.earlier
    }

    pub(super) const fn later(self) -> Option<Place> {
        self.later
    }
}
