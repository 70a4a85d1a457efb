//! The supervisor's end of a zygote: a Python process that has imported the application once and forks workers from it.
//! The other end are the Python files in zygote/; they exchange one JSON object a packet.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{MemfdFlags, SealFlags, memfd_create};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, socketpair};
use rustix::process::{Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_send_signal, waitid};
use serde::Deserialize;
use serde_json::json;

use super::spawn::{Output, Process, Program, SpawnError, spawn};
use super::standing::Standing;
use crate::config::{Config, PythonApp};
use crate::units::{Slot, WorkerId};

/// One text, because the interpreter gets one file.
const SCRIPT: &str = concat!(include_str!("zygote/workers.py"), "\n\n", include_str!("zygote/main.py"));
/// Longest packet taken, bytes.
const MAX_PACKET: usize = 64 * 1024;

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

/// A worker to be forked.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) worker: WorkerId,
    pub(super) slot: Slot,
    /// The cores it keeps to; all if absent.
    pub(super) cores: Option<Vec<usize>>,
}

/// A running zygote.
pub(super) struct Zygote {
    channel: OwnedFd,
    process: Process,
    stage: Stage,
    /// Forks asked for and not sent: the application is being imported, or the channel is full.
    queued: VecDeque<Order>,
    /// Forks asked for and not answered.
    asked: Vec<WorkerId>,
}

/// What a zygote is started with.
pub(super) struct Birth<'a> {
    pub(super) config: &'a Config,
    pub(super) app: &'a PythonApp,
    pub(super) env: Vec<(OsString, OsString)>,
    pub(super) listeners: Vec<BorrowedFd<'a>>,
    pub(super) output: &'a Output,
    pub(super) standing: Standing,
}

impl Zygote {
    pub(super) fn start(birth: &Birth<'_>) -> Result<Self, SpawnError> {
        let step = |step| move |errno: Errno| SpawnError::Step { step, source: errno.into() };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let (channel, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).map_err(step("socketpair"))?;
        rustix::io::ioctl_fionbio(&theirs, false).map_err(step("ioctl"))?;
        let script = script().map_err(step("memfd_create"))?;
        let mut fds = vec![theirs.as_fd(), script.as_fd()];
        fds.extend(birth.listeners.iter().copied());
        let program = Program {
            argv: vec![birth.app.interpreter.to_string_lossy().into_owned(), "/dev/fd/4".to_owned()],
            env: birth.env.clone(),
            directory: &birth.app.directory,
            fds,
            output: birth.output,
            standing: birth.standing.clone(),
            listen_pid: false,
        };
        let process = spawn(&program)?;
        let mut zygote = Self { channel, process, stage: Stage::Importing, queued: VecDeque::new(), asked: Vec::new() };
        zygote.send(&settings(birth)).map_err(step("send"))?;
        Ok(zygote)
    }

    pub(super) fn channel(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }

    pub(super) const fn stage(&self) -> Stage {
        self.stage
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

    /// Sends what is asked for, as far as the channel takes it; the rest follows after the next reply.
    fn flush(&mut self) {
        while self.stage == Stage::Imported
            && let Some(Order { worker, slot, cores }) = self.queued.front()
        {
            let worker = *worker;
            match self.send(&json!({"fork": {"worker": worker.0, "slot": slot.0, "cores": cores}})) {
                Ok(()) => {
                    self.queued.pop_front();
                    self.asked.push(worker);
                }
                Err(Errno::AGAIN) => return,
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
                    Ok(reply) => return Some(self.note(reply)),
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

    fn note(&mut self, reply: Reply) -> Reply {
        match &reply {
            Reply::Imported(_) => self.stage = Stage::Imported,
            Reply::Failed(_) => self.stage = Stage::Dead,
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

    fn send(&mut self, message: &serde_json::Value) -> rustix::io::Result<()> {
        let packet = message.to_string();
        rustix::io::retry_on_intr(|| rustix::net::send(&self.channel, packet.as_bytes(), SendFlags::NOSIGNAL))?;
        Ok(())
    }
}

impl Drop for Zygote {
    /// Nobody needs it any more. Its workers do not: they are our children.
    fn drop(&mut self) {
        self.end();
        // By its pidfd: the pid may be another's if it was reaped already.
        rustix::io::retry_on_intr(|| waitid(self.by_pidfd(), WaitIdOptions::EXITED)).ok();
    }
}

fn settings(birth: &Birth<'_>) -> serde_json::Value {
    let timing = &birth.config.timing;
    json!({"settings": {
        "app": birth.app.app,
        "worker_class": birth.app.worker_class.name(),
        "directory": birth.app.directory.to_string_lossy(),
        "connections": birth.config.connections.get(),
        "workers": birth.config.workers.get(),
        "graceful_timeout": timing.graceful_timeout.as_secs_f64(),
        "timeout": timing.timeout.as_secs_f64(),
        "max_requests": birth.config.care.max_requests.map_or(0, std::num::NonZeroU32::get),
        "max_requests_jitter": birth.config.care.max_requests_jitter,
        "listeners": birth.listeners.len(),
        "supervisor": std::process::id(),
    }})
}

/// The script in memory that no file backs: nobody can change it under us.
fn script() -> rustix::io::Result<OwnedFd> {
    let file = memfd_create("tuningfork-zygote", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut rest = SCRIPT.as_bytes();
    while !rest.is_empty() {
        let written = rustix::io::write(&file, rest)?;
        rest = rest.get(written..).unwrap_or_default();
    }
    rustix::fs::fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
    Ok(file)
}
