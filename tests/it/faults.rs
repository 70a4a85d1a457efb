//! The fault suite: everything that is known to break pre-fork supervisors, done to the real binary. `catalogue.toml` is its contents.
//!
//! With `SUPERVISOR_UNDER_TEST=gunicorn` the tests that the catalogue marks so are run against Gunicorn instead: `benches/faults.py`.

mod boot;
mod catalogue;
mod clock;
mod death;
mod doors;
mod injected;
mod leaks;
mod live;
mod load;
mod network;
mod probe;
mod reloads;
mod soak;
mod standing;
mod subject;
mod supervisor;
mod threads;
mod upgrades;
