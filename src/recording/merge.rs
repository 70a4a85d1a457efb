//! Several recordings as one, in order of time and in constant memory. Connections of different recordings stay different: each is
//! named after its recording, counted from 1.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::BufRead;

use super::jsonl::Reader;
use super::order::{Disorder, InOrder};
use super::request::{Request, UnixNanos};
use super::{Broken, Meta, RecordingError};

/// When the recordings take place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placing {
    /// When they did.
    AsRecorded,
    /// All from the moment the first one of the list begins, as if their traffic came together.
    Together,
}

/// Why the recordings cannot be merged.
#[derive(Debug, thiserror::Error)]
#[error("{source}")]
pub struct MergeError {
    /// Which of the recordings cannot be used; they count from 0.
    pub input: usize,
    /// Why.
    pub source: RecordingError,
}

/// Recordings that are read together.
#[derive(Debug)]
pub struct Merge<R> {
    inputs: Vec<Source<R>>,
    /// The time of each input's next request.
    due: BinaryHeap<Reverse<(UnixNanos, usize)>>,
}

/// What one input gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// How many requests.
    pub requests: u64,
    /// The lines that were not usable.
    pub broken: Broken,
    /// How far it was out of order.
    pub disorder: Disorder,
}

#[derive(Debug)]
struct Source<R> {
    requests: InOrder<R>,
    next: Option<Request>,
    shift: i64,
    given: u64,
}

impl<R: BufRead> Merge<R> {
    /// The recordings behind `readers`. Reads the beginning of each.
    pub fn new(readers: Vec<Reader<R>>, placing: Placing) -> Result<Self, MergeError> {
        let mut merge = Self { inputs: Vec::with_capacity(readers.len()), due: BinaryHeap::new() };
        let mut begin = None;
        for (input, reader) in readers.into_iter().enumerate() {
            let mut requests = InOrder::new(reader);
            let next = requests.next().map_err(|source| MergeError { input, source })?;
            let own = next.as_ref().map_or(0, |request| request.at.0);
            let shift = match placing {
                Placing::AsRecorded => 0,
                Placing::Together => begin.get_or_insert(own).saturating_sub(own),
            };
            merge.inputs.push(Source { requests, next, shift, given: 0 });
            merge.queue(input);
        }
        Ok(merge)
    }

    /// What the recordings together say about themselves.
    #[must_use]
    pub fn meta(&self) -> Meta {
        Meta::join(self.inputs.iter().map(|source| source.requests.meta().clone())).unwrap_or_default()
    }

    /// The next request of all, or `None` at the end of all.
    #[expect(clippy::should_implement_trait, reason = "an iterator cannot end with an error and what was broken")]
    pub fn next(&mut self) -> Result<Option<Request>, MergeError> {
        let Some(Reverse((_, input))) = self.due.pop() else { return Ok(None) };
        let source = &mut self.inputs[input];
        let next = source.requests.next().map_err(|source| MergeError { input, source })?;
        let taken = std::mem::replace(&mut source.next, next);
        source.given += u64::from(taken.is_some());
        let shift = source.shift;
        self.queue(input);
        Ok(taken.map(|request| Request {
            at: shifted(request.at, shift),
            connection: request.connection.map(|connection| format!("{}:{connection}", input + 1).into()),
            ..request
        }))
    }

    /// What each recording gave. An error if one of them had no request at all.
    pub fn finish(self) -> Result<Vec<Given>, MergeError> {
        let given = self.inputs.into_iter().enumerate().map(|(input, source)| {
            let requests = source.given;
            let (_, broken, disorder) = source.requests.finish().map_err(|source| MergeError { input, source })?;
            Ok(Given { requests, broken, disorder })
        });
        given.collect()
    }

    fn queue(&mut self, input: usize) {
        let source = &self.inputs[input];
        if let Some(next) = &source.next {
            self.due.push(Reverse((shifted(next.at, source.shift), input)));
        }
    }
}

fn shifted(at: UnixNanos, by: i64) -> UnixNanos {
    UnixNanos(at.0.saturating_add(by))
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use proptest::prelude::*;

    use super::*;

    const SECOND: i64 = 1_000_000_000;

    fn text(meta: &str, times: &[i64]) -> String {
        let mut text = format!("{{\"meta\":{meta}}}\n");
        for time in times {
            writeln!(text, r#"{{"t":{time},"c":"a","m":"GET","u":"/"}}"#).unwrap();
        }
        text
    }

    fn merge(texts: &[String], placing: Placing) -> Merge<&[u8]> {
        let readers = texts.iter().map(|text| Reader::new(text.as_bytes()).unwrap()).collect();
        Merge::new(readers, placing).unwrap()
    }

    fn all(merge: &mut Merge<&[u8]>) -> Vec<(i64, String)> {
        let mut all = Vec::new();
        while let Some(request) = merge.next().unwrap() {
            all.push((request.at.0 / SECOND, request.connection.unwrap().into()));
        }
        all
    }

    #[test]
    fn connections_stay_apart_and_starts_can_be_aligned() {
        let texts = [text("{}", &[10, 30]), text("{}", &[1000, 1005])];
        let mut merged = merge(&texts, Placing::Together);
        let expected = [(10, "1:a"), (10, "2:a"), (15, "2:a"), (30, "1:a")];
        assert_eq!(all(&mut merged), expected.map(|(at, connection)| (at, connection.to_owned())));
        let given = merged.finish().unwrap();
        assert_eq!(given.iter().map(|given| given.requests).collect::<Vec<_>>(), [2, 2]);
    }

    #[test]
    fn what_is_said_of_all_holds_for_each() {
        let fine = r#"{"source":"gor","ts_resolution_ns":1,"scrub":"default","fidelity":{"bodies":"all","headers":"all"}}"#;
        let coarse = r#"{"source":"har","ts_resolution_ns":9,"scrub":"default","fidelity":{"bodies":"none","headers":"all"}}"#;
        let meta = merge(&[text(fine, &[1]), text(coarse, &[1])], Placing::AsRecorded).meta();
        assert_eq!((meta.source.as_deref(), meta.ts_resolution_ns), (Some("mixed"), Some(9)));
        assert_eq!(meta.scrub.as_deref(), Some("default"));
        let fidelity = meta.fidelity.unwrap();
        assert_eq!((fidelity.bodies.as_deref(), fidelity.headers.as_deref()), (Some("mixed"), Some("all")));
        let meta = merge(&[text(fine, &[1]), text("{}", &[1])], Placing::AsRecorded).meta();
        assert_eq!((meta.scrub, meta.fidelity), (None, None));
    }

    #[test]
    fn the_unusable_input_is_named() {
        let texts = [text("{}", &[1]), text("{}", &[])];
        let mut merged = merge(&texts, Placing::AsRecorded);
        assert_eq!(all(&mut merged).len(), 1);
        assert_eq!(merged.finish().unwrap_err().input, 1);
    }

    proptest! {
        #[test]
        fn merging_is_sorting(times in prop::collection::vec(prop::collection::vec(0..60_i64, 1..30), 1..5)) {
            let texts: Vec<String> = times.iter().map(|times| text("{}", times)).collect();
            let mut expected: Vec<(i64, String)> = times.iter().zip(1..)
                .flat_map(|(times, input)| times.iter().map(move |at| (*at, format!("{input}:a"))))
                .collect();
            expected.sort();
            prop_assert_eq!(all(&mut merge(&texts, Placing::AsRecorded)), expected);
        }
    }
}
