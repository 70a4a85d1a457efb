//! The command line: arguments → command → exit code.

use std::env;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::commands::{CommandError, Ending, Source, check, ctl, demo_worker, gunicorn, man, record, replay, report, run, tune};
use crate::printable::printable_lines;

/// What `--help` and the README say about exit codes.
pub const EXIT_CODES: &str = "\
Exit codes:
    0  success; report: whatever the study found
    1  failure without a code of its own; tune: nothing measured, as the host was never quiet
    2  usage: arguments that are unknown, contradict each other or are refused
    3  no worker became ready at the start; tune: no trial could be run
    4  the application could not be loaded at the start
   66  a file to be read is missing or unusable (configuration, recording, journal)
   69  replay: nothing listens at the target; ctl: no running service is found, or several
   70  workers that had served failed, and `fail-after` attempts in a row to replace them
   73  a socket or file could not be made (no permission, no folder; a journal: it is there already)
   75  the address is in use: another supervisor runs, or something else listens there
   78  the configuration is invalid
   99  tune: nothing meets the SLO, or the application answers only errors; replay: the SLO not met
  130  interrupted; what was finished is reported";

/// What signals do to a service; the README has all 64.
pub const SIGNALS: &str = "\
Signals:
  HUP          reload configuration and code; ends a rest
  TTIN, TTOU   one worker more, one fewer
  USR1         open log files anew
  USR2         upgrade the program
  WINCH        rest: all workers leave, the sockets stay (not on a terminal)
  TERM         end: requests in flight are answered
  INT, QUIT    end at once
  TSTP, CONT   suspend, resume
Those that say that the program is broken (ABRT, BUS, FPE, ILL, SEGV, SYS, TRAP) and STKFLT kill it; all others do nothing.";

/// Runs web application workers, and finds out how many a host should run.
#[derive(Debug, Parser)]
#[command(version, about, after_help = EXIT_CODES, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the service: start the workers, keep them alive, reload on HUP
    #[command(after_help = SIGNALS)]
    Run {
        /// The configuration file
        #[arg(short, long, value_name = "FILE", default_value = "tuningfork.toml")]
        config: PathBuf,
    },
    /// Run what a Gunicorn command line asks for
    ///
    /// The interpreter's own Gunicorn reads the arguments, gunicorn.conf.py, GUNICORN_CMD_ARGS and WEB_CONCURRENCY; a reload
    /// reads them again. `tuningfork check` lists what becomes of each setting. Example: tuningfork gunicorn -w 33 -k gevent
    /// --worker-connections 10 -b unix:/run/app.sock -c gunicorn.conf.py --preload project.wsgi:application
    Gunicorn(Box<gunicorn::Options>),
    /// Check a configuration, and tell what becomes of each of Gunicorn's settings
    ///
    /// Of a file, or of a Gunicorn command line: tuningfork check -- -c gunicorn.conf.py --preload project.wsgi:application
    Check(Box<check::Options>),
    /// Ask a running service how it is, or tell it what to do
    Ctl(ctl::Options),
    /// Find out how many workers and connections this host should run
    #[command(after_help = EXIT_CODES)]
    Tune(Box<tune::Options>),
    /// Tell again what a study found, from its journal, or compare two
    Report(Box<report::Options>),
    /// Play a recording against a server, and tell how it answered
    Replay(Box<replay::Options>),
    /// Make recordings of traffic
    #[command(subcommand)]
    Record(record::Command),
    /// Write the manual pages into a folder
    Man(man::Options),
    /// Serve as one worker of the demo
    #[command(hide = true)]
    DemoWorker(demo_worker::Options),
}

/// Does what the arguments say and returns the exit code.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    // A service begins its log when it has read its configuration.
    if !matches!(cli.command, Command::Run { .. } | Command::Gunicorn(_)) {
        log_to_stderr(cli.command.log_level());
    }
    let result = match cli.command {
        Command::Run { config } => run::run(&Source::File(config)).map(|()| Ending::Success),
        Command::Gunicorn(options) => gunicorn::gunicorn(&options),
        Command::Check(options) => check::check(&options),
        Command::Ctl(options) => ctl::ctl(&options).map(|()| Ending::Success),
        Command::Tune(options) => tune::tune(&options),
        Command::Report(options) => report::report(&options),
        Command::Replay(options) => replay::replay(&options),
        Command::Record(command) => record::record(&command),
        Command::Man(options) => man::man(&options, Cli::command()).map(|()| Ending::Success),
        Command::DemoWorker(options) => match demo_worker::run(&options) {
            Ok(code) => return code,
            Err(error) => Err(error.into()),
        },
    };
    let ending = result.unwrap_or_else(|error| {
        complain(&error);
        error.ending()
    });
    ExitCode::from(ending.code())
}

impl Command {
    /// What is logged if TUNINGFORK_LOG does not say: a service tells what happens, a study shows its progress instead.
    const fn log_level(&self) -> &'static str {
        match self {
            Self::Run { .. } | Self::Gunicorn(_) | Self::Record(_) | Self::DemoWorker(_) => "info",
            Self::Check(_) | Self::Ctl(_) | Self::Tune(_) | Self::Report(_) | Self::Replay(_) | Self::Man(_) => "error",
        }
    }
}

/// The one place where an error meets the user. If he has closed his end, nobody is left to tell.
fn complain(error: &CommandError) {
    // The colours of a configuration's problem are ours.
    let is_ours = matches!(error, CommandError::Config(_));
    let told = if is_ours { error.to_string() } else { printable_lines(&error.to_string()) };
    let _ = writeln!(io::stderr(), "tuningfork: {told}");
}

/// Log lines go to standard error; TUNINGFORK_LOG filters them (`usual` if unset). journald stamps the time itself.
fn log_to_stderr(usual: &str) {
    let filter = EnvFilter::try_from_env("TUNINGFORK_LOG").unwrap_or_else(|_| EnvFilter::new(usual));
    let colours = io::stderr().is_terminal() && env::var_os("NO_COLOR").is_none();
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).with_ansi(colours).with_target(false);
    if env::var_os("JOURNAL_STREAM").is_some() {
        lines.without_time().init();
    } else {
        lines.init();
    }
}
