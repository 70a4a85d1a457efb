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

/// The hooks, or `None` with the reasons in `problems`.
pub(super) fn check(raw: &RawHooks, problems: &mut Problems<'_>) -> Option<Hooks> {
    let mut hook = |written: &Option<Spanned<Vec<Text>>>, key| match written {
        Some(written) => program(written, key, problems),
        None => Some(Vec::new()),
    };
    let before_fork = hook(&raw.before_fork, &keys::BEFORE_FORK);
    let after_ready = hook(&raw.after_ready, &keys::AFTER_READY);
    let on_exit = hook(&raw.on_exit, &keys::ON_EXIT);
    Some(Hooks { before_fork: before_fork?, after_ready: after_ready?, on_exit: on_exit? })
}

fn program(written: &Spanned<Vec<Text>>, key: &'static Key, problems: &mut Problems<'_>) -> Option<Vec<String>> {
    if written.get_ref().first().is_some_and(|program| program.get_ref().is_empty()) {
        problems.at(written.span(), key, "names no program", key.hint());
        return None;
    }
    Some(written.get_ref().iter().map(|word| word.get_ref().clone()).collect())
}
