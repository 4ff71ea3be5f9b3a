//! The client: one connection with pipelined requests. Responses are matched by opaque.
//!
//! Not here: reconnecting, retries, choosing an address. A [`Peer`] that is closed stays closed.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use protocol::frame::Frame;
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use crate::budget::Budget;
use crate::connection::Ends;
use crate::drive::drive;
use crate::inbound::Inbound;
use crate::intake::{Intake, Share};
use crate::listen::canonical;
use crate::session::Connector;
use crate::transport::{Halves, ReadSide};
use crate::{Connection, Limits, RequestError, Service};

/// How to connect.
#[derive(Clone)]
pub struct PeerOptions {
    /// For name lookup, connect and the handshake of a session together. Default 3 s, as Apache's clients.
    pub connect_timeout: Duration,
    /// Bounds of this one connection; `max_connections`, `idle_timeout`, `frame_timeout` and `handshake_timeout` do not apply.
    pub limits: Limits,
    /// Serves requests of the server; without it they are dropped.
    pub service: Option<Arc<dyn Service>>,
    /// Makes the session of the connection; without it the connection is plain TCP.
    pub connector: Option<Arc<dyn Connector>>,
    /// Limits the unread bytes of several connections together; without it each has [`Limits::outbox_total_bytes`] for itself.
    pub unread: Option<Unread>,
}

/// The unread bytes of several connections: those that servers did not take. Each connection lags ([`Connection::peer_lags`]) with more than an
/// eighth of what is free. Clones share the limit.
#[derive(Clone)]
pub struct Unread(Arc<Budget>);

impl Unread {
    /// A limit of so many bytes. It holds for those who queue nothing for a connection that lags.
    pub fn new(bound_bytes: usize) -> Self {
        Self(Arc::new(Budget::new(bound_bytes)))
    }

    /// Bytes that servers did not take.
    pub fn bytes(&self) -> usize {
        self.0.charged_bytes()
    }
}

impl Default for PeerOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(3),
            limits: Limits::default(),
            service: None,
            connector: None,
            unread: None,
        }
    }
}

/// An open connection to a server. Its task runs on the runtime on which [`Peer::connect`] was called; requests may come from any
/// other (with its timer enabled). Dropping it closes the connection.
#[derive(Debug)]
pub struct Peer {
    conn: Arc<Connection>,
}

/// Drops requests of the server.
struct DropRequests;

impl Service for DropRequests {
    fn serve(&self, _conn: &Arc<Connection>, frames: &mut Vec<Frame>) {
        frames.clear();
    }
}

impl Peer {
    /// Connects to `host:port`.
    ///
    /// # Errors
    /// `io::Error` with the address in its text: the name lookup, the connect or the handshake failed, or `TimedOut` after
    /// [`PeerOptions::connect_timeout`].
    pub async fn connect(address: &str, options: PeerOptions) -> io::Result<Self> {
        let attempt = tokio::time::timeout(options.connect_timeout, open(address, options.connector.as_deref()));
        let (read, ends) = attempt
            .await
            .map_err(io::Error::from)
            .flatten()
            .map_err(|error| io::Error::new(error.kind(), format!("cannot connect to {address}: {error}")))?;
        Ok(Self::start(read, ends, options))
    }

    fn start(read: ReadSide, ends: Ends, options: PeerOptions) -> Self {
        let intake = Arc::new(Intake::new(options.limits.inbound_total_bytes, options.limits.max_frame_bytes));
        let inbound = Inbound::new(read, Share::new(intake, Arc::clone(&ends.partial)));
        let budget = match options.unread {
            Some(Unread(budget)) => budget,
            None => Arc::new(Budget::new(options.limits.outbox_total_bytes)),
        };
        let conn = Connection::new(ends, &options.limits, budget, None);
        let service = options.service.unwrap_or_else(|| Arc::new(DropRequests));
        tokio::spawn(drive(Arc::clone(&conn), inbound, None, service, Arc::new(options.limits)));
        Self { conn }
    }

    /// Sends a request and waits for its response, whatever its code. The frame's opaque is replaced. Any number of calls may run at the same
    /// time, up to the limit. Dropping the future removes the request.
    ///
    /// # Errors
    /// `RequestError::TooMany` if too many requests are in flight, `Closed` if the connection closes, `TimedOut` after `timeout`.
    pub async fn request(&self, frame: Frame, timeout: Duration) -> Result<Frame, RequestError> {
        let (report, answer) = oneshot::channel();
        // The receiver is gone if the caller dropped the future.
        let done = Box::new(move |result| drop(report.send(result)));
        let opaque = self.conn.request_boxed(frame, timeout, done)?;
        let _remove = RemoveOnDrop { conn: &self.conn, opaque };
        match tokio::time::timeout(timeout, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(RequestError::Closed),
            Err(_) => Err(RequestError::TimedOut),
        }
    }

    /// Sends a frame that has no response; the caller has set the one-way bit.
    ///
    /// # Errors
    /// `RequestError::Closed` if the connection is closed.
    pub fn one_way(&self, frame: &Frame) -> Result<(), RequestError> {
        if self.conn.send_frame(frame) {
            Ok(())
        } else {
            Err(RequestError::Closed)
        }
    }

    /// The connection: its addresses, its id, and responses to requests of the server.
    pub fn connection(&self) -> &Arc<Connection> {
        &self.conn
    }

    /// Whether the connection is closed.
    pub fn is_closed(&self) -> bool {
        self.conn.is_closed()
    }
}

/// Connects and runs the handshake of the connector's session.
async fn open(address: &str, connector: Option<&dyn Connector>) -> io::Result<(ReadSide, Ends)> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (peer, local) = (stream.peer_addr()?, stream.local_addr()?);
    let stream = Halves::of(stream);
    let (read, write) = match connector {
        None => stream.plain(),
        Some(connector) => {
            let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
            let session = connector.connect(host.trim_matches(['[', ']']))?;
            stream.secure(session, BytesMut::new()).await?
        }
    };
    let ends = Ends {
        peer: canonical(peer),
        local: canonical(local),
        listener: 0,
        write,
        partial: Arc::default(),
    };
    Ok((read, ends))
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.conn.close();
    }
}

/// Removes a request from the table when its future is dropped.
struct RemoveOnDrop<'a> {
    conn: &'a Connection,
    opaque: i32,
}

impl Drop for RemoveOnDrop<'_> {
    fn drop(&mut self) {
        drop(self.conn.requests().remove(self.opaque));
    }
}
