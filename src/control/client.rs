//! The side of who asks. Blocks, for at most some seconds. Refuses to ask strangers.

use std::io::{self, ErrorKind, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{self, Path, PathBuf};
use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::io::AsyncReadExt;

use super::{Excerpt, Granted, Lent, MAX_REPLY, Reply, Request, Status};
use crate::sys::listen::{ListenError, Listener, Origin};
use crate::sys::pass;
use crate::sys::peer::{self, Peer};

/// How long the supervisor may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a supervisor could not be asked, or did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// Nobody can be asked there.
    #[error("{path}: {source}; {hint}")]
    Unreachable {
        /// The socket.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
        /// What to do.
        hint: &'static str,
    },
    /// Who listens there is not who may be asked.
    #[error("{path}: user {user} listens there, who is neither root nor the user of the service: whoever made this socket, do not trust it", path = path.display())]
    Stranger {
        /// The socket.
        path: PathBuf,
        /// Whose it is.
        user: u32,
    },
    /// Nobody is where a service of that configuration would be.
    #[error("no running service of {config} is found: nobody listens at {places}; {hint}", config = config.display(), places = list(places), hint = hint(others))]
    NotFound {
        /// The configuration.
        config: PathBuf,
        /// Where it was looked.
        places: Vec<PathBuf>,
        /// Control sockets of other services.
        others: Vec<PathBuf>,
    },
    /// The same, and there is no such configuration either.
    #[error("{config}: {source}; nor is a service found that `tuningfork gunicorn` started in that folder. Name the configuration with -c; {hint}", config = config.display(), hint = hint(others))]
    NoConfig {
        /// The configuration.
        config: PathBuf,
        /// The system's words.
        source: io::Error,
        /// Control sockets of other services.
        others: Vec<PathBuf>,
    },
    /// More than one may be meant.
    #[error("several services run here: say which one is meant by its control socket, {}", options(sockets))]
    Several {
        /// Their sockets.
        sockets: Vec<PathBuf>,
    },
    /// The conversation broke off.
    #[error("the supervisor does not answer: {0}")]
    Broken(#[from] io::Error),
    /// The answer makes no sense.
    #[error("the supervisor's answer is not understood ({0}): is it of another version?")]
    Foreign(String),
    /// It said no.
    #[error("the supervisor refuses: {0}")]
    Refused(String),
    /// What it passed is no listening socket.
    #[error(transparent)]
    Listen(#[from] ListenError),
}

/// Whether `us` may believe `user`. Only root asks about others' services, and only where nobody but the service's user may put a socket.
pub(super) fn is_trusted(user: u32, us: u32, owner_of_folder: Option<u32>) -> bool {
    user == 0 || user == us || us == 0 && owner_of_folder == Some(user)
}

/// How to name a socket that is not found by a configuration.
fn hint(others: &[PathBuf]) -> String {
    if others.is_empty() {
        "if it runs with another control socket, name that with --socket".to_owned()
    } else {
        format!("if it is a service of one of these sockets, say so: {}", options(others))
    }
}

fn options(sockets: &[PathBuf]) -> String {
    sockets.iter().map(|socket| format!("--socket {}", socket.display())).collect::<Vec<_>>().join(", or ")
}

fn list(places: &[PathBuf]) -> String {
    places.iter().map(|place| place.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// A connection to a supervisor.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    /// What came behind the last line.
    unread: Vec<u8>,
}

impl Client {
    /// Connects to a control socket, if root or our own user listens there; for root also if the owner of its folder does.
    pub fn connect(path: &Path) -> Result<Self, ControlError> {
        let connected = UnixStream::connect(path).and_then(|stream| {
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            let user = peer::user(&stream)?;
            Ok((stream, user))
        });
        let (stream, user) = connected.map_err(|source| {
            let hint = if source.kind() == ErrorKind::PermissionDenied {
                "run this as root or as the user of the service"
            } else {
                "is the service running, with this socket under [control]?"
            };
            ControlError::Unreachable { path: path.to_owned(), source, hint }
        })?;
        let place = path::absolute(path).unwrap_or_default();
        let folder = place.parent().and_then(|folder| folder.metadata().ok()).map(|about| about.uid());
        if !is_trusted(user, pass::own_user(), folder) {
            return Err(ControlError::Stranger { path: path.to_owned(), user });
        }
        Ok(Self { stream, unread: Vec::new() })
    }

    /// How the service is.
    pub fn status(&mut self) -> Result<Status, ControlError> {
        self.ask(Request::Status).map(|(status, _)| status)
    }

    /// The same, without what workers used.
    /// After a change beyond `after`, or a second.
    pub fn progress(&mut self, after: Option<u64>) -> Result<Status, ControlError> {
        self.ask(Request::Progress { after }).map(|(status, _)| status)
    }

    /// The supervisor's process.
    #[must_use]
    pub fn process(&self) -> Option<Peer> {
        Peer::of(&self.stream)
    }

    /// The new program's process of which `status` tells, if it lives and its number is the same here.
    #[must_use]
    pub fn successor(&self, status: &Status) -> Option<Peer> {
        Peer::named(&self.stream, status.pid, status.successor?)
    }

    /// Asks for the log; the answers are [`Client::excerpt`]s.
    pub fn read_log(&mut self, slot: Option<u16>, follow: bool) -> Result<(), ControlError> {
        // What is followed may be silent for as long as it likes.
        self.stream.set_read_timeout(if follow { None } else { Some(PATIENCE) })?;
        self.send(Request::Logs { slot, follow })?;
        Ok(())
    }

    /// The next part of the log.
    pub fn excerpt(&mut self) -> Result<Excerpt, ControlError> {
        self.hear().map(|(excerpt, _)| excerpt)
    }

    /// Asks for a change. What comes back says what will be done.
    pub fn change(&mut self, request: Request) -> Result<Granted, ControlError> {
        self.ask(request).map(|(granted, _)| granted)
    }

    /// Borrows the listening sockets. Close them before the lease.
    pub fn listeners(mut self) -> Result<(Vec<Listener>, Lease), ControlError> {
        let (lent, fds): (Lent, _) = self.ask(Request::Listeners)?;
        if lent.listeners.len() != fds.len() {
            return Err(ControlError::Foreign(format!("{} sockets for {} addresses", fds.len(), lent.listeners.len())));
        }
        let received = |fd| Listener::received(fd, Origin::Theirs("lent".to_owned()));
        let listeners = fds.into_iter().map(received).collect::<Result<_, _>>()?;
        Ok((listeners, Lease { stream: self.stream }))
    }

    fn ask<T: DeserializeOwned>(&mut self, request: Request) -> Result<(T, Vec<OwnedFd>), ControlError> {
        let asked = self.send(request);
        // Whoever may not ask is told so before it has asked.
        let (line, fds) = match (self.receive_line(), asked) {
            (Err(ControlError::Broken(_)), Err(error)) => return Err(error.into()),
            (received, _) => received?,
        };
        read(&line, fds)
    }

    fn send(&mut self, request: Request) -> io::Result<()> {
        let mut line = serde_json::to_vec(&request)?;
        line.push(b'\n');
        self.stream.write_all(&line)
    }

    fn hear<T: DeserializeOwned>(&mut self) -> Result<(T, Vec<OwnedFd>), ControlError> {
        let (line, fds) = self.receive_line()?;
        read(&line, fds)
    }

    fn receive_line(&mut self) -> Result<(Vec<u8>, Vec<OwnedFd>), ControlError> {
        let mut piece = vec![0; 16 << 10];
        let mut line = std::mem::take(&mut self.unread);
        let mut fds = Vec::new();
        let mut searched = 0;
        loop {
            if let Some(end) = line[searched..].iter().position(|byte| *byte == b'\n') {
                self.unread = line.split_off(searched + end + 1);
                return Ok((line, fds));
            }
            searched = line.len();
            if line.len() > MAX_REPLY {
                return Err(ControlError::Foreign(format!("longer than {MAX_REPLY} bytes")));
            }
            let (length, received) = pass::receive(self.stream.as_fd(), &mut piece)?;
            if length == 0 {
                return Err(io::Error::from(ErrorKind::UnexpectedEof).into());
            }
            line.extend_from_slice(piece.get(..length).unwrap_or_default());
            fds.extend(received);
        }
    }
}

fn read<T: DeserializeOwned>(line: &[u8], fds: Vec<OwnedFd>) -> Result<(T, Vec<OwnedFd>), ControlError> {
    match serde_json::from_slice(line) {
        Ok(Reply::Ok(reply)) => Ok((reply, fds)),
        Ok(Reply::Error(refusal)) => Err(ControlError::Refused(refusal)),
        Err(error) => Err(ControlError::Foreign(error.to_string())),
    }
}

/// The right to use the listening sockets, as long as the supervisor does not take it back.
#[derive(Debug)]
pub struct Lease {
    stream: UnixStream,
}

impl Lease {
    /// Waits until the supervisor wants the sockets back, or is gone. Needs a tokio runtime with I/O.
    pub async fn recalled(&self) -> io::Result<()> {
        let stream = self.stream.try_clone()?;
        stream.set_nonblocking(true)?;
        let mut stream = tokio::net::UnixStream::from_std(stream)?;
        let mut ignored = [0; 64];
        while stream.read(&mut ignored).await.is_ok_and(|length| length > 0) {}
        Ok(())
    }

    /// Whether the supervisor lives: once it is gone it cannot be told anything.
    #[must_use]
    pub fn is_held(&self) -> bool {
        (&self.stream).write_all(b"\n").is_ok()
    }
}
