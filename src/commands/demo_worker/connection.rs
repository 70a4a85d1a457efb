//! One client's connection: reads heads, forgets bodies, writes answers, closes without losing the last one. Decides when the socket is
//! done; what a request means and when its time is up are the loop's.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown};

use super::http::{self, Head, Refusal};

/// Gunicorn's default `keepalive`.
const IDLE: Duration = Duration::from_secs(2);
/// The longest silence in the middle of a request or an answer.
const SILENCE: Duration = Duration::from_secs(30);
/// How long a client may go on sending after its last answer.
const LINGER: Duration = Duration::from_secs(1);
const CHUNK: usize = 16 << 10;

/// A non-blocking socket and what is going on with it. Registered edge-triggered, so each step goes on until the socket would block.
#[derive(Debug)]
pub(super) struct Connection {
    socket: OwnedFd,
    input: Vec<u8>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// A head is awaited.
    Reading { served_before: bool },
    /// The body is read and forgotten.
    Discarding { head: Head, left: u64 },
    /// The request is with the loop.
    Busy,
    /// The answer is on its way.
    Writing { answer: Vec<u8>, sent: usize, keep_alive: bool },
    /// The last answer is sent and the client has not closed.
    Lingering,
}

/// Why a connection stopped moving.
#[derive(Debug)]
pub(super) enum Progress {
    /// The socket would block, or the loop has not answered yet.
    Blocked,
    /// A request is complete; [`Connection::answer`] goes on.
    Request(Head),
    /// Nothing more will happen.
    Closed,
}

impl Connection {
    /// A connection that has said nothing yet.
    pub(super) const fn new(socket: OwnedFd) -> Self {
        Self { socket, input: Vec::new(), stage: Stage::Reading { served_before: false } }
    }

    /// Reads and writes until the socket would block, a request is complete or all is over.
    pub(super) fn advance(&mut self) -> Progress {
        loop {
            let step = match &self.stage {
                Stage::Reading { .. } => self.read_head(),
                Stage::Discarding { .. } => self.discard_body(),
                Stage::Busy => Err(Progress::Blocked),
                Stage::Writing { .. } => self.write_answer(),
                Stage::Lingering => {
                    self.input.clear();
                    self.fill()
                }
            };
            if let Err(progress) = step {
                return progress;
            }
        }
    }

    /// Hands over the answer to the request that [`advance`](Self::advance) gave.
    pub(super) fn answer(&mut self, answer: Vec<u8>, keep_alive: bool) {
        self.stage = Stage::Writing { answer, sent: 0, keep_alive };
    }

    /// How long the client may now stay silent; `None` while the request is with the loop.
    pub(super) const fn patience(&self) -> Option<Duration> {
        match &self.stage {
            Stage::Reading { served_before: true } if self.input.is_empty() => Some(IDLE),
            Stage::Reading { .. } | Stage::Discarding { .. } | Stage::Writing { .. } => Some(SILENCE),
            Stage::Busy => None,
            Stage::Lingering => Some(LINGER),
        }
    }

    /// Whether no request has begun.
    pub(super) const fn is_idle(&self) -> bool {
        matches!(self.stage, Stage::Reading { .. }) && self.input.is_empty()
    }

    fn read_head(&mut self) -> Result<(), Progress> {
        let parsed = if self.input.is_empty() { Ok(None) } else { http::parse(&self.input) };
        match parsed {
            Ok(Some(head)) => {
                self.input.drain(..head.length);
                self.stage = Stage::Discarding { left: head.body, head };
                Ok(())
            }
            Ok(None) => self.fill(),
            Err(Refusal(status)) => {
                self.answer(http::answer(status, b"", false, true), false);
                Ok(())
            }
        }
    }

    fn discard_body(&mut self) -> Result<(), Progress> {
        let Stage::Discarding { head, left } = &mut self.stage else {
            return Ok(());
        };
        let here = usize::try_from(*left).unwrap_or(usize::MAX).min(self.input.len());
        self.input.drain(..here);
        *left -= here as u64;
        if *left > 0 {
            return self.fill();
        }
        let head = head.clone();
        self.stage = Stage::Busy;
        Err(Progress::Request(head))
    }

    fn write_answer(&mut self) -> Result<(), Progress> {
        let Stage::Writing { answer, sent, keep_alive } = &mut self.stage else {
            return Ok(());
        };
        while *sent < answer.len() {
            match rustix::net::send(&self.socket, &answer[*sent..], SendFlags::NOSIGNAL) {
                Ok(count) => *sent += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Err(Progress::Blocked),
                Err(_) => return Err(Progress::Closed),
            }
        }
        if *keep_alive {
            self.stage = Stage::Reading { served_before: true };
            return Ok(());
        }
        self.close_gently()
    }

    /// close(2) with unread bytes makes TCP reset the connection, and the client may lose the answer: then its end is awaited first.
    fn close_gently(&mut self) -> Result<(), Progress> {
        let asked_for_more = !self.input.is_empty();
        self.stage = Stage::Lingering;
        if rustix::net::shutdown(&self.socket, Shutdown::Write).is_err() {
            return Err(Progress::Closed);
        }
        match self.fill() {
            Err(Progress::Blocked) if !asked_for_more => Err(Progress::Closed),
            other => other,
        }
    }

    fn fill(&mut self) -> Result<(), Progress> {
        self.input.reserve(CHUNK);
        let received = rustix::net::recv(&self.socket, spare_capacity(&mut self.input), RecvFlags::empty());
        match received {
            Ok((0, _)) => Err(Progress::Closed),
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(Errno::AGAIN) => Err(Progress::Blocked),
            Err(_) => Err(Progress::Closed),
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
