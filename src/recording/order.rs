//! Brings a recording that is almost in order of time into it, in bounded memory: a window of requests is held back, and the
//! earliest of them leaves. What is further out of place than the window is given as it comes, and counted. Unlike the window of an
//! import it is one of requests, not of time: a recording does not say how late it was written.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::BufRead;

use super::jsonl::Reader;
use super::request::{Request, UnixNanos};
use super::{Broken, Meta, RecordingError};

/// The most requests that are held back.
pub(super) const WINDOW: usize = 16_384;
/// The most bytes of memory that requests take which are held back.
pub(super) const WINDOW_BYTES: usize = 64 << 20;

/// How far a recording was out of order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Disorder {
    /// Requests that are earlier than one before them in the file.
    pub moved: u64,
    /// Those among them that no window could bring into order.
    pub late: u64,
}

/// The requests of a recording, in order of time.
#[derive(Debug)]
pub struct InOrder<R> {
    reader: Reader<R>,
    window: BinaryHeap<Reverse<Held>>,
    /// Bytes of memory of all that is held.
    bytes: usize,
    taken: u64,
    latest_in: UnixNanos,
    latest_out: UnixNanos,
    disorder: Disorder,
}

impl<R: BufRead> InOrder<R> {
    /// The requests of `reader`.
    pub const fn new(reader: Reader<R>) -> Self {
        let start = UnixNanos(i64::MIN);
        let disorder = Disorder { moved: 0, late: 0 };
        Self { reader, window: BinaryHeap::new(), bytes: 0, taken: 0, latest_in: start, latest_out: start, disorder }
    }

    /// What the recording says about itself.
    pub const fn meta(&self) -> &Meta {
        self.reader.meta()
    }

    /// The next request in order of time; those of one moment keep the order of the file. `None` at the end.
    #[expect(clippy::should_implement_trait, reason = "an iterator cannot end with an error and what was broken")]
    pub fn next(&mut self) -> Result<Option<Request>, RecordingError> {
        while self.window.len() < WINDOW && self.bytes < WINDOW_BYTES {
            let Some(request) = self.reader.next()? else { break };
            self.hold(request);
        }
        let Some(Reverse(held)) = self.window.pop() else { return Ok(None) };
        self.bytes -= held.request.memory();
        self.disorder.late += u64::from(held.request.at < self.latest_out);
        self.latest_out = self.latest_out.max(held.request.at);
        Ok(Some(held.request))
    }

    /// What the recording says about itself, what of it was broken, and how far it was out of order. An error if there was no
    /// request at all.
    pub fn finish(self) -> Result<(Meta, Broken, Disorder), RecordingError> {
        let (meta, broken) = self.reader.finish()?;
        Ok((meta, broken, self.disorder))
    }

    fn hold(&mut self, request: Request) {
        self.disorder.moved += u64::from(request.at < self.latest_in);
        self.latest_in = self.latest_in.max(request.at);
        self.bytes += request.memory();
        self.taken += 1;
        self.window.push(Reverse(Held { order: (request.at, self.taken), request }));
    }
}

#[derive(Debug)]
struct Held {
    order: (UnixNanos, u64),
    request: Request,
}

impl PartialEq for Held {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl Eq for Held {}

impl PartialOrd for Held {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Held {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.order.cmp(&other.order)
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use proptest::prelude::*;

    use super::*;

    fn sorted(times: &[i64]) -> (Vec<i64>, Disorder) {
        let mut text = String::new();
        for (time, line) in times.iter().zip(0..) {
            writeln!(text, r#"{{"t":{time},"m":"GET","u":"/{line}"}}"#).unwrap();
        }
        let mut requests = InOrder::new(Reader::new(text.as_bytes()).unwrap());
        let mut seen: Vec<(i64, u64)> = Vec::new();
        while let Some(request) = requests.next().unwrap() {
            seen.push((request.at.0 / 1_000_000_000, request.target.as_str()[1..].parse().unwrap()));
        }
        assert!(seen.windows(2).all(|pair| pair[0].0 != pair[1].0 || pair[0].1 < pair[1].1), "equal times keep their order");
        (seen.into_iter().map(|(time, _)| time).collect(), requests.finish().unwrap().2)
    }

    #[test]
    fn what_is_further_out_of_place_than_the_window_is_counted() {
        let mut times: Vec<i64> = (1..=i64::try_from(WINDOW).unwrap()).collect();
        times.extend([1, 0]);
        let (seen, disorder) = sorted(&times);
        assert_eq!(disorder, Disorder { moved: 2, late: 1 });
        assert_eq!(&seen[..4], [1, 1, 0, 2]);
    }

    #[test]
    fn a_window_is_one_of_memory() {
        const HEADERS: usize = 1_000;
        let headers = vec![r#"["a",""]"#; HEADERS].join(",");
        let text = format!("{{\"t\":1,\"m\":\"GET\",\"u\":\"/\",\"h\":[{headers}]}}\n").repeat(3);
        let mut requests = InOrder::new(Reader::new(text.as_bytes()).unwrap());
        requests.next().unwrap().unwrap();
        assert!(requests.bytes >= 2 * HEADERS * size_of::<crate::recording::Header>(), "{}", requests.bytes);
    }

    proptest! {
        #[test]
        fn within_the_window_it_is_a_stable_sort(times in prop::collection::vec(0..50_i64, 1..80)) {
            let (seen, disorder) = sorted(&times);
            let mut expected = times.clone();
            expected.sort_unstable();
            prop_assert_eq!(seen, expected);
            prop_assert_eq!(disorder.late, 0);
            prop_assert_eq!(disorder.moved == 0, times.is_sorted());
        }
    }
}
