//! One file a subcommand: wiring and printing, no decisions.

pub mod tune_output;
