//! `tuningfork tune`: reads the question, lets the study loop answer it, prints the report. What decides is in [`crate::study`].

mod error;
mod files;
mod program;
mod question;
mod subject;
mod wanted;
mod write;

pub use error::TuneError;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::arguments::{header, rate};
use super::report::outputs::{Outputs, Paths, shown};
use super::say::{print, say};
use super::{CommandError, Ending, demo};
use crate::printable::pasted;
use crate::recording;
use crate::study::{Dimensions, Report, Slo, Stop, Study};
use crate::sys::signals::Signals;
use crate::sys::spawn::Output;
use crate::sys::{host, launch, limits, priority};
use crate::tune::external::External;
use crate::tune::live::Live;
use crate::tune::progress::Shown;
use crate::tune::trial::Terms;
use crate::tune::{About, Header, Journal, JournalError, run_study};
use crate::units::{self, Connections, Rate, Workers};
use files::{Places, Trimmed};
use question::Question;
use subject::Subject;
use write::{Manuscript, Written};

/// The configuration file where none is named.
const CONFIG: &str = "tuningfork.toml";

/// The arguments of `tune`.
#[derive(Debug, Args)]
pub struct Options {
    /// The configuration file, which says what the baseline is; trial programs need none
    #[arg(short, long, value_name = "FILE", default_value = CONFIG, conflicts_with = "demo")]
    config: PathBuf,
    /// The recorded traffic, as `tuningfork record import` or `record live` makes it
    #[arg(short, long, value_name = "RECORDING")]
    traffic: Option<PathBuf>,
    /// Tune an embedded demo application with embedded traffic: needs no configuration, no Python and no network
    #[arg(long, conflicts_with = "traffic")]
    demo: bool,
    /// What must hold: a latency (p50, p90, p95, p99 or max; in us, ms or s) and a share of errors (0.1% if left out). In quotes, or the
    /// shell takes what follows < for a file
    #[arg(long, value_name = "BOUNDS", default_value = demo::SLO)]
    slo: Slo,
    /// The Host header of requests that recorded none
    #[arg(long, value_name = "NAME", default_value = "localhost", conflicts_with_all = ["trial_command", "trial_server"])]
    host: String,
    /// A header to send with every request instead of the recorded one, as in 'X-Forwarded-Proto: https' for an application that redirects
    /// what does not come by https
    #[arg(long, value_name = "NAME: VALUE", value_parser = header, conflicts_with_all = ["trial_command", "trial_server"])]
    header: Vec<recording::Header>,
    /// The most workers to try [default: 4 × cores + 1, at least 9; for sync 64 × cores, at most 512]
    #[arg(long, value_name = "N", value_parser = workers)]
    max_workers: Option<Workers>,
    /// The most connections a worker to try [default: 1000; here and of workers as many as are configured, if these are more]
    #[arg(long, value_name = "N", value_parser = connections)]
    max_connections: Option<Connections>,
    /// The most workers × connections to try: what the application's database allows, if each connection holds one
    #[arg(long, value_name = "N", value_parser = positive)]
    max_total_connections: Option<u64>,
    /// The most memory all workers together may use, as in 3G: bytes, or a number with K, M, G or T (powers of 1024). A baseline that
    /// takes more is tried once and not recommended. Not the max-memory of the configuration file, which is of one worker [default: what
    /// is free when the study begins, and nine tenths of the whole at most; none for trial programs]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_memory: Option<u64>,
    #[command(flatten)]
    wanted: wanted::Options,
    /// Shorter trials, less exact: three to four minutes in all
    #[arg(long)]
    quick: bool,
    /// How long all trials may take: the search ends in time for the comparison, and after 16 trials at the latest, 14 with --quick; the
    /// baseline is tried in any case [default: 15m, 3m with --quick; up to 56m and 7m where --slo bounds a rare latency such as p99, which
    /// takes longer probes]
    #[arg(long, value_name = "TIME", value_parser = units::span)]
    budget: Option<Duration>,
    /// Say how many hosts this many requests a second need: in the report on standard output and in --html
    #[arg(long, value_name = "RATE", value_parser = rate)]
    peak: Option<Rate>,
    #[command(flatten)]
    paths: Paths,
    /// Where every trial is written down [default: a new file in $STATE_DIRECTORY, else in $XDG_STATE_HOME/tuningfork, else in
    /// ~/.local/state/tuningfork]
    #[arg(long, value_name = "FILE")]
    journal: Option<PathBuf>,
    /// Continue the study in --journal
    #[arg(long, requires = "journal")]
    resume: bool,
    #[command(flatten)]
    write: write::Options,
    #[command(flatten)]
    program: program::Options,
}

fn workers(text: &str) -> Result<Workers, String> {
    text.parse().ok().and_then(Workers::new).ok_or_else(|| format!("a whole number from 1 to {}", Workers::MAX))
}

fn connections(text: &str) -> Result<Connections, String> {
    text.parse().ok().and_then(Connections::new).ok_or_else(|| format!("a whole number from 1 to {}", Connections::MAX))
}

fn positive(text: &str) -> Result<u64, String> {
    text.parse().ok().filter(|number| *number > 0).ok_or_else(|| "a whole number from 1".to_owned())
}

fn size(text: &str) -> Result<u64, String> {
    const UNITS: [(char, u32); 4] = [('K', 10), ('M', 20), ('G', 30), ('T', 40)];
    let upper = text.trim_end_matches("iB").trim_end_matches('B').to_ascii_uppercase();
    let unit = UNITS.iter().find_map(|(letter, shift)| Some((upper.strip_suffix(*letter)?, *shift)));
    let (digits, shift) = unit.unwrap_or((&upper, 0));
    let bytes = digits.trim_end().parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
    bytes
        .filter(|bytes| *bytes > 0)
        .ok_or_else(|| "a whole number of bytes above 0, or one with K, M, G or T, as in 1536M".to_owned())
}

/// Answers how many workers and connections the application should have on this host.
pub fn tune(options: &Options) -> Result<Ending, CommandError> {
    let facts = host::facts();
    let mut question = Question::ask(options, &facts)?;
    let manuscript = options.write.is_given().then(|| manuscript(options, &question)).transpose()?;
    let places = Places::choose(options.journal.as_deref())?;
    let outputs = Outputs::prepare(&options.paths, [&None, &None, &None], &options.inputs(&places))?;
    outputs.check_peak(options.peak)?;
    if options.resume && options.max_memory.is_none() {
        question.keep_to_memory_limit(&places.journal);
    }
    let header = question.header(&facts);
    let mut study = header.study();
    // Whatever is read up to here, as a pipe that nobody fills, ends with the first signal.
    let mut signals = Signals::of_a_study().map_err(CommandError::system("cannot catch signals"))?;
    let mut journal = open(&mut study, &places, &header, options.resume)?;
    question.introduce(&facts, &places);
    options.wanted.introduce();
    let (stopped, not_loaded) = answer(&question, &mut study, &mut journal, &mut signals, &places)?;
    // What cannot be written down any more is reported all the same.
    let (stop, broken) = stopped.map_or_else(|error| (Stop::Interrupted, Some(error)), |stop| (stop, None));
    let report = Report::new(&study, stop);
    let use_stdout = outputs.use_stdout();
    let written = outputs.write(&report, &header.about, options.peak);
    // Standard output may be full, and is not what else was asked for.
    let printed = if use_stdout { Ok(()) } else { show(&report, options, &places, &header.about) };
    written?;
    if let Some(broken) = broken {
        return Err(broken.into());
    }
    if let Some(manuscript) = manuscript {
        let told = write(&manuscript, &report, options)?;
        if use_stdout { say(&told) } else { print(&format!("{told}\n"))? }
    }
    printed?;
    match not_loaded {
        Some(reason) if stop == Stop::NothingStarts => Err(CommandError::AppNotLoaded(reason)),
        Some(_) | None => Ok(ending(&report)),
    }
}

impl Options {
    /// What is read, or written all along.
    fn inputs<'a>(&'a self, places: &'a Places) -> Vec<&'a Path> {
        [Some(&self.config), self.traffic.as_ref(), Some(&places.journal), Some(&places.log)]
            .into_iter()
            .flatten()
            .map(PathBuf::as_path)
            .collect()
    }

    /// Whether there is a configuration file to be read where nothing needs it.
    fn has_configuration(&self) -> bool {
        self.write.is_given() || self.config != Path::new(CONFIG) || self.config.exists()
    }
}

/// How the study ended, and why the application was not loaded if it was not.
type Answer = (Result<Stop, JournalError>, Option<String>);

/// Runs the study with the testbed that the question is about.
fn answer(
    question: &Question,
    study: &mut Study,
    journal: &mut Journal,
    signals: &mut Signals,
    places: &Places,
) -> Result<Answer, CommandError> {
    let log = places.worker_log()?;
    let mut shown = Shown::on_stderr(question.slo);
    match &question.subject {
        Subject::Program(program, _) => {
            let mut external = External::new(program, signals, &log, study.trials().len());
            let mut trimmed = Trimmed { inner: &mut external, log: &log };
            Ok((run_study(study, &mut trimmed, journal, &mut shown), None))
        }
        Subject::Local(local) => {
            limits::raise_open_files();
            if priority::raise_this_thread().is_none() {
                say(
                    "warning: no real-time priority for the load generator (CAP_SYS_NICE, or `LimitRTPRIO=1` in a unit, `rtprio 1` in \
                     limits.conf): while every core is busy it may send late",
                );
            }
            let output = Output::To(log.try_clone().map_err(CommandError::system("cannot keep the workers' log open"))?);
            let space = &question.space;
            let terms = Terms {
                slo: question.slo,
                pace: question.pace,
                cores: space.cores.get(),
                cpu: space.cpu(),
                cores_a_worker: local.config.app.cores_a_worker(),
            };
            let environment = launch::environment(std::env::vars_os());
            let mut live = Live::new(&local.config, &local.plan, terms, signals, &output, environment)
                .map_err(CommandError::system("cannot make a directory for the trials' socket"))?;
            let mut trimmed = Trimmed { inner: &mut live, log: &log };
            let stopped = run_study(study, &mut trimmed, journal, &mut shown);
            Ok((stopped, live.not_loaded().map(str::to_owned)))
        }
    }
}

/// The configuration file, to be changed at the end.
fn manuscript(options: &Options, question: &Question) -> Result<Manuscript, CommandError> {
    let has_connections = question.space.dimensions == Dimensions::WorkersAndConnections;
    Ok(Manuscript::open(&options.config, has_connections, question.space.baseline()).map_err(TuneError::from)?)
}

/// Writes what is recommended, if that may be; and what to say of it, or why not.
fn write(manuscript: &Manuscript, report: &Report, options: &Options) -> Result<String, CommandError> {
    let file = options.config.display();
    let written = match options.write.worth_writing(report) {
        Ok(recommended) => manuscript.write(recommended).map_err(TuneError::from)?,
        Err(reason) => return Ok(format!("{file} is left as it is: {reason}.")),
    };
    Ok(match written {
        Written::AsItWas => format!("{file} is left as it is: {}.", write::SAYS_SO),
        Written::Changed(backup) => format!("Written to {file}; what it said: {}", backup.display()),
    })
}

/// A new journal, or the one to continue with its trials.
fn open(study: &mut Study, places: &Places, header: &Header, resume: bool) -> Result<Journal, CommandError> {
    if !resume {
        return Ok(Journal::create(&places.journal, header)?);
    }
    let resumed = Journal::resume(&places.journal, header)
        .map_err(|error| CommandError::of_a_journal_read(error, "leave out --resume to begin it"))?;
    say(&format!("{}: trials taken up: {}", places.journal.display(), resumed.trials.len()));
    if resumed.torn {
        say("its last line was cut off: what it told is measured again");
    }
    if let Some(host) = resumed.other_host {
        say(&format!(
            "warning: those were measured on {host}. If that is not this host, capacities cannot be compared: begin anew"
        ));
    }
    for trial in resumed.trials {
        study.record(trial);
    }
    Ok(resumed.journal)
}

fn show(report: &Report, options: &Options, places: &Places, about: &About) -> Result<(), CommandError> {
    print(&shown(report, about, options.peak))?;
    if matches!(report.stop, Stop::NothingStarts | Stop::OnlyErrors) {
        places.show_worker_log();
    }
    let (journal, log, name) = (places.journal.display(), places.log.display(), pasted(&places.journal));
    let go_on =
        if report.is_partial() { format!("To go on: the same command with --journal {name} --resume\n") } else { String::new() };
    print(&format!(
        "\nEvery trial: {journal}\nWhat trials wrote: {log}\nAs a page: tuningfork report {name} --html report.html\n{go_on}"
    ))
}

const fn ending(report: &Report) -> Ending {
    match report.stop {
        // Nothing that was tried in time holds a rate, or what did held none when it was repeated.
        Stop::Converged | Stop::Certified | Stop::Budget | Stop::Trials if report.recommended.is_none() => Ending::Unmet,
        Stop::Converged | Stop::Certified | Stop::Budget | Stop::Trials => Ending::Success,
        Stop::OnlyErrors | Stop::NothingMeetsSlo => Ending::Unmet,
        Stop::NeverQuiet => Ending::Failure,
        Stop::NothingStarts => Ending::WorkersNotBooting,
        Stop::Interrupted => Ending::Interrupted,
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, Command};

    use super::*;
    use crate::study::Pace;

    #[test]
    fn help_tells_the_trials_and_the_time_that_a_study_may_take() {
        let command = Options::augment_args(Command::new("tune"));
        let budget = command.get_arguments().find(|argument| argument.get_id() == "budget");
        let help = budget.and_then(|argument| argument.get_help()).unwrap().to_string();
        let trials = [Pace::Normal, Pace::Quick].map(|pace| pace.effort().most_trials());
        let minutes =
            |slo: &str| [Pace::Normal, Pace::Quick].map(|pace| (pace.budget(&slo.parse().unwrap()).seconds / 60.0).floor());
        let ([normal, quick], [usual, usual_quick], [rare, rare_quick]) = (trials, minutes("p90<1s"), minutes("p99<1s"));
        for told in [
            format!("after {normal} trials at the latest, {quick} with --quick"),
            format!("{usual}m, {usual_quick}m with --quick; up to {rare}m and {rare_quick}m where"),
        ] {
            assert!(help.contains(&told), "{told}: {help}");
        }
    }
}
