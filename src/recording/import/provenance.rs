//! What a recording can say about itself, from what its sources know, before it is scrubbed: see [`Meta`].

use super::detect::Kind;
use super::gor::Identity;
use super::log_format::{Field, GUNICORN_CLOCK, LogFormat, Moment, NGINX_CLOCK};
use crate::recording::{Fidelity, Meta};

const UNCLEAR: &str = "the log does not say whether its second is that of the arrival (Apache) or of the end (nginx, Gunicorn); \
                       requests of one second keep the order of the log";
const TAKEN_FOR_GUNICORN: &str = "the number behind the user agent is taken for Gunicorn's %(D)s and the time for that of the end: \
                                  if Apache wrote the log, import it with --log-format and its LogFormat";
const PATHS_ENCODED: &str = "paths were logged decoded and are encoded anew: not always as they were sent";
const BALANCER_CLOCK: &str = "the time is when the load balancer created the request for its target";

/// What is known of requests from an input.
pub(super) fn of(kind: &Kind) -> Meta {
    match kind {
        Kind::Log(lines) => log(lines.format()),
        Kind::NginxJson => Meta {
            notes: vec![NGINX_CLOCK.into()],
            ..meta("nginx-json", "arrival", 1_000_000, ["as in the log format", "none", "connection", "status, bytes, duration"])
        },
        Kind::Alb => Meta {
            notes: vec![BALANCER_CLOCK.into()],
            ..meta("alb", "arrival", 1_000, ["Host, User-Agent", "none", "connection", "status, duration"])
        },
        Kind::Har => meta("har", "arrival", 1_000_000, ["all", "all", "connection, if told", "status, bytes, duration"]),
        Kind::Gor(identity) => {
            let connections = match identity {
                Identity::Connection(_) => "connection",
                Identity::Client => "client",
                Identity::None => "none",
            };
            meta("goreplay", "arrival", 1, ["all", "all", connections, "status, bytes, duration, if recorded"])
        }
        Kind::JsonLines(told) => told.clone().unwrap_or_default(),
    }
}

fn meta(source: &str, ts_meaning: &str, resolution: u64, [headers, bodies, connections, responses]: [&str; 4]) -> Meta {
    Meta {
        source: Some(source.to_owned()),
        ts_meaning: Some(ts_meaning.to_owned()),
        ts_resolution_ns: Some(resolution),
        scrub: None,
        fidelity: Some(Fidelity {
            headers: Some(headers.to_owned()),
            bodies: Some(bodies.to_owned()),
            connections: Some(connections.to_owned()),
            responses: Some(responses.to_owned()),
        }),
        notes: Vec::new(),
    }
}

fn log(format: &LogFormat) -> Meta {
    let is_timed = format.has(|field| matches!(field, Field::Took(_)));
    let ts_meaning = match (format.moment, is_timed) {
        (Moment::Arrival, _) | (Moment::End | Moment::Unclear, true) => "arrival",
        (Moment::End, false) => "end",
        (Moment::Unclear, false) => "logged",
    };
    let names = format.fields().filter_map(|field| if let Field::Header(name) = field { Some(&**name) } else { None });
    let headers = names.collect::<Vec<_>>().join(", ");
    let has = |wanted: Field| format.has(|field| *field == wanted);
    let told = [(has(Field::Status), "status"), (has(Field::BodyBytes), "bytes"), (is_timed, "duration")];
    let responses = told.iter().filter_map(|(is_told, name)| is_told.then_some(*name)).collect::<Vec<_>>().join(", ");
    let source = match format.moment {
        Moment::Arrival | Moment::End => format.source,
        Moment::Unclear if headers.is_empty() => "access-log-common",
        Moment::Unclear => "access-log-combined",
    };
    let connections = match (has(Field::Connection) || has(Field::ClientPort), has(Field::Client)) {
        (true, _) => "connection",
        (false, true) => "client",
        (false, false) => "none",
    };
    let bias = match (format.moment, is_timed) {
        (Moment::Unclear, true) => vec![GUNICORN_CLOCK, TAKEN_FOR_GUNICORN],
        (Moment::Unclear, false) => vec![UNCLEAR],
        (Moment::Arrival | Moment::End, _) => format.note.into_iter().collect(),
    };
    let decoded = format.has(|field| matches!(field, Field::Path | Field::PathAndQuery));
    let notes = bias.into_iter().chain(decoded.then_some(PATHS_ENCODED)).map(str::to_owned).collect();
    let words = [headers.as_str(), "", connections, responses.as_str()].map(|word| if word.is_empty() { "none" } else { word });
    Meta { notes, ..meta(source, ts_meaning, format.resolution, words) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::{Scrub, ScrubKey};

    #[test]
    fn what_is_said_here_holds_no_secret() {
        let notes = [UNCLEAR, TAKEN_FOR_GUNICORN, PATHS_ENCODED, BALANCER_CLOCK, NGINX_CLOCK, GUNICORN_CLOCK].map(str::to_owned);
        for kind in [Kind::NginxJson, Kind::Alb, Kind::Har, Kind::Gor(Identity::Client)] {
            let meta = Meta { notes: notes.to_vec(), ..of(&kind) };
            let scrubbed = Scrub::new(ScrubKey([7; 16])).meta(meta.clone());
            assert_eq!((scrubbed.source, scrubbed.ts_meaning, scrubbed.notes), (meta.source, meta.ts_meaning, meta.notes));
        }
    }
}
