//! Checks what only a Python application has: its name, its interpreter and its worker class. Imports nothing.

use std::path::PathBuf;

use super::app::{path, require};
use super::keys;
use super::problem::{Problems, quote};
use super::raw::RawApp;
use super::{Surroundings, WorkerClass};

/// `module:callable`; Gunicorn's default callable is `application` (gunicorn/util.py, `import_app`).
pub(super) fn app_name(raw: &RawApp, problems: &mut Problems<'_>) -> Option<String> {
    let written = require(raw.app.as_ref(), &keys::APP, raw, problems)?;
    let (module, callable) = written.get_ref().split_once(':').unwrap_or((written.get_ref(), "application"));
    let function = callable.split_once('(').filter(|(_, rest)| rest.ends_with(')')).map_or(callable, |(name, _)| name);
    let mut refuse = |message: String, hint: String| {
        problems.at(written.span(), &keys::APP, message, hint);
        None
    };
    if module.contains('/') || module.strip_suffix(".py").is_some() {
        return refuse(format!("{} is a file, not a module", quote(module)), module_hint(module, callable));
    }
    if !module.split('.').all(is_identifier) {
        return refuse(format!("{} is not the name of a module", quote(module)), keys::APP.hint());
    }
    if !is_identifier(function) {
        return refuse(format!("{} is neither a name nor a call", quote(callable)), keys::APP.hint());
    }
    Some(format!("{module}:{callable}"))
}

/// The module that lies in `file`: relative to `directory` its folders are packages.
fn module_hint(file: &str, callable: &str) -> String {
    let (folder, name) = file.trim_end_matches(".py").rsplit_once('/').unwrap_or(("", file.trim_end_matches(".py")));
    let is_package = !folder.is_empty() && folder.split('/').all(is_identifier);
    match folder {
        "" => format!("write {}", quote(&format!("{name}:{callable}"))),
        packages if is_package => format!("write {}", quote(&format!("{}.{name}:{callable}", packages.replace('/', ".")))),
        folder => format!("write {}, and directory = {}", quote(&format!("{name}:{callable}")), quote(folder)),
    }
}

fn is_identifier(name: &str) -> bool {
    let mut letters = name.chars();
    letters.next().is_some_and(|first| first.is_alphabetic() || first == '_')
        && letters.all(|letter| letter.is_alphanumeric() || letter == '_')
}

/// By default the active virtual environment's.
pub(super) fn interpreter(raw: &RawApp, surroundings: &Surroundings, problems: &mut Problems<'_>) -> Option<PathBuf> {
    let Some(written) = &raw.interpreter else {
        let environment = surroundings.virtual_env.as_ref().filter(|path| !path.as_os_str().is_empty());
        return Some(environment.map_or_else(|| PathBuf::from("python3"), |path| path.join("bin/python")));
    };
    let is_program_name = !written.get_ref().is_empty() && !written.get_ref().contains(['/', '~']);
    if is_program_name {
        return Some(PathBuf::from(written.get_ref()));
    }
    path(written, &keys::INTERPRETER, &surroundings.directory, problems)
}

/// By default `sync`, as in Gunicorn.
pub(super) fn worker_class(raw: &RawApp, problems: &mut Problems<'_>) -> Option<WorkerClass> {
    let Some(written) = &raw.worker_class else {
        return (!raw.has(&keys::WORKER_CLASS)).then_some(WorkerClass::Sync);
    };
    let class = WorkerClass::ALL.into_iter().find(|class| class.name() == written.get_ref());
    if class.is_none() {
        let message = format!("{} is not a worker class", quote(written.get_ref()));
        let hint = match keys::nearest(written.get_ref(), WorkerClass::ALL.into_iter().map(WorkerClass::name)) {
            Some(name) => format!(r#"did you mean "{name}"?"#),
            None if written.get_ref().to_lowercase().contains("uvicorn") => r#"write "asgi""#.to_owned(),
            None => keys::WORKER_CLASS.hint(),
        };
        problems.at(written.span(), &keys::WORKER_CLASS, message, hint);
    }
    class
}
