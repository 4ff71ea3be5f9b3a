//! One connection, as services and other threads see it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use protocol::frame::Frame;

use crate::Limits;
use crate::batch::Out;
use crate::budget::Budget;
use crate::clock::{millis, uptime, uptime_ms};
use crate::outbox::{Bounds, Outbox, Queued};
use crate::partial::Partial;
use crate::quiet::Gate;
use crate::requests::{Done, RequestError, Requests};
use crate::transport::WriteSide;
use crate::turn;
use crate::worker::Worker;

/// The id of the next connection.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// A connection. Cheap to share; everything here may be called from any thread and never blocks.
pub struct Connection {
    id: u64,
    peer: SocketAddr,
    local: SocketAddr,
    listener: usize,
    outbox: Outbox,
    requests: Requests,
    closing: AtomicBool,
    last_read_ms: AtomicU64,
    /// The frame that is being read.
    partial: Arc<Partial>,
    /// The server's worker, to sweep time-outs and to know who else waits for a turn; a client's connection has none.
    home: Option<Arc<Worker>>,
}

/// Ends of a new connection.
pub(crate) struct Ends {
    pub(crate) peer: SocketAddr,
    pub(crate) local: SocketAddr,
    pub(crate) listener: usize,
    pub(crate) write: WriteSide,
    /// The frame that is being read.
    pub(crate) partial: Arc<Partial>,
}

impl Connection {
    pub(crate) fn new(ends: Ends, limits: &Limits, budget: Arc<Budget>, home: Option<Arc<Worker>>) -> Arc<Self> {
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
            home,
        })
    }

    /// Unique in this process, never 0, never used again; rising.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// No connection that is there already has this id or a higher one.
    pub fn next_id() -> u64 {
        NEXT_ID.load(Ordering::Relaxed)
    }

    /// Address of the other end; an IPv4 peer of an IPv6 listener shows as IPv4.
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// Our address as the other end sees it.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Index into [`crate::Options::listen`] of the listener that accepted this connection; 0 at a client.
    pub fn listener(&self) -> usize {
        self.listener
    }

    /// No more bytes will be sent or served.
    pub fn is_closed(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    /// Bytes queued and not yet taken by the socket.
    pub fn queued_bytes(&self) -> usize {
        self.outbox.queued_bytes()
    }

    /// Memory that waits for the peer to read.
    pub(crate) fn unread_bytes(&self) -> usize {
        self.outbox.charged_bytes()
    }

    /// More waits to be written, or is expected of answers to come ([`Self::owe`]), than [`Limits::outbox_pause_bytes`] allows, or
    /// its share of [`Limits::outbox_total_bytes`] while peers do not read. Its requests are not read then.
    pub fn congested(&self) -> bool {
        self.outbox.is_congested()
    }

    /// More waits to be written than this connection may have at the moment: an answer that can be put off is better asked for again.
    pub fn peer_lags(&self) -> bool {
        self.outbox.lags()
    }

    /// Has `then` called once [`Self::peer_lags`] ends, or the connection is closed; on any thread, so it must not block. False: that is
    /// so already, and `then` was dropped.
    pub fn when_peer_reads(&self, then: impl FnOnce() + Send + 'static) -> bool {
        self.outbox.when_read(Box::new(then))
    }

    /// A good moment for a service to stop serving the batch, see [`crate::Service::serve`]: the connection is congested, or the time
    /// of its turn is used up. Reads the clock; ask after requests that cost more than that.
    pub fn must_yield(&self) -> bool {
        self.congested() || (turn::is_serving(self.id) && turn::is_over())
    }

    /// Queues frames and has them written: at the end of the running `serve` when that serves this connection, else at once by this
    /// thread, or by whoever is writing already. `encode` must not call the connection.
    ///
    /// False: the connection is closed and the frames are dropped.
    pub fn send(&self, encode: impl FnOnce(&mut Out<'_>)) -> bool {
        let queued = self.queue(encode);
        if queued && !turn::is_serving(self.id) {
            self.flush();
        }
        queued
    }

    /// Like [`Self::send`], but when any `serve` is running on this thread, the write is left to its end, after its own replies: many
    /// frames for one connection then cost one write.
    pub fn send_later(self: &Arc<Self>, encode: impl FnOnce(&mut Out<'_>)) -> bool {
        let queued = self.queue(encode);
        if queued && !turn::is_serving(self.id) && !turn::flush_later(self) {
            self.flush();
        }
        queued
    }

    /// Sends one frame as it is.
    pub fn send_frame(&self, frame: &Frame) -> bool {
        self.send(|out| out.frame(frame))
    }

    /// Only queues, see [`Self::send`]. Somebody has to call [`Self::flush`]; the end of a `serve` of this connection does.
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

    /// Writes what is queued as far as the socket takes it; the rest follows when the peer reads.
    pub fn flush(&self) {
        if !self.write_now() {
            self.close();
        }
    }

    /// Closes the connection. What the socket does not take at once is dropped.
    pub fn close(&self) {
        if !self.closing.swap(true, Ordering::AcqRel) {
            self.outbox.wake();
        }
    }

    /// Sends a request of ours with a fresh opaque; `done` is called exactly once, on the connection's or a sweeping thread, with the
    /// answer or the reason why there is none. It must not block. Time-outs are noticed about a second late.
    ///
    /// # Errors
    /// Nothing was sent and `done` will not be called: the connection is closed, or too many requests wait.
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
            // If the entry is gone, its callback has been called with the same bad news already.
            return self.requests.remove(opaque).map_or(Ok(opaque), |_| Err(RequestError::Closed));
        }
        if let Some(home) = &self.home {
            home.expect_answers();
        }
        Ok(opaque)
    }

    pub(crate) fn requests(&self) -> &Requests {
        &self.requests
    }

    pub(crate) fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// False: the socket has failed.
    pub(crate) fn write_now(&self) -> bool {
        self.outbox.flush()
    }

    /// Ends the connection as soon as what is queued and owed is written; no more requests are read.
    pub(crate) fn drain(&self) {
        self.outbox.drain();
    }

    /// Says that an answer of about `bytes` will follow from another thread. Until then it counts towards what congests the
    /// connection, and [`crate::Server::drain`] waits for it, within its patience. To be dropped when the answer was sent, or will
    /// never be.
    pub fn owe(self: &Arc<Self>, bytes: usize) -> Owed {
        self.outbox.owe(bytes);
        Owed {
            conn: Arc::clone(self),
            bytes,
        }
    }

    /// The worker of a server's connection.
    pub(crate) fn worker(&self) -> Option<&Worker> {
        self.home.as_deref()
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

    /// The frame that is being read, if it is not complete.
    pub(crate) fn partial(&self) -> &Partial {
        &self.partial
    }

    /// The last act of the connection's task.
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
            tracing::warn!(peer = %self.peer, queued, others, "closing a connection that does not read its replies");
        }
        self.close();
    }
}

/// An answer that is still to come, see [`Connection::owe`].
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
