//! The thread that writes. It may hang in a write for as long as it likes: nobody waits for it but, for a moment, the end.

use std::io;
use std::sync::atomic::Ordering;

use super::queue::{Line, Queue};
use super::sink::Sink;
use super::{Level, Shared, lock};

/// What is written at once, bytes.
const MAX_BATCH: usize = 64 << 10;

/// Writes until the log ends and nothing is left.
pub(super) fn write(shared: &Shared, mut sink: Sink) {
    while let Some(lines) = next(shared, &mut sink) {
        let mut bytes = Vec::new();
        for (gap, line) in &lines {
            if *gap > 0 {
                bytes.extend_from_slice(sink.prefix(Level::Warning).as_bytes());
                bytes.extend_from_slice(shared.scribe.gap(*gap).as_bytes());
            }
            push_line(&mut bytes, sink.prefix(line.level), &line.text);
        }
        let result = sink.write(&bytes);
        account(shared, &sink, &lines, result);
    }
    lock(&shared.orders).writer_ended = true;
    shared.ended.notify_all();
}

/// The lines to write next, once there are some; `None` at the end.
fn next(shared: &Shared, sink: &mut Sink) -> Option<Vec<(u64, Line)>> {
    let mut queue = shared.queue();
    loop {
        if std::mem::take(&mut lock(&shared.orders).reopen) {
            drop(queue);
            let result = sink.reopen();
            note(shared, result);
            queue = shared.queue();
        }
        let lines = take(&mut queue);
        if !lines.is_empty() {
            return Some(lines);
        }
        if shared.ends.load(Ordering::Acquire) {
            return None;
        }
        queue = shared.work.wait(queue).unwrap_or_else(std::sync::PoisonError::into_inner);
    }
}

fn take(queue: &mut Queue) -> Vec<(u64, Line)> {
    let mut lines = Vec::new();
    let mut bytes = 0;
    while bytes < MAX_BATCH
        && let Some((gap, line)) = queue.pop()
    {
        bytes += line.text.len();
        lines.push((gap, line));
    }
    lines
}

/// A record of several lines has its level on each: journald reads line by line.
fn push_line(bytes: &mut Vec<u8>, prefix: &str, text: &str) {
    for line in text.split_inclusive('\n') {
        bytes.extend_from_slice(prefix.as_bytes());
        bytes.extend_from_slice(line.as_bytes());
    }
}

/// Who has seen that it was opened once more finds what came of it.
fn note(shared: &Shared, result: io::Result<()>) {
    let mut health = lock(&shared.health);
    health.reopened += 1;
    health.open_failure = result.err().map(|error| error.to_string());
    shared.reopened.store(health.reopened, Ordering::Release);
}

/// Lines that were not written count as dropped, and so do those that went where nobody will find them.
fn account(shared: &Shared, sink: &Sink, lines: &[(u64, Line)], result: Result<(), (usize, io::Error)>) {
    let (failure, written) = match result {
        Ok(()) if sink.is_lost() => (Some("its file was removed, and cannot be made again".to_owned()), 0),
        Ok(()) => (None, usize::MAX),
        Err((written, error)) => (Some(error.to_string()), written),
    };
    if failure.is_some() {
        let mut queue = shared.queue();
        let mut end = 0;
        for (_, line) in lines {
            end += line.text.len();
            if end > written {
                queue.lose_line(line);
            }
        }
    }
    lock(&shared.health).write_failure = failure;
}
