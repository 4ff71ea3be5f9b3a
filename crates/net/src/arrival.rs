//! From an accepted stream to a connection: the first read, and the handshake that its first byte may ask for.
//!
//! A stream is no [`Connection`] before its peer has sent something. It then has a task and a place among the connections, and no
//! buffers. The first read decides: [`HANDSHAKE_BYTE`] begins a handshake, anything else is the beginning of a frame and goes to
//! the connection as its first read. So choosing costs no system call.
//!
//! What bounds a stream until it is a connection:
//! - It counts against [`Limits::max_connections`](crate::Limits::max_connections).
//! - The first byte has to come within the idle time-out.
//! - The handshake has to be complete within [`Limits::handshake_timeout`](crate::Limits::handshake_timeout). Its memory
//!   ([`HANDSHAKE_BYTES`]) is part of [`Limits::inbound_total_bytes`](crate::Limits::inbound_total_bytes). It holds no thread: it is a task
//!   that waits for the socket.
//! - A drain of the server ends it.

use std::future::poll_fn;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::BytesMut;
use tokio::net::tcp::OwnedWriteHalf;

use crate::Connection;
use crate::connection::Ends;
use crate::drive::drive;
use crate::gate::Gate;
use crate::inbound::{Chunk, Inbound};
use crate::intake::Share;
use crate::listen::canonical;
use crate::server::Shared;
use crate::session::{HANDSHAKE_BYTE, RECORD_MAX_BYTES};
use crate::transport::{Halves, ReadSide, WriteSide};
use crate::worker::Worker;

/// Memory that is charged for a handshake: received records and the session.
const HANDSHAKE_BYTES: usize = 2 * RECORD_MAX_BYTES;

/// A counted place among the open connections; given back when it is dropped.
pub(crate) struct Slot {
    shared: Arc<Shared>,
    worker: Arc<Worker>,
    conn: Option<Arc<Connection>>,
}

impl Slot {
    pub(crate) fn take(shared: &Arc<Shared>, worker: &Arc<Worker>) -> Self {
        shared.open.fetch_add(1, Ordering::Relaxed);
        worker.announce();
        Self {
            shared: Arc::clone(shared),
            worker: Arc::clone(worker),
            conn: None,
        }
    }

    fn register(&mut self, conn: &Arc<Connection>) {
        self.worker.add(conn);
        self.conn = Some(Arc::clone(conn));
        // Either the drain has seen the connection in the list, or this sees the drain.
        if self.shared.draining.load(Ordering::SeqCst) {
            conn.drain();
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(conn) = self.conn.take() {
            self.worker.remove(&conn);
        }
        self.worker.leave();
        self.shared.open.fetch_sub(1, Ordering::Release);
    }
}

/// A stream that can become a connection.
struct Ready {
    inbound: Inbound,
    write: WriteSide,
    /// The first read, to be served before the task waits for anything.
    first: Option<Chunk>,
}

/// Waits for the first byte, runs the handshake if it asks for one, and serves the connection until its end.
pub(crate) async fn arrive(mut slot: Slot, stream: TcpStream, peer: SocketAddr, index: usize) {
    let peer = canonical(peer);
    let shared = Arc::clone(&slot.shared);
    let (stream, local) = match prepare(stream) {
        Ok(prepared) => prepared,
        // The peer has closed the connection already.
        Err(error) => return tracing::debug!(%peer, %error, "connection lost"),
    };
    let drain = shared.drain.notified();
    let ready = tokio::select! {
        biased;
        ready = open(&shared, stream, peer) => ready,
        () = drain => return,
    };
    let Some(Ready { inbound, write, first }) = ready else { return };
    let ends = Ends {
        peer,
        local: canonical(local),
        listener: index,
        write,
        partial: Arc::clone(inbound.partial()),
    };
    let (budget, home) = (Arc::clone(&shared.budget), Arc::clone(&slot.worker));
    let conn = Connection::new(ends, &shared.limits, budget, Some(home));
    slot.register(&conn);
    drive(conn, inbound, first, Arc::clone(&shared.service), Arc::clone(&shared.limits)).await;
}

fn prepare(stream: TcpStream) -> io::Result<(Halves, SocketAddr)> {
    stream.set_nodelay(true)?;
    let local = stream.local_addr()?;
    Ok((Halves::of(tokio::net::TcpStream::from_std(stream)?), local))
}

/// Returns `None` if the stream does not become a connection; the reason was logged.
async fn open(shared: &Shared, stream: Halves, peer: SocketAddr) -> Option<Ready> {
    if shared.draining.load(Ordering::SeqCst) {
        return None;
    }
    let Halves { read, write } = stream;
    let mut inbound = Inbound::new(ReadSide::Plain(read), Share::new(Arc::clone(&shared.intake), Arc::default()));
    let first = tokio::select! {
        biased;
        read = poll_fn(|cx| inbound.poll_read(cx)) => read,
        () = idle(shared.limits.idle_timeout) => {
            tracing::info!(%peer, "closing a connection that has sent nothing");
            return None;
        }
    };
    let first = match first {
        Ok(first) => first?,
        Err(error) => {
            tracing::debug!(%peer, %error, "connection lost");
            return None;
        }
    };
    if first.bytes().first() == Some(&HANDSHAKE_BYTE) {
        return secure(shared, inbound, first, write, peer).await;
    }
    if !shared.encryption.allows_plain() {
        warn_plain(peer);
        return None;
    }
    Some(Ready {
        inbound,
        write: WriteSide::Plain(Arc::new(write)),
        first: Some(first),
    })
}

/// Waits for `timeout`; forever if it is zero.
async fn idle(timeout: Duration) {
    if timeout.is_zero() {
        std::future::pending().await
    } else {
        tokio::time::sleep(timeout).await
    }
}

/// Runs the handshake that `first` begins.
async fn secure(shared: &Shared, inbound: Inbound, first: Chunk, write: OwnedWriteHalf, peer: SocketAddr) -> Option<Ready> {
    let (side, mut share, records) = inbound.into_parts(first);
    let Some(acceptor) = shared.encryption.acceptor() else {
        warn_tls(peer);
        return None;
    };
    let timeout = shared.limits.handshake_timeout;
    let ready = async {
        let ReadSide::Plain(read) = side else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        check_first_bytes(&records)?;
        if !share.try_grow(HANDSHAKE_BYTES) {
            return Err(io::Error::new(
                io::ErrorKind::OutOfMemory,
                "incomplete frames and handshakes are at the limit of their memory",
            ));
        }
        let ready = Halves { read, write }.secure(acceptor.accept()?, records).await;
        share.hold(0);
        ready
    };
    let ready = match tokio::time::timeout(timeout, ready).await {
        Ok(ready) => ready,
        Err(_) => Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("not complete after {} ms, which is the maximum", timeout.as_millis()),
        )),
    };
    match ready {
        Ok((read, write)) => Some(Ready {
            inbound: Inbound::new(read, share),
            write,
            first: None,
        }),
        Err(error) => {
            warn_handshake(peer, &error);
            None
        }
    }
}

/// Checks that the peer waits for the response to its first record.
fn check_first_bytes(records: &BytesMut) -> io::Result<()> {
    if records.len() <= RECORD_MAX_BYTES {
        return Ok(());
    }
    let text = format!(
        "{} bytes came before the first answer, more than the maximum of {RECORD_MAX_BYTES}",
        records.len()
    );
    Err(io::Error::new(io::ErrorKind::InvalidData, text))
}

fn warn_tls(peer: SocketAddr) {
    static GATE: Gate = Gate::new();
    if let Some(others) = GATE.open() {
        tracing::warn!(%peer, others, "closing a connection that begins with a TLS handshake: this port serves plain connections only (tls.server.mode=disabled, or no certificate)");
    }
}

fn warn_plain(peer: SocketAddr) {
    static GATE: Gate = Gate::new();
    if let Some(others) = GATE.open() {
        tracing::warn!(%peer, others, "closing a plain connection: this port serves TLS only (tls.server.mode=enforcing); clients need useTLS or -Dtls.enable=true");
    }
}

fn warn_handshake(peer: SocketAddr, error: &io::Error) {
    static GATE: Gate = Gate::new();
    if let Some(others) = GATE.open() {
        tracing::warn!(%peer, %error, others, "closing a connection whose TLS handshake failed");
    }
}
