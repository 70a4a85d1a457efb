//! A plan under construction. Takes a recording request by request and keeps of each only what the plan will hold, so a recording of any
//! length needs the memory of its plan and little more. Refuses a plan without requests and one beyond the bounds.
//!
//! The plan lies on the heap and in no mapped file: nothing else is kept, so a file would only move the same bytes.

use super::arena::Arena;
use super::framing::ResponseBody;
use super::options::{Methods, PlanOptions};
use super::plan::{Dropped, Plan, PlanError};
use super::planned::PlannedRequest;
use super::sessions::{Connections, link};
use crate::recording::{Meta, Method, Request};

/// The most requests of a plan; 40 bytes each.
pub const MAX_PLANNED: usize = 10_000_000;

/// How many refused methods an error names.
const NAMED_METHODS: usize = 5;

/// Collects requests, in any order.
pub struct PlanDraft {
    options: PlanOptions,
    most: usize,
    requests: Vec<PlannedRequest>,
    arena: Arena,
    connections: Connections,
    dropped: Dropped,
    taken: u64,
    refused: Vec<Method>,
}

impl PlanDraft {
    /// An empty one, for a recording that says `meta` of itself.
    pub fn new(options: PlanOptions, meta: &Meta) -> Result<Self, PlanError> {
        options.check()?;
        Ok(Self {
            options,
            most: MAX_PLANNED,
            requests: Vec::new(),
            arena: Arena::default(),
            connections: Connections::new(meta),
            dropped: Dropped::default(),
            taken: 0,
            refused: Vec::new(),
        })
    }

    /// Adds a request, unless it may not be sent.
    pub fn take(&mut self, request: &Request) -> Result<(), PlanError> {
        self.taken += 1;
        if !self.dropped.keeps(request, &self.options.methods) {
            self.note_refused(&request.method);
            return Ok(());
        }
        let too_large = || PlanError::TooLarge { limit: self.most, what: "requests" };
        let order = u32::try_from(self.requests.len()).map_err(|_| too_large())?;
        if self.requests.len() >= self.most {
            return Err(too_large());
        }
        self.requests.push(PlannedRequest {
            at: request.at.0.abs_diff(i64::MIN),
            place: self.arena.place(request, &self.options)?,
            link: self.connections.link(request),
            order,
            recorded_length: request.response_bytes.and_then(|bytes| u32::try_from(bytes).ok()).unwrap_or(u32::MAX),
            status: request.status.unwrap_or(0),
            body: if request.method.as_str() == "HEAD" { ResponseBody::Never } else { ResponseBody::Possible },
        });
        Ok(())
    }

    /// How many requests were given, with those that are dropped.
    #[must_use]
    pub const fn taken(&self) -> u64 {
        self.taken
    }

    /// The plan. Ties in time are broken by connection, place on it, and place in the recording.
    pub fn finish(self) -> Result<Plan, PlanError> {
        let Self { options, mut requests, arena, connections, dropped, taken, refused, .. } = self;
        let connections = connections.count();
        requests.sort_unstable_by_key(|request| (request.at, request.link.recorded(), request.order));
        let Some(first) = requests.first().map(|request| request.at) else {
            return Err(PlanError::Empty { recorded: taken, dropped, refused });
        };
        for request in &mut requests {
            request.at -= first;
        }
        let firsts = link(&mut requests, connections);
        requests.shrink_to_fit();
        Ok(Plan { requests, arena: arena.into_bytes(), reuse: options.reuse, dropped, firsts })
    }

    /// Remembers a method that could have been allowed.
    fn note_refused(&mut self, method: &Method) {
        let is_refused = !self.options.methods.contain(method) && method.as_str() != "CONNECT";
        if is_refused && self.refused.len() < NAMED_METHODS && !self.refused.contains(method) {
            self.refused.push(method.clone());
        }
    }
}

impl Dropped {
    fn keeps(&mut self, request: &Request, methods: &Methods) -> bool {
        if request.method.as_str() == "CONNECT" || request.headers.iter().any(|header| header.is("upgrade")) {
            self.upgrade += 1;
            return false;
        }
        if !methods.contain(&request.method) {
            self.unsafe_method += 1;
            return false;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::read;
    use crate::replay::Reuse;

    #[test]
    fn one_request_more_than_the_bound_is_refused() {
        let line = r#"{"t":1,"m":"GET","u":"/"}"#;
        let recording = read([line; 3].join("\n").as_bytes()).unwrap();
        let draft = |most: usize| {
            let mut draft = PlanDraft::new(PlanOptions::new("a", Reuse::KeepAlive), &recording.meta).unwrap();
            draft.most = most;
            recording.requests.iter().try_for_each(|request| draft.take(request)).and_then(|()| draft.finish())
        };
        assert_eq!(draft(3).unwrap().requests().len(), 3);
        let refusal = draft(2).unwrap_err();
        assert_eq!(refusal, PlanError::TooLarge { limit: 2, what: "requests" });
        assert_eq!(refusal.to_string(), "more than 2 requests to replay; cut the recording into smaller ones");
    }

    #[test]
    fn ties_keep_the_order_of_the_recording() {
        let lines = (0..100).map(|index| format!(r#"{{"t":{},"m":"GET","u":"/{index}"}}"#, 9 - index / 50));
        let recording = read(lines.collect::<Vec<_>>().join("\n").as_bytes()).unwrap();
        let plan = Plan::compile(&recording, &PlanOptions::new("a", Reuse::KeepAlive)).unwrap();
        let target = |request: &PlannedRequest| {
            let text = String::from_utf8(plan.bytes(request).to_vec()).unwrap();
            text.split(['/', ' ']).nth(2).unwrap().parse::<usize>().unwrap()
        };
        assert_eq!(plan.requests().iter().map(target).collect::<Vec<_>>(), (50..100).chain(0..50).collect::<Vec<_>>());
    }
}
