//! Imports of every format.

use tuningfork::recording::{self, BodyPolicy, Importer, Input, InputFormat, JitterSeed, LogFormat, Scrub, ScrubKey, audit};

use super::survives_writing;

pub(super) fn combined(input: &[u8]) {
    imported(input, &InputFormat::Combined);
}

pub(super) fn nginx_json(input: &[u8]) {
    imported(input, &InputFormat::NginxJson);
}

pub(super) fn alb(input: &[u8]) {
    imported(input, &InputFormat::Alb);
}

pub(super) fn har(input: &[u8]) {
    imported(input, &InputFormat::Har);
}

pub(super) fn gor(input: &[u8]) {
    imported(input, &InputFormat::Gor);
}

/// The first line is a format string, the others are a log in it.
pub(super) fn log_format(input: &[u8]) {
    let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let Ok(Ok(format)) = str::from_utf8(&input[..end]).map(LogFormat::parse) else { return };
    imported(input.get(end + 1..).unwrap_or_default(), &InputFormat::Log(format));
}

/// What is imported, its format named or guessed, from one input or two, is a recording of so many requests in order of arrival, with
/// nothing in it that an audit finds.
fn imported(input: &[u8], format: &InputFormat) {
    let halves = input.split_at(input.len() / 2);
    for (inputs, format, bodies) in [
        (vec![input], format, BodyPolicy::Scrubbed),
        (vec![halves.0, halves.1], format, BodyPolicy::Dropped),
        (vec![input], &InputFormat::Auto, BodyPolicy::Dropped),
    ] {
        let Some((written, requests, out_of_order)) = import(&inputs, format, bodies) else { continue };
        let recording = recording::read(written.as_slice()).expect("an import can be read");
        assert_eq!(recording.requests.len() as u64, requests);
        let is_sorted = recording.requests.is_sorted_by_key(|request| request.at);
        assert_eq!(is_sorted, out_of_order == 0, "in order of arrival");
        survives_writing(&recording);
        let audit = audit(written.as_slice()).expect("an import can be read");
        assert!(audit.is_clean(), "{audit:?} of {}", String::from_utf8_lossy(&written));
    }
}

fn import(inputs: &[&[u8]], format: &InputFormat, bodies: BodyPolicy) -> Option<(Vec<u8>, u64, u64)> {
    let inputs: Vec<_> = inputs.iter().filter_map(|input| Input::new(*input, format).ok()).collect();
    let meta = inputs.first()?.meta();
    let mut importer = Importer::new(Vec::new(), meta, Scrub::new(ScrubKey([1; 16])).with_bodies(bodies), JitterSeed(1));
    for input in inputs {
        importer.read(input).ok()?;
    }
    let made = importer.finish().ok()?;
    Some((made.output, made.requests, made.out_of_order))
}
