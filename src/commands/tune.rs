//! `tuningfork tune`: reads the question, lets the study loop answer it, prints the report. What decides is in [`crate::study`].

mod files;
mod question;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::say::say;
use super::{CommandError, Ending, demo, tune_output};
use crate::study::{GridThenNeighbours, Report, Slo, Stop, Study};
use crate::sys::signals::Signals;
use crate::sys::spawn::Output;
use crate::sys::{host, launch, limits};
use crate::tune::live::Live;
use crate::tune::progress::Shown;
use crate::tune::trial::Terms;
use crate::tune::{Header, Journal, JournalError, run_study};
use crate::units::{Connections, Rate, Workers};
use files::{Draft, Places};
use question::Question;

/// The share of each host that stays free in the count of hosts for a peak.
const HEADROOM: f64 = 0.3;

/// The arguments of `tune`.
#[derive(Debug, Args)]
pub struct Options {
    /// The configuration file
    #[arg(short, long, value_name = "FILE", default_value = "tuningfork.toml", conflicts_with = "demo")]
    config: PathBuf,
    /// The recorded traffic, as `tuningfork record import` makes it
    #[arg(short, long, value_name = "RECORDING", required_unless_present = "demo")]
    traffic: Option<PathBuf>,
    /// Tune an embedded demo application with embedded traffic: needs no configuration, no Python and no network
    #[arg(long, conflicts_with = "traffic")]
    demo: bool,
    /// What must hold: a latency (p50, p90, p95, p99 or max) and a share of errors
    #[arg(long, value_name = "BOUNDS", default_value = demo::SLO)]
    slo: Slo,
    /// The Host header of requests that recorded none
    #[arg(long, value_name = "NAME", default_value = "localhost")]
    host: String,
    /// The most workers to try [default: 4 × cores + 1, 64 × cores for sync]
    #[arg(long, value_name = "N", value_parser = workers)]
    max_workers: Option<Workers>,
    /// The most connections a worker to try [default: 1000]
    #[arg(long, value_name = "N", value_parser = connections)]
    max_connections: Option<Connections>,
    /// The most workers × connections to try: what the application's database allows, if each connection holds one
    #[arg(long, value_name = "N")]
    max_total_connections: Option<u64>,
    /// Shorter trials, less exact: about two minutes in all
    #[arg(long)]
    quick: bool,
    /// When to stop searching and compare what was found [default: 15m, 115s with --quick]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    budget: Option<Duration>,
    /// Say how many hosts this many requests a second need
    #[arg(long, value_name = "RATE", value_parser = rate)]
    peak: Option<Rate>,
    /// Write the result as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Where every trial is written down [default: a new file in $XDG_STATE_HOME/tuningfork]
    #[arg(long, value_name = "FILE")]
    journal: Option<PathBuf>,
    /// Continue the study in --journal
    #[arg(long, requires = "journal")]
    resume: bool,
}

fn workers(text: &str) -> Result<Workers, String> {
    text.parse().ok().and_then(Workers::new).ok_or_else(|| format!("a whole number from 1 to {}", Workers::MAX))
}

fn connections(text: &str) -> Result<Connections, String> {
    text.parse().ok().and_then(Connections::new).ok_or_else(|| format!("a whole number from 1 to {}", Connections::MAX))
}

fn rate(text: &str) -> Result<Rate, String> {
    text.parse().ok().and_then(Rate::new).ok_or_else(|| "a number of requests a second".to_owned())
}

/// Answers how many workers and connections the application should have on this host.
pub fn tune(options: &Options) -> Result<Ending, CommandError> {
    let mut signals = Signals::of_a_study().map_err(CommandError::system("cannot catch signals"))?;
    let facts = host::facts();
    let question = Question::ask(options, facts.cores.usable)?;
    let json = options.json.as_deref().map(Draft::of).transpose()?;
    let places = Places::choose(options.journal.as_deref())?;
    let header = question.header(&facts);
    let mut study = question.study();
    let mut journal = open(&mut study, &places, &header, options.resume)?;
    question.introduce(&facts, &places);
    limits::raise_open_files();
    let output = Output::To(places.worker_log()?);
    let terms = Terms { slo: question.slo, pace: question.pace, cores: question.space.cores.get() };
    let mut live =
        Live::new(&question.config, &question.plan, terms, &mut signals, &output, launch::environment(std::env::vars_os()))
            .map_err(CommandError::system("cannot make a directory for the trials' socket"))?;
    let stopped = {
        let mut shown = Shown::on_stderr();
        run_study(&mut study, &GridThenNeighbours, &mut live, &mut journal, &mut shown)
    };
    // What cannot be written down any more is reported all the same.
    let (stop, broken) = stopped.map_or_else(|error| (Stop::Interrupted, Some(error)), |stop| (stop, None));
    let not_loaded = live.not_loaded().map(str::to_owned);
    drop(live);
    let report = Report::new(&study, stop);
    show(&report, options, &places);
    if let Some(json) = json {
        json.write(&report)?;
    }
    if let Some(broken) = broken {
        return Err(broken.into());
    }
    match not_loaded {
        Some(reason) if stop == Stop::NothingStarts => Err(CommandError::AppNotLoaded(reason)),
        Some(_) | None => Ok(ending(stop)),
    }
}

/// A new journal, or the one to continue with its trials.
fn open(study: &mut Study, places: &Places, header: &Header, resume: bool) -> Result<Journal, CommandError> {
    if !resume {
        return Ok(Journal::create(&places.journal, header)?);
    }
    let resumed = Journal::resume(&places.journal, header).map_err(|error| match error {
        JournalError::Io { path, source } => CommandError::Unreadable { path, source },
        other @ (JournalError::Exists(_)
        | JournalError::InUse(_)
        | JournalError::OtherStudy { .. }
        | JournalError::OtherVersion { .. }
        | JournalError::NotWritten { .. }
        | JournalError::Damaged { .. }) => other.into(),
    })?;
    say(&format!("{}: {} trials taken up", places.journal.display(), resumed.trials.len()));
    if resumed.torn {
        say("its last line was cut off: that trial is run again");
    }
    for trial in resumed.trials {
        study.record(trial);
    }
    Ok(resumed.journal)
}

#[expect(clippy::print_stdout, reason = "the report is what standard output is for")]
fn show(report: &Report, options: &Options, places: &Places) {
    let no_color = std::env::var("NO_COLOR").ok();
    println!();
    print!("{}", tune_output::report(report, tune_output::Paper::of_stdout(no_color.as_deref())));
    if let Some(peak) = options.peak {
        print!("\n{}", tune_output::hosts(report, peak, HEADROOM));
    }
    if matches!(report.stop, Stop::NothingStarts | Stop::OnlyErrors) {
        places.show_worker_log();
    }
    println!("\nEvery trial: {}", places.journal.display());
    if report.is_partial() {
        println!("To go on: the same command with --journal {} --resume", places.journal.display());
    }
}

const fn ending(stop: Stop) -> Ending {
    match stop {
        Stop::Converged | Stop::Budget => Ending::Success,
        Stop::OnlyErrors | Stop::NothingMeetsSlo => Ending::Unmet,
        Stop::NothingStarts => Ending::WorkersNotBooting,
        Stop::Interrupted => Ending::Interrupted,
    }
}
