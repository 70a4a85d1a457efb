//! The supervisor's end of a zygote: a Python process that has imported the application once and forks workers from it.
//! The other end are the Python files in zygote/; they exchange one JSON object a packet.

mod settings;

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, SealFlags, memfd_create};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_send_signal, waitid};
use serde::Deserialize;
use serde_json::json;

use super::log::Mouth;
use super::pass;
use super::spawn::{Process, Program, SpawnError, Streams, spawn};
use super::standing::Standing;
use crate::config::{Config, PythonApp};
use crate::supervisor::event::Exit;
use crate::units::{Moment, Slot, WorkerId};

/// One text, because the interpreter gets one file.
const SCRIPT: &str = concat!(
    include_str!("zygote/application.py"),
    "\n\n",
    include_str!("zygote/workers.py"),
    "\n\n",
    include_str!("zygote/arbiter.py"),
    "\n\n",
    include_str!("zygote/main.py")
);
/// Runs the script that descriptor 4 is. A traceback through it must not look for its lines in a file, and certainly not in that
/// descriptor, which is something else by then.
pub(super) const START: &str = "with open(4, encoding='utf-8') as file:
    file.seek(0)
    script = compile(file.read(), '<tuningfork>', 'exec')
exec(script)";
/// Longest packet taken, bytes.
const MAX_PACKET: usize = 64 * 1024;
/// News that wait for a zygote that does not read; more are dropped, and only its hooks miss them.
const MAX_NEWS: usize = 2048;
/// How long the end of a process may take that has closed its descriptors: less than a millisecond, unless it has only closed them.
const EXIT: Duration = Duration::from_millis(100);
/// How long a zygote that is not needed any more may take for its last hooks.
pub(super) const LAST_WORDS: Duration = Duration::from_secs(5);

/// What the zygote said.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reply {
    Imported(Imported),
    Failed(Failed),
    Forked { worker: u64, pid: i32 },
    ForkFailed { worker: u64, reason: String },
}

/// The application is loaded.
#[derive(Debug, Deserialize)]
pub(super) struct Imported {
    pub(super) gunicorn: String,
    pub(super) python: String,
    #[serde(default)]
    pub(super) threads: Vec<String>,
    /// Gunicorn's settings that are not at their defaults.
    #[serde(default)]
    pub(super) changed: Vec<String>,
    /// Those of them that ask for something else than what the configuration decides.
    #[serde(default)]
    pub(super) overruled: Vec<String>,
    /// A server hook has started something that Gunicorn's master would go on with to its end.
    #[serde(default)]
    pub(super) stays: bool,
    /// The names of the threads that server hooks have started.
    #[serde(default)]
    pub(super) works: Vec<String>,
    /// The one of Gunicorn's worker classes that its workers are or extend.
    #[serde(default)]
    pub(super) family: Option<String>,
}

/// The application cannot be loaded.
#[derive(Debug, Deserialize)]
pub(super) struct Failed {
    pub(super) message: String,
}

/// Whether the application is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Importing,
    Imported,
    Dead,
}

/// How a zygote that is silent has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Ended(Exit),
    /// It is to be seen in a moment: its end wakes us.
    Open,
    /// It lives on and has only closed its descriptors.
    Unknown,
}

/// A worker to be forked.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) worker: WorkerId,
    pub(super) slot: Slot,
    /// The cores it keeps to; all if absent.
    pub(super) cores: Option<Vec<usize>>,
    /// Its standard output and error, if they are not the zygote's.
    pub(super) mouth: Option<Mouth>,
}

/// Why a zygote is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Occasion {
    /// The service starts.
    Start,
    /// A new generation.
    Reload,
    /// The generation's zygote has died.
    Replacement,
}

impl Occasion {
    const fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Reload => "reload",
            Self::Replacement => "replacement",
        }
    }
}

/// What Gunicorn's server hooks are called for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// A worker was reaped.
    Ended { pid: i32 },
    /// So many workers are wanted.
    Scaled { workers: u16 },
    /// The zygote is not needed any more.
    Leave,
    /// The service ends.
    LeaveLast,
}

/// A running zygote.
pub(super) struct Zygote {
    channel: OwnedFd,
    process: Process,
    stage: Stage,
    has_imported: bool,
    stays: bool,
    /// Forks asked for and not sent: the application is being imported, or the channel is full.
    queued: VecDeque<Order>,
    /// Forks asked for and not answered.
    asked: Vec<WorkerId>,
    /// What its hooks are to be called for.
    news: VecDeque<News>,
    /// Gunicorn's own settings, with which server hooks may come.
    has_gunicorn_settings: bool,
    notice: Notice,
}

/// What was told of a zygote's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Notice {
    /// Nothing: it has not come.
    None,
    /// It was heard of; how it came is to be told, and is waited for until then.
    DueBy(Moment),
    /// How it came, or why it comes.
    Given,
}

/// What a zygote is started with.
pub(super) struct Birth<'a> {
    pub(super) config: &'a Config,
    pub(super) app: &'a PythonApp,
    pub(super) env: Vec<(OsString, OsString)>,
    pub(super) listeners: Vec<BorrowedFd<'a>>,
    pub(super) streams: Streams<'a>,
    pub(super) occasion: Occasion,
    pub(super) standing: Standing,
}

impl Zygote {
    pub(super) fn start(birth: &Birth<'_>) -> Result<Self, SpawnError> {
        let step = |step| move |errno: Errno| SpawnError::Step { step, source: errno.into() };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (channel, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).map_err(step("socketpair"))?;
        rustix::io::ioctl_fionbio(&theirs, false).map_err(step("ioctl"))?;
        let script = memory(SCRIPT).map_err(step("memfd_create"))?;
        let mut fds = vec![theirs.as_fd(), script.as_fd()];
        fds.extend(birth.listeners.iter().copied());
        let program = Program {
            argv: vec![birth.app.interpreter.to_string_lossy().into_owned(), "-c".to_owned(), START.to_owned()],
            env: birth.env.clone(),
            directory: &birth.app.directory,
            fds,
            streams: birth.streams,
            standing: birth.standing.clone(),
            listen_pid: false,
        };
        let process = spawn(&program)?;
        let has_gunicorn_settings = birth.app.gunicorn.is_some();
        let (queued, asked, news) = (VecDeque::new(), Vec::new(), VecDeque::new());
        let zygote = Self {
            channel,
            process,
            stage: Stage::Importing,
            has_imported: false,
            stays: false,
            queued,
            asked,
            news,
            has_gunicorn_settings,
            notice: Notice::None,
        };
        send(&zygote.channel, &settings::settings(birth), &[]).map_err(|source| SpawnError::Step { step: "send", source })?;
        Ok(zygote)
    }

    pub(super) fn channel(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }

    pub(super) const fn stage(&self) -> Stage {
        self.stage
    }

    /// Whether it could fork at some time, even if it is dead now.
    pub(super) const fn has_imported(&self) -> bool {
        self.has_imported
    }

    /// Asks for a worker; the answer comes as a [`Reply`].
    pub(super) fn fork(&mut self, order: Order) -> io::Result<()> {
        if self.stage == Stage::Dead {
            return Err(io::Error::other("the zygote has ended"));
        }
        self.queued.push_back(order);
        self.flush();
        Ok(())
    }

    /// Tells what its hooks are called for. One without Gunicorn's settings has none and is told nothing.
    pub(super) fn tell(&mut self, news: News) {
        if self.has_gunicorn_settings && self.stage != Stage::Dead && self.news.len() < MAX_NEWS {
            self.news.push_back(news);
            self.flush();
        }
    }

    /// Asks it to leave by itself, for the sake of its hooks. Returns whether it will, so that it is worth waiting for.
    pub(super) fn dismiss(&mut self, news: News) -> bool {
        self.tell(news);
        self.calls_hooks()
    }

    /// Whether it goes on, for what its hooks have started, when no worker needs it any more.
    pub(super) fn stays(&self) -> bool {
        self.stays && self.stage == Stage::Imported
    }

    /// Whether it can call Gunicorn's server hooks, if there are any.
    pub(super) fn calls_hooks(&self) -> bool {
        self.has_gunicorn_settings && self.stage == Stage::Imported
    }

    /// How it ended, once it is silent. The kernel closes a process's descriptors, which we hear of, a moment before its end is there.
    pub(super) fn fate(&mut self, now: Moment) -> Fate {
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        match waitid(self.by_pidfd(), look) {
            Ok(Some(status)) => {
                let signal = status.terminating_signal().map(Exit::Signal);
                signal.or_else(|| status.exit_status().map(Exit::Code)).map_or(Fate::Unknown, Fate::Ended)
            }
            Ok(None) => {
                let due = self.fate_until().unwrap_or_else(|| now.after(EXIT));
                self.notice = Notice::DueBy(due);
                if now < due { Fate::Open } else { Fate::Unknown }
            }
            Err(_) => Fate::Unknown,
        }
    }

    /// Until when its [`Fate`] is waited for, if it is.
    pub(super) const fn fate_until(&self) -> Option<Moment> {
        if let Notice::DueBy(due) = self.notice { Some(due) } else { None }
    }

    /// Whether its end was told, so that nobody has to hear how it came.
    pub(super) const fn is_mourned(&self) -> bool {
        matches!(self.notice, Notice::Given)
    }

    pub(super) const fn mourn(&mut self) {
        self.notice = Notice::Given;
    }

    pub(super) const fn pid(&self) -> Pid {
        self.process.pid
    }

    /// Whether it has ended within this time.
    pub(super) fn ends_within(&self, span: Duration) -> bool {
        let timeout =
            Timespec { tv_sec: i64::try_from(span.as_secs()).unwrap_or(i64::MAX), tv_nsec: i64::from(span.subsec_nanos()) };
        let mut process = [PollFd::new(&self.process.pidfd, PollFlags::IN)];
        poll(&mut process, Some(&timeout)).is_ok_and(|ready| ready > 0)
    }

    /// Sends what is asked for, as far as the channel takes it; the rest follows after the next reply.
    fn flush(&mut self) {
        while self.stage == Stage::Imported
            && let Some(news) = self.news.front().copied()
        {
            match send(&self.channel, &packet(news), &[]) {
                Ok(()) => self.news.pop_front(),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.stage = Stage::Dead;
                    None
                }
            };
        }
        while self.stage == Stage::Imported
            && let Some(order) = self.queued.front()
        {
            let Order { worker, slot, cores, mouth } = order;
            let message = json!({"fork": {"worker": worker.0, "slot": slot.0, "cores": cores}});
            let streams: Vec<_> = mouth.iter().flat_map(|mouth| [mouth.out.as_fd(), mouth.err.as_fd()]).collect();
            match send(&self.channel, &message, &streams) {
                Ok(()) => {
                    self.asked.push(*worker);
                    self.queued.pop_front();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => self.stage = Stage::Dead,
            }
        }
    }

    /// The next thing it said; `None` when there is nothing more now.
    pub(super) fn hear(&mut self) -> Option<Reply> {
        let mut packet = vec![0_u8; MAX_PACKET];
        loop {
            match rustix::net::recv(&self.channel, &mut packet[..], RecvFlags::DONTWAIT) {
                Ok((0, _)) => {
                    self.stage = Stage::Dead;
                    return None;
                }
                Ok((length, _)) => match serde_json::from_slice::<Reply>(packet.get(..length).unwrap_or_default()) {
                    Ok(reply) if self.is_about_what_was_asked(&reply) => return Some(self.note(reply)),
                    Ok(reply) => tracing::warn!(?reply, "the zygote answered what it was not asked"),
                    Err(error) => tracing::warn!(%error, "the zygote said something unknown"),
                },
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return None,
                Err(_) => {
                    self.stage = Stage::Dead;
                    return None;
                }
            }
        }
    }

    /// The application can write to the channel too: an answer about any other worker would take over that worker.
    fn is_about_what_was_asked(&self, reply: &Reply) -> bool {
        match reply {
            Reply::Imported(_) | Reply::Failed(_) => self.stage == Stage::Importing,
            Reply::Forked { worker, .. } | Reply::ForkFailed { worker, .. } => self.asked.contains(&WorkerId(*worker)),
        }
    }

    fn note(&mut self, reply: Reply) -> Reply {
        match &reply {
            Reply::Imported(about) => {
                self.stays = about.stays;
                self.stage = Stage::Imported;
                self.has_imported = true;
            }
            Reply::Failed(_) => {
                self.stage = Stage::Dead;
                self.notice = Notice::Given;
            }
            Reply::Forked { worker, .. } | Reply::ForkFailed { worker, .. } => {
                self.asked.retain(|asked| asked.0 != *worker);
            }
        }
        self.flush();
        reply
    }

    /// Whether a fork it was asked for is not answered yet.
    pub(super) fn owes(&self) -> bool {
        !self.asked.is_empty()
    }

    /// Whether it was asked for this worker and has not answered.
    pub(super) fn owes_that(&self, worker: WorkerId) -> bool {
        self.asked.contains(&worker) || self.queued.iter().any(|queued| queued.worker == worker)
    }

    /// Asks it to open its log files anew. Until the application is loaded it ignores that, and has them open under their new names.
    pub(super) fn reopen_logs(&self) {
        if self.stage == Stage::Imported {
            pidfd_send_signal(&self.process.pidfd, Signal::USR1).ok();
        }
    }

    /// Kills it, and asks what the import started to leave. Its workers are in groups of their own.
    pub(super) fn end(&mut self) {
        self.stage = Stage::Dead;
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        // Once it is reaped, its number may be another group's.
        if waitid(self.by_pidfd(), look).is_ok() {
            kill_process_group(self.process.pid, Signal::TERM).ok();
        }
        pidfd_send_signal(&self.process.pidfd, Signal::KILL).ok();
    }

    fn by_pidfd(&self) -> WaitId<'_> {
        WaitId::PidFd(self.process.pidfd.as_fd())
    }

    /// Every fork that will never be answered, once the zygote is dead.
    pub(super) fn unanswered(&mut self) -> Vec<WorkerId> {
        self.queued.drain(..).map(|order| order.worker).chain(self.asked.drain(..)).collect()
    }
}

/// Sends one packet, and descriptors with it.
fn send(channel: &OwnedFd, message: &serde_json::Value, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let packet = message.to_string();
    loop {
        match pass::send(channel.as_fd(), packet.as_bytes(), fds) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result.map(drop),
        }
    }
}

impl Drop for Zygote {
    /// Nobody needs it any more. Its workers do not: they are our children. It is reaped as a stranger: the kernel may take long
    /// to end it.
    fn drop(&mut self) {
        self.end();
    }
}

fn packet(news: News) -> serde_json::Value {
    match news {
        News::Ended { pid } => json!({"ended": {"pid": pid}}),
        News::Scaled { workers } => json!({"scaled": {"workers": workers}}),
        News::Leave => json!({"leave": {"last": false}}),
        News::LeaveLast => json!({"leave": {"last": true}}),
    }
}

/// The script in memory that no file backs: nobody can change it under us.
pub(super) fn memory(script: &str) -> rustix::io::Result<OwnedFd> {
    let file = memfd_create("tuningfork-zygote", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut rest = script.as_bytes();
    while !rest.is_empty() {
        let written = rustix::io::write(&file, rest)?;
        rest = rest.get(written..).unwrap_or_default();
    }
    rustix::fs::fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    Ok(file)
}

#[cfg(test)]
mod tests;
