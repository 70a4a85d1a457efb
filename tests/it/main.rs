//! Integration tests against the real binary and real parts.
