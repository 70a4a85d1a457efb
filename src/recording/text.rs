//! How things are written that many formats have: lines, times, percent-encoding, the escapes of logs, and what may be shown.

pub(super) mod civil;
pub(super) mod escape;
pub(super) mod lines;
pub(super) mod percent;
pub(super) mod printable;
pub(super) mod uuid;
