//! Tests of the whole: the real binary, real parts, and the rules of this repository.

mod demo_recording;
mod demo_worker;
mod docs;
mod fuzz;
mod imports;
mod load_tls;
mod nginx;
mod parts_check;
mod record_live;
mod record_tools;
mod recordings;
mod replay;
mod run_boot;
mod run_life;
mod run_metrics;
mod run_python;
mod scrub;
mod service_check;
mod support;
mod tidy;
mod tune;
mod tune_external;
mod tune_samples;
mod tune_service;
mod tune_write;
mod zygote;
