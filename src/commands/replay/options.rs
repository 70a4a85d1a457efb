//! The arguments of `replay`.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, ValueEnum};

use super::aim::Place;
use crate::commands::arguments::{header, rate};
use crate::commands::record::Which;
use crate::commands::replay_output::{Objective, Priority};
use crate::load;
use crate::recording::{Header, Meta};
use crate::replay::{Copies, Methods, PlanError, Profile, Rewrite, Speed, Think};
use crate::units::{self, Rate};

const LOAD: &str = "Load (default: as recorded)";

/// What to play, where, how, and what to make of it.
// Two filters have the names of options here.
#[derive(Debug, Args)]
#[command(
    mut_arg("target", |filter| filter.long("only-target")),
    mut_arg("not_target", |filter| filter.long("not-target")),
    mut_arg("host", |filter| filter.long("only-host")),
    group(ArgGroup::new("contents").args(["baseline", "save_bodies"]).multiple(true))
)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub struct Options {
    /// The recorded traffic, as `tuningfork record` makes it
    pub(super) recording: PathBuf,
    /// Where to send it: `http://HOST:PORT`, `https://HOST` or unix:PATH
    #[arg(id = "place", long = "target", value_name = "URL")]
    pub(super) place: Place,
    /// Load a host that is not this one: only if it is yours. A recording marked as not scrubbed stays here nevertheless
    #[arg(long)]
    pub(super) target_anyway: bool,

    /// This many times as fast as recorded
    #[arg(long, value_name = "F", help_heading = LOAD, group = "speeds")]
    pub(super) speed: Option<Speed>,
    /// This many times the recorded traffic at once, each copy with connections of its own; fractions too
    #[arg(long, value_name = "K", help_heading = LOAD, conflicts_with_all = ["rate", "poisson", "profile", "clients"])]
    pub(super) copies: Option<Copies>,
    /// This many requests a second at even gaps, in the recorded order
    #[arg(long, value_name = "R", help_heading = LOAD, value_parser = rate, group = "speeds")]
    pub(super) rate: Option<Rate>,
    /// This many requests a second at random gaps, as independent users make them
    #[arg(long, value_name = "R", help_heading = LOAD, value_parser = rate, group = "speeds")]
    pub(super) poisson: Option<Rate>,
    /// A rate that changes over time, as in 0:100,60s:2000
    #[arg(long, value_name = "TIME:R,…", help_heading = LOAD, group = "speeds")]
    pub(super) profile: Option<Profile>,
    /// This many clients that each wait for an answer before they send again
    #[arg(long, value_name = "N", help_heading = LOAD, group = "speeds")]
    pub(super) clients: Option<NonZeroU32>,
    /// What a client does between an answer and its next request: none, recorded, or a time
    #[arg(long, value_name = "none|recorded|TIME", help_heading = LOAD, value_parser = think, requires = "clients", conflicts_with_all = ["speed", "rate", "poisson", "profile"])]
    pub(super) think: Option<Think>,
    /// Whether recorded connections are kept, each request waiting for the answer before it, or requests go out on any connection
    #[arg(long, value_name = "WHICH", help_heading = LOAD, conflicts_with_all = ["rate", "poisson", "profile", "clients"])]
    pub(super) sessions: Option<SessionsKept>,
    /// How long to send; with a rate or clients the recording is repeated until then; at most a day [default: once through the recording]
    #[arg(long, value_name = "TIME", help_heading = LOAD, value_parser = time)]
    pub(super) duration: Option<Duration>,
    /// Play the recording again and again, until --duration, Ctrl-C or a day has passed
    #[arg(long = "loop", help_heading = LOAD, conflicts_with = "profile")]
    pub(super) endless: bool,
    /// How long to send before anything counts
    #[arg(long, value_name = "TIME", help_heading = LOAD, value_parser = units::span, default_value = "0s")]
    pub(super) warm_up: Duration,
    /// Send with ordinary priority: real-time priority, where it is allowed, sends on time also while the target keeps every core busy
    #[arg(long, help_heading = LOAD)]
    pub(super) no_real_time: bool,
    /// What random gaps depend on: the same seed gives the same gaps
    #[arg(long, value_name = "N", help_heading = LOAD, default_value_t = 1)]
    pub(super) seed: u64,

    /// The most open connections [default: as many files as this process may open]
    #[arg(long, value_name = "N", help_heading = "Requests")]
    pub(super) max_conns: Option<NonZeroU32>,
    /// How long a request may take from when it is due
    #[arg(long, value_name = "TIME", help_heading = "Requests", value_parser = time, default_value = "30s")]
    pub(super) timeout: Duration,
    /// Methods to send beside GET, HEAD and OPTIONS: only where they may change things
    #[arg(long, value_name = "METHOD,…", help_heading = "Requests", value_delimiter = ',')]
    pub(super) allow: Vec<String>,
    /// The Host header of all requests [default: the recorded one, else the target's]
    #[arg(id = "new_host", long = "host", value_name = "NAME", help_heading = "Requests")]
    pub(super) new_host: Option<String>,
    /// A header to send instead of the recorded one, as in 'Authorization: Bearer x'
    #[arg(long, value_name = "NAME: VALUE", help_heading = "Requests", value_parser = header)]
    pub(super) header: Vec<Header>,
    /// A recorded header to leave out
    #[arg(long, value_name = "NAME", help_heading = "Requests")]
    pub(super) remove_header: Vec<String>,
    /// Recorded cookies, or with the values that the target has set since
    #[arg(long, value_name = "WHICH", help_heading = "Requests", value_enum, default_value_t)]
    pub(super) cookies: Cookies,
    /// The certificate authorities to trust beside this host's, a PEM file
    #[arg(long, value_name = "FILE", help_heading = "Requests", conflicts_with = "insecure")]
    pub(super) ca: Option<PathBuf>,
    /// Take any certificate
    #[arg(long, help_heading = "Requests")]
    pub(super) insecure: bool,

    /// What of an answer must be as recorded; content is not recorded, so body needs --baseline or --save-bodies
    #[arg(long, value_name = "WHAT", help_heading = "Checks", value_enum, default_value_t, requires_if("body", "contents"))]
    pub(super) check: Check,
    /// Compare content with that of earlier runs, saved by --save-bodies; where those differ among themselves is not compared. If
    /// it differs, the exit code is 1
    #[arg(long, value_name = "FILE", help_heading = "Checks", num_args = 1..)]
    pub(super) baseline: Vec<PathBuf>,
    /// Save what content each request was answered with (hashes), for --baseline
    #[arg(long, value_name = "FILE", help_heading = "Checks")]
    pub(super) save_bodies: Option<PathBuf>,
    /// What must hold, as in p90<700ms,errors<0.1% or errors<1%; if it does not, or cannot be judged, the exit code is 99: a
    /// latency is judged if at least half of the sending time can be trusted. Without it, failed requests are no failure
    #[arg(long, value_name = "BOUNDS", help_heading = "Checks")]
    pub(super) slo: Option<Objective>,

    /// Write the report as JSON
    #[arg(long, value_name = "FILE", help_heading = "Reports")]
    pub(super) json: Option<PathBuf>,
    /// Write the report as an HTML page
    #[arg(long, value_name = "FILE", help_heading = "Reports")]
    pub(super) html: Option<PathBuf>,
    /// Write latencies as a log for HdrHistogram's tools
    #[arg(long, value_name = "FILE", help_heading = "Reports")]
    pub(super) hdr: Option<PathBuf>,

    #[command(flatten)]
    pub(super) which: Which,
}

/// Whether recorded connections matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum SessionsKept {
    Kept,
    Pooled,
}

/// Which cookies are sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Cookies {
    #[default]
    Recorded,
    Jar,
}

/// What of an answer is checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Check {
    #[default]
    Status,
    Length,
    Body,
}

impl From<Cookies> for load::Cookies {
    fn from(cookies: Cookies) -> Self {
        match cookies {
            Cookies::Recorded => Self::Recorded,
            Cookies::Jar => Self::Jar,
        }
    }
}

impl From<Check> for load::Check {
    fn from(check: Check) -> Self {
        match check {
            Check::Status => Self::Status,
            Check::Length => Self::Length,
            Check::Body => Self::Body,
        }
    }
}

impl Options {
    /// What the generator's thread asks the system for.
    pub(super) const fn priority(&self) -> Priority {
        if self.no_real_time { Priority::Ordinary } else { Priority::RealTime }
    }

    /// Whether content is hashed: for these options it must be, and the length is not checked then.
    pub(super) fn hashes_bodies(&self) -> bool {
        self.save_bodies.is_some() || !self.baseline.is_empty()
    }

    /// What of answers is compared with what, where it is more than the status.
    fn checked(&self) -> Option<&'static str> {
        if !self.baseline.is_empty() {
            Some(
                "Checked: status against the recording, and content against earlier runs; length is not compared with the recorded one",
            )
        } else if self.save_bodies.is_some() {
            Some("Checked: status against the recording; content is saved and compared with nothing, and length is not compared")
        } else {
            (self.check == Check::Length).then_some("Checked: status and length against the recording")
        }
    }

    pub(super) fn methods(&self) -> Result<Methods, PlanError> {
        Methods::allow(self.allow.iter().map(String::as_str))
    }

    pub(super) fn rewrite(&self) -> Rewrite {
        Rewrite { set: self.header.clone(), remove: self.remove_header.clone() }
    }

    /// What to know of bodies, if requests that should have one may be sent without.
    pub(super) fn bodies_not_recorded(&self, meta: &Meta) -> Option<String> {
        let recorded = meta.fidelity.as_ref().and_then(|fidelity| fidelity.bodies.as_deref()).unwrap_or("unknown");
        (!self.allow.is_empty() && !["all", "scrubbed"].contains(&recorded)).then(|| {
            format!("Bodies in the recording: {recorded}. Requests whose body was not recorded are sent with an empty one")
        })
    }

    /// What was chosen, in sentences. Values of headers stay out: they may be secrets.
    pub(super) fn choices(&self, meta: &Meta) -> Vec<String> {
        let mut choices = vec![format!("Requests time out after {}", humantime::format_duration(self.timeout))];
        let mut add = |chosen: bool, words: String| choices.extend(chosen.then_some(words));
        add(!self.allow.is_empty(), format!("Methods allowed beside the safe ones: {}", self.allow.join(", ")));
        let bodies = self.bodies_not_recorded(meta);
        add(bodies.is_some(), bodies.unwrap_or_default());
        let host = self.new_host.as_deref();
        add(host.is_some(), format!("Host header: {}", host.unwrap_or_default()));
        let names: Vec<&str> = self.header.iter().map(Header::name).collect();
        add(!names.is_empty(), format!("Headers set: {}", names.join(", ")));
        add(!self.remove_header.is_empty(), format!("Headers removed: {}", self.remove_header.join(", ")));
        add(self.cookies == Cookies::Jar, "Cookies: the values that the target set".to_owned());
        let checked = self.checked();
        add(checked.is_some(), checked.unwrap_or_default().to_owned());
        add(self.insecure, "TLS certificates were not checked".to_owned());
        choices
    }
}

fn time(text: &str) -> Result<Duration, String> {
    let time = units::span(text).map_err(|error| error.to_string())?;
    if time.is_zero() { Err("a time above zero, as in 30s".to_owned()) } else { Ok(time) }
}

fn think(text: &str) -> Result<Think, String> {
    match text {
        "none" => Ok(Think::None),
        "recorded" => Ok(Think::Recorded),
        time => {
            let time = units::span(time);
            time.map(Think::Fixed).map_err(|_| "none, recorded or a time, as in 500ms".to_owned())
        }
    }
}
