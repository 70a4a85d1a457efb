//! What the tests stand on: real parts, the real binary under watch, a plain HTTP client and a small hammer.

pub(crate) mod cgroup;
pub(crate) mod control;
pub(crate) mod folder;
pub(crate) mod hammer;
pub(crate) mod http;
pub(crate) mod journal;
pub(crate) mod keys;
pub(crate) mod lone_worker;
pub(crate) mod nginx;
pub(crate) mod parts;
pub(crate) mod process;
pub(crate) mod recording;
pub(crate) mod root;
pub(crate) mod service;
pub(crate) mod shop;
pub(crate) mod simulator;
pub(crate) mod systemd_box;
pub(crate) mod turn;

use std::time::Duration;

/// How long anything may take before a test gives up: far more than it needs on a busy machine with two cores.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// How much of something a test does: the size that fits into CI, or with FAULT_LONG the catalogue's.
pub(crate) fn size<T>(short: T, long: T) -> T {
    if std::env::var_os("FAULT_LONG").is_some() { long } else { short }
}
