//! How a line looks: who says it and when stand before what anybody could have written, so that nobody can say it in another's name.

use jiff::Timestamp;
use serde_json::json;

use super::lines::Extent;
use super::{Level, Speaker, escape};
use crate::config::LogFormat;

/// Which of a process's two outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stream {
    Out,
    Err,
}

impl Stream {
    const fn name(self) -> &'static str {
        match self {
            Self::Out => "stdout",
            Self::Err => "stderr",
        }
    }
}

/// What stands where a line was cut.
const CUT: &str = " [cut: longer than 16 KiB]";
/// What a further line of a record begins with.
const CONTINUED: &str = "\n  | ";

const ESCAPE: u8 = 0x1b;

/// Writes lines.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scribe {
    format: LogFormat,
    /// Whether who takes the lines writes the time to them.
    pub(super) stamped_elsewhere: bool,
}

impl Scribe {
    pub(super) const fn new(format: LogFormat, stamped_elsewhere: bool) -> Self {
        Self { format, stamped_elsewhere }
    }

    /// A line of a process, with its end, and how serious it is.
    pub(super) fn line(self, speaker: Speaker, stream: Stream, bytes: &[u8], extent: Extent) -> (Level, String) {
        let (level, bytes) = if self.stamped_elsewhere { priority(bytes) } else { (Level::Info, bytes) };
        let mut text = String::with_capacity(bytes.len() + 80);
        let mark = if extent == Extent::Cut { CUT } else { "" };
        match self.format {
            LogFormat::Plain => {
                self.stamp(&mut text);
                text.push_str(&tag(speaker, stream));
                escape::push(&mut text, bytes);
                text.push_str(mark);
            }
            LogFormat::Json => {
                let message = format!("{}{mark}", String::from_utf8_lossy(bytes));
                escape::push_json(&mut text, &object(speaker, stream, &message).to_string());
            }
        }
        text.push('\n');
        (level, text)
    }

    /// An event of the supervisor's own that was formatted already, with its end.
    pub(super) fn own(self, bytes: &[u8]) -> String {
        let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let mut text = String::with_capacity(bytes.len() + 1);
        match self.format {
            LogFormat::Plain => push_record(&mut text, bytes),
            LogFormat::Json => escape::push_json(&mut text, &String::from_utf8_lossy(bytes)),
        }
        text.push('\n');
        text
    }

    /// That lines are missing here.
    pub(super) fn gap(self, lines: u64) -> String {
        let words = format!("{lines} lines were dropped here: the log could not be written as fast as they came");
        let mut text = String::new();
        match self.format {
            LogFormat::Plain => {
                self.stamp(&mut text);
                text.push_str(&words);
            }
            LogFormat::Json => {
                text = json!({"timestamp": now(), "level": "WARN", "message": words, "dropped": lines}).to_string();
            }
        }
        text.push('\n');
        text
    }

    fn stamp(self, text: &mut String) {
        if !self.stamped_elsewhere {
            text.push_str(&now());
            text.push(' ');
        }
    }
}

/// A plain record of our own, which may have several lines.
fn push_record(text: &mut String, bytes: &[u8]) {
    for (number, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        if number > 0 {
            text.push_str(CONTINUED);
        }
        // The library has escaped what came from elsewhere; the escape sequences that are left are its colours.
        for (number, part) in line.split(|byte| *byte == ESCAPE).enumerate() {
            if number > 0 {
                text.push(char::from(ESCAPE));
            }
            escape::push(text, part);
        }
    }
}

fn now() -> String {
    format!("{:.6}", Timestamp::now())
}

fn tag(speaker: Speaker, stream: Stream) -> String {
    let stream = stream.name();
    match speaker {
        Speaker::Supervisor => format!("{stream}: "),
        Speaker::Successor => format!("new program {stream}: "),
        Speaker::Zygote(generation) => format!("zygote generation={generation} {stream}: "),
        Speaker::Worker { slot, worker } => format!("worker={slot} id={worker} {stream}: "),
    }
}

fn object(speaker: Speaker, stream: Stream, message: &str) -> serde_json::Value {
    let (timestamp, stream) = (now(), stream.name());
    match speaker {
        Speaker::Supervisor => json!({"timestamp": timestamp, "level": "INFO", "stream": stream, "message": message}),
        Speaker::Successor => {
            json!({"timestamp": timestamp, "level": "INFO", "new_program": true, "stream": stream, "message": message})
        }
        Speaker::Zygote(generation) => {
            json!({"timestamp": timestamp, "level": "INFO", "zygote": true, "generation": generation.0,
            "stream": stream, "message": message})
        }
        Speaker::Worker { slot, worker } => json!({"timestamp": timestamp, "level": "INFO", "worker": slot.0, "id": worker.0,
            "stream": stream, "message": message}),
    }
}

/// The level that a line for journald says itself (sd-daemon(3): `<3>`), and the rest.
fn priority(bytes: &[u8]) -> (Level, &[u8]) {
    match bytes {
        [b'<', digit @ b'0'..=b'7', b'>', rest @ ..] => match digit {
            b'0'..=b'3' => (Level::Error, rest),
            b'4' => (Level::Warning, rest),
            b'7' => (Level::Debug, rest),
            _ => (Level::Info, rest),
        },
        _ => (Level::Info, bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::{Generation, Slot, WorkerId};

    const WORKER: Speaker = Speaker::Worker { slot: Slot(3), worker: WorkerId(12) };

    #[test]
    fn f41_nobody_speaks_in_anothers_name() {
        let scribe = Scribe::new(LogFormat::Plain, false);
        let forged = b"2026-01-01T00:00:00.000000Z worker=0 id=1 stdout: hello\r\x1b[1A\x0b";
        let (_, line) = scribe.line(WORKER, Stream::Err, forged, Extent::Whole);
        let (time, rest) = line.split_once(' ').unwrap();
        assert_eq!(time.len(), "2026-01-01T00:00:00.000000Z".len(), "{time}");
        assert!(rest.starts_with("worker=3 id=12 stderr: 2026-01-01T") && rest.ends_with("hello\\r\\x1b[1A\\x0b\n"), "{rest}");
        let (_, line) = Scribe::new(LogFormat::Json, false).line(WORKER, Stream::Out, b"\"},{\n\x9b", Extent::Cut);
        let object: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&object["worker"], &object["id"], &object["stream"]), (&3.into(), &12.into(), &"stdout".into()));
        assert_eq!((line.matches('\n').count(), object["message"].as_str().unwrap().ends_with(CUT)), (1, true));
    }

    #[test]
    fn f41_json_shows_by_number_what_could_move_the_cursor_of_who_reads_it() {
        let scribe = Scribe::new(LogFormat::Json, false);
        let nasty = "\u{9b}2J del\u{7f} nel\u{85} line\u{2028} \x1b[2J tab\t \u{e9}";
        let (_, line) = scribe.line(WORKER, Stream::Out, nasty.as_bytes(), Extent::Whole);
        assert!(line.contains("\\u009b2J del\\u007f nel\\u0085 line\\u2028 \\u001b[2J tab\\t \u{e9}"), "{line:?}");
        let own = format!("{}\n", json!({"level": "ERROR", "message": nasty}));
        for line in [line, scribe.own(own.as_bytes())] {
            assert!(!line.trim_end_matches('\n').chars().any(char::is_control), "{line:?}");
            let object: serde_json::Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
            assert_eq!(object["message"], nasty);
        }
    }

    #[test]
    fn journald_is_told_the_level_that_a_line_says_and_no_time() {
        let scribe = Scribe::new(LogFormat::Plain, true);
        let zygote = Speaker::Zygote(Generation(2));
        let told = scribe.line(zygote, Stream::Err, b"<3>broken", Extent::Whole);
        assert_eq!(told, (Level::Error, "zygote generation=2 stderr: broken\n".to_owned()));
        assert_eq!(scribe.line(zygote, Stream::Err, b"<8>odd", Extent::Whole).1, "zygote generation=2 stderr: <8>odd\n");
    }

    #[test]
    fn a_further_line_of_a_record_cannot_be_taken_for_another_record() {
        let own = Scribe::new(LogFormat::Plain, false).own(b"ERROR reload failed: Traceback:\n2026 INFO all is well\n");
        assert_eq!(own, "ERROR reload failed: Traceback:\n  | 2026 INFO all is well\n");
    }
}
