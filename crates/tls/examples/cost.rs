//! What TLS costs the thread of a server: CPU per request of 1 KiB and its short answer, 64 in flight on one connection, plain and with TLS in
//! turns. `cargo run --release -p tls --example cost -- 4` measures four rounds of two seconds each. Linux.

use std::error::Error;
use std::io::{IoSlice, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use net::session::{Connector, Session};
use net::{Connection, Limits, Options, Server, Service};
use protocol::frame::{self, Frame};
use tls::{Tls, TlsSettings};

const IN_FLIGHT: usize = 64;
const ROUND: Duration = Duration::from_secs(2);
const THREAD: &str = "cost-0";

struct Acknowledge;

impl Service for Acknowledge {
    fn serve(&self, conn: &Arc<Connection>, frames: &mut Vec<Frame>) {
        for frame in frames.drain(..) {
            conn.send_frame(&Frame::response_to(&frame));
        }
    }
}

/// A blocking client.
struct Client {
    stream: TcpStream,
    session: Option<Box<dyn Session>>,
    records: BytesMut,
    plain: BytesMut,
    out: BytesMut,
}

impl Client {
    fn connect(address: SocketAddr, connector: Option<&dyn Connector>) -> Result<Self, Box<dyn Error>> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        let mut client = Self {
            stream,
            session: connector.map(|connector| connector.connect("localhost")).transpose()?,
            records: BytesMut::new(),
            plain: BytesMut::new(),
            out: BytesMut::new(),
        };
        while let Some(session) = &mut client.session {
            session.receive(&mut client.records, &mut client.plain, &mut client.out)?;
            client.stream.write_all(&client.out.split())?;
            if !session.is_handshaking() {
                break;
            }
            let mut buffer = [0; 4_096];
            let read = client.stream.read(&mut buffer)?;
            client.records.extend_from_slice(&buffer[..read]);
        }
        Ok(client)
    }

    fn send(&mut self, mut bytes: &[u8]) -> Result<(), Box<dyn Error>> {
        let Some(session) = &mut self.session else {
            return Ok(self.stream.write_all(bytes)?);
        };
        while !bytes.is_empty() {
            let part = &bytes[..bytes.len().min(net::session::SEAL_MAX_BYTES)];
            let taken = session.seal(&[IoSlice::new(part)], &mut self.out)?;
            bytes = &bytes[taken..];
        }
        Ok(self.stream.write_all(&self.out.split())?)
    }

    /// Waits for answers; returns how many came.
    fn receive(&mut self) -> Result<usize, Box<dyn Error>> {
        let mut buffer = [0; 65_536];
        let read = self.stream.read(&mut buffer)?;
        if read == 0 {
            return Err("the server closed the connection".into());
        }
        match &mut self.session {
            None => self.plain.extend_from_slice(&buffer[..read]),
            Some(session) => {
                self.records.extend_from_slice(&buffer[..read]);
                session.receive(&mut self.records, &mut self.plain, &mut self.out)?;
            }
        }
        let mut answers = 0;
        while frame::decode(&mut self.plain, 1 << 20)?.is_some() {
            answers += 1;
        }
        Ok(answers)
    }
}

/// CPU time of the server's thread in µs.
fn server_us() -> Result<f64, Box<dyn Error>> {
    for task in std::fs::read_dir("/proc/self/task")? {
        let task = task?.path();
        if std::fs::read_to_string(task.join("comm"))?.trim() == THREAD {
            let times = std::fs::read_to_string(task.join("schedstat"))?;
            let ns: f64 = times.split(' ').next().unwrap_or_default().parse()?;
            return Ok(ns / 1_000.0);
        }
    }
    Err(format!("the server has no thread {THREAD}").into())
}

/// CPU of the server per request in µs.
fn measure(address: SocketAddr, connector: Option<&dyn Connector>) -> Result<f64, Box<dyn Error>> {
    let mut client = Client::connect(address, connector)?;
    let request = Frame::request(310).with_body(vec![7; 1_024]).to_bytes();
    client.send(&request.repeat(IN_FLIGHT))?;
    let first = client.receive()?;
    client.send(&request.repeat(first))?;
    let (before, begun) = (server_us()?, Instant::now());
    let mut answered = 0;
    while begun.elapsed() < ROUND {
        let now = client.receive()?;
        client.send(&request.repeat(now))?;
        answered += now;
    }
    Ok((server_us()? - before) / answered as f64)
}

fn main() -> Result<(), Box<dyn Error>> {
    let rounds: usize = std::env::args().nth(1).map_or(Ok(4), |rounds| rounds.parse())?;
    let tls = Tls::open(&TlsSettings::default())?;
    let client = TlsSettings {
        enable: Some(true),
        ..TlsSettings::default()
    };
    let connector = Tls::connector_once(&client)?;
    let options = Options {
        name: "cost".into(),
        listen: vec![SocketAddr::from(([127, 0, 0, 1], 0))],
        workers: 1,
        limits: Limits::default(),
        encryption: tls.transport().encryption,
    };
    let server = Server::start(options, Arc::new(Acknowledge))?;
    let address = server.local_addrs()[0];
    for _ in 0..rounds {
        let (plain, secured) = (measure(address, None)?, measure(address, connector.as_deref())?);
        println!("plain {plain:.2}, TLS {secured:.2} µs a request; TLS adds {:.2}", secured - plain);
    }
    Ok(())
}
