//! The client end: one connection with pipelined requests, answers matched by opaque.
//!
//! Not here: reconnecting, retries, choosing an address. A [`Peer`] that is closed stays closed.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use protocol::frame::Frame;
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use crate::budget::Budget;
use crate::connection::Ends;
use crate::drive::drive;
use crate::intake::Intake;
use crate::listen::canonical;
use crate::{Connection, Limits, RequestError, Service, transport};

/// How to connect.
#[derive(Clone)]
pub struct PeerOptions {
    /// For the name lookup and the handshake together. Default 3 s, as Apache's clients.
    pub connect_timeout: Duration,
    /// Bounds of this one connection; `max_connections`, `idle_timeout` and `frame_timeout` do not apply.
    pub limits: Limits,
    /// Serves requests that the other end sends to us; without it they are dropped.
    pub service: Option<Arc<dyn Service>>,
}

impl Default for PeerOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(3),
            limits: Limits::default(),
            service: None,
        }
    }
}

/// An open connection to a server. Its task runs on the runtime on which [`Peer::connect`] was called; requests may come from any
/// other (with its timer enabled). Dropping it closes the connection.
#[derive(Debug)]
pub struct Peer {
    conn: Arc<Connection>,
}

/// Ignores requests of the other end.
struct Deaf;

impl Service for Deaf {
    fn serve(&self, _conn: &Arc<Connection>, frames: &mut Vec<Frame>) {
        frames.clear();
    }
}

impl Peer {
    /// Connects to `host:port`.
    ///
    /// # Errors
    /// Those of the lookup and the connect, or `TimedOut`; the address is in the text.
    pub async fn connect(address: &str, options: PeerOptions) -> io::Result<Self> {
        let attempt = tokio::time::timeout(options.connect_timeout, TcpStream::connect(address));
        let stream = attempt.await.map_err(io::Error::from).flatten();
        let prepared = stream.and_then(|stream| {
            stream.set_nodelay(true)?;
            Ok((stream.peer_addr()?, stream.local_addr()?, stream))
        });
        let (peer, local, stream) =
            prepared.map_err(|error| io::Error::new(error.kind(), format!("cannot connect to {address}: {error}")))?;
        Ok(Self::start(stream, peer, local, options))
    }

    fn start(stream: TcpStream, peer: SocketAddr, local: SocketAddr, options: PeerOptions) -> Self {
        let (read, write) = transport::plain(stream);
        let ends = Ends {
            peer: canonical(peer),
            local: canonical(local),
            listener: 0,
        };
        let budget = Arc::new(Budget::new(options.limits.outbox_total_bytes));
        let conn = Connection::new(ends, write, &options.limits, budget, None);
        let intake = Arc::new(Intake::new(options.limits.inbound_total_bytes, options.limits.max_frame_bytes));
        let service = options.service.unwrap_or_else(|| Arc::new(Deaf));
        tokio::spawn(drive(Arc::clone(&conn), read, intake, service, Arc::new(options.limits)));
        Self { conn }
    }

    /// Sends a request and waits for its answer, whatever its code. The frame's opaque is replaced. Many may wait at once. Dropping the
    /// future forgets the request.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub async fn request(&self, frame: Frame, timeout: Duration) -> Result<Frame, RequestError> {
        let (report, answer) = oneshot::channel();
        // The receiver is gone if the caller lost interest.
        let done = Box::new(move |result| drop(report.send(result)));
        let opaque = self.conn.request_boxed(frame, timeout, done)?;
        let _forget = Forget { conn: &self.conn, opaque };
        match tokio::time::timeout(timeout, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(RequestError::Closed),
            Err(_) => Err(RequestError::TimedOut),
        }
    }

    /// Sends a frame that has no answer; the caller has set the one-way bit.
    ///
    /// # Errors
    /// The connection is closed.
    pub fn one_way(&self, frame: &Frame) -> Result<(), RequestError> {
        if self.conn.send_frame(frame) {
            Ok(())
        } else {
            Err(RequestError::Closed)
        }
    }

    /// The connection itself: addresses, its id, replies to the other end's requests.
    pub fn connection(&self) -> &Arc<Connection> {
        &self.conn
    }

    /// No more requests are possible.
    pub fn is_closed(&self) -> bool {
        self.conn.is_closed()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.conn.close();
    }
}

/// Removes a request from the table when nobody waits for it any more.
struct Forget<'a> {
    conn: &'a Connection,
    opaque: i32,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        drop(self.conn.requests().remove(self.opaque));
    }
}
