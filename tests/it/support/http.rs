//! A plain HTTP/1.1 client of a few lines, over TCP and unix sockets. Shares no code with the program under test.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

/// Where a service listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Address {
    /// `host:port`.
    Tcp(String),
    /// A path.
    Unix(PathBuf),
}

/// An answer, complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reply {
    /// The status code.
    pub(crate) status: u16,
    /// Names in lower case, and values, in order.
    pub(crate) headers: Vec<(String, String)>,
    /// The body.
    pub(crate) body: Vec<u8>,
}

impl Reply {
    /// A header's first value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A connection that can be used again.
pub(crate) struct Client {
    reader: BufReader<Box<dyn ReadWrite>>,
}

trait ReadWrite: Read + Write + AsFd + Send {}
impl<T: Read + Write + AsFd + Send> ReadWrite for T {}

impl Client {
    /// Connects; reads and writes that take longer than `patience` fail.
    pub(crate) fn connect(address: &Address, patience: Duration) -> io::Result<Self> {
        let socket: Box<dyn ReadWrite> = match address {
            Address::Tcp(address) => {
                let socket = TcpStream::connect(address)?;
                socket.set_read_timeout(Some(patience))?;
                socket.set_write_timeout(Some(patience))?;
                socket.set_nodelay(true)?;
                Box::new(socket)
            }
            Address::Unix(path) => {
                let socket = UnixStream::connect(path)?;
                socket.set_read_timeout(Some(patience))?;
                socket.set_write_timeout(Some(patience))?;
                Box::new(socket)
            }
        };
        Ok(Self { reader: BufReader::new(socket) })
    }

    /// Whether it can be used again, as far as is known here: the other side has not closed it. Every client that keeps connections looks.
    pub(crate) fn is_open(&self) -> bool {
        let looked = recv(self.reader.get_ref().as_fd(), &mut [0_u8; 1][..], RecvFlags::PEEK | RecvFlags::DONTWAIT);
        looked.is_err_and(|errno| errno == Errno::AGAIN)
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.reader.get_mut().write_all(bytes)
    }

    /// Reads one answer. `UnexpectedEof` if the other side closed before its end, with the message "nothing" if before its start.
    pub(crate) fn receive(&mut self) -> io::Result<Reply> {
        let status_line = self.line("nothing")?;
        let malformed = |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("{what}: {status_line:?}"));
        let status = status_line.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(|| malformed("no status"))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line("part of a head")?;
            let Some((name, value)) = line.split_once(':') else { break };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut reply = Reply { status, headers, body: Vec::new() };
        match reply.header("content-length").map(str::parse::<usize>) {
            Some(Ok(length)) => {
                reply.body.resize(length, 0);
                self.reader.read_exact(&mut reply.body)?;
            }
            Some(Err(_)) => return Err(malformed("bad length after")),
            None if reply.header("transfer-encoding") == Some("chunked") => reply.body = self.chunks()?,
            None => {
                self.reader.read_to_end(&mut reply.body)?;
            }
        }
        Ok(reply)
    }

    /// What else comes until the other side closes.
    pub(crate) fn rest(&mut self) -> io::Result<usize> {
        let mut rest = Vec::new();
        self.reader.read_to_end(&mut rest)
    }

    /// GET on this connection, kept alive.
    pub(crate) fn get(&mut self, path: &str) -> io::Result<Reply> {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n").as_bytes())?;
        self.receive()
    }

    fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.line("part of a chunked body")?;
            let length = usize::from_str_radix(&line, 16).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            let start = body.len();
            body.resize(start + length, 0);
            self.reader.read_exact(&mut body[start..])?;
            self.line("part of a chunked body")?;
            if length == 0 {
                return Ok(body);
            }
        }
    }

    fn line(&mut self, so_far: &'static str) -> io::Result<String> {
        let mut line = String::new();
        match self.reader.read_line(&mut line)? {
            0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, so_far)),
            _ => Ok(line.trim_end().to_owned()),
        }
    }
}

/// GET on a connection of its own.
pub(crate) fn get(address: &Address, path: &str) -> io::Result<Reply> {
    let mut client = Client::connect(address, super::PATIENCE)?;
    client.send(format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").as_bytes())?;
    client.receive()
}
