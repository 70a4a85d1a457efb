//! `tuningfork gunicorn`: runs what a Gunicorn command line asks for. The interpreter's own Gunicorn reads it.

use std::env;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;

use super::configuration::Source;
use super::{CommandError, Ending, configuration, run, say};
use crate::config::gunicorn::{CommandLine, GunicornError, Resolved, equivalent};
use crate::config::{App, Config};
use crate::sys::inquiry::{Inquiry, Meaning, Purpose, Question};
use crate::sys::launch;
use crate::sys::spawn::Output;

/// What a configuration of a command line is called in messages.
const NAME: &str = "gunicorn's settings as tuningfork.toml";
/// The longest first line of a script that is read, bytes.
const SHEBANG_BYTES: u64 = 4096;

/// The arguments of `tuningfork gunicorn`.
#[derive(Debug, Args)]
pub struct Options {
    /// Print the equivalent configuration file, and start nothing
    #[arg(long)]
    print_config: bool,
    /// The Python whose Gunicorn is meant. By default that of the active virtual environment, else that of the gunicorn in PATH
    #[arg(long, value_name = "PYTHON")]
    interpreter: Option<PathBuf>,
    /// Serve /metrics for Prometheus, /healthz and /readyz there
    #[arg(long, value_name = "ADDRESS")]
    metrics: Option<String>,
    /// Make a control socket there, for `tuningfork ctl`
    #[arg(long, value_name = "PATH")]
    control: Option<String>,
    /// Gunicorn's command line as it is; nothing, if its gunicorn.conf.py says all
    #[arg(value_name = "GUNICORN ARGUMENTS", trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// Runs, or prints.
pub fn gunicorn(options: &Options) -> Result<Ending, CommandError> {
    let interpreter = options.interpreter.clone();
    let mut command = command_line(&options.arguments, interpreter)?;
    command.metrics.clone_from(&options.metrics);
    command.control.clone_from(&options.control);
    let purpose = if options.print_config { Purpose::Look } else { Purpose::Serve };
    let resolved = match answer(&command, purpose)? {
        Ok(resolved) => resolved,
        Err(GunicornError::Printed) => return Ok(Ending::Success),
        Err(error) => return Err(CommandError::Config(error.to_string())),
    };
    let text = equivalent(&resolved, &command);
    let first = config_of(&resolved, &text, &command).map_err(CommandError::Config)?;
    if options.print_config || resolved.is_set("print_config") {
        let remarks = resolved.all_remarks().into_iter().map(|remark| format!("# {remark}")).chain([text]);
        say::print(&remarks.collect::<Vec<_>>().join("\n"))?;
        return Ok(Ending::Success);
    }
    if resolved.is_set("check_config") {
        return Ok(Ending::Success);
    }
    let remarks = resolved.remarks();
    run::run(&Source::Gunicorn { command, first: Box::new(first), remarks }).map(|()| Ending::Success)
}

fn warn_of(resolved: &Resolved) {
    for remark in resolved.remarks() {
        tracing::warn!("gunicorn: {remark}");
    }
}

/// A command line of this process.
pub(super) fn command_line(arguments: &[String], interpreter: Option<PathBuf>) -> Result<CommandLine, CommandError> {
    let directory = env::current_dir().map_err(CommandError::system("cannot find the working directory"))?;
    let interpreter = match interpreter {
        Some(named) if named.components().count() > 1 => directory.join(named),
        Some(named) => named,
        None => default_interpreter(),
    };
    let from_environment = env::var("GUNICORN_CMD_ARGS").ok().filter(|arguments| !arguments.trim().is_empty());
    Ok(CommandLine {
        arguments: arguments.to_vec(),
        app: None,
        interpreter,
        directory,
        from_environment,
        metrics: None,
        control: None,
    })
}

/// The active virtual environment's, else the one that the shell's `gunicorn` would run in.
fn default_interpreter() -> PathBuf {
    let active = env::var_os("VIRTUAL_ENV").filter(|path| !path.is_empty()).map(|path| Path::new(&path).join("bin/python"));
    let of_script = || {
        let folders = env::var_os("PATH")?;
        env::split_paths(&folders).map(|folder| folder.join("gunicorn")).find_map(|script| shebang(&script))
    };
    active.or_else(of_script).unwrap_or_else(|| PathBuf::from("python3"))
}

/// The interpreter in a script's first line, if it is a plain path of a Python.
fn shebang(script: &Path) -> Option<PathBuf> {
    let mut beginning = String::new();
    File::open(script).ok()?.take(SHEBANG_BYTES).read_to_string(&mut beginning).ok()?;
    let named = Path::new(beginning.strip_prefix("#!")?.lines().next()?.trim());
    let is_python = named.is_absolute() && named.file_name()?.to_str()?.starts_with("python") && named.exists();
    is_python.then(|| named.to_owned())
}

/// Asks the interpreter, and waits for the answer.
pub(super) fn ask(command: &CommandLine, purpose: Purpose) -> Result<Resolved, CommandError> {
    answer(command, purpose)?.map_err(|error| CommandError::Config(error.to_string()))
}

fn answer(command: &CommandLine, purpose: Purpose) -> Result<Result<Resolved, GunicornError>, CommandError> {
    let answer = inquire(command, purpose)?.wait().map_err(|error| CommandError::Config(error.to_string()))?;
    Ok(Resolved::read(&answer))
}

fn inquire(command: &CommandLine, purpose: Purpose) -> Result<Inquiry, CommandError> {
    let question = Question {
        interpreter: command.interpreter.clone(),
        arguments: command.arguments.clone(),
        app: command.app.clone(),
        directory: command.directory.clone(),
        purpose,
    };
    let mut env = launch::environment(env::vars_os());
    env.retain(|(name, _)| name != "GUNICORN_CMD_ARGS");
    env.extend(command.from_environment.as_ref().map(|arguments| ("GUNICORN_CMD_ARGS".into(), arguments.into())));
    // What Gunicorn takes its default from; workers never see it.
    env.extend(env::var_os("WEB_CONCURRENCY").map(|number| ("WEB_CONCURRENCY".into(), number)));
    Inquiry::start(&question, env, &Output::Inherit).map_err(|error| CommandError::Config(error.to_string()))
}

/// The configuration that an answer makes.
fn understand(answer: &str, command: &CommandLine) -> Result<Config, String> {
    let resolved = Resolved::read(answer).map_err(|error| error.to_string())?;
    warn_of(&resolved);
    config_of(&resolved, &equivalent(&resolved, command), command)
}

/// The same with what the text cannot say.
fn config_of(resolved: &Resolved, text: &str, command: &CommandLine) -> Result<Config, String> {
    let mut config = config(text, command)?;
    if let App::Python(app) = &mut config.app {
        app.log_files.clone_from(&resolved.log_files);
    }
    Ok(config)
}

/// The configuration that a text is, which was made of a command line.
pub(super) fn config(text: &str, command: &CommandLine) -> Result<Config, String> {
    let surroundings = configuration::surroundings(command.directory.clone());
    Config::parse(text, Path::new(NAME), &surroundings).map_err(|errors| errors.to_string())
}

/// The configuration of a reload, once the answer has come.
pub(super) fn again(command: &CommandLine) -> Result<(Inquiry, Meaning), String> {
    let inquiry = inquire(command, Purpose::Serve).map_err(|error| error.to_string())?;
    let command = command.clone();
    Ok((inquiry, Box::new(move |answer: &str| understand(answer, &command).map(Arc::new))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interpreter_of_a_script_is_in_its_first_line() -> std::io::Result<()> {
        let folder = tempfile::tempdir()?;
        let python = folder.path().join("python3.11");
        std::fs::write(&python, "")?;
        let script = folder.path().join("gunicorn");
        for (text, found) in [
            (format!("#!{}\nimport sys\n", python.display()), true),
            ("#!/no/such/python\n".to_owned(), false),
            ("#!/bin/sh\n".to_owned(), false),
            ("\u{7f}ELF".to_owned(), false),
        ] {
            std::fs::write(&script, text)?;
            assert_eq!(shebang(&script), found.then(|| python.clone()));
        }
        Ok(())
    }
}
