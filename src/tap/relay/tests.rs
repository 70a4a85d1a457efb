use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread;

use tokio::runtime::Builder;

use super::super::sink::Limits;
use super::super::stream::Upstream;
use super::*;
use crate::recording::{Meta, ScrubKey};

const ANSWER: &[u8] = b"HTTP/1.1 413 Too large\r\nContent-Length: 4\r\nConnection: close\r\n\r\nlong";
/// What is a race is run so often.
const RACES: usize = 20;
/// Buffers into which nothing goes for so long are full.
const FULL: Duration = Duration::from_millis(100);

#[derive(Clone, Copy, Debug)]
enum Kind {
    Tcp,
    Unix,
}

const KINDS: [Kind; 2] = [Kind::Tcp, Kind::Unix];

/// The other end of one of our connections.
trait Talk: Read + Write + Send {
    /// Writing fails from now on where all buffers stay full.
    fn hurry(&self);
}

impl Talk for TcpStream {
    fn hurry(&self) {
        self.set_write_timeout(Some(FULL)).unwrap();
    }
}

impl Talk for UnixStream {
    fn hurry(&self) {
        self.set_write_timeout(Some(FULL)).unwrap();
    }
}

/// A connection: the end of a client or a server, and ours.
fn connection(kind: Kind) -> (Box<dyn Talk>, OwnedFd) {
    match kind {
        Kind::Tcp => {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let theirs = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let ours = listener.accept().unwrap().0;
            ours.set_nonblocking(true).unwrap();
            (Box::new(theirs), ours.into())
        }
        Kind::Unix => {
            let (theirs, ours) = UnixStream::pair().unwrap();
            ours.set_nonblocking(true).unwrap();
            (Box::new(theirs), ours.into())
        }
    }
}

/// Relays one connection, and gives what both sides gave and what was recorded of it.
fn relay<C: Send + 'static, S: Send + 'static>(
    kind: Kind,
    client: impl FnOnce(Box<dyn Talk>) -> C + Send + 'static,
    server: impl FnOnce(Box<dyn Talk>) -> S + Send + 'static,
) -> (C, S, Account) {
    let ((client_end, from_client), (server_end, from_server)) = (connection(kind), connection(kind));
    let client = thread::spawn(move || client(client_end));
    let server = thread::spawn(move || server(server_end));
    let (_turn, phase) = watch::channel(Phase::Sampling);
    let limits = Limits { requests: u64::MAX, bytes: u64::MAX };
    let shared = Rc::new(Shared {
        account: RefCell::default(),
        own: RefCell::default(),
        sink: Sink::start(std::io::sink(), |_| Ok(()), &Meta::default(), limits).unwrap(),
        scrub: Scrub::new(ScrubKey([1; 16])),
        bodies: BodyPolicy::Dropped,
        phase,
        connections: Cell::new(0),
        is_cut_off: Cell::new(false),
    });
    let runtime = Builder::new_current_thread().enable_io().enable_time().build().unwrap();
    runtime.block_on(async {
        let upstream = match kind {
            Kind::Tcp => Upstream::Tcp(([127, 0, 0, 1], 0).into()),
            Kind::Unix => Upstream::Unix(PathBuf::new()),
        };
        let (client, server) = (upstream.adopt(from_client).unwrap(), upstream.adopt(from_server).unwrap());
        Relay::of_client(&shared, &server).run(client, server, oneshot::channel().0).await;
    });
    let (account, written) = super::super::settle(shared);
    written.unwrap();
    (client.join().unwrap(), server.join().unwrap(), account)
}

/// What comes until the end, and whether that was in order.
fn rest(end: &mut dyn Talk) -> (Vec<u8>, bool) {
    let mut all = Vec::new();
    // What came before an error is kept.
    let is_in_order = end.read_to_end(&mut all).is_ok();
    (all, is_in_order)
}

#[test]
fn an_answer_arrives_though_nobody_reads_the_request() {
    for kind in KINDS {
        let race = |_| {
            let upload = |mut end: Box<dyn Talk>| {
                end.write_all(b"POST / HTTP/1.1\r\nContent-Length: 4000000\r\n\r\n").unwrap();
                // As far as it is taken.
                let _ = end.write_all(&vec![b'x'; 4_000_000]);
                rest(&mut *end)
            };
            let refuse = |mut end: Box<dyn Talk>| {
                end.read_exact(&mut [0; 10_000]).unwrap();
                end.write_all(ANSWER).unwrap();
            };
            relay(kind, upload, refuse)
        };
        let races: Vec<_> = (0..RACES).map(race).collect();
        let lost = races.iter().filter(|((got, _), (), _)| got != ANSWER).count();
        assert_eq!(lost, 0, "of {RACES}, {kind:?}");
        assert!(races.iter().all(|(_, (), account)| account.recorded == 1), "{races:?}");
    }
}

#[test]
fn what_a_client_sent_before_it_left_arrives() {
    for _ in 0..RACES {
        let (left, has_left) = mpsc::channel();
        let leave = move |mut end: Box<dyn Talk>| {
            end.read_exact(&mut [0; 1]).unwrap();
            end.hurry();
            let mut sent = 0;
            loop {
                match end.write(&[b'x'; 4096]) {
                    Ok(count) => sent += count,
                    // All buffers are full.
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => panic!("{error}"),
                }
            }
            drop(end);
            left.send(()).unwrap();
            sent
        };
        let serve = move |mut end: Box<dyn Talk>| {
            end.write_all(b"h").unwrap();
            has_left.recv().unwrap();
            end.write_all(b"h").unwrap();
            rest(&mut *end).0.len()
        };
        let (sent, got, _) = relay(Kind::Unix, leave, serve);
        assert_eq!(got, sent);
    }
}

#[test]
fn a_worker_is_not_held_by_a_client_that_left() {
    const MUCH: usize = 16 << 20;
    let (left, has_left) = mpsc::channel();
    let leave = move |mut end: Box<dyn Talk>| {
        end.read_exact(&mut [0; 1]).unwrap();
        end.hurry();
        while end.write(&[b'x'; 4096]).is_ok() {}
        drop(end);
        left.send(()).unwrap();
    };
    let serve = move |mut end: Box<dyn Talk>| {
        end.write_all(b"h").unwrap();
        has_left.recv().unwrap();
        end.write_all(&vec![b'h'; MUCH]).map_err(|error| error.kind())
    };
    let ((), served, _) = relay(Kind::Unix, leave, serve);
    assert_eq!(served, Ok(()), "before anything of the upload is read");
}

#[test]
fn an_answer_that_is_cut_by_a_reset_is_so_for_the_client_and_not_recorded() {
    for kind in KINDS {
        for is_reset in [false, true] {
            let ask = |mut end: Box<dyn Talk>| {
                end.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
                rest(&mut *end)
            };
            let answer = move |mut end: Box<dyn Talk>| {
                // Closed with a byte that was not read, it is reset.
                end.read_exact(&mut vec![0; if is_reset { 17 } else { 18 }]).unwrap();
                end.write_all(b"HTTP/1.0 200 OK\r\n\r\nuntil the end").unwrap();
            };
            let ((got, is_in_order), (), account) = relay(kind, ask, answer);
            assert!(got.ends_with(b"until the end"), "{kind:?}");
            assert_eq!(is_in_order, matches!(kind, Kind::Unix) || !is_reset, "{kind:?}");
            let cut = Reason::ALL.iter().zip(account.skipped).find(|(reason, _)| **reason == Reason::CutOff).unwrap().1;
            assert_eq!((account.recorded, cut), if is_reset { (0, 1) } else { (1, 0) }, "{kind:?}: {account}");
        }
    }
}
