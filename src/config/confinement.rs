//! Checks who workers are and what the kernel grants them: user, group, file mode mask, cores, limits, and what they see of our
//! environment. Looks nobody up: whether a user exists is the host's to know.

use serde::{Deserialize, Serialize};
use toml::Spanned;

use super::care::bytes;
use super::keys::{self, Key};
use super::problem::{Problems, quote};
use super::raw::{RawApp, RawLimits};
use super::reader::{NumberOrText, Text};
use crate::units::{Slot, Workers};

/// Everything of our environment but what is addressed to the supervisor.
const EVERYTHING: &str = "*";
const UNLIMITED: &str = "unlimited";

/// Who a worker is and what it may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confinement {
    /// The user, by name or number; the supervisor's own if absent.
    pub user: Option<String>,
    /// The group, by name or number; the user's first if absent.
    pub group: Option<String>,
    /// The file mode creation mask (umask(2)); the supervisor's own if absent.
    pub umask: Option<u32>,
    /// Which cores each worker may use.
    pub cpu_affinity: Affinity,
    /// Names of the variables that workers inherit from the supervisor; a `*` at the end stands for any ending.
    pub pass_env: Vec<String>,
    /// What setrlimit(2) bounds.
    pub limits: Limits,
}

impl Default for Confinement {
    fn default() -> Self {
        Self {
            user: None,
            group: None,
            umask: None,
            cpu_affinity: Affinity::None,
            pass_env: vec![EVERYTHING.to_owned()],
            limits: Limits::default(),
        }
    }
}

/// Which of the cores that the supervisor may use a worker may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Affinity {
    /// All.
    #[default]
    None,
    /// An equal part of them, shared with nobody where there are enough.
    Spread,
    /// One, in turn.
    Pin,
}

impl Affinity {
    /// Every way there is.
    pub const ALL: [Self; 3] = [Self::None, Self::Spread, Self::Pin];

    /// The name the configuration uses.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Spread => "spread",
            Self::Pin => "pin",
        }
    }

    /// Which of the cores `allowed` the worker in `slot` keeps to, of so many; `None` for all.
    #[must_use]
    pub fn share(self, allowed: &[usize], slot: Slot, workers: Workers) -> Option<&[usize]> {
        let parts = match self {
            Self::None => return None,
            Self::Spread => allowed.len().min(usize::from(workers.get())),
            Self::Pin => allowed.len(),
        };
        let part = usize::from(slot.0).checked_rem(parts)?;
        allowed.get(allowed.len() * part / parts..allowed.len() * (part + 1) / parts)
    }
}

/// `[limits]`: soft and hard limit of each; what is absent stays as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// RLIMIT_NOFILE, a count.
    pub open_files: Option<Limit>,
    /// RLIMIT_NPROC, a count of the user's processes and threads.
    pub processes: Option<Limit>,
    /// RLIMIT_CORE, bytes.
    pub core: Option<Limit>,
    /// RLIMIT_AS, bytes.
    pub address_space: Option<Limit>,
}

/// One limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// RLIM_INFINITY.
    Unlimited,
    /// This many, or this many bytes.
    At(u64),
}

/// The confinement. What is wrong is in `problems`, and has its default here.
pub(super) fn check(app: Option<&RawApp>, limits: &RawLimits, problems: &mut Problems<'_>) -> Confinement {
    let limits = check_limits(limits, problems);
    let Some(app) = app else { return Confinement { limits, ..Confinement::default() } };
    Confinement {
        user: name(app.user.as_ref(), &keys::USER, problems),
        group: name(app.group.as_ref(), &keys::GROUP, problems),
        umask: umask(app.umask.as_ref(), problems),
        cpu_affinity: affinity(app.cpu_affinity.as_ref(), problems).unwrap_or_default(),
        pass_env: pass_env(app.pass_env.as_ref(), problems),
        limits,
    }
}

fn name(written: Option<&Text>, key: &'static Key, problems: &mut Problems<'_>) -> Option<String> {
    let written = written?;
    if written.get_ref().is_empty() || written.get_ref().contains([':', '/', ' ']) {
        problems.at(written.span(), key, format!("{} is no name", quote(written.get_ref())), key.hint());
    }
    Some(written.get_ref().clone())
}

fn umask(written: Option<&Text>, problems: &mut Problems<'_>) -> Option<u32> {
    let written = written?;
    let digits = Some(written.get_ref()).filter(|text| text.bytes().all(|digit| digit.is_ascii_digit()));
    let mask = digits.and_then(|digits| u32::from_str_radix(digits, 8).ok()).filter(|mask| *mask <= 0o777);
    if mask.is_none() {
        problems.at(written.span(), &keys::UMASK, format!("{} is no mask", quote(written.get_ref())), keys::UMASK.hint());
    }
    mask
}

fn affinity(written: Option<&Text>, problems: &mut Problems<'_>) -> Option<Affinity> {
    let written = written?;
    let known = Affinity::ALL.into_iter().find(|affinity| affinity.name() == written.get_ref());
    if known.is_none() {
        let message = format!("{} is not known", quote(written.get_ref()));
        problems.at(written.span(), &keys::CPU_AFFINITY, message, keys::CPU_AFFINITY.hint());
    }
    known
}

fn pass_env(written: Option<&Spanned<Vec<Text>>>, problems: &mut Problems<'_>) -> Vec<String> {
    let Some(written) = written else { return Confinement::default().pass_env };
    for name in written.get_ref() {
        let stem = name.get_ref().strip_suffix('*').unwrap_or(name.get_ref());
        if name.get_ref().is_empty() || stem.contains(['=', '*']) {
            let message = format!("{} is no name", quote(name.get_ref()));
            problems.at(name.span(), &keys::PASS_ENV, message, keys::PASS_ENV.hint());
        }
    }
    written.get_ref().iter().map(|name| name.get_ref().clone()).collect()
}

fn check_limits(raw: &RawLimits, problems: &mut Problems<'_>) -> Limits {
    Limits {
        open_files: limit(raw.open_files.as_ref(), &keys::OPEN_FILES, problems),
        processes: limit(raw.processes.as_ref(), &keys::PROCESSES, problems),
        core: limit(raw.core.as_ref(), &keys::CORE, problems),
        address_space: limit(raw.address_space.as_ref(), &keys::ADDRESS_SPACE, problems),
    }
}

fn limit(written: Option<&Spanned<NumberOrText>>, key: &'static Key, problems: &mut Problems<'_>) -> Option<Limit> {
    let written = written?;
    match written.get_ref() {
        NumberOrText::Text(word) if word == UNLIMITED => Some(Limit::Unlimited),
        NumberOrText::Text(_) | NumberOrText::Number(_) => bytes(written, key, problems).map(|bytes| Limit::At(bytes.0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(affinity: Affinity, allowed: &[usize], workers: u32) -> Vec<Vec<usize>> {
        let workers = Workers::new(workers).unwrap();
        (0..workers.get()).map(|slot| affinity.share(allowed, Slot(slot), workers).unwrap().to_vec()).collect()
    }

    #[test]
    fn cores_are_shared_out() {
        let allowed = [2, 3, 8, 9, 10];
        assert_eq!(shares(Affinity::Spread, &allowed, 2), [vec![2, 3], vec![8, 9, 10]]);
        assert_eq!(shares(Affinity::Pin, &allowed, 2), [vec![2], vec![3]]);
        let seven = [vec![2], vec![3], vec![8], vec![9], vec![10], vec![2], vec![3]];
        assert_eq!(shares(Affinity::Spread, &allowed, 7), seven);
        assert_eq!(shares(Affinity::Pin, &allowed, 7), seven);
        let workers = Workers::new(2).unwrap();
        assert_eq!(Affinity::None.share(&allowed, Slot(0), workers), None);
        assert_eq!(Affinity::Pin.share(&[], Slot(0), workers), None);
        assert_eq!(Affinity::Spread.share(&allowed, Slot(5), workers), Some(&allowed[2..]), "one more than configured");
    }
}
