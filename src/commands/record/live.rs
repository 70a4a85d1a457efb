//! `tuningfork record live`: borrows the listening sockets of a running service and records what comes.

use std::cell::{Cell, RefCell};
use std::fs::{self, File};
use std::io::{self, BufRead};
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::super::{CommandError, socket};
use super::files::{Packed, Packing, is_standard, open};
use super::import::random_key;
use crate::config::Address;
use crate::control::{Client, ControlError, Lease};
use crate::recording::{BodyPolicy, Fidelity, MAX_BYTES, MAX_REQUESTS, Meta, Scrub};
use crate::sys::limits;
use crate::sys::listen::Listener;
use crate::sys::network::Network;
use crate::sys::signals::Signals;
use crate::tap::{self, How, Limits, Share, Sink, TapError};
use crate::units;

/// How often it is looked whether somebody wants an end.
const LOOK: Duration = Duration::from_millis(50);
/// The longest recording that is asked for on purpose.
const LONGEST: Duration = Duration::from_hours(24);

/// What to record.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// The configuration of the running service, and of no other; without it tuningfork.toml, or what `tuningfork gunicorn` runs here
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The service's control socket, instead of looking for that of its configuration (see `tuningfork ctl --help`)
    #[arg(long, visible_alias = "socket", value_name = "PATH", conflicts_with = "config")]
    control: Option<PathBuf>,
    /// The recording to write: a new file, which only you can read; one whose name ends in .zst is compressed
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// For how much of the time connections are taken, from 0.001 to 1. The share of the connections is smaller: workers take most, and
    /// the next one is taken when the last is answered
    #[arg(long, value_name = "SHARE", default_value = "0.1", value_parser = share)]
    share: Share,
    /// How long to record: seconds, or 90s, 10m
    #[arg(long, value_name = "SPAN", default_value = "10m", value_parser = duration)]
    duration: Duration,
    /// End after this many requests
    #[arg(long, value_name = "N", default_value_t = MAX_REQUESTS as u64)]
    max_requests: u64,
    /// End when the recording has this many bytes, before compression
    #[arg(long, value_name = "N", default_value_t = MAX_BYTES)]
    max_bytes: u64,
    /// Keep request bodies, as far as secrets in them can be replaced
    #[arg(long)]
    bodies: bool,
    /// Record on TCP addresses that other hosts reach, though the application sees recorded clients as 127.0.0.1 or an address of
    /// this host
    #[arg(long)]
    seen_as_local: bool,
}

/// Why nothing was recorded.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// The supervisor cannot be asked.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// Recorded clients would look local.
    #[error(
        "other hosts can connect to {0}. While it is recorded, the application would see recorded clients as this host: it and \
         Gunicorn (forwarded_allow_ips) may trust 127.0.0.1 and its X-Forwarded-* headers. Record behind a proxy on a unix socket or \
         127.0.0.1, or say --seen-as-local if nothing here depends on a client's address"
    )]
    SeenAsLocal(String),
    /// What the service listens on cannot be connected to from here.
    #[error(
        "{0} is in another network namespace than this command, as that of a container is: what is recorded could not be passed on to \
         the service. Record from within: nsenter --net --target PID tuningfork record live …, with the process id of the service"
    )]
    AnotherNetwork(String),
    /// The recording cannot be written.
    #[error("{}: {source}", path.display())]
    Output {
        /// Which file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Somebody removed the recording.
    #[error("{}: it was removed while it was written: the recording is lost", .0.display())]
    Removed(PathBuf),
    /// The traffic cannot be relayed.
    #[error(transparent)]
    Tap(#[from] TapError),
    /// The service died.
    #[error(
        "the supervisor of the service has gone without taking its sockets back: was it killed? What came before is recorded"
    )]
    Gone,
    /// The system refused something basic.
    #[error("cannot record: {0}")]
    System(io::Error),
}

/// Records until the time is over, a limit is reached, somebody ends it or the service stops. Returns what the user reads.
pub(super) fn live(options: &Options) -> Result<String, CommandError> {
    let signals = Signals::of_a_study().map_err(LiveError::System)?;
    let key = random_key().map_err(LiveError::System)?;
    let (listeners, lease) = socket::connect(options.config.as_deref(), options.control.as_deref())
        .and_then(Client::listeners)
        .map_err(LiveError::from)?;
    if let Some(away) = listeners.iter().find(|listener| is_in_another_network(listener)) {
        return Err(LiveError::AnotherNetwork(away.address().to_string()).into());
    }
    if let Some(open) = listeners.iter().find(|listener| !options.seen_as_local && is_reached_from_elsewhere(listener)) {
        return Err(LiveError::SeenAsLocal(open.address().to_string()).into());
    }
    limits::raise_open_files();
    let bodies = if options.bodies { BodyPolicy::Scrubbed } else { BodyPolicy::Dropped };
    let limits = Limits { requests: options.max_requests, bytes: options.max_bytes };
    let in_file = |source| LiveError::Output { path: options.output.clone(), source };
    let output = create(&options.output).map_err(in_file)?;
    let file = File::options().write(true).open(&options.output).map_err(in_file)?;
    let sink = Sink::start(output, |mut output| output.finish(), &meta(bodies), limits).map_err(in_file)?;
    let seed = std::process::id().into();
    let how = How { share: options.share, duration: options.duration, bodies, scrub: Scrub::new(key).with_bodies(bodies), seed };
    let (signals, is_gone) = (RefCell::new(signals), Cell::new(false));
    let (ended, cut) = (end(lease, &signals, &is_gone), asked(|| signals.borrow_mut().asked_anew()));
    let (mut account, written) = tap::record(listeners, how, sink, ended, cut).map_err(|error| {
        // Nothing was recorded, and the name should be free for another attempt.
        let _ = fs::remove_file(&options.output);
        LiveError::from(error)
    })?;
    // Otherwise what was flushed is in it.
    if written.is_err()
        && let Ok((requests, bytes)) = mend(&options.output, &file)
    {
        account.found(requests, bytes);
    }
    if account.recorded == 0 {
        // No command reads a file without a request, and the name should be free for another attempt.
        let _ = fs::remove_file(&options.output);
    }
    let told = match account.recorded {
        0 => format!("no request was recorded, so there is no {}: {account}", options.output.display()),
        1.. => format!("{}: {account}", options.output.display()),
    };
    let failed = match written {
        Err(error) => in_file(error),
        Ok(()) if file.metadata().is_ok_and(|about| about.nlink() == 0) && account.recorded > 0 => {
            LiveError::Removed(options.output.clone())
        }
        Ok(()) if is_gone.get() => LiveError::Gone,
        Ok(()) => return Ok(told),
    };
    super::say(&told);
    Err(failed.into())
}

/// Takes what is left of a request off the end of a recording that could not be written further. What is in front of it: requests, and
/// bytes with the meta line. A compressed file stays cut off; it is read as far as it goes.
fn mend(path: &Path, file: &File) -> io::Result<(u64, u64)> {
    let mut input = open(path)?;
    let (mut lines, mut bytes, mut line) = (0_u64, 0, Vec::new());
    while input.read_until(b'\n', &mut line)? > 0 && line.ends_with(b"\n") {
        lines += 1;
        bytes += line.len() as u64;
        line.clear();
    }
    if Packing::of(path) == Packing::Plain {
        file.set_len(bytes)?;
    }
    Ok((lines.saturating_sub(1), bytes))
}

/// Waits for a signal, or for the service to want its sockets back. The lease lives as long as what this gives.
async fn end(lease: Lease, signals: &RefCell<Signals>, is_gone: &Cell<bool>) -> Lease {
    tokio::select! {
        // If it cannot be watched, it is as good as gone.
        _ = lease.recalled() => {
            if lease.is_held() {
                tracing::info!("the service takes its sockets back: the recording ends");
            } else {
                is_gone.set(true);
            }
        }
        () = asked(|| signals.borrow_mut().asked_to_stop()) => {}
    }
    lease
}

/// Waits until somebody has asked for an end.
async fn asked(mut has_asked: impl FnMut() -> bool) {
    while !has_asked() {
        sleep_until(Instant::now() + LOOK).await;
    }
}

/// Whether clients of other hosts connect here.
fn is_reached_from_elsewhere(listener: &Listener) -> bool {
    match listener.address() {
        Address::Tcp { host, .. } => !host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback()),
        Address::Unix(_) | Address::Fd(_) => false,
    }
}

/// Whether what is connected to its address here comes out elsewhere, or nowhere. Where nobody knows, it is assumed that it does not.
fn is_in_another_network(listener: &Listener) -> bool {
    match listener.address() {
        Address::Tcp { .. } => Network::of(listener.fd()) == Network::Another,
        Address::Unix(_) | Address::Fd(_) => false,
    }
}

/// Not through a draft: what is recorded when the machine fails is worth having.
fn create(path: &Path) -> io::Result<Packed> {
    if is_standard(path) {
        return Err(io::Error::other("a live recording is written to a file only: name one, such as live.jsonl.zst"));
    }
    Packed::create(path)
}

fn meta(bodies: BodyPolicy) -> Meta {
    let seen = Meta {
        source: Some("tap".to_owned()),
        ts_meaning: Some("arrival".to_owned()),
        ts_resolution_ns: Some(1),
        fidelity: Some(Fidelity {
            headers: Some("all".to_owned()),
            bodies: Some("all".to_owned()),
            connections: Some("connection".to_owned()),
            responses: Some("status, bytes, duration".to_owned()),
        }),
        ..Meta::default()
    };
    seen.scrubbed(bodies)
}

fn share(text: &str) -> Result<Share, String> {
    text.parse().ok().and_then(Share::new).ok_or_else(|| "write a number from 0.001 to 1".to_owned())
}

fn duration(text: &str) -> Result<Duration, String> {
    let span = units::span(text).ok().filter(|span| !span.is_zero() && *span <= LONGEST);
    span.ok_or_else(|| "write seconds (90), or a time such as 90s or 10m, at most a day".to_owned())
}
