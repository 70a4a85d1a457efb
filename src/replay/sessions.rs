//! Which requests came on one recorded connection. Only what is numbered within its connection counts: without numbers, or where the
//! recording says that its names are those of clients, requests may have overlapped in ways nobody knows, and belong to no session.

use std::time::Duration;

use siphasher::sip::SipHasher13;

use crate::recording::{Meta, Request};

/// A request's place among those of its connection.
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
}

/// The links of `requests`, which are in order of time and fewer than [`u32::MAX`], and the first request of each session. A name
/// whose numbers start again is a new connection.
pub(super) fn link(requests: &[&Request], meta: &Meta) -> (Vec<Link>, Vec<u32>) {
    let mut links = vec![Link::ALONE; requests.len()];
    let names_clients = meta.fidelity.as_ref().is_some_and(|fidelity| fidelity.connections.as_deref() == Some("client"));
    if names_clients {
        return (links, Vec::new());
    }
    // Connections whose hashes collide are cut into shorter sessions, no worse.
    let mut members: Vec<(u64, u32)> = (0..).zip(requests).filter_map(|(index, request)| Some((hash(request)?, index))).collect();
    members.sort_unstable();
    for pair in members.array_windows() {
        let [(_, earlier), (_, later)] = *pair;
        let (before, after) = (requests[earlier as usize], requests[later as usize]);
        if before.connection == after.connection && before.ordinal < after.ordinal {
            links[earlier as usize].next = later;
            links[later as usize].think_micros = think(before, after);
        }
    }
    members.sort_unstable_by_key(|(_, index)| *index);
    let firsts = number(&mut links, members.iter().map(|(_, index)| *index));
    (links, firsts)
}

/// Of the connection, if the request is numbered on one.
fn hash(request: &Request) -> Option<u64> {
    request.ordinal?;
    request.connection.as_deref().map(|name| SipHasher13::new().hash(name.as_bytes()))
}

/// Numbers sessions in the order of their first requests, which are returned.
fn number(links: &mut [Link], members: impl Iterator<Item = u32>) -> Vec<u32> {
    let mut firsts = Vec::new();
    for first in members {
        if links[first as usize].session != NONE {
            continue;
        }
        let session = u32::try_from(firsts.len()).expect("invariant: no more sessions than requests");
        firsts.push(first);
        let mut place = Some(first as usize);
        while let Some(index) = place {
            links[index].session = session;
            place = links[index].next();
        }
    }
    firsts
}

/// From the end of one response, or its request if that is unknown, to the next request: microseconds, at most 71 minutes.
fn think(before: &Request, after: &Request) -> u32 {
    let gap = Duration::from_nanos(after.at.0.abs_diff(before.at.0));
    let pause = gap.saturating_sub(before.duration.unwrap_or_default());
    u32::try_from(pause.as_micros()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::read;

    fn linked(lines: &[&str]) -> (Vec<Link>, Vec<u32>) {
        let recording = read(lines.join("\n").as_bytes()).unwrap();
        link(&recording.requests.iter().collect::<Vec<_>>(), &recording.meta)
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
}
