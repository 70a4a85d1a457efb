//! Linux. The only home of `unsafe` and of system calls but the replay engine's sockets.

pub mod accept;
pub mod accounting;
pub mod cgroup;
mod children;
pub mod clock;
pub mod conversation;
pub mod cpu;
pub mod host;
pub mod launch;
pub mod limits;
pub mod linux;
pub mod listen;
pub mod log;
pub mod memory;
pub mod network;
mod notify;
pub mod pass;
pub mod peer;
pub mod priority;
pub mod private_folder;
pub mod queue;
pub mod remote;
pub mod signals;
pub mod spawn;
pub mod standing;
pub mod systemd;
mod zygote;
