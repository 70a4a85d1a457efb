//! (to come)

pub mod accounting;
pub mod cpu;
pub mod host;
pub mod memory;
pub mod queue;
