//! Reads along on one connection: cuts a copy of its bytes into requests and their answers. What it does not understand it
//! stops following; it never touches the bytes themselves. Pure: the time is passed in.

use super::head::{Body, Head, MAX_HEAD};
use super::reason::Reason;
use crate::recording::{BodyPolicy, Request, UnixNanos};
use crate::replay::{Answer, Chunked, FramingError, Progress, Response, Witness, head_end};
use crate::units::Moment;

/// The longest body that is kept, bytes: in base64 and with its headers it fits into a line of a recording.
pub const MAX_BODY: usize = 512 << 10;

/// When bytes were seen, on both clocks.
#[derive(Clone, Copy, Debug)]
pub struct Time {
    /// For durations.
    pub moment: Moment,
    /// For the recording.
    pub unix: UnixNanos,
}

/// What became of a request.
#[derive(Debug, PartialEq)]
pub enum Seen {
    /// It is complete, and answered.
    Request(Box<Request>),
    /// It is not recorded.
    Skipped(Reason),
    /// It is not recorded, and nothing of this connection will be any more. No request may have been open.
    Lost(Reason),
}

/// One connection.
#[derive(Debug)]
pub struct Follower {
    connection: Box<str>,
    bodies: BodyPolicy,
    /// Requests begun.
    ordinal: u64,
    open: Option<Open>,
    response: Response,
    follows: bool,
    last: Moment,
}

/// A request that is being sent or answered.
#[derive(Debug)]
struct Open {
    since: Time,
    sending: Sending,
    head: Vec<u8>,
    /// Up to where `head` was searched for its end.
    searched: usize,
    parsed: Option<Head>,
    body: Vec<u8>,
    is_too_long: bool,
    answer: Option<(Answer, Moment)>,
}

#[derive(Clone, Copy, Debug)]
enum Sending {
    Head,
    Length { left: u64 },
    Chunked(Chunked),
    Done,
}

/// The content of chunks that came together; as long as what was read at once.
#[derive(Default)]
struct Content(Vec<u8>);

impl Witness for Content {
    fn content(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }
}

impl Follower {
    /// A connection of this number, on which nothing was sent yet.
    #[must_use]
    pub fn new(connection: u64, bodies: BodyPolicy, now: Moment) -> Self {
        Self {
            connection: connection.to_string().into(),
            bodies,
            ordinal: 0,
            open: None,
            response: Response::new(u64::MAX),
            follows: true,
            last: now,
        }
    }

    /// Since when nothing is under way: no request is open. `None` if one is, or if nobody knows.
    #[must_use]
    pub fn quiet_since(&self) -> Option<Moment> {
        (self.follows && self.open.is_none()).then_some(self.last)
    }

    /// Bytes from the client. Mostly they complete nothing, and at most one request that was answered before it was sent.
    pub fn client_said(&mut self, mut bytes: &[u8], now: Time) -> Vec<Seen> {
        self.last = now.moment;
        let mut seen = Vec::new();
        while self.follows && !bytes.is_empty() {
            if self.open.is_none() {
                // Empty lines before a request are passed over (RFC 9112, 2.2).
                let start = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n'));
                bytes = start.map_or(&[][..], |start| &bytes[start..]);
                if bytes.is_empty() {
                    break;
                }
                self.ordinal += 1;
            }
            let open = self.open.get_or_insert_with(|| Open::new(now));
            let had_head = open.parsed.is_some();
            match open.take(bytes, self.bodies) {
                Ok(taken) => bytes = &bytes[taken..],
                Err(reason) => seen.push(lose(&mut self.follows, reason)),
            }
            if let (false, Some(head)) = (had_head, &open.parsed) {
                self.response.begin(head.answer);
            }
            seen.extend(self.complete());
        }
        seen
    }

    /// Bytes from the server.
    pub fn server_said(&mut self, bytes: &[u8], now: Moment) -> Option<Seen> {
        self.last = now;
        if !self.follows || bytes.is_empty() {
            return None;
        }
        let Some(open) = self.open.as_mut().filter(|open| open.parsed.is_some()) else {
            return Some(lose(&mut self.follows, Reason::Answer));
        };
        match self.response.feed(bytes) {
            Ok(Progress::Partial) => None,
            Ok(Progress::Complete(answer)) => {
                open.answer = Some((answer, now));
                self.complete()
            }
            // The only way to it that a server takes.
            Err(FramingError::Interim) => Some(lose(&mut self.follows, Reason::Upgraded)),
            Err(_) => Some(lose(&mut self.follows, Reason::Answer)),
        }
    }

    /// The server sends nothing more. Some answers end that way.
    pub fn server_closed(&mut self, now: Moment) -> Option<Seen> {
        let open = self.open.as_mut().filter(|open| self.follows && open.parsed.is_some() && open.answer.is_none())?;
        open.answer = Some((self.response.finish()?, now));
        self.complete()
    }

    /// The connection is over.
    pub fn ended(&mut self) -> Option<Seen> {
        (self.follows && self.open.is_some()).then(|| lose(&mut self.follows, Reason::CutOff))
    }

    /// Whether every request has its whole answer. False if nobody knows.
    #[must_use]
    pub fn is_answered(&self) -> bool {
        self.follows && self.open.as_ref().is_none_or(|open| open.answer.is_some())
    }

    /// Whether a request is open: one that will not be recorded if the connection is lost now.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// The open request, if it is both sent and answered.
    fn complete(&mut self) -> Option<Seen> {
        let open = self.open.take_if(|open| matches!(open.sending, Sending::Done) && open.answer.is_some())?;
        let (answer, end) = open.answer?;
        let Some(text) = open.parsed.and_then(|head| head.text) else { return Some(Seen::Skipped(Reason::NotText)) };
        if open.is_too_long {
            return Some(Seen::Skipped(Reason::BodyTooLong));
        }
        Some(Seen::Request(Box::new(Request {
            at: open.since.unix,
            method: text.method,
            target: text.target,
            connection: Some(self.connection.clone()),
            ordinal: Some(self.ordinal),
            headers: text.headers,
            body: open.body,
            status: Some(answer.status),
            duration: Some(end.since(open.since.moment)),
            response_bytes: Some(answer.content),
        })))
    }
}

fn lose(follows: &mut bool, reason: Reason) -> Seen {
    *follows = false;
    Seen::Lost(reason)
}

impl Open {
    fn new(since: Time) -> Self {
        Self {
            since,
            sending: Sending::Head,
            head: Vec::new(),
            searched: 0,
            parsed: None,
            body: Vec::new(),
            is_too_long: false,
            answer: None,
        }
    }

    /// Takes what of `bytes` belongs to this request, and says how many they are.
    fn take(&mut self, bytes: &[u8], bodies: BodyPolicy) -> Result<usize, Reason> {
        match &mut self.sending {
            Sending::Head => self.take_head(bytes),
            Sending::Length { left } => {
                let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= taken as u64;
                if *left == 0 {
                    self.sending = Sending::Done;
                }
                self.keep(&bytes[..taken], bodies);
                Ok(taken)
            }
            Sending::Chunked(_) => self.take_chunks(bytes, bodies),
            Sending::Done => Err(Reason::Pipelined),
        }
    }

    fn take_head(&mut self, bytes: &[u8]) -> Result<usize, Reason> {
        let before = self.head.len();
        let room = MAX_HEAD + 1 - before;
        self.head.extend_from_slice(&bytes[..bytes.len().min(room)]);
        let Some(end) = head_end(&self.head, self.searched) else {
            if self.head.len() > MAX_HEAD {
                return Err(Reason::HeadTooLong);
            }
            // The last three bytes may be the start of the end.
            self.searched = self.head.len().saturating_sub(3);
            return Ok(bytes.len());
        };
        let head = Head::parse(&self.head[..end])?;
        self.sending = match head.body {
            Body::Length(0) => Sending::Done,
            Body::Length(left) => Sending::Length { left },
            Body::Chunked => Sending::Chunked(Chunked::START),
        };
        self.parsed = Some(head);
        self.head = Vec::new();
        Ok(end - before)
    }

    fn take_chunks(&mut self, bytes: &[u8], bodies: BodyPolicy) -> Result<usize, Reason> {
        let Sending::Chunked(chunks) = &mut self.sending else { return Ok(0) };
        let mut content = Content::default();
        let fed = chunks.feed(bytes, &mut content).map_err(|_| Reason::Malformed)?;
        if fed.finished {
            self.sending = Sending::Done;
        }
        self.keep(&content.0, bodies);
        Ok(fed.consumed)
    }

    fn keep(&mut self, content: &[u8], bodies: BodyPolicy) {
        if bodies == BodyPolicy::Dropped || self.is_too_long {
            return;
        }
        if self.body.len() + content.len() > MAX_BODY {
            self.is_too_long = true;
            self.body = Vec::new();
        } else {
            self.body.extend_from_slice(content);
        }
    }
}

#[cfg(test)]
mod tests;
