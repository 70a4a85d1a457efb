//! Checks `[hooks]`: programs that run when something happens to a worker. Runs none.

use toml::Spanned;

use super::keys::{self, Key};
use super::problem::Problems;
use super::raw::RawHooks;
use super::reader::Text;

/// Programs with their arguments; an empty one is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hooks {
    /// Before a worker is made. If it fails, the worker is not.
    pub before_fork: Vec<String>,
    /// When a worker has become ready.
    pub after_ready: Vec<String>,
    /// When a worker has ended.
    pub on_exit: Vec<String>,
}

/// The hooks. What is wrong is in `problems`.
pub(super) fn check(raw: &RawHooks, problems: &mut Problems<'_>) -> Hooks {
    Hooks {
        before_fork: program(raw.before_fork.as_ref(), &keys::BEFORE_FORK, problems),
        after_ready: program(raw.after_ready.as_ref(), &keys::AFTER_READY, problems),
        on_exit: program(raw.on_exit.as_ref(), &keys::ON_EXIT, problems),
    }
}

fn program(written: Option<&Spanned<Vec<Text>>>, key: &'static Key, problems: &mut Problems<'_>) -> Vec<String> {
    let Some(written) = written else { return Vec::new() };
    if written.get_ref().first().is_some_and(|program| program.get_ref().is_empty()) {
        problems.at(written.span(), key, "names no program", key.hint());
    }
    written.get_ref().iter().map(|word| word.get_ref().clone()).collect()
}
