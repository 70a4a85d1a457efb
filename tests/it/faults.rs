//! The fault suite: everything that is known to break pre-fork supervisors, done to the real binary. `catalogue.toml` is its contents.
//!
//! With `SUPERVISOR_UNDER_TEST=gunicorn` the tests that the catalogue marks so are run against Gunicorn instead: `benches/faults.py`.

mod boot;
mod catalogue;
mod death;
mod injected;
mod leaks;
mod load;
mod network;
mod probe;
mod reloads;
mod soak;
mod subject;
mod supervisor;
