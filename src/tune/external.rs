//! The testbed that is a program of the user's: it gets a candidate as a line of JSON, does whatever a trial is where it runs, and answers
//! with a line. Whatever it does wrong is a failed trial, never the end of the study.

mod protocol;

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitStatus;
use std::time::Duration;

use crate::study::{Outcome, Pace, Slo, Suggestion};
use crate::sys::clock;
use crate::sys::conversation::{Conversation, Heard};
use crate::sys::signals::Signals;
use crate::tune::{Step, Testbed, TrialError};
use crate::units::Moment;
use protocol::{Refusal, Request, outcome};

/// How a trial program is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Once a trial: it reads a line and ends with its answer as the last line.
    Command,
    /// Once a study: it answers each line with a line.
    Server,
}

/// A trial program, and what it is told about every trial.
#[derive(Clone, Debug)]
pub struct Program {
    /// What a shell runs.
    pub command: String,
    /// How.
    pub form: Form,
    /// The application elsewhere, which it finds in [`TARGET`]; `None` if it knows itself.
    pub target: Option<String>,
    /// How long a trial may take; `None` means [`SPARE`] and [`TIMES`] what it should take.
    pub patience: Option<Duration>,
    /// What must hold.
    pub slo: Slo,
    /// How long trials should take.
    pub pace: Pace,
    /// Cores the application may use.
    pub cores: u16,
}

/// The variable that names the application on another host.
pub const TARGET: &str = "TUNINGFORK_TARGET";

/// A trial may take so much and so many times as long as it should, before it counts as hung.
pub const SPARE: Duration = Duration::from_secs(30);
/// See [`SPARE`].
pub const TIMES: u32 = 4;

/// What every trial of a study shares.
pub struct External<'a> {
    program: &'a Program,
    signals: &'a mut Signals,
    errors: &'a OwnedFd,
    trials: usize,
    server: Option<Conversation>,
}

/// Why a trial has no answer.
enum Trouble {
    Interrupted,
    Failed(String),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Failed(format!("the trial program: {error}"))
    }
}

impl<'a> External<'a> {
    /// A testbed that runs `program`, which has answered `trials` trials before this study was taken up. What it writes on standard error goes
    /// to `errors`.
    pub const fn new(program: &'a Program, signals: &'a mut Signals, errors: &'a OwnedFd, trials: usize) -> Self {
        Self { program, signals, errors, trials, server: None }
    }

    fn answer(&mut self, request: &Request<'_>, deadline: Moment) -> Result<Vec<u8>, Trouble> {
        let line = serde_json::to_vec(request).map_err(io::Error::from)?;
        match self.program.form {
            Form::Command => self.answer_of_command(&line, deadline),
            Form::Server => {
                let mut server = match self.server.take().filter(|server| !server.is_over()) {
                    Some(server) => server,
                    None => self.start()?,
                };
                let answer = self.answer_of_server(&mut server, &line, deadline)?;
                // Whoever gave no answer is not asked again: nobody knows what its next line would be about.
                self.server = Some(server);
                Ok(answer)
            }
        }
    }

    fn start(&self) -> io::Result<Conversation> {
        let target = self.program.target.iter().map(|target| (TARGET, target.as_str()));
        Conversation::start(&self.program.command, target, self.errors.as_fd())
    }

    /// The last line that is not empty.
    fn answer_of_command(&mut self, line: &[u8], deadline: Moment) -> Result<Vec<u8>, Trouble> {
        let mut command = self.start()?;
        // One that reads nothing may still answer.
        command.ask(line).ok();
        command.close();
        let mut last = Vec::new();
        loop {
            match command.hear(self.signals, deadline)? {
                Heard::Line(line) if line.trim_ascii().is_empty() => {}
                Heard::Line(line) => last = line,
                Heard::End => break,
                other @ (Heard::TooMuch | Heard::Late | Heard::Interrupted) => return Err(trouble(&other)),
            }
        }
        match command.end(self.signals, deadline)? {
            Some(status) if status.success() && !last.is_empty() => Ok(last),
            Some(status) if status.success() => Err(Trouble::Failed("the trial program ended without an answer".to_owned())),
            Some(status) => Err(Trouble::Failed(failure(status, &last))),
            None if self.signals.asked_to_stop() => Err(Trouble::Interrupted),
            None => Err(trouble(&Heard::Late)),
        }
    }

    /// The next line that is not empty. One that came before the question is no answer to it, nor would any later one be to its own.
    fn answer_of_server(&mut self, server: &mut Conversation, line: &[u8], deadline: Moment) -> Result<Vec<u8>, Trouble> {
        if server.has_unheard()? {
            return Err(Trouble::Failed(
                "the trial server wrote more than one line for a question: it is started anew".to_owned(),
            ));
        }
        server.ask(line).map_err(|_| Trouble::Failed("the trial server reads no more questions".to_owned()))?;
        let heard = loop {
            match server.hear(self.signals, deadline)? {
                Heard::Line(line) if line.trim_ascii().is_empty() => {}
                other @ (Heard::Line(_) | Heard::End | Heard::TooMuch | Heard::Late | Heard::Interrupted) => break other,
            }
        };
        match heard {
            Heard::Line(line) => Ok(line),
            Heard::End => Err(Trouble::Failed("the trial server ended without an answer".to_owned())),
            other @ (Heard::TooMuch | Heard::Late | Heard::Interrupted) => Err(trouble(&other)),
        }
    }

    fn patience(&self, request: &Request<'_>) -> Duration {
        self.program.patience.unwrap_or(SPARE + TIMES * Duration::from_secs(request.seconds().into()))
    }
}

fn trouble(heard: &Heard) -> Trouble {
    match heard {
        Heard::Interrupted => Trouble::Interrupted,
        Heard::TooMuch => Trouble::Failed("the trial program does not stop writing".to_owned()),
        Heard::Late => Trouble::Failed("the trial program gave no answer in time (--trial-timeout)".to_owned()),
        Heard::Line(_) | Heard::End => Trouble::Failed("the trial program gave no answer".to_owned()),
    }
}

/// Why a command failed: by its own words if it has any.
fn failure(status: ExitStatus, last: &[u8]) -> String {
    match protocol::told(last) {
        Some(error) => error,
        None => format!("the trial program failed: {status}"),
    }
}

impl Testbed for External<'_> {
    fn run(&mut self, suggestion: &Suggestion, watch: &mut (dyn FnMut(Step) + Send)) -> Result<Outcome, TrialError> {
        if self.signals.asked_to_stop() {
            return Err(TrialError::Interrupted);
        }
        self.trials += 1;
        let started = clock::now();
        let elapsed = || clock::now().since(started).as_secs_f64();
        let program = self.program;
        let Some(request) = Request::new(self.trials, suggestion, program.cores, program.pace, &program.slo) else {
            return Err(TrialError::Failed { reason: "trial programs cannot be asked for that".to_owned(), seconds: 0.0 });
        };
        watch(Step::Outside);
        let answer = self.answer(&request, started.after(self.patience(&request)));
        match answer {
            Ok(line) => outcome(&line, suggestion.task, &program.slo, elapsed()).map_err(|refusal| {
                let reason = refusal.to_string();
                let Refusal::Told { seconds, .. } = refusal else {
                    // Nobody knows what the next line of such a server would be about.
                    self.server = None;
                    return TrialError::Failed { reason, seconds: elapsed() };
                };
                TrialError::Failed { reason, seconds: seconds.unwrap_or_else(elapsed) }
            }),
            Err(Trouble::Interrupted) => Err(TrialError::Interrupted),
            Err(Trouble::Failed(reason)) => Err(TrialError::Failed { reason, seconds: elapsed() }),
        }
    }
}
