//! Numbers the requests of connections whose source names the connection and not the place on it. A client uses a port again: after
//! [`SILENCE`] the same name is another connection.

use std::collections::HashMap;

use crate::recording::{Request, UnixNanos};

/// So long a connection without requests is closed by whatever server there is.
const SILENCE: i64 = 120 * 1_000_000_000;
/// The most connections that are remembered at once.
const MAX_CONNECTIONS: usize = 100_000;

/// The connections seen lately.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    seen: HashMap<Box<str>, Seen>,
    /// How many got a name of their own because theirs was used before.
    renamed: u64,
    has_forgotten: bool,
}

#[derive(Debug)]
struct Seen {
    last: UnixNanos,
    requests: u64,
    /// What tells it from an earlier one of the same name.
    suffix: Option<u64>,
}

impl Sessions {
    /// Numbers a request, in order of arrival.
    pub(super) fn number(&mut self, request: &mut Request) {
        let Some(name) = request.connection.take() else { return };
        let at = request.at;
        if self.seen.len() >= MAX_CONNECTIONS && !self.seen.contains_key(&name) {
            self.forget(at);
        }
        let is_new_name = !self.has_forgotten;
        let renamed = &mut self.renamed;
        let mut suffix = || {
            *renamed += 1;
            Some(*renamed)
        };
        let seen = self.seen.entry(name.clone()).or_insert_with(|| Seen {
            last: at,
            requests: 0,
            suffix: if is_new_name { None } else { suffix() },
        });
        if at.0.saturating_sub(seen.last.0) > SILENCE {
            *seen = Seen { last: at, requests: 0, suffix: suffix() };
        }
        seen.last = seen.last.max(at);
        seen.requests += 1;
        request.ordinal = Some(seen.requests);
        request.connection = Some(seen.suffix.map_or(name.clone(), |suffix| format!("{name}.{suffix}").into()));
    }

    /// Makes room: those that are silent go, and if these are few, all.
    fn forget(&mut self, now: UnixNanos) {
        self.has_forgotten = true;
        self.seen.retain(|_, seen| now.0.saturating_sub(seen.last.0) <= SILENCE);
        if self.seen.len() > MAX_CONNECTIONS / 2 {
            self.seen.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::{Method, Target};

    fn numbered(sessions: &mut Sessions, at: i64, name: &str) -> (String, u64) {
        let mut request = Request {
            at: UnixNanos(at * 1_000_000_000),
            method: Method::new("GET").unwrap(),
            target: Target::new("/").unwrap(),
            connection: Some(name.into()),
            ordinal: None,
            headers: Vec::new(),
            body: Vec::new(),
            status: None,
            duration: None,
            response_bytes: None,
        };
        sessions.number(&mut request);
        (request.connection.unwrap().into(), request.ordinal.unwrap())
    }

    #[test]
    fn requests_are_counted_until_a_long_silence() {
        let mut sessions = Sessions::default();
        assert_eq!(numbered(&mut sessions, 0, "a"), ("a".into(), 1));
        assert_eq!(numbered(&mut sessions, 1, "b"), ("b".into(), 1));
        assert_eq!(numbered(&mut sessions, 100, "a"), ("a".into(), 2));
        assert_eq!(numbered(&mut sessions, 221, "a"), ("a.1".into(), 1));
        assert_eq!(numbered(&mut sessions, 222, "a"), ("a.1".into(), 2));
    }

    #[test]
    fn no_name_comes_twice_when_memory_is_short() {
        let mut sessions = Sessions::default();
        for n in 0..=MAX_CONNECTIONS {
            numbered(&mut sessions, 0, &n.to_string());
        }
        assert!(sessions.seen.len() <= MAX_CONNECTIONS);
        assert_eq!(numbered(&mut sessions, 1, "0"), ("0.2".into(), 1));
    }
}
