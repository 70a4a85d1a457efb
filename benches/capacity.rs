//! The capacity of chosen configurations within an objective, measured in turn by the testbed of `tuningfork tune`:
//! `cargo bench --bench capacity -- --config FILE --traffic RECORDING --rounds 5 5x10 5x1000 3x100`.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "measurements go to standard output, complaints to standard error"
)]

use std::collections::BTreeMap;
use std::error::Error;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use jiff::Timestamp;
use serde::Serialize;
use tempfile::NamedTempFile;
use tuningfork::commands::demo;
use tuningfork::config::{Config, Machine, Surroundings};
use tuningfork::recording;
use tuningfork::replay::{Plan, PlanOptions, Reuse};
use tuningfork::study::{Candidate, Measurement, Outcome, Pace, Purpose, Slo, Suggestion, Task};
use tuningfork::sys::signals::Signals;
use tuningfork::sys::spawn::Output;
use tuningfork::sys::{clock, host, launch, limits};
use tuningfork::tune::live::Live;
use tuningfork::tune::trial::Terms;
use tuningfork::tune::{Testbed, TrialError};
use tuningfork::units::{Connections, Workers};

/// How many of the workers' last lines are shown with a failure.
const SHOWN: usize = 20;

/// Measures the capacity of each candidate within the objective, once a round; each round begins with another one
#[derive(Debug, Parser)]
#[command(bin_name = "cargo bench --bench capacity --")]
struct Options {
    /// The configuration file; its own numbers of workers and connections are not used
    #[arg(short, long, value_name = "FILE", requires = "traffic", requires = "candidates")]
    config: Option<PathBuf>,
    /// The recorded traffic, as `tuningfork record import` makes it
    #[arg(short, long, value_name = "RECORDING", requires = "config")]
    traffic: Option<PathBuf>,
    /// How often each candidate is measured
    #[arg(long, value_name = "N", default_value = "5")]
    rounds: NonZeroUsize,
    /// Shorter trials, less exact
    #[arg(long)]
    quick: bool,
    /// No measurement begins later than this long after the start
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    within: Option<Duration>,
    /// Every measurement is appended to this file, a JSON object a line
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// What must hold
    #[arg(long, value_name = "BOUNDS", default_value = demo::SLO)]
    slo: Slo,
    /// The Host header of requests that recorded none
    #[arg(long, value_name = "NAME", default_value = "localhost")]
    host: String,
    /// Workers × connections, such as 5x10; the others are compared with the first
    #[arg(value_name = "WORKERSxCONNECTIONS", value_parser = candidate, requires = "config")]
    candidates: Vec<Candidate>,
    /// Cargo's own
    #[arg(long, hide = true)]
    bench: bool,
}

impl Options {
    fn pace(&self) -> Pace {
        if self.quick { Pace::Quick } else { Pace::Normal }
    }
}

fn candidate(text: &str) -> Result<Candidate, String> {
    let numbers = text.split_once(['x', '×']).and_then(|(workers, connections)| {
        let workers = Workers::new(workers.parse().ok()?)?;
        Some(Candidate::new(workers, Connections::new(connections.parse().ok()?)?))
    });
    numbers.ok_or_else(|| "write workers and connections as 5x10".to_owned())
}

fn name(candidate: Candidate) -> String {
    format!("{}x{}", candidate.workers, candidate.connections)
}

fn read_config(path: &Path) -> Result<Config, Box<dyn Error>> {
    let unreadable = |error| format!("{}: {error}", path.display());
    let text = fs::read_to_string(path).map_err(unreadable)?;
    let directory = path.canonicalize().map_err(unreadable)?.parent().map_or_else(|| "/".into(), Path::to_owned);
    let virtual_env = std::env::var_os("VIRTUAL_ENV").map(PathBuf::from);
    let surroundings =
        Surroundings { web_concurrency: None, virtual_env, machine: Machine::of_cores(host::cores().usable), directory };
    Ok(Config::parse(&text, path, &surroundings).map_err(|errors| errors.to_string())?)
}

fn read_plan(path: &Path, host: String) -> Result<Plan, Box<dyn Error>> {
    let file = File::open(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let recording = recording::read(BufReader::new(file)).map_err(|error| format!("{}: {error}", path.display()))?;
    // As `tune` replays it.
    Ok(Plan::compile(&recording, &PlanOptions::new(host, Reuse::PerRequest))?)
}

/// One line of results, in the order of the candidates: `None` where a trial failed.
type Round = Vec<Option<Measurement>>;

/// A line of `--json`.
#[derive(Serialize)]
struct Line<'a> {
    at: String,
    slo: Slo,
    pace: Pace,
    #[serde(flatten)]
    candidate: Candidate,
    #[serde(flatten)]
    measured: Option<&'a Measurement>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a str>,
}

/// The file of `--json`. A line is on its way to the disk before the next trial begins.
struct Ledger(Option<File>);

impl Ledger {
    fn open(path: Option<&Path>) -> io::Result<Self> {
        path.map(|path| OpenOptions::new().create(true).append(true).open(path)).transpose().map(Self)
    }

    fn note(&mut self, line: &Line<'_>) -> io::Result<()> {
        let Some(file) = &mut self.0 else { return Ok(()) };
        file.write_all(format!("{}\n", serde_json::to_string(line)?).as_bytes())
    }
}

/// Measures every candidate `rounds` times. Rounds that were interrupted are left out.
fn measure(live: &mut Live<'_>, options: &Options, log: &Path) -> io::Result<Vec<Round>> {
    let (count, pace, started) = (options.candidates.len(), options.pace(), clock::now());
    let mut ledger = Ledger::open(options.json.as_deref())?;
    let mut expected = BTreeMap::new();
    let mut rounds: Vec<Round> = Vec::new();
    for number in 0..options.rounds.get() {
        let mut round: Round = vec![None; count];
        for place in (0..count).map(|place| (place + number) % count) {
            if options.within.is_some_and(|within| clock::now().since(started) > within) {
                return Ok(rounds);
            }
            let candidate = options.candidates[place];
            let expectation = expected.get(&candidate).copied();
            let suggestion =
                Suggestion { candidate, purpose: Purpose::Confirm, task: Task::Measure, expected: expectation, rival: None };
            let note = Line { at: Timestamp::now().to_string(), slo: options.slo, pace, candidate, measured: None, error: None };
            match live.run(&suggestion, &mut |_| {}) {
                Ok(Outcome::Measured(measured)) => {
                    show(number, candidate, &measured);
                    ledger.note(&Line { measured: Some(&*measured), ..note })?;
                    if measured.capacity > 0.0 {
                        expected.insert(candidate, measured.capacity);
                    }
                    round[place] = Some(*measured);
                }
                Err(TrialError::Interrupted) => return Ok(rounds),
                Ok(Outcome::Challenged(_)) => unreachable!("only measurements are asked for"),
                Ok(Outcome::Failed { reason, .. }) | Err(TrialError::Failed { reason, .. }) => {
                    println!("round {}  {:>8}  failed: {reason}", number + 1, name(candidate));
                    ledger.note(&Line { error: Some(&reason), ..note })?;
                    show_log(log);
                }
            }
        }
        rounds.push(round);
    }
    Ok(rounds)
}

fn show(round: usize, candidate: Candidate, measured: &Measurement) {
    let flags: Vec<_> = measured.flags.iter().map(|flag| flag.words()).collect();
    println!(
        "round {}  {:>8}  {:7.1} req/s  p90 {:4.0} ms  errors {:.2} %  CPU {:3.0} %  {:6.1} MiB  {:3.0} s  {}  {}",
        round + 1,
        name(candidate),
        measured.capacity,
        measured.p90.unwrap_or(f64::NAN) * 1e3,
        measured.errors.unwrap_or(f64::NAN) * 1e2,
        measured.cpu_mean().unwrap_or(f64::NAN) * 1e2,
        mebibytes(measured),
        measured.seconds,
        measured.ending.words(),
        flags.join(", "),
    );
}

fn show_log(log: &Path) {
    let text = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    eprintln!("{}", lines[lines.len().saturating_sub(SHOWN)..].join("\n"));
}

#[expect(clippy::cast_precision_loss, reason = "memory far below 2^53 bytes")]
fn mebibytes(measured: &Measurement) -> f64 {
    measured.memory_bytes.unwrap_or(0) as f64 / f64::from(1 << 20)
}

/// Median, least and most; `None` of nothing.
fn spread(mut values: Vec<f64>) -> Option<[f64; 3]> {
    values.sort_by(f64::total_cmp);
    let (least, most) = (*values.first()?, *values.last()?);
    let half = values.len() / 2;
    let median = if values.len() % 2 == 1 { values[half] } else { f64::midpoint(values[half - 1], values[half]) };
    Some([median, least, most])
}

/// A row a candidate. Ratios are taken within a round, whose measurements were made one after another.
fn summarise(candidates: &[Candidate], rounds: &[Round]) {
    if rounds.is_empty() {
        return;
    }
    println!("\n{} complete rounds; median (least – most)", rounds.len());
    println!("{:>8}  {:^27}  {:>6}  {:>5}  {:>10}  ratio to the first", "", "capacity, req/s", "p90", "CPU", "memory");
    for (place, candidate) in candidates.iter().enumerate() {
        let of = |what: &dyn Fn(&Measurement) -> f64| {
            spread(rounds.iter().filter_map(|round| round[place].as_ref()).map(what).collect()).unwrap_or([f64::NAN; 3])
        };
        let ratios = rounds.iter().filter_map(|round| {
            let first = round[0].as_ref().filter(|first| first.capacity > 0.0)?;
            Some(round[place].as_ref()?.capacity / first.capacity)
        });
        let [median, least, most] = of(&|measured| measured.capacity);
        let [ratio, lowest, highest] = spread(ratios.collect()).unwrap_or([f64::NAN; 3]);
        println!(
            "{:>8}  {median:7.1} ({least:7.1} – {most:7.1})  {:4.0}ms  {:4.0}%  {:7.1}MiB  {ratio:.3} ({lowest:.3} – {highest:.3})",
            name(*candidate),
            of(&|measured| measured.p90.unwrap_or(f64::NAN))[0] * 1e3,
            of(&|measured| measured.cpu_mean().unwrap_or(f64::NAN))[0] * 1e2,
            of(&mebibytes)[0],
        );
    }
}

fn compare(options: &Options, config: &Path, traffic: &Path) -> Result<ExitCode, Box<dyn Error>> {
    let (config, plan) = (read_config(config)?, read_plan(traffic, options.host.clone())?);
    limits::raise_open_files();
    let mut signals = Signals::of_a_study()?;
    let log = NamedTempFile::new()?;
    let output = Output::To(log.reopen()?.into());
    let cores = host::cores();
    let (cpu, cores) = (cores.quota.unwrap_or(f64::from(cores.usable.get())), cores.usable.get());
    let terms = Terms { slo: options.slo, pace: options.pace(), cores, cpu, cores_a_worker: config.app.cores_a_worker() };
    let mut live = Live::new(&config, &plan, terms, &mut signals, &output, launch::environment(std::env::vars_os()))?;
    println!("{} requests, {}, {} cores", plan.requests().len(), options.slo, terms.cores);
    let rounds = measure(&mut live, options, log.path())?;
    summarise(&options.candidates, &rounds);
    drop(live);
    Ok(if signals.asked_to_stop() { ExitCode::from(130) } else { ExitCode::SUCCESS })
}

fn main() -> ExitCode {
    let options = Options::parse();
    let (Some(config), Some(traffic)) = (&options.config, &options.traffic) else {
        println!(
            "capacity: nothing to measure without --config, --traffic and candidates; see `cargo bench --bench capacity -- --help`"
        );
        return ExitCode::SUCCESS;
    };
    compare(&options, config, traffic).unwrap_or_else(|error| {
        eprintln!("capacity: {error}");
        ExitCode::FAILURE
    })
}
