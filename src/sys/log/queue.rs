//! What waits to be written, in the order in which it came, and what was said last. Bounded for each slot, so that one worker's flood costs
//! no other a line.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::{Level, Speaker};
use crate::units::Slot;
use crate::usage::DroppedLines;

/// What a worker, or the supervisor, may have waiting, bytes.
pub(super) const MAX_WAITING: usize = 256 << 10;
/// What is remembered for who asks later, bytes.
const MAX_REMEMBERED: usize = 256 << 10;
/// The most that an excerpt holds, bytes: it has to fit into a reply.
const MAX_EXCERPT: usize = 48 << 10;

/// Whose lines share a bound. Successors in a slot do: a crash loop makes no further rings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    Supervisor,
    Successor,
    Zygote,
    Worker(Slot),
}

impl Speaker {
    const fn source(self) -> Source {
        match self {
            Self::Supervisor => Source::Supervisor,
            Self::Successor => Source::Successor,
            Self::Zygote(_) => Source::Zygote,
            Self::Worker { slot, .. } => Source::Worker(slot),
        }
    }
}

/// A finished line.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) level: Level,
    pub(super) text: Arc<str>,
    source: Source,
    number: u64,
}

#[derive(Debug, Default)]
struct Ring {
    lines: VecDeque<Line>,
    bytes: usize,
    /// DroppedLines since the last line that was written.
    gap: u64,
}

/// Lines that were remembered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Excerpt {
    /// The lines, without their ends.
    pub lines: Vec<String>,
    /// The number of the last line that was looked at: the next excerpt begins behind it.
    pub last: u64,
    /// How many lines between are forgotten.
    pub skipped: u64,
    /// Whether there is more.
    pub more: bool,
}

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Queue {
    rings: BTreeMap<Source, Ring>,
    /// The number of the first line of every ring that has any.
    fronts: BTreeSet<(u64, Source)>,
    remembered: VecDeque<Line>,
    remembered_bytes: usize,
    last: u64,
    dropped: DroppedLines,
}

impl Queue {
    /// Adds a line, and drops the oldest of the same source where there is no room. Returns its number.
    pub(super) fn push(&mut self, speaker: Speaker, level: Level, text: String) -> u64 {
        self.last += 1;
        let source = speaker.source();
        let line = Line { level, text: text.into(), source, number: self.last };
        self.remember(line.clone());
        while self.rings.get(&source).is_some_and(|ring| ring.bytes + line.text.len() > MAX_WAITING && !ring.lines.is_empty()) {
            self.take(source);
            self.lose(source, 1);
        }
        let ring = self.rings.entry(source).or_default();
        if ring.lines.is_empty() {
            self.fronts.insert((line.number, source));
        }
        ring.bytes += line.text.len();
        ring.lines.push_back(line);
        self.last
    }

    /// The next line to write, and how many of its source were dropped before it.
    pub(super) fn pop(&mut self) -> Option<(u64, Line)> {
        let (_, source) = *self.fronts.first()?;
        let line = self.take(source)?;
        let gap = self.rings.get_mut(&source).map_or(0, |ring| std::mem::take(&mut ring.gap));
        if self.rings.get(&source).is_some_and(|ring| ring.lines.is_empty()) {
            self.rings.remove(&source);
        }
        Some((gap, line))
    }

    /// Counts a line that could not be written.
    pub(super) fn lose_line(&mut self, line: &Line) {
        self.count(line.source);
    }

    pub(super) const fn dropped(&self) -> DroppedLines {
        self.dropped
    }

    /// What is remembered behind line `after`.
    pub(super) fn excerpt(&self, after: u64, slot: Option<Slot>) -> Excerpt {
        let oldest = self.remembered.front().map_or(self.last + 1, |line| line.number);
        let skipped = if after == 0 { 0 } else { oldest.saturating_sub(after + 1) };
        let mut excerpt = Excerpt { last: self.last, skipped, ..Excerpt::default() };
        let mut bytes = 0;
        for line in self.remembered.iter().filter(|line| line.number > after) {
            if slot.is_some_and(|slot| line.source != Source::Worker(slot)) {
                continue;
            }
            bytes += line.text.len();
            if bytes > MAX_EXCERPT && !excerpt.lines.is_empty() {
                excerpt.more = true;
                break;
            }
            excerpt.last = line.number;
            excerpt.lines.push(without_colours(line.text.trim_end_matches('\n')));
        }
        if !excerpt.more {
            excerpt.last = self.last;
        }
        excerpt
    }

    fn take(&mut self, source: Source) -> Option<Line> {
        let ring = self.rings.get_mut(&source)?;
        let line = ring.lines.pop_front()?;
        ring.bytes -= line.text.len();
        self.fronts.remove(&(line.number, source));
        if let Some(next) = ring.lines.front() {
            self.fronts.insert((next.number, source));
        }
        Some(line)
    }

    fn lose(&mut self, source: Source, lines: u64) {
        if let Some(ring) = self.rings.get_mut(&source) {
            ring.gap += lines;
        }
        self.count(source);
    }

    fn count(&mut self, source: Source) {
        match source {
            Source::Supervisor | Source::Successor => self.dropped.supervisor += 1,
            Source::Zygote => self.dropped.zygote += 1,
            Source::Worker(_) => self.dropped.worker += 1,
        }
    }

    fn remember(&mut self, line: Line) {
        self.remembered_bytes += line.text.len();
        self.remembered.push_back(line);
        while self.remembered_bytes > MAX_REMEMBERED {
            let Some(oldest) = self.remembered.pop_front() else { break };
            self.remembered_bytes -= oldest.text.len();
        }
    }
}

/// Only our own lines have any, and only where they are written to a terminal.
fn without_colours(line: &str) -> String {
    let mut parts = line.split("\u{1b}[");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |plain, part| plain + part.split_once('m').map_or(part, |(_, rest)| rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::WorkerId;

    fn worker(slot: u16) -> Speaker {
        Speaker::Worker { slot: Slot(slot), worker: WorkerId(7) }
    }

    fn popped(queue: &mut Queue) -> Vec<(u64, String)> {
        std::iter::from_fn(|| queue.pop()).map(|(gap, line)| (gap, line.text.to_string())).collect()
    }

    #[test]
    fn lines_come_out_as_they_went_in_whoever_said_them() {
        let mut queue = Queue::default();
        for (speaker, text) in [(worker(1), "a"), (Speaker::Supervisor, "b"), (worker(0), "c"), (worker(1), "d")] {
            queue.push(speaker, Level::Info, text.to_owned());
        }
        assert_eq!(popped(&mut queue), [(0, "a".into()), (0, "b".into()), (0, "c".into()), (0, "d".into())]);
        assert!(queue.rings.is_empty() && queue.fronts.is_empty());
    }

    #[test]
    fn f39_who_floods_loses_his_own_oldest_lines_and_is_told_how_many() {
        let mut queue = Queue::default();
        queue.push(worker(0), Level::Info, "quiet".to_owned());
        let line = "x".repeat(1024);
        for _ in 0..1000 {
            queue.push(worker(1), Level::Info, line.clone());
        }
        assert_eq!(queue.dropped(), DroppedLines { worker: 744, ..DroppedLines::default() });
        assert!(queue.rings.values().all(|ring| ring.bytes <= MAX_WAITING));
        let out = popped(&mut queue);
        assert_eq!((out.len(), &out[0], out[1].0, out[2].0), (257, &(0, "quiet".to_owned()), 744, 0));
    }

    #[test]
    fn what_was_said_is_remembered_in_bounds() {
        let mut queue = Queue::default();
        assert_eq!(queue.excerpt(0, None), Excerpt::default());
        for number in 0..1000 {
            queue.push(worker(number % 2), Level::Info, format!("{number} {}\n", "x".repeat(1000)));
        }
        assert!(queue.remembered_bytes <= MAX_REMEMBERED);
        let (mut after, mut lines) = (0, Vec::new());
        loop {
            let excerpt = queue.excerpt(after, Some(Slot(1)));
            after = excerpt.last;
            lines.extend(excerpt.lines);
            if !excerpt.more {
                break;
            }
        }
        assert!((120..=131).contains(&lines.len()) && lines.last().unwrap().starts_with("999 "), "{}", lines.len());
        assert_eq!(after, 1000);
        let late = queue.excerpt(10, None);
        assert!(late.skipped > 700, "{}", late.skipped);
    }
}
