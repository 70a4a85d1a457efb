//! `tuningfork ctl`: asks a running service, or tells it what to do, and waits for it where that is wanted.

mod table;
mod wait;

use std::env;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::figures::counted;
use super::say::{pour, print, say};
use super::tune_output::Paper;
use super::{CommandError, socket};
use crate::control::{Client, ControlError, Count, Granted, Reload, Request};
use crate::units::{self, Workers};
use wait::{Patience, Upgraded, Watch};

/// How long the log is waited for where nobody asked to wait: it is opened in a moment, unless what it is written to hangs.
const LOG_PATIENCE: Duration = Duration::from_secs(5);

/// What to do.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = socket::PLACES)]
pub struct Options {
    /// The configuration of the running service, and of no other; without it tuningfork.toml, or what `tuningfork gunicorn` runs here
    #[arg(short, long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// The service's control socket, instead of looking for that of its configuration
    #[arg(long, visible_alias = "control", value_name = "PATH", conflicts_with = "config", global = true)]
    socket: Option<PathBuf>,
    /// Print JSON: the reply, or how it ended; if it failed, an object with `error` and the exit `code`
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    action: Action,
}

/// What is asked, or told.
#[derive(Clone, Debug, clap::Subcommand)]
enum Action {
    /// Show the workers: what they do, what they use, how their predecessors went
    Status {
        /// Show nothing; exit with 0 if all wanted workers serve, else with 1
        #[arg(long)]
        ready: bool,
    },
    /// Load configuration and code anew, and replace the workers one by one (HUP)
    Reload(Waiting),
    /// Run another number of workers: 4, +1, -1 (TTIN, TTOU); until the next reload or upgrade, which takes it from the configuration
    #[command(allow_negative_numbers = true)]
    Scale {
        /// How many, or how many more or fewer
        #[arg(value_name = "N")]
        workers: Count,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Go on as the program that is installed now, with the sockets kept open (USR2)
    Upgrade(Waiting),
    /// Open log files anew, after they were moved away (USR1); exit with 1 if that of tuningfork cannot be
    ReopenLogs(Waiting),
    /// Show what tuningfork and its workers logged last
    Logs {
        /// Go on with what comes, until Ctrl-C
        #[arg(short, long)]
        follow: bool,
        /// Only what workers of this slot wrote
        #[arg(long, value_name = "SLOT")]
        worker: Option<u16>,
    },
    /// Act on one worker
    #[command(subcommand)]
    Worker(WorkerAction),
    /// End the service: requests in flight are answered (TERM)
    Stop {
        /// Drop them instead (QUIT)
        #[arg(long)]
        quick: bool,
        #[command(flatten)]
        waiting: Waiting,
    },
}

/// What is done to one worker.
#[derive(Clone, Debug, clap::Subcommand)]
enum WorkerAction {
    /// Replace it: it answers what it has and leaves, and another takes its place at once
    Kill {
        /// Its id, the first column of `status`
        id: u64,
        #[command(flatten)]
        waiting: Waiting,
    },
}

/// Whether to wait.
#[derive(Clone, Copy, Debug, clap::Args)]
struct Waiting {
    /// Show how it goes, and come back when it is done; exit with 1 if it fails
    #[arg(short, long)]
    wait: bool,
    /// How long to wait at most: seconds, or 90s, 5m
    #[arg(long, value_name = "SPAN", requires = "wait", value_parser = units::span)]
    timeout: Option<Duration>,
}

impl Waiting {
    /// Who did not ask to wait waits for so long all the same.
    const fn at_least(self, patience: Duration) -> Self {
        if self.wait { self } else { Self { wait: true, timeout: Some(patience) } }
    }
}

/// Why it was not done.
#[derive(Debug, thiserror::Error)]
pub enum CtlError {
    /// The service cannot be asked, or says no.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The reload failed.
    #[error("the reload failed, the old workers keep serving:\n{}", .0.failure.as_deref().unwrap_or_default())]
    ReloadFailed(Reload),
    /// The log's file cannot be opened.
    #[error("the old log file is kept: {0}")]
    LogNotOpened(String),
    /// The upgrade failed.
    #[error("the upgrade failed, the old program keeps the service:\n{0}")]
    UpgradeFailed(String),
    /// It began to stop meanwhile.
    #[error("the service stops, so this will not be done")]
    Stops,
    /// Nobody answers where it was.
    #[error(
        "the service does not answer here any more: it has ended, or has its control socket elsewhere now; its log says which"
    )]
    Gone,
    /// It took too long.
    #[error("not done within {}: {doing}; it goes on", humantime::format_duration(*patience))]
    TooLong {
        /// How long it was waited for.
        patience: Duration,
        /// How far it has come.
        doing: String,
    },
    /// Not all workers serve.
    #[error("not ready")]
    NotReady,
}

/// Does what the options say, and tells programs too if it was not done.
pub fn ctl(options: &Options) -> Result<(), CommandError> {
    act(options).inspect_err(|error| {
        if options.json {
            // What went wrong is told to people all the same.
            print(&json(&Failure::of(error))).ok();
        }
    })
}

/// What programs read of what was not done.
#[derive(Serialize)]
struct Failure<'e> {
    /// As people read it.
    error: String,
    /// The exit code.
    code: u8,
    /// Of a reload, how it ended.
    #[serde(flatten)]
    reload: Option<&'e Reload>,
}

impl<'e> Failure<'e> {
    fn of(error: &'e CommandError) -> Self {
        let reload = if let CommandError::Ctl(CtlError::ReloadFailed(reload)) = error { Some(reload) } else { None };
        Self { error: error.to_string(), code: error.ending().code(), reload }
    }
}

/// A reload that succeeded.
#[derive(Serialize)]
struct Reloaded {
    #[serde(flatten)]
    reload: Reload,
    /// [`crate::control::Status::awaits_restart`].
    awaits_restart: Vec<String>,
}

fn act(options: &Options) -> Result<(), CommandError> {
    let client = connect(options)?;
    let watch = |waiting: Waiting| Watch::new(Patience(waiting.timeout), !options.json && io::stderr().is_terminal());
    let desk = Desk { client, json: options.json };
    match options.action {
        Action::Status { ready } => desk.status(ready),
        Action::Reload(waiting) => desk.reload(waiting, watch(waiting), || connect(options)),
        Action::Scale { workers, waiting } => desk.scale(workers, waiting, watch(waiting), || connect(options)),
        Action::ReopenLogs(waiting) => desk.reopen_logs(watch(waiting.at_least(LOG_PATIENCE))),
        Action::Logs { follow, worker } => desk.logs(worker, follow),
        Action::Upgrade(waiting) => desk.upgrade(waiting, watch(waiting), || connect(options)),
        Action::Worker(WorkerAction::Kill { id, waiting }) => desk.kill(id, waiting, watch(waiting), || connect(options)),
        Action::Stop { quick, waiting } => desk.stop(quick, waiting, watch(waiting)),
    }
}

fn json(reply: &impl Serialize) -> String {
    serde_json::to_string(reply).expect("invariant: replies have string keys") + "\n"
}

fn connect(options: &Options) -> Result<Client, CtlError> {
    Ok(socket::connect(options.config.as_deref(), options.socket.as_deref())?)
}

/// One conversation.
struct Desk {
    client: Client,
    json: bool,
}

impl Desk {
    fn status(mut self, ready: bool) -> Result<(), CommandError> {
        if ready {
            let status = self.client.progress(None).map_err(CtlError::from)?;
            return if status.is_ready() { Ok(()) } else { Err(CtlError::NotReady.into()) };
        }
        let status = self.client.status().map_err(CtlError::from)?;
        if self.json {
            self.finish(&status, "")
        } else {
            print(&table::status(&status, Paper::of_stdout(env::var("NO_COLOR").ok().as_deref())))
        }
    }

    /// Lines as they are, or each excerpt as an object.
    fn logs(mut self, slot: Option<u16>, follow: bool) -> Result<(), CommandError> {
        self.client.read_log(slot, follow).map_err(CtlError::from)?;
        loop {
            let excerpt = match self.client.excerpt() {
                Ok(excerpt) => excerpt,
                // The service has ended, and with it its log.
                Err(ControlError::Broken(_)) if follow => return Ok(()),
                Err(error) => return Err(CtlError::from(error).into()),
            };
            if excerpt.skipped > 0 {
                say(&format!("{} lines came too fast and are not shown", excerpt.skipped));
            }
            let lines = excerpt.lines.iter().map(|line| [line.as_str(), "\n"].concat());
            let text = if self.json { json(&excerpt) } else { lines.collect() };
            // Who reads only the beginning, as head does, ends it.
            let is_read = pour(&text)?;
            if !is_read || (!follow && !excerpt.more) {
                return Ok(());
            }
        }
    }

    fn reload(
        mut self,
        waiting: Waiting,
        watch: Watch,
        again: impl Fn() -> Result<Client, CtlError>,
    ) -> Result<(), CommandError> {
        let supervisor = self.client.progress(None).map_err(CtlError::from)?.pid;
        let granted = self.change(Request::Reload)?;
        let generation = granted.generation.unwrap_or_default();
        if !waiting.wait {
            return self.finish(&granted, &format!("asked for generation {generation}"));
        }
        let reload = watch.reload(&mut self.client, generation, supervisor, again)?;
        if reload.failure.is_some() {
            return Err(CtlError::ReloadFailed(reload).into());
        }
        // Who answers no more is about to end; the reload was done.
        let awaits_restart = self.client.progress(None).map(|status| status.awaits_restart).unwrap_or_default();
        let (generation, took) = (reload.generation, table::span(reload.took_seconds));
        let told = format!("reloaded: generation {generation} serves, after {took}\n{}", table::awaits_restart(&awaits_restart));
        self.finish(&Reloaded { reload, awaits_restart }, told.trim_end())
    }

    fn reopen_logs(mut self, watch: Watch) -> Result<(), CommandError> {
        let before = self.client.progress(None).map_err(CtlError::from)?.log.reopened;
        let granted = self.change(Request::ReopenLogs)?;
        if let Some(failure) = watch.log(&mut self.client, before)? {
            return Err(CtlError::LogNotOpened(failure).into());
        }
        self.finish(&granted, "log files are opened anew")
    }

    fn upgrade(
        mut self,
        waiting: Waiting,
        watch: Watch,
        again: impl Fn() -> Result<Client, CtlError>,
    ) -> Result<(), CommandError> {
        let before = self.client.progress(None).map_err(CtlError::from)?;
        let granted = self.change(Request::Upgrade)?;
        if !waiting.wait {
            return self.finish(&granted, "asked for: the new program gets the service when all its workers serve");
        }
        match watch.upgrade(&mut self.client, &before, again)? {
            Upgraded::Answers(after) => {
                self.finish(&after, &format!("upgraded: the service is that of pid {}, tuningfork {}", after.pid, after.version))
            }
            Upgraded::Elsewhere { pid } => self.finish(
                &serde_json::json!({"pid": pid}),
                &format!(
                    "upgraded: the service is that of pid {pid}, and has its control socket elsewhere now: its log says where"
                ),
            ),
        }
    }

    fn scale(
        mut self,
        workers: Count,
        waiting: Waiting,
        watch: Watch,
        again: impl Fn() -> Result<Client, CtlError>,
    ) -> Result<(), CommandError> {
        let granted = self.change(Request::Scale { workers })?;
        let target = granted.target.unwrap_or_default();
        if waiting.wait {
            // So many more or fewer were meant of the workers that there were.
            let workers = Workers::new(target.into()).map_or(workers, Count::of);
            watch.scale(&mut self.client, workers, again)?;
        }
        let limit = if !granted.limited {
            ""
        } else if target == 1 {
            ", as few as there can be (WINCH lets all leave)"
        } else {
            ", as many as there can be"
        };
        self.finish(&granted, &format!("{}{limit}", counted(u64::from(target), "worker")))
    }

    fn kill(
        mut self,
        worker: u64,
        waiting: Waiting,
        watch: Watch,
        again: impl Fn() -> Result<Client, CtlError>,
    ) -> Result<(), CommandError> {
        let supervisor = self.client.progress(None).map_err(CtlError::from)?.pid;
        let granted = self.change(Request::KillWorker { worker })?;
        if waiting.wait {
            watch.replacement(&mut self.client, worker, supervisor, again)?;
            return self.finish(&granted, &format!("worker {worker} is replaced"));
        }
        self.finish(&granted, &format!("worker {worker} leaves, another takes its place"))
    }

    fn stop(mut self, quick: bool, waiting: Waiting, watch: Watch) -> Result<(), CommandError> {
        let process = self.client.process();
        let granted = self.change(Request::Stop { quick })?;
        if waiting.wait {
            watch.end(&mut self.client, process.as_ref())?;
            return self.finish(&granted, "stopped");
        }
        self.finish(&granted, "stopping")
    }

    fn change(&mut self, request: Request) -> Result<Granted, CommandError> {
        Ok(self.client.change(request).map_err(CtlError::from)?)
    }

    /// The reply for programs, or a sentence for people.
    fn finish(&self, reply: &impl Serialize, sentence: &str) -> Result<(), CommandError> {
        if self.json {
            return print(&json(reply));
        }
        say(sentence);
        Ok(())
    }
}
