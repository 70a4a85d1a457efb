//! How things are written that many formats have: lines, times, percent-encoding, and the escapes of logs.

pub(super) mod civil;
pub(super) mod escape;
pub(super) mod lines;
pub(super) mod percent;
pub(super) mod uuid;
