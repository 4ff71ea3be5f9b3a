//! The interface of one connection for services and other threads.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use protocol::frame::Frame;

use crate::Limits;
use crate::batch::Out;
use crate::budget::Budget;
use crate::clock::{millis, uptime, uptime_ms};
use crate::gate::Gate;
use crate::outbox::{Bounds, Outbox, Queued};
use crate::partial::Partial;
use crate::requests::{Done, RequestError, Requests};
use crate::transport::WriteSide;
use crate::turn;
use crate::worker::Worker;

/// The id of the next connection.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// A connection. Its methods may be called from any thread and never block.
pub struct Connection {
    id: u64,
    peer: SocketAddr,
    local: SocketAddr,
    listener: usize,
    outbox: Outbox,
    requests: Requests,
    closing: AtomicBool,
    last_read_ms: AtomicU64,
    /// State of the incomplete frame.
    partial: Arc<Partial>,
    /// The server's worker, which scans for time-outs and counts connections that wait for a turn; `None` for a client's connection.
    worker: Option<Arc<Worker>>,
}

/// Addresses, write side and frame state of a new connection.
pub(crate) struct Ends {
    pub(crate) peer: SocketAddr,
    pub(crate) local: SocketAddr,
    pub(crate) listener: usize,
    pub(crate) write: WriteSide,
    /// State of the incomplete frame.
    pub(crate) partial: Arc<Partial>,
}

impl Connection {
    pub(crate) fn new(ends: Ends, limits: &Limits, budget: Arc<Budget>, worker: Option<Arc<Worker>>) -> Arc<Self> {
        let bounds = Bounds {
            pause: limits.outbox_pause_bytes,
            close: limits.outbox_close_bytes,
        };
        Arc::new(Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            peer: ends.peer,
            local: ends.local,
            listener: ends.listener,
            outbox: Outbox::new(ends.write, bounds, budget),
            requests: Requests::new(limits.max_pending_requests),
            closing: AtomicBool::new(false),
            last_read_ms: AtomicU64::new(uptime_ms()),
            partial: ends.partial,
            worker,
        })
    }

    /// Id of the connection: unique in this process, increasing, never 0.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Returns an id that is higher than that of any existing connection.
    pub fn next_id() -> u64 {
        NEXT_ID.load(Ordering::Relaxed)
    }

    /// Takes an id for a client of another protocol in the same process. No connection has it.
    pub fn take_id() -> u64 {
        NEXT_ID.fetch_add(1, Ordering::Relaxed)
    }

    /// Address of the peer. An IPv4 peer of an IPv6 listener has an IPv4 address.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Our address as the peer sees it.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Index into [`crate::Options::listen`] of the listener that accepted this connection; 0 for a client.
    pub fn listener(&self) -> usize {
        self.listener
    }

    /// Whether the connection is closed: nothing more is sent or served.
    pub fn is_closed(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// Bytes queued and not taken by the socket.
    pub fn queued_bytes(&self) -> usize {
        self.outbox.queued_bytes()
    }

    /// Memory of bytes that the socket did not take because the peer does not read.
    pub(crate) fn unread_bytes(&self) -> usize {
        self.outbox.charged_bytes()
    }

    /// Whether more bytes are queued or announced ([`Self::owe`]) than [`Limits::outbox_pause_bytes`] allows, or than the connection's share of
    /// [`Limits::outbox_total_bytes`] while peers do not read. Its requests are not read then.
    pub fn congested(&self) -> bool {
        self.outbox.is_congested()
    }

    /// Whether more bytes are queued than this connection may have now. Then delay responses that can be delayed.
    pub fn peer_lags(&self) -> bool {
        self.outbox.lags()
    }

    /// Calls `then` once when [`Self::peer_lags`] is false or the connection is closed, on any thread; it must not block. Returns false and drops
    /// `then` if that is so already.
    pub fn when_peer_reads(&self, then: impl FnOnce() + Send + 'static) -> bool {
        self.outbox.when_read(Box::new(then))
    }

    /// Whether a service should stop serving the batch, see [`crate::Service::serve`]: the connection is congested, or the time of its turn is
    /// used up. Reads the clock, so call it after requests that cost more than that.
    pub fn must_yield(&self) -> bool {
        self.congested() || (turn::is_serving(self.id) && turn::is_over())
    }

    /// Queues frames and writes them: at the end of the running `serve` if it serves this connection, otherwise immediately on this thread, or on
    /// the thread that is writing already. `encode` must not call the connection.
    ///
    /// Returns false if the connection is closed; the frames are dropped.
    pub fn send(&self, encode: impl FnOnce(&mut Out<'_>)) -> bool {
        let queued = self.queue(encode);
        if queued && !turn::is_serving(self.id) {
            self.flush();
        }
        queued
    }

    /// Like [`Self::send`], but if any `serve` is running on this thread, the frames are written at its end, so that many frames for one
    /// connection cost one write.
    pub fn send_later(self: &Arc<Self>, encode: impl FnOnce(&mut Out<'_>)) -> bool {
        let queued = self.queue(encode);
        if queued && !turn::is_serving(self.id) && !turn::flush_later(self) {
            self.flush();
        }
        queued
    }

    /// Sends one frame unchanged. A large body is not copied.
    pub fn send_frame(&self, frame: &Frame) -> bool {
        self.send(|out| out.frame(frame))
    }

    /// Queues frames as [`Self::send`] does, without writing them. The caller calls [`Self::flush`], unless it is in a `serve` of this connection.
    pub fn queue(&self, encode: impl FnOnce(&mut Out<'_>)) -> bool {
        match self.outbox.queue(encode) {
            Queued::Waiting => true,
            Queued::Closed => false,
            Queued::Overflow => {
                self.overflow();
                false
            }
        }
    }

    /// Writes queued bytes until the socket is full; the rest is written when the peer reads.
    pub fn flush(&self) {
        if !self.write_now() {
            self.close();
        }
    }

    /// Closes the connection. Bytes that the socket does not take immediately are dropped.
    pub fn close(&self) {
        if !self.closing.swap(true, Ordering::AcqRel) {
            self.outbox.wake();
        }
    }

    /// Sends a request with an opaque of its own. `done` is called exactly once, with the response or an error, on the connection's thread or the
    /// one that scans for time-outs. It must not block. Time-outs are detected about a second late.
    ///
    /// # Errors
    /// `RequestError::Closed` if the connection is closed, `RequestError::TooMany` if too many requests are in flight. Nothing was sent, and
    /// `done` is not called.
    pub fn request(
        &self,
        frame: Frame,
        timeout: Duration,
        done: impl FnOnce(Result<Frame, RequestError>) + Send + 'static,
    ) -> Result<(), RequestError> {
        self.request_boxed(frame, timeout, Box::new(done)).map(drop)
    }

    pub(crate) fn request_boxed(&self, mut frame: Frame, timeout: Duration, done: Done) -> Result<i32, RequestError> {
        let opaque = self.requests.insert(uptime_ms().saturating_add(millis(timeout)), done)?;
        frame.opaque = opaque;
        if !self.send_frame(&frame) {
            // If the entry is gone, its callback was already called with this error.
            return self.requests.remove(opaque).map_or(Ok(opaque), |_| Err(RequestError::Closed));
        }
        if let Some(worker) = &self.worker {
            worker.expect_answers();
        }
        Ok(opaque)
    }

    /// Forwards a request as it was read, under the opaque that it has, so that its response is matched without another table. On a connection
    /// either all requests are forwarded so, or none. Written like [`Self::send_later`].
    ///
    /// `done` is called exactly once, with the response or an error, also if nothing was sent (`Closed`, `TooMany`, or `OpaqueInUse` if a request in
    /// flight has this opaque): on this thread, the connection's, or that of [`Self::expire_requests`], which detects time-outs of a client's
    /// connection. It must not block.
    pub fn forward(self: &Arc<Self>, frame: &Frame, timeout: Duration, done: impl FnOnce(Result<Frame, RequestError>) + Send + 'static) {
        self.forward_as(Some(frame.opaque), frame, timeout, Box::new(done));
    }

    /// Forwards a request as it was read, but under an opaque of this connection, because requests of several others come together here.
    /// Otherwise as [`Self::forward`]; a server's connection detects time-outs itself.
    pub fn forward_renumbered(
        self: &Arc<Self>,
        frame: &Frame,
        timeout: Duration,
        done: impl FnOnce(Result<Frame, RequestError>) + Send + 'static,
    ) {
        self.forward_as(None, frame, timeout, Box::new(done));
    }

    fn forward_as(self: &Arc<Self>, opaque: Option<i32>, frame: &Frame, timeout: Duration, done: Done) {
        let deadline_ms = uptime_ms().saturating_add(millis(timeout));
        let opaque = match self.requests.add(opaque, deadline_ms, done) {
            Ok(opaque) => opaque,
            Err((error, done)) => return done(Err(error)),
        };
        if !self.send_later(|out| out.forwarded(frame, opaque)) {
            // If the entry is gone, its callback was already called with this error.
            if let Some(done) = self.requests.remove(opaque) {
                done(Err(RequestError::Closed));
            }
        } else if let Some(worker) = &self.worker {
            worker.expect_answers();
        }
    }

    /// Ends requests whose time-out has passed. A server does it for its connections; who forwards requests over a client's does it now and then.
    /// Returns how many there were.
    pub fn expire_requests(&self) -> usize {
        self.requests.sweep(uptime_ms())
    }

    pub(crate) fn requests(&self) -> &Requests {
        &self.requests
    }

    pub(crate) fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// Flushes the connection. Returns false if the socket has failed.
    pub(crate) fn write_now(&self) -> bool {
        self.outbox.flush()
    }

    /// Ends the connection when all queued and announced responses are written; no more requests are read.
    pub(crate) fn drain(&self) {
        self.outbox.drain();
    }

    /// Announces that another thread will send a response of about `bytes`. Until then the bytes count towards [`Self::congested`], and
    /// [`crate::Server::drain`] waits for the response within its patience. Drop the result when the response was sent or will never be.
    pub fn owe(self: &Arc<Self>, bytes: usize) -> Owed {
        self.outbox.owe(bytes);
        Owed {
            conn: Arc::clone(self),
            bytes,
        }
    }

    /// The worker, if this is a server's connection.
    pub(crate) fn worker(&self) -> Option<&Worker> {
        self.worker.as_deref()
    }

    /// Notes that something was read. Returns when, in [`uptime`].
    pub(crate) fn touch(&self) -> Duration {
        let now = uptime();
        self.last_read_ms.store(millis(now), Ordering::Relaxed);
        now
    }

    pub(crate) fn last_read_ms(&self) -> u64 {
        self.last_read_ms.load(Ordering::Relaxed)
    }

    /// State of the incomplete frame.
    pub(crate) fn partial(&self) -> &Partial {
        &self.partial
    }

    /// Closes the connection for good. Called at the end of its task.
    pub(crate) fn finish(&self) {
        self.closing.store(true, Ordering::Release);
        self.outbox.flush();
        self.outbox.close();
        self.requests.close();
    }

    fn overflow(&self) {
        static GATE: Gate = Gate::new();
        if let Some(others) = GATE.open() {
            let queued = self.queued_bytes();
            tracing::warn!(peer = %self.peer, queued, others, "closing a connection that does not read its responses: more bytes are queued than outbox_close_bytes allows");
        }
        self.close();
    }
}

/// An announced response, see [`Connection::owe`].
#[derive(Debug)]
pub struct Owed {
    conn: Arc<Connection>,
    bytes: usize,
}

impl Drop for Owed {
    fn drop(&mut self) {
        self.conn.outbox.paid(self.bytes);
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Connection({} {})", self.id, self.peer)
    }
}
