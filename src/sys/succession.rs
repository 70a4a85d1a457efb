//! How one supervisor takes the place of another: the sockets go over at execve(2), and what follows is said over a socket pair.
//!
//! The successor says `began` and its boot-timeout once it has read its configuration, `ready` when all its workers serve, or
//! `failed` and why; the predecessor then says `go`, hears no more and stops.
//! From `ready` on the successor outlives its predecessor; if that one dies before it has said `go`, the successor stops too.

use std::cell::{Cell, Ref, RefCell};
use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair};
use rustix::process::{Pid, Signal, kill_process_group, pidfd_send_signal, set_parent_process_death_signal};
use rustix::stdio::stderr;

use super::inherit::{self, name_of};
use super::listen::{Listener, Listeners};
use super::spawn::{Process, Program, SpawnError, Streams, spawn};
use super::standing::Standing;
use super::systemd::Systemd;

/// Longest packet, bytes; a longer reason is cut.
const MAX_PACKET: usize = 16 * 1024;
/// Followed by its boot-timeout, milliseconds. A predecessor that is older does not know it, and goes by its own.
const BEGAN: &[u8] = b"began ";
const READY: &[u8] = b"ready";
const GO: &[u8] = b"go";
const FAILED: &[u8] = b"failed ";

/// What is not handed on as it is: it names this process, or the sockets that were passed to it.
const OURS_ALONE: [&str; 6] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID", "WATCHDOG_PID", "MAINPID"];

/// What a successor gets.
pub struct Estate<'a> {
    /// The program as we were called.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Our environment.
    pub env: Vec<(OsString, OsString)>,
    /// What the workers accept on.
    pub http: &'a Listeners,
    /// Of `[metrics]`.
    pub metrics: Option<&'a Listeners>,
    /// Of `[control]`.
    pub control: Option<&'a Listeners>,
    /// Who is told which process is the main one.
    pub systemd: &'a Systemd,
}

/// The program that a successor runs: what stands at the path that we were called by, now. A name without a slash is looked up in PATH
/// again, so a link that leads elsewhere by then is followed.
#[must_use]
pub fn own_program() -> PathBuf {
    let called = env::args_os().next().unwrap_or_default();
    let path = PathBuf::from(&called);
    let found = if called.as_encoded_bytes().contains(&b'/') {
        Some(path).filter(|path| path.exists())
    } else {
        let folders = env::var_os("PATH").unwrap_or_default();
        env::split_paths(&folders).map(|folder| folder.join(&called)).find(|file| !called.is_empty() && file.is_file())
    };
    let found = found.or_else(|| env::current_exe().ok()).unwrap_or_default();
    std::path::absolute(&found).unwrap_or(found)
}

impl Estate<'_> {
    fn sockets(&self) -> Vec<(String, BorrowedFd<'_>)> {
        let desks = [(inherit::METRICS, self.metrics), (inherit::CONTROL, self.control)];
        let desks = desks.into_iter().filter_map(|(name, listeners)| {
            listeners.and_then(|listeners| listeners.all().first()).map(|listener| (name.to_owned(), listener.fd()))
        });
        self.http.all().iter().map(|listener: &Listener| (name_of(listener), listener.fd())).chain(desks).collect()
    }

    /// The files of the sockets are the successor's.
    pub(super) fn leave(&self) {
        [Some(self.http), self.metrics, self.control].into_iter().flatten().for_each(Listeners::leave_files);
    }
}

/// What was heard of a successor.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Tidings {
    /// It has read its configuration, whose boot-timeout this is.
    Began(Duration),
    Ready,
    /// It has ended, and why.
    Ended(String),
}

/// A supervisor that is to take our place.
pub(super) struct Successor {
    process: Process,
    channel: OwnedFd,
    /// Why it will end.
    failed: Option<String>,
    /// It has nothing more to say.
    silent: bool,
}

impl Successor {
    /// Starts the program, with copies of the sockets. What it says before it has found out that it is one of us goes to `ear`.
    pub(super) fn start(estate: &Estate<'_>, ear: Option<&OwnedFd>) -> Result<Self, SpawnError> {
        let step = |step| move |source: io::Error| SpawnError::Step { step, source };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (channel, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
            .map_err(|errno| step("socketpair")(errno.into()))?;
        let mut sockets = estate.sockets();
        sockets.push((inherit::PREDECESSOR.to_owned(), theirs.as_fd()));
        sockets.push((inherit::STDERR.to_owned(), stderr()));
        let names: Vec<&str> = sockets.iter().map(|(name, _)| name.as_str()).collect();
        let mut env: Vec<(OsString, OsString)> =
            estate.env.iter().filter(|(key, _)| !OURS_ALONE.iter().any(|name| key == name)).cloned().collect();
        env.push(("LISTEN_FDS".into(), sockets.len().to_string().into()));
        env.push(("LISTEN_FDNAMES".into(), names.join(":").into()));
        let directory = env::current_dir().map_err(step("the working directory"))?;
        let process = spawn(&Program {
            argv: words(&estate.program, &estate.arguments)?,
            env,
            directory: &directory,
            fds: sockets.iter().map(|(_, fd)| *fd).collect(),
            streams: Streams::with_error(ear),
            standing: Standing::ours(),
            listen_pid: true,
        })?;
        Ok(Self { process, channel, failed: None, silent: false })
    }

    pub(super) const fn pid(&self) -> Pid {
        self.process.pid
    }

    /// Readable when there may be news. `None` when its end is all that can come.
    pub(super) fn channel(&self) -> Option<BorrowedFd<'_>> {
        (!self.silent).then(|| self.channel.as_fd())
    }

    /// The next news. Never waits.
    pub(super) fn hear(&mut self) -> Option<Tidings> {
        while let Some(packet) = receive(self.channel.as_fd()).filter(|_| !self.silent) {
            match packet.as_slice() {
                READY => return Some(Tidings::Ready),
                [] => self.silent = true,
                other => match began(other) {
                    Some(boot_timeout) => return Some(Tidings::Began(boot_timeout)),
                    None => self.failed = other.strip_prefix(FAILED).map(|reason| String::from_utf8_lossy(reason).into_owned()),
                },
            }
        }
        self.reap().map(|end| Tidings::Ended(self.failed.take().unwrap_or_else(|| format!("{end} before it was ready"))))
    }

    /// How it ended, if it has. Asks what it left behind to leave too, then reaps it.
    pub(super) fn reap(&self) -> Option<String> {
        let by_pidfd = || Id::PIDFd(self.process.pidfd.as_fd());
        let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG;
        let end = match waitid(by_pidfd(), look | WaitPidFlag::WNOWAIT) {
            Ok(WaitStatus::Exited(_, code)) => format!("exit code {code}"),
            Ok(WaitStatus::Signaled(_, signal, _)) => format!("signal {}", signal as i32),
            Ok(_) => return None,
            Err(_) => "an unknown exit code".to_owned(),
        };
        // The group's number is not another's until we reap.
        kill_process_group(self.process.pid, Signal::TERM).ok();
        waitid(by_pidfd(), look).ok();
        Some(format!("the new program ended with {end}"))
    }

    /// The service is its, unless it has ended: then the reason.
    pub(super) fn go(&self) -> Result<(), String> {
        send(&self.channel, GO, SendFlags::NOSIGNAL).map(drop).map_err(|error| {
            self.reap().unwrap_or_else(|| format!("the new program cannot be told that it has the service: {error}"))
        })
    }

    pub(super) fn signal(&self, signal: Signal) {
        pidfd_send_signal(&self.process.pidfd, signal).ok();
    }
}

fn words(program: &Path, arguments: &[OsString]) -> Result<Vec<String>, SpawnError> {
    let word = |word: &OsStr| {
        let source = || io::Error::other("an argument is not UTF-8");
        word.to_str().map(str::to_owned).ok_or_else(|| SpawnError::Step { step: "the command line", source: source() })
    };
    [program.as_os_str()].into_iter().chain(arguments.iter().map(OsString::as_os_str)).map(word).collect()
}

/// The boot-timeout of one that has begun.
fn began(packet: &[u8]) -> Option<Duration> {
    let millis = str::from_utf8(packet.strip_prefix(BEGAN)?).ok()?;
    millis.parse().ok().map(Duration::from_millis)
}

/// Who has the service, us or the supervisor whose place we are to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Charge {
    /// It has the service.
    Waiting,
    /// It has given us the service, and is leaving.
    InCharge,
    /// It has given us the service, and is gone.
    Alone,
    /// It is gone, and has given us nothing.
    Orphaned,
}

impl Charge {
    /// Whether the service is ours.
    #[must_use]
    pub const fn is_ours(self) -> bool {
        match self {
            Self::InCharge | Self::Alone => true,
            Self::Waiting | Self::Orphaned => false,
        }
    }
}

/// The supervisor whose place we are to take. Lives on the main thread.
pub struct Predecessor {
    /// Closed when it has gone.
    channel: RefCell<Option<OwnedFd>>,
    charge: Cell<Charge>,
    told: Cell<bool>,
}

impl Predecessor {
    /// Speaks over the connection that was inherited.
    #[must_use]
    pub const fn new(channel: OwnedFd) -> Self {
        Self { channel: RefCell::new(Some(channel)), charge: Cell::new(Charge::Waiting), told: Cell::new(false) }
    }

    /// Who has the service.
    pub const fn charge(&self) -> Charge {
        self.charge.get()
    }

    /// Our configuration is read; we may take twice this from now on.
    pub fn say_began(&self, boot_timeout: Duration) {
        self.say(&[BEGAN, boot_timeout.as_millis().to_string().as_bytes()].concat());
    }

    /// All our workers serve. Said once. From now on we may outlive it, so that it can leave as soon as it has heard this.
    pub fn say_ready(&self) {
        if self.told.replace(true) {
            return;
        }
        set_parent_process_death_signal(None).ok();
        self.say(READY);
    }

    /// We end without having been ready.
    pub fn say_failed(&self, reason: &str) {
        let packet = [FAILED, reason.as_bytes()].concat();
        self.say(packet.get(..MAX_PACKET).unwrap_or(&packet));
    }

    fn say(&self, packet: &[u8]) {
        let Some(channel) = self.channel() else { return };
        if let Err(error) = send(&*channel, packet, SendFlags::NOSIGNAL) {
            tracing::warn!(%error, "the predecessor cannot be told");
        }
    }

    /// Readable when there may be news. `None` when there can be none any more.
    pub(super) fn channel(&self) -> Option<Ref<'_, OwnedFd>> {
        Ref::filter_map(self.channel.borrow(), Option::as_ref).ok()
    }

    /// Listens for who has the service. Whether that has changed.
    pub(super) fn hear(&self) -> bool {
        let before = self.charge();
        while let Some(packet) = self.channel().and_then(|channel| receive(channel.as_fd())) {
            match packet.as_slice() {
                GO => self.charge.set(Charge::InCharge),
                [] => {
                    self.charge.set(if self.charge().is_ours() { Charge::Alone } else { Charge::Orphaned });
                    self.channel.take();
                }
                _ => {}
            }
        }
        self.charge() != before
    }
}

/// The next packet; an empty one when the other side has gone.
fn receive(channel: BorrowedFd<'_>) -> Option<Vec<u8>> {
    let mut packet = vec![0; MAX_PACKET];
    match rustix::io::retry_on_intr(|| recv(channel, &mut packet[..], RecvFlags::empty())) {
        Ok((length, _)) => {
            packet.truncate(length);
            Some(packet)
        }
        Err(Errno::AGAIN) => None,
        Err(_) => Some(Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (Predecessor, OwnedFd) {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (ours, theirs) = socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        (Predecessor::new(ours), theirs)
    }

    #[test]
    fn the_service_is_ours_only_when_that_was_said() {
        let (predecessor, other) = pair();
        assert!(!predecessor.hear());
        predecessor.say_began(Duration::from_secs(90));
        assert_eq!(receive(other.as_fd()).and_then(|packet| began(&packet)), Some(Duration::from_secs(90)));
        predecessor.say_ready();
        predecessor.say_ready();
        assert_eq!(receive(other.as_fd()).as_deref(), Some(READY));
        assert_eq!(receive(other.as_fd()), None, "said once");
        send(&other, b"another word", SendFlags::NOSIGNAL).unwrap();
        assert!(!predecessor.hear());
        send(&other, GO, SendFlags::NOSIGNAL).unwrap();
        assert!(predecessor.hear());
        assert_eq!(predecessor.charge(), Charge::InCharge);
        assert!(predecessor.channel().is_some());
        drop(other);
        assert!(predecessor.hear());
        assert_eq!(predecessor.charge(), Charge::Alone);
        assert!(predecessor.channel().is_none() && !predecessor.hear());
    }

    #[test]
    fn one_that_dies_without_a_word_leaves_us_alone() {
        let (predecessor, other) = pair();
        drop(other);
        assert!(predecessor.hear());
        assert_eq!(predecessor.charge(), Charge::Orphaned);
        // Nobody hears this; it is no reason to fail.
        predecessor.say_failed(&"x".repeat(2 * MAX_PACKET));
    }

    #[test]
    fn one_that_hands_over_and_is_gone_before_we_listen_has_handed_over() {
        let (predecessor, other) = pair();
        send(&other, GO, SendFlags::NOSIGNAL).unwrap();
        drop(other);
        assert!(predecessor.hear());
        assert!(predecessor.charge().is_ours());
    }

    #[test]
    fn the_program_is_found_where_it_was_called() {
        let program = own_program();
        assert!(program.is_absolute() && program.is_file(), "{program:?}");
    }
}
