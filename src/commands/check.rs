//! `tuningfork check`: whether a configuration is valid, what would run, and what becomes of each of Gunicorn's settings. Starts
//! nothing, and imports no application.

use std::env;
use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;

use super::{CommandError, Ending, configuration, gunicorn, say};
use crate::config::gunicorn::{CommandLine, Fate, Resolved, Setting, equivalent};
use crate::config::{App, Config, PythonApp};
use crate::sys::inquiry::Purpose;

/// The longest value of a setting that is shown, in characters.
const LONGEST_VALUE: usize = 80;
/// What stands above the three lists.
const LISTS: [&str; 3] = ["done by tuningfork", "done by Gunicorn's worker, as before", "without effect"];

/// The arguments of `tuningfork check`.
#[derive(Debug, Args)]
pub struct Options {
    /// The configuration file
    #[arg(short, long, value_name = "FILE", default_value = "tuningfork.toml")]
    config: PathBuf,
    /// With Gunicorn's arguments: the Python whose Gunicorn is meant
    #[arg(long, value_name = "PYTHON", requires = "arguments")]
    interpreter: Option<PathBuf>,
    /// A Gunicorn command line to check instead of a file
    #[arg(value_name = "GUNICORN ARGUMENTS", last = true)]
    arguments: Vec<String>,
}

/// Checks, and tells. Every problem of a file is in the error.
pub fn check(options: &Options) -> Result<Ending, CommandError> {
    let (name, config, resolved) = if options.arguments.is_empty() {
        let config = configuration::read(&options.config)?;
        let resolved = match &config.app {
            App::Python(app) => match &app.gunicorn {
                Some(arguments) => Some(gunicorn::ask(&of_file(app, arguments), Purpose::Look)?),
                None => None,
            },
            App::Command(_) => None,
        };
        (options.config.display().to_string(), config, resolved)
    } else {
        let command = gunicorn::command_line(&options.arguments, options.interpreter.clone())?;
        let resolved = gunicorn::ask(&command, Purpose::Look)?;
        let config = gunicorn::config(&equivalent(&resolved, &command), &command).map_err(CommandError::Config)?;
        ("the command line".to_owned(), config, Some(resolved))
    };
    say::print(
        &(format!("{name} is valid\n")
            + &what_runs(&config, resolved.as_ref())
            + &resolved.map(|resolved| lists(&resolved)).unwrap_or_default()),
    )?;
    Ok(Ending::Success)
}

/// The question that a file's `gunicorn` is.
fn of_file(app: &PythonApp, arguments: &[String]) -> CommandLine {
    let own = app.env.iter().find(|(name, _)| name == "GUNICORN_CMD_ARGS").map(|(_, value)| value.clone());
    CommandLine {
        arguments: arguments.to_vec(),
        app: Some(app.app.clone()),
        interpreter: app.interpreter.clone(),
        directory: app.directory.clone(),
        from_environment: own.or_else(|| env::var("GUNICORN_CMD_ARGS").ok()),
        metrics: None,
        control: None,
    }
}

fn what_runs(config: &Config, resolved: Option<&Resolved>) -> String {
    // One of the user's own counts connections as one of Gunicorn's does, and is none.
    let of_the_user = resolved.map(|resolved| &resolved.worker_class).filter(|class| !class.is_known);
    let (app, env) = match &config.app {
        App::Command(app) => (app.command.join(" "), &app.env),
        App::Python(app) => {
            let class = of_the_user.map_or_else(|| app.worker_class.name(), |class| class.name.as_str());
            (format!("{} ({class}{})", app.app, if app.preload { ", preloaded" } else { "" }), &app.env)
        }
    };
    let listen: Vec<String> = config.listen.addresses.iter().map(ToString::to_string).collect();
    let mut text = format!("  app          {app}\n");
    let mut line = |name: &str, value: String| {
        writeln!(text, "  {name:<12} {value}").expect("invariant: a String takes everything");
    };
    line("workers", config.workers.to_string());
    line("connections", config.connections.to_string());
    line("listen", listen.join(", "));
    if !env.is_empty() {
        line("variables", env.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", "));
    }
    text
}

/// What becomes of each setting: those that were changed with their values, the others by name.
fn lists(resolved: &Resolved) -> String {
    let mut text = String::new();
    for (title, settings) in LISTS.into_iter().zip(resolved.by_fate()) {
        write!(text, "\nGunicorn {}, {title}:\n", resolved.gunicorn).expect("invariant: a String takes everything");
        let (default, changed): (Vec<_>, Vec<_>) = settings.into_iter().partition(|(setting, _)| setting.default);
        for (setting, fate) in changed {
            writeln!(text, "  {} = {}{}", setting.name, value(setting), note(fate))
                .expect("invariant: a String takes everything");
        }
        let names: Vec<&str> = default.iter().map(|(setting, _)| setting.name.as_str()).collect();
        writeln!(text, "  at their defaults: {}", names.join(", ")).expect("invariant: a String takes everything");
    }
    for remark in resolved.remark_on_age().into_iter().chain(resolved.remarks()) {
        write!(text, "\n{remark}\n").expect("invariant: a String takes everything");
    }
    text
}

fn value(setting: &Setting) -> String {
    let shown = match (setting.name.as_str(), setting.value.as_u64()) {
        ("umask", Some(bits)) => format!("0o{bits:03o}"),
        _ => setting.value.to_string(),
    };
    match shown.char_indices().nth(LONGEST_VALUE) {
        Some((cut, _)) => format!("{}…", &shown[..cut]),
        None => shown,
    }
}

fn note(fate: Fate) -> String {
    match fate {
        Fate::Supervisor(how) => format!("   → {how}"),
        Fate::Worker => String::new(),
        Fate::Nothing(why) | Fate::Refused(why) => format!("   ({why})"),
    }
}
