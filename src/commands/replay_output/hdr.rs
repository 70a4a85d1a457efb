//! Writes latencies in HdrHistogram's log format, version 1.3 with V2 histograms, which its own tools read. Values are microseconds;
//! the column `Interval_Max` is milliseconds.

use std::io::{self, Write};
use std::time::Duration;

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, IntervalLogWriterError, Tag};

use super::Replayed;

/// Microseconds in a millisecond.
const MAX_DIVISOR: f64 = 1e3;

/// Writes the log: the run as one interval, with a tag a quantity (`latency` counts from when requests were due; `left_out` is that of requests that `latency` does not contain).
pub fn hdr(replayed: &Replayed, mut output: &mut dyn Write) -> io::Result<()> {
    let played = &replayed.played;
    let mut serializer = V2DeflateSerializer::new();
    let mut log = IntervalLogWriterBuilder::new()
        .add_comment("[Logged with tuningfork]")
        .add_comment("[Histogram log format version 1.3]")
        .add_comment("[Values: microseconds]")
        .with_start_time(replayed.setting.started)
        .with_base_time(replayed.setting.started)
        .with_max_value_divisor(MAX_DIVISOR)
        .begin_log_with(&mut output, &mut serializer)?;
    let length = Duration::from_secs_f64(replayed.sending_seconds());
    let quantities = [
        ("latency", &played.latency),
        ("service", &played.service),
        ("first_byte", &played.first_byte),
        ("lateness", &played.lateness.total),
        ("left_out", &played.left_out.latency),
    ];
    for (name, latencies) in quantities.into_iter().filter(|(_, latencies)| latencies.count() > 0) {
        let written = log.write_histogram(latencies.histogram(), replayed.setting.settled, length, Tag::new(name));
        written.map_err(|error| match error {
            IntervalLogWriterError::IoError(error) => error,
            IntervalLogWriterError::SerializeError(error) => io::Error::other(error.to_string()),
        })?;
    }
    Ok(())
}
