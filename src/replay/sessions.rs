//! Which requests came on one recorded connection. Only what is numbered within its connection counts: without numbers, or where the
//! recording says that its names are those of clients, requests may have overlapped in ways nobody knows, and belong to no session.

use std::collections::HashMap;
use std::time::Duration;

use siphasher::sip::SipHasher13;

use super::planned::PlannedRequest;
use crate::recording::{Meta, Request};

/// A request's place among those of its connection. In a draft, what was recorded: the connection, the number on it, and how long the
/// response took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link {
    session: u32,
    next: u32,
    think_micros: u32,
}

const NONE: u32 = u32::MAX;

impl Link {
    const ALONE: Self = Self { session: NONE, next: NONE, think_micros: 0 };

    pub(super) fn session(self) -> Option<u32> {
        (self.session != NONE).then_some(self.session)
    }

    pub(super) fn next(self) -> Option<usize> {
        (self.next != NONE).then_some(self.next as usize)
    }

    pub(super) const fn think(self) -> Duration {
        Duration::from_micros(self.think_micros as u64)
    }

    /// In a draft: the connection, counted from 0, and the place on it.
    pub(super) const fn recorded(self) -> (u32, u32) {
        (self.session, self.next)
    }
}

/// Recorded connections, counted as they appear.
pub(super) struct Connections {
    /// By 64-bit hash of the name: among ten million names, any two fall together with a probability of 3 in a million (the birthday
    /// bound, n²/2⁶⁵), and then share a connection in the replay.
    ids: HashMap<u64, u32>,
    /// Names that are those of clients say nothing of connections.
    names_clients: bool,
}

impl Connections {
    pub(super) fn new(meta: &Meta) -> Self {
        let fidelity = meta.fidelity.as_ref();
        let names_clients = fidelity.is_some_and(|fidelity| fidelity.connections.as_deref() == Some("client"));
        Self { ids: HashMap::new(), names_clients }
    }

    /// What is recorded of a request's connection. A number beyond 32 bits counts as none.
    pub(super) fn link(&mut self, request: &Request) -> Link {
        let numbered = request.connection.as_deref().zip(request.ordinal).filter(|_| !self.names_clients);
        let Some((name, ordinal)) = numbered.and_then(|(name, ordinal)| Some((name, u32::try_from(ordinal).ok()?))) else {
            return Link::ALONE;
        };
        let next = u32::try_from(self.ids.len()).expect("invariant: no more connections than requests");
        let session = *self.ids.entry(SipHasher13::new().hash(name.as_bytes())).or_insert(next);
        let duration = request.duration.unwrap_or_default().as_micros();
        Link { session, next: ordinal, think_micros: u32::try_from(duration).unwrap_or(u32::MAX) }
    }

    pub(super) fn count(&self) -> usize {
        self.ids.len()
    }
}

/// The last request seen on a connection, as recorded.
#[derive(Clone, Copy)]
struct Last {
    index: u32,
    at: u64,
    link: Link,
}

/// Turns what was recorded of `requests`, which are in order of time, into links and sessions; returns the first request of each. A name
/// whose numbers start again is a new session.
pub(super) fn link(requests: &mut [PlannedRequest], connections: usize) -> Vec<u32> {
    let mut firsts = Vec::new();
    let mut lasts: Vec<Option<Last>> = vec![None; connections];
    for index in 0..requests.len() {
        let PlannedRequest { at, link, .. } = requests[index];
        let Some(last) = lasts.get_mut(link.session as usize) else { continue };
        let index_in_plan = u32::try_from(index).expect("invariant: a plan has fewer than 2^32 requests");
        let before = last.replace(Last { index: index_in_plan, at, link });
        requests[index].link = if let Some(before) = before.filter(|before| before.link.next < link.next) {
            let earlier = &mut requests[before.index as usize].link;
            earlier.next = index_in_plan;
            Link { session: earlier.session, next: NONE, think_micros: think(before, at) }
        } else {
            firsts.push(index_in_plan);
            let session = u32::try_from(firsts.len() - 1).expect("invariant: no more sessions than requests");
            Link { session, ..Link::ALONE }
        };
    }
    firsts.shrink_to_fit();
    firsts
}

/// From the end of one response, or its request if that is unknown, to the next request at `at`: microseconds, at most 71 minutes.
fn think(before: Last, at: u64) -> u32 {
    let gap = Duration::from_nanos(at - before.at);
    let pause = gap.saturating_sub(before.link.think());
    u32::try_from(pause.as_micros()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::read;
    use crate::replay::{Plan, PlanOptions, Reuse};

    fn linked(lines: &[&str]) -> (Vec<Link>, Vec<u32>) {
        let recording = read(lines.join("\n").as_bytes()).unwrap();
        let plan = Plan::compile(&recording, &PlanOptions::new("a", Reuse::KeepAlive)).unwrap();
        (plan.requests.iter().map(|request| request.link).collect(), plan.firsts)
    }

    #[test]
    fn requests_of_a_connection_follow_each_other() {
        let (links, firsts) = linked(&[
            r#"{"t":1,"c":"b","n":1,"m":"GET","u":"/","d":0.25}"#,
            r#"{"t":1.5,"c":"a","n":1,"m":"GET","u":"/"}"#,
            r#"{"t":2,"c":"b","n":4,"m":"GET","u":"/","d":9}"#,
            r#"{"t":3,"c":"b","n":5,"m":"GET","u":"/"}"#,
            r#"{"t":4,"c":"a","n":2,"m":"GET","u":"/"}"#,
        ]);
        assert_eq!(firsts, [0, 1]);
        assert_eq!(links.iter().map(|link| link.session()).collect::<Vec<_>>(), [0, 1, 0, 0, 1].map(Some));
        assert_eq!(links.iter().map(|link| link.next()).collect::<Vec<_>>(), [Some(2), Some(4), Some(3), None, None]);
        let thought = |index: usize| links[index].think().as_millis();
        // The third overlaps with the response before it; the fifth does not know when that came.
        assert_eq!([0, 1, 2, 3, 4].map(thought), [0, 0, 750, 0, 2_500]);
    }

    #[test]
    fn a_name_used_again_is_another_connection() {
        let (links, firsts) = linked(&[
            r#"{"t":1,"c":"a","n":1,"m":"GET","u":"/"}"#,
            r#"{"t":2,"c":"a","n":2,"m":"GET","u":"/"}"#,
            r#"{"t":3,"c":"a","n":1,"m":"GET","u":"/"}"#,
            r#"{"t":4,"c":"a","n":1,"m":"GET","u":"/"}"#,
        ]);
        assert_eq!(firsts, [0, 2, 3]);
        assert_eq!(links.iter().map(|link| link.session()).collect::<Vec<_>>(), [0, 0, 1, 2].map(Some));
        assert!(links[1..].iter().all(|link| link.next().is_none()));
    }

    #[test]
    fn clients_are_no_connections() {
        let lines = [r#"{"t":1,"c":"a","m":"GET","u":"/"}"#, r#"{"t":2,"c":"a","m":"GET","u":"/"}"#];
        assert_eq!(linked(&lines), (vec![Link::ALONE; 2], vec![]));
        let meta = r#"{"meta":{"fidelity":{"connections":"client"}}}"#;
        let lines = [meta, r#"{"t":1,"c":"a","n":1,"m":"GET","u":"/"}"#];
        assert_eq!(linked(&lines), (vec![Link::ALONE], vec![]));
    }

    #[test]
    fn a_number_beyond_32_bits_is_none() {
        let beyond = r#"{"t":1,"c":"a","n":4294967296,"m":"GET","u":"/"}"#;
        assert_eq!(linked(&[beyond]), (vec![Link::ALONE], vec![]));
        let (links, firsts) = linked(&[beyond, r#"{"t":1,"c":"a","n":4294967295,"m":"GET","u":"/"}"#]);
        assert_eq!((links.iter().filter(|link| link.session() == Some(0)).count(), firsts.len()), (1, 1));
    }
}
