//! From a program to a process: fork, set up, execve. Everything is built before the fork; between fork and exec only
//! async-signal-safe calls are made, since other threads may hold the allocator's lock at that moment.

mod set_up;

use std::env;
use std::ffi::{CString, OsStr, OsString};
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::ptr;

use rustix::fs::{Mode, OFlags, open};
use rustix::io::fcntl_dupfd_cloexec;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::stdio::stdout;
use thiserror::Error;

use super::log::{Log, Mouth, Speaker};
use super::signals::held_back;
use super::standing::Standing;
use set_up::{CHDIR, EXECVE, STEPS, become_program};

/// Where passed descriptors begin in the new process (SD_LISTEN_FDS_START).
pub(super) const FIRST_FD: RawFd = 3;
/// Room for any pid in the environment, filled in after the fork.
const PID_DIGITS: &str = "0000000000";

/// Why a process could not be made.
#[derive(Debug, Error)]
pub(super) enum SpawnError {
    #[error("{program:?} is not an executable file in PATH")]
    NotFound { program: String },
    #[error("{}: {source}", program.display())]
    Unusable { program: PathBuf, source: io::Error },
    #[error("an argument or environment value holds a NUL byte")]
    Nul,
    #[error("{step} {}: {source}", path.display())]
    At { step: &'static str, path: PathBuf, source: io::Error },
    #[error("{step}: {source}")]
    Step { step: &'static str, source: io::Error },
}

impl SpawnError {
    /// There are no pipes for it.
    pub(super) fn pipes(source: io::Error) -> Self {
        Self::Step { step: "pipes for its output", source }
    }
}

/// Where a process writes what it has to say.
#[derive(Debug)]
pub enum Output {
    /// To our own standard output and error.
    Inherit,
    /// Through this log, by pipes of its own.
    Through(Log),
    /// Both to this file.
    To(OwnedFd),
}

impl Output {
    /// Pipes for one process, where it is to have some.
    pub(super) fn mouth(&self, speaker: Speaker) -> io::Result<Option<Mouth>> {
        match self {
            Self::Through(log) => log.mouth(speaker).map(Some),
            Self::Inherit | Self::To(_) => Ok(None),
        }
    }

    /// The end of what a process wrote to its standard error, if that is known.
    pub(super) fn last_words(&self, speaker: Speaker) -> String {
        match self {
            Self::Through(log) => log.last_words(speaker),
            Self::Inherit | Self::To(_) => String::new(),
        }
    }

    /// What becomes a process's standard output and error.
    pub(super) fn streams<'a>(&'a self, mouth: Option<&'a Mouth>) -> Streams<'a> {
        match (self, mouth) {
            (_, Some(Mouth { out, err })) => Streams(Some((out.as_fd(), err.as_fd()))),
            (Self::To(file), None) => Streams(Some((file.as_fd(), file.as_fd()))),
            (Self::Inherit | Self::Through(_), None) => Streams(None),
        }
    }
}

/// What becomes a process's standard output and error; ours, if there is nothing.
#[derive(Clone, Copy)]
pub(super) struct Streams<'a>(Option<(BorrowedFd<'a>, BorrowedFd<'a>)>);

impl<'a> Streams<'a> {
    /// Our standard output, and this standard error.
    pub(super) fn with_error(err: Option<&'a OwnedFd>) -> Self {
        Self(err.map(|err| (stdout(), err.as_fd())))
    }
}

/// What to run.
pub(super) struct Program<'a> {
    pub(super) argv: Vec<String>,
    pub(super) env: Vec<(OsString, OsString)>,
    pub(super) directory: &'a Path,
    /// Become 3, 4, … in the new process; nothing else from 3 up is open there.
    pub(super) fds: Vec<BorrowedFd<'a>>,
    pub(super) streams: Streams<'a>,
    pub(super) standing: Standing,
    /// Sets LISTEN_PID to the new process's own pid.
    pub(super) listen_pid: bool,
}

/// A process of ours, not yet waited for.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) pid: Pid,
    pub(super) pidfd: OwnedFd,
}

/// Everything the child needs, as the kernel wants it.
struct Prepared {
    path: CString,
    argv: Vec<CString>,
    env: Vec<CString>,
    /// Index in `env` and offset in it where the pid goes.
    pid_at: Option<(usize, usize)>,
    directory: CString,
    fds: Vec<OwnedFd>,
    /// The first number that no passed descriptor takes.
    above: RawFd,
    stdin: OwnedFd,
    streams: Option<(RawFd, RawFd)>,
    supervisor: libc::pid_t,
    standing: Standing,
}

/// Runs `program` in a process group of its own. It gets SIGTERM should this thread's process die.
pub(super) fn spawn(program: &Program<'_>) -> Result<Process, SpawnError> {
    let prepared = prepare(program)?;
    let step = |step| move |errno: rustix::io::Errno| SpawnError::Step { step, source: errno.into() };
    let (report, failed) = pipe_with(PipeFlags::CLOEXEC).map_err(step("pipe"))?;
    let file = PathBuf::from(OsStr::from_bytes(prepared.path.as_bytes()));
    let pid = fork_and_exec(prepared, failed)?;
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(|errno| {
        // Nobody could look after it. It is our unreaped child, so the pid is its own.
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
        rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty()).ok();
        step("pidfd_open")(errno)
    })?;
    let mut failure = [0_u8; 5];
    // The pipe closes at execve; until then the new process is not the program yet.
    match rustix::io::retry_on_intr(|| rustix::io::read(&report, &mut failure)) {
        Ok(5) => {
            rustix::io::retry_on_intr(|| rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty())).ok();
            let [number, errno @ ..] = failure;
            let step = STEPS.get(usize::from(number)).copied().unwrap_or("exec");
            let source = io::Error::from_raw_os_error(i32::from_ne_bytes(errno));
            Err(match number {
                CHDIR => SpawnError::At { step, path: program.directory.to_owned(), source },
                EXECVE => SpawnError::At { step, path: file, source },
                _ => SpawnError::Step { step, source },
            })
        }
        Ok(_) | Err(_) => Ok(Process { pid, pidfd }),
    }
}

fn prepare(program: &Program<'_>) -> Result<Prepared, SpawnError> {
    let name = program.argv.first().map_or("", String::as_str);
    let path_variable = program.env.iter().find(|(key, _)| key == "PATH").map(|(_, value)| value.as_os_str());
    let path = look_up(name, path_variable, program.directory)?;
    let mut env = program.env.iter().map(|(key, value)| pair(key, value)).collect::<Result<Vec<_>, _>>()?;
    let pid_at = program.listen_pid.then_some((env.len(), "LISTEN_PID=".len()));
    if program.listen_pid {
        env.push(pair(OsStr::new("LISTEN_PID"), OsStr::new(PID_DIGITS))?);
    }
    let step = |step| move |errno: rustix::io::Errno| SpawnError::Step { step, source: errno.into() };
    let above = FIRST_FD + RawFd::try_from(program.fds.len()).unwrap_or(RawFd::MAX - FIRST_FD);
    let fds: Result<Vec<_>, _> = program.fds.iter().map(|fd| fcntl_dupfd_cloexec(fd, above)).collect();
    Ok(Prepared {
        path: text(path.as_os_str())?,
        argv: program.argv.iter().map(|word| text(OsStr::new(word))).collect::<Result<_, _>>()?,
        env,
        pid_at,
        directory: text(program.directory.as_os_str())?,
        fds: fds.map_err(step("dup"))?,
        above,
        stdin: open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).map_err(step("open /dev/null"))?,
        streams: program.streams.0.map(|(out, err)| (out.as_raw_fd(), err.as_raw_fd())),
        supervisor: libc::pid_t::try_from(std::process::id()).unwrap_or(0),
        standing: program.standing.clone(),
    })
}

fn text(text: &OsStr) -> Result<CString, SpawnError> {
    CString::new(text.as_bytes()).map_err(|_| SpawnError::Nul)
}

fn pair(key: &OsStr, value: &OsStr) -> Result<CString, SpawnError> {
    CString::new([key.as_bytes(), b"=", value.as_bytes()].concat()).map_err(|_| SpawnError::Nul)
}

/// Finds the program as execvp(3) would, but with an error that can be told. A path with a slash starts at `directory`.
fn look_up(name: &str, path: Option<&OsStr>, directory: &Path) -> Result<PathBuf, SpawnError> {
    if name.contains('/') {
        let program = directory.join(name);
        return match check_executable(&program) {
            Ok(()) => Ok(program),
            Err(source) => Err(SpawnError::Unusable { program, source }),
        };
    }
    let path = path.map_or_else(|| OsString::from("/usr/local/bin:/usr/bin:/bin"), OsStr::to_owned);
    let found = env::split_paths(&path).map(|folder| folder.join(name)).find(|file| check_executable(file).is_ok());
    found.filter(|_| !name.is_empty()).ok_or_else(|| SpawnError::NotFound { program: name.to_owned() })
}

fn check_executable(file: &Path) -> io::Result<()> {
    let about = fs::metadata(file)?;
    let is_executable = about.is_file() && about.permissions().mode() & 0o111 != 0;
    if is_executable { Ok(()) } else { Err(io::Error::other("not an executable file")) }
}

#[expect(unsafe_code, reason = "fork and what follows it until execve")]
fn fork_and_exec(mut prepared: Prepared, failed: OwnedFd) -> Result<Pid, SpawnError> {
    let pointers =
        |words: &[CString]| -> Vec<*const libc::c_char> { words.iter().map(|word| word.as_ptr()).chain([ptr::null()]).collect() };
    let argv = pointers(&prepared.argv);
    let mut env_bytes: Vec<Vec<u8>> = std::mem::take(&mut prepared.env).into_iter().map(CString::into_bytes_with_nul).collect();
    let env: Vec<*mut libc::c_char> =
        env_bytes.iter_mut().map(|entry| entry.as_mut_ptr().cast()).chain([ptr::null_mut()]).collect();
    // Until a child has the default actions, our handlers would swallow what comes for it.
    let pid = held_back(|| {
        // SAFETY: fork is called on a thread that lives as long as the process (PDEATHSIG follows the thread). The child runs only
        // `become_program`, which makes async-signal-safe calls on memory that was allocated before.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            // SAFETY: this is the child; every pointer is NUL-terminated, lives in `prepared`, `argv` or `env_bytes`, and is not freed:
            // `become_program` never returns.
            unsafe { become_program(&prepared, &argv, &env, failed.as_raw_fd()) }
        }
        // Of a negative number a pid must not be made.
        Some(pid).filter(|pid| *pid > 0).and_then(Pid::from_raw).ok_or_else(io::Error::last_os_error)
    });
    drop((env_bytes, failed));
    pid.map_err(|source| SpawnError::Step { step: "fork", source })
}
