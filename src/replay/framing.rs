//! Where a response ends (RFC 9112, 6.3), without sockets: fed in pieces of any size, it says what the status is, how many bytes the
//! response takes, and whether the connection can carry another. Content is counted, not kept. Refuses what a client could read in
//! two ways, and everything beyond its bounds.

use std::mem::MaybeUninit;

use super::chunked::Chunked;

/// The longest response head, bytes.
pub const MAX_HEAD: usize = 64 << 10;
/// The most interim (1xx) responses before a final one.
pub const MAX_INTERIM: u8 = 16;
/// The most header lines of a response.
const MAX_HEADERS: usize = 128;

/// Whether a response to this request can have a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseBody {
    /// It can, if its status allows.
    Possible,
    /// It was asked for with HEAD.
    Never,
}

/// What a server did wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FramingError {
    /// The head is not HTTP/1.
    #[error("not an HTTP/1 response")]
    Head,
    /// The head goes on beyond [`MAX_HEAD`].
    #[error("response head longer than {MAX_HEAD} bytes")]
    HeadTooLong,
    /// More than [`MAX_INTERIM`] interim responses, or a switch of protocols nobody asked for.
    #[error("interim responses without end")]
    Interim,
    /// Content-Length is no number, or two different ones.
    #[error("unusable Content-Length")]
    Length,
    /// The chunked coding is broken.
    #[error("broken chunked coding")]
    Chunk,
    /// The body is longer than allowed.
    #[error("response body longer than {0} bytes")]
    BodyTooLong(u64),
    /// Bytes follow the response that nobody asked for.
    #[error("bytes after the response")]
    Surplus,
}

/// How far a response has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// More is to come.
    Partial,
    /// It is complete.
    Complete(Answer),
}

/// A complete response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Bytes of its content, without framing.
    pub content: u64,
    /// Whether the connection can carry another request.
    pub reusable: bool,
}

/// Is shown what passes by. Nothing is copied for it.
pub trait Witness {
    /// A piece of the content, in order.
    fn content(&mut self, _bytes: &[u8]) {}
    /// The value of a Set-Cookie header of the final response.
    fn cookie_set(&mut self, _value: &[u8]) {}
}

/// Looks away.
impl Witness for () {}

/// One response in the making. [`begin`](Self::begin) makes it ready for the next and keeps its memory.
#[derive(Debug)]
pub struct Response {
    body: ResponseBody,
    max_content: u64,
    /// The part of a head that came without its end.
    head: Vec<u8>,
    /// Up to where `head` was searched for its end.
    searched: usize,
    interim: u8,
    state: State,
    status: u16,
    content: u64,
    reusable: bool,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Head,
    Length { left: u64 },
    Chunked(Chunked),
    UntilClose,
    Complete,
}

impl Response {
    /// A response whose body may have `max_content` bytes.
    #[must_use]
    pub fn new(max_content: u64) -> Self {
        Self {
            body: ResponseBody::Possible,
            max_content,
            head: Vec::new(),
            searched: 0,
            interim: 0,
            state: State::Head,
            status: 0,
            content: 0,
            reusable: false,
        }
    }

    /// Forgets the last response and expects the next.
    pub fn begin(&mut self, body: ResponseBody) {
        self.body = body;
        self.head.clear();
        self.searched = 0;
        self.interim = 0;
        self.state = State::Head;
        self.status = 0;
        self.content = 0;
        self.reusable = false;
    }

    /// Takes the next bytes from the connection. Once the response is complete, any further byte is an error.
    pub fn feed(&mut self, input: &[u8]) -> Result<Progress, FramingError> {
        self.feed_before(input, &mut ())
    }

    /// As [`feed`](Self::feed), before a witness.
    pub fn feed_before(&mut self, mut input: &[u8], witness: &mut impl Witness) -> Result<Progress, FramingError> {
        while !input.is_empty() {
            let consumed = match &mut self.state {
                State::Head => self.feed_head(input, witness)?,
                State::Length { left } => {
                    let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                    *left -= taken as u64;
                    if *left == 0 {
                        self.state = State::Complete;
                    }
                    self.count(taken as u64)?;
                    witness.content(&input[..taken]);
                    taken
                }
                State::Chunked(chunked) => {
                    let fed = chunked.feed(input, witness)?;
                    if fed.finished {
                        self.state = State::Complete;
                    }
                    self.count(fed.content)?;
                    fed.consumed
                }
                State::UntilClose => {
                    self.count(input.len() as u64)?;
                    witness.content(input);
                    input.len()
                }
                State::Complete => return Err(FramingError::Surplus),
            };
            input = &input[consumed..];
        }
        Ok(match self.state {
            State::Complete => Progress::Complete(self.answer()),
            State::Head | State::Length { .. } | State::Chunked(_) | State::UntilClose => Progress::Partial,
        })
    }

    /// The connection has ended: a complete response if it may end that way, `None` if it was cut short.
    #[must_use]
    pub fn finish(&self) -> Option<Answer> {
        match self.state {
            State::UntilClose | State::Complete => Some(Answer { reusable: false, ..self.answer() }),
            State::Head | State::Length { .. } | State::Chunked(_) => None,
        }
    }

    fn answer(&self) -> Answer {
        Answer { status: self.status, content: self.content, reusable: self.reusable }
    }

    fn count(&mut self, content: u64) -> Result<(), FramingError> {
        self.content = self.content.saturating_add(content);
        if self.content > self.max_content { Err(FramingError::BodyTooLong(self.max_content)) } else { Ok(()) }
    }

    /// Collects a head until it is whole; one that comes whole is never copied, and looked at only once if it is in order.
    fn feed_head(&mut self, input: &[u8], witness: &mut impl Witness) -> Result<usize, FramingError> {
        if self.head.is_empty() {
            let mut space = header_space();
            // The parser would skip empty lines before the status line.
            if input.starts_with(b"HTTP/")
                && let Some((end, head)) = parse(&input[..input.len().min(MAX_HEAD)], &mut space)
            {
                self.take_head(&head, witness)?;
                return Ok(end);
            }
            if !may_be_head(input) {
                return Err(FramingError::Head);
            }
            if let Some(end) = head_end(input, 0) {
                self.read_head(input.get(..end.min(MAX_HEAD + 1)).unwrap_or(input), witness)?;
                return Ok(end);
            }
        }
        let before = self.head.len();
        self.head.extend_from_slice(&input[..input.len().min(MAX_HEAD + 1 - before)]);
        if !may_be_head(&self.head) {
            return Err(FramingError::Head);
        }
        let Some(end) = head_end(&self.head, self.searched) else {
            if self.head.len() > MAX_HEAD {
                return Err(FramingError::HeadTooLong);
            }
            // The last three bytes may be the start of the end.
            self.searched = self.head.len().saturating_sub(3);
            return Ok(input.len());
        };
        let mut head = std::mem::take(&mut self.head);
        let read = self.read_head(&head[..end], witness);
        head.clear();
        self.head = head;
        self.searched = 0;
        read.map(|()| end - before)
    }

    fn read_head(&mut self, bytes: &[u8], witness: &mut impl Witness) -> Result<(), FramingError> {
        if bytes.len() > MAX_HEAD {
            return Err(FramingError::HeadTooLong);
        }
        let mut space = header_space();
        let (_, head) = parse(bytes, &mut space).ok_or(FramingError::Head)?;
        self.take_head(&head, witness)
    }

    fn take_head(&mut self, head: &httparse::Response<'_, '_>, witness: &mut impl Witness) -> Result<(), FramingError> {
        let (Some(status), Some(minor)) = (head.code, head.version) else {
            return Err(FramingError::Head);
        };
        match status {
            101 => Err(FramingError::Interim),
            100..=199 => {
                self.interim += 1;
                if self.interim > MAX_INTERIM { Err(FramingError::Interim) } else { Ok(()) }
            }
            200..=599 => {
                let said = Said::of(head.headers, witness)?;
                self.status = status;
                self.reusable = said.reusable(minor);
                self.state = self.body_state(&said);
                match self.state {
                    State::Length { left } if left > self.max_content => Err(FramingError::BodyTooLong(self.max_content)),
                    State::UntilClose => {
                        self.reusable = false;
                        Ok(())
                    }
                    State::Head | State::Length { .. } | State::Chunked(_) | State::Complete => Ok(()),
                }
            }
            _ => Err(FramingError::Head),
        }
    }

    fn body_state(&self, said: &Said) -> State {
        if self.body == ResponseBody::Never || matches!(self.status, 204 | 304) {
            return State::Complete;
        }
        match (said.coding, said.length) {
            (Some(Coding::Chunked), _) => State::Chunked(Chunked::START),
            (Some(Coding::Other), _) | (None, None) => State::UntilClose,
            (None, Some(0)) => State::Complete,
            (None, Some(left)) => State::Length { left },
        }
    }
}

type HeaderSpace<'a> = [MaybeUninit<httparse::Header<'a>>; MAX_HEADERS];

/// Room for headers, which is not cleared: that would cost more than to parse them.
const fn header_space<'a>() -> HeaderSpace<'a> {
    [const { MaybeUninit::uninit() }; MAX_HEADERS]
}

/// The head that `bytes` begin with, and its length, if it is whole and in order.
fn parse<'h, 'b>(bytes: &'b [u8], space: &'h mut HeaderSpace<'b>) -> Option<(usize, httparse::Response<'h, 'b>)> {
    let mut head = httparse::Response::new(&mut []);
    match httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut head, bytes, space) {
        Ok(httparse::Status::Complete(end)) => Some((end, head)),
        Ok(httparse::Status::Partial) | Err(_) => None,
    }
}

/// Whether a head may begin like this. What is none is refused at once: who greets like a server of another protocol, and waits, would
/// seem to answer late. The parser passes over empty lines.
fn may_be_head(bytes: &[u8]) -> bool {
    const BEGINNING: &[u8] = b"HTTP/1.";
    let mut rest = bytes;
    while let [b'\r', b'\n', behind @ ..] | [b'\n', behind @ ..] = rest {
        rest = behind;
    }
    let length = rest.len().min(BEGINNING.len());
    rest == b"\r" || rest[..length] == BEGINNING[..length]
}

/// Where the empty line after a head ends, if it is in `bytes`. What is before `from` was searched already.
pub(crate) fn head_end(bytes: &[u8], from: usize) -> Option<usize> {
    memchr::memchr_iter(b'\n', bytes.get(from..)?).map(|at| from + at).find_map(|feed| match bytes.get(feed + 1..)? {
        [b'\n', ..] => Some(feed + 2),
        [b'\r', b'\n', ..] => Some(feed + 3),
        _ => None,
    })
}

/// Whether a header has this name, which is written as most servers do.
fn is(name: &str, usual: &str) -> bool {
    name.len() == usual.len() && (name == usual || name.eq_ignore_ascii_case(usual))
}

/// What a head says about framing.
#[derive(Default)]
struct Said {
    length: Option<u64>,
    coding: Option<Coding>,
    close: bool,
    keep_alive: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Coding {
    Chunked,
    Other,
}

impl Said {
    fn of(headers: &[httparse::Header<'_>], witness: &mut impl Witness) -> Result<Self, FramingError> {
        let mut said = Self::default();
        for header in headers {
            if is(header.name, "Content-Length") {
                said.take_length(header.value)?;
            } else if is(header.name, "Transfer-Encoding") {
                let last = header.value.rsplit(|byte| *byte == b',').next().unwrap_or_default();
                let chunked = last.trim_ascii().eq_ignore_ascii_case(b"chunked");
                said.coding = Some(if chunked { Coding::Chunked } else { Coding::Other });
            } else if is(header.name, "Connection") {
                for option in header.value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
                    said.close |= option.eq_ignore_ascii_case(b"close");
                    said.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                }
            } else if is(header.name, "Set-Cookie") {
                witness.cookie_set(header.value);
            }
        }
        Ok(said)
    }

    /// Repeated lengths are one if they are equal (RFC 9110, 8.6).
    fn take_length(&mut self, value: &[u8]) -> Result<(), FramingError> {
        for part in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            let digits = !part.is_empty() && part.iter().all(u8::is_ascii_digit);
            let length = str::from_utf8(part).ok().filter(|_| digits).and_then(|part| part.parse().ok());
            let length: u64 = length.ok_or(FramingError::Length)?;
            if self.length.is_some_and(|before| before != length) {
                return Err(FramingError::Length);
            }
            self.length = Some(length);
        }
        Ok(())
    }

    /// Both a coding and a length may be an attempt to smuggle (RFC 9112, 6.3): such a connection carries nothing further.
    fn reusable(&self, minor: u8) -> bool {
        let agreed = if minor == 0 { self.keep_alive } else { true };
        agreed && !self.close && !(self.coding.is_some() && self.length.is_some())
    }
}

#[cfg(test)]
#[path = "framing/tests.rs"]
mod tests;
