//! Tells the supervisor how the worker is, as sd_notify(3) defines it. A supervisor that does not listen is not missed.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

/// The slowest heartbeat.
const BEAT_MAX: Duration = Duration::from_secs(1);

/// The way to the supervisor, if there is one.
#[derive(Debug)]
pub(super) struct Notifier {
    socket: Option<(UnixDatagram, SocketAddr)>,
    beat: Option<Duration>,
}

impl Notifier {
    /// As NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID say.
    pub(super) fn from_environment() -> Self {
        let address = std::env::var("NOTIFY_SOCKET").ok().and_then(|name| address(&name));
        let socket = address.and_then(|address| UnixDatagram::unbound().ok().map(|socket| (socket, address)));
        let meant_for_us = std::env::var("WATCHDOG_PID").map_or(true, |pid| pid == std::process::id().to_string());
        let patience = std::env::var("WATCHDOG_USEC").ok().filter(|_| meant_for_us).and_then(|micros| micros.parse().ok());
        let beat = patience.filter(|micros| *micros > 0).map(|micros| (Duration::from_micros(micros) / 2).min(BEAT_MAX));
        Self { socket, beat }
    }

    /// How often the supervisor wants to hear `WATCHDOG=1`, if at all.
    pub(super) const fn beat(&self) -> Option<Duration> {
        self.beat
    }

    /// Sends one assignment, `READY=1` for instance.
    pub(super) fn tell(&self, assignment: &str) {
        if let Some((socket, address)) = &self.socket {
            // A supervisor that is gone, or too busy to read, is no reason to stop serving.
            let _ = socket.send_to_addr(assignment.as_bytes(), address);
        }
    }
}

fn address(name: &str) -> Option<SocketAddr> {
    match name.strip_prefix('@') {
        Some(abstract_name) => SocketAddr::from_abstract_name(abstract_name).ok(),
        None => SocketAddr::from_pathname(name).ok(),
    }
}
