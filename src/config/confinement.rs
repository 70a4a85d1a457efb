//! Checks who workers are and what the kernel grants them: user, group, file mode mask, cores, limits, and what they see of our environment.
//! Looks nobody up: whether a user exists is the host's to know.

use toml::Spanned;

use super::care::bytes;
use super::keys::{self, Key};
use super::problem::{Problems, quote};
use super::raw::{RawApp, RawLimits};
use super::reader::{NumberOrText, Text};

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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
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
    const ALL: [Self; 3] = [Self::None, Self::Spread, Self::Pin];

    /// The name the configuration uses.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Spread => "spread",
            Self::Pin => "pin",
        }
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

/// The confinement, or `None` with the reasons in `problems`. Without `[app]` there is nobody to confine.
pub(super) fn check(app: Option<&RawApp>, limits: &RawLimits, problems: &mut Problems<'_>) -> Option<Confinement> {
    let limits = check_limits(limits, problems);
    let app = app?;
    let user = name(app.user.as_ref(), &keys::USER, problems);
    let group = name(app.group.as_ref(), &keys::GROUP, problems);
    let umask = umask(app.umask.as_ref(), problems);
    let cpu_affinity = affinity(app.cpu_affinity.as_ref(), problems);
    let pass_env = pass_env(app.pass_env.as_ref(), problems);
    Some(Confinement {
        user: user?,
        group: group?,
        umask: umask?,
        cpu_affinity: cpu_affinity?,
        pass_env: pass_env?,
        limits: limits?,
    })
}

fn name(written: Option<&Text>, key: &'static Key, problems: &mut Problems<'_>) -> Option<Option<String>> {
    match written {
        Some(name) if name.get_ref().is_empty() || name.get_ref().contains([':', '/', ' ']) => {
            problems.at(name.span(), key, format!("{} is no name", quote(name.get_ref())), key.hint());
            None
        }
        Some(name) => Some(Some(name.get_ref().clone())),
        None => Some(None),
    }
}

fn umask(written: Option<&Text>, problems: &mut Problems<'_>) -> Option<Option<u32>> {
    let Some(written) = written else { return Some(None) };
    let digits = Some(written.get_ref()).filter(|text| text.bytes().all(|digit| digit.is_ascii_digit()));
    let mask = digits.and_then(|digits| u32::from_str_radix(digits, 8).ok()).filter(|mask| *mask <= 0o777);
    if mask.is_none() {
        problems.at(written.span(), &keys::UMASK, format!("{} is no mask", quote(written.get_ref())), keys::UMASK.hint());
    }
    mask.map(Some)
}

fn affinity(written: Option<&Text>, problems: &mut Problems<'_>) -> Option<Affinity> {
    let Some(written) = written else { return Some(Affinity::default()) };
    let known = Affinity::ALL.into_iter().find(|affinity| affinity.name() == written.get_ref());
    if known.is_none() {
        let message = format!("{} is not known", quote(written.get_ref()));
        problems.at(written.span(), &keys::CPU_AFFINITY, message, keys::CPU_AFFINITY.hint());
    }
    known
}

fn pass_env(written: Option<&Spanned<Vec<Text>>>, problems: &mut Problems<'_>) -> Option<Vec<String>> {
    let Some(written) = written else { return Some(Confinement::default().pass_env) };
    let mut is_right = true;
    for name in written.get_ref() {
        let stem = name.get_ref().strip_suffix('*').unwrap_or(name.get_ref());
        if name.get_ref().is_empty() || stem.contains(['=', '*']) {
            problems.at(name.span(), &keys::PASS_ENV, format!("{} is no name", quote(name.get_ref())), keys::PASS_ENV.hint());
            is_right = false;
        }
    }
    is_right.then(|| written.get_ref().iter().map(|name| name.get_ref().clone()).collect())
}

fn check_limits(raw: &RawLimits, problems: &mut Problems<'_>) -> Option<Limits> {
    let mut limit = |written: &Option<Spanned<NumberOrText>>, key| match written {
        Some(written) => limit(written, key, problems).map(Some),
        None => Some(None),
    };
    let open_files = limit(&raw.open_files, &keys::OPEN_FILES);
    let processes = limit(&raw.processes, &keys::PROCESSES);
    let core = limit(&raw.core, &keys::CORE);
    let address_space = limit(&raw.address_space, &keys::ADDRESS_SPACE);
    Some(Limits { open_files: open_files?, processes: processes?, core: core?, address_space: address_space? })
}

fn limit(written: &Spanned<NumberOrText>, key: &'static Key, problems: &mut Problems<'_>) -> Option<Limit> {
    match written.get_ref() {
        NumberOrText::Text(word) if word == UNLIMITED => Some(Limit::Unlimited),
        NumberOrText::Text(_) | NumberOrText::Number(_) => bytes(written, key, problems).map(|bytes| Limit::At(bytes.0)),
    }
}
