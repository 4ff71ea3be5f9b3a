//! A server with a tiny service, and a client over plain sockets.
#![allow(dead_code, reason = "each test file uses its part")]

pub(crate) mod toy;

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use net::session::Encryption;
use net::{Connection, Limits, Options, Owed, Server, Service};
use protocol::frame::{self, Frame};
use toy::{SECRET, ToyStream, Toys};

pub(crate) const DEADLINE: Duration = Duration::from_secs(20);
/// Answers with the request's body.
pub(crate) const ECHO: i32 = 1;
/// Answers with as many bytes as the remark says.
pub(crate) const RESPOND_BYTES: i32 = 2;
/// Hands the connection to the test.
pub(crate) const HAND_OVER: i32 = 3;
/// Panics.
pub(crate) const PANIC: i32 = 4;
/// Sends the body to the connection that was marked last.
pub(crate) const RELAY: i32 = 5;
/// Marks the connection.
pub(crate) const MARK: i32 = 6;
/// Keeps the thread for a millisecond.
pub(crate) const SLOW: i32 = 7;
/// Answers with the number of SLOW served so far.
pub(crate) const PROBE: i32 = 8;
/// Keeps the thread until [`Fixture::unblock`] says so.
pub(crate) const BLOCK: i32 = 9;
/// Is answered by [`Echo::send_announced`]; [`OWED_BYTES`] are expected.
pub(crate) const ANNOUNCE: i32 = 10;
/// What ANNOUNCE expects.
pub(crate) const OWED_BYTES: usize = 64 << 10;

pub(crate) struct Echo {
    pub(crate) batches: AtomicUsize,
    pub(crate) served: AtomicUsize,
    pub(crate) opened: AtomicUsize,
    pub(crate) closed: AtomicUsize,
    slow: AtomicUsize,
    owed: Mutex<Vec<(Arc<Connection>, Frame, Owed)>>,
    unblock: Mutex<mpsc::Receiver<()>>,
    lent: Mutex<mpsc::Sender<Arc<Connection>>>,
    marked: Mutex<Option<Arc<Connection>>>,
}

impl Echo {
    fn answer(&self, conn: &Arc<Connection>, frame: Frame) {
        let mut reply = Frame::response_to(&frame);
        match frame.code {
            RESPOND_BYTES => {
                let size: usize = frame.remark.unwrap().parse().unwrap();
                conn.send(|out| {
                    let total = u32::try_from(size + 4 + 2).unwrap();
                    out.head().extend_from_slice(&total.to_be_bytes());
                    out.head().extend_from_slice(&[0, 0, 0, 2]);
                    out.head().extend_from_slice(b"{}");
                    out.body(Bytes::from(vec![7; size]));
                });
            }
            HAND_OVER => self.lent.lock().unwrap().send(Arc::clone(conn)).unwrap(),
            PANIC => panic!("as asked"),
            MARK => {
                *self.marked.lock().unwrap() = Some(Arc::clone(conn));
                conn.send_frame(&reply);
            }
            RELAY => {
                let marked = self.marked.lock().unwrap();
                let mut relayed = Frame::request(RELAY).with_body(frame.body);
                relayed.opaque = frame.opaque;
                assert!(marked.as_ref().unwrap().send_later(|out| relayed.encode(out.head())));
            }
            SLOW => {
                let end = Instant::now() + Duration::from_millis(1);
                while Instant::now() < end {
                    std::hint::spin_loop();
                }
                self.slow.fetch_add(1, Ordering::Relaxed);
                conn.send_frame(&reply);
            }
            PROBE => {
                reply.body = self.slow.load(Ordering::Relaxed).to_string().into();
                conn.send_frame(&reply);
            }
            BLOCK => self.unblock.lock().unwrap().recv_timeout(DEADLINE).unwrap(),
            ANNOUNCE => {
                let owed = conn.owe(OWED_BYTES);
                self.owed.lock().unwrap().push((Arc::clone(conn), frame, owed));
            }
            _ => {
                reply.body = frame.body;
                conn.send_frame(&reply);
            }
        }
    }

    /// How many answers are owed.
    pub(crate) fn announced(&self) -> usize {
        self.owed.lock().unwrap().len()
    }

    /// Sends the answers that are owed; how many were.
    pub(crate) fn send_announced(&self) -> usize {
        let owed = std::mem::take(&mut *self.owed.lock().unwrap());
        let count = owed.len();
        for (conn, frame, owed) in owed {
            conn.send_frame(&Frame::response_to(&frame));
            drop(owed);
        }
        count
    }
}

impl Service for Echo {
    fn serve(&self, conn: &Arc<Connection>, frames: &mut Vec<Frame>) {
        self.batches.fetch_add(1, Ordering::Relaxed);
        while !frames.is_empty() && !conn.must_yield() {
            self.served.fetch_add(1, Ordering::Relaxed);
            self.answer(conn, frames.remove(0));
        }
    }

    fn opened(&self, _conn: &Arc<Connection>) {
        self.opened.fetch_add(1, Ordering::Relaxed);
    }

    fn closed(&self, _conn: &Arc<Connection>) {
        self.closed.fetch_add(1, Ordering::Relaxed);
    }
}

/// The server's, where the test's crate says that its connections are not plain TCP.
pub(crate) fn encryption() -> Encryption {
    match crate::SECURED {
        true => Encryption::Permissive(Arc::new(Toys(SECRET))),
        false => Encryption::Disabled,
    }
}

/// A client's stream, see [`encryption`].
pub(crate) enum Stream {
    Plain(TcpStream),
    Secured(ToyStream),
}

impl Stream {
    pub(crate) fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Secured(toy) => toy.tcp(),
        }
    }

    /// For writing only.
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        Ok(match self {
            Self::Plain(tcp) => Self::Plain(tcp.try_clone()?),
            Self::Secured(toy) => Self::Secured(toy.clone()),
        })
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp().local_addr()
    }

    pub(crate) fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.tcp().peer_addr()
    }

    pub(crate) fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.tcp().set_write_timeout(timeout)
    }

    pub(crate) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.tcp().shutdown(how)
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.read(buffer),
            Self::Secured(toy) => toy.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.write(buffer),
            Self::Secured(toy) => toy.write(buffer),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub(crate) struct Fixture {
    pub(crate) server: Server,
    pub(crate) echo: Arc<Echo>,
    pub(crate) unblock: mpsc::Sender<()>,
    lent: mpsc::Receiver<Arc<Connection>>,
}

pub(crate) fn start(limits: Limits, workers: usize) -> Fixture {
    let (sender, lent) = mpsc::channel();
    let (unblock, unblocked) = mpsc::channel();
    let echo = Arc::new(Echo {
        batches: AtomicUsize::new(0),
        served: AtomicUsize::new(0),
        opened: AtomicUsize::new(0),
        closed: AtomicUsize::new(0),
        slow: AtomicUsize::new(0),
        owed: Mutex::default(),
        unblock: Mutex::new(unblocked),
        lent: Mutex::new(sender),
        marked: Mutex::new(None),
    });
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let options = Options {
        name: "test".into(),
        listen: vec![any, any],
        workers,
        limits,
        encryption: encryption(),
    };
    let server = Server::start(options, Arc::clone(&echo) as Arc<dyn Service>).unwrap();
    Fixture {
        server,
        echo,
        unblock,
        lent,
    }
}

impl Fixture {
    pub(crate) fn dial(&self) -> Client {
        self.dial_listener(0)
    }

    pub(crate) fn dial_listener(&self, index: usize) -> Client {
        let stream = TcpStream::connect(self.server.local_addrs()[index]).unwrap();
        stream.set_read_timeout(Some(DEADLINE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Client::new(if crate::SECURED {
            Stream::Secured(ToyStream::new(stream))
        } else {
            Stream::Plain(stream)
        })
    }

    pub(crate) fn hand_over(&self, client: &mut Client) -> Arc<Connection> {
        client.stream.write_all(&request(HAND_OVER, 0, b"")).unwrap();
        self.lent.recv_timeout(DEADLINE).unwrap()
    }
}

pub(crate) struct Client {
    pub(crate) stream: Stream,
    buffer: BytesMut,
}

impl Client {
    pub(crate) fn new(stream: Stream) -> Self {
        let buffer = BytesMut::new();
        Self { stream, buffer }
    }

    pub(crate) fn frame(&mut self) -> Frame {
        self.next().expect("the server closed the connection")
    }

    pub(crate) fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = frame::decode(&mut self.buffer, 1 << 30).unwrap() {
                return Some(frame);
            }
            let mut chunk = [0; 65_536];
            match self.stream.read(&mut chunk) {
                Ok(0) => return None,
                Ok(read) => self.buffer.extend_from_slice(&chunk[..read]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("{error}"),
            }
        }
    }
}

pub(crate) fn request(code: i32, opaque: i32, body: &[u8]) -> Vec<u8> {
    let mut frame = Frame::request(code);
    frame.opaque = opaque;
    frame.body = Bytes::copy_from_slice(body);
    encoded(&frame)
}

pub(crate) fn request_bytes(opaque: i32, size: usize) -> Vec<u8> {
    let mut frame = Frame::request(RESPOND_BYTES);
    frame.opaque = opaque;
    frame.remark = Some(size.to_string());
    encoded(&frame)
}

pub(crate) fn encoded(frame: &Frame) -> Vec<u8> {
    let mut out = BytesMut::new();
    frame.encode(&mut out);
    out.to_vec()
}

pub(crate) fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < end, "timed out: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
