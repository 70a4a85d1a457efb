//! Checks `[app]`: what a worker is. Refuses keys of the other kind, and names that cannot be a program, a module or a variable.

use std::path::{Path, PathBuf};

use toml::Spanned;

use super::check::{positive_spans, span};
use super::keys::{self, Key};
use super::problem::{Problems, plain, quote};
use super::python::{app_name, interpreter, worker_class};
use super::raw::RawApp;
use super::reader::{NumberOrText, Text};
use super::{App, CommandApp, PythonApp, Readiness, Surroundings, template};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Command,
    Python,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Command => "command",
            Self::Python => "python",
        }
    }

    /// The kind that alone has `key`; `None` if both have it.
    fn owner(key: &'static Key) -> Option<Self> {
        if [&keys::COMMAND, &keys::READINESS].contains(&key) {
            Some(Self::Command)
        } else if [&keys::APP, &keys::INTERPRETER, &keys::WORKER_CLASS, &keys::PRELOAD, &keys::ALLOW_THREADS, &keys::GUNICORN]
            .contains(&key)
        {
            Some(Self::Python)
        } else {
            None
        }
    }
}

/// What a worker is, or `None` with the reasons in `problems`. That the section is missing is known already.
pub(super) fn check(raw: Option<&RawApp>, surroundings: &Surroundings, problems: &mut Problems<'_>) -> Option<App> {
    let raw = raw?;
    if let Some(kind) = kind(raw, problems) {
        refuse_keys_of_other_kind(kind, raw, problems);
        match kind {
            Kind::Command => command_app(raw, surroundings, problems).map(App::Command),
            Kind::Python => python_app(raw, surroundings, problems).map(App::Python),
        }
    } else {
        // The values that are there are looked at all the same, so that no mistake has to wait for the next attempt.
        check_what_is_there(raw, surroundings, problems);
        None
    }
}

fn kind(raw: &RawApp, problems: &mut Problems<'_>) -> Option<Kind> {
    match &raw.kind {
        Some(written) => match written.get_ref().as_str() {
            "command" => Some(Kind::Command),
            "python" => Some(Kind::Python),
            other => {
                problems.at(written.span(), &keys::KIND, format!("{} is not a kind", quote(other)), keys::KIND.hint());
                None
            }
        },
        None if raw.has(&keys::KIND) => None,
        None => {
            let hint = match (raw.has(&keys::COMMAND), raw.has(&keys::APP)) {
                (true, false) => r#"write kind = "command""#,
                (false, true) => r#"write kind = "python""#,
                (true, true) | (false, false) => r#"write kind = "python" or kind = "command""#,
            };
            problems.at(raw.header.clone(), &keys::KIND, "is missing", hint);
            None
        }
    }
}

fn refuse_keys_of_other_kind(kind: Kind, raw: &RawApp, problems: &mut Problems<'_>) {
    for (key, place) in &raw.written {
        if let Some(owner) = Kind::owner(key).filter(|owner| *owner != kind) {
            let message = format!(r#"only kind = "{}" has this key, and kind is "{}""#, owner.name(), kind.name());
            problems.at(place.clone(), key, message, format!(r#"remove it, or write kind = "{}""#, owner.name()));
        }
    }
}

fn check_what_is_there(raw: &RawApp, surroundings: &Surroundings, problems: &mut Problems<'_>) {
    if raw.command.is_some() {
        command(raw, problems);
    }
    if raw.app.is_some() {
        app_name(raw, problems);
    }
    readiness(raw, problems);
    interpreter(raw, surroundings, problems);
    worker_class(raw, problems);
    env(raw, problems);
    directory(raw, surroundings, problems);
}

fn command_app(raw: &RawApp, surroundings: &Surroundings, problems: &mut Problems<'_>) -> Option<CommandApp> {
    let command = command(raw, problems);
    let env = env(raw, problems);
    let directory = directory(raw, surroundings, problems);
    let readiness = readiness(raw, problems);
    Some(CommandApp { command: command?, env: env?, directory: directory?, readiness: readiness? })
}

fn python_app(raw: &RawApp, surroundings: &Surroundings, problems: &mut Problems<'_>) -> Option<PythonApp> {
    let app = app_name(raw, problems);
    let interpreter = interpreter(raw, surroundings, problems);
    let worker_class = worker_class(raw, problems);
    let env = env(raw, problems);
    let directory = directory(raw, surroundings, problems);
    let texts = |written: &Option<Spanned<Vec<Text>>>| -> Option<Vec<String>> {
        written.as_ref().map(|texts| texts.get_ref().iter().map(|text| text.get_ref().clone()).collect())
    };
    Some(PythonApp {
        app: app?,
        interpreter: interpreter?,
        worker_class: worker_class?,
        preload: raw.preload.unwrap_or(true),
        allow_threads: texts(&raw.allow_threads).unwrap_or_default(),
        gunicorn: texts(&raw.gunicorn),
        log_files: Vec::new(),
        env: env?,
        directory: directory?,
    })
}

/// `value`, which must be written.
pub(super) fn require<'a, T>(
    value: Option<&'a T>,
    key: &'static Key,
    raw: &RawApp,
    problems: &mut Problems<'_>,
) -> Option<&'a T> {
    if value.is_none() && !raw.has(key) {
        problems.at(raw.header.clone(), key, "is missing", key.hint());
    }
    value
}

fn command(raw: &RawApp, problems: &mut Problems<'_>) -> Option<Vec<String>> {
    let written = require(raw.command.as_ref(), &keys::COMMAND, raw, problems)?;
    let arguments = written.get_ref();
    if arguments.first().is_none_or(|program| program.get_ref().is_empty()) {
        problems.at(written.span(), &keys::COMMAND, "names no program", keys::COMMAND.hint());
        return None;
    }
    let mut is_right = true;
    for (place, argument) in arguments.iter().enumerate() {
        for error in template::errors(argument.get_ref()) {
            let hint = format!("write one of {}, or {{{{ and }}}} for braces", template::known());
            problems.at(argument.span(), format!("{}[{place}]", keys::COMMAND), error, hint);
            is_right = false;
        }
    }
    is_right.then(|| arguments.iter().map(|argument| argument.get_ref().clone()).collect())
}

fn readiness(raw: &RawApp, problems: &mut Problems<'_>) -> Option<Readiness> {
    match &raw.readiness {
        None => (!raw.has(&keys::READINESS)).then_some(Readiness::Notify),
        Some(written) if *written.get_ref() == NumberOrText::Text("notify".to_owned()) => Some(Readiness::Notify),
        Some(written) => span(written, &keys::READINESS, &positive_spans(), problems).map(Readiness::Alive),
    }
}

fn env(raw: &RawApp, problems: &mut Problems<'_>) -> Option<Vec<(String, String)>> {
    let Some(written) = &raw.env else { return Some(Vec::new()) };
    let mut is_right = true;
    for (name, _) in written.get_ref() {
        let (message, hint) = if name.get_ref().is_empty() || name.get_ref().contains(['=', '\0']) {
            ("a variable's name cannot be empty or contain = or NUL", "write another name")
        } else if is_ours(name.get_ref()) {
            ("the supervisor sets this variable for every worker", "remove it")
        } else {
            continue;
        };
        problems.at(name.span(), format!("{}.{}", keys::ENVIRONMENT, plain(name.get_ref())), message, hint);
        is_right = false;
    }
    let pairs = written.get_ref().iter().map(|(name, value)| (name.get_ref().clone(), value.get_ref().clone()));
    is_right.then(|| pairs.collect())
}

/// Variables of sd_listen_fds(3) and sd_notify(3), and our own.
fn is_ours(name: &str) -> bool {
    ["LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "NOTIFY_SOCKET"].contains(&name) || name.starts_with("TUNINGFORK_")
}

fn directory(raw: &RawApp, surroundings: &Surroundings, problems: &mut Problems<'_>) -> Option<PathBuf> {
    match &raw.directory {
        Some(written) => path(written, &keys::APP_DIRECTORY, &surroundings.directory, problems),
        None => Some(surroundings.directory.clone()),
    }
}

/// A path that starts at `base` if it is relative.
pub(super) fn path(written: &Text, key: &'static Key, base: &Path, problems: &mut Problems<'_>) -> Option<PathBuf> {
    let refusal = match written.get_ref() {
        path if path.is_empty() => ("is empty", key.hint()),
        path if path.starts_with('~') => ("begins with ~, which only shells understand", "write the path in full".to_owned()),
        path => return Some(base.join(path).components().collect()),
    };
    problems.at(written.span(), key, refusal.0, refusal.1);
    None
}
