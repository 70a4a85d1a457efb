//! tuningfork keeps the right number of workers alive, and finds out by measuring what that number is.
//!
//! Both halves have the same shape: *effect → fact → pure decision → next effect*.
//!
//! # Layout
//!
//! A module uses only its own subtree and modules of a lower layer; `tests/it/tidy.rs` checks it.
//!
//! | layer | modules | what they are for |
//! |---|---|---|
//! | 6 | `main.rs`, [`cli`] | arguments → command → exit code |
//! | 5 | [`commands`] | one file a subcommand: wiring and printing, no decisions |
//! | 4 | [`tune`] | the study loop and its testbeds |
//! | 4 | [`control`], [`tap`] | the control socket of a service; records its traffic while it runs |
//! | 3 | [`serve`] | drives a `Supervisor` against a `Host` until it has an outcome |
//! | 3 | [`sys`], [`load`], [`metrics`] | Linux; the replay engine; the Prometheus endpoint |
//! | 2 | [`supervisor`], [`replay`], [`study`] | pure decisions |
//! | 1 | [`config`], [`recording`], [`usage`], [`stats`] | what is true; what was asked for; counters and their differences |
//! | 0 | [`printable`], [`units`] | what may be shown; quantities |
//!
//! Layers 0 to 2 do no I/O, read no clock, draw no randomness of their own, take no lock and log nothing.

pub mod cli;
pub mod commands;
pub mod config;
pub mod control;
pub mod load;
pub mod metrics;
pub mod printable;
pub mod recording;
pub mod replay;
pub mod serve;
pub mod stats;
pub mod study;
pub mod supervisor;
pub mod sys;
pub mod tap;
pub mod tune;
pub mod units;
pub mod usage;
