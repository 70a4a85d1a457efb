//! Servers for the engine's tests, good and bad: std sockets, a thread a connection. Threads end with the test process.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::ops::ControlFlow;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};

use crate::load::Target;

/// What a server does on one connection; it is called again while it returns `Continue`.
pub(super) trait Serve: Fn(&mut dyn Stream) -> ControlFlow<()> + Send + Sync + 'static {}
impl<F: Fn(&mut dyn Stream) -> ControlFlow<()> + Send + Sync + 'static> Serve for F {}

pub(super) trait Stream: Read + Write {}
impl Stream for TcpStream {}
impl Stream for UnixStream {}

/// A server on loopback.
pub(super) fn serve(serve: impl Serve) -> Target {
    serve_numbered(move |_, stream| serve(stream))
}

/// A server on loopback that knows the number of each connection, from 0 on.
pub(super) fn serve_numbered(serve: impl Fn(usize, &mut dyn Stream) -> ControlFlow<()> + Send + Sync + 'static) -> Target {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let target = Target::Tcp(listener.local_addr().unwrap());
    let serve = Arc::new(serve);
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let (serve, mut stream) = (Arc::clone(&serve), stream.unwrap());
            std::thread::spawn(move || while serve(number, &mut stream).is_continue() {});
        }
    });
    target
}

/// The target of the next request, or `None` when the client has gone.
pub(super) fn request(stream: &mut dyn Stream) -> Option<String> {
    head(stream).map(|head| head.split(' ').nth(1).unwrap().to_owned())
}

/// The head of the next request, or `None` when the client has gone.
pub(super) fn head(stream: &mut dyn Stream) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    Some(String::from_utf8(head).unwrap())
}

pub(super) fn answer(stream: &mut dyn Stream, status: u16, body: &str) -> ControlFlow<()> {
    let text = format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    if stream.write_all(text.as_bytes()).is_ok() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
}

pub(super) fn ok(stream: &mut dyn Stream) -> ControlFlow<()> {
    match request(stream) {
        Some(_) => answer(stream, 200, "hello"),
        None => ControlFlow::Break(()),
    }
}

/// Answers every request with this status.
pub(super) fn always(status: u16) -> impl Serve {
    move |stream: &mut dyn Stream| match request(stream) {
        Some(_) => answer(stream, status, ""),
        None => ControlFlow::Break(()),
    }
}

/// Reads requests and never answers.
pub(super) fn silence(stream: &mut dyn Stream) -> ControlFlow<()> {
    match request(stream) {
        Some(_) => ControlFlow::Continue(()),
        None => ControlFlow::Break(()),
    }
}

/// A server that answers every request with these bytes and then closes.
pub(super) fn blurt(bytes: impl Into<Vec<u8>>) -> Target {
    let bytes = bytes.into();
    serve(move |stream: &mut dyn Stream| {
        if request(stream).is_some() {
            let _ = stream.write_all(&bytes);
        }
        ControlFlow::Break(())
    })
}

/// A server behind a unix socket that answers every request.
pub(super) fn serve_unix(path: &Path) -> Target {
    serve_unix_with(path, ok)
}

/// A server behind a unix socket.
pub(super) fn serve_unix_with(path: &Path, serve: impl Serve) -> Target {
    let listener = UnixListener::bind(path).unwrap();
    let serve = Arc::new(serve);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (serve, mut stream) = (Arc::clone(&serve), stream.unwrap());
            std::thread::spawn(move || while serve(&mut stream).is_continue() {});
        }
    });
    Target::Unix(path.to_owned())
}

/// Steps of a test that servers wait for.
#[derive(Clone, Debug, Default)]
pub(super) struct Steps(Arc<(Mutex<u64>, Condvar)>);

impl Steps {
    /// The test goes a step further.
    pub(super) fn advance(&self) {
        *self.0.0.lock().unwrap() += 1;
        self.0.1.notify_all();
    }

    /// Waits for the first step, unless that has been taken.
    pub(super) fn await_first(&self) {
        self.await_one_after(0);
    }

    /// Waits for a step that is taken from now on.
    pub(super) fn await_next(&self) {
        let taken = *self.0.0.lock().unwrap();
        self.await_one_after(taken);
    }

    fn await_one_after(&self, before: u64) {
        let steps = self.0.0.lock().unwrap();
        drop(self.0.1.wait_while(steps, |taken| *taken <= before).unwrap());
    }
}
