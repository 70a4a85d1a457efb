//! One request of a plan in forty bytes, so that millions of them fit in memory. While the plan is drafted, some fields hold what was
//! recorded in place of what it comes to.

use std::time::Duration;

use super::arena::Place;
use super::framing::ResponseBody;
use super::sessions::Link;

/// One request of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlannedRequest {
    /// Nanoseconds after the plan's first request; in a draft, after the earliest time there is.
    pub(super) at: u64,
    pub(super) place: Place,
    pub(super) link: Link,
    /// Its place in the recording, without what was dropped.
    pub(super) order: u32,
    /// [`u32::MAX`] if the recording does not tell, or more than that.
    pub(super) recorded_length: u32,
    /// 0 if the recording does not tell.
    pub(super) status: u16,
    pub(super) body: ResponseBody,
}

impl PlannedRequest {
    /// When it was made, after the plan's first request.
    #[must_use]
    pub const fn at(&self) -> Duration {
        Duration::from_nanos(self.at)
    }

    pub(super) const fn nanos(&self) -> u64 {
        self.at
    }

    /// The recorded connection it came on, counted from 0 in order of their first requests; `None` if that is unknown.
    #[must_use]
    pub fn session(&self) -> Option<u32> {
        self.link.session()
    }

    /// The status the recording holds.
    #[must_use]
    pub fn recorded_status(&self) -> Option<u16> {
        (self.status > 0).then_some(self.status)
    }

    /// Whether its response can have a body.
    #[must_use]
    pub const fn response_body(&self) -> ResponseBody {
        self.body
    }
}
