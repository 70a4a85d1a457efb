//! What a recording holds, in numbers, in memory that does not grow with it: counters of distinct things are bounded, and what came
//! after the bound was reached is counted together.

mod arrivals;
mod key_counts;
mod rates;
mod route;
mod routes;
mod sizes;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use siphasher::sip::SipHasher13;

use super::request::{Request, UnixNanos};
use arrivals::Arrivals;
pub use arrivals::Burstiness;
use key_counts::KeyCounts;
pub use rates::Rates;
pub use route::route;
use routes::Routes;
pub use sizes::Quantiles;
use sizes::Sizes;

/// The most connections or clients that are told apart.
const MAX_CONNECTIONS: usize = 200_000;
/// The most methods that are told apart.
const MAX_METHODS: usize = 50;

/// Requests counted so far.
#[derive(Debug, Default)]
pub struct Summary {
    arrivals: Arrivals,
    rates: Rates,
    /// By hash of the name.
    connections: KeyCounts<u64>,
    with_connection: u64,
    with_ordinal: u64,
    methods: KeyCounts<Box<str>>,
    routes: Routes,
    statuses: BTreeMap<u16, u64>,
    request_bytes: Sizes,
    response_bytes: Sizes,
    duration_micros: Sizes,
    took: Duration,
}

/// What they are.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// How many there are.
    pub requests: u64,
    /// When the first came, nanoseconds since the Unix epoch.
    pub first_ns: i64,
    /// From the first to the last, seconds.
    pub span: f64,
    /// Requests a second over the span; none if it has no length.
    pub mean_rate: Option<f64>,
    /// The most requests in one second; seconds count from the first request.
    pub peak_rate: u64,
    /// Requests over time.
    pub rates: Rates,
    /// How unevenly they came.
    pub burstiness: Burstiness,
    /// Whom they came from; none if no request tells.
    pub connections: Option<Connections>,
    /// Requests by method, most first.
    pub methods: Counts,
    /// Requests by method and route, most first. A route is a path without its query, with numbers, UUIDs, hashes and many
    /// names replaced.
    pub routes: Counts,
    /// Requests by the status of their response.
    pub statuses: BTreeMap<u16, u64>,
    /// Bytes of the requests, head and body, about as on the wire.
    pub request_bytes: Quantiles,
    /// Bytes of the responses' bodies; none if no request tells.
    pub response_bytes: Option<Quantiles>,
    /// Seconds to the response; none if no request tells.
    pub seconds: Option<Quantiles>,
    /// How many requests were in flight on average: rate times mean duration (Little, Operations Research 9, 1961). None unless all
    /// requests tell their duration.
    pub in_flight: Option<f64>,
}

/// Counts of distinct things.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Counts {
    /// Each, and how many; most first.
    pub counts: Vec<(Box<str>, u64)>,
    /// How many came of others after a bound was reached.
    pub other: u64,
}

/// Whom requests came from.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Connections {
    /// Whether requests have places on their connections; if not, connections may be clients.
    pub are_numbered: bool,
    /// How many there are; more, if `is_bounded`.
    pub count: u64,
    /// Whether there were more than can be told apart.
    pub is_bounded: bool,
    /// Requests on each.
    pub requests: Quantiles,
    /// Requests that do not tell.
    pub unknown: u64,
}

impl Summary {
    /// Counts a request. Requests come in order of time; one that does not is taken to come with the one before it.
    pub fn add(&mut self, request: &Request) {
        self.arrivals.add(request.at);
        self.rates.add(request.at);
        if let Some(connection) = &request.connection {
            self.with_connection += 1;
            self.connections.add(SipHasher13::new().hash(connection.as_bytes()), MAX_CONNECTIONS);
        }
        self.with_ordinal += u64::from(request.ordinal.is_some());
        self.methods.add(request.method.as_str().into(), MAX_METHODS);
        self.routes.add(request);
        if let Some(status) = request.status {
            *self.statuses.entry(status).or_default() += 1;
        }
        self.request_bytes.add(request.size() as u64);
        if let Some(bytes) = request.response_bytes {
            self.response_bytes.add(bytes);
        }
        if let Some(duration) = request.duration {
            self.took = self.took.saturating_add(duration);
            self.duration_micros.add(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX));
        }
    }

    /// What was counted; `None` if nothing was.
    #[must_use]
    pub fn report(&self) -> Option<Report> {
        let (UnixNanos(first_ns), span) = self.arrivals.span()?;
        let requests = self.arrivals.count();
        let seconds = span.as_secs_f64();
        // n requests have n - 1 gaps.
        let mean_rate = (seconds > 0.0).then(|| (requests - 1) as f64 / seconds);
        let mean_seconds = self.took.as_secs_f64() / requests as f64;
        Some(Report {
            requests,
            first_ns,
            span: seconds,
            mean_rate,
            peak_rate: self.arrivals.peak(),
            rates: self.rates.clone(),
            burstiness: self.arrivals.burstiness(),
            connections: (self.with_connection > 0).then(|| self.connections(requests)),
            methods: counts(&self.methods),
            routes: counts(self.routes.key_counts()),
            statuses: self.statuses.clone(),
            request_bytes: self.request_bytes.quantiles(1.0).unwrap_or_default(),
            response_bytes: self.response_bytes.quantiles(1.0),
            seconds: self.duration_micros.quantiles(1e-6),
            in_flight: mean_rate.filter(|_| self.duration_micros.count() == requests).map(|rate| rate * mean_seconds),
        })
    }

    fn connections(&self, requests: u64) -> Connections {
        let mut each = Sizes::default();
        for (_, count) in self.connections.iter() {
            each.add(count);
        }
        Connections {
            are_numbered: self.with_ordinal == self.with_connection,
            count: each.count(),
            is_bounded: self.connections.other() > 0,
            requests: each.quantiles(1.0).unwrap_or_default(),
            unknown: requests - self.with_connection,
        }
    }
}

fn counts(key_counts: &KeyCounts<Box<str>>) -> Counts {
    let mut counts: Vec<_> = key_counts.iter().map(|(name, count)| (name.clone(), count)).collect();
    counts.sort_by(|(name, count), (other, more)| more.cmp(count).then_with(|| name.cmp(other)));
    Counts { counts, other: key_counts.other() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::read;

    fn report(lines: &[&str]) -> Option<Report> {
        let mut summary = Summary::default();
        for request in read(lines.join("\n").as_bytes()).unwrap().requests {
            summary.add(&request);
        }
        summary.report()
    }

    #[test]
    fn a_recording_in_numbers() {
        let report = report(&[
            r#"{"t":10,"c":"a","n":1,"m":"GET","u":"/p/1?x","s":200,"d":0.5,"rb":100}"#,
            r#"{"t":11,"c":"a","n":2,"m":"GET","u":"/p/2","s":200,"d":0.5,"rb":100}"#,
            r#"{"t":12,"c":"b","n":1,"m":"POST","u":"/p/2","s":503,"d":2,"rb":100}"#,
        ])
        .unwrap();
        assert_eq!((report.requests, report.span, report.mean_rate, report.peak_rate), (3, 2.0, Some(1.0), 1));
        assert_eq!(report.in_flight, Some(1.0));
        let expected = [("GET /p/{n}".into(), 2), ("POST /p/{n}".into(), 1)];
        assert_eq!((report.routes.counts.as_slice(), report.routes.other), (expected.as_slice(), 0));
        assert_eq!(report.statuses, [(200, 2), (503, 1)].into());
        let connections = report.connections.unwrap();
        assert_eq!((connections.count, connections.are_numbered, connections.unknown), (2, true, 0));
        assert!((report.seconds.unwrap().p50 - 0.5).abs() < 0.01);
        assert!((report.response_bytes.unwrap().p99 - 100.0).abs() < 1.0);
    }

    #[test]
    fn what_is_not_told_is_not_made_up() {
        assert!(Summary::default().report().is_none());
        let report = report(&[r#"{"t":10,"m":"GET","u":"/"}"#]).unwrap();
        assert_eq!((report.mean_rate, report.connections, report.seconds, report.in_flight), (None, None, None, None));
        assert_eq!((report.burstiness.dispersion, report.burstiness.gap_variation), (None, None));
    }
}
