//! Tests of the whole: the real binary, real parts, and the rules of this repository.

mod demo_recording;
mod demo_worker;
mod parts_check;
mod service_check;
mod support;
mod tidy;
