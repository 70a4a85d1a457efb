//! Makes a recording of logs: finds out what a file is, scrubs every request, and rebuilds the times of arrival. Access logs tell
//! whole seconds, in order of completion: the requests of one second are spread over it by seeded chance, in the order of the file;
//! where the log tells how long a response took, the arrival is that much earlier.

use std::io::BufRead;
use std::time::Duration;

use super::access_log::{self, Fields};
use super::chance::uniform;
use super::jsonl::{self, Entry};
use super::scrub::{Scrub, ScrubKey};
use super::{
    Allowance, Broken, Fidelity, Header, Meta, Method, Position, Recording, RecordingError, Request, Target, UnixNanos, civil,
    sift,
};

const SECOND: i64 = 1_000_000_000;

/// What the spread of whole seconds depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JitterSeed(pub u64);

/// Collects the requests of one or more files.
pub struct Importer {
    scrub: Scrub,
    seed: JitterSeed,
    allowance: Allowance,
    lines: u64,
    broken: Broken,
    /// From JSON Lines: their times are their own.
    exact: Vec<Request>,
    exact_meta: Option<Meta>,
    /// From access logs, stamped with the second their line was written, in the order of the files.
    whole_seconds: Vec<Request>,
    /// The last date that was read, since neighbours share theirs.
    last_date: ([u8; 26], i64),
    with_duration: usize,
    with_agent: usize,
}

impl Importer {
    /// An importer without requests.
    #[must_use]
    pub fn new(key: ScrubKey, seed: JitterSeed) -> Self {
        Self {
            scrub: Scrub::new(key),
            seed,
            allowance: Allowance::default(),
            lines: 0,
            broken: Broken::default(),
            exact: Vec::new(),
            exact_meta: None,
            whole_seconds: Vec::new(),
            last_date: ([0; 26], 0),
            with_duration: 0,
            with_agent: 0,
        }
    }

    /// Reads one file: JSON Lines, or an access log in common or combined format. Returns how many requests it gave, and what of
    /// it could not be used.
    pub fn read(&mut self, input: impl BufRead) -> Result<(usize, Broken), RecordingError> {
        let before = self.exact.len() + self.whole_seconds.len();
        let mut allowance = std::mem::take(&mut self.allowance);
        let mut is_json = false;
        let (lines, broken) = sift(input, &mut allowance, |line, position| {
            if position == Position::First {
                is_json = jsonl::is_json(line);
            }
            if is_json { self.take_json(line, position) } else { self.take_access(line) }
        })?;
        self.allowance = allowance;
        self.lines += lines;
        self.broken.join(&broken);
        Ok((self.exact.len() + self.whole_seconds.len() - before, broken))
    }

    /// The recording of everything read, in order of arrival.
    pub fn finish(mut self) -> Result<Recording, RecordingError> {
        let meta = self.meta();
        spread(&mut self.whole_seconds, self.seed);
        let mut requests = self.exact;
        requests.append(&mut self.whole_seconds);
        requests.sort_by_key(|request| request.at);
        match (requests.is_empty(), self.lines) {
            (false, _) => Ok(Recording { meta, requests, broken: self.broken }),
            (true, 0) => Err(RecordingError::Empty),
            (true, lines) => Err(RecordingError::NothingUsable { lines }),
        }
    }

    fn take_json(&mut self, line: &[u8], position: Position) -> bool {
        match jsonl::parse(line, position) {
            Some(Entry::Request(mut request)) => {
                self.scrub.request(&mut request);
                self.exact.push(request);
            }
            Some(Entry::Meta(meta)) => self.exact_meta = Some(meta),
            None => return false,
        }
        true
    }

    fn take_access(&mut self, line: &[u8]) -> bool {
        let Some((fields, mut request)) = access_log::parse(line).and_then(|fields| Some((fields, self.request(&fields)?)))
        else {
            return false;
        };
        self.scrub.request(&mut request);
        self.with_duration += usize::from(fields.micros.is_some());
        self.with_agent += usize::from(fields.agent.is_some());
        self.whole_seconds.push(request);
        true
    }

    fn request(&mut self, fields: &Fields<'_>) -> Option<Request> {
        let line = access_log::unescape(fields.request);
        let (method, target) = access_log::split_request(&line)?;
        let headers = [("Referer", fields.referer), ("User-Agent", fields.agent)];
        Some(Request {
            at: UnixNanos(self.seconds(fields.date)?.checked_mul(SECOND)?),
            method: Method::new(str::from_utf8(method).ok()?)?,
            target: Target::from_bytes(target)?,
            connection: Some(self.scrub.client(fields.client)),
            ordinal: None,
            headers: headers.into_iter().filter_map(|(name, value)| logged_header(name, value?)).collect(),
            body: Vec::new(),
            status: Some(fields.status),
            duration: fields.micros.map(Duration::from_micros),
            response_bytes: fields.response_bytes,
        })
    }

    fn seconds(&mut self, date: &[u8]) -> Option<i64> {
        if self.last_date.0 != date {
            let seconds = civil::parse_log_date(date)?;
            self.last_date = (date.try_into().ok()?, seconds);
        }
        Some(self.last_date.1)
    }

    fn meta(&self) -> Meta {
        let logged = self.whole_seconds.len();
        let scrub = Some(Scrub::NAME.to_owned());
        if logged == 0 {
            return Meta { scrub, ..self.exact_meta.clone().unwrap_or_default() };
        }
        if !self.exact.is_empty() {
            return Meta { source: Some("mixed".into()), scrub, ..Meta::default() };
        }
        // Some lines of a combined log are cut or odd; what others tell is real all the same.
        let combined = self.with_agent > 0;
        let timed = self.with_duration == logged;
        Meta {
            source: Some(if combined { "access-log-combined" } else { "access-log-common" }.into()),
            ts_meaning: Some(if timed { "arrival" } else { "logged" }.into()),
            ts_resolution_ns: Some(SECOND.unsigned_abs()),
            scrub,
            fidelity: Some(Fidelity {
                headers: Some(if combined { "Referer, User-Agent" } else { "none" }.into()),
                bodies: Some("none".into()),
                connections: Some("client".into()),
                responses: Some("status, bytes".into()),
            }),
        }
    }
}

/// A header of a log, where `-` stands for an absent one. One that could not be sent is absent too.
fn logged_header(name: &str, value: &[u8]) -> Option<Header> {
    let value = access_log::unescape(value);
    Header::new(name, str::from_utf8(&value).ok().filter(|value| *value != "-")?)
}

/// Gives the requests of every second ascending places within it, then moves each to its arrival.
fn spread(requests: &mut [Request], seed: JitterSeed) {
    requests.sort_by_key(|request| request.at);
    let mut index = 0_u64;
    let mut places: Vec<f64> = Vec::new();
    for second in requests.chunk_by_mut(|a, b| a.at == b.at) {
        places.clear();
        places.extend(second.iter().zip(index..).map(|(_, index)| uniform(seed.0, index)));
        places.sort_by(f64::total_cmp);
        index += second.len() as u64;
        for (request, place) in second.iter_mut().zip(&places) {
            #[expect(clippy::cast_possible_truncation, reason = "a place is below one, so the product is below a second")]
            let within = (place * SECOND as f64) as i64;
            let took = request.duration.map_or(0, |duration| i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX));
            request.at = UnixNanos(request.at.0.saturating_add(within).saturating_sub(took));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn importer() -> Importer {
        Importer::new(ScrubKey([1; 16]), JitterSeed(1))
    }

    fn import(log: &str) -> Result<Recording, RecordingError> {
        let mut importer = importer();
        importer.read(log.as_bytes())?;
        importer.finish()
    }

    fn line(client: &str, second: u32, request: &str) -> String {
        format!("{client} - - [17/May/2015:10:05:{second:02} +0000] \"{request}\" 200 5 \"-\" \"agent\"\n")
    }

    #[test]
    fn a_combined_log_becomes_a_recording() {
        let log = [line("10.1.2.3", 7, "GET /b HTTP/1.1"), line("10.1.2.3", 3, "HEAD /a?token=s3cret HTTP/1.1")].concat();
        let recording = import(&log).unwrap();
        let targets: Vec<_> = recording.requests.iter().map(|request| request.target.as_str()).collect();
        assert!(targets[0].starts_with("/a?token=") && !targets[0].contains("s3cret"));
        assert_eq!(targets[1], "/b");
        let [first, second] = recording.requests.as_slice() else { panic!("two requests") };
        assert_eq!(first.connection, second.connection);
        assert_eq!((first.ordinal, first.status), (None, Some(200)));
        assert_eq!(first.headers, [Header::new("User-Agent", "agent").unwrap()]);
        assert_eq!(first.at.0 / SECOND, 1_431_857_103);
        assert_eq!(recording.meta.source.as_deref(), Some("access-log-combined"));

        let mut written = Vec::new();
        jsonl::write(&recording, &mut written).unwrap();
        let written = String::from_utf8(written).unwrap();
        assert!(!written.contains("10.1.2.3") && !written.contains("s3cret"), "{written}");
    }

    #[test]
    fn one_second_is_filled_in_the_order_of_the_file() {
        let log: String = (0..100).map(|n| line("::1", 3, &format!("GET /{n} HTTP/1.1"))).collect();
        let recording = import(&log).unwrap();
        let in_order = recording.requests.iter().enumerate().all(|(n, request)| request.target.as_str() == format!("/{n}"));
        assert!(in_order);
        assert!(recording.requests.is_sorted_by(|a, b| a.at < b.at));
        assert_eq!(recording.requests[0].at.0 / SECOND, recording.requests[99].at.0 / SECOND);
        assert_eq!(import(&log).unwrap().requests, recording.requests, "the same seed gives the same times");
    }

    #[test]
    fn a_logged_duration_moves_the_arrival() {
        let log = line("::1", 3, "GET /slow HTTP/1.1").replace("\"agent\"", "\"agent\" 2500000");
        let recording = import(&log).unwrap();
        let at = recording.requests[0].at.0 - 1_431_857_103 * SECOND;
        assert!((-2_500_000_000..-1_500_000_000).contains(&at), "{at}");
        assert_eq!(recording.meta.ts_meaning.as_deref(), Some("arrival"));
    }

    #[test]
    fn broken_requests_cost_themselves_only() {
        let mut log =
            [r"-", r"\x16\x03\x01", r"GET /a b\x0D\x0A HTTP/1.1", "GET /", ""].map(|request| line("::1", 3, request)).concat();
        log.push_str(&line("::1", 4, "GET /ok HTTP/1.1"));
        log.push_str("::1 - - [17/May");
        let recording = import(&log).unwrap();
        assert_eq!(recording.requests.len(), 1);
        assert_eq!(recording.broken, Broken { count: 5, first: vec![1, 2, 3], torn: true });
    }

    #[test]
    fn nothing_usable_is_refused() {
        assert!(matches!(import(""), Err(RecordingError::Empty)));
        assert!(matches!(import("hello\nworld\n"), Err(RecordingError::NothingUsable { lines: 2 })));
        assert!(matches!(importer().read(b"BZh9".as_slice()), Err(RecordingError::Compressed { .. })));
    }

    #[test]
    fn files_of_both_kinds_join_in_order_of_arrival() {
        let mut importer = importer();
        importer.read(line("::1", 3, "GET /log HTTP/1.1").as_bytes()).unwrap();
        let json = "{\"t\":1431857100,\"m\":\"GET\",\"u\":\"/json\",\"h\":[[\"Cookie\",\"sid=abc\"]]}\n";
        assert_eq!(importer.read(json.as_bytes()).unwrap().0, 1);
        let recording = importer.finish().unwrap();
        assert_eq!(recording.requests[0].target.as_str(), "/json");
        assert!(!recording.requests[0].headers[0].value().contains("abc"));
        assert_eq!(recording.meta.source.as_deref(), Some("mixed"));
    }
}
