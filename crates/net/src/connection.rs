//! One connection, as services and other threads see it.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use protocol::frame::Frame;

use crate::Limits;
use crate::outbox::{Out, Outbox, Queued};
use crate::quiet::{Gate, uptime_ms};
use crate::requests::{Done, RequestError, Requests};
use crate::transport::WriteSide;
use crate::worker::Worker;

thread_local! {
    /// The connection whose frames this thread is serving, 0 for none.
    static SERVING: Cell<u64> = const { Cell::new(0) };
    /// Connections to flush when that is done.
    static LATER: RefCell<Vec<Arc<Connection>>> = const { RefCell::new(Vec::new()) };
}

/// Connections remembered for one flush at the end of a `serve`; more are flushed at once.
const LATER_MAX: usize = 1_024;

/// Up to so many other connections are written before the one that is served. A message that was just stored goes to those who
/// wait for it before its sender is told: they ask for the next one while this thread is still awake. More would keep the sender
/// waiting.
const LATER_FIRST_MAX: usize = 4;

/// Runs a service call for `connection`; then writes what it queued, there and elsewhere. False: the connection has failed.
pub(crate) fn serving(connection: &Connection, call: impl FnOnce()) -> bool {
    /// Ends the call even if the service panics: others must not wait for bytes that it queued for them.
    struct End;
    impl Drop for End {
        fn drop(&mut self) {
            SERVING.set(0);
            if std::thread::panicking() {
                flush_others();
            }
        }
    }
    SERVING.set(connection.id);
    let end = End;
    call();
    drop(end);
    if LATER.with_borrow(Vec::len) <= LATER_FIRST_MAX {
        flush_others();
        return connection.write_now();
    }
    let alive = connection.write_now();
    flush_others();
    alive
}

fn flush_others() {
    let others = LATER.take();
    for other in &others {
        other.flush();
    }
    give_back(others);
}

/// Keeps the list's memory for the next batch.
fn give_back(mut list: Vec<Arc<Connection>>) {
    list.clear();
    if list.capacity() > 0 {
        LATER.with_borrow_mut(|later| {
            if later.capacity() == 0 {
                *later = list;
            }
        });
    }
}

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
    draining: AtomicBool,
    /// Answers that a stop waits for, see [`Connection::owe`].
    owed: AtomicUsize,
    last_read_ms: AtomicU64,
    pause_bytes: usize,
    /// The server's worker, to sweep time-outs; a client's connection has none.
    home: Option<Arc<Worker>>,
}

/// Ends of a new connection.
pub(crate) struct Ends {
    pub(crate) peer: SocketAddr,
    pub(crate) local: SocketAddr,
    pub(crate) listener: usize,
}

impl Connection {
    pub(crate) fn new(ends: Ends, socket: WriteSide, limits: &Limits, home: Option<Arc<Worker>>) -> Arc<Self> {
        Arc::new(Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            peer: ends.peer,
            local: ends.local,
            listener: ends.listener,
            outbox: Outbox::new(socket, limits.outbox_close_bytes),
            requests: Requests::new(limits.max_pending_requests),
            closing: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            owed: AtomicUsize::new(0),
            last_read_ms: AtomicU64::new(uptime_ms()),
            pause_bytes: limits.outbox_pause_bytes,
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

    /// More waits to be written than [`Limits::outbox_pause_bytes`] allows for reading on: a good moment for a service to stop
    /// serving the batch, see [`crate::Service::serve`].
    pub fn congested(&self) -> bool {
        self.queued_bytes() > self.pause_bytes
    }

    /// Queues frames and has them written: at the end of the running `serve` when that serves this connection, else at once by this
    /// thread, or by whoever is writing already. `encode` must not call the connection.
    ///
    /// False: the connection is closed and the frames are dropped.
    pub fn send(&self, encode: impl FnOnce(&mut Out<'_>)) -> bool {
        let queued = self.queue(encode);
        if queued && SERVING.get() != self.id {
            self.flush();
        }
        queued
    }

    /// Like [`Self::send`], but when any `serve` is running on this thread, the write is left to its end, after its own replies: many
    /// frames for one connection then cost one write.
    pub fn send_later(self: &Arc<Self>, encode: impl FnOnce(&mut Out<'_>)) -> bool {
        let queued = self.queue(encode);
        if queued && SERVING.get() != self.id {
            self.flush_later();
        }
        queued
    }

    /// Sends one frame as it is.
    pub fn send_frame(&self, frame: &Frame) -> bool {
        self.send(|out| frame.encode(out.head()))
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

    fn flush_later(self: &Arc<Self>) {
        let left = LATER.with_borrow_mut(|later| {
            let room = SERVING.get() != 0 && later.len() < LATER_MAX;
            if room && !later.iter().rev().take(8).any(|other| other.id == self.id) {
                later.push(Arc::clone(self));
            }
            room
        });
        if !left {
            self.flush();
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
        let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        let opaque = self.requests.insert(uptime_ms().saturating_add(timeout_ms), done)?;
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

    /// Ends the connection as soon as what is queued is written; no more requests are read.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Release);
        self.outbox.wake();
    }

    /// Says that an answer will follow from another thread: [`crate::Server::stop`] waits for it, within its patience. To be
    /// dropped when the answer was sent, or will never be.
    pub fn owe(self: &Arc<Self>) -> Owed {
        self.owed.fetch_add(1, Ordering::AcqRel);
        Owed(Arc::clone(self))
    }

    /// Whether all answers are written. What is owed is looked at first: an answer is queued before it is owed no more.
    pub(crate) fn is_drained(&self) -> bool {
        self.owed.load(Ordering::Acquire) == 0 && self.queued_bytes() == 0
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    pub(crate) fn touch(&self) {
        self.last_read_ms.store(uptime_ms(), Ordering::Relaxed);
    }

    pub(crate) fn last_read_ms(&self) -> u64 {
        self.last_read_ms.load(Ordering::Relaxed)
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
pub struct Owed(Arc<Connection>);

impl Drop for Owed {
    fn drop(&mut self) {
        if self.0.owed.fetch_sub(1, Ordering::AcqRel) == 1 && self.0.is_draining() {
            self.0.outbox.wake();
        }
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Connection({} {})", self.id, self.peer)
    }
}
