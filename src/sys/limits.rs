//! The limit of open files: raised for the load generator, and given back to workers as it was.

use std::sync::OnceLock;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// What we raise the limit to, if the hard limit allows.
const WANTED: u64 = 65_536;

static AT_START: OnceLock<(u64, u64)> = OnceLock::new();

fn remembered() -> (u64, u64) {
    *AT_START.get_or_init(|| getrlimit(Resource::RLIMIT_NOFILE).unwrap_or((1024, 1024)))
}

/// The limit that this process was started with.
pub(super) fn at_start() -> libc::rlimit {
    let (soft, hard) = remembered();
    libc::rlimit { rlim_cur: soft, rlim_max: hard }
}

/// Raises the soft limit of this process towards the hard one. Workers keep the limit we were started with.
pub fn raise_open_files() {
    let (soft, hard) = remembered();
    let wanted = WANTED.min(hard).max(soft);
    if let Err(error) = setrlimit(Resource::RLIMIT_NOFILE, wanted, hard) {
        tracing::debug!(%error, "the limit of open files stays at {soft}");
    }
}

/// How many files this process may have open.
#[must_use]
pub fn open_files() -> u64 {
    getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft)
}
